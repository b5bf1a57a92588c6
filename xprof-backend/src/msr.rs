#![forbid(unsafe_code)]
//! The 2005 contract: one interface to performance and debug registers, the same for a kernel that touches the hardware
//! and for a guest that must ask its VMM (W. Cohen, "A Proposal for Xen to Support Processor Performance and Debugging
//! Hardware", xen-devel, April 2005; `xen_msr_*`).
//!
//! Registers belong to a [`Class`]; domain 0 decides with [`Contract::allocate`] which domain holds a class, and in
//! which [`Scope`]. The three calls on registers take batches of [`Entry`], so that setting up a whole PMU costs one
//! crossing. Who calls is never an argument: a handle is made for one [`Caller`], or the transport knows.
//!
//! * [`arbiter`]: the VMM's side: who holds what, values saved and restored, interrupts routed.
//! * [`counting`]: which registers count an event, by family.
//! * [`error`]: why a call failed ([`Error`]) and why an entry did ([`Fault`]), with their errno values.
//! * [`journal`]: what an implementation changes on a machine, written down before it is.
//! * [`table`]: what a class table says of a register; [`tables`]: the tables, as const data per CPU family; [`cpu`]:
//!   which of them this machine has.
//! * [`wire`]: all of it as records in rings, for whoever is not in this address space.

pub mod arbiter;
#[cfg(test)]
pub(crate) mod conformance;
pub mod counting;
pub mod cpu;
pub mod error;
pub mod journal;
#[cfg(any(test, feature = "model"))]
pub mod model;
pub mod table;
pub mod tables;
pub mod wire;

pub use error::{Error, Fault, Result};
pub use table::{Access, Family, Kind, Limits, Rearm, Row, Table};

/// Entries in one batch at most; more are refused whole with `E2BIG`.
pub const MAX_ENTRIES: usize = 128;

/// The proposal's `enum xen_msr_type`. On the wire a byte; what is no class is INVALID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// No class: every call refuses it (`EINVAL`).
    Invalid = 0,
    /// Performance counters and what controls them.
    Perf = 1,
    /// Debug control, last-branch stacks, address masks.
    Debug = 2,
}

/// The proposal's `enum xen_msr_access`: how a domain has a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scope {
    /// Not at all.
    Unavailable = 0,
    /// Virtualized: each vCPU has values of its own, on the hardware while it runs.
    Local = 1,
    /// The physical registers of every CPU; no other domain has anything of the class.
    Global = 2,
}

/// A domain's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomId(pub u16);

impl DomId {
    /// The control domain. A machine without a VMM has this one alone.
    pub const ZERO: DomId = DomId(0);
}

impl std::fmt::Display for DomId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "domain {}", self.0)
    }
}

/// What a handle's registers are of. On a machine without a VMM vCPU N is CPU N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum On {
    /// A vCPU of the caller's domain: what LOCAL gives.
    Vcpu(u32),
    /// A physical CPU: what GLOBAL gives.
    Cpu(u32),
}

/// Who calls. A handle is made for one and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Caller {
    /// The domain.
    pub domain: DomId,
    /// The vCPU or CPU whose registers it means.
    pub on: On,
}

/// One register of a batch (the proposal's `struct xen_msr_value`, with a status); 16 bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// Register address.
    pub msr: u32,
    /// 0 when done, else a [`Fault`]'s negative errno. Written for the entries done and for the first that failed;
    /// later entries keep what they had.
    pub status: i32,
    /// Value to write, or read, or the default.
    pub value: u64,
}

impl Entry {
    /// An entry to read or to set to its default.
    pub const fn of(msr: u32) -> Entry {
        Entry { msr, status: 0, value: 0 }
    }

    /// An entry to write.
    pub const fn with(msr: u32, value: u64) -> Entry {
        Entry { msr, status: 0, value }
    }

    /// Why this entry was not done.
    pub fn fault(&self) -> Option<Fault> {
        Fault::of(self.status)
    }
}

/// Where the CPU was when an interrupt came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// In a program.
    #[default]
    User = 0,
    /// In a domain's kernel.
    Kernel = 1,
    /// In the VMM.
    Hypervisor = 2,
}

/// Why an interrupt came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// A counter overflowed.
    #[default]
    Counter = 1,
    /// The debug store or a last-branch stack is full.
    Debug = 2,
}

/// What an interrupt handler is told: the proposal's `pt_regs`, and who was interrupted - under LOCAL the holder itself,
/// under GLOBAL whoever ran (which answers the proposal's FIXME). `bp` and `space` are there because a sample without
/// them can be neither unwound nor given to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// ns.
    pub time: u64,
    /// The interrupted domain.
    pub domain: DomId,
    /// Its vCPU.
    pub vcpu: u32,
    /// The physical CPU.
    pub pcpu: u32,
    /// Why.
    pub cause: Cause,
    /// Where it was.
    pub mode: Mode,
    /// Bit n: general counter n; bit 32+n: fixed counter n (the layout of IA32_PERF_GLOBAL_STATUS).
    pub overflow: u64,
    /// Interrupts of this handle that were not delivered since the last one that was.
    pub lost: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// RFLAGS or PSTATE.
    pub flags: u64,
    /// Root of the address space (CR3, TTBR0); 0 when not known.
    pub space: u64,
}

/// An interrupt handler: is given the interrupted state and the CPU's number, and answers whether the interrupt was
/// its own. It runs as an interrupt request, never as an NMI: where interrupts are off the sample falls where they come
/// on again. It may use the contract through a handle of its own, to rearm. One that answers false leaves the interrupt
/// counted as unclaimed and masked until rearmed.
pub type Handler = Box<dyn FnMut(&Overflow, u32) -> bool + Send>;

/// The contract. A value of this trait is a handle of one [`Caller`].
///
/// The calls on registers return how many entries were done, in order. A count below the length means that
/// `entries[count]` failed and its status says why; entries before it are done, entries after it untouched. An empty
/// batch is a success of 0; the same register twice is done twice. An [`Error`] is for the whole call: nothing was done.
pub trait Contract {
    /// Gives a domain a class in a scope. Domain 0's alone (`EPERM`).
    ///
    /// GLOBAL may go to any domain and LOCAL to any number; while others hold what excludes it the call fails with
    /// `EBUSY` naming them: nobody is evicted. UNAVAILABLE sets the domain's registers of the class to their defaults
    /// and removes its handlers.
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()>;

    /// Sets the handler of the class's interrupts on this handle's vCPU or CPU; `None` removes it.
    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> Result<()>;

    /// Writes the table's defaults, leaves them in the values, and removes the registers from the preserved set.
    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize>;

    /// Writes. With `rearm` interrupts that came are acknowledged and let through again, in the order that the family
    /// needs (see [`Rearm`]); without it nothing but the registers named is touched.
    fn write(&mut self, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize>;

    /// Reads. Under LOCAL this is the caller's own value, whether or not it runs.
    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize>;
}
