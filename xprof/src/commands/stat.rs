//! `xprof stat`: its options. The counting is in [`crate::stat`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::commands::msr::{BackendChoice, backend};
use crate::record::values;
use crate::{Global, stat};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table.
    Text,
    /// One JSON document.
    Json,
    /// One line for each count.
    Csv,
}

/// Options of `xprof stat`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a command the counting ends with Ctrl-C, or with the processes of -p.\n\
A command beside -a, -C or -p only says how long.\n\
The exit status is the command's own (128 + N when signal N ended it); 125: xprof failed; \
126, 127: the command could not be executed, or was not found.")]
pub(crate) struct Options {
    /// Events, as perf names them; may be given several times
    /// [default: task-clock, context-switches, cpu-migrations, page-faults, cycles, instructions, branches, branch-misses]
    #[arg(short, long = "event", value_name = "EVENTS")]
    pub(crate) events: Vec<String>,
    /// Everything that runs on any CPU
    #[arg(short, long = "all-cpus")]
    pub(crate) all: bool,
    /// Only these CPUs (alone: everything that runs on them)
    #[arg(short = 'C', long = "cpu", value_name = "CPUS", value_parser = values::cpus)]
    pub(crate) cpus: Option<values::Numbers>,
    /// Processes with all their threads
    #[arg(short, long = "pid", value_name = "PID,..", value_parser = values::ids, conflicts_with = "all")]
    pub(crate) processes: Option<values::Numbers>,
    /// Single threads
    #[arg(short, long = "tid", value_name = "TID,..", value_parser = values::ids, conflicts_with_all = ["all", "processes"])]
    pub(crate) threads: Option<values::Numbers>,
    /// Show every CPU by itself (with -a or -C)
    #[arg(short = 'A', long)]
    pub(crate) no_aggr: bool,
    /// Leave the children of the target out
    #[arg(short = 'i', long)]
    pub(crate) no_inherit: bool,
    /// Run the command (or the simulated machine) N times; show the mean of each count, and its spread (the standard error of the mean)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: Option<u32>,
    /// Show what was counted in each interval of MS milliseconds
    #[arg(short = 'I', long = "interval-print", value_name = "MS", value_parser = interval, conflicts_with = "repeat")]
    pub(crate) interval: Option<Duration>,
    /// Count caches as well; -dd: TLBs; -ddd: prefetches
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) detailed: u8,
    /// End after this many seconds
    #[arg(long, value_name = "SECS", value_parser = values::seconds)]
    pub(crate) duration: Option<Duration>,
    /// Write the counts to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The lines of `perf stat -x`: fields parted by SEP
    #[arg(short = 'x', long = "field-separator", value_name = "SEP", conflicts_with_all = ["format", "json_lines"])]
    pub(crate) separator: Option<String>,
    /// The lines of `perf stat -j`: one object for each count
    #[arg(short, long = "json-output", conflicts_with = "format")]
    pub(crate) json_lines: bool,
    /// What counts: native (perf), msr (the registers of whole CPUs, through /dev/cpu/N/msr), xen (those that the vPMU lends a PV dom0
    /// with one pinned vCPU for each pCPU; -C and -A are pCPUs), simulated[:OPTION=VALUE,..]
    #[arg(long, value_name = "BACKEND", value_parser = backend, default_value = "native")]
    pub(crate) backend: BackendChoice,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,
    /// The command to count, and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let answer = text.parse::<u32>().ok().filter(|ms| *ms > 0);
    answer.map(|ms| Duration::from_millis(ms.into())).ok_or_else(|| "milliseconds, at least 1".into())
}

/// Runs `xprof stat`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    stat::run(options, global)
}
