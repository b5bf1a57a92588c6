//! From an error of the backend to its true cause and the next command to type.
//!
//! The kernel answers most refusals with the same two words, so the cause is found by looking at the machine after
//! the fact: what this process may do, what it asked for, what opens all the same.

mod registers;

use std::io;

use xprof_backend::event::catalog;
use xprof_backend::machine::Machine;
use xprof_backend::proc::Permissions;
use xprof_backend::sys::xen::{XenError, is_dom0};
use xprof_backend::{Error, msr, sys};

/// Why it failed, and what to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The cause, one sentence without a full stop.
    pub(crate) cause: String,
    /// A command, or the option to use.
    pub(crate) next: String,
}

fn advice(cause: impl Into<String>, next: impl Into<String>) -> Option<Advice> {
    Some(Advice { cause: cause.into(), next: next.into() })
}

/// `errno` numbers, of `include/uapi/asm-generic/errno*.h`.
mod errno {
    pub(super) const PERM: i32 = 1;
    pub(super) const NOENT: i32 = 2;
    pub(super) const SRCH: i32 = 3;
    pub(super) const NOMEM: i32 = 12;
    pub(super) const ACCES: i32 = 13;
    pub(super) const BUSY: i32 = 16;
    pub(super) const NODEV: i32 = 19;
    pub(super) const INVAL: i32 = 22;
    pub(super) const NFILE: i32 = 23;
    pub(super) const MFILE: i32 = 24;
    pub(super) const NOSPC: i32 = 28;
    pub(super) const NOSYS: i32 = 38;
    pub(super) const OPNOTSUPP: i32 = 95;
}

/// The advice for an error, or none when the error says all there is.
pub(crate) fn of(error: &Error) -> Option<Advice> {
    let machine = Machine::here();
    let facts = Permissions::read(&machine);
    match error {
        Error::Open { event, pid, cpu, opened, source } => {
            let target = Target { pid: pid.and_then(|p| u32::try_from(p).ok()), cpu: *cpu };
            of_open(&machine, &facts, event, target, *opened, source)
        }
        Error::TooManyFiles { needed, .. } => advice(
            "each event needs a file descriptor for each thread and CPU, and the hard limit could not be raised \
             (that takes CAP_SYS_RESOURCE)",
            format!(
                "xprof record -a, then xprof report --pid PID: one descriptor per event and CPU\n         \
                 or, from a shell that may: ulimit -n {needed}"
            ),
        ),
        Error::NoTarget { what } => no_target(&machine, what),
        Error::NoCgroups => advice(
            "the controller is in a hierarchy of version 1 of its own (/proc/cgroups), or in none",
            "sudo mkdir -p /sys/fs/cgroup/perf_event; sudo mount -t cgroup -o perf_event none /sys/fs/cgroup/perf_event",
        ),
        Error::Xen(error) => of_xen(&machine, error),
        Error::Os { attempt, source } => of_call(&machine, &facts, attempt, source),
        Error::Registers(error) => of_registers(error),
        _ => None,
    }
}

/// What an event was to be opened on.
#[derive(Clone, Copy)]
struct Target {
    pid: Option<u32>,
    cpu: Option<u32>,
}

/// The advice for a call of the contract that failed as a whole.
pub(crate) fn of_registers(error: &msr::Error) -> Option<Advice> {
    registers::of_error(&Machine::here(), error)
}

/// The advice for an entry that was not done.
pub(crate) use registers::of_fault;

fn of_open(
    machine: &Machine,
    facts: &Permissions,
    event: &str,
    target: Target,
    opened: usize,
    source: &io::Error,
) -> Option<Advice> {
    match source.raw_os_error()? {
        errno::ACCES | errno::PERM => refused(machine, facts, event, target, source),
        errno::NOSYS if facts.seccomp == 2 => seccomp(facts),
        errno::NOSYS => advice("this kernel was built without perf events", "zgrep PERF_EVENTS /proc/config.gz"),
        errno::NOENT | errno::OPNOTSUPP | errno::NODEV if facts.core_pmus.is_empty() && needs_pmu(machine, event) => {
            no_pmu(facts)
        }
        errno::NOENT => advice("this CPU does not have the event", "xprof list"),
        errno::OPNOTSUPP => no_sampling(event),
        errno::NODEV => match target.cpu.filter(|cpu| !machine.online_cpus().contains(cpu)) {
            Some(cpu) => {
                advice(format!("CPU {cpu} is offline or does not exist"), "cat /sys/devices/system/cpu/online")
            }
            None => advice("the PMU of this event does not work on that CPU", "xprof list"),
        },
        errno::MFILE => {
            let limit = sys::limits::open_files();
            advice(
                format!("this process may have {limit} files open, and {opened} events were open when it ran out"),
                format!("ulimit -n {}", limit.saturating_mul(4)),
            )
        }
        errno::NFILE => of_files(source),
        errno::SRCH => advice("the process or thread has ended", "pgrep -a NAME"),
        errno::BUSY if facts.nmi_watchdog => {
            advice("the NMI watchdog holds a counter", "sudo sysctl kernel.nmi_watchdog=0")
        }
        errno::BUSY => advice(
            "another profiler holds the counters, or the event asks for one alone (`:e`, `:D`)",
            "sudo fuser -v /proc/sys/kernel/perf_event_paranoid; pgrep -a perf",
        ),
        errno::NOSPC => advice("all breakpoint registers of the CPU are in use (x86 has 4)", "fewer mem: events"),
        errno::INVAL if catalog::try_open(machine, event).is_ok() => no_sampling(event),
        errno::INVAL => advice(
            "the kernel knows the PMU, but not this combination of event, modifiers and sampling",
            format!("xprof list '{}*'", event.split([':', '/']).next().unwrap_or(event)),
        ),
        _ => None,
    }
}

/// A PMU without an interrupt, such as msr or an uncore PMU.
fn no_sampling(event: &str) -> Option<Advice> {
    advice(
        format!("the counter of {event} can be read, but raises no interrupt to take samples by"),
        "xprof record -e cpu-clock ..",
    )
}

/// EACCES and EPERM: paranoid level, seccomp, lockdown, somebody else's process.
fn refused(machine: &Machine, facts: &Permissions, event: &str, target: Target, source: &io::Error) -> Option<Advice> {
    // What everyone may do unless perf is closed as a whole.
    let closed = catalog::try_open(machine, "dummy:u").is_err();
    let is_perm = source.raw_os_error() == Some(errno::PERM);
    let level = facts.paranoid.unwrap_or(2);
    if closed && facts.seccomp == 2 && (is_perm || level < 3 || facts.is_perfmon()) {
        return seccomp(facts);
    }
    if let Some(mode) = facts.lockdown.as_deref().filter(|m| is_perm && *m == "confidentiality") {
        return advice(
            format!("the kernel is locked down ({mode}): it gives nothing away"),
            "lockdown=integrity on the kernel command line, or secure boot off",
        );
    }
    if closed && level >= 3 && !facts.is_perfmon() {
        return advice(
            format!("kernel.perf_event_paranoid is {level}: users without CAP_PERFMON may not measure at all"),
            sysctl(facts, if event.ends_with(":u") { 2 } else { 1 }),
        );
    }
    if closed {
        return advice(
            "the kernel refuses perf events to this process altogether; a security module may do that",
            "xprof doctor",
        );
    }
    if let Some(pid) = target.pid {
        let owner = Permissions::owner(machine, pid);
        if owner.is_some_and(|o| o != facts.uid) && !facts.is_ptrace() {
            return advice(
                format!("process {pid} belongs to user {}, and this is user {}", owner.unwrap_or(0), facts.uid),
                "the same command with sudo",
            );
        }
    }
    if facts.is_perfmon() {
        return None;
    }
    if facts.in_user_namespace && facts.capabilities != 0 {
        return advice(
            format!("root of a user namespace is not root for perf, and kernel.perf_event_paranoid is {level}"),
            sysctl(facts, needed_level(machine, event, target)),
        );
    }
    let needed = needed_level(machine, event, target);
    let what = match needed {
        -1 => "read tracepoints",
        0 => "measure whole CPUs",
        _ => "measure the kernel",
    };
    advice(
        format!("kernel.perf_event_paranoid is {level}: users without CAP_PERFMON may not {what}"),
        if needed == 1 && !is_kernel_only(event) {
            format!("{}   (or only user space: -e {event}:u)", sysctl(facts, 1))
        } else {
            sysctl(facts, needed)
        },
    )
}

/// Whether modifiers leave nothing but the kernel.
fn is_kernel_only(event: &str) -> bool {
    event.rsplit_once(':').is_some_and(|(_, modifiers)| modifiers.contains('k') && !modifiers.contains('u'))
}

/// The highest `perf_event_paranoid` that allows an event on a target.
fn needed_level(machine: &Machine, event: &str, target: Target) -> i64 {
    let name = event.split('/').next().unwrap_or(event);
    let is_tracepoint = catalog::tracepoint_format(machine, name).is_some();
    match target {
        _ if is_tracepoint => -1,
        Target { pid: None, cpu: Some(_) } => 0,
        _ => 1,
    }
}

/// How the paranoid level is lowered, from where this process is.
pub(crate) fn sysctl(facts: &Permissions, level: i64) -> String {
    match facts.container {
        Some(container) => format!("outside {container}: sudo sysctl kernel.perf_event_paranoid={level}"),
        None => format!("sudo sysctl kernel.perf_event_paranoid={level}"),
    }
}

pub(crate) fn seccomp(facts: &Permissions) -> Option<Advice> {
    let who = facts.container.map_or_else(String::new, |c| format!(" of {c}"));
    advice(
        format!("a seccomp filter{who} refuses the system call perf_event_open; no sysctl changes that"),
        "docker run --cap-add PERFMON --security-opt seccomp=unconfined ..   (or SystemCallFilter= of the service)",
    )
}

/// Kernel addresses that read as zero.
pub(crate) fn kernel_names(facts: &Permissions) -> Advice {
    match facts.kptr_restrict {
        Some(0) => Advice {
            cause: "without CAP_SYSLOG they are shown only where perf_event_paranoid is 1 or less".into(),
            next: sysctl(facts, 1),
        },
        Some(1) => Advice {
            cause: "kernel.kptr_restrict is 1: only CAP_SYSLOG sees them".into(),
            next: "sudo sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1".into(),
        },
        _ => Advice {
            cause: "kernel.kptr_restrict is 2: not even root sees them".into(),
            next: "sudo sysctl kernel.kptr_restrict=1".into(),
        },
    }
}

/// No counters: nearly always a virtual machine.
pub(crate) fn no_pmu(facts: &Permissions) -> Option<Advice> {
    let next = match facts.hypervisor.as_deref() {
        Some("KVM") => {
            "on the host: qemu -cpu host,pmu=on (libvirt: <cpu mode='host-passthrough'/>, <pmu state='on'/>)"
        }
        Some("Xen") => "vpmu=on on Xen's command line, then reboot the host",
        Some("VMware") => "vpmc.enable = \"TRUE\" in the .vmx file",
        Some("Hyper-V") => "on the host: Set-VMProcessor -VMName NAME -Perfmon @(\"pmu\")",
        _ => "xprof record -e cpu-clock ..",
    };
    match &facts.hypervisor {
        Some(name) => advice(
            format!("this is a virtual machine, and {name} shows it no counters (no PMU)"),
            format!("-e cpu-clock goes by time and works here; for counters, {next}"),
        ),
        None => advice("the kernel has no driver for this CPU's counters (no PMU)", next),
    }
}

/// Does the event need the core's counters?
fn needs_pmu(machine: &Machine, event: &str) -> bool {
    use xprof_perfdata::abi::event_type::{HARDWARE, HW_CACHE, RAW};
    xprof_backend::event::parse_on(event, machine).is_ok_and(|groups| {
        groups.iter().flat_map(|g| &g.events).any(|e| [HARDWARE, HW_CACHE, RAW].contains(&e.attr.kind))
    })
}

/// Xen's doors.
fn of_xen(machine: &Machine, error: &XenError) -> Option<Advice> {
    match error {
        XenError::NotXen => advice(
            "there are no domains here; this machine itself can be recorded and counted",
            "xprof record -a   (or: xprof stat -a)",
        ),
        XenError::NotDom0 => advice(
            "Xen answers such questions to dom0 alone; this guest can record itself",
            "in dom0: xprof record --all-domains   (here: xprof record -a)",
        ),
        XenError::NoDriver => advice("the driver of hypercalls is not loaded", "sudo modprobe xen-privcmd"),
        XenError::NoPermission(_) => advice("only root may make hypercalls", "sudo xprof domains"),
        XenError::Lockdown(mode) => advice(
            format!("the kernel is locked down ({mode})"),
            "secure boot off, or lockdown=none on dom0's command line",
        ),
        XenError::Version { major, minor, .. } => {
            advice(format!("this xprof knows Xen 4.13 to 4.22, and this is {major}.{minor}"), "a newer xprof")
        }
        XenError::TraceBusy(who) if who.starts_with("it is on") => advice(
            "somebody has turned it on and lets it fill (`tbuf_size` on Xen's command line, or `xentrace -x`): its end, and what is in it, is theirs",
            "when nobody wants it any more: xentrace -D -T 1 /dev/null   (empties it and turns it off)",
        ),
        XenError::TraceBusy(_) => {
            advice("one program at a time can read it, and it is left alone", "when that has ended: the same again")
        }
        XenError::NoTrace => {
            advice("only its scheduler's exact times want it", "leave --source away, or: --source context")
        }
        XenError::DomainGone(_) => advice("it was destroyed, or has shut down", "xprof domains"),
        XenError::Call { source, .. } if source.raw_os_error() == Some(errno::PERM) && !is_dom0(machine) => {
            advice("Xen answers such questions to dom0 alone", "in dom0: xprof domains")
        }
        _ => None,
    }
}

fn no_target(machine: &Machine, what: &str) -> Option<Advice> {
    let online = || {
        let cpus = machine.online_cpus();
        match cpus.as_slice() {
            [first, .., last] if last - first + 1 == cpus.len() as u32 => format!("{first}-{last}"),
            list => list.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        }
    };
    match what.split(' ').next()? {
        "domain" => advice("no domain has this id, name or UUID now", "xprof domains"),
        "process" | "thread" => advice("it has ended, or the number is wrong", "pgrep -a NAME"),
        "CPU" => advice(format!("the CPUs online are {}", online()), "cat /sys/devices/system/cpu/online"),
        "cgroup" => {
            advice("the path is taken below the cgroup root", "systemd-cgls   (or find /sys/fs/cgroup -type d)")
        }
        _ => None,
    }
}

/// System calls other than `perf_event_open`.
fn of_call(machine: &Machine, facts: &Permissions, attempt: &str, source: &io::Error) -> Option<Advice> {
    let number = source.raw_os_error();
    if attempt.starts_with("map a ring") && matches!(number, Some(errno::PERM | errno::NOMEM)) {
        if number == Some(errno::NOMEM) && facts.uid == 0 {
            return advice("there is not so much memory for rings", "-m with fewer pages");
        }
        let kb = facts.mlock_kb.unwrap_or(516);
        return advice(
            format!(
                "rings are locked memory: a user may lock kernel.perf_event_mlock_kb ({kb} KiB per CPU) and `ulimit -l`"
            ),
            format!("-m with fewer pages, or sudo sysctl kernel.perf_event_mlock_kb={}", kb.max(516).saturating_mul(8)),
        );
    }
    let tracing = machine.sys.join("kernel/tracing");
    if attempt.contains("tracing") {
        return match source.kind() {
            io::ErrorKind::PermissionDenied => advice(
                "only root may read tracefs, and tracepoints are found there",
                // The files inside belong to a group and are closed to others: the mode alone is not enough.
                format!(
                    "sudo mount -o remount,mode=755,gid=$(id -g) {}   then {}",
                    tracing.display(),
                    sysctl(facts, -1)
                ),
            ),
            io::ErrorKind::NotFound => {
                advice("tracefs is not mounted", format!("sudo mount -t tracefs nodev {}", tracing.display()))
            }
            _ => None,
        };
    }
    match number {
        Some(errno::SRCH) => advice("the process has ended", "pgrep -a NAME"),
        _ => of_files(source),
    }
}

/// Any call that found no room for another open file.
pub(crate) fn of_files(source: &io::Error) -> Option<Advice> {
    match source.raw_os_error()? {
        errno::MFILE => {
            let limit = sys::limits::open_files();
            advice(
                format!("this process may have {limit} files open"),
                format!("ulimit -n {}", limit.saturating_mul(4)),
            )
        }
        errno::NFILE => advice("the whole machine has no file left to open", "sudo sysctl fs.file-max=1000000"),
        _ => None,
    }
}
