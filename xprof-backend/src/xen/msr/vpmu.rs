//! The vPMU's mode: one for the whole host, which is why setting it is asked for by name, and why all that follows from it
//! is said before. (xen/include/public/pmu.h; xen/arch/x86/cpu/vpmu.c.)

use std::fmt;

use xprof_perfdata::domain::DomainKind;

use crate::msr::{Error, Result};
use crate::sys::xen::Hypervisor;
use crate::xen::host;

/// `XENPMU_MODE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// Nobody has counters.
    Off = 0,
    /// Every domain counts itself.
    Own = 1,
    /// The same, and dom0 counts Xen as well.
    Hypervisor = 2,
    /// Only dom0 has counters, and they count everybody.
    All = 4,
}

impl Mode {
    /// The mode of Xen's number.
    pub fn of(number: u64) -> Option<Mode> {
        [Mode::Off, Mode::Own, Mode::Hypervisor, Mode::All].into_iter().find(|mode| *mode as u64 == number)
    }

    /// Linux's word for it (/sys/hypervisor/pmu/pmu_mode).
    pub fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::Own => "self",
            Mode::Hypervisor => "hv",
            Mode::All => "all",
        }
    }

    /// Guests that are created in it have counters of their own.
    fn gives_guests_counters(self) -> bool {
        matches!(self, Mode::Own | Mode::Hypervisor)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a host has no vPMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absent {
    /// dom0 is PVH.
    #[error("a PVH dom0 has no access to counters")]
    Pvh,
    /// Xen's NMI watchdog.
    #[error("Xen's watchdog holds the counter")]
    Watchdog,
    /// Xen's vPMU has no code for this CPU.
    #[error("Xen does not know this CPU's counters")]
    UnknownCpu,
    /// The usual case.
    #[error("Xen was started without it")]
    NotStarted,
}

/// A switch of Xen's command line: whether it is on, if it is there.
fn switch(line: &str, name: &str) -> Option<bool> {
    let of = |word: &str| {
        let rest = word.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(!matches!(value, "0" | "no" | "off" | "false" | "disable")),
            None => rest.is_empty().then_some(true),
        }
    };
    line.split_whitespace().filter_map(of).next_back()
}

/// Why a Xen that answers `EOPNOTSUPP` has no vPMU.
pub fn absent(xen: &mut Hypervisor) -> Absent {
    let line = xen.command_line().unwrap_or_default();
    let domains = xen.domains().unwrap_or_default();
    let is_pvh = domains.iter().any(|info| info.id == 0 && host::kind(info) != DomainKind::Pv);
    match (is_pvh, switch(&line, "watchdog"), switch(&line, "vpmu")) {
        (true, ..) => Absent::Pvh,
        (_, Some(true), _) => Absent::Watchdog,
        (.., Some(true)) => Absent::UnknownCpu,
        _ => Absent::NotStarted,
    }
}

/// What is to be known before a mode is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    /// Always.
    #[error("the vPMU is not security supported (XSA-163): only where every guest is trusted")]
    Unsafe,
    /// The mode is not a domain's.
    #[error("this changes the vPMU's mode of the whole host, from {0} to {1}")]
    WholeHost(Mode, Mode),
    /// Guests get their vPMU when they are created.
    #[error("guests that are started from now on have no counters until they are created again in mode self or hv")]
    LeavesSelf,
    /// A counter is of the pCPU that dom0's vCPU is on when it is set.
    #[error(
        "dom0 has {vcpus} vCPUs on {cpus} pCPUs{}: its counters are those of the pCPU that a vCPU is on, so all are reached only with one pinned vCPU for each (dom0_vcpus_pin, no dom0_max_vcpus)",
        if *.pinned { "" } else { ", not pinned" }
    )]
    Pinning {
        /// dom0's.
        vcpus: u32,
        /// The host's.
        cpus: u32,
        /// Each vCPU has a pCPU of its own.
        pinned: bool,
    },
}

/// A change of the mode, before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The mode now.
    pub old: Mode,
    /// The mode that is asked for.
    pub new: Mode,
    /// What is to be said first; empty when nothing changes.
    pub traps: Vec<Trap>,
}

impl Setting {
    /// Looks at a change without making it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when Xen has no vPMU or refuses the mode to this dom0, with the reason.
    pub(super) fn look(xen: &mut Hypervisor, new: Mode) -> Result<Setting> {
        let old = mode(xen)?;
        let mut traps = Vec::new();
        if matches!(new, Mode::Hypervisor | Mode::All) && xen.address_size(0).is_ok_and(|bits| bits == 32) {
            return Err(Error::Unsupported(format!("a 32-bit PV dom0 may not set the vPMU's mode {new}")));
        }
        if old != new {
            traps.extend([Trap::Unsafe, Trap::WholeHost(old, new)]);
        }
        if old.gives_guests_counters() && !new.gives_guests_counters() {
            traps.push(Trap::LeavesSelf);
        }
        if new == Mode::All {
            traps.extend(pinning(xen));
        }
        Ok(Setting { old, new, traps })
    }
}

/// The mode now.
pub(in crate::xen) fn mode(xen: &mut Hypervisor) -> Result<Mode> {
    match xen.vpmu() {
        Ok((number, _)) => Mode::of(number)
            .ok_or_else(|| Error::Unsupported(format!("Xen's vPMU has a mode {number} that is not known"))),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            let absent = absent(xen);
            Err(Error::Unsupported(format!("there is no vPMU: {absent}")))
        }
        Err(source) => Err(Error::Os { attempt: "ask Xen for the vPMU's mode".into(), source }),
    }
}

fn pinning(xen: &mut Hypervisor) -> Option<Trap> {
    let (cpus, _) = xen.cpus().ok()?;
    let vcpus = xen.domains().ok()?.iter().find(|info| info.id == 0)?.online_vcpus;
    let on: Vec<_> = (0..vcpus).map(|vcpu| xen.affinity(0, vcpu, cpus).filter(|list| list.len() == 1)).collect();
    let mut own: Vec<u32> = on.iter().flatten().flatten().copied().collect();
    own.sort_unstable();
    own.dedup();
    let pinned = own.len() as u32 == vcpus;
    (!pinned || vcpus != cpus).then_some(Trap::Pinning { vcpus, cpus, pinned })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_of_a_command_line() {
        let line = "console=com1 watchdog_timeout=5 vpmu=bts,ipc watchdog=no dom0_vcpus_pin";
        assert_eq!(switch(line, "vpmu"), Some(true));
        assert_eq!(switch(line, "watchdog"), Some(false));
        assert_eq!(switch(line, "dom0_vcpus_pin"), Some(true));
        assert_eq!(switch(line, "dom0"), None);
        assert_eq!(switch("vpmu=1 vpmu=off", "vpmu"), Some(false));
    }
}
