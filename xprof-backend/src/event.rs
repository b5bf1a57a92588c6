//! Events: perf's grammar of names, resolved against this machine's PMUs and tracepoints.

use xprof_perfdata::attr::Attr;

use crate::Result;

/// One event to open: the attr holds what the event itself decides (type, configs, exclude bits, precise_ip, own
/// period or frequency); the plan adds the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// perf's name, modifiers included.
    pub name: String,
    /// What the event decides of its attr.
    pub attr: Attr,
    /// CPUs the PMU is bound to (`cpumask`/`cpus` in sysfs); `None`: any.
    pub cpus: Option<Vec<u32>>,
    /// True when `:p` bits were written out by the user, so that they are not lowered silently.
    pub precise_is_fixed: bool,
}

/// Events opened as one group; a single event is a group of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// The members, leader first.
    pub events: Vec<EventSpec>,
    /// `:S`: only the leader samples and reads the others.
    pub leader_sampling: bool,
    /// The name written, `{a,b}:S` (empty for a lone event).
    pub name: String,
}

/// Parses a `-e` argument (events and groups separated by commas) against this machine.
pub fn parse(text: &str) -> Result<Vec<EventGroup>> {
    Err(crate::Error::Event { text: text.into(), at: 0, problem: "not written yet".into() })
}
