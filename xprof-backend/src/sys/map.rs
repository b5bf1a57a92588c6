//! A file mapped for reading, with a guard against its shrinking.
//!
//! Debug information is too large to be copied, so it is mapped. The kernel answers a read behind the end of a file that has
//! shrunk with SIGBUS: the handler here puts a page of zeros there, and the reader goes on with a file that is damaged
//! and not with a dead process. A SIGBUS anywhere else has its default effect. At most [`MOST`] maps are guarded at a time; more
//! are refused.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maps at a time.
const MOST: usize = 4096;

/// First address and first one behind of each map; 0 where there is none.
static GUARDED: [(AtomicUsize, AtomicUsize); MOST] = [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; MOST];
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// The mapped bytes of a file.
#[derive(Debug)]
pub struct Map {
    start: *const u8,
    len: usize,
    slot: usize,
}

// SAFETY: the memory is only read, and it is unmapped when nobody refers to the `Map` any more.
unsafe impl Send for Map {}
// SAFETY: as above; reading from several threads changes nothing.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// What mmap(2) said; `OutOfMemory` when too many files are mapped; `InvalidInput` for no bytes.
    pub fn new(file: &fs::File, len: u64) -> io::Result<Map> {
        guard()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let slot = GUARDED
            .iter()
            .position(|(_, end)| end.compare_exchange(0, usize::MAX, Ordering::AcqRel, Ordering::Relaxed).is_ok())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that is in use.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            GUARDED[slot].1.store(0, Ordering::Release);
            return Err(error);
        }
        let page = PAGE.load(Ordering::Relaxed);
        GUARDED[slot].0.store(start as usize, Ordering::Release);
        GUARDED[slot].1.store(start as usize + len.next_multiple_of(page), Ordering::Release);
        Ok(Map { start: start.cast(), len, slot })
    }

    /// The bytes. What another program writes to the file shows in them; what it cuts off is zeros.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is a mapping of `len` bytes that lives as long as `self`. Pages behind the file's end are replaced
        // by the guard. That another process may change the file is accepted: readers check everything they read, and no
        // value is read twice where it must be the same.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        GUARDED[self.slot].0.store(0, Ordering::Release);
        // SAFETY: the mapping was made in `new`, and no reference to it is left.
        unsafe { libc::munmap(self.start.cast_mut().cast(), self.len) };
        GUARDED[self.slot].1.store(0, Ordering::Release);
    }
}

/// Installs the handler, once.
fn guard() -> io::Result<()> {
    static DONE: OnceLock<i32> = OnceLock::new();
    let error = *DONE.get_or_init(|| {
        PAGE.store(rustix::param::page_size(), Ordering::Relaxed);
        // SAFETY: the structure is zeroed, a valid state of all its fields, and then filled; the handler is
        // async-signal-safe (below).
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = put_zeros as extern "C" fn(_, _, _) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigemptyset(&raw mut action.sa_mask);
            match libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) {
                0 => 0,
                _ => *libc::__errno_location(),
            }
        }
    });
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

extern "C" fn put_zeros(_: libc::c_int, about: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo; mmap, sigaction and errno are async-signal-safe on Linux. The page that is
    // replaced lies whole in a mapping of this module, which nobody has unmapped: its slot is emptied before that.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let at = (*about).si_addr() as usize;
        let ours = GUARDED.iter().any(|(start, end)| {
            let (start, end) = (start.load(Ordering::Acquire), end.load(Ordering::Acquire));
            start != 0 && (start..end).contains(&at)
        });
        let page = PAGE.load(Ordering::Relaxed);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let here = (at & !(page - 1)) as *mut libc::c_void;
        if !ours || libc::mmap(here, page, libc::PROT_READ, flags, -1, 0) == libc::MAP_FAILED {
            // The fault comes again, with its default effect.
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
        *errno = saved;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_is_zeros_and_not_a_signal() {
        let page = rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &vec![7; 3 * page + 5]).unwrap();
        let map = Map::new(&file, 3 * page as u64 + 5).unwrap();
        assert_eq!((map.bytes()[0], map.bytes()[3 * page + 4], map.bytes().len()), (7, 7, 3 * page + 5));
        file.set_len(page as u64).unwrap();
        assert_eq!((map.bytes()[page - 1], map.bytes()[page], map.bytes()[3 * page + 4]), (7, 0, 0));
        drop(map);
        // Slots are used again.
        for _ in 0..2 * MOST {
            assert_eq!(Map::new(&file, 1).unwrap().bytes(), [7]);
        }
        assert_eq!(Map::new(&file, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
