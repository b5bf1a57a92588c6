//! Signals as bytes of a pipe: the one piece of global state that xprof has.
//!
//! The handler writes the signal's number to a non-blocking pipe and does nothing else; whoever waits polls the
//! other end beside its other descriptors. A full pipe drops the byte: a signal of each kind is already in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

static WRITE_END: AtomicI32 = AtomicI32::new(-1);
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

/// Signals that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt = libc::SIGINT,
    /// `kill`.
    Terminate = libc::SIGTERM,
    /// The terminal went away.
    Hangup = libc::SIGHUP,
    /// perf's request for a snapshot or for switching output.
    User2 = libc::SIGUSR2,
    /// A child ended.
    Child = libc::SIGCHLD,
    /// The terminal has a new size.
    WindowChange = libc::SIGWINCH,
}

const ALL: [Signal; 6] =
    [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::User2, Signal::Child, Signal::WindowChange];

/// The reading end of the signal pipe.
#[derive(Clone, Copy, Debug)]
pub struct Signals(());

extern "C" fn write_number(signal: libc::c_int) {
    let fd = WRITE_END.load(Ordering::Relaxed);
    // SAFETY: write(2) is async-signal-safe; the byte is on this stack; errno is put back for the interrupted code.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let byte = signal as u8;
        libc::write(fd, (&raw const byte).cast(), 1);
        *errno = saved;
    }
}

/// From now on these signals arrive in the pipe instead of having their default effect. A signal that the process
/// was started with as ignored (nohup's SIGHUP) stays ignored.
pub fn catch(signals: &[Signal]) -> io::Result<Signals> {
    if PIPE.get().is_none() {
        let pair = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let _ = PIPE.set(pair);
    }
    let Some((_, write_end)) = PIPE.get() else { return Err(io::ErrorKind::NotFound.into()) };
    WRITE_END.store(write_end.as_raw_fd(), Ordering::Relaxed);
    for &signal in signals {
        // SAFETY: sigaction with initialized structs; the handler is async-signal-safe and lives as long as the
        // program.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal as i32, std::ptr::null(), &mut old) != 0 {
                return Err(io::Error::last_os_error());
            }
            if old.sa_sigaction == libc::SIG_IGN && signal == Signal::Hangup {
                continue;
            }
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = write_number as extern "C" fn(libc::c_int) as usize;
            new.sa_flags = libc::SA_RESTART;
            libc::sigemptyset(&mut new.sa_mask);
            if libc::sigaction(signal as i32, &new, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(Signals(()))
}

/// Gives these signals their default effect back. What has arrived and was not read yet is dropped.
pub fn release(signals: &[Signal]) {
    for &signal in signals {
        // SAFETY: sigaction with initialized structs.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            let known = libc::sigaction(signal as i32, std::ptr::null(), &mut old) == 0;
            if known && old.sa_sigaction == write_number as extern "C" fn(libc::c_int) as usize {
                libc::signal(signal as i32, libc::SIG_DFL);
            }
        }
    }
}

impl Signals {
    /// Polls readable when a signal has arrived.
    pub fn fd(&self) -> Option<BorrowedFd<'static>> {
        PIPE.get().map(|(read_end, _)| read_end.as_fd())
    }

    /// The next signal that has arrived; `None` when there is none.
    pub fn next(&self) -> Option<Signal> {
        let mut byte = [0u8];
        let n = rustix::io::read(self.fd()?, &mut byte).ok()?;
        ALL.into_iter().find(|&signal| n == 1 && signal as i32 == i32::from(byte[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_a_byte() {
        let signals = catch(&[Signal::User2, Signal::WindowChange]).unwrap();
        assert_eq!(signals.next(), None);
        for signal in [rustix::process::Signal::USR2, rustix::process::Signal::WINCH] {
            rustix::process::kill_process(rustix::process::getpid(), signal).unwrap();
        }
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(signals.next());
        }
        got.sort_by_key(|&signal| signal as i32);
        assert_eq!(got, [Signal::User2, Signal::WindowChange]);
    }
}
