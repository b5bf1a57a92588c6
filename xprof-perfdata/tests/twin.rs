//! A byte-swapped twin: a whole recording of perf's rewritten in the other byte order, of which `perf script` prints
//! the same text.
//!
//! What perf 6.1 itself gets wrong in a foreign byte order, and what the recordings here therefore avoid:
//! * Of MMAP2 it leaves prot and flags as they are: the twin keeps these two in the old order.
//! * Of a SWITCH it leaves pid and tid as they are: these records are not shown.
//! * It swaps the build id of an MMAP2 as if it were device and inode: none is recorded here.
//! * It swaps user stacks as if they were numbers, so DWARF chains differ: no stack is printed of those.
//! * It leaves the mask of the interrupted registers as it is: they are not shown.
//! * `precise_ip` 1 and 2 change places ([`xprof_perfdata::attr`]).

mod support;

use support::{RECORDINGS, Recording, directory, perf_script, record};
use xprof_perfdata::abi::{feature, record as number};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::record::Record;

const HEADER: usize = 104;

/// Swaps the structures of the file around the records; the records by decoding and encoding them.
struct Twin<'a> {
    from: &'a Recording,
    out: Vec<u8>,
}

impl Twin<'_> {
    fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }
    fn u32_at(&mut self, at: &mut usize) -> u32 {
        let value = u32::from_le_bytes(*self.from.bytes[*at..].first_chunk().unwrap());
        self.out.extend_from_slice(&value.to_be_bytes());
        *at += 4;
        value
    }
    fn u64_at(&mut self, at: &mut usize) -> u64 {
        let value = self.from.u64(*at);
        self.u64(value);
        *at += 8;
        value
    }
    fn bytes_at(&mut self, at: &mut usize, len: usize) {
        self.out.extend_from_slice(&self.from.bytes[*at..*at + len]);
        *at += len;
    }
    fn string_at(&mut self, at: &mut usize) {
        let len = self.u32_at(at);
        self.bytes_at(at, len as usize);
    }

    /// A feature section; `false` for those that no output depends on.
    fn feature(&mut self, number: u32, mut at: usize, len: usize) -> bool {
        let at = &mut at;
        match number {
            // Says its own byte order.
            feature::TRACING_DATA => self.bytes_at(at, len),
            feature::HOSTNAME | feature::OSRELEASE | feature::VERSION | feature::ARCH | feature::CPUID => {
                self.string_at(at);
            }
            feature::NRCPUS => {
                self.u32_at(at);
                self.u32_at(at);
            }
            feature::SAMPLE_TIME => {
                self.u64_at(at);
                self.u64_at(at);
            }
            feature::EVENT_DESC => {
                let events = self.u32_at(at);
                let attr_len = self.u32_at(at) as usize;
                for _ in 0..events {
                    self.attr(*at, attr_len);
                    *at += attr_len;
                    let ids = self.u32_at(at);
                    self.string_at(at);
                    for _ in 0..ids {
                        self.u64_at(at);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn attr(&mut self, at: usize, len: usize) {
        let attr = Attr::decode(&self.from.bytes[at..at + len], ByteOrder::Little).unwrap();
        self.out.extend_from_slice(&attr.encode(ByteOrder::Big, len as u32));
    }

    fn records(&mut self) {
        for raw in self.from.records() {
            let (record, id) = Record::decode(&raw, &self.from.events).unwrap();
            let index = if raw.event == u32::MAX { 0 } else { raw.event as usize };
            let mut format = self.from.events.list()[index].format.clone();
            let own = record.encode(&id, raw.misc, &format).unwrap();
            // perf leaves room for a sample id behind EVENT_UPDATE.
            assert!(own[8..] == *raw.body || matches!(record, Record::EventUpdate(_)), "{record:?}");
            format.order = ByteOrder::Big;
            let mut encoded = record.encode(&id, raw.misc, &format).unwrap();
            if raw.kind == number::MMAP2 {
                // Prot and flags: see above.
                encoded[64..68].reverse();
                encoded[68..72].reverse();
            }
            self.out.extend(encoded);
        }
    }
}

fn twin(from: &Recording) -> Vec<u8> {
    let mut twin = Twin { from, out: vec![0; HEADER] };
    let (attrs, attrs_len) = from.section(24);
    let step = from.u64(16) as usize;
    let mut id_sections = Vec::new();
    for at in (attrs..attrs + attrs_len).step_by(step) {
        let (mut ids, len) = from.section(at + step - 16);
        id_sections.push((twin.out.len(), len));
        for _ in 0..len / 8 {
            twin.u64_at(&mut ids);
        }
    }
    let attrs_at = twin.out.len();
    for (i, at) in (attrs..attrs + attrs_len).step_by(step).enumerate() {
        twin.attr(at, step - 16);
        let (at, len) = id_sections[i];
        twin.u64(at as u64);
        twin.u64(len as u64);
    }
    let data_at = twin.out.len();
    twin.records();
    let data_end = twin.out.len();

    let (data, data_len) = from.section(40);
    let mut kept = Vec::new();
    let mut table = data + data_len;
    for number in 0..256 {
        if from.u64(72 + number / 64 * 8) & 1 << (number % 64) == 0 {
            continue;
        }
        let (at, len) = from.section(table);
        table += 16;
        let start = twin.out.len();
        if twin.feature(number as u32, at, len) {
            kept.push((number, start, twin.out.len() - start));
        }
    }
    // The table stands between the records and the sections.
    let sections = twin.out.split_off(data_end);
    let shift = kept.len() * 16;
    let mut bits = [0u64; 4];
    for &(number, start, len) in &kept {
        bits[number / 64] |= 1 << (number % 64);
        twin.u64((start + shift) as u64);
        twin.u64(len as u64);
    }
    twin.out.extend(sections);

    let mut header = Twin { from, out: Vec::new() };
    header.u64(from.u64(0));
    for number in [HEADER, step, attrs_at, attrs_len, data_at, data_end - data_at, 0, 0] {
        header.u64(number as u64);
    }
    for word in bits {
        header.u64(word);
    }
    twin.out[..HEADER].copy_from_slice(&header.out);
    twin.out
}

#[test]
fn perf_prints_the_same_of_a_twin_in_the_other_byte_order() {
    let directory = directory("twin");
    for (name, arguments) in RECORDINGS {
        let path = directory.join(format!("{name}.data"));
        let recording = record(&path, arguments);
        let twin_path = directory.join(format!("{name}.twin"));
        std::fs::write(&twin_path, twin(&recording)).unwrap();
        let shown: &[&str] = match *name {
            "registers" => &["-F", "comm,pid,tid,time,event,period,uregs,weight"],
            "group" => &["-F", "comm,pid,tid,time,event,ip,period,sym"],
            "two-events" => {
                &["-F", "comm,pid,tid,time,event,ip,period,addr,sym,phys_addr,data_page_size,code_page_size,data_src"]
            }
            _ => &[],
        };
        let side_band = [
            "--ns",
            "--show-task-events",
            "--show-mmap-events",
            "--show-namespace-events",
            "--show-cgroup-events",
            "--show-lost-events",
            "--show-round-events",
        ];
        let arguments = [&side_band[..], shown].concat();
        let own = perf_script(&path, &arguments);
        let other = perf_script(&twin_path, &arguments);
        assert!(own.lines().count() > 10, "{name}: {own}");
        let difference = own.lines().zip(other.lines()).find(|(own, other)| own != other);
        assert_eq!((difference, own.lines().count()), (None, other.lines().count()), "{name}");
    }
}
