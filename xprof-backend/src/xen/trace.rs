//! Xen's own trace: its scheduler's records, exactly when each vCPU ran, waited for a pCPU and slept, and who took whose pCPU.
//!
//! * [`records`]: records, from bytes, by one table.
//! * [`reading`]: what is taken from them, over all pCPUs.
//! * [`states`]: the states of vCPUs, as stints.
//! * [`clock`]: from the trace's TSC to the session's clock.
//! * `source`: it is begun, read, and put back.

pub mod clock;
pub mod reading;
pub mod records;
mod source;
pub mod states;

pub use source::first_use;
pub(crate) use source::write;
pub(in crate::xen) use source::{Trace, back};

#[cfg(test)]
mod tests;
