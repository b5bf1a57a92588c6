//! Why Xen cannot be asked, told apart by what would help.

use std::io;
use std::path::Path;

use crate::machine::{self, Machine};

/// An error of a hypercall, or of the way to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XenError {
    /// No Xen below this kernel.
    #[error("this machine does not run on Xen")]
    NotXen,
    /// A guest of Xen.
    #[error("this is a guest of Xen, and only dom0 may ask Xen about domains")]
    NotDom0,
    /// The driver is not there.
    #[error("/dev/xen/privcmd does not exist")]
    NoDriver,
    /// Not root.
    #[error("this user may not make hypercalls: {0}")]
    NoPermission(io::Error),
    /// The kernel is locked down.
    #[error("the kernel is locked down ({0}) and lets nobody make hypercalls")]
    Lockdown(String),
    /// Every known version of the interface was refused.
    #[error("Xen {major}.{minor} speaks a {interface} version that this xprof does not know")]
    Version {
        /// Xen's version.
        major: u16,
        /// Xen's version.
        minor: u16,
        /// `domctl` or `sysctl`.
        interface: &'static str,
    },
    /// The domain is gone.
    #[error("domain {0} is gone")]
    DomainGone(u16),
    /// Somebody uses the trace buffers; who.
    #[error("Xen's trace is in use ({0})")]
    TraceBusy(String),
    /// Xen has none.
    #[error("this Xen was built without trace buffers (CONFIG_TRACEBUFFER)")]
    NoTrace,
    /// A hypercall failed.
    #[error("Xen refuses to {attempt}: {source}")]
    Call {
        /// What was attempted.
        attempt: String,
        /// Xen's answer, which has the numbers of Linux.
        source: io::Error,
    },
}

impl XenError {
    pub(super) fn call(attempt: impl Into<String>, source: io::Error) -> XenError {
        XenError::Call { attempt: attempt.into(), source }
    }

    /// The cause of a failed `open` of privcmd, or of a first hypercall that was refused.
    pub(super) fn refused(machine: &Machine, source: io::Error) -> XenError {
        if !on_xen(machine) {
            return XenError::NotXen;
        }
        // Most guests have no door to hypercalls at all, and it would not help them.
        if is_guest(machine) {
            return XenError::NotDom0;
        }
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => XenError::NoDriver,
            Some(libc::EPERM | libc::EACCES) => {
                let facts = crate::proc::Permissions::read(machine);
                match facts.lockdown {
                    Some(mode) if facts.uid == 0 => XenError::Lockdown(mode),
                    _ => XenError::NoPermission(source),
                }
            }
            _ => XenError::call("open its door /dev/xen/privcmd", source),
        }
    }
}

/// True on Xen, in whatever domain.
pub fn on_xen(machine: &Machine) -> bool {
    let named = machine::text(&machine.sys.join("hypervisor/type")).is_ok_and(|kind| kind.trim() == "xen");
    named || Path::new("/dev/xen/privcmd").exists() || machine.proc.join("xen/capabilities").exists()
}

/// True in the control domain.
pub fn is_dom0(machine: &Machine) -> bool {
    control(machine) == Some(true)
}

/// True in a domain that is known not to be the control domain.
fn is_guest(machine: &Machine) -> bool {
    control(machine) == Some(false)
}

/// Whether this is the control domain; `None` where nothing says so.
fn control(machine: &Machine) -> Option<bool> {
    let said = machine::text(&machine.proc.join("xen/capabilities")).ok().map(|text| text.contains("control_d"));
    // xenfs may not be mounted: XENFEAT_dom0 is bit 11 (xen/include/public/features.h).
    let features = machine::text(&machine.sys.join("hypervisor/properties/features")).ok();
    let features = features.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let bit = features.map(|features| features >> 11 & 1 == 1);
    match (said, bit) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (None, None) => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_guest_is_told_from_a_dom0_without_its_driver() {
        let told = |capabilities: Option<&str>, features: Option<&str>| {
            let dir = tempfile::tempdir().unwrap();
            let machine = Machine::below(dir.path());
            fs::create_dir_all(machine.proc.join("xen")).unwrap();
            fs::create_dir_all(machine.sys.join("hypervisor/properties")).unwrap();
            fs::write(machine.sys.join("hypervisor/type"), "xen\n").unwrap();
            if let Some(text) = capabilities {
                fs::write(machine.proc.join("xen/capabilities"), text).unwrap();
            }
            if let Some(text) = features {
                fs::write(machine.sys.join("hypervisor/properties/features"), text).unwrap();
            }
            match XenError::refused(&machine, io::Error::from_raw_os_error(libc::ENOENT)) {
                XenError::NoDriver => "no driver",
                XenError::NotDom0 => "guest",
                _ => "other",
            }
        };
        assert_eq!(told(Some("control_d\n"), None), "no driver");
        assert_eq!(told(None, Some("0000000000000801\n")), "no driver");
        assert_eq!(told(Some(""), Some("0000000000000701\n")), "guest");
        assert_eq!(told(None, Some("0000000000000701\n")), "guest");
        assert_eq!(told(None, None), "no driver");
    }
}
