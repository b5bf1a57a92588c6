//! What comes from outside while a recording runs: signals and the commands of `--control`, as events of one channel.
//!
//! One thread sleeps in poll on all descriptors, so that the recording's loop waits for a single kind of thing.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use xprof_backend::sys::inherited;
use xprof_backend::sys::signal::{Signal, Signals};

use super::values;

/// Longest line of a command, bytes; the rest of a longer one is dropped.
const LINE_MAX: usize = 1024;

/// Something came from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A signal.
    Signal(Signal),
    /// A command of `--control`.
    Command(Command),
    /// A line of `--control` that is no command.
    Unknown(String),
}

/// Commands of `--control`, as perf knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Count.
    Enable,
    /// Do not count.
    Disable,
    /// What SIGUSR2 does.
    Snapshot,
    /// End the recording.
    Stop,
    /// Only answer.
    Ping,
}

/// The thread that listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    /// What came.
    pub(crate) events: Receiver<Event>,
    answers: Option<fs::File>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// The two ends of `--control`.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    commands: Option<fs::File>,
    answers: Option<fs::File>,
}

impl Ends {
    /// Opens what `--control` names.
    pub(crate) fn open(control: &values::Control) -> anyhow::Result<Ends> {
        match control {
            values::Control::Fds(commands, answers) => {
                let open = |fd: i32| -> anyhow::Result<fs::File> {
                    let copy = inherited::duplicate(fd).with_context(|| format!("--control: descriptor {fd}"))?;
                    Ok(copy.into())
                };
                Ok(Ends { commands: Some(open(*commands)?), answers: answers.map(open).transpose()? })
            }
            values::Control::Fifos(commands, answers) => {
                // Open for both directions, a FIFO needs no other side to be opened and never ends.
                let open = |path: &Path| {
                    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
                    let file = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
                    file.with_context(|| format!("--control: cannot open {}", path.display()))
                };
                Ok(Ends { commands: Some(open(commands)?), answers: answers.as_deref().map(open).transpose()? })
            }
        }
    }
}

impl Listener {
    /// Starts to listen.
    pub(crate) fn start(signals: Signals, ends: Ends) -> anyhow::Result<Listener> {
        let (sender, events) = bounded(64);
        let wake = eventfd(0, EventfdFlags::CLOEXEC).context("cannot make an eventfd")?;
        let woken = wake.try_clone().context("cannot copy a descriptor")?;
        let commands = ends.commands;
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || listen(signals, commands, &woken, &sender))
            .context("cannot start a thread")?;
        Ok(Listener { events, answers: ends.answers, wake, thread: Some(thread) })
    }

    /// Answers a command.
    pub(crate) fn acknowledge(&mut self) {
        if let Some(answers) = &mut self.answers {
            // Nobody may be listening: a full or closed pipe is no reason to end a recording.
            let _ = answers.write_all(b"ack\n");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(signals: Signals, mut commands: Option<fs::File>, wake: &OwnedFd, out: &Sender<Event>) {
    let Some(signal_fd) = signals.fd() else { return };
    let mut lines = Lines::default();
    loop {
        let (woken, signalled, ready) = {
            let mut fds = vec![PollFd::new(wake, PollFlags::IN), PollFd::from_borrowed_fd(signal_fd, PollFlags::IN)];
            fds.extend(commands.as_ref().map(|c| PollFd::from_borrowed_fd(c.as_fd(), PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            let any = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
            (any(0), any(1), any(2))
        };
        if woken {
            return;
        }
        while signalled && let Some(signal) = signals.next() {
            if out.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
        if ready && let Some(file) = &mut commands {
            let mut buffer = [0; 512];
            match file.read(&mut buffer) {
                Ok(0) => commands = None,
                Ok(n) => {
                    for event in lines.take(buffer.get(..n).unwrap_or_default()) {
                        if out.send(event).is_err() {
                            return;
                        }
                    }
                }
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) => {}
                Err(_) => commands = None,
            }
        }
    }
}

/// Lines out of a stream.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            // perf's own clients end a command with a zero byte as well.
            if byte == b'\n' || byte == 0 {
                events.extend(command(&self.partial));
                self.partial.clear();
            } else if self.partial.len() < LINE_MAX {
                self.partial.push(byte);
            }
        }
        events
    }
}

fn command(line: &[u8]) -> Option<Event> {
    let text = line.trim_ascii();
    let command = match text {
        b"" => return None,
        b"enable" => Command::Enable,
        b"disable" => Command::Disable,
        b"snapshot" => Command::Snapshot,
        b"stop" => Command::Stop,
        b"ping" => Command::Ping,
        _ => return Some(Event::Unknown(String::from_utf8_lossy(text).into_owned())),
    };
    Some(Event::Command(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_in_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"ena"), []);
        assert_eq!(lines.take(b"ble\nping\n\nst"), [Event::Command(Command::Enable), Event::Command(Command::Ping)]);
        assert_eq!(lines.take(b"op\ndance\n"), [Event::Command(Command::Stop), Event::Unknown("dance".into())]);
        assert_eq!(lines.take(&[b'x'; 5000]), []);
        assert_eq!(lines.take(b"\nsnapshot\n").len(), 2);
    }
}
