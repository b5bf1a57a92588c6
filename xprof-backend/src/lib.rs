//! Where samples come from: backends behind one trait, cut by lifecycle.
//!
//! `probe` says what is possible here, `open` turns a [`Plan`] into a [`Session`] with everything set up and nothing
//! running, `Session::start` lets it run, its channel hands over whole buffers, `stop` ends it.
//!
//! * [`plan`]: what the user wants, resolved: events, targets, rate, options.
//! * [`event`]: event names of perf's grammar, PMUs in sysfs, tracepoints.
//! * [`machine`]: the roots of procfs, sysfs and tracefs.
//! * [`counters`]: counting without samples.
//! * [`msr`]: the `xen_msr_*` contract on performance and debug registers.
//! * [`native`]: `perf_event_open`: the fallback ladder, rings, workers.
//! * [`proc`]: what /proc and /sys say: running processes as records, the machine, the kernel's own maps.
//! * [`xen`]: a Xen host seen from dom0.
//! * [`simulated`]: a machine that is not there, behind the same traits.
//! * [`sys`]: the only unsafe code: system calls, rings, file windows, signals.

pub mod counters;
pub mod error;
pub mod event;
pub mod machine;
pub mod msr;
pub mod native;
pub mod plan;
pub mod proc;
pub mod replay;
pub mod simulated;
pub mod sys;
pub mod xen;

pub use error::{Error, Result};

use crossbeam_channel::Receiver;
use xprof_perfdata::domain::{Domain, Domains};
use xprof_perfdata::events::Events;

use plan::Plan;

/// Whether a backend can record here, and if not, why and what would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Yes,
    /// It cannot.
    No {
        /// The true cause, one sentence.
        reason: String,
        /// The next command to type.
        remedy: String,
    },
}

/// A source of samples.
pub trait Backend {
    /// Name on the command line.
    fn name(&self) -> &'static str;
    /// Can it record here?
    fn probe(&self) -> Availability;
    /// Sets everything up; nothing is counted yet.
    fn open(&self, plan: &Plan) -> Result<Box<dyn Session>>;
}

/// Whole records out of one ring, undecoded.
#[derive(Debug, Default)]
pub struct Drained {
    /// Which ring; dense from 0, stable over the session.
    pub ring: u32,
    /// Whole records, in ring order.
    pub bytes: Vec<u8>,
    /// ns on the session's clock, read before the ring's head was: every record of this ring older than this
    /// has been handed over.
    pub until: u64,
}

/// What a worker sends.
#[derive(Debug)]
pub enum Message {
    /// Bytes of a ring (possibly none: then only `until` moves).
    Drained(Drained),
    /// Something the user should be told, once.
    Note(String),
    /// Every target is gone: nothing more will come.
    TargetsGone,
    /// A domain appeared, was renamed, or is gone.
    Domain(Box<Domain>),
    /// Facts of a Xen host, which replace those of the same keys.
    Facts(Vec<(String, String)>),
    /// A worker failed; the session goes on with the others.
    Failed(Error),
}

/// What a session is, for whoever writes or reads its records.
#[derive(Clone, Debug)]
pub struct Description {
    /// Events with attrs as the kernel accepted them, names and ids.
    pub events: Events,
    /// `CLOCK_*` of the record times; `None` for perf's default clock (local_clock).
    pub clockid: Option<i32>,
    /// Number of rings.
    pub rings: u32,
    /// Bytes of one ring's data area.
    pub ring_bytes: usize,
    /// What was asked for and could not be had (fallbacks), one sentence each.
    pub notes: Vec<String>,
    /// Whole records that a recording must begin with: the ID_INDEX of domains, and their names.
    pub head: Vec<u8>,
    /// The Xen host and its domains, where they are sampled.
    pub domains: Option<Domains>,
}

/// A program or kernel that exists in a recording only, for the symbol cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Path, as in the MMAP2 records.
    pub path: Vec<u8>,
    /// Build id, as in the MMAP2 records.
    pub build_id: Vec<u8>,
    /// A kernel's: `file` is its list of symbols (kallsyms), not ELF.
    pub kernel: bool,
    /// The file.
    pub file: Vec<u8>,
}

/// Totals of a session that has stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples lost per event index, as `PERF_FORMAT_LOST` says where the kernel supports it.
    pub lost: Option<Vec<u64>>,
    /// Wake-ups of the workers.
    pub wakeups: u64,
    /// CPUs that went away during the run.
    pub cpus_gone: Vec<u32>,
    /// Hardware events, by index, that could be read at the end and had counted nothing.
    pub silent: Vec<usize>,
}

/// An open set of events.
pub trait Session: Send {
    /// What it is.
    fn describe(&self) -> &Description;
    /// Programs and kernels that no path of this machine leads to. When there are any, nothing that the session tells
    /// of is this machine's.
    fn images(&self) -> &[Image] {
        &[]
    }
    /// Lets the events count and starts the workers. With `enable_on_exec` in the plan the kernel does the first part.
    fn start(&mut self) -> Result<()>;
    /// Where buffers arrive. Bounded: a slow receiver makes the rings fill, never memory.
    fn messages(&self) -> &Receiver<Message>;
    /// Gives a used buffer back, for its memory.
    fn recycle(&self, buffer: Vec<u8>);
    /// Stops or resumes counting (`--control`, `-D`).
    fn enable(&mut self, on: bool) -> Result<()>;
    /// Overwrite mode: pauses the rings, hands over what they hold, resumes.
    fn snapshot(&mut self) -> Result<()>;
    /// Stops counting, drains what is left into the channel, ends the workers. After it the channel runs dry and closes.
    fn stop(&mut self) -> Result<Stats>;
}
