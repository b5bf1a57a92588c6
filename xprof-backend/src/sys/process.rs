//! A command that is forked now and executed later: events are opened on it in between.
//!
//! The child waits on a pipe for the go. When the exec fails, its errno comes back on a second pipe that a successful
//! exec closes, so that the caller can tell 126 from 127. Between fork and exec only async-signal-safe calls are made.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By exit, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// A forked child that waits for [`Waiting::go`]. Dropped before that, it ends without having run anything.
#[derive(Debug)]
pub struct Waiting {
    pid: Pid,
    go: Option<OwnedFd>,
    answer: OwnedFd,
    reaped: bool,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: Option<OwnedFd>,
    ended: Option<Ended>,
}

/// Forks a child that will execute `command` (program and arguments, found in `PATH`). `to_stderr`: what it prints goes to
/// standard error, because standard output is taken.
pub fn prepare(command: &[OsString], to_stderr: bool) -> io::Result<Waiting> {
    let arguments = command
        .iter()
        .map(|argument| CString::new(argument.clone().into_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument holds a NUL byte"))?;
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|a| a.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let Some(program) = arguments.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (wait, go) = pipe_with(PipeFlags::CLOEXEC)?;
    let (answer, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let (wait_fd, go_fd, tell_fd) = (wait.as_raw_fd(), go.as_raw_fd(), tell.as_raw_fd());
    // SAFETY: the child calls only async-signal-safe functions until it execs or exits.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // SAFETY: we are the only thread of the child; descriptors and pointers were made before the fork and are
        // still valid. execvp of glibc and musl allocates nothing.
        unsafe {
            libc::close(go_fd);
            let mut byte = 0u8;
            loop {
                match libc::read(wait_fd, (&raw mut byte).cast(), 1) {
                    1 => break,
                    -1 if *libc::__errno_location() == libc::EINTR => {}
                    _ => libc::_exit(0),
                }
            }
            if to_stderr {
                libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO);
            }
            // What Rust or xprof changed for itself is not the command's business.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::execvp(program.as_ptr(), pointers.as_ptr());
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(tell_fd, errno.as_ptr().cast(), errno.len());
            libc::_exit(127);
        }
    }
    let Some(pid) = Pid::from_raw(pid) else { return Err(io::ErrorKind::InvalidData.into()) };
    Ok(Waiting { pid, go: Some(go), answer, reaped: false })
}

impl Waiting {
    /// The child's pid.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Lets the child execute its command; returns when it has, or with the error of the exec.
    pub fn go(mut self) -> io::Result<Child> {
        // Opened before the child can end, and so never another process of the same number.
        let pidfd = pidfd_open(self.pid, PidfdFlags::empty()).ok();
        if let Some(go) = self.go.take() {
            rustix::io::write(&go, &[1])?;
        }
        let mut errno = [0u8; 4];
        let mut filled = 0;
        while filled < errno.len() {
            match rustix::io::read(&self.answer, &mut errno[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if filled == errno.len() {
            return Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)));
        }
        self.reaped = true;
        Ok(Child { pid: self.pid, pidfd, ended: None })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.go = None;
        if !self.reaped {
            let _ = wait(self.pid, WaitOptions::empty());
        }
    }
}

fn wait(pid: Pid, options: WaitOptions) -> io::Result<Option<Ended>> {
    loop {
        match waitpid(Some(pid), options) {
            Ok(None) => return Ok(None),
            Ok(Some((_, status))) => {
                if let Some(code) = status.exit_status() {
                    return Ok(Some(Ended::Exit(code)));
                }
                if let Some(signal) = status.terminating_signal() {
                    return Ok(Some(Ended::Signal(signal)));
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Child {
    /// The child's pid.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// A descriptor that polls readable when the child has ended (Linux 5.3).
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// How it ended; `None` while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<Ended>> {
        if self.ended.is_none() {
            self.ended = wait(self.pid, WaitOptions::NOHANG)?;
        }
        Ok(self.ended)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.ended {
                return Ok(ended);
            }
            self.ended = wait(self.pid, WaitOptions::empty())?;
        }
    }

    /// Asks it to end (SIGTERM); nothing when it has ended.
    pub fn terminate(&mut self) -> io::Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        match &self.pidfd {
            Some(fd) => pidfd_send_signal(fd, Signal::TERM)?,
            None => rustix::process::kill_process(self.pid, Signal::TERM)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(Into::into).collect()
    }

    #[test]
    fn a_command_runs_only_after_the_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ran");
        let words = command(&["touch", file.to_str().unwrap()]);
        let waiting = prepare(&words, false).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!file.exists());
        let mut child = waiting.go().unwrap();
        assert_eq!(child.wait().unwrap(), Ended::Exit(0));
        assert!(file.exists());
        drop(prepare(&command(&["touch", dir.path().join("never").to_str().unwrap()]), false).unwrap());
        assert!(!dir.path().join("never").exists());
    }

    #[test]
    fn the_error_of_exec_comes_back() {
        let missing = prepare(&command(&["/nonexistent/program"]), false).unwrap().go().unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
        let denied = prepare(&command(&["/etc/passwd"]), false).unwrap().go().unwrap_err();
        assert_eq!(denied.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn the_end_is_told_apart() {
        let run = |script: &str| prepare(&command(&["sh", "-c", script]), false).unwrap().go().unwrap().wait().unwrap();
        assert_eq!(run("exit 7"), Ended::Exit(7));
        assert_eq!(run("kill -9 $$"), Ended::Signal(9));
    }

    #[test]
    fn sigpipe_is_as_a_command_expects_it() {
        // Rust ignores SIGPIPE; bit 12 of SigIgn must be clear in the command.
        let script = "test $((0x$(awk '/SigIgn/{print $2}' /proc/self/status) >> 12 & 1)) = 0";
        let ended = prepare(&command(&["sh", "-c", script]), false).unwrap().go().unwrap().wait().unwrap();
        assert_eq!(ended, Ended::Exit(0));
    }
}
