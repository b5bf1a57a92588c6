//! What the user wants, resolved: the input of [`crate::Backend::open`].

use crate::event::EventGroup;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Processes with all their threads, rescanned until none is missing.
    Processes(Vec<u32>),
    /// Single threads.
    Threads(Vec<u32>),
    /// A command that `xprof` has forked and that waits to exec: the pid; events are enabled by the exec.
    Command(u32),
    /// Every task on the CPUs of [`Plan::cpus`].
    System,
    /// Tasks of cgroups (path below the cgroup root, per event group in order; one for all), on the CPUs.
    Cgroups(Vec<String>),
    /// Domains of a Xen host, seen from dom0.
    Domains(DomainTarget),
}

/// Which domains of a Xen host, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainTarget {
    /// Ids, names or UUIDs; empty: all, those that appear later too.
    pub which: Vec<String>,
    /// A domain is paused while its stack is read.
    pub consistent: bool,
    /// Time that vCPUs waited for a pCPU is sampled too.
    pub waiting: bool,
    /// The whole host: what its pCPUs did when no domain had them is told too, and of Domain-0 only how long it ran, because
    /// its own kernel tells the rest.
    pub host: bool,
}

/// What tells of a Xen host's domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    /// The registers of their vCPUs, at every tick. How long each ran is asked either way.
    pub context: bool,
    /// Xen's own trace of its scheduler: exactly when each vCPU ran, waited for a pCPU, and slept.
    pub trace: bool,
    /// Counters of the whole host, which Xen lends dom0 in the vPMU's mode all. The trace says whose their samples are, so it is read too.
    pub vpmu: bool,
}

impl Default for Sources {
    /// What changes nothing on the host.
    fn default() -> Sources {
        Sources { context: true, trace: false, vpmu: false }
    }
}

/// How often a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Samples per second per CPU (or thread), Hz; clamped to `perf_event_max_sample_rate` with a note.
    Frequency(u64),
    /// `perf_event_max_sample_rate`.
    MaxFrequency,
    /// One sample each N events.
    Period(u64),
}

/// How call chains are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallGraph {
    /// Not at all.
    None,
    /// Frame pointers, by the kernel (on arm64 also the link register, for the leaf's caller).
    FramePointers,
    /// Kernel half by the kernel; of the user half the registers and a copy of the stack, `size` bytes of it (a multiple
    /// of 8, at most 65,528), for whoever unwinds it.
    StackCopies {
        /// Bytes.
        size: u32,
        /// The copies stay in the recording: perf, which then unwinds them, wants to know of data mappings too.
        kept: bool,
    },
    /// Kernel half by the kernel; of the user half the calls that the CPU itself keeps (LBR in its call-stack mode), for
    /// whoever reads the recording. Events that are no counters of a CPU have frame pointers.
    CallsOfTheCpu,
}

impl CallGraph {
    /// Bytes that call chains add to a sample, at most.
    pub fn copied(self) -> u32 {
        if let CallGraph::StackCopies { size, .. } = self { size } else { 0 }
    }
}

/// A recording to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Events, in groups; empty means the default event.
    pub events: Vec<EventGroup>,
    /// What is measured.
    pub target: Target,
    /// CPUs to open on (`-C`); `None` for all online ones.
    pub cpus: Option<Vec<u32>>,
    /// Rate for events that do not say their own.
    pub rate: Rate,
    /// True when the user named the rate: tracepoints and breakpoints then have it too, and not a period of 1.
    pub rate_is_asked: bool,
    /// Call chains.
    pub call_graph: CallGraph,
    /// Tasks are sampled when they leave their CPU, too, and told of when they come back
    /// ([`xprof_perfdata::events::OFF_CPU_EVENT`]).
    pub off_cpu: bool,
    /// Of domains: where it is known from what they did.
    pub sources: Sources,
    /// Children are measured too.
    pub inherit: bool,
    /// Pages of one ring's data area, a power of two; `None`: the default within the mlock limit.
    pub mmap_pages: Option<usize>,
    /// `CLOCK_*`; `None` for perf's default.
    pub clockid: Option<i32>,
    /// Rings are overwritten until [`crate::Session::snapshot`].
    pub overwrite: bool,
    /// Events start disabled; [`crate::Session::enable`] turns them on (`-D`, `--control`).
    pub start_disabled: bool,
    /// Records say whose they are even where there is a single event: another session's stand beside them.
    pub with_ids: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            events: Vec::new(),
            target: Target::System,
            cpus: None,
            rate: Rate::Frequency(997),
            rate_is_asked: false,
            call_graph: CallGraph::None,
            off_cpu: false,
            sources: Sources::default(),
            inherit: true,
            mmap_pages: None,
            clockid: None,
            overwrite: false,
            start_disabled: false,
            with_ids: false,
        }
    }
}
