//! The Firefox Profiler's processed profile: every sample at its time, by process and thread. Weights are samples, not
//! periods: the form has room for 32 bits.

use std::io::{self, Write};
use std::time::Duration;

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp,
    SamplingInterval, StackHandle, ThreadHandle, Timestamp,
};
use xprof_profile::profile::{EventStacks, Stacks};

use super::threads::{Threads, interval};
use super::{Source, name, unit};
use crate::plain::Plain;

/// Writes the document.
pub fn firefox(stacks: &Stacks, event: &EventStacks, source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let threads = Threads::of(stacks, event);
    let start = event.samples.first().map_or(0, |sample| sample.time);
    let at = |time: u64| Timestamp::from_nanos_since_reference(time.saturating_sub(start));
    let product = match &source.host {
        Some(host) => format!("{} on {} ({})", Plain(&source.title), Plain(host), Plain(&event.name)),
        None => format!("{} ({})", Plain(&source.title), Plain(&event.name)),
    };
    let began = Duration::from_nanos(source.clock_offset.map_or(0, |offset| offset.saturating_add(start)));
    let reference = ReferenceTimestamp::from_duration_since_unix_epoch(began);
    let mut profile = Profile::new(&product, reference, SamplingInterval::from_nanos(interval(event, &threads)));
    profile.set_os_name("Linux");
    profile.set_symbolicated(true);
    let number = |id: i64| id.clamp(0, i64::from(u32::MAX)) as u32;
    let add_process = |p: &super::threads::Process| profile.add_process(&p.name, number(p.pid), at(start));
    let processes: Vec<_> = threads.processes.iter().map(add_process).collect();
    let mut add_thread = |t: &super::threads::Thread| {
        let is_main = threads.processes[t.process].pid == t.tid;
        let handle = profile.add_thread(processes[t.process], number(t.tid), at(start), is_main);
        profile.set_thread_name(handle, &t.name);
        handle
    };
    let handles: Vec<ThreadHandle> = threads.threads.iter().map(&mut add_thread).collect();
    let frames = frames(stacks, &mut profile);
    // Every stack is of one thread.
    let mut known: Vec<Option<StackHandle>> = vec![None; event.stacks.len()];
    let is_clock = unit(&event.name) == "nanoseconds";
    for sample in &event.samples {
        let index = sample.stack as usize;
        let (Some(stack), Some(&thread)) = (event.stacks.get(index), threads.of_stack.get(index)) else { continue };
        let thread = handles[thread];
        if known[index].is_none() {
            let way = stack.functions.iter().rev().filter_map(|function| frames.get(function.0 as usize).cloned());
            known[index] = profile.intern_stack_frames(thread, way);
        }
        let cpu = if is_clock { CpuDelta::from_nanos(sample.period) } else { CpuDelta::ZERO };
        profile.add_sample(thread, at(sample.time), known[index], cpu, 1);
    }
    serde_json::to_writer(&mut *out, &profile)?;
    out.write_all(b"\n")
}

/// The frame of every function.
fn frames(stacks: &Stacks, profile: &mut Profile) -> Vec<FrameInfo> {
    let mut category = |name, color| -> CategoryHandle { profile.add_category(name, color) };
    let user = category("User", CategoryColor::Yellow);
    let kernel = category("Kernel", CategoryColor::Orange);
    let hypervisor = category("Hypervisor", CategoryColor::Purple);
    let inlined = category("Inlined", CategoryColor::LightBlue);
    let frame = |function: &xprof_profile::profile::FunctionName| {
        let category = match function.letter {
            _ if function.inlined => inlined,
            'k' | 'g' => kernel,
            'H' => hypervisor,
            _ => user,
        };
        let label = format!("{} ({})", name(function), Plain(&function.dso));
        let frame = Frame::Label(profile.intern_string(&label));
        FrameInfo { frame, category_pair: category.into(), flags: FrameFlags::empty() }
    };
    stacks.functions.iter().map(frame).collect()
}
