//! The command: forked before events are opened, executed after, and its end as an exit status.

use std::ffi::OsString;
use std::io;

use xprof_backend::sys::process::{self, Child, Ended, Waiting};

use crate::exit::{self, Failure};

/// Forks the command; it waits. `to_stderr`: what it prints goes there, because standard output is a recording.
pub(crate) fn fork(command: &[OsString], to_stderr: bool) -> Result<Waiting, Failure> {
    process::prepare(command, to_stderr).map_err(|e| Failure::new(exit::FAILED, format!("cannot start a process: {e}")))
}

/// Executes the command.
pub(crate) fn execute(waiting: Waiting, command: &[OsString]) -> Result<Child, Failure> {
    waiting.go().map_err(|error| {
        let name = command.first().map(|c| c.to_string_lossy().into_owned()).unwrap_or_default();
        let (status, answer) = match error.kind() {
            io::ErrorKind::NotFound => (exit::NOT_FOUND, "not found".to_string()),
            _ => (exit::NOT_EXECUTABLE, error.to_string()),
        };
        Failure::new(status, format!("cannot execute {name}: {answer}"))
    })
}

/// The exit status of a shell for a command that ended so.
pub(crate) fn status(ended: Ended) -> u8 {
    let code = match ended {
        Ended::Exit(code) => code,
        Ended::Signal(signal) => 128 + signal,
    };
    (code & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_shells() {
        assert_eq!(status(Ended::Exit(0)), 0);
        assert_eq!(status(Ended::Exit(255)), 255);
        assert_eq!(status(Ended::Signal(15)), 143);
        assert_eq!(status(Ended::Signal(9)), 137);
    }
}
