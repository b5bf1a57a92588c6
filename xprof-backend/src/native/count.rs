//! Counting with `perf_event_open`: one descriptor for each event and thread, or event and CPU.
//!
//! Nothing is sampled, so no ring is needed and an inherited event follows its task over all CPUs. Groups are for the
//! kernel's scheduling only: every member is read by itself, with its own times.

use std::io;
use std::os::fd::AsFd;

use xprof_perfdata::abi::{attr_flag as flag, event_type, read_format};
use xprof_perfdata::attr::Attr;

use super::attrs::of_tasks;
use super::counter::PerfCounter;
use super::ladder::{May, Place};
use super::{Kernel, Native, attach, cpus};
use crate::counters::{Count, CountPlan, Counter, Counters, Counting};
use crate::event::EventSpec;
use crate::plan::Target;
use crate::sys::limits;
use crate::{Error, Result};

/// One descriptor.
#[derive(Debug)]
struct Open {
    programmed: PerfCounter,
    counter: usize,
    cpu: Option<u32>,
    leads: bool,
}

#[derive(Debug)]
struct NativeCounting {
    counters: Vec<Counter>,
    notes: Vec<String>,
    open: Vec<Open>,
    by_exec: bool,
}

impl Counters for Native {
    fn open(&self, plan: &CountPlan) -> Result<Box<dyn Counting>> {
        Ok(Box::new(open(self.kernel.as_ref(), plan)?))
    }
}

/// The attr of a counter: what the event decides, without what makes it sample.
fn attr_of(spec: &EventSpec, plan: &CountPlan, leads: bool) -> Attr {
    let mut attr = spec.attr.clone();
    attr.sample_period = 0;
    attr.sample_type = 0;
    attr.read_format = read_format::TOTAL_TIME_ENABLED | read_format::TOTAL_TIME_RUNNING;
    attr.flags &= !(flag::FREQ | flag::DISABLED | flag::ENABLE_ON_EXEC | flag::INHERIT);
    if !spec.precise_is_fixed {
        attr.flags &= !flag::PRECISE_IP;
    }
    if leads {
        attr.flags |= flag::DISABLED;
        if matches!(plan.target, Target::Command(_)) {
            attr.flags |= flag::ENABLE_ON_EXEC;
        }
    }
    if of_tasks(&plan.target) && plan.inherit {
        attr.flags |= flag::INHERIT;
    }
    attr
}

/// The threads (-1: all) and CPUs (-1: any) to open on.
fn places(plan: &CountPlan) -> Result<Vec<(i32, i32)>> {
    let threads: Vec<i32> = match &plan.target {
        Target::Command(pid) => vec![i32::try_from(*pid).unwrap_or(i32::MAX)],
        Target::Threads(tids) => tids.iter().map(|&tid| i32::try_from(tid).unwrap_or(i32::MAX)).collect(),
        Target::Processes(pids) => {
            let mut all = Vec::new();
            for &pid in pids {
                all.extend(attach::threads(pid)?.into_iter().map(|tid| i32::try_from(tid).unwrap_or(i32::MAX)));
            }
            all
        }
        Target::System => vec![-1],
        Target::Cgroups(_) => return Err(Error::Other("counting by control group is not available".into())),
        Target::Domains(_) => return Err(Error::Other("counting by domain is not available".into())),
    };
    let cpus: Vec<i32> = match (&plan.cpus, &plan.target) {
        (Some(list), _) => {
            let online = cpus::online()?;
            if let Some(missing) = list.iter().find(|cpu| !online.contains(cpu)) {
                return Err(Error::NoTarget { what: format!("CPU {missing}") });
            }
            list.iter().map(|&cpu| cpu as i32).collect()
        }
        (None, Target::System) => cpus::online()?.into_iter().map(|cpu| cpu as i32).collect(),
        (None, _) => vec![-1],
    };
    Ok(threads.iter().flat_map(|&thread| cpus.iter().map(move |&cpu| (thread, cpu))).collect())
}

fn open(kernel: &dyn Kernel, plan: &CountPlan) -> Result<NativeCounting> {
    let places = places(plan)?;
    let events: usize = plan.events.iter().map(|group| group.events.len()).sum();
    // The rest of the process wants some as well.
    let needed = (places.len().saturating_mul(events) + 64) as u64;
    let limit = limits::raise_open_files(needed);
    if limit < needed {
        let cpus = if of_tasks(&plan.target) { 1 } else { places.len() };
        return Err(Error::TooManyFiles { needed, limit, threads: places.len() / cpus, cpus, events });
    }
    let mut counting = NativeCounting {
        counters: Vec::new(),
        notes: Vec::new(),
        open: Vec::new(),
        by_exec: matches!(plan.target, Target::Command(_)),
    };
    let mut first_refusal = None;
    for (number, group) in plan.events.iter().enumerate() {
        let base = counting.counters.len();
        counting.counters.extend(group.events.iter().map(|spec| Counter {
            name: spec.name.clone(),
            hardware: is_hardware(spec.attr.kind),
            refusal: None,
            group: number,
        }));
        'group: for &(thread, cpu) in &places {
            let mut leader: Option<usize> = None;
            for (index, spec) in group.events.iter().enumerate() {
                if let (Some(allowed), Ok(cpu)) = (&spec.cpus, u32::try_from(cpu))
                    && !allowed.contains(&cpu)
                {
                    continue;
                }
                if index > 0 && leader.is_none() {
                    // A group without its leader would count at other times than it says.
                    counting.refuse(base + index, "the leader of its group cannot be counted".into());
                    continue;
                }
                let fd = leader.map(|at| counting.open[at].programmed.as_fd());
                let place = Place { pid: thread, cpu, group: fd, flags: 0 };
                let mut attr = attr_of(spec, plan, index == 0);
                let may = May { lower_precision: true, drop_clock: false };
                match PerfCounter::program(kernel, &mut attr, place, false, may, &mut counting.notes) {
                    Ok(programmed) => {
                        if attr.flags & flag::EXCLUDE_KERNEL != spec.attr.flags & flag::EXCLUDE_KERNEL {
                            counting.counters[base + index].name = user_only(&spec.name);
                        }
                        if index == 0 {
                            leader = Some(counting.open.len());
                        }
                        let cpu = u32::try_from(cpu).ok();
                        counting.open.push(Open { programmed, counter: base + index, cpu, leads: index == 0 });
                    }
                    // Threads end while we look at them.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) && thread >= 0 && places.len() > 1 => {}
                    Err(error) => {
                        if index > 0 && error.raw_os_error() == Some(libc::EINVAL) {
                            // The kernel's word for a member too many, or of another PMU.
                            let why = format!(
                                "the {} events of a group cannot be counted together (too many, or of different PMUs)",
                                group.events.len()
                            );
                            (base..counting.counters.len()).for_each(|counter| counting.refuse(counter, why.clone()));
                            counting.open.retain(|open| open.counter < base);
                            first_refusal.get_or_insert(Error::Other(why));
                            break 'group;
                        }
                        if is_about_the_event(&error) {
                            counting.refuse(base + index, error.to_string());
                        }
                        let error = Error::Open {
                            event: spec.name.clone(),
                            pid: (thread >= 0).then_some(thread),
                            cpu: u32::try_from(cpu).ok(),
                            opened: counting.open.len(),
                            source: error,
                        };
                        if counting.counters[base + index].refusal.is_none() {
                            return Err(error);
                        }
                        first_refusal.get_or_insert(error);
                    }
                }
            }
        }
    }
    match first_refusal {
        Some(error) if counting.open.is_empty() => Err(error),
        None if counting.open.is_empty() => Err(Error::NoTarget { what: "any of the threads to count".into() }),
        _ => Ok(counting),
    }
}

/// The event does not exist here, or not in this combination; anything else is about rights, limits or targets.
fn is_about_the_event(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS))
}

/// The name of an event that was to count the kernel as well and may not.
fn user_only(name: &str) -> String {
    match name.strip_suffix('/') {
        Some(_) => format!("{name}u"),
        None if name.contains(':') => format!("{name}u"),
        None => format!("{name}:u"),
    }
}

impl NativeCounting {
    fn refuse(&mut self, counter: usize, why: String) {
        if let Some(counter) = self.counters.get_mut(counter) {
            counter.refusal.get_or_insert(why);
        }
    }
}

impl Counting for NativeCounting {
    fn counters(&self) -> &[Counter] {
        &self.counters
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        if on && self.by_exec {
            return Ok(());
        }
        for open in self.open.iter().filter(|open| open.leads) {
            let result = if on { open.programmed.rearm() } else { open.programmed.stop() };
            result.map_err(|e| Error::os(if on { "start a counter" } else { "stop a counter" }, e))?;
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Vec<Count>> {
        let mut counts: Vec<Count> = Vec::new();
        for open in &self.open {
            let mut words = [0u64; 3];
            let read = open
                .programmed
                .read(&mut words)
                .map_err(|e| Error::os(format!("read {}", self.counters[open.counter].name), e))?;
            // A read of no bytes is the kernel's word for a counter in error state: a pinned one that lost its place.
            let [value, enabled, running] = if read == 3 { words } else { [0; 3] };
            match counts.iter_mut().find(|count| count.counter == open.counter && count.cpu == open.cpu) {
                Some(sum) => {
                    sum.value = sum.value.saturating_add(value);
                    sum.enabled = sum.enabled.saturating_add(enabled);
                    sum.running = sum.running.saturating_add(running);
                }
                None => counts.push(Count { counter: open.counter, cpu: open.cpu, value, enabled, running }),
            }
        }
        Ok(counts)
    }
}

/// Whether events of a `PERF_TYPE_*` are counted by hardware: where there is none, a zero is no count.
pub(super) fn is_hardware(kind: u32) -> bool {
    !matches!(kind, event_type::SOFTWARE | event_type::TRACEPOINT | event_type::BREAKPOINT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event;
    use crate::sys::process;

    fn count(events: &str, command: &[&str]) -> (Vec<Counter>, Vec<Count>) {
        let words: Vec<_> = command.iter().map(Into::into).collect();
        let waiting = process::prepare(&words, false).unwrap();
        let plan = CountPlan {
            events: event::parse(events).unwrap(),
            target: Target::Command(waiting.pid()),
            cpus: None,
            inherit: true,
        };
        let mut counting = Counters::open(&Native::new(), &plan).unwrap();
        counting.enable(true).unwrap();
        assert_eq!(waiting.go().unwrap().wait().unwrap(), process::Ended::Exit(0));
        (counting.counters().to_vec(), counting.read().unwrap())
    }

    /// dd makes two calls for each block and sh's children are counted with it: a difference of 1,000 blocks in two
    /// children is 2,000 calls of read, whatever else the programs do.
    #[test]
    fn counts_of_children_are_exact() {
        let reads = |blocks: u32| {
            let dd = format!("dd if=/dev/zero of=/dev/null bs=1 count={blocks} status=none");
            let (counters, counts) =
                count("syscalls:sys_enter_read,page-faults", &["sh", "-c", &format!("{dd}; {dd}")]);
            assert_eq!(counters.iter().map(|c| c.hardware).collect::<Vec<_>>(), [false, false]);
            assert!(counts[0].running == counts[0].enabled && counts[0].enabled > 0);
            assert_eq!((counts[0].counter, counts[0].cpu), (0, None));
            counts[0].value
        };
        assert_eq!(reads(1500) - reads(500), 2000);
    }

    #[test]
    fn an_event_that_does_not_exist_is_refused_and_the_others_count() {
        // No machine has a hardware event of this number.
        let mut groups = event::parse("page-faults,cycles").unwrap();
        groups[1].events[0].attr.config = 0xffff;
        let plan = CountPlan { events: groups, target: Target::Threads(vec![0]), cpus: None, inherit: false };
        let mut counting = Counters::open(&Native::new(), &plan).unwrap();
        assert!(counting.counters()[0].refusal.is_none() && counting.counters()[1].refusal.is_some());
        counting.enable(true).unwrap();
        assert_eq!(counting.read().unwrap().len(), 1);
    }

    #[test]
    fn on_all_cpus_each_is_read_by_itself() {
        let plan =
            CountPlan { events: event::parse("cpu-clock").unwrap(), target: Target::System, cpus: None, inherit: true };
        let mut counting = Counters::open(&Native::new(), &plan).unwrap();
        counting.enable(true).unwrap();
        let cpus: Vec<_> = counting.read().unwrap().iter().filter_map(|count| count.cpu).collect();
        assert_eq!(cpus, cpus::online().unwrap());
    }
}
