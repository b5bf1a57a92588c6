//! What this process may measure, and what would stop it: the facts behind every refusal of `perf_event_open`.
//!
//! Read when something failed, or by `xprof doctor`; nothing here is on the way of a recording.

use std::path::Path;

use crate::event::pmu::Pmu;
use crate::machine::{self, Machine};

/// `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_IPC_LOCK`, `CAP_PERFMON` of `include/uapi/linux/capability.h`.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;

/// Facts about this process and its kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Effective user.
    pub uid: u32,
    /// Effective capabilities, one bit each.
    pub capabilities: u64,
    /// The user namespace is not the first one: its capabilities do not count for perf.
    pub in_user_namespace: bool,
    /// `Seccomp:` of `/proc/self/status`: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Runs in a container that cannot change the kernel's settings; its runtime's name.
    pub container: Option<&'static str>,
    /// `kernel.perf_event_paranoid`; `None` when the kernel has no perf events.
    pub paranoid: Option<i64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i64>,
    /// `kernel.perf_event_mlock_kb`, KiB per CPU.
    pub mlock_kb: Option<i64>,
    /// `kernel.perf_event_max_sample_rate`, Hz.
    pub max_sample_rate: Option<i64>,
    /// `kernel.nmi_watchdog` is on: it holds a counter.
    pub nmi_watchdog: bool,
    /// The kernel is locked down: `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// PMUs of the cores; none on a machine whose counters are hidden.
    pub core_pmus: Vec<String>,
    /// The hypervisor below, by its usual name.
    pub hypervisor: Option<String>,
}

impl Permissions {
    /// Reads them.
    pub fn read(machine: &Machine) -> Permissions {
        let status = machine::text(&machine.proc.join("self/status")).unwrap_or_default();
        let field = |key: &str| status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':').map(str::trim));
        let kernel = |name: &str| machine.kernel_setting(name);
        Permissions {
            uid: field("Uid").and_then(|u| u.split_whitespace().nth(1)?.parse().ok()).unwrap_or(u32::MAX),
            capabilities: field("CapEff").and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0),
            in_user_namespace: in_user_namespace(machine),
            seccomp: field("Seccomp").and_then(|s| s.parse().ok()).unwrap_or(0),
            container: container(machine),
            paranoid: kernel("perf_event_paranoid"),
            kptr_restrict: kernel("kptr_restrict"),
            mlock_kb: kernel("perf_event_mlock_kb"),
            max_sample_rate: kernel("perf_event_max_sample_rate"),
            nmi_watchdog: kernel("nmi_watchdog") == Some(1),
            lockdown: lockdown(machine),
            core_pmus: Pmu::cores(machine).into_iter().map(|p| p.name).collect(),
            hypervisor: hypervisor(machine),
        }
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1 && !self.in_user_namespace
    }

    /// May ignore `perf_event_paranoid`: `CAP_PERFMON` or `CAP_SYS_ADMIN`.
    pub fn is_perfmon(&self) -> bool {
        self.has(CAP_PERFMON) || self.has(CAP_SYS_ADMIN)
    }

    /// May measure processes of other users.
    pub fn is_ptrace(&self) -> bool {
        self.has(CAP_SYS_PTRACE) || self.is_perfmon()
    }

    /// Is not bound by `perf_event_mlock_kb`.
    pub fn is_ipc_lock(&self) -> bool {
        self.has(CAP_IPC_LOCK)
    }

    /// Owner of a process; `None` when it is gone.
    pub fn owner(machine: &Machine, pid: u32) -> Option<u32> {
        let status = machine::text(&machine.proc.join(pid.to_string()).join("status")).ok()?;
        status.lines().find_map(|l| l.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
    }
}

/// The first user namespace maps every id to itself.
fn in_user_namespace(machine: &Machine) -> bool {
    machine::text(&machine.proc.join("self/uid_map"))
        .is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Container runtimes mount `/proc/sys` read-only, so that settings can be changed only outside. (`/.dockerenv` alone
/// proves nothing: virtual machines are made from container images, too.)
fn container(machine: &Machine) -> Option<&'static str> {
    let mounts = machine::text(&machine.proc.join("self/mountinfo")).ok()?;
    let closed = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(4);
        fields.next() == Some("/proc/sys") && fields.next().is_some_and(|o| o.split(',').any(|o| o == "ro"))
    });
    let root = machine.proc.parent().unwrap_or(Path::new("/"));
    let named = [(".dockerenv", "Docker"), ("run/.containerenv", "Podman")];
    let name = named.iter().find(|(file, _)| root.join(file).exists()).map_or("the container", |(_, name)| *name);
    closed.then_some(name)
}

/// `none [integrity] confidentiality`: the chosen one stands in brackets.
fn lockdown(machine: &Machine) -> Option<String> {
    let text = machine::text(&machine.sys.join("kernel/security/lockdown")).ok()?;
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    (mode != "none").then(|| mode.to_owned())
}

fn hypervisor(machine: &Machine) -> Option<String> {
    if machine::text(&machine.sys.join("hypervisor/type")).is_ok_and(|kind| kind.trim() == "xen") {
        return Some("Xen".into());
    }
    let cpuinfo = machine::text(&machine.proc.join("cpuinfo")).ok()?;
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags"))?;
    if !flags.split_whitespace().any(|f| f == "hypervisor") {
        return None;
    }
    Some(match &signature()? {
        b"KVMKVMKVM\0\0\0" => "KVM".into(),
        b"XenVMMXenVMM" => "Xen".into(),
        b"VMwareVMware" => "VMware".into(),
        b"Microsoft Hv" => "Hyper-V".into(),
        other => format!("a hypervisor ({})", String::from_utf8_lossy(other).trim_end_matches('\0')),
    })
}

/// CPUID leaf 0x4000_0000: the hypervisor's name in ebx, ecx, edx.
#[cfg(target_arch = "x86_64")]
fn signature() -> Option<[u8; 12]> {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let mut name = [0; 12];
    for (word, four) in [leaf.ebx, leaf.ecx, leaf.edx].iter().zip(name.chunks_exact_mut(4)) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    Some(name)
}

#[cfg(not(target_arch = "x86_64"))]
fn signature() -> Option<[u8; 12]> {
    None
}
