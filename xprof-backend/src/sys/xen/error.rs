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
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => XenError::NoDriver,
            Some(libc::EPERM | libc::EACCES) => {
                let facts = crate::proc::Permissions::read(machine);
                if !is_dom0(machine) && facts.uid == 0 {
                    return XenError::NotDom0;
                }
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
    machine::text(&machine.proc.join("xen/capabilities")).is_ok_and(|text| text.contains("control_d"))
        // xenfs may not be mounted: XENFEAT_dom0 is bit 11 (xen/include/public/features.h).
        || machine::text(&machine.sys.join("hypervisor/properties/features"))
            .ok()
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .is_some_and(|features| features >> 11 & 1 == 1)
}
