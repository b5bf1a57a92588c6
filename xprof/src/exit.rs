//! Exit statuses (125 xprof failed, 126 not executable, 127 not found, 2 usage), and the one place that prints errors.

use std::io;
use std::process::ExitCode;

/// xprof itself failed.
pub(crate) const FAILED: u8 = 125;
/// The command exists and cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command does not exist.
pub(crate) const NOT_FOUND: u8 = 127;

/// Turns the result of a sub-command into an exit status; prints the error. A broken pipe is success.
pub(crate) fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xprof: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
