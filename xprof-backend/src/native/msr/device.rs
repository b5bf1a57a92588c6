//! One CPU's device file, and what its refusals mean: no module, no such CPU, no right, a locked kernel, #GP.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::msr::{Error, Result};

/// One CPU's registers: the device, or a test's.
pub trait Msrs: fmt::Debug + fmt::Display {
    /// Reads a register. `EIO`: the CPU refused (#GP).
    ///
    /// # Errors
    /// The system's answer.
    fn read(&self, msr: u32) -> io::Result<u64>;

    /// Writes a register. `EIO`: the CPU refused (#GP).
    ///
    /// # Errors
    /// The system's answer.
    fn write(&self, msr: u32, value: u64) -> io::Result<()>;
}

/// `N/msr`, open. Shown as its path.
#[derive(Debug)]
pub struct Device {
    file: fs::File,
    path: PathBuf,
}

/// Pins the calling thread to a CPU.
///
/// # Errors
/// [`Error::NoSuch`] for a CPU that is offline or does not exist.
pub fn pin(cpu: u32) -> Result<()> {
    let number = usize::try_from(cpu).unwrap_or(usize::MAX);
    let missing = || Error::NoSuch(format!("CPU {cpu}"));
    if number >= CpuSet::MAX_CPU {
        return Err(missing());
    }
    let mut set = CpuSet::new();
    set.set(number);
    match sched_setaffinity(None, &set) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL) => Err(missing()),
        Err(error) => Err(Error::Os { attempt: format!("run on CPU {cpu}"), source: error.into() }),
    }
}

impl Device {
    /// Opens the device for reading and writing; for reading alone where writing is not allowed.
    ///
    /// # Errors
    /// [`Error::Os`]: `ENOENT` without the module (or, with it, without the CPU), `EACCES` and `EPERM` without the
    /// right (`CAP_SYS_RAWIO`), `ENXIO` for a CPU that is offline.
    pub fn open(devices: &Path, cpu: u32) -> Result<Device> {
        let path = devices.join(cpu.to_string()).join("msr");
        let open = |write| fs::OpenOptions::new().read(true).write(write).open(&path);
        let file = match open(true) {
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => open(false),
            answer => answer,
        };
        match file {
            Ok(file) => Ok(Device { file, path }),
            Err(source) => Err(Error::Os { attempt: format!("open {}", path.display()), source }),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl Msrs for Device {
    #[inline]
    fn read(&self, msr: u32) -> io::Result<u64> {
        let mut bytes = [0; 8];
        match self.file.read_at(&mut bytes, msr.into())? {
            8 => Ok(u64::from_le_bytes(bytes)),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    fn write(&self, msr: u32, value: u64) -> io::Result<()> {
        match self.file.write_at(&value.to_le_bytes(), msr.into())? {
            8 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }
}
