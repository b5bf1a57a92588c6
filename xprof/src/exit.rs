//! Exit statuses (125 xprof failed, 126 not executable, 127 not found, 2 usage), and the one place that prints errors.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::remedy;

/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// xprof itself failed.
pub(crate) const FAILED: u8 = 125;
/// The command exists and cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist.
pub(crate) const NOT_FOUND: u8 = 127;

/// An error that has an exit status of its own.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// An error with this status.
    pub(crate) fn new(status: u8, message: impl Into<String>) -> Self {
        Failure { status, message: message.into() }
    }

    /// A command line that makes no sense, and what to type instead.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(USAGE, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Turns the result of a sub-command into an exit status; prints the error. A broken pipe is success.
pub(crate) fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::stderr().write_all(explained(&error).as_bytes());
            ExitCode::from(status(&error))
        }
    }
}

fn status(error: &anyhow::Error) -> u8 {
    let of = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref::<xprof_backend::Error>() {
        // What was written after -e makes no sense on this machine.
        Some(xprof_backend::Error::Event { .. }) => Some(USAGE),
        _ => e.downcast_ref::<Failure>().map(|f| f.status),
    };
    error.chain().find_map(of).unwrap_or(FAILED)
}

/// The error, and below it the place in the event's text, or its cause and the next command.
fn explained(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let backend = error.chain().find_map(|e| e.downcast_ref::<xprof_backend::Error>());
    if let Some(xprof_backend::Error::Event { text: event, at, problem }) = backend {
        let column = event.get(..*at).map_or(0, |before| before.chars().count());
        let _ = writeln!(text, "xprof: {problem}\n  -e {event}\n     {:column$}^", "");
        return text;
    }
    let _ = writeln!(text, "xprof: {}", sentence(error));
    let registers = error.chain().find_map(|e| e.downcast_ref::<xprof_backend::msr::Error>());
    let system = || error.chain().find_map(|e| e.downcast_ref::<io::Error>()).and_then(remedy::of_files);
    let advice = backend.and_then(remedy::of).or_else(|| registers.and_then(remedy::of_registers)).or_else(system);
    if let Some(advice) = advice {
        let _ = writeln!(text, "  cause: {}\n  try:   {}", advice.cause, advice.next);
    }
    text
}

/// The chain of causes, each said once: our own errors already name the system's answer.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            let _ = write!(text, ": {cause}");
        }
    }
    text
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused = || io::Error::from_raw_os_error(2);
        let ours = anyhow::Error::new(xprof_backend::Error::os("open x", refused())).context("cannot record");
        assert_eq!(sentence(&ours), format!("cannot record: cannot open x: {}", refused()));
        let plain = anyhow::Error::new(refused()).context("cannot open y");
        assert_eq!(sentence(&plain), format!("cannot open y: {}", refused()));
    }
}
