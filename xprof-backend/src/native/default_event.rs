//! The event of a recording that names none: cycles at the highest precision that opens, on every core PMU of a hybrid
//! machine, else cpu-clock.

use xprof_perfdata::abi::{attr_flag as flag, event_type, hardware, software};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::events::OFF_CPU_EVENT;

use super::ladder::{self, May, Place};
use super::{Kernel, attrs};
use crate::event::pmu::Pmu;
use crate::event::{EventGroup, EventSpec};
use crate::machine::Machine;

/// The default event's groups (one for each core PMU), and a sentence that says which it is and why.
pub(crate) fn default_event(kernel: &dyn Kernel) -> (Vec<EventGroup>, String) {
    let cores = Pmu::cores(&Machine::here());
    let no_counters = cores.is_empty();
    let mut pmus: Vec<_> = cores.into_iter().map(|pmu| (pmu.name, pmu.kind, pmu.cpus)).collect();
    // With one kind of core the event needs no PMU's name, nor even that the PMU shows in sysfs.
    if pmus.len() < 2 {
        pmus = vec![(String::new(), 0, None)];
    }
    let mut groups = Vec::new();
    let mut refusal = None;
    for (name, number, cpus) in pmus {
        let mut attr = Attr {
            kind: event_type::HARDWARE,
            // With more than one core PMU the upper half says which (PERF_PMU_TYPE_SHIFT).
            config: u64::from(number) << 32 | hardware::CPU_CYCLES,
            sample_period: 1_000_000,
            flags: flag::DISABLED | flag::PRECISE_IP,
            ..Attr::default()
        };
        let place = Place { pid: 0, cpu: -1, group: None, flags: 0 };
        let may = May { lower_precision: true, drop_clock: false };
        match ladder::open(kernel, &mut attr, place, may, &mut Vec::new()) {
            Ok(_) => {
                attr.sample_period = 0;
                let event = if name.is_empty() { "cycles".to_owned() } else { format!("{name}/cycles/") };
                groups.push(lone(event, attr, cpus));
            }
            Err(error) => refusal = Some(error),
        }
    }
    let Some(first) = groups.first().map(|group| &group.events[0]) else {
        // Without counters the kernel still complains of permissions first.
        let why = match refusal.as_ref().map(|error| (error.raw_os_error(), error)) {
            _ if no_counters => "this machine offers no hardware counters".to_owned(),
            Some((Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP), _)) => {
                "this machine offers no hardware counters".to_owned()
            }
            Some((_, error)) => format!("the hardware counters cannot be opened: {error}"),
            None => "there is no core PMU".to_owned(),
        };
        let attr = Attr { kind: event_type::SOFTWARE, config: software::CPU_CLOCK, ..Attr::default() };
        return (vec![lone("cpu-clock".into(), attr, None)], format!("measuring cpu-clock instead of cycles: {why}"));
    };
    let precise = (first.attr.flags & flag::PRECISE_IP) >> flag::PRECISE_SHIFT;
    let names: Vec<&str> = groups.iter().map(|group| group.events[0].name.as_str()).collect();
    let note = format!("measuring {} (precise level {precise})", names.join(" and "));
    (groups, note)
}

/// Every context switch.
pub(crate) fn off_cpu() -> EventGroup {
    let attr =
        Attr { kind: event_type::SOFTWARE, config: software::CONTEXT_SWITCHES, sample_period: 1, ..Attr::default() };
    let mut group = lone(OFF_CPU_EVENT.into(), attr, None);
    group.events.iter_mut().for_each(|event| event.rate_is_fixed = true);
    group
}

fn lone(name: String, mut attr: Attr, cpus: Option<Vec<u32>>) -> EventGroup {
    let user_only = attr.flags & flag::EXCLUDE_KERNEL != 0;
    attr.flags &= !flag::DISABLED;
    let name = if user_only { attrs::user_only(&name) } else { name };
    let spec = EventSpec { name, attr, cpus, precise_is_fixed: false, rate_is_fixed: false };
    EventGroup { events: vec![spec], leader_sampling: false, name: String::new() }
}
