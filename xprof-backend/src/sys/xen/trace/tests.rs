//! Trace buffers that are filled as xen/common/trace.c fills them, for two pCPUs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::ptr::{self, NonNull};

use super::super::abi::{TraceCall, tbuf};
use super::super::memory::{FRAME, Mapping};
use super::super::tests::Fake;
use super::*;

/// Frames of a ring, and where `struct t_info` says that they are.
const FRAMES: usize = 2;
const INFO: u64 = 3;
const SIZE: u32 = (FRAMES * FRAME) as u32 - HEAD;

/// The buffers of a stand-in.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// `struct t_info` and all rings, frame by frame.
    memory: Option<File>,
    pub(crate) mask: u32,
    pub(crate) enabled: bool,
    /// Somebody has the VIRQ.
    pub(crate) bound: bool,
    other: Option<UnixStream>,
    lost: [u32; 2],
    /// The time of the next record.
    pub(crate) tsc: u64,
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers { memory: None, mask: 0x0fff_f000, enabled: false, bound: false, other: None, lost: [0; 2], tsc: 1000 }
    }
}

impl Buffers {
    pub(crate) fn make(&mut self) {
        let name = c"trace";
        // SAFETY: makes a file of its own.
        let file = unsafe { libc::memfd_create(name.as_ptr(), 0) };
        // SAFETY: it has just been made.
        let file: File = unsafe { std::os::fd::FromRawFd::from_raw_fd(file) };
        file.set_len((INFO + 1 + 2 * FRAMES as u64) * FRAME as u64).unwrap();
        let put = |at: u64, bytes: &[u8]| file.write_all_at(bytes, INFO * FRAME as u64 + at).unwrap();
        put(0, &(FRAMES as u16).to_le_bytes());
        for cpu in 0..2u64 {
            let first = 100 + cpu * 10;
            put(2 + cpu * 2, &(first as u16).to_le_bytes());
            for n in 0..FRAMES as u64 {
                let frame = INFO + 1 + cpu * FRAMES as u64 + n;
                put((first + n) * 4, &(frame as u32).to_le_bytes());
            }
        }
        self.memory = Some(file);
    }

    pub(super) fn place(cpu: u64) -> u64 {
        (INFO + 1 + cpu * FRAMES as u64) * FRAME as u64
    }

    pub(super) fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.as_ref().unwrap().read_exact_at(&mut bytes, at).unwrap();
        u32::from_le_bytes(bytes)
    }

    pub(super) fn put(&self, at: u64, value: u32) {
        self.memory.as_ref().unwrap().write_all_at(&value.to_le_bytes(), at).unwrap();
    }

    pub(in crate::sys::xen) fn op(&mut self, call: &mut TraceCall) -> io::Result<i64> {
        match call.command {
            tbuf::INFO => {
                call.event_mask = self.mask;
                call.buffer_mfn = if self.memory.is_some() { INFO } else { 0 };
                call.size = FRAME as u32;
            }
            tbuf::MASK => self.mask = call.event_mask,
            tbuf::SIZE if self.memory.is_some() => return Err(io::Error::from_raw_os_error(libc::EBUSY)),
            // alloc_trace_bufs ends so.
            tbuf::SIZE => {
                self.make();
                self.enabled = true;
            }
            tbuf::ENABLE if self.memory.is_none() => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            tbuf::ENABLE => self.enabled = true,
            tbuf::DISABLE => (self.enabled, self.lost) = (false, [0; 2]),
            other => panic!("tbuf_op {other}"),
        }
        Ok(0)
    }

    pub(crate) fn bind(&mut self) -> io::Result<OwnedFd> {
        if self.bound {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let (ours, other) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.other = Some(other);
        Ok(ours.into())
    }

    pub(crate) fn map(&self, frames: &[u64], written: bool) -> io::Result<Mapping> {
        let memory = self.memory.as_ref().unwrap();
        let len = frames.len() * FRAME;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping where the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
        let protection = if written { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        for (index, frame) in frames.iter().enumerate() {
            let place = start.wrapping_byte_add(index * FRAME);
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: in the place of a part of the mapping that was made above.
            unsafe { libc::mmap(place, FRAME, protection, flags, memory.as_raw_fd(), (*frame * FRAME as u64) as i64) };
        }
        let start = NonNull::new(start.cast()).unwrap();
        // SAFETY: all frames have just been mapped.
        Ok(unsafe { Mapping::from_mapping(start, vec![true; frames.len()].into(), written) })
    }

    /// A record with its time, as `__trace_var` writes it; lost where there is no space.
    pub(crate) fn write(&mut self, cpu: u64, event: u32, extra: &[u32]) {
        self.tsc += 100;
        let (class, sub) = (event & self.mask & 0x0fff_0000, event & self.mask & 0xf000);
        if !self.enabled || class == 0 || sub == 0 {
            return;
        }
        let at = Self::place(cpu);
        let (cons, mut prod) = (self.word(at), self.word(at + 4));
        let mut words = vec![event | (extra.len() as u32) << 28 | 1 << 31, self.tsc as u32, (self.tsc >> 32) as u32];
        words.extend(extra);
        let mut all: Vec<Vec<u32>> = Vec::new();
        if self.lost[cpu as usize] > 0 {
            let head = 0x1_f001 | 4 << 28 | 1 << 31;
            let first = self.tsc - 100 * u64::from(self.lost[cpu as usize]);
            let (low, high) = (first as u32, (first >> 32) as u32);
            all.push(vec![head, self.tsc as u32, (self.tsc >> 32) as u32, self.lost[cpu as usize], 7, low, high]);
        }
        all.push(words);
        for words in all {
            let len = words.len() as u32 * 4;
            let to_end = SIZE - prod % SIZE;
            let skip = if to_end < len { to_end } else { 0 };
            let used = (prod + 2 * SIZE - cons) % (2 * SIZE);
            if used + skip + len > SIZE {
                self.lost[cpu as usize] += 1;
                return;
            }
            if words[0] & 0xf_ffff == 0x1_f001 {
                self.lost[cpu as usize] = 0;
            }
            if skip > 0 {
                self.put(at + 8 + u64::from(prod % SIZE), 0x1_f002 | (skip / 4 - 1) << 28);
                prod = (prod + skip) % (2 * SIZE);
            }
            for word in words {
                self.put(at + 8 + u64::from(prod % SIZE), word);
                prod = (prod + 4) % (2 * SIZE);
            }
        }
        self.put(at + 4, prod);
        let used = (prod + 2 * SIZE - cons) % (2 * SIZE);
        if let Some(other) = self.other.as_mut().filter(|_| used > SIZE / 2) {
            use std::io::Write as _;
            let _ = other.write_all(&9u32.to_le_bytes());
        }
    }

    /// A call that yields: the TSC is the machine's clock, but for 7 s.
    pub(crate) fn yielded(&mut self) {
        self.tsc = crate::sys::clock::now(crate::sys::clock::MONOTONIC).unwrap() + 7_000_000_000;
        self.write(0, 0x2_8005, &[0, 0]);
    }
}

fn opened() -> (Fake, Hypervisor) {
    let fake = Fake::new(17, 0x15, 0x15);
    let xen = fake.open();
    (fake, xen)
}

#[test]
fn rings_are_emptied_over_and_over_and_nothing_is_missing() {
    let (fake, mut xen) = opened();
    assert!(!xen.trace_info().unwrap().has_buffers());
    xen.make_trace_buffers(FRAMES as u32).unwrap();
    assert_eq!(xen.make_trace_buffers(9).unwrap_err().raw_os_error(), Some(libc::EBUSY));
    let info = xen.trace_info().unwrap();
    assert_eq!((info.mask, info.has_buffers()), (0x0fff_f000, true));
    xen.set_trace_mask(0x2_9000).unwrap();
    xen.enable_trace(true).unwrap();
    let mut signal = xen.trace_signal().unwrap();
    let mut rings = Rings::map(&mut xen, &info).unwrap();
    assert_eq!(rings.sizes(), (2, 8192));
    let mut space = Vec::new();
    let mut seen = [Vec::new(), Vec::new()];
    let mut full = false;
    for n in 0..5000u32 {
        // Records of different sizes: both ends of the ring are met in every way.
        fake.told.lock().unwrap().trace.write(u64::from(n % 2), 0x2_1002, &vec![n; 1 + (n % 5) as usize]);
        if n % 97 == 0 {
            rings.drain(&mut space, |drained| {
                seen[drained.cpu as usize].extend_from_slice(drained.bytes);
                full |= drained.full;
            });
        }
    }
    rings.drain(&mut space, |drained| seen[drained.cpu as usize].extend_from_slice(drained.bytes));
    // Whoever writes to the descriptor ends the wait at once, and one wait only.
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
    let began = std::time::Instant::now();
    assert!(!signal.wait(Duration::from_secs(3600), wake.as_fd()) && !full);
    assert!(!signal.wait(Duration::from_millis(10), wake.as_fd()));
    assert!((Duration::from_millis(10)..Duration::from_secs(3600)).contains(&began.elapsed()));
    for (cpu, bytes) in (0..).zip(&seen) {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut next) = (0, cpu);
        while at < bytes.len() {
            let head = word(at);
            let extra = (head >> 28 & 7) as usize;
            let data = at + 4 + 8 * (head >> 31) as usize;
            if head & 0xf_ffff != 0x1_f002 {
                assert_eq!((extra, word(data)), (1 + (next % 5) as usize, next));
                next += 2;
            }
            at = data + 4 * extra;
        }
        assert_eq!((at, next), (bytes.len(), 5000 + cpu));
    }
    // Nobody reads: the VIRQ is raised at half, then records are lost, which is told by `full` and by Xen.
    for n in 0..1000 {
        fake.told.lock().unwrap().trace.write(1, 0x2_1002, &[n]);
    }
    let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    assert!(signal.wait(Duration::ZERO, wake.as_fd()));
    rings.drain(&mut space, |drained| assert!(drained.full && drained.cpu == 1 && drained.bytes.len() > 8000));
    fake.told.lock().unwrap().trace.write(1, 0x2_1002, &[1]);
    rings.drain(&mut space, |drained| assert_eq!((drained.bytes.len(), drained.full), (28 + 16, false)));
    assert_eq!(rings.lies, 0);
}

#[test]
fn positions_that_cannot_be_are_not_believed() {
    let (fake, mut xen) = opened();
    xen.make_trace_buffers(FRAMES as u32).unwrap();
    let info = xen.trace_info().unwrap();
    let mut rings = Rings::map(&mut xen, &info).unwrap();
    let mut space = Vec::new();
    for (nth, prod) in (1..).zip([u32::MAX, 2 * SIZE, SIZE + 4]) {
        fake.told.lock().unwrap().trace.put(Buffers::place(0) + 4, prod);
        rings.drain(&mut space, |_| panic!("nothing can be read"));
        assert_eq!(rings.lies, nth);
    }
    // A list that leads out of itself.
    fake.told.lock().unwrap().trace.put(INFO * FRAME as u64 + 2, 0xffff_ffff);
    assert!(Rings::map(&mut xen, &info).is_err());
    fake.told.lock().unwrap().trace.put(INFO * FRAME as u64, 0);
    assert!(Rings::map(&mut xen, &info).is_err());
}

#[test]
fn a_second_reader_is_refused() {
    let (fake, xen) = opened();
    fake.told.lock().unwrap().trace.bound = true;
    assert_eq!(xen.trace_signal().unwrap_err().raw_os_error(), Some(libc::EEXIST));
}
