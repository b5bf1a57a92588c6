//! Sort keys: what the rows of a report are made of.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A sort key of `report -s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Name of the domain, or of the guest.
    Domain,
    /// vCPU of the domain.
    Vcpu,
    /// Name of the thread.
    Comm,
    /// Process id.
    Pid,
    /// Thread id.
    Tid,
    /// CPU.
    Cpu,
    /// Path of the cgroup.
    Cgroup,
    /// Short name of the module.
    Dso,
    /// Function, or the address where none is known.
    Symbol,
    /// Source file and line, `??:0` where they are not known.
    Srcline,
    /// Address of the code in its module: a file offset for files, a run-time address for the kernel and JIT code.
    Addr,
    /// Name of the event.
    Event,
    /// kernel, user, hypervisor, guest-kernel, guest-user.
    Mode,
    /// The domain that it was done for: that of a guest's own work, and of dom0's work the one whose devices it serves.
    For,
}

/// All keys, in the order of the help.
pub(crate) const ALL: [Key; 14] = [
    Key::Domain,
    Key::Vcpu,
    Key::Comm,
    Key::Pid,
    Key::Tid,
    Key::Cpu,
    Key::Cgroup,
    Key::Dso,
    Key::Symbol,
    Key::Srcline,
    Key::Addr,
    Key::Event,
    Key::Mode,
    Key::For,
];

impl Key {
    /// Name on the command line and in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Key::Domain => "domain",
            Key::Vcpu => "vcpu",
            Key::Comm => "comm",
            Key::Pid => "pid",
            Key::Tid => "tid",
            Key::Cpu => "cpu",
            Key::Cgroup => "cgroup",
            Key::Dso => "dso",
            Key::Symbol => "symbol",
            Key::Srcline => "srcline",
            Key::Addr => "addr",
            Key::Event => "event",
            Key::Mode => "mode",
            Key::For => "for",
        }
    }

    /// Heading in text tables.
    pub fn heading(self) -> &'static str {
        match self {
            Key::Domain => "Domain",
            Key::Vcpu => "vCPU",
            Key::Comm => "Command",
            Key::Pid => "Pid",
            Key::Tid => "Tid",
            Key::Cpu => "CPU",
            Key::Cgroup => "Cgroup",
            Key::Dso => "Shared Object",
            Key::Symbol => "Symbol",
            Key::Srcline => "Source:Line",
            Key::Addr => "Address",
            Key::Event => "Event",
            Key::Mode => "Mode",
            Key::For => "For",
        }
    }

    /// True when the key needs to know the code address.
    pub(crate) fn is_of_code(self) -> bool {
        matches!(self, Key::Dso | Key::Symbol | Key::Srcline | Key::Addr | Key::Mode)
    }
}

/// A word that is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey(pub String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = ALL.iter().map(|k| k.name()).collect();
        write!(f, "unknown sort key {:?}; the keys are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownKey {}

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(s: &str) -> Result<Key, UnknownKey> {
        let perf_name = if s == "sym" { "symbol" } else { s };
        ALL.into_iter().find(|k| k.name() == perf_name).ok_or_else(|| UnknownKey(s.into()))
    }
}

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// A name.
    Text(Arc<str>),
    /// A number; -1 where there is none (a sample without CPU).
    Number(i64),
    /// An address.
    Address(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => number.fmt(f),
            Value::Address(address) => write!(f, "{address:#018x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_name_of_its_own() {
        for key in ALL {
            assert_eq!(key.name().parse(), Ok(key));
        }
        assert_eq!("sym".parse(), Ok(Key::Symbol));
        let error = "symbl".parse::<Key>().unwrap_err().to_string();
        assert!(error.starts_with("unknown sort key \"symbl\"; the keys are domain, vcpu, comm, pid,"), "{error}");
    }
}
