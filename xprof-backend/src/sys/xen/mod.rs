//! Xen from dom0: hypercalls through privcmd, foreign maps, hypercall-safe memory. Pure Rust, no C library.
//!
//! Xen's control interface has a version that changes with most releases, and refuses every other one with EACCES before it
//! looks at anything else; so the versions are tried once, domctl and sysctl apart (domctl 0x12 is 4.13's and 4.14's, whose
//! sysctls differ). What is used here has had the same layout from 4.13 to 4.22, the stride of the list of domains aside.
//!
//! * [`abi`]: numbers and layouts, asserted when this is compiled.
//! * [`gate`]: the seam: `/dev/xen/privcmd` itself, or a stand-in for tests.
//! * [`memory`]: memory that Xen may write to, and mapped frames of guests.
//! * [`hypervisor`]: the calls as safe, bounded functions.
//! * `registers`: the calls on performance and debug registers.
//! * [`trace`]: Xen's trace buffers.
//! * [`symbols`]: Xen's own names.
//! * [`holder`]: a process that pauses domains, and unpauses them whatever happens.

pub mod abi;
mod error;
pub mod gate;
pub mod holder;
pub mod hypervisor;
pub mod memory;
mod registers;
pub mod symbols;
#[cfg(test)]
pub(crate) mod tests;
pub mod trace;

pub use error::{XenError, is_dom0, on_xen};
pub use holder::Holder;
pub use hypervisor::{Context, DomainInfo, Hypervisor, Owner, PoolInfo, VcpuInfo};
pub use memory::Mapping;
