//! The ring buffer that the kernel writes records to and we read them from.
//!
//! The rule of this file: shared memory is never a reference. The header's words are reached as atomics, the data by
//! copying out of raw pointers; every number that comes out of the shared page (head, offset, size) is checked against
//! the mapping before it is used, so that a writer that lies costs records and nothing else.
//!
//! A ring on plain memory ([`Ring::plain`]) has the kernel's layout and is read by the same code: tests and simulated
//! sources write it with [`Ring::produce`].

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::perf_event_mmap_page;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

const HEAD: usize = std::mem::offset_of!(perf_event_mmap_page, data_head);
const TAIL: usize = std::mem::offset_of!(perf_event_mmap_page, data_tail);
const DATA_OFFSET: usize = std::mem::offset_of!(perf_event_mmap_page, data_offset);
const DATA_SIZE: usize = std::mem::offset_of!(perf_event_mmap_page, data_size);

/// Size of `struct perf_event_header`.
const RECORD_HEADER: usize = 8;
/// Bytes of a record's beginning in which its stack copy is looked for; a call chain has at most 127 words.
const SHOWN: usize = 4096;

/// Bytes of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// One mapped ring.
#[derive(Debug)]
pub struct Ring {
    base: NonNull<u8>,
    mapped: usize,
    data: usize,
    size: usize,
    position: u64,
}

// SAFETY: the mapping is owned by this value alone and lives until it is dropped; every access to the memory shared with
// the kernel is atomic or a copy, whichever thread makes it.
unsafe impl Send for Ring {}

/// What a look into a ring gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes appended to the buffer.
    pub bytes: usize,
    /// Bytes left in the ring because the limit was reached.
    pub left: usize,
    /// Bytes given up because the ring's numbers or records contradicted themselves.
    pub damaged: usize,
}

impl Ring {
    /// Maps the ring of the event `fd`: `pages` data pages (a power of two) and the header page. `overwrite`: the
    /// kernel never waits for us (for events with `write_backward`).
    pub fn map(fd: BorrowedFd<'_>, pages: usize, overwrite: bool) -> io::Result<Ring> {
        let page = page_size();
        let mapped = length(pages, page)?;
        let protection = if overwrite { ProtFlags::READ } else { ProtFlags::READ | ProtFlags::WRITE };
        // SAFETY: a fresh mapping at an address of the kernel's choice; it overlaps nothing that exists.
        let base = unsafe { mmap(ptr::null_mut(), mapped, protection, MapFlags::SHARED, fd, 0)? };
        Ring::over(base.cast(), mapped, page)
    }

    /// A ring on plain memory with the kernel's layout, for tests and simulated sources.
    pub fn plain(pages: usize) -> io::Result<Ring> {
        let page = page_size();
        let mapped = length(pages, page)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice; it overlaps nothing that exists.
        let base = unsafe { mmap_anonymous(ptr::null_mut(), mapped, protection, MapFlags::PRIVATE)? };
        let base: *mut u8 = base.cast();
        for (at, value) in [(DATA_OFFSET, page as u64), (DATA_SIZE, (pages * page) as u64)] {
            // SAFETY: `at` is 8-aligned and inside the header page of the mapping just made.
            unsafe { base.add(at).cast::<u64>().write(value) };
        }
        Ring::over(base, mapped, page)
    }

    fn over(base: *mut u8, mapped: usize, page: usize) -> io::Result<Ring> {
        let Some(base) = NonNull::new(base) else { return Err(io::ErrorKind::InvalidData.into()) };
        let mut ring = Ring { base, mapped, data: page, size: mapped - page, position: 0 };
        // Before Linux 4.1 both are zero: the data follows the header page and fills the rest.
        let (offset, size) = (ring.word(DATA_OFFSET), ring.word(DATA_SIZE));
        if offset != 0 {
            let fits = offset >= size_of::<perf_event_mmap_page>() as u64
                && size.is_power_of_two()
                && size >= RECORD_HEADER as u64
                && offset.checked_add(size).is_some_and(|end| end <= mapped as u64);
            if !fits {
                let what = format!("a ring says its data is {size} bytes at {offset} of a mapping of {mapped}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            (ring.data, ring.size) = (offset as usize, size as usize);
        }
        Ok(ring)
    }

    /// Bytes of the data area.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing has been written since it was last taken from.
    pub fn is_empty(&self) -> bool {
        self.atomic(HEAD).load(Ordering::Acquire) == self.position
    }

    /// Appends whole records to `into`, at most `limit` bytes of them (at least one record is always taken), and lets
    /// the kernel write over them.
    pub fn take(&mut self, into: &mut Vec<u8>, limit: usize) -> Taken {
        let available = match self.available() {
            Ok(available) => available,
            Err(damaged) => return damaged,
        };
        let mut taken = Taken::default();
        let mut length = available;
        if available > limit {
            match self.whole_records(available, limit) {
                Some(fit) => {
                    length = fit;
                    taken.left = available - fit;
                }
                None => {
                    (length, taken.damaged) = (0, available);
                }
            }
        }
        self.copy(self.position, length, into);
        taken.bytes = length;
        self.position = self.position.wrapping_add((length + taken.damaged) as u64);
        self.atomic(TAIL).store(self.position, Ordering::Release);
        taken
    }

    /// As [`Ring::take`], and of stack copies what is stack. The kernel gives every copy the size that was asked for and says behind it how
    /// much of it is stack: of 64 KiB mostly a few, and nothing of the rest is touched here. `stack_at` is shown the beginning of a record
    /// (its first [`SHOWN`] bytes) and says where a copy begins in it and how much of it is wanted (a multiple of 8). One that the stack
    /// filled stays full; any other becomes one that asked for a word more than there is, so that who unwinds it knows which it was.
    pub fn take_trimmed(
        &mut self,
        into: &mut Vec<u8>,
        limit: usize,
        mut stack_at: impl FnMut(&[u8]) -> Option<(usize, usize)>,
    ) -> Taken {
        let available = match self.available() {
            Ok(available) => available,
            Err(damaged) => return damaged,
        };
        let before = into.len();
        let mut done = 0;
        while done < available && into.len() - before < limit {
            let Some(size) = self.record_size(self.position.wrapping_add(done as u64), available - done) else { break };
            let start = into.len();
            let shown = size.min(SHOWN);
            self.copy(self.position.wrapping_add(done as u64), shown, into);
            let at = stack_at(&into[start..]);
            if at.and_then(|at| self.trimmed(done, size, at, start, into)).is_none() {
                self.copy(self.position.wrapping_add((done + shown) as u64), size - shown, into);
            }
            done += size;
        }
        let mut taken = Taken { bytes: done, left: available - done, damaged: 0 };
        if done == 0 {
            (taken.left, taken.damaged) = (0, available);
        }
        self.position = self.position.wrapping_add((done + taken.damaged) as u64);
        self.atomic(TAIL).store(self.position, Ordering::Release);
        taken
    }

    /// Puts a record of `size` bytes in place of its beginning, which is in `into` from `start` on: without what is no stack in the
    /// copy that begins at `at`. `None`: there is nothing to leave out.
    fn trimmed(
        &self,
        done: usize,
        size: usize,
        (at, most): (usize, usize),
        start: usize,
        into: &mut Vec<u8>,
    ) -> Option<()> {
        let from = |at: usize| self.position.wrapping_add((done + at) as u64);
        let word = |at: usize| {
            let fits = at.checked_add(8)? <= size;
            fits.then(|| usize::try_from(self.number(from(at))).ok())?
        };
        let asked = word(at)?;
        let end = at.checked_add(8)?.checked_add(asked)?;
        let stack = word(end)?;
        let (stack, kept) = if stack > most { (most, most) } else { (stack, stack.checked_add(15)? & !7) };
        if kept >= asked || into.len() - start < at {
            return None;
        }
        let record = u16::try_from(size - (asked - kept)).ok()?;
        into.truncate(start + at);
        into[start + 6..start + 8].copy_from_slice(&record.to_ne_bytes());
        into.extend_from_slice(&(kept as u64).to_ne_bytes());
        self.copy(from(at + 8), stack, into);
        into.resize(into.len() + kept - stack, 0);
        into.extend_from_slice(&(stack as u64).to_ne_bytes());
        self.copy(from(end + 8), size - end - 8, into);
        Some(())
    }

    /// The 8 bytes at a position.
    fn number(&self, position: u64) -> u64 {
        let mut bytes = [0; 8];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let at = position.wrapping_add(at as u64) as usize & (self.size - 1);
            // SAFETY: `at` is below `size`: inside the data area.
            *byte = unsafe { self.data_pointer().add(at).read_volatile() };
        }
        u64::from_ne_bytes(bytes)
    }

    /// How many bytes can be taken; `Err`: none, or the ring contradicts itself, and what is in it is gone.
    fn available(&mut self) -> Result<usize, Taken> {
        let head = self.atomic(HEAD).load(Ordering::Acquire);
        let available = head.wrapping_sub(self.position);
        if available > self.size as u64 {
            // More than fits (or less than nothing): what is in there can be anything. Start again at the head.
            self.position = head;
            self.atomic(TAIL).store(head, Ordering::Release);
            return Err(Taken { damaged: self.size, ..Taken::default() });
        }
        match available as usize {
            0 => Err(Taken::default()),
            available => Ok(available),
        }
    }

    /// Length of the longest run of whole records from the position on that is at most `limit`, one record at least;
    /// `None` when the first record's size is impossible.
    fn whole_records(&self, available: usize, limit: usize) -> Option<usize> {
        let mut length = 0;
        while let Some(size) = self.record_size(self.position.wrapping_add(length as u64), available - length) {
            if length != 0 && length + size > limit {
                return Some(length);
            }
            length += size;
        }
        (length != 0).then_some(length)
    }

    /// Size of the record at `position` when it fits into `room`.
    fn record_size(&self, position: u64, room: usize) -> Option<usize> {
        if room < RECORD_HEADER {
            return None;
        }
        // Records are 8-aligned, so that a header never wraps; a lying position is rounded down.
        let at = self.data + (position as usize & (self.size - 1) & !7);
        // SAFETY: `at` is 8-aligned and at most `data + size - 8`, inside the mapping.
        let word = unsafe { self.base.as_ptr().add(at).cast::<u64>().read_volatile() };
        let size = usize::from(u16::from_ne_bytes([word.to_ne_bytes()[6], word.to_ne_bytes()[7]]));
        (size >= RECORD_HEADER && size % 8 == 0 && size <= room).then_some(size)
    }

    /// Appends what a ring that is written backward holds and was not taken before, oldest record first. The ring must
    /// be paused. Records that the kernel has half overwritten are not among them.
    pub fn take_overwritten(&mut self, into: &mut Vec<u8>) -> Taken {
        let head = self.atomic(HEAD).load(Ordering::Acquire);
        // The head moves down from 0: newer records are at lower positions.
        let room = self.position.wrapping_sub(head).min(self.size as u64) as usize;
        let mut ends = Vec::new();
        let mut length = 0;
        while let Some(size) = self.record_size(head.wrapping_add(length as u64), room - length) {
            length += size;
            ends.push(length);
        }
        into.reserve(length);
        let mut end = ends.pop().unwrap_or(0);
        let before = into.len();
        while end != 0 {
            let start = ends.pop().unwrap_or(0);
            self.copy(head.wrapping_add(start as u64), end - start, into);
            end = start;
        }
        self.position = head;
        Taken { bytes: into.len() - before, ..Taken::default() }
    }

    /// The kernel's side of the protocol, for rings on plain memory: writes a record and publishes it; false when
    /// there is no room (the record is then lost).
    pub fn produce(&self, record: &[u8]) -> bool {
        let head = self.atomic(HEAD).load(Ordering::Relaxed);
        let used = head.wrapping_sub(self.atomic(TAIL).load(Ordering::Acquire));
        if used > self.size as u64 || record.len() as u64 > self.size as u64 - used {
            return false;
        }
        let at = head as usize & (self.size - 1);
        let first = record.len().min(self.size - at);
        let data = self.data_pointer();
        // SAFETY: `at + first <= size` and the rest is at most `at` bytes, both inside the data area of a mapping that
        // is writable (only such rings are produced into); `record` is other memory.
        unsafe {
            ptr::copy_nonoverlapping(record.as_ptr(), data.add(at), first);
            ptr::copy_nonoverlapping(record.as_ptr().add(first), data, record.len() - first);
        }
        self.atomic(HEAD).store(head.wrapping_add(record.len() as u64), Ordering::Release);
        true
    }

    fn copy(&self, position: u64, length: usize, into: &mut Vec<u8>) {
        debug_assert!(length <= self.size);
        let length = length.min(self.size);
        into.reserve(length);
        let at = position as usize & (self.size - 1);
        let first = length.min(self.size - at);
        let data = self.data_pointer();
        // SAFETY: both pieces lie in the data area (`at + first <= size`, `length - first <= at`), the buffer has
        // `length` bytes of spare room, and the kernel does not write to bytes between tail and head (to none while
        // paused). A simulated writer that does gives torn bytes, which readers treat as untrusted anyway.
        unsafe {
            let to = into.as_mut_ptr().add(into.len());
            ptr::copy_nonoverlapping(data.add(at), to, first);
            ptr::copy_nonoverlapping(data, to.add(first), length - first);
            into.set_len(into.len() + length);
        }
    }

    fn data_pointer(&self) -> *mut u8 {
        // SAFETY: `data` was checked to lie inside the mapping.
        unsafe { self.base.as_ptr().add(self.data) }
    }

    fn atomic(&self, at: usize) -> &AtomicU64 {
        // SAFETY: `at` is the offset of an 8-aligned u64 of the header page, which is mapped as long as `self` lives;
        // both sides reach it by whole-word accesses. (A read-only mapping is only loaded from.)
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    fn word(&self, at: usize) -> u64 {
        self.atomic(at).load(Ordering::Relaxed)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made, and nothing points into it after `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

fn length(pages: usize, page: usize) -> io::Result<usize> {
    if !pages.is_power_of_two() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{pages} pages are not a power of two")));
    }
    pages.checked_add(1).and_then(|n| n.checked_mul(page)).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of `size` bytes whose body repeats `mark`.
    fn record(mark: u8, size: u16) -> Vec<u8> {
        let mut bytes = vec![mark; usize::from(size)];
        bytes[..4].copy_from_slice(&9u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&0u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&size.to_ne_bytes());
        bytes
    }

    /// A record of `before` bytes, a stack copy of `asked` bytes of which `stack` are stack, and a word behind it.
    fn with_copy(before: usize, asked: usize, stack: usize) -> Vec<u8> {
        let mut bytes = record(7, (before + 8 + asked + 8 + 8) as u16);
        bytes[before..before + 8].copy_from_slice(&(asked as u64).to_ne_bytes());
        bytes[before + 8..before + 8 + stack].fill(9);
        bytes[before + 8 + stack..before + 8 + asked].fill(0);
        let end = before + 8 + asked;
        bytes[end..end + 8].copy_from_slice(&(stack as u64).to_ne_bytes());
        bytes
    }

    #[test]
    fn stack_copies_lose_what_is_no_stack_across_the_wrap() {
        let mut ring = Ring::plain(32).unwrap();
        let kinds = [
            (with_copy(32, 60 << 10, 41), Some(32), with_copy(32, 56, 41)),
            (with_copy(32, 4096, 0), Some(32), with_copy(32, 8, 0)),
            (with_copy(40, 64, 64), Some(40), with_copy(40, 64, 64)),
            (with_copy(40, 64, 57), Some(40), with_copy(40, 64, 57)),
            (with_copy(40, 64, 48), Some(40), with_copy(40, 56, 48)),
            (with_copy(24, 8000, 7000), None, with_copy(24, 8000, 7000)),
            (record(3, 8), None, record(3, 8)),
        ];
        let mut got = Vec::new();
        for round in 0..500 {
            let (mut wanted, mut sent) = (Vec::new(), 0);
            for (kind, (given, _, kept)) in kinds.iter().enumerate() {
                if round % (kind + 1) == 0 {
                    assert!(ring.produce(given));
                    wanted.extend_from_slice(kept);
                    sent += given.len();
                }
            }
            got.clear();
            let at = |shown: &[u8]| {
                kinds.iter().find(|(given, ..)| given.starts_with(shown)).and_then(|kind| Some((kind.1?, 1 << 20)))
            };
            let taken = ring.take_trimmed(&mut got, usize::MAX, at);
            assert_eq!((taken.bytes, taken.left, taken.damaged), (sent, 0, 0));
            assert!(got == wanted, "round {round}");
        }
        assert_eq!(ring.word(TAIL), ring.word(HEAD));
    }

    #[test]
    fn lying_stack_copies_stay_as_they_are() {
        for (at, asked) in
            [(32, u64::MAX), (32, u64::MAX - 40), (32, 1 << 20), (32, 72), (4000, 8), (usize::MAX - 3, 8)]
        {
            let mut ring = Ring::plain(2).unwrap();
            let mut bytes = record(0xff, 96);
            bytes[32..40].copy_from_slice(&asked.to_ne_bytes());
            assert!(ring.produce(&bytes) && ring.produce(&record(1, 64)));
            let mut got = Vec::new();
            let taken = ring.take_trimmed(&mut got, 10, |_| Some((at, 1 << 20)));
            assert_eq!((taken.bytes, taken.left, taken.damaged), (96, 64, 0));
            assert_eq!(got, bytes);
        }
        // Less than there is is a full copy of so much.
        let mut ring = Ring::plain(4).unwrap();
        assert!(ring.produce(&with_copy(32, 8000, 7000)) && ring.produce(&with_copy(32, 8000, 100)));
        let mut got = Vec::new();
        assert_eq!(ring.take_trimmed(&mut got, usize::MAX, |_| Some((32, 256))).left, 0);
        assert!(got == [with_copy(32, 256, 256), with_copy(32, 112, 100)].concat());
        // A record of an impossible size ends what can be taken.
        let mut ring = Ring::plain(1).unwrap();
        let mut bad = record(1, 64);
        bad[6..8].copy_from_slice(&4u16.to_ne_bytes());
        assert!(ring.produce(&record(1, 64)) && ring.produce(&bad));
        let mut got = Vec::new();
        let taken = ring.take_trimmed(&mut got, usize::MAX, |_| None);
        assert_eq!((taken.bytes, taken.left, taken.damaged), (64, 64, 0));
        let taken = ring.take_trimmed(&mut got, usize::MAX, |_| None);
        assert_eq!((taken.bytes, taken.left, taken.damaged, got.len()), (0, 0, 64, 64));
    }

    fn set(ring: &Ring, at: usize, value: u64) {
        ring.atomic(at).store(value, Ordering::Release);
    }

    #[test]
    fn records_come_out_as_they_went_in_across_the_wrap() {
        let mut ring = Ring::plain(1).unwrap();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for round in 0..1000u32 {
            let bytes = record(round as u8, 8 + 8 * (round % 37) as u16);
            assert!(ring.produce(&bytes), "round {round}");
            sent.extend(bytes);
            if round % 7 == 0 {
                let taken = ring.take(&mut got, usize::MAX);
                assert_eq!((taken.left, taken.damaged), (0, 0));
            }
        }
        ring.take(&mut got, usize::MAX);
        assert_eq!(got, sent);
        assert_eq!(ring.word(TAIL), sent.len() as u64);
    }

    #[test]
    fn a_full_ring_takes_nothing_until_it_is_read() {
        let mut ring = Ring::plain(1).unwrap();
        let whole = record(1, ring.size() as u16);
        assert!(ring.produce(&whole));
        assert!(!ring.produce(&record(2, 8)));
        let mut got = Vec::new();
        assert_eq!(ring.take(&mut got, usize::MAX).bytes, ring.size());
        assert_eq!(got, whole);
        assert!(ring.produce(&record(2, 8)));
    }

    #[test]
    fn a_limit_cuts_between_records() {
        let mut ring = Ring::plain(1).unwrap();
        for mark in 1..=5 {
            ring.produce(&record(mark, 24));
        }
        let mut got = Vec::new();
        assert_eq!(ring.take(&mut got, 60), Taken { bytes: 48, left: 72, damaged: 0 });
        // One record at least, however small the limit.
        assert_eq!(ring.take(&mut got, 1), Taken { bytes: 24, left: 48, damaged: 0 });
        assert_eq!(ring.take(&mut got, 1000), Taken { bytes: 48, left: 0, damaged: 0 });
        assert_eq!(got, [1, 2, 3, 4, 5].map(|mark| record(mark, 24)).concat());
    }

    #[test]
    fn a_lying_head_costs_records_and_nothing_else() {
        let mut ring = Ring::plain(1).unwrap();
        let mut got = Vec::new();
        for head in [u64::MAX, 1 << 40, ring.size() as u64 * 2 + 8, 0] {
            set(&ring, HEAD, head);
            let taken = ring.take(&mut got, usize::MAX);
            assert_eq!((taken.bytes, taken.damaged), (0, ring.size()), "head {head}");
            assert_eq!(ring.word(TAIL), head);
        }
        assert!(ring.produce(&record(3, 16)));
        assert_eq!(ring.take(&mut got, usize::MAX).bytes, 16);
        assert_eq!(got, record(3, 16));
        // An impossible record size under a limit: the rest is given up.
        let mut broken = record(4, 32);
        broken[6..8].copy_from_slice(&3u16.to_ne_bytes());
        ring.produce(&broken);
        assert_eq!(ring.take(&mut got, 16), Taken { bytes: 0, left: 0, damaged: 32 });
    }

    #[test]
    fn a_header_page_that_lies_is_refused() {
        let page = page_size() as u64;
        for (offset, size) in [(page, page * 2), (8, page), (u64::MAX, page), (page, page - 8), (page, 0)] {
            let ring = Ring::plain(1).unwrap();
            set(&ring, DATA_OFFSET, offset);
            set(&ring, DATA_SIZE, size);
            let (base, mapped) = (ring.base.as_ptr(), ring.mapped);
            std::mem::forget(ring);
            let answer = Ring::over(base, mapped, page as usize);
            assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::InvalidData, "{offset} {size}");
        }
        assert!(Ring::plain(3).is_err());
    }

    /// Writes as the kernel does into a ring that is written backward.
    fn push_backward(ring: &Ring, bytes: &[u8]) {
        let head = ring.word(HEAD).wrapping_sub(bytes.len() as u64);
        for (i, &byte) in bytes.iter().enumerate() {
            let at = head.wrapping_add(i as u64) as usize & (ring.size - 1);
            // SAFETY: `at` is inside the data area.
            unsafe { ring.data_pointer().add(at).write(byte) };
        }
        set(ring, HEAD, head);
    }

    #[test]
    fn an_overwritten_ring_gives_the_newest_records_oldest_first() {
        let mut ring = Ring::plain(1).unwrap();
        let mut got = Vec::new();
        assert_eq!(ring.take_overwritten(&mut got).bytes, 0);
        for mark in 1..=3 {
            push_backward(&ring, &record(mark, 40));
        }
        ring.take_overwritten(&mut got);
        assert_eq!(got, [1, 2, 3].map(|mark| record(mark, 40)).concat());
        // What was taken is not taken again.
        got.clear();
        push_backward(&ring, &record(4, 16));
        ring.take_overwritten(&mut got);
        assert_eq!(got, record(4, 16));
        // Round and round: only whole records that are still there.
        got.clear();
        let count = 500u32;
        for mark in 0..count {
            push_backward(&ring, &record(mark as u8, 56));
        }
        ring.take_overwritten(&mut got);
        let fit = ring.size() / 56;
        let expected: Vec<u8> = (count - fit as u32..count).flat_map(|mark| record(mark as u8, 56)).collect();
        assert_eq!(got, expected);
    }
}
