//! The way to Xen: `/dev/xen/privcmd`, or a stand-in.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use super::abi::{IOCTL_BIND_VIRQ, IOCTL_HYPERCALL, IOCTL_MMAP_BATCH, MmapBatch, PrivcmdHypercall};
use super::error::XenError;
use super::memory::{Buffer, FRAME, Mapping};
use crate::machine::Machine;

/// Frames of one batch of maps.
pub const BATCH_MAX: usize = 512;

/// The ioctls of privcmd, and the memory they work on.
pub(super) trait Gate: fmt::Debug + Send + Sync {
    /// Makes a hypercall; Xen's answer.
    ///
    /// # Safety
    /// What Xen writes through `args` lies in memory that is meant for it.
    unsafe fn hypercall(&self, op: u64, args: [u64; 5]) -> io::Result<i64>;

    /// Hypercall-safe memory, zeroed.
    fn buffer(&self, len: usize) -> io::Result<Buffer>;

    /// The door itself, for another process; a stand-in has none.
    fn privcmd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Maps frames of a domain, at most [`BATCH_MAX`]; read-only unless they are to be written to.
    fn map(&self, domain: u16, frames: &[u64], written: bool) -> io::Result<Mapping>;

    /// Binds a VIRQ of the host: a file that is readable, with the port in it, when it was raised, and wants the port back. `EEXIST`:
    /// another program has it.
    fn virq(&self, virq: u32) -> io::Result<OwnedFd>;
}

/// `/dev/xen/privcmd`.
#[derive(Debug)]
pub(super) struct Privcmd {
    privcmd: OwnedFd,
    /// `/dev/xen/hypercall`, Linux 4.18.
    hypercall: Option<OwnedFd>,
}

impl Privcmd {
    pub(super) fn open() -> Result<Privcmd, XenError> {
        let open = |path: &str| OpenOptions::new().read(true).write(true).open(Path::new(path)).map(OwnedFd::from);
        let privcmd = open("/dev/xen/privcmd").or_else(|first| match first.kind() {
            io::ErrorKind::NotFound => open("/proc/xen/privcmd").map_err(|_| first),
            _ => Err(first),
        });
        let privcmd = privcmd.map_err(|error| XenError::refused(&Machine::here(), error))?;
        Ok(Privcmd { privcmd, hypercall: open("/dev/xen/hypercall").ok() })
    }
}

/// Maps a file of Xen's drivers.
fn map_shared(fd: &OwnedFd, len: usize, protection: i32) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping where the kernel likes.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
    let mapped = NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED);
    mapped.ok_or_else(io::Error::last_os_error)
}

impl Gate for Privcmd {
    unsafe fn hypercall(&self, op: u64, args: [u64; 5]) -> io::Result<i64> {
        let call = PrivcmdHypercall { op, args };
        // SAFETY: the kernel reads the struct; what Xen writes is the caller's promise.
        let answer = unsafe { libc::ioctl(self.privcmd.as_raw_fd(), IOCTL_HYPERCALL as _, &raw const call) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(i64::from(answer)) }
    }

    fn buffer(&self, len: usize) -> io::Result<Buffer> {
        match &self.hypercall {
            Some(fd) => {
                let start = map_shared(fd, len, libc::PROT_READ | libc::PROT_WRITE)?;
                // SAFETY: the mapping has just been made, and has this length.
                Ok(unsafe { Buffer::from_mapping(start, len) })
            }
            None => Buffer::anonymous(len),
        }
    }

    fn privcmd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.privcmd.as_fd())
    }

    fn map(&self, domain: u16, frames: &[u64], written: bool) -> io::Result<Mapping> {
        if frames.is_empty() || frames.len() > BATCH_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = frames.len() * FRAME;
        let protection = if written { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let start = map_shared(&self.privcmd, len, protection)?;
        let mut errors = vec![0i32; frames.len()];
        let batch = MmapBatch {
            num: frames.len() as u32,
            domain,
            address: start.as_ptr() as u64,
            frames: frames.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        // SAFETY: the kernel reads `num` frames and writes `num` errors, which both slices have, and fills the mapping
        // that begins at `address` and has their length.
        let answer = unsafe { libc::ioctl(self.privcmd.as_raw_fd(), IOCTL_MMAP_BATCH as _, &raw const batch) };
        let failed = (answer < 0).then(io::Error::last_os_error);
        // ENOENT: some frames are paged out, and the errors say which. Anything else says nothing of any frame.
        let usable = failed.as_ref().is_none_or(|error| error.raw_os_error() == Some(libc::ENOENT));
        let mapped = errors.iter().map(|error| usable && *error == 0).collect();
        // SAFETY: the mapping has just been made and has these frames; those without an error can be read, and written to where that
        // was asked for.
        let mapping = unsafe { Mapping::from_mapping(start, mapped, written) };
        match failed {
            Some(error) if !usable => Err(error),
            _ => Ok(mapping),
        }
    }

    fn virq(&self, virq: u32) -> io::Result<OwnedFd> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/xen/evtchn")?;
        let file = OwnedFd::from(file);
        // SAFETY: the kernel reads the number.
        let port = unsafe { libc::ioctl(file.as_raw_fd(), IOCTL_BIND_VIRQ as _, &raw const virq) };
        if port < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
    }
}
