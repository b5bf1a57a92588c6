//! Exit statuses (125 xprof failed, 126 not executable, 127 not found, 2 usage), and the one place that prints errors.

use std::fmt;
use std::io;
use std::process::ExitCode;

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
            eprintln!("xprof: {error:#}");
            let status = error.chain().find_map(|e| e.downcast_ref::<Failure>()).map_or(FAILED, |f| f.status);
            ExitCode::from(status)
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
