//! Xen: a whole host seen from dom0.
//!
//! * [`guest_form`]: samples of domains as perf's records.

pub mod guest_form;
