//! `xprof record`: its options. What they mean is decided in [`crate::record::plan`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use xprof_backend::plan::Sources;

use crate::Global;
use crate::record::{self, values};

/// Options of `xprof record`, as they were typed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Without a command and without -p, -t, -a, -C or -G the whole machine is recorded until Ctrl-C.\n\
A command beside -a, -C, -G, -p or -t only says how long: the recording ends with it.\n\
The exit status is the command's own (128 + N when signal N ended it); 125: xprof failed; \
126, 127: the command could not be executed, or was not found.")]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Write the stack copies themselves, as perf does, not the call chains made of them
    #[arg(long)]
    pub(crate) keep_stacks: bool,
    /// Start measuring after MS milliseconds; -1: not before --control says so
    #[arg(short = 'D', long, value_name = "MS", value_parser = values::delay, allow_hyphen_values = true)]
    pub(crate) delay: Option<i64>,
    /// Compress with zstd at this level [default level: 1]
    #[arg(
        short = 'z',
        long = "compression-level",
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = clap::value_parser!(i32).range(1..=22)
    )]
    pub(crate) compression: Option<i32>,
    /// Clock of the samples: monotonic, monotonic_raw, boottime, realtime, tai [default: perf's own]
    #[arg(short = 'k', long = "clockid", value_name = "CLOCK", value_parser = values::clock)]
    pub(crate) clock: Option<i32>,
    /// Begin a new file on SIGUSR2 (signal), or at a size (100M), or after a time (30s)
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "signal",
        value_parser = values::switch
    )]
    pub(crate) switch_output: Option<values::Switch>,
    /// Keep only the newest samples; write what the rings hold on SIGUSR2 and at the end
    #[arg(long, conflicts_with_all = ["domain", "all_domains", "sources"])]
    pub(crate) overwrite: bool,
    /// Take commands (enable, disable, snapshot, stop, ping) from here: fd:N[,ACK], fifo:PATH[,ACK]
    #[arg(long, value_name = "WHERE", value_parser = values::control)]
    pub(crate) control: Option<values::Control>,
    /// File to write; - is stdout, in perf's pipe format [default: perf.data, an older one becomes perf.data.old]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print the report when done
    #[arg(long)]
    pub(crate) report: bool,
    /// The command to record, and its arguments
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// What is sampled, how often, and where: the same for every command that samples.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Sampling {
    /// Events, as perf names them; may be given several times [default: cycles, else cpu-clock]
    #[arg(short, long = "event", value_name = "EVENTS")]
    pub(crate) events: Vec<String>,
    /// Samples per second, or max [default: 997; of domains 97, without registers 2]
    #[arg(short = 'F', long = "freq", value_name = "HZ", value_parser = values::frequency, conflicts_with = "count")]
    pub(crate) frequency: Option<values::Frequency>,
    /// One sample each PERIOD events
    #[arg(short, long, value_name = "PERIOD", value_parser = values::period)]
    pub(crate) count: Option<u64>,
    /// Record call stacks, the best there are: the largest copies of the stack, unwound while recording by call frame
    /// information, or by frame pointers in code that has none; where all code that is mapped at the start keeps frame
    /// pointers, these alone
    #[arg(short = 'g')]
    pub(crate) stacks: bool,
    /// Record call stacks by this method: fp (frame pointers), dwarf[,BYTES] (copies of the stack, of 32 KiB, unwound at once),
    /// lbr (the calls that the CPU keeps, where it does: Intel's since Haswell; user space, 8 to 32 of them)
    #[arg(long, value_name = "MODE", value_parser = values::call_graph)]
    pub(crate) call_graph: Option<values::CallGraphMode>,
    /// Processes with all their threads
    #[arg(short, long = "pid", value_name = "PID,..", value_parser = values::ids, conflicts_with_all = ["threads", "all", "cgroup"])]
    pub(crate) processes: Option<values::Numbers>,
    /// Single threads
    #[arg(short, long = "tid", value_name = "TID,..", value_parser = values::ids, conflicts_with_all = ["all", "cgroup"])]
    pub(crate) threads: Option<values::Numbers>,
    /// Everything that runs on any CPU
    #[arg(short, long = "all-cpus")]
    pub(crate) all: bool,
    /// Only these CPUs (alone: everything that runs on them)
    #[arg(short = 'C', long = "cpu", value_name = "CPUS", value_parser = values::cpus)]
    pub(crate) cpus: Option<values::Numbers>,
    /// Only tasks of these control groups (paths below the cgroup root)
    #[arg(short = 'G', long, value_name = "CGROUP,..", value_delimiter = ',')]
    pub(crate) cgroup: Vec<String>,
    /// These domains of the Xen host, from dom0: ids, names or UUIDs
    #[arg(long, value_name = "DOMAIN,..", value_delimiter = ',', conflicts_with_all = ["processes", "threads", "all", "cpus", "cgroup", "events", "count"])]
    pub(crate) domain: Vec<String>,
    /// Every domain of the Xen host, those that appear later too
    #[arg(long, conflicts_with_all = ["domain", "processes", "threads", "all", "cpus", "cgroup", "events", "count"])]
    pub(crate) all_domains: bool,
    /// What tells of domains: context (where their vCPUs are, from outside), trace (exactly when they ran, waited and slept: Xen's
    /// own trace, whose memory stays until the host reboots), vpmu (with -a: counters of the whole host, in the vPMU's mode all; which
    /// domain a sample is of is told by the trace, which is recorded too) [default: context]
    #[arg(long = "source", value_name = "SOURCE,..", value_parser = values::sources)]
    pub(crate) sources: Option<Sources>,
    /// Pause a domain while its stack is read (10 ms at most), for stacks that are of one moment
    #[arg(long)]
    pub(crate) consistent: bool,
    /// Record where and how long tasks wait, too, as the event off-cpu (with --domain or --all-domains: how long vCPUs wait for
    /// a pCPU)
    #[arg(long)]
    pub(crate) off_cpu: bool,
    /// End after this many seconds; a command that still runs is ended, and that is no failure
    #[arg(short, long, value_name = "SECS", value_parser = values::seconds)]
    pub(crate) duration: Option<Duration>,
    /// Leave the children of the target out
    #[arg(short = 'i', long)]
    pub(crate) no_inherit: bool,
    /// Size of each ring: pages, or bytes with a suffix (K, M, G)
    #[arg(short, long, value_name = "PAGES", value_parser = values::ring_size)]
    pub(crate) mmap_pages: Option<values::RingSize>,
    /// Where samples come from: auto, native, xen, replay:FILE, simulated[:seed=N,seconds=S,cpus=N,family=NAME,..]
    #[arg(long, value_name = "BACKEND", value_parser = values::backend, default_value = "auto")]
    pub(crate) backend: values::BackendChoice,
}

/// Runs `xprof record`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let recording = record::plan::resolve(options, &|text| Ok(xprof_backend::event::parse(text)?))?;
    let report = recording.report.then(|| recording.file.path.clone()).flatten();
    let code = record::run(recording, global)?;
    if let Some(path) = report {
        crate::report_on(&path, global)?;
    }
    Ok(code)
}
