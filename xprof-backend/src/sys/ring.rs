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

    /// Appends whole records to `into`, at most `limit` bytes of them (at least one record is always taken), and lets
    /// the kernel write over them.
    pub fn take(&mut self, into: &mut Vec<u8>, limit: usize) -> Taken {
        let head = self.atomic(HEAD).load(Ordering::Acquire);
        let available = head.wrapping_sub(self.position);
        if available == 0 {
            return Taken::default();
        }
        if available > self.size as u64 {
            // More than fits (or less than nothing): what is in there can be anything. Start again at the head.
            self.position = head;
            self.atomic(TAIL).store(head, Ordering::Release);
            return Taken { damaged: self.size, ..Taken::default() };
        }
        let available = available as usize;
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
