//! Memory that Xen reads and writes ([`Buffer`]), and frames of guests mapped here ([`Mapping`]).
//!
//! Both change under us while we look: they are reached by volatile copies only, never by reference.

use std::io;
use std::ptr::{self, NonNull};

/// Bytes of a frame, whatever the page size of dom0's kernel (`XEN_PAGE_SIZE`).
pub const FRAME: usize = 4096;

/// Hypercall-safe memory: resident, and not copied when this process forks.
#[derive(Debug)]
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to this value alone, and is reached by copies through `&self` and `&mut self`.
unsafe impl Send for Buffer {}
// SAFETY: reading through `&self` is a volatile copy of memory that Xen may change anyway.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Takes over a mapping.
    ///
    /// # Safety
    /// `start` is the start of `len` mapped, writable bytes that nobody else unmaps.
    pub(super) unsafe fn from_mapping(start: NonNull<u8>, len: usize) -> Buffer {
        Buffer { start, len }
    }

    /// Locked anonymous memory, for kernels without `/dev/xen/hypercall` (before 4.18), and for tests.
    pub(super) fn anonymous(len: usize) -> io::Result<Buffer> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_LOCKED | libc::MAP_POPULATE;
        // SAFETY: a new mapping where the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let start = NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED);
        let start = start.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the mapping has just been made, and has this length.
        let buffer = unsafe { Buffer::from_mapping(start, len) };
        // SAFETY: advice about our own mapping. Copy-on-write after a fork would move the pages under Xen.
        if unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(buffer)
    }

    /// Its length, bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Address of byte `at`, for Xen.
    pub(super) fn address(&self, at: usize) -> u64 {
        assert!(at < self.len);
        self.start.as_ptr() as u64 + at as u64
    }

    fn place<T>(&self, at: usize) -> *mut T {
        assert!(at.checked_add(size_of::<T>()).is_some_and(|end| end <= self.len));
        // SAFETY: the offset is within the mapping.
        unsafe { self.start.as_ptr().add(at).cast() }
    }

    /// Writes a value of a type without padding that matters.
    pub(super) fn put<T: Copy>(&mut self, at: usize, value: T) {
        let place = self.place::<T>(at);
        // SAFETY: within the mapping; bytewise, so that alignment does not matter.
        unsafe { place.write_unaligned(value) }
    }

    /// Sets `len` bytes to zero.
    pub(super) fn clear(&mut self, at: usize, len: usize) {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: within the mapping.
        unsafe { ptr::write_bytes(self.start.as_ptr().add(at), 0, len) }
    }

    /// Reads a number.
    pub(super) fn u64(&self, at: usize) -> u64 {
        // SAFETY: within the mapping; every pattern of bits is a number.
        u64::from_ne_bytes(unsafe { self.place::<[u8; 8]>(at).read_volatile() })
    }

    /// Reads a number.
    pub(super) fn u32(&self, at: usize) -> u32 {
        // SAFETY: as above.
        u32::from_ne_bytes(unsafe { self.place::<[u8; 4]>(at).read_volatile() })
    }

    /// Reads a number.
    pub(super) fn u16(&self, at: usize) -> u16 {
        // SAFETY: as above.
        u16::from_ne_bytes(unsafe { self.place::<[u8; 2]>(at).read_volatile() })
    }

    /// Reads a byte.
    pub(super) fn u8(&self, at: usize) -> u8 {
        // SAFETY: as above.
        unsafe { self.place::<u8>(at).read_volatile() }
    }

    /// Copies bytes.
    pub(super) fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        // SAFETY: as above.
        unsafe { self.place::<[u8; N]>(at).read_volatile() }
    }

    /// A text that ends with a zero, at most `len` bytes of it.
    pub(super) fn text(&self, at: usize, len: usize) -> String {
        let bytes: Vec<u8> = (at..at + len).map(|at| self.u8(at)).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Frames of a guest, mapped read-only, or of Xen itself, to be written to. A frame that could not be mapped is never touched: that would be SIGBUS. One that
/// could stays readable until it is unmapped, whatever becomes of the guest; until then Xen keeps what is left of a
/// dead domain, so mappings must not outlive their domain by long.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    mapped: Box<[bool]>,
    written: bool,
}

// SAFETY: the mapping belongs to this value alone, and is read and written by volatile copies.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Takes over a mapping.
    ///
    /// # Safety
    /// `start` is the start of a mapping of `mapped.len()` frames that nobody else unmaps, and each that `mapped` names can
    /// be read, with `written` also written to.
    pub(super) unsafe fn from_mapping(start: NonNull<u8>, mapped: Box<[bool]>, written: bool) -> Mapping {
        Mapping { start, mapped, written }
    }

    /// Frames that were asked for.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.mapped.len()
    }

    /// Whether frame `index` is there.
    pub fn has(&self, index: usize) -> bool {
        self.mapped.get(index).is_some_and(|mapped| *mapped)
    }

    /// The number of `N` bytes at `offset` of frame `index`; `None` when the frame is not there or ends before.
    pub fn read<const N: usize>(&self, index: usize, offset: usize) -> Option<[u8; N]> {
        if !self.has(index) || offset.checked_add(N)? > FRAME {
            return None;
        }
        // SAFETY: the frame is mapped and readable, and the bytes lie within it.
        Some(unsafe { self.start.as_ptr().add(index * FRAME + offset).cast::<[u8; N]>().read_volatile() })
    }

    /// Copies from `offset` of frame `index`; false as for [`Mapping::read`].
    pub fn copy(&self, index: usize, offset: usize, to: &mut [u8]) -> bool {
        if !self.has(index) || offset.checked_add(to.len()).is_none_or(|end| end > FRAME) {
            return false;
        }
        // SAFETY: the frame is mapped and readable, and the bytes lie within it; what the guest writes meanwhile only
        // changes which bytes are copied.
        unsafe { ptr::copy_nonoverlapping(self.start.as_ptr().add(index * FRAME + offset), to.as_mut_ptr(), to.len()) };
        true
    }

    /// Writes a number at `offset` of frame `index`; false when that frame is not there, or may not be written to.
    pub(super) fn put(&self, index: usize, offset: usize, value: u32) -> bool {
        if !self.written || !self.has(index) || offset > FRAME - 4 || !offset.is_multiple_of(4) {
            return false;
        }
        // SAFETY: the frame is mapped and writable, and the number lies within it, aligned.
        unsafe { self.start.as_ptr().add(index * FRAME + offset).cast::<u32>().write_volatile(value) };
        true
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.mapped.len() * FRAME) };
    }
}
