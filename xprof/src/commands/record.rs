//! `xprof record`.

use std::process::ExitCode;

use crate::Global;

/// Options of `xprof record`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {}

/// Runs `xprof record`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let _ = (options, global);
    anyhow::bail!("not written yet")
}
