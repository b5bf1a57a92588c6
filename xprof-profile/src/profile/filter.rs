//! Which samples a report is about.

use xprof_perfdata::sample::SampleView;

/// Nanoseconds on the recording's clock, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First instant, ns.
    pub from: u64,
    /// Last instant, ns.
    pub to: u64,
}

/// Which samples are counted; an empty list lets everything through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Time ranges.
    pub times: Vec<TimeRange>,
    /// Processes.
    pub pids: Vec<u32>,
    /// Threads.
    pub tids: Vec<u32>,
    /// CPUs.
    pub cpus: Vec<u32>,
    /// Names of threads.
    pub comms: Vec<String>,
    /// Short names or paths of modules.
    pub dsos: Vec<String>,
    /// Functions.
    pub symbols: Vec<String>,
    /// Paths of cgroups.
    pub cgroups: Vec<String>,
    /// Domains, by id, name or UUID.
    pub domains: Vec<String>,
}

impl Filter {
    /// What the sample alone decides (time, pid, tid, CPU).
    #[inline]
    pub fn takes(&self, sample: &SampleView<'_>) -> bool {
        let takes_all = self.times.is_empty() && self.pids.is_empty() && self.tids.is_empty() && self.cpus.is_empty();
        takes_all || self.takes_this(sample)
    }

    fn takes_this(&self, sample: &SampleView<'_>) -> bool {
        let one_of = |list: &[u32], value| list.is_empty() || list.contains(&value);
        (self.times.is_empty() || self.times.iter().any(|t| (t.from..=t.to).contains(&sample.time())))
            && one_of(&self.pids, sample.pid())
            && one_of(&self.tids, sample.tid())
            && one_of(&self.cpus, sample.cpu())
    }

    /// True when one of `names` is asked for, or none is.
    pub fn names(list: &[String], names: &[&str]) -> bool {
        list.is_empty() || list.iter().any(|wanted| names.contains(&wanted.as_str()))
    }
}
