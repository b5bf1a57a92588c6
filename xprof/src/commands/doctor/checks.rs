//! The checks, each a few lines: try it, say what was found, name the command.

use std::path::{Path, PathBuf};
use std::{env, fs};

use xprof_backend::event::{self, catalog};
use xprof_backend::machine::Machine;
use xprof_backend::native::msr::{Places, journal};
use xprof_backend::proc::{self, Permissions};
use xprof_backend::xen::msr::journal as of_xen;
use xprof_backend::{Error, Result, sys};

use super::{Check, State};
use crate::remedy;

/// The check that decides the exit status.
pub(super) const RECORDING: &str = "own programs";

/// All checks, the most important first.
pub(super) fn all() -> Vec<Check> {
    let machine = Machine::here();
    let facts = Permissions::read(&machine);
    let mut list = vec![kernel(&machine, &facts), privileges(&facts)];
    list.push(opened(RECORDING, "user space of your own programs", catalog::try_open(&machine, "cpu-clock:u")));
    list.push(opened("kernel samples", "their time in the kernel", catalog::try_open(&machine, "cpu-clock")));
    list.push(opened("whole CPUs", "everything on a CPU (-a, -C)", on_cpu(&machine)));
    list.push(others(&facts));
    list.push(opened("tracepoints", "tracepoints (-e sched:sched_switch)", tracepoint(&machine)));
    list.push(counters(&machine, &facts));
    list.push(masked_code(env::consts::ARCH, facts.core_pmus.is_empty(), &command_line(&machine)));
    list.push(kernel_names(&machine, &facts));
    list.push(kernel_debuginfo(&machine));
    list.push(cache_directory());
    list.push(rings(&facts));
    list.push(files(&machine));
    list.push(rate(&facts));
    list.extend(obstacles(&facts));
    list.extend(super::xen::all());
    list.extend(left_changed());
    list
}

/// What a killed run has left changed.
fn left_changed() -> Option<Check> {
    let left = journal::left(&Places::default()).unwrap_or_default();
    let registers: usize = left.iter().map(|left| left.changes.len()).sum();
    let paused = super::restore::paused().unwrap_or_default().iter().filter(|left| left.domain.is_some()).count();
    let host = of_xen::left(Path::new(of_xen::JOURNALS)).unwrap_or_default();
    let mut found: Vec<String> = host
        .iter()
        .flat_map(|left| &left.changes)
        .map(|change| {
            let [old, new] = change.values();
            format!("{} was left at {new} (it was {old})", change.of)
        })
        .collect();
    if registers > 0 {
        found.push(format!("{registers} registers were left changed"));
    }
    if paused > 0 {
        found.push(format!("{paused} domains were left paused"));
    }
    (!found.is_empty()).then(|| {
        let found = format!("{} by a run that was killed", found.join(", "));
        check("left changed", State::Limited, found, Some("sudo xprof doctor --restore".into()))
    })
}

pub(super) fn check(name: &'static str, state: State, found: impl Into<String>, command: Option<String>) -> Check {
    Check { name, state, found: found.into(), command }
}

fn kernel(machine: &Machine, facts: &Permissions) -> Check {
    let release = proc::facts(machine).os_release.unwrap_or_else(|| "unknown".into());
    let host = match (&facts.hypervisor, facts.container) {
        (Some(h), Some(c)) => format!(", in {c} in a virtual machine of {h}"),
        (Some(h), None) => format!(", in a virtual machine of {h}"),
        (None, Some(c)) => format!(", in {c}"),
        (None, None) => String::new(),
    };
    match facts.paranoid {
        Some(_) => check("kernel", State::Fact, format!("Linux {release}{host}"), None),
        None => check(
            "kernel",
            State::Fails,
            format!("Linux {release}{host}, built without perf events"),
            Some("zgrep PERF_EVENTS /proc/config.gz".into()),
        ),
    }
}

fn privileges(facts: &Permissions) -> Check {
    let level = facts.paranoid.map_or_else(|| "absent".into(), |l| l.to_string());
    let meaning = match facts.paranoid {
        Some(..=-1) => "everyone may measure everything",
        Some(0) => "everyone may measure whole CPUs, but no tracepoints",
        Some(1) => "everyone may measure their own programs and the kernel's work for them",
        Some(2) => "everyone may measure user space of their own programs",
        _ => "only CAP_PERFMON may measure",
    };
    let who = if facts.is_perfmon() {
        "this process has CAP_PERFMON or CAP_SYS_ADMIN, and may do all".to_owned()
    } else if facts.in_user_namespace {
        format!("user {} of a user namespace, without capabilities that count", facts.uid)
    } else {
        format!("user {} without CAP_PERFMON", facts.uid)
    };
    let state = if facts.is_perfmon() || facts.paranoid.is_some_and(|l| l < 0) { State::Works } else { State::Limited };
    let command = (state == State::Limited).then(|| remedy::sysctl(facts, -1));
    check("privileges", state, format!("perf_event_paranoid {level}: {meaning}; {who}"), command)
}

/// Turns the answer of the kernel into a check, with the same advice that a failed recording would get.
fn opened(name: &'static str, what: &str, answer: Result<()>) -> Check {
    match answer {
        Ok(()) => check(name, State::Works, format!("can measure {what}"), None),
        Err(error) => {
            let advice = remedy::of(&error);
            let why = advice.as_ref().map_or_else(|| error.to_string(), |a| a.cause.clone());
            check(name, State::Fails, format!("cannot measure {what}: {why}"), advice.map(|a| a.next))
        }
    }
}

fn on_cpu(machine: &Machine) -> Result<()> {
    let cpu = machine.online_cpus().first().copied().unwrap_or(0);
    for mut spec in event::parse_on("cpu-clock", machine)?.into_iter().flat_map(|g| g.events) {
        spec.cpus = Some(vec![cpu]);
        catalog::open_once(&spec).map_err(|source| Error::Open {
            event: spec.name.clone(),
            pid: None,
            cpu: Some(cpu),
            opened: 0,
            source,
        })?;
    }
    Ok(())
}

fn tracepoint(machine: &Machine) -> Result<()> {
    catalog::try_open(machine, "sched:sched_switch")
}

fn others(facts: &Permissions) -> Check {
    const NAME: &str = "other users";
    if facts.is_ptrace() {
        return check(NAME, State::Works, "can measure processes of other users (-p)", None);
    }
    let found = "cannot measure processes of other users: that takes CAP_PERFMON or CAP_SYS_PTRACE";
    check(NAME, State::Fails, found, Some("sudo xprof record -p PID".into()))
}

fn counters(machine: &Machine, facts: &Permissions) -> Check {
    const NAME: &str = "hardware counters";
    if facts.core_pmus.is_empty() {
        let advice = remedy::no_pmu(facts);
        let (why, next) = advice.map_or((String::new(), None), |a| (a.cause, Some(a.next)));
        return check(NAME, State::Limited, format!("none: {why}; time is sampled instead (cpu-clock)"), next);
    }
    match catalog::try_open(machine, "cycles:u") {
        Ok(()) => check(NAME, State::Works, format!("PMU {}", facts.core_pmus.join(", ")), None),
        Err(error) => opened(NAME, "cycles", Err(error)),
    }
}

/// `/proc/cmdline`; empty when it cannot be read.
fn command_line(machine: &Machine) -> String {
    fs::read_to_string(machine.proc.join("cmdline")).unwrap_or_default()
}

/// Whether kernel code that runs with interrupts off is seen there: only an interrupt that cannot be masked sees it. x86's
/// counters raise one; those of Armv8 do with `irqchip.gicv3_pseudo_nmi` (Linux, kernel-parameters.txt), RISC-V's and
/// timers never.
fn masked_code(arch: &str, no_counters: bool, command_line: &str) -> Check {
    const NAME: &str = "interrupts off";
    const OPTION: &str = "irqchip.gicv3_pseudo_nmi=1";
    let seen_later = "kernel code that runs with interrupts off is seen where they come on again";
    let has_option = command_line.split_ascii_whitespace().any(|word| word == OPTION);
    match (no_counters, arch) {
        (true, _) => check(NAME, State::Limited, format!("{seen_later}: a timer takes the samples"), None),
        (false, "x86_64" | "x86") => check(NAME, State::Works, "counters see kernel code that runs so", None),
        (false, "aarch64") if has_option => {
            check(NAME, State::Works, format!("counters see kernel code that runs so ({OPTION})"), None)
        }
        (false, "aarch64") => {
            let command = format!("{OPTION} on the kernel's command line, with a GICv3, then reboot");
            check(NAME, State::Limited, format!("{seen_later}: the counters' interrupt can be masked"), Some(command))
        }
        _ => check(NAME, State::Limited, format!("{seen_later}: the counters' interrupt can be masked"), None),
    }
}

fn kernel_names(machine: &Machine, facts: &Permissions) -> Check {
    const NAME: &str = "kernel names";
    match proc::kernel(machine) {
        Ok(_) => check(NAME, State::Works, "/proc/kallsyms names the kernel's functions", None),
        Err(error) => {
            let advice = remedy::kernel_names(facts);
            check(NAME, State::Fails, format!("{error}: {}", advice.cause), Some(advice.next))
        }
    }
}

fn kernel_debuginfo(machine: &Machine) -> Check {
    const NAME: &str = "kernel debuginfo";
    let release = proc::facts(machine).os_release.unwrap_or_default();
    let places = [
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/boot/vmlinux-{release}"),
    ];
    match places.iter().find(|p| Path::new(p).exists()) {
        Some(path) => check(NAME, State::Works, path.clone(), None),
        None => check(
            NAME,
            State::Fact,
            "no vmlinux of this kernel: functions have names, lines of source have not",
            Some(format!("sudo apt install linux-image-{release}-dbg   (Debian; elsewhere kernel-debuginfo)")),
        ),
    }
}

fn cache_directory() -> Check {
    const NAME: &str = "~/.debug";
    let Some(home) = env::var_os("HOME").map(PathBuf::from) else {
        return check(NAME, State::Limited, "HOME is not set: files that vanish cannot be kept", None);
    };
    let dir = home.join(".debug");
    let existing = if dir.is_dir() { &dir } else { &home };
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK) {
        Ok(()) => check(NAME, State::Works, format!("{} can be written", dir.display()), None),
        Err(error) => check(
            NAME,
            State::Limited,
            format!("{} cannot be written ({error}): files that vanish are not kept", dir.display()),
            Some(format!("mkdir -p {0} && chmod u+w {0}", dir.display())),
        ),
    }
}

fn rings(facts: &Permissions) -> Check {
    const NAME: &str = "ring memory";
    if facts.is_ipc_lock() || facts.paranoid.is_some_and(|l| l < 0) {
        return check(NAME, State::Works, "rings may have any size", None);
    }
    let kb = facts.mlock_kb.unwrap_or(0);
    let state = if kb >= 516 { State::Works } else { State::Limited };
    let command = (state == State::Limited).then(|| "sudo sysctl kernel.perf_event_mlock_kb=516".to_owned());
    check(NAME, state, format!("perf_event_mlock_kb allows {kb} KiB of rings per CPU, `ulimit -l` adds to it"), command)
}

fn files(machine: &Machine) -> Check {
    const NAME: &str = "open files";
    // Asking for the most raises the soft limit to what is allowed, as recording does.
    let limit = sys::limits::raise_open_files(u64::from(u32::MAX >> 2));
    let cpus = machine.online_cpus().len() as u64;
    let threads = limit / (2 * cpus.max(1));
    let state = if threads >= 256 { State::Works } else { State::Limited };
    let command = (state == State::Limited).then(|| format!("ulimit -n {}", 1024 * cpus));
    let found = format!("{limit} files: processes of up to {threads} threads on {cpus} CPUs with one event");
    check(NAME, state, found, command)
}

fn rate(facts: &Permissions) -> Check {
    const NAME: &str = "sample rate";
    // What record asks for when it is told nothing, Hz.
    const DEFAULT_RATE: i64 = 997;
    let Some(rate) = facts.max_sample_rate else { return check(NAME, State::Fact, "unknown", None) };
    let state = if rate < DEFAULT_RATE { State::Limited } else { State::Works };
    let command = (state == State::Limited).then(|| "sudo sysctl kernel.perf_event_max_sample_rate=100000".to_owned());
    let why = if state == State::Limited { " (the kernel lowers it when its interrupts take too long)" } else { "" };
    check(NAME, state, format!("at most {rate} Hz per CPU{why}"), command)
}

/// What stands in the way of some, and is silent otherwise.
fn obstacles(facts: &Permissions) -> Vec<Check> {
    let mut list = Vec::new();
    if facts.seccomp != 0 {
        let advice = remedy::seccomp(facts).map(|a| a.next);
        let refuses = catalog::try_open(&Machine::here(), "dummy:u").is_err();
        let (state, found, command) = match refuses {
            true => (State::Fails, "a filter is active, and perf_event_open is refused", advice),
            false => (State::Works, "a filter is active, and lets perf_event_open pass", None),
        };
        list.push(check("seccomp", state, found, command));
    }
    if let Some(mode) = &facts.lockdown {
        let state = if mode == "confidentiality" { State::Fails } else { State::Works };
        list.push(check("lockdown", state, format!("the kernel is locked down: {mode}"), None));
    }
    if facts.nmi_watchdog && !facts.core_pmus.is_empty() {
        let found = "holds one hardware counter on every CPU";
        list.push(check("NMI watchdog", State::Limited, found, Some("sudo sysctl kernel.nmi_watchdog=0".into())));
    }
    if let Some(who) = fs::read_link("/proc/self/exe").ok().filter(|_| !facts.is_perfmon() && !facts.in_user_namespace)
    {
        let command = format!("sudo setcap cap_perfmon,cap_sys_ptrace+ep {}", who.display());
        list.push(check(
            "capability",
            State::Fact,
            "xprof can be given the right to measure once and for all",
            Some(command),
        ));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_with_interrupts_off_is_seen_by_interrupts_that_cannot_be_masked() {
        let state = |arch, no_counters, line| masked_code(arch, no_counters, line).state;
        assert_eq!(state("x86_64", false, ""), State::Works);
        assert_eq!(state("x86_64", true, ""), State::Limited);
        assert_eq!(state("aarch64", false, "quiet irqchip.gicv3_pseudo_nmi=1 ro"), State::Works);
        assert_eq!(state("aarch64", false, "quiet irqchip.gicv3_pseudo_nmi=0"), State::Limited);
        assert_eq!(state("aarch64", true, "irqchip.gicv3_pseudo_nmi=1"), State::Limited);
        assert_eq!(state("riscv64", false, ""), State::Limited);
    }
}
