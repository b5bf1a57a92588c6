//! Xen: a whole host seen from dom0.
//!
//! * [`guest_form`]: samples of domains as perf's records.
//! * [`books`]: what no domain ran.
//! * [`host`]: its domains; [`xenstore`]: their names.
//! * `serving`: whom dom0's processes work for.
//! * [`msr`]: the contract, as far as Xen carries it.
//! * [`joined`]: samples of the whole host's counters, whose they are by the trace.
//! * [`session`]: the backend; [`tick`]: one look at all vCPUs; [`whole`]: with dom0's own events beside it.
//! * [`trace`]: Xen's own record of its scheduler.
//! * [`stack`]: a guest's stack, through its page tables ([`paging`]), in frames mapped here ([`frames`]).

pub mod books;
pub mod frames;
pub mod guest_form;
pub mod host;
pub mod joined;
pub mod msr;
pub mod paging;
mod serving;
pub mod session;
pub mod stack;
pub mod tick;
pub mod trace;
pub mod whole;
pub mod xenstore;
