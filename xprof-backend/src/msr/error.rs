//! Errors of the contract: of a whole call ([`Error`]) and of one entry ([`Fault`]). Both have errno values, because that
//! is what travels between domains and what a kernel would answer.

use std::io;

use super::{Class, DomId};

/// Why a whole call failed. Nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The domain does not hold the class on the handle's vCPU or CPU.
    #[error("{domain} does not hold the {class:?} class there")]
    NotHeld {
        /// The caller.
        domain: DomId,
        /// The class.
        class: Class,
    },
    /// Only domain 0 may allocate.
    #[error("{0} may not allocate: only domain 0 may")]
    NotPrivileged(DomId),
    /// Others hold what was asked for.
    #[error("the {class:?} class is held by {}", list(.holders))]
    Busy {
        /// The class.
        class: Class,
        /// Who holds it.
        holders: Vec<DomId>,
    },
    /// More than [`super::MAX_ENTRIES`] entries.
    #[error("a batch of {0} entries: at most {max} are allowed", max = super::MAX_ENTRIES)]
    TooMany(usize),
    /// INVALID, or no class at all.
    #[error("no such register class")]
    NoClass,
    /// There is no such domain, vCPU or CPU.
    #[error("{0} does not exist")]
    NoSuch(String),
    /// This implementation has no such call.
    #[error("{0}")]
    Unsupported(String),
    /// No answer came in time. The call may still be carried out.
    #[error("no answer in time")]
    TimedOut,
    /// The other side sent what is no answer.
    #[error("the other side broke the protocol: {0}")]
    Protocol(&'static str),
    /// The operating system refused; what was attempted, and its answer.
    #[error("cannot {attempt}: {source}")]
    Os {
        /// "open /dev/cpu/3/msr".
        attempt: String,
        /// The answer.
        source: io::Error,
    },
    /// A negative errno that the other side gave and that has no name here.
    #[error("{}", io::Error::from_raw_os_error(.0.wrapping_neg()))]
    Errno(i32),
}

/// Result of a call of the contract.
pub type Result<T> = std::result::Result<T, Error>;

fn list(holders: &[DomId]) -> String {
    let names: Vec<String> = holders.iter().map(DomId::to_string).collect();
    names.join(", ")
}

impl Error {
    /// The negative errno of the call.
    pub fn errno(&self) -> i32 {
        -match self {
            Error::NotHeld { .. } => libc::EACCES,
            Error::NotPrivileged(_) => libc::EPERM,
            Error::Busy { .. } => libc::EBUSY,
            Error::TooMany(_) => libc::E2BIG,
            Error::NoClass => libc::EINVAL,
            Error::NoSuch(_) => libc::ESRCH,
            Error::Unsupported(_) => libc::EOPNOTSUPP,
            Error::TimedOut => libc::ETIMEDOUT,
            Error::Protocol(_) => libc::EPROTO,
            Error::Os { source, .. } => source.raw_os_error().unwrap_or(libc::EIO),
            Error::Errno(errno) => return *errno,
        }
    }
}

/// Why one entry of a batch was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(i32)]
pub enum Fault {
    /// The class has no such register on this CPU.
    #[error("no such register in the class")]
    Unknown = -libc::ENXIO,
    /// A reserved bit differs from its reset value.
    #[error("a reserved bit would change")]
    Reserved = -libc::EINVAL,
    /// The register can be read only.
    #[error("the register is read-only")]
    ReadOnly = -libc::EROFS,
    /// The register exists and may not be reached through this implementation.
    #[error("the register cannot be reached here")]
    NotHere = -libc::EPERM,
    /// Somebody outside the contract uses it (the kernel's own perf, the NMI watchdog).
    #[error("the register is in use by the kernel")]
    InUse = -libc::EBUSY,
    /// The CPU refused the access (#GP).
    #[error("the CPU refused the access")]
    Refused = -libc::EIO,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 6] =
        [Fault::Unknown, Fault::Reserved, Fault::ReadOnly, Fault::NotHere, Fault::InUse, Fault::Refused];

    /// The fault that a status stands for; `None` for 0. A status without a name counts as refused.
    pub fn of(status: i32) -> Option<Fault> {
        if status == 0 {
            return None;
        }
        Some(Fault::ALL.into_iter().find(|fault| fault.status() == status).unwrap_or(Fault::Refused))
    }

    /// The negative errno of an entry's status.
    pub const fn status(self) -> i32 {
        self as i32
    }
}
