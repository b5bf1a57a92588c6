//! Whose stacks are, for forms that show processes and threads over time.

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, Key, Stack, Stacks, Value};

use crate::plain::Plain;

/// A thread of a process, or what ran on a vCPU of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// Its name, with the vCPU where one is known.
    pub(super) name: String,
    /// Index of its process.
    pub(super) process: usize,
    pub(super) tid: i64,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its name, with the domain where there are any.
    pub(super) name: String,
    pub(super) pid: i64,
}

/// All processes and threads of an event.
#[derive(Debug, Default)]
pub(super) struct Threads {
    pub(super) processes: Vec<Process>,
    pub(super) threads: Vec<Thread>,
    /// By stack: index of its thread.
    pub(super) of_stack: Vec<usize>,
}

impl Threads {
    pub(super) fn of(stacks: &Stacks, event: &EventStacks) -> Threads {
        let mut threads = Threads::default();
        let mut processes: FxHashMap<(String, i64), usize> = FxHashMap::default();
        let mut index: FxHashMap<(usize, i64, i64), usize> = FxHashMap::default();
        for stack in &event.stacks {
            let (domain, comm) = (text(stacks, stack, Key::Domain), text(stacks, stack, Key::Comm));
            let number = |key| number(stacks, stack, key);
            let (pid, tid, vcpu) = (number(Key::Pid), number(Key::Tid), number(Key::Vcpu));
            let process = *processes.entry((domain, pid)).or_insert_with_key(|(domain, pid)| {
                let name = if domain.is_empty() { comm.clone() } else { format!("{domain}: {comm}") };
                threads.processes.push(Process { name, pid: *pid });
                threads.processes.len() - 1
            });
            let thread = *index.entry((process, tid, vcpu)).or_insert_with(|| {
                let name = if vcpu < 0 { comm.clone() } else { format!("{comm} (vCPU {vcpu})") };
                threads.threads.push(Thread { name, process, tid });
                threads.threads.len() - 1
            });
            threads.of_stack.push(thread);
        }
        threads
    }
}

fn text(stacks: &Stacks, stack: &Stack, wanted: Key) -> String {
    match value(stacks, stack, wanted) {
        Some(Value::Text(text)) => Plain(text).to_string(),
        _ => String::new(),
    }
}

/// -1 where there is none.
fn number(stacks: &Stacks, stack: &Stack, wanted: Key) -> i64 {
    match value(stacks, stack, wanted) {
        Some(Value::Number(number)) => *number,
        _ => -1,
    }
}

fn value<'a>(stacks: &Stacks, stack: &'a Stack, wanted: Key) -> Option<&'a Value> {
    stack.values.get(stacks.keys.iter().position(|&key| key == wanted)?)
}

/// How far apart samples of the busiest thread are, ns; 1 ms where that is not known.
pub(super) fn interval(event: &EventStacks, threads: &Threads) -> u64 {
    // By thread: first time, last time, samples.
    let mut spans: Vec<(u64, u64, u64)> = vec![(u64::MAX, 0, 0); threads.threads.len()];
    for sample in &event.samples {
        if let Some(span) = threads.of_stack.get(sample.stack as usize).and_then(|&thread| spans.get_mut(thread)) {
            *span = (span.0.min(sample.time), span.1.max(sample.time), span.2 + 1);
        }
    }
    let busiest = spans.iter().max_by_key(|span| span.2);
    let apart = busiest.filter(|span| span.2 > 1).map(|&(from, to, count)| (to - from) / (count - 1));
    apart.filter(|&ns| ns > 0).unwrap_or(1_000_000)
}
