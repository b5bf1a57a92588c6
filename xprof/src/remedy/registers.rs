//! What stands in the way of registers: no module, no CPU, no right, a locked kernel, a CPU that refuses.

use std::io;

use xprof_backend::machine::Machine;
use xprof_backend::msr::{DomId, Error, Fault, Table};
use xprof_backend::sys::file::read_small;
use xprof_backend::sys::xen::on_xen;
use xprof_backend::xen::msr::vpmu::Absent;

use super::{Advice, advice, errno};
use crate::commands::msr::BackendChoice;

/// `EUCLEAN`, `ENXIO` of `include/uapi/asm-generic/errno*.h`.
const UCLEAN: i32 = 117;
const NXIO: i32 = 6;

fn text(machine: &Machine, path: &str) -> Option<String> {
    let bytes = read_small(&machine.sys.join(path), 4096).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The mode in brackets of /sys/kernel/security/lockdown, unless it is `none`.
fn lockdown(machine: &Machine) -> Option<String> {
    let text = text(machine, "kernel/security/lockdown")?;
    let (_, rest) = text.split_once('[')?;
    let (mode, _) = rest.split_once(']')?;
    (mode != "none").then(|| mode.to_owned())
}

/// The advice for a call that failed as a whole.
pub(super) fn of_error(machine: &Machine, error: &Error) -> Option<Advice> {
    match error {
        Error::Os { attempt, source } => of_device(machine, attempt, source),
        Error::Busy { holders, .. } if holders.iter().any(|holder| *holder != DomId::ZERO) => advice(
            "guests that were created while the vPMU's mode was self or hv have counters, and Xen changes no mode under them; \
             these are the candidates",
            "xl shutdown each of them, or set the mode before guests are created: xprof msr allocate --backend xen ..",
        ),
        Error::Busy { .. } => advice("another program holds these registers", "pgrep -a xprof"),
        Error::Unsupported(what) if what.starts_with("there is no vPMU") => of_vpmu(what),
        Error::Unsupported(what) if what.ends_with("do not count other domains") => advice(
            "guests that were created while they were lent counters of their own are in the way of mode all, so it is set before",
            "xprof msr allocate --backend xen --scope global   (it holds mode all; and this in another terminal meanwhile)",
        ),
        Error::Unsupported(what) if what.starts_with("a sample's pCPU is not known") => advice(
            "a counter is of the pCPU that a vCPU is on, and its interrupts go to the vCPU of dom0 that has the pCPU's number",
            "dom0_vcpus_pin without dom0_max_vcpus on Xen's command line, then reboot the host",
        ),
        Error::Unsupported(what) if what.starts_with("the vPMU's mode is off") => advice(
            "whoever set it did not want counters; the mode is the whole host's",
            "xprof msr allocate --backend xen --scope local   (and this in another terminal meanwhile)",
        ),
        Error::Unsupported(what) if what.starts_with("none of the events is counted") => advice(
            "a sample of time in dom0 never falls into another domain; only counters of the CPU do, and dom0's kernel has none of these",
            "xprof doctor; without counters: xprof record -a --source context,trace",
        ),
        Error::Unsupported(what) if what.starts_with("dom0 has ") => advice(
            "a counter that is set where a vCPU is now counts another pCPU when Xen moves it, and nobody counts where none is",
            "dom0_vcpus_pin without dom0_max_vcpus on Xen's command line, then reboot the host; or -C with pCPUs that dom0 is pinned to",
        ),
        Error::Unsupported(what) if what.starts_with("no vCPU of dom0") => {
            advice("the counters of a pCPU are reached by a vCPU that is there", "xl vcpu-list 0")
        }
        Error::Unsupported(what) if what.starts_with("host-wide on Xen") => {
            advice("Xen has one vPMU mode for all domains", "xprof msr allocate --backend xen --domain 0 --scope ..")
        }
        Error::NoSuch(what) if what.starts_with("domain") && on_xen(machine) => {
            advice("no domain or vCPU has this number now", "xprof domains")
        }
        Error::NoSuch(what) if what.starts_with("CPU") => {
            advice("it is offline or does not exist", "cat /sys/devices/system/cpu/online")
        }
        Error::NoSuch(_) => advice("a machine without a VMM has domain 0 alone", "xprof msr .. --backend simulated"),
        _ => None,
    }
}

/// No vPMU, by [`Absent`]'s words.
fn of_vpmu(what: &str) -> Option<Advice> {
    let is = |absent: Absent| what.ends_with(&absent.to_string());
    let next = match () {
        () if is(Absent::Pvh) => "xprof record -e cpu-clock ..   (a PV dom0 has counters with vpmu=on)",
        () if is(Absent::Watchdog) => "watchdog off and vpmu=on on Xen's command line, then reboot the host",
        () if is(Absent::UnknownCpu) => "xl dmesg | grep -i vpmu",
        () => "vpmu=on on Xen's command line, then reboot the host",
    };
    advice("counters of domains need Xen's vPMU; sampling by time does not", next)
}

fn of_device(machine: &Machine, attempt: &str, source: &io::Error) -> Option<Advice> {
    let number = source.raw_os_error();
    let has_module = machine.sys.join("module/msr").exists();
    let is_open = attempt.starts_with("open ") && attempt.ends_with("/msr");
    match number {
        Some(UCLEAN) => advice(
            "a program that was killed has left registers changed",
            "xprof doctor --restore   (shows what they were, and puts it back)",
        ),
        Some(errno::NOENT | errno::NODEV | NXIO) if is_open && has_module => {
            advice("this CPU is offline or does not exist", "cat /sys/devices/system/cpu/online")
        }
        Some(errno::NOENT | errno::NODEV | NXIO) if is_open => {
            advice("the kernel's msr module is not loaded (or this kernel has none)", "sudo modprobe msr")
        }
        Some(errno::PERM | errno::ACCES) if attempt.starts_with("write to ") => of_write(machine),
        Some(errno::PERM | errno::ACCES) if is_open => advice(
            "only root with CAP_SYS_RAWIO may open it",
            "sudo xprof msr ..   (in a container: --cap-add SYS_RAWIO)",
        ),
        Some(errno::PERM | errno::ACCES) if attempt.contains("journal") => {
            advice("only root may write in /run", "sudo xprof msr ..")
        }
        _ => None,
    }
}

/// Reading went well and writing did not.
fn of_write(machine: &Machine) -> Option<Advice> {
    if let Some(mode) = lockdown(machine) {
        return advice(
            format!("the kernel is locked down ({mode}): registers can be read, and not written"),
            "secure boot off, or lockdown=none on the kernel command line",
        );
    }
    if text(machine, "module/msr/parameters/allow_writes").is_some_and(|allow| allow == "off") {
        return advice(
            "msr.allow_writes is off: the kernel lets nobody write registers from user space",
            "echo on | sudo tee /sys/module/msr/parameters/allow_writes",
        );
    }
    advice("CAP_SYS_RAWIO is missing, or a security module refuses", "sudo xprof msr write ..")
}

/// The advice for an entry that was not done.
pub(crate) fn of_fault(fault: Fault, backend: &BackendChoice, table: &Table) -> Option<Advice> {
    match fault {
        Fault::Unknown if table.family.name == "no-pmu" => advice(
            "CPUID offers no performance counters here (most virtual machines have none)",
            "xprof msr read --backend simulated ..   or on the host: counters for the guest (qemu -cpu host,pmu=on)",
        ),
        Fault::Unknown if *backend == BackendChoice::Xen => advice(
            "Xen lets dom0 reach few registers, and no counters: those of a PV dom0 are behind native",
            "xprof msr classes --backend xen; xprof msr .. --backend native",
        ),
        Fault::NotHere if *backend == BackendChoice::Xen => advice(
            "Xen lets dom0 have the cache monitor's registers where CPU and Xen monitor the cache, and address masks on an AMD \
             CPU that has them (DBEXT)",
            "psr=cmt on Xen's command line; xl psr-hwinfo --cmt",
        ),
        Fault::Unknown => advice("the table of this CPU's class does not have it", "xprof msr classes"),
        Fault::Reserved => advice("bits that the table reserves must keep their value", "xprof msr classes"),
        Fault::ReadOnly => advice("the table lets it be read only", "xprof msr classes"),
        Fault::InUse => advice(
            "the kernel's own perf or its NMI watchdog counts with it",
            "sudo sysctl kernel.nmi_watchdog=0   (and end other profilers: pgrep -a perf)",
        ),
        Fault::Refused if *backend == BackendChoice::Msr => advice(
            "the CPU refused the access (#GP): it does not have this register, or the hypervisor below keeps it",
            "xprof msr classes   (and dmesg | grep -i msr)",
        ),
        Fault::Refused => advice("the kernel refused the event that this would be", "xprof list; dmesg | tail"),
        Fault::NotHere if *backend == BackendChoice::Native => advice(
            "the kernel keeps this register to itself, or refuses the event to this user",
            "xprof msr .. --backend msr; xprof doctor",
        ),
        Fault::NotHere => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A machine with these files below /sys.
    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine::below(dir.path());
        (dir, machine)
    }

    fn cause(files: &[(&str, &str)], attempt: &str, errno: i32) -> String {
        let (_dir, machine) = machine(files);
        let error = Error::Os { attempt: attempt.into(), source: io::Error::from_raw_os_error(errno) };
        of_error(&machine, &error).unwrap().cause
    }

    #[test]
    fn each_obstacle_has_its_own_words() {
        let open = "open /dev/cpu/0/msr";
        let loaded = ("module/msr/parameters/allow_writes", "on\n");
        let mut causes = vec![
            cause(&[], open, errno::NOENT),
            cause(&[loaded], open, errno::NOENT),
            cause(&[loaded], open, errno::PERM),
            cause(
                &[loaded, ("kernel/security/lockdown", "none [integrity] confidentiality\n")],
                "write to /dev/cpu/0/msr",
                errno::PERM,
            ),
            cause(&[("module/msr/parameters/allow_writes", "off\n")], "write to /dev/cpu/0/msr", errno::PERM),
            cause(
                &[loaded, ("kernel/security/lockdown", "[none] integrity confidentiality\n")],
                "write to /dev/cpu/0/msr",
                errno::PERM,
            ),
            cause(&[], "use the registers of CPU 0", UCLEAN),
        ];
        assert!(causes[0].contains("module") && causes[1].contains("offline") && causes[2].contains("CAP_SYS_RAWIO"));
        assert!(causes[3].contains("integrity") && causes[4].contains("allow_writes"));
        let table = Table {
            family: xprof_backend::msr::tables::named("perfmon-v2").unwrap(),
            limits: xprof_backend::msr::Limits::NONE,
        };
        causes.push(of_fault(Fault::Refused, &BackendChoice::Msr, &table).unwrap().cause);
        assert!(causes.last().unwrap().contains("#GP"));
        causes.sort();
        causes.dedup();
        assert_eq!(causes.len(), 8);
    }
}
