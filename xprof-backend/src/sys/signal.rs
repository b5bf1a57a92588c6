//! Signals as a descriptor: blocked in every thread, read where the run is controlled. No handler runs, so nothing
//! is interrupted half-way.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Signals taken from their defaults. Take them before the first thread is started: threads inherit the mask.
pub struct Signals {
    fd: OwnedFd,
    previous: libc::sigset_t,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Signals {
    /// Blocks `numbers` in the calling thread and those it will start, and opens a descriptor that reports them.
    pub fn take(numbers: &[i32]) -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set it is given, sigaddset changes it; both get a valid pointer.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &number in numbers {
                libc::sigaddset(set.as_mut_ptr(), number);
            }
            set.assume_init()
        };
        // SAFETY: both pointers are valid; `previous` is initialised when the call succeeds.
        let previous = unsafe {
            let answer = libc::pthread_sigmask(libc::SIG_BLOCK, &set, previous.as_mut_ptr());
            if answer != 0 {
                return Err(io::Error::from_raw_os_error(answer));
            }
            previous.assume_init()
        };
        // SAFETY: `set` is valid; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Signals { fd, previous })
    }

    /// The next signal that has arrived; `None` when there is none.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let mut entry = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the kernel writes at most `size` bytes into `entry`.
        let n = unsafe { libc::read(self.fd.as_raw_fd(), entry.as_mut_ptr().cast(), size) };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        if n as usize != size {
            return Ok(None);
        }
        // SAFETY: the kernel filled the whole structure.
        let entry = unsafe { entry.assume_init() };
        Ok(i32::try_from(entry.ssi_signo).ok())
    }

    /// The mask as it was before, for a child about to execute a command.
    pub(super) fn previous_mask(&self) -> libc::sigset_t {
        self.previous
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: `previous` was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.previous, std::ptr::null_mut()) };
    }
}

/// Wall-clock time in the local time zone: year, month, day, hour, minute, second, and microseconds.
pub fn local_time() -> ([i32; 6], u32) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(now.as_secs()).unwrap_or_default();
    let mut tm = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are valid; an all-zero `tm` is a valid value, should the call fail.
    let tm = unsafe {
        libc::localtime_r(&seconds, tm.as_mut_ptr());
        tm.assume_init()
    };
    ([tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec], now.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_signal_arrives_on_the_descriptor() {
        std::thread::spawn(|| {
            let signals = Signals::take(&[libc::SIGUSR2]).unwrap();
            assert_eq!(signals.next().unwrap(), None);
            // SAFETY: raises a signal that this thread has blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) };
            assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
            assert_eq!(signals.next().unwrap(), None);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn local_time_is_what_date_says() {
        let (fields, _) = local_time();
        let date = std::process::Command::new("date").arg("+%Y-%-m-%-d").output().unwrap();
        let ours = format!("{}-{}-{}", fields[0], fields[1], fields[2]);
        assert_eq!(String::from_utf8(date.stdout).unwrap().trim(), ours);
    }
}
