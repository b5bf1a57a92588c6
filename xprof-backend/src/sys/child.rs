//! A command that is forked first and executed later: events are opened on its pid while it waits, so that the
//! first instruction of the command is already measured, and a failed set-up never starts it.
//!
//! Between fork and exec only async-signal-safe calls are made, on memory prepared before the fork.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::{fs, ptr};

use rustix::process::{Pid, WaitOptions, WaitStatus};

use super::signal::Signals;

/// A forked child that has not executed its command. Dropping it ends the child without running the command.
#[derive(Debug)]
pub struct Waiting {
    pid: Pid,
    /// One byte lets it go; closing it ends it.
    go: Option<fs::File>,
    /// Gives the errno of a failed exec; end of file after a good one.
    failed: fs::File,
}

/// Forks a child that waits to execute `argv` (looked up in PATH). `signals` are unblocked again in the child.
pub fn fork_waiting(argv: &[OsString], signals: Option<&Signals>) -> io::Result<Waiting> {
    let strings = argv
        .iter()
        .map(|a| CString::new(a.clone().into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    if strings.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no command"));
    }
    let mut pointers: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
    pointers.push(ptr::null());
    let (go_read, go_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (failed_read, failed_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mask = signals.map(Signals::previous_mask);

    // SAFETY: the child runs only `exec_when_told`, which makes async-signal-safe calls alone and never returns.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: we are the child of a fork; `pointers` is a null-terminated array of C strings that live in
        // `strings`, and the descriptors are open.
        0 => unsafe {
            exec_when_told(&pointers, go_read.as_raw_fd(), go_write.as_raw_fd(), failed_write.as_raw_fd(), mask)
        },
        pid => {
            let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork gave no pid"))?;
            Ok(Waiting { pid, go: Some(fs::File::from(go_write)), failed: fs::File::from(failed_read) })
        }
    }
}

/// The child's side.
///
/// # Safety
/// Only in the child right after fork; `argv` is a null-terminated array of C strings.
unsafe fn exec_when_told(
    argv: &[*const libc::c_char],
    go: RawFd,
    go_write: RawFd,
    failed: RawFd,
    mask: Option<libc::sigset_t>,
) -> ! {
    // SAFETY: async-signal-safe calls on our own descriptors and on memory prepared before the fork.
    unsafe {
        // The parent's end must not keep our own pipe open: its end of file is the order to give up.
        libc::close(go_write);
        let mut byte = 0u8;
        loop {
            let n = libc::read(go, ptr::from_mut(&mut byte).cast(), 1);
            if n == 1 {
                break;
            }
            if n == 0 || *libc::__errno_location() != libc::EINTR {
                libc::_exit(125);
            }
        }
        // Rust ignores SIGPIPE; the command expects the default.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if let Some(mask) = mask {
            libc::sigprocmask(libc::SIG_SETMASK, &mask, ptr::null_mut());
        }
        libc::execvp(argv[0], argv.as_ptr());
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(failed, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

impl Waiting {
    /// The pid that the command will have.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Executes the command. Returns when that has happened; the error is that of `execvp`.
    pub fn exec(mut self) -> io::Result<Pid> {
        let pid = self.pid;
        if let Some(mut go) = self.go.take() {
            go.write_all(&[1])?;
        }
        let mut errno = [0; 4];
        match self.failed.read_exact(&mut errno) {
            Ok(()) => {
                reap(pid);
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(pid),
            Err(e) => Err(e),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.go.take().is_some() {
            reap(self.pid);
        }
    }
}

/// Waits for a child that ends by itself.
fn reap(pid: Pid) {
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
}

/// The exit status of a child that has ended, as a shell says it: its own, or 128 + signal. `None` while it runs.
pub fn try_status(pid: Pid) -> io::Result<Option<u8>> {
    let status = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::NOHANG))?;
    Ok(status.map(|(_, status)| shell_status(status)))
}

fn shell_status(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 125,
    };
    u8::try_from(code & 0xff).unwrap_or(125)
}

/// Our own descriptor for one that this process was started with (`--control fd:3`).
pub fn inherited_fd(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC touches no memory; a bad number is an error.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pid: Pid) -> u8 {
        loop {
            if let Some(status) = try_status(pid).unwrap() {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn run(argv: &[&str]) -> io::Result<u8> {
        let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
        fork_waiting(&argv, None)?.exec().map(wait)
    }

    #[test]
    fn statuses_are_the_shells() {
        assert_eq!(run(&["true"]).unwrap(), 0);
        assert_eq!(run(&["sh", "-c", "exit 41"]).unwrap(), 41);
        assert_eq!(run(&["sh", "-c", "kill -TERM $$"]).unwrap(), 128 + 15);
    }

    #[test]
    fn a_failed_exec_says_why() {
        assert_eq!(run(&["/no/such/command"]).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(run(&["/etc/passwd"]).unwrap_err().raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn a_dropped_child_never_ran() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let argv = ["touch".into(), mark.clone().into_os_string()];
        let waiting = fork_waiting(&argv, None).unwrap();
        let pid = waiting.pid();
        drop(waiting);
        assert!(!mark.exists());
        assert!(rustix::process::test_kill_process(pid).is_err(), "it is reaped");
    }
}
