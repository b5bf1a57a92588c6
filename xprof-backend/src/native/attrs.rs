//! What the plan adds to the attr of each event, and the attr of the dummy event that carries side-band records.
//!
//! Bytes per sample decide how much a ring holds, so a sample carries what perf's would and no more: the CPU only where
//! events are not bound to tasks, the period only where it varies, an id only where there is more than one event.

use xprof_perfdata::abi::{attr_flag as flag, branch, event_type, read_format, sample, software};
use xprof_perfdata::attr::Attr;

use crate::event::{EventGroup, EventSpec};
use crate::plan::{CallGraph, Plan, Rate, Target};
use crate::sys::clock;
use crate::{Error, Result};

/// Name of the event that carries side-band records.
pub(crate) const SIDE_BAND: &str = "dummy:HG";

/// One event, ready to be opened.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) attr: Attr,
    /// The kernel's part was asked for; a name that loses it says so.
    pub(crate) with_kernel: bool,
    pub(crate) cpus: Option<Vec<u32>>,
    pub(crate) precise_is_fixed: bool,
    /// Index of the group's leader among all events; its own index for a leader.
    pub(crate) leader: usize,
}

impl Ready {
    /// The event's name, with the `u` that perf adds when only user space could be measured.
    pub(crate) fn true_name(&self) -> String {
        let lost_it = self.with_kernel && self.attr.flags & flag::EXCLUDE_KERNEL != 0;
        if lost_it { user_only(&self.name) } else { self.name.clone() }
    }
}

/// `cycles` to `cycles:u`, `cycles:p` to `cycles:pu`, `cpu/event=1/` to `cpu/event=1/u`.
pub(crate) fn user_only(name: &str) -> String {
    // The last part of a breakpoint's name is its access.
    let has_modifiers = !name.starts_with("mem:")
        && name.rsplit(['/', ':']).next().is_some_and(|last| last.len() < name.len() && last.len() <= 6);
    if has_modifiers { format!("{name}u") } else { format!("{name}:u") }
}

/// All events of a session.
#[derive(Clone, Debug)]
pub(crate) struct Completed {
    pub(crate) events: Vec<Ready>,
    pub(crate) side_band: Attr,
    /// One event only: its records need no ids, and the dummy is not listed among the events.
    pub(crate) lone: bool,
}

/// LR, SP and PC: what perf takes on arm64 to find a leaf's caller.
const ARM64_LEAF_REGS: u64 = 1 << 30 | 1 << 31 | 1 << 32;

/// The registers that perf takes for unwinding: on x86 all but the segments of data, on arm64 all.
const UNWIND_REGS: u64 = if cfg!(target_arch = "aarch64") { (1 << 33) - 1 } else { 0x00ff_0fff };

/// Asks for call chains.
fn stacks(how: CallGraph, attr: &mut Attr) {
    if how != CallGraph::None {
        attr.sample_type |= sample::CALLCHAIN;
    }
    match how {
        CallGraph::None => {}
        CallGraph::FramePointers => {
            if cfg!(target_arch = "aarch64") {
                attr.sample_type |= sample::REGS_USER;
                attr.sample_regs_user |= ARM64_LEAF_REGS;
            }
        }
        CallGraph::StackCopies { size, .. } => {
            attr.sample_type |= sample::REGS_USER | sample::STACK_USER;
            attr.sample_regs_user |= UNWIND_REGS;
            attr.sample_stack_user = size;
            attr.flags |= flag::EXCLUDE_CALLCHAIN_USER;
        }
        // perf's: neither the flags nor the cycles of a branch are shown, and reading them takes time.
        CallGraph::CallsOfTheCpu if is_of_cpu(attr) => {
            attr.sample_type |= sample::BRANCH_STACK;
            attr.branch_sample_type |=
                branch::USER | branch::CALL_STACK | branch::NO_CYCLES | branch::NO_FLAGS | branch::HW_INDEX;
        }
        CallGraph::CallsOfTheCpu => {}
    }
}

/// Whether the PMU of a CPU counts an event in user space, so that its samples can have the calls that the CPU keeps.
fn is_of_cpu(attr: &Attr) -> bool {
    let is_software = matches!(attr.kind, event_type::SOFTWARE | event_type::TRACEPOINT | event_type::BREAKPOINT);
    !is_software && attr.flags & flag::EXCLUDE_USER == 0
}

/// Whether samples can have the calls that CPUs keep: a PMU has to keep them, and one of the events to be of it.
pub(crate) fn can_have_calls(groups: &[EventGroup], pmus_keep_branches: bool) -> Result<()> {
    if !pmus_keep_branches {
        return Err(Error::Other(
            "--call-graph lbr: no PMU of this machine keeps branches (there is no \
             /sys/bus/event_source/devices/cpu*/caps/branches); stacks without: --call-graph dwarf"
                .into(),
        ));
    }
    if !groups.iter().flat_map(|group| &group.events).any(|event| is_of_cpu(&event.attr)) {
        return Err(Error::Other(
            "--call-graph lbr: none of the events is counted by the CPU in user space, which alone keeps calls; \
             add -e cycles, or take --call-graph dwarf"
                .into(),
        ));
    }
    Ok(())
}

/// True when events are bound to tasks, not to CPUs.
pub(crate) fn of_tasks(target: &Target) -> bool {
    matches!(target, Target::Processes(_) | Target::Threads(_) | Target::Command(_))
}

/// Fills in every event's attr. `max_rate` is `perf_event_max_sample_rate`, Hz.
pub(crate) fn complete(plan: &Plan, groups: &[EventGroup], max_rate: u64, notes: &mut Vec<String>) -> Completed {
    let lone = !plan.with_ids && groups.iter().map(|group| group.events.len()).sum::<usize>() == 1;
    let clockid = plan.clockid.unwrap_or(clock::MONOTONIC);
    let tasks = of_tasks(&plan.target);
    let mut events: Vec<Ready> = Vec::new();
    let mut clamped = false;
    for group in groups {
        let leader = events.len();
        for spec in &group.events {
            let is_leader = events.len() == leader;
            let mut attr = spec.attr.clone();
            attr.sample_type |= sample::IP | sample::TID | sample::TIME;
            if !tasks || plan.cpus.is_some() {
                attr.sample_type |= sample::CPU;
            }
            stacks(plan.call_graph, &mut attr);
            match attr.kind {
                event_type::TRACEPOINT => attr.sample_type |= sample::RAW | sample::CPU,
                event_type::BREAKPOINT => attr.sample_type |= sample::ADDR,
                _ => {}
            }
            if !lone {
                attr.sample_type |= sample::IDENTIFIER;
            }
            attr.read_format |= read_format::ID | read_format::LOST;
            if group.leader_sampling {
                attr.sample_type |= sample::READ;
                attr.read_format |= read_format::GROUP;
            }
            if group.leader_sampling && !is_leader {
                attr.sample_period = 0;
                attr.flags &= !flag::FREQ;
            } else {
                clamped |= set_rate(spec, &mut attr, plan, max_rate);
            }
            if attr.flags & flag::FREQ != 0 {
                attr.sample_type |= sample::PERIOD;
            }
            attr.flags |= flag::SAMPLE_ID_ALL | flag::USE_CLOCKID;
            attr.clockid = clockid;
            if is_leader {
                attr.flags |= flag::DISABLED;
                if matches!(plan.target, Target::Command(_)) && !plan.start_disabled {
                    attr.flags |= flag::ENABLE_ON_EXEC;
                }
            }
            if tasks && plan.inherit {
                attr.flags |= flag::INHERIT;
            }
            if plan.overwrite {
                attr.flags |= flag::WRITE_BACKWARD;
            }
            events.push(Ready {
                name: spec.name.clone(),
                with_kernel: spec.attr.flags & flag::EXCLUDE_KERNEL == 0,
                attr,
                cpus: spec.cpus.clone(),
                precise_is_fixed: spec.precise_is_fixed,
                leader,
            });
        }
    }
    if clamped {
        notes.push(format!("the rate is lowered to {max_rate} Hz (kernel.perf_event_max_sample_rate)"));
    }
    let mut side_band = side_band(&events, clockid, tasks && plan.inherit);
    if matches!(plan.call_graph, CallGraph::StackCopies { kept: true, .. }) {
        side_band.flags |= flag::MMAP_DATA;
    }
    if plan.off_cpu {
        side_band.flags |= flag::CONTEXT_SWITCH;
    }
    Completed { events, side_band, lone }
}

/// Gives an event its period or frequency; true when that had to be lowered.
fn set_rate(spec: &EventSpec, attr: &mut Attr, plan: &Plan, max_rate: u64) -> bool {
    if attr.sample_period == 0 || (plan.rate_is_asked && !spec.rate_is_fixed) {
        match plan.rate {
            Rate::Frequency(hz) => {
                attr.sample_period = hz.max(1);
                attr.flags |= flag::FREQ;
            }
            Rate::MaxFrequency => {
                attr.sample_period = max_rate;
                attr.flags |= flag::FREQ;
            }
            Rate::Period(period) => {
                attr.sample_period = period.max(1);
                attr.flags &= !flag::FREQ;
            }
        }
    }
    if attr.flags & flag::FREQ != 0 && attr.sample_period > max_rate {
        attr.sample_period = max_rate;
        return true;
    }
    false
}

/// The dummy: its records end with the same sample id as those of the events.
fn side_band(events: &[Ready], clockid: i32, inherit: bool) -> Attr {
    let ids = sample::TID | sample::TIME | sample::ID | sample::STREAM_ID | sample::CPU | sample::IDENTIFIER;
    let all = events.iter().fold(0, |all, event| all | event.attr.sample_type);
    let data = if all & sample::DATA_SRC != 0 { flag::MMAP_DATA } else { 0 };
    Attr {
        kind: event_type::SOFTWARE,
        config: software::DUMMY,
        sample_period: 1,
        sample_type: all & ids,
        read_format: read_format::ID | read_format::LOST,
        flags: flag::SAMPLE_ID_ALL
            | flag::USE_CLOCKID
            | flag::MMAP
            | flag::MMAP2
            | flag::COMM
            | flag::COMM_EXEC
            | flag::TASK
            | flag::KSYMBOL
            | flag::BPF_EVENT
            | flag::CGROUP
            | flag::BUILD_ID
            | data
            | if inherit { flag::INHERIT } else { 0 },
        clockid,
        ..Attr::default()
    }
}
