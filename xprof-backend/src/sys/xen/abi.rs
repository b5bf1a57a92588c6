//! Numbers and layouts of Xen's interface, from the public headers of Xen 4.13 to 4.22 (xen/include/public), and of
//! Linux's privcmd (include/uapi/xen/privcmd.h). Every size and offset that is relied on is asserted below.

/// `__HYPERVISOR_*` of xen.h.
pub mod hypercall {
    /// `platform_op`.
    pub const PLATFORM: u64 = 7;
    /// `memory_op`.
    pub const MEMORY: u64 = 12;
    /// `multicall`.
    pub const MULTICALL: u64 = 13;
    /// `xen_version`.
    pub const VERSION: u64 = 17;
    /// `sched_op`.
    pub const SCHED: u64 = 29;
    /// `sysctl`.
    pub const SYSCTL: u64 = 35;
    /// `domctl`.
    pub const DOMCTL: u64 = 36;
    /// `xenpmu_op`.
    pub const XENPMU: u64 = 40;
}

/// `XENVER_*` of version.h.
pub mod version {
    /// The number, major in the upper half.
    pub const VERSION: u64 = 0;
    /// `.1-rc2`.
    pub const EXTRA: u64 = 1;
    /// Bytes of [`EXTRA`].
    pub const EXTRA_LEN: usize = 16;
    /// Xen's own command line; for dom0.
    pub const COMMAND_LINE: u64 = 9;
    /// Bytes of [`COMMAND_LINE`].
    pub const COMMAND_LINE_LEN: usize = 1024;
    /// `xen_build_id`: its length (u32), then its bytes.
    pub const BUILD_ID: u64 = 10;
}

/// `XENMEM_maximum_gpfn` of memory.h: the highest frame of a domain.
pub const MEMORY_MAXIMUM_GPFN: u64 = 14;

/// Commands of domctl.h.
pub mod domctl {
    /// `pausedomain`.
    pub const PAUSE: u32 = 3;
    /// `unpausedomain`.
    pub const UNPAUSE: u32 = 4;
    /// `getdomaininfo`.
    pub const INFO: u32 = 5;
    /// `getvcpucontext`.
    pub const CONTEXT: u32 = 13;
    /// `getvcpuinfo`.
    pub const VCPU: u32 = 14;
    /// `scheduler_op`.
    pub const SCHEDULER: u32 = 16;
    /// `getvcpuaffinity`.
    pub const AFFINITY: u32 = 25;
    /// `get_address_size`.
    pub const ADDRESS_SIZE: u32 = 36;
    /// `get_vcpu_msrs`.
    pub const GET_MSRS: u32 = 72;
    /// `set_vcpu_msrs`.
    pub const SET_MSRS: u32 = 73;
    /// Versions that are known, newest first: Xen 4.22 .. 4.13.
    pub const VERSIONS: [u32; 7] = [0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12];
    /// From this version on (Xen 4.16) an entry of the list of domains has 112 bytes, before 104 (on x86).
    pub const LONGER_INFO: u32 = 0x14;
    /// `XEN_DOMCTL_SCHEDOP_getinfo`.
    pub const SCHEDULER_GET: u32 = 1;
    /// `XEN_VCPUAFFINITY_HARD`.
    pub const AFFINITY_HARD: u32 = 1;
}

/// Commands of sysctl.h.
pub mod sysctl {
    /// `tbuf_op`.
    pub const TRACE: u32 = 2;
    /// `physinfo`.
    pub const PHYSINFO: u32 = 3;
    /// `getcpuinfo`.
    pub const CPUS: u32 = 8;
    /// `getdomaininfolist`.
    pub const DOMAINS: u32 = 6;
    /// `cpupool_op`.
    pub const POOL: u32 = 18;
    /// Versions that are known, newest first: Xen 4.22 .. 4.13.
    pub const VERSIONS: [u32; 5] = [0x16, 0x15, 0x14, 0x13, 0x12];
    /// `XEN_SYSCTL_CPUPOOL_OP_INFO`.
    pub const POOL_INFO: u32 = 3;
}

/// Commands of `tbuf_op` (sysctl.h, `XEN_SYSCTL_TBUFOP_*`), and what belongs to it.
pub mod tbuf {
    /// `get_info`.
    pub const INFO: u32 = 0;
    /// `set_evt_mask`.
    pub const MASK: u32 = 2;
    /// `set_size`.
    pub const SIZE: u32 = 3;
    /// `enable`.
    pub const ENABLE: u32 = 4;
    /// `disable`.
    pub const DISABLE: u32 = 5;
    /// `DOMID_XEN` of xen.h, who has the buffers.
    pub const OWNER: u16 = 0x7ff2;
    /// `VIRQ_TBUF` of xen.h: a buffer is half full. One of the host, bound by one program.
    pub const VIRQ: u32 = 4;
    /// `SCHEDOP_yield` of sched.h.
    pub const YIELD: u64 = 0;
}

/// `IOCTL_EVTCHN_BIND_VIRQ` of Linux's evtchn.h: a `u32`, the VIRQ; the answer is its port.
pub const IOCTL_BIND_VIRQ: libc::c_ulong = 0x4_4500;

/// Commands of pmu.h, `XENPMU_*`.
pub mod pmu {
    /// `mode_get`.
    pub const MODE_GET: u64 = 0;
    /// `mode_set`.
    pub const MODE_SET: u64 = 1;
    /// `feature_get`.
    pub const FEATURE_GET: u64 = 2;
    /// `XENPMU_VER_MIN`; the other half of the version is 0.
    pub const MINOR: u32 = 1;
}

/// `XENPF_resource_op` of platform.h, what belongs to it, and `XENPF_get_symbol`.
pub mod platform {
    /// The command.
    pub const RESOURCE: u32 = 61;
    /// `XENPF_get_symbol`, since Xen 4.6.
    pub const SYMBOL: u32 = 63;
    /// `XENPF_INTERFACE_VERSION`, the same in all releases.
    pub const VERSION: u32 = 0x0300_0001;
    /// `XEN_RESOURCE_OP_MSR_READ`.
    pub const READ: u32 = 0;
    /// `XEN_RESOURCE_OP_MSR_WRITE`.
    pub const WRITE: u32 = 1;
    /// Entries of one op, at most (`RESOURCE_ACCESS_MAX_ENTRIES` of xen/arch/x86/platform_hypercall.c).
    pub const ENTRIES: usize = 3;
}

/// Flags of `xen_domctl_getdomaininfo`, `XEN_DOMINF_*`.
pub mod domain_flag {
    /// Being destroyed.
    pub const DYING: u32 = 1 << 0;
    /// Hardware virtualisation.
    pub const HVM: u32 = 1 << 1;
    /// Has shut down.
    pub const SHUTDOWN: u32 = 1 << 2;
    /// Paused by a tool.
    pub const PAUSED: u32 = 1 << 3;
    /// All vCPUs are blocked.
    pub const BLOCKED: u32 = 1 << 4;
    /// A vCPU is running.
    pub const RUNNING: u32 = 1 << 5;
}

/// Emulated devices that only a domain with a device model has: `XEN_X86_EMU_PM` and `_PIC` of arch-x86/xen.h.
pub const EMULATES_PC: u32 = 1 << 2 | 1 << 5;

/// `XEN_SCHEDULER_*` of domctl.h.
pub fn scheduler_name(id: u32) -> &'static str {
    match id {
        4 => "sedf",
        5 => "credit",
        6 => "credit2",
        7 => "arinc653",
        8 => "rtds",
        9 => "null",
        _ => "unknown",
    }
}

/// `VGCF_in_kernel` of `vcpu_guest_context.flags`, for PV (arch-x86/xen.h).
pub const IN_KERNEL: u32 = 1 << 2;

/// `IOCTL_PRIVCMD_HYPERCALL`.
pub const IOCTL_HYPERCALL: libc::c_ulong = 0x30_5000;
/// `IOCTL_PRIVCMD_MMAPBATCH_V2`.
pub const IOCTL_MMAP_BATCH: libc::c_ulong = 0x20_5004;

/// `struct privcmd_hypercall`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PrivcmdHypercall {
    pub(super) op: u64,
    pub(super) args: [u64; 5],
}

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct MmapBatch {
    pub(super) num: u32,
    pub(super) domain: u16,
    pub(super) address: u64,
    pub(super) frames: *const u64,
    pub(super) errors: *mut i32,
}

/// `struct multicall_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct MulticallEntry {
    pub(super) op: u64,
    pub(super) result: i64,
    pub(super) args: [u64; 6],
}

/// `struct xen_domctl` up to its union, which has 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Domctl {
    pub(super) command: u32,
    pub(super) version: u32,
    pub(super) domain: u16,
    pub(super) pad: [u16; 3],
    pub(super) body: [u64; 16],
}

/// `struct xen_sysctl`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Sysctl {
    pub(super) command: u32,
    pub(super) version: u32,
    pub(super) body: [u64; 16],
}

/// `struct xen_domctl_vcpucontext`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct VcpuContextCall {
    pub(super) vcpu: u32,
    pub(super) context: u64,
}

/// `struct xen_domctl_getvcpuinfo`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct VcpuInfoCall {
    pub(super) vcpu: u32,
    pub(super) online: u8,
    pub(super) blocked: u8,
    pub(super) running: u8,
    pub(super) cpu_time: u64,
    pub(super) cpu: u32,
}

/// `struct xen_domctl_getdomaininfo`, up to where versions differ.
#[repr(C)]
#[derive(Debug)]
pub(super) struct DomainInfoEntry {
    pub(super) domain: u16,
    pub(super) flags: u32,
    pub(super) total_pages: u64,
    pub(super) max_pages: u64,
    pub(super) outstanding: u64,
    pub(super) shared: u64,
    pub(super) paged: u64,
    pub(super) shared_info_frame: u64,
    pub(super) cpu_time: u64,
    pub(super) online_vcpus: u32,
    pub(super) max_vcpu: u32,
    pub(super) ssidref: u32,
    pub(super) handle: [u8; 16],
    pub(super) pool: u32,
}

/// `struct xen_sysctl_getdomaininfolist`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct DomainListCall {
    pub(super) first: u16,
    pub(super) max: u32,
    pub(super) buffer: u64,
    pub(super) num: u32,
}

/// `struct xen_sysctl_getcpuinfo`; each of its `xen_sysctl_cpuinfo` is the time that a pCPU was idle, ns (u64).
#[repr(C)]
#[derive(Debug)]
pub(super) struct CpuInfoCall {
    pub(super) max: u32,
    pub(super) info: u64,
    pub(super) num: u32,
}

/// `struct xenctl_bitmap`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Bitmap {
    pub(super) bits: u64,
    pub(super) len: u32,
}

/// `struct xen_domctl_vcpuaffinity`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct AffinityCall {
    pub(super) vcpu: u32,
    pub(super) flags: u32,
    pub(super) hard: Bitmap,
    pub(super) soft: Bitmap,
}

/// `struct xen_domctl_scheduler_op`; its union begins with weight and cap for credit and credit2.
#[repr(C)]
#[derive(Debug)]
pub(super) struct SchedulerCall {
    pub(super) scheduler: u32,
    pub(super) command: u32,
    pub(super) weight: u16,
    pub(super) cap: u16,
}

/// `struct xen_sysctl_cpupool_op`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PoolCall {
    pub(super) op: u32,
    pub(super) pool: u32,
    pub(super) scheduler: u32,
    pub(super) domain: u32,
    pub(super) cpu: u32,
    pub(super) domains: u32,
    pub(super) cpus: Bitmap,
}

/// `struct xen_sysctl_physinfo`, the part that all versions begin with.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PhysInfo {
    pub(super) threads_per_core: u32,
    pub(super) cores_per_socket: u32,
    pub(super) cpus: u32,
    pub(super) max_cpu: u32,
    pub(super) nodes: u32,
    pub(super) max_node: u32,
    pub(super) khz: u32,
}

/// `struct xen_sysctl_tbuf_op`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceCall {
    pub(super) command: u32,
    pub(super) cpu_mask: [u64; 2],
    pub(super) event_mask: u32,
    pub(super) buffer_mfn: u64,
    pub(super) size: u32,
}

/// `struct xen_pmu_params` of pmu.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct PmuParams {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) value: u64,
    pub(super) vcpu: u32,
    pub(super) pad: u32,
}

/// `struct xen_platform_op` with `struct xenpf_resource_op` in its union, which has 128 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ResourceCall {
    pub(super) command: u32,
    pub(super) version: u32,
    pub(super) count: u32,
    pub(super) cpu: u32,
    pub(super) entries: u64,
    pub(super) rest: [u64; 14],
}

/// `struct xen_platform_op` with `struct xenpf_symdata` in its union.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct SymbolCall {
    pub(super) command: u32,
    pub(super) version: u32,
    pub(super) name_len: u32,
    pub(super) number: u32,
    pub(super) name: u64,
    pub(super) address: u64,
    pub(super) kind: u64,
    pub(super) rest: [u64; 12],
}

/// `struct xenpf_resource_entry`: the command, and after the call the error of the first entry that failed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct ResourceEntry {
    pub(super) command: u32,
    pub(super) reserved: u32,
    pub(super) index: u64,
    pub(super) value: u64,
}

/// `struct xen_domctl_vcpu_msrs`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct VcpuMsrsCall {
    pub(super) vcpu: u32,
    pub(super) count: u32,
    pub(super) msrs: u64,
}

/// `struct xen_domctl_vcpu_msr`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct VcpuMsr {
    pub(super) index: u32,
    pub(super) reserved: u32,
    pub(super) value: u64,
}

/// Bytes of one entry of the list of domains.
pub(super) fn domain_stride(domctl: u32) -> usize {
    match (cfg!(target_arch = "aarch64"), domctl) {
        // xen_arch_domainconfig of Arm is 16 bytes, since 4.18 20 (with padding 24), measured at 4.17: 120 in all.
        (true, _) => 120,
        (false, domctl::LONGER_INFO..) => 112,
        (false, _) => 104,
    }
}

/// Where `arch_config.emulation_flags` is in an entry of the list of domains.
pub(super) fn emulation_flags_at(domctl: u32) -> usize {
    if domctl >= domctl::LONGER_INFO { 104 } else { 96 }
}

/// `struct vcpu_guest_context` of arch-x86/xen.h, 64 bits: offsets of what is read.
pub(super) mod context64 {
    pub(crate) const SIZE: usize = 5168;
    pub(crate) const FLAGS: usize = 512;
    const REGS: usize = 520;
    pub(crate) const RBP: usize = REGS + 32;
    pub(crate) const RIP: usize = REGS + 128;
    pub(crate) const CS: usize = REGS + 136;
    pub(crate) const RSP: usize = REGS + 152;
    pub(crate) const SS: usize = REGS + 160;
    pub(crate) const KERNEL_SP: usize = 4976;
    pub(crate) const CR: usize = 4984;
}

/// The same of a 32-bit PV guest (xen/foreign/x86_32.h): every field but the FPU's has 4 bytes.
pub(super) mod context32 {
    pub(crate) const FLAGS: usize = 512;
    const REGS: usize = 516;
    pub(crate) const EBP: usize = REGS + 20;
    pub(crate) const EIP: usize = REGS + 32;
    pub(crate) const CS: usize = REGS + 36;
    pub(crate) const ESP: usize = REGS + 44;
    pub(crate) const CR: usize = 2716;
}

macro_rules! layouts {
    ($($type:ty, $size:expr, { $($field:ident @ $offset:expr),* };)*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };)*
    };
}
layouts! {
    PrivcmdHypercall, 48, { op @ 0, args @ 8 };
    MmapBatch, 32, { num @ 0, domain @ 4, address @ 8, frames @ 16, errors @ 24 };
    MulticallEntry, 64, { op @ 0, result @ 8, args @ 16 };
    Domctl, 144, { command @ 0, version @ 4, domain @ 8, body @ 16 };
    Sysctl, 136, { command @ 0, version @ 4, body @ 8 };
    VcpuContextCall, 16, { vcpu @ 0, context @ 8 };
    VcpuInfoCall, 24, { vcpu @ 0, online @ 4, blocked @ 5, running @ 6, cpu_time @ 8, cpu @ 16 };
    DomainInfoEntry, 96, { domain @ 0, flags @ 4, total_pages @ 8, max_pages @ 16, shared_info_frame @ 48, cpu_time @ 56,
        online_vcpus @ 64, max_vcpu @ 68, handle @ 76, pool @ 92 };
    DomainListCall, 24, { first @ 0, max @ 4, buffer @ 8, num @ 16 };
    CpuInfoCall, 24, { max @ 0, info @ 8, num @ 16 };
    Bitmap, 16, { bits @ 0, len @ 8 };
    AffinityCall, 40, { vcpu @ 0, flags @ 4, hard @ 8, soft @ 24 };
    SchedulerCall, 12, { scheduler @ 0, command @ 4, weight @ 8, cap @ 10 };
    PoolCall, 40, { op @ 0, pool @ 4, scheduler @ 8, domains @ 20, cpus @ 24 };
    PhysInfo, 28, { cpus @ 8, max_cpu @ 12, khz @ 24 };
    TraceCall, 48, { command @ 0, cpu_mask @ 8, event_mask @ 24, buffer_mfn @ 32, size @ 40 };
    ResourceCall, 136, { command @ 0, version @ 4, count @ 8, cpu @ 12, entries @ 16 };
    SymbolCall, 136, { command @ 0, version @ 4, name_len @ 8, number @ 12, name @ 16, address @ 24, kind @ 32 };
    ResourceEntry, 24, { command @ 0, reserved @ 4, index @ 8, value @ 16 };
    VcpuMsrsCall, 16, { vcpu @ 0, count @ 4, msrs @ 8 };
    VcpuMsr, 16, { index @ 0, value @ 8 };
    PmuParams, 24, { major @ 0, minor @ 4, value @ 8, vcpu @ 16 };
}
const _: () = {
    assert!(context64::RBP == 552 && context64::RIP == 648 && context64::CS == 656 && context64::RSP == 672);
    assert!(context64::SS == 680 && context64::CR + 3 * 8 == 5008);
    assert!(context32::EBP == 536 && context32::EIP == 548 && context32::CS == 552 && context32::ESP == 560);
};
