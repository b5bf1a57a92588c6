//! What can be measured of Xen and its domains: in dom0, and in a guest.

use xprof_backend::Error;
use xprof_backend::machine::Machine;
use xprof_backend::sys::xen::{XenError, on_xen};
use xprof_backend::xen::host::{DomainStatus, Host};
use xprof_backend::xen::msr::vpmu::{Absent, absent};

use super::checks::check;
use super::{Check, State};
use crate::commands::domains::vpmu_mode;
use crate::remedy;

/// Nothing on a machine without Xen.
pub(super) fn all() -> Vec<Check> {
    let machine = Machine::here();
    if !on_xen(&machine) {
        return Vec::new();
    }
    match Host::open() {
        Ok(mut host) => of_host(&mut host, &machine),
        Err(error) => vec![refused(error)],
    }
}

fn refused(error: XenError) -> Check {
    let in_guest = matches!(error, XenError::NotDom0);
    let error = Error::from(error);
    let advice = remedy::of(&error);
    let why = advice.as_ref().map_or_else(String::new, |advice| format!(": {}", advice.cause));
    let found = if in_guest {
        "this is a guest: it can measure itself, by time (cpu-clock), and by counters where Xen lends them (vpmu); other domains and Xen are measured from dom0".to_owned()
    } else {
        format!("cannot measure domains: {error}{why}")
    };
    check("Xen", if in_guest { State::Fact } else { State::Fails }, found, advice.map(|advice| advice.next))
}

fn of_host(host: &mut Host, machine: &Machine) -> Vec<Check> {
    let (major, minor) = host.xen.version();
    let (domctl, sysctl) = host.xen.interfaces();
    let extra = host.xen.extra_version().unwrap_or_default();
    let build = host.xen.build_id().map_or_else(
        || "no build id".to_owned(),
        |id| format!("build id {}", id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    );
    let mut list = vec![check(
        "Xen",
        State::Works,
        format!("{major}.{minor}{extra}, domctl {domctl:#x}, sysctl {sysctl:#x}, {build}"),
        None,
    )];
    let domains = match host.domains() {
        Ok(domains) => domains,
        Err(error) => {
            list.push(refused(error));
            return list;
        }
    };
    let sampler = if cfg!(target_arch = "x86_64") {
        check(
            "Xen domains",
            State::Works,
            "can sample every domain by its vCPUs' registers (record --all-domains)",
            None,
        )
    } else {
        let found = "can list domains; sampling them is not there yet on Arm";
        check("Xen domains", State::Limited, found, Some("xprof domains".into()))
    };
    list.push(sampler);
    list.push(match &host.store {
        Some(_) => check("Xen names", State::Works, "xenstore names the domains", None),
        None => check(
            "Xen names",
            State::Limited,
            "no xenstore: domains are numbers",
            Some("systemctl start xenstored".into()),
        ),
    });
    let dom0 = domains.iter().find(|domain| domain.info.id == 0);
    if let Some(dom0) = dom0 {
        let (cpus, _) = host.xen.cpus().unwrap_or_default();
        list.push(dom0_kind(dom0));
        list.push(pinning(dom0, cpus));
        if dom0.scheduler == Some("credit") {
            list.push(check(
                "Xen scheduler",
                State::Limited,
                "credit: a vCPU that is stopped for a sample comes back with BOOST and overtakes others; credit2 does not do that",
                Some("sched=credit2 on Xen's command line, then reboot the host".into()),
            ));
        } else {
            list.push(check("Xen scheduler", State::Works, dom0.scheduler.unwrap_or("unknown"), None));
        }
    }
    list.push(vpmu(host));
    list.push(trace(host));
    list.push(own_names(host, machine));
    list
}

fn own_names(host: &mut Host, machine: &Machine) -> Check {
    const NAME: &str = "Xen's own names";
    let Err(no_file) = std::fs::File::open(machine.proc.join("xen/xensyms")) else {
        return check(NAME, State::Works, "/proc/xen/xensyms names Xen's functions", None);
    };
    match host.xen.names() {
        Ok(_) => check(NAME, State::Works, "Xen names its functions (XENPF_get_symbol)", None),
        Err(error) => check(
            NAME,
            State::Limited,
            format!("/proc/xen/xensyms: {no_file}; XENPF_get_symbol: {error}"),
            Some("sudo mount -t xenfs xenfs /proc/xen".into()),
        ),
    }
}

fn dom0_kind(dom0: &DomainStatus) -> Check {
    let found = format!("{}, {} vCPUs", dom0.kind.name(), dom0.info.online_vcpus);
    check("dom0", State::Fact, found, None)
}

/// What `--source trace` would find.
fn trace(host: &mut Host) -> Check {
    const NAME: &str = "Xen's trace";
    let Ok(info) = host.xen.trace_info() else {
        return check(NAME, State::Fact, "this Xen was built without: no exact waits of vCPUs", None);
    };
    // Bound for this moment only, as a look.
    if host.xen.trace_signal().is_err() {
        let found = "somebody reads it now (xentrace?): it is left alone, and --source trace refused";
        return check(
            NAME,
            State::Limited,
            found,
            Some("xprof record -a --source context,trace, when that has ended".into()),
        );
    }
    let found = match info.has_buffers() {
        true => "exact waits of vCPUs: --source trace; its buffers are there already",
        false => "exact waits of vCPUs: --source trace, whose buffers then stay until the host reboots",
    };
    check(NAME, State::Works, found, None)
}

/// Where dom0 has pCPUs of its own, the guests that run on others are seen running.
fn pinning(dom0: &DomainStatus, cpus: u32) -> Check {
    const NAME: &str = "dom0 pinning";
    let free = dom0.affinity.iter().any(|list| list.len() as u32 >= cpus);
    let taken: std::collections::BTreeSet<u32> = dom0.affinity.iter().flatten().copied().collect();
    let command = Some("dom0_max_vcpus=1 dom0_vcpus_pin on Xen's command line, and guests kept off those pCPUs: xl vcpu-pin DOMAIN all 1-N".into());
    if free || taken.len() as u32 >= cpus {
        let found = "dom0 runs on every pCPU: a guest on the pCPU of the sampler is only seen preempted; its time is right all the same";
        return check(NAME, State::Limited, found, command);
    }
    check(
        NAME,
        State::Works,
        format!("dom0 runs on {} of {cpus} pCPUs; guests on the others are seen running", taken.len()),
        None,
    )
}

fn vpmu(host: &mut Host) -> Check {
    const NAME: &str = "Xen vPMU";
    const RISK: &str = "(not security supported, XSA-163: only where every guest is trusted)";
    let answer = host.xen.vpmu();
    let mode = vpmu_mode(match &answer {
        Ok(answer) => Ok(*answer),
        Err(error) => Err(error.kind().into()),
    });
    if let Ok((_, features)) = answer {
        return check(NAME, State::Works, format!("mode {mode}, features {features:#x} {RISK}"), None);
    }
    let absent = absent(&mut host.xen);
    let command = match absent {
        Absent::Pvh => None,
        Absent::Watchdog => Some("watchdog off and vpmu=on on Xen's command line"),
        Absent::UnknownCpu => Some("xl dmesg | grep -i vpmu"),
        Absent::NotStarted => Some("vpmu=on on Xen's command line, then reboot the host"),
    };
    let found = format!("none: {absent}; sampling by time does not need it");
    check(NAME, State::Fact, found, command.map(|command| format!("{command}   {RISK}")))
}
