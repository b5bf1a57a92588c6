//! `xprof export`: a recording in the form of another program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::export::Job;
use crate::reading::Reading;
use crate::{Global, input};

/// Options of `xprof export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording (`-`: standard input)
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    pub(crate) input: PathBuf,
    /// The form to write
    #[arg(long, value_name = "FORM")]
    pub(crate) to: Form,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Only this event [default: all; for folded, firefox and chrome the first that has samples]
    #[arg(short, long, value_name = "EVENT")]
    pub(crate) event: Option<String>,
    /// Leave functions that were compiled into others out of stacks
    #[arg(long)]
    pub(crate) no_inline: bool,
    #[command(flatten)]
    pub(crate) reading: Reading,
}

/// `--to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// One line a stack, for flame graph programs: comm;outermost;..;leaf PERIOD (domain;vCPU_N; in front, where there are domains)
    Folded,
    /// pprof's profile.proto, compressed, for `go tool pprof` and its kin: samples and periods, labelled domain, vcpu, comm, pid, tid
    Pprof,
    /// The Firefox Profiler's JSON, for profiler.firefox.com and `samply load`: every sample at its time
    Firefox,
    /// JSON for www.speedscope.app
    Speedscope,
    /// Functions and calls, for kcachegrind and callgrind_annotate
    Callgrind,
    /// Chrome's trace events, for Perfetto and chrome://tracing: functions as spans between samples (seen read by speedscope alone)
    Chrome,
    /// The whole recording with every domain as ordinary processes, for tools that know nothing of guests
    Perf,
}

/// Runs `xprof export`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let mut job = Job { options, notes: Vec::new() };
    job.run()?;
    for note in job.notes.iter().filter(|_| !global.quiet) {
        eprintln!("xprof: {note}");
    }
    Ok(ExitCode::SUCCESS)
}
