//! Which CPUs are online.

use crate::machine::Machine;
use crate::{Error, Result};

/// The CPUs that are online now.
pub(crate) fn online() -> Result<Vec<u32>> {
    let cpus = Machine::here().online_cpus();
    if cpus.is_empty() { Err(Error::NoTarget { what: "a CPU that is online".into() }) } else { Ok(cpus) }
}
