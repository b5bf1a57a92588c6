//! Xen: a whole host seen from dom0.
//!
//! * [`guest_form`]: samples of domains as perf's records.
//! * [`host`]: its domains; [`xenstore`]: their names.

pub mod guest_form;
pub mod host;
pub mod xenstore;
