//! A sample as perf's text.

use xprof_perfdata::order::RawRecord;
use xprof_perfdata::sample::{Regs, SampleView};
use xprof_profile::timeline::{Mode, ThreadId, Timeline};

use super::number::{dec, dec_padded, hex, hex_padded, nine_digits, signed_padded};
use super::places::KernelFunctions;
use super::{Fields, Script, Times};
use crate::Plain;

/// The start of the lines of each thread, made once: its comm right-aligned in 16 columns and a space, then its tid
/// right-aligned in 5 and a space.
#[derive(Debug, Default)]
pub(super) struct Threads {
    text: Vec<u8>,
    places: Vec<Option<ThreadText>>,
}

/// Where the parts stand.
#[derive(Clone, Copy, Debug)]
struct ThreadText {
    padding: u32,
    comm: u32,
    tid: u32,
    end: u32,
    /// The tid itself.
    number: u32,
}

impl Threads {
    fn place(&mut self, timeline: &Timeline, thread: ThreadId) -> ThreadText {
        let at = thread.0 as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, None);
        }
        *self.places[at].get_or_insert_with(|| {
            let tasks = timeline.tasks();
            let key = tasks.key(thread);
            let comm = String::from_utf8_lossy(tasks.comm(key.comm));
            let comm = Plain(&comm).to_string();
            let padding = self.text.len() as u32;
            self.text.resize(self.text.len() + 16usize.saturating_sub(comm.len()), b' ');
            let start = self.text.len() as u32;
            self.text.extend_from_slice(comm.as_bytes());
            self.text.push(b' ');
            let tid = self.text.len() as u32;
            signed_padded(key.tid as i32, 5, &mut self.text);
            self.text.push(b' ');
            ThreadText { padding, comm: start, tid, end: self.text.len() as u32, number: key.tid }
        })
    }

    /// Appends the comm (`padded` to 16 columns or not), and behind it the tid when that is this `tid`; whether it was.
    fn write(
        &mut self,
        timeline: &Timeline,
        thread: ThreadId,
        padded: bool,
        tid: Option<u32>,
        out: &mut Vec<u8>,
    ) -> bool {
        let place = self.place(timeline, thread);
        let tid = tid == Some(place.number);
        let from = if padded { place.padding } else { place.comm };
        let to = if tid { place.end } else { place.tid };
        out.extend_from_slice(self.text.get(from as usize..to as usize).unwrap_or_default());
        tid
    }
}

/// What the head of a line shows besides the comm.
pub(super) struct Head {
    pub(super) thread: ThreadId,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) cpu: u32,
    pub(super) time: u64,
    pub(super) misc: u16,
    pub(super) kind: u32,
}

impl Script {
    /// The start of a line: comm, pid, tid, CPU, misc, time. `chain`: call chains follow, so columns need not align.
    pub(super) fn head(&mut self, head: &Head, fields: Fields, chain: bool, out: &mut Vec<u8>) {
        let ids = (fields.has(Fields::PID), fields.has(Fields::TID));
        let mut has_tid = false;
        if fields.has(Fields::COMM) {
            let tid = (ids == (false, true)).then_some(head.tid);
            has_tid = self.threads.write(&self.timeline, head.thread, !chain, tid, out);
        }
        match ids {
            (true, true) => {
                signed_padded(head.pid as i32, 5, out);
                out.push(b'/');
                let start = out.len();
                signed_padded(head.tid as i32, 0, out);
                out.resize(out.len().max(start + 5), b' ');
                out.push(b' ');
            }
            _ if has_tid => {}
            (true, false) | (false, true) => {
                signed_padded(if ids.0 { head.pid } else { head.tid } as i32, 5, out);
                out.push(b' ');
            }
            (false, false) => {}
        }
        if fields.has(Fields::CPU) {
            out.push(b'[');
            if head.cpu == u32::MAX {
                out.extend_from_slice(b"-01");
            } else {
                dec_padded(head.cpu.into(), 3, b'0', out);
            }
            out.extend_from_slice(b"] ");
        }
        if fields.has(Fields::MISC) {
            misc(head.misc, head.kind, out);
        }
        if fields.has(Fields::TIME) {
            let time = self.shown_time(head.time);
            let (seconds, rest) = (time / 1_000_000_000, time % 1_000_000_000);
            if self.second.0 != seconds || self.second.1.is_empty() {
                self.second.0 = seconds;
                self.second.1.clear();
                dec_padded(seconds, 5, b' ', &mut self.second.1);
                self.second.1.push(b'.');
            }
            out.extend_from_slice(&self.second.1);
            let digits = nine_digits(rest as u32);
            out.extend_from_slice(if self.options.nanoseconds { &digits } else { &digits[..6] });
            out.extend_from_slice(b": ");
        }
    }

    /// A time as it is asked for, ns.
    fn shown_time(&mut self, time: u64) -> u64 {
        let from = match self.options.times {
            Times::Recorded => 0,
            Times::SinceFirst => *self.origin.get_or_insert(time),
            Times::SinceLast => self.origin.replace(time).unwrap_or(time),
        };
        time.wrapping_sub(from)
    }

    /// One sample.
    pub(super) fn line(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        thread: ThreadId,
        period: u64,
        out: &mut Vec<u8>,
    ) {
        let at = raw.event as usize;
        let Some((fields, chains)) = self.views.get(at).map(|v| (v.fields, v.chains)) else { return };
        let has = |field| fields.has(field);
        let (pid, mode) = (self.whose.process, Mode::of(raw.misc));
        if let Some(guest) = self.whose.guest.filter(|guest| guest.machine_pid != 0) {
            if has(Fields::MACHINE_PID) {
                out.extend_from_slice(b"VM:");
                dec_padded(guest.machine_pid.into(), 5, b' ', out);
                out.push(b' ');
            }
            if has(Fields::VCPU) {
                out.extend_from_slice(b"VCPU:");
                dec_padded(guest.vcpu.into(), 3, b'0', out);
                out.push(b' ');
            }
        }
        let head = Head {
            thread,
            pid: view.pid(),
            tid: view.tid(),
            cpu: view.cpu(),
            time: view.time(),
            misc: raw.misc,
            kind: raw.kind,
        };
        self.head(&head, fields, has(Fields::IP) && chains, out);
        if has(Fields::PERIOD) {
            if self.period.0 != period || self.period.1.is_empty() {
                self.period.0 = period;
                self.period.1.clear();
                dec_padded(period, 10, b' ', &mut self.period.1);
                self.period.1.push(b' ');
            }
            out.extend_from_slice(&self.period.1);
        }
        if has(Fields::EVENT) {
            out.extend_from_slice(self.views.get(at).map_or(&[], |v| &v.title));
        }
        if has(Fields::FLAGS) {
            // Flags are of instruction traces; samples have none.
            out.resize(out.len() + 24, b' ');
        }
        if has(Fields::TRACE)
            && let Some(format) = self.views.get(at).and_then(|v| v.tracepoint.as_ref())
        {
            let mut functions = KernelFunctions { places: &mut self.places, timeline: &self.timeline };
            format.print(&self.sample.raw, &mut functions, out);
        }
        if has(Fields::ADDR) {
            let address = view.addr();
            hex_padded(address, out);
            if self.views.get(at).is_some_and(|v| v.named_addresses) {
                let mode = self.data_mode(raw, address);
                let place = Fields(fields.0 & !Fields::IP.0);
                self.places.one(&self.timeline, (pid, mode, address), place, out);
            }
        }
        if has(Fields::DATA_SRC) {
            self.data_source(out);
        }
        if has(Fields::WEIGHT) {
            let wide = if has(Fields::INS_LAT) { self.sample.weight & 0xffff_ffff } else { self.sample.weight };
            dec_padded(wide, 16, b' ', out);
        }
        if has(Fields::INS_LAT) {
            dec_padded(self.sample.weight >> 32 & 0xffff, 16, b' ', out);
        }
        if has(Fields::IP) {
            if chains {
                out.push(b'\n');
                let chain = (view.callchain(), self.link(at));
                self.places.chain(&self.timeline, (pid, mode), chain, fields, out);
            } else {
                out.push(b' ');
                self.places.one(&self.timeline, (pid, mode, view.ip()), fields, out);
            }
        }
        if self.views.get(at).is_some_and(|v| v.whole) {
            self.rest(fields, pid, at, out);
        }
        out.push(b'\n');
    }

    /// The fields behind the place.
    fn rest(&mut self, fields: Fields, pid: u32, event: usize, out: &mut Vec<u8>) {
        let has = |field| fields.has(field);
        if has(Fields::IREGS) {
            registers(&self.sample.regs_intr, self.masks.get(event).map_or(0, |m| m.0), &self.arch, out);
        }
        if has(Fields::UREGS) {
            registers(&self.sample.regs_user, self.masks.get(event).map_or(0, |m| m.1), &self.arch, out);
        }
        self.branches(fields, pid, out);
        if has(Fields::PHYS_ADDR) {
            hex_padded(self.sample.phys_addr, out);
        }
        for (field, size) in
            [(Fields::DATA_PAGE_SIZE, self.sample.data_page_size), (Fields::CODE_PAGE_SIZE, self.sample.code_page_size)]
        {
            if has(field) {
                out.push(b' ');
                page_size(size, out);
            }
        }
        if has(Fields::CGROUP) {
            out.push(b' ');
            match self.timeline.cgroup(self.sample.cgroup) {
                Some(path) => out.extend_from_slice(Plain(&String::from_utf8_lossy(path)).to_string().as_bytes()),
                None => out.extend_from_slice(b"unknown"),
            }
        }
    }
}

/// perf's letters for misc, in six columns.
fn misc(misc: u16, kind: u32, out: &mut Vec<u8>) {
    use xprof_perfdata::abi::{misc as bits, record};
    let start = out.len();
    let has = |bit: u16| misc & bit == bit;
    for (bit, letter) in [
        (bits::KERNEL, b'K'),
        (bits::USER, b'U'),
        (bits::HYPERVISOR, b'H'),
        (bits::GUEST_KERNEL, b'G'),
        (bits::GUEST_USER, b'g'),
    ] {
        if has(bit) {
            out.push(letter);
        }
    }
    match kind {
        record::MMAP | record::MMAP2 if has(bits::MMAP_DATA) => out.push(b'M'),
        record::COMM if has(bits::COMM_EXEC) => out.push(b'E'),
        record::SWITCH | record::SWITCH_CPU_WIDE if has(bits::SWITCH_OUT) => {
            out.push(b'S');
            if has(bits::SWITCH_OUT_PREEMPT) {
                out.push(b'p');
            }
        }
        _ => {}
    }
    out.resize((start + 6).max(out.len() + 1), b' ');
}

/// `4K`, `2M`, `N/A`.
fn page_size(size: u64, out: &mut Vec<u8>) {
    if size == 0 {
        return out.extend_from_slice(b"N/A");
    }
    let (mut size, mut unit) = (size, 0);
    while size / 1024 > 1 && unit < 3 {
        size /= 1024;
        unit += 1;
    }
    dec(size, out);
    out.push(b"BKMG"[unit]);
}

/// perf's names of registers, by their bit.
fn register(arch: &str, bit: u32, out: &mut Vec<u8>) {
    const X86: [&str; 24] = [
        "AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP", "IP", "FLAGS", "CS", "SS", "DS", "ES", "FS", "GS", "R8", "R9",
        "R10", "R11", "R12", "R13", "R14", "R15",
    ];
    let own;
    let name = match (arch, bit) {
        ("x86_64" | "i686" | "i386", bit) if (bit as usize) < X86.len() => X86[bit as usize],
        ("aarch64" | "arm64", 29) => "x29",
        ("aarch64" | "arm64", 30) => "lr",
        ("aarch64" | "arm64", 31) => "sp",
        ("aarch64" | "arm64", 32) => "pc",
        ("aarch64" | "arm64", bit) if bit < 29 => {
            own = format!("x{bit}");
            &own
        }
        _ => {
            own = format!("r{bit}");
            &own
        }
    };
    out.resize(out.len() + 5usize.saturating_sub(name.len()), b' ');
    out.extend_from_slice(name.as_bytes());
}

fn registers(regs: &Regs, mask: u64, arch: &str, out: &mut Vec<u8>) {
    if regs.abi == 0 {
        return;
    }
    out.extend_from_slice(b" ABI:");
    dec(regs.abi, out);
    out.push(b' ');
    let bits = (0..64).filter(|bit| mask >> bit & 1 == 1);
    for (bit, &value) in bits.zip(&regs.values) {
        register(arch, bit, out);
        out.extend_from_slice(b":0x");
        hex(value, out);
        out.push(b' ');
    }
}
