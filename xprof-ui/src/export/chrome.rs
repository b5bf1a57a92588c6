//! Chrome's trace events ("Trace Event Format": complete events `X`, and `M` for names), for Perfetto and chrome://tracing.
//!
//! The form has no samples, only spans. A function's span goes from the first to the last of the samples that saw it one after the
//! other in a thread, and on to the sample after that; where that one is more than two intervals away, one interval. What
//! happened between two samples nobody knows. `args.samples` is what was seen.

use std::io::{self, Write};

use serde_json::json;
use xprof_profile::profile::{EventStacks, Stacks};

use super::threads::{Threads, interval};
use super::{Source, name, unit};
use crate::plain::Plain;

/// A function that is under way.
#[derive(Clone, Copy)]
struct Span {
    function: u32,
    from: u64,
    samples: u64,
    period: u64,
}

/// Writes the document.
pub fn chrome(stacks: &Stacks, event: &EventStacks, source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let threads = Threads::of(stacks, event);
    let interval = interval(event, &threads);
    let start = event.samples.first().map_or(0, |sample| sample.time);
    let names: Vec<String> = stacks
        .functions
        .iter()
        .map(|function| json!({"name": name(function), "cat": Plain(&function.dso).to_string()}).to_string())
        .collect();
    let mut trace = Trace { out, names, unit: unit(&event.name), any: false };
    let plain = |text: &str| Plain(text).to_string();
    let other = json!({
        "recording": Plain(&source.title).to_string(), "event": Plain(&event.name).to_string(), "host": source.host.as_deref().map(plain),
        "facts": source.facts.iter().map(|fact| plain(fact)).collect::<Vec<_>>(),
    });
    write!(trace.out, r#"{{"displayTimeUnit":"ns","otherData":{other},"traceEvents":["#)?;
    for (pid, process) in threads.processes.iter().enumerate() {
        let name = if process.pid < 0 { process.name.clone() } else { format!("{} ({})", process.name, process.pid) };
        trace.named("process_name", (pid + 1, 0), &name)?;
    }
    let mut of_thread: Vec<Vec<usize>> = vec![Vec::new(); threads.threads.len()];
    for (index, sample) in event.samples.iter().enumerate() {
        if let Some(list) = threads.of_stack.get(sample.stack as usize).and_then(|&thread| of_thread.get_mut(thread)) {
            list.push(index);
        }
    }
    for (number, (thread, list)) in threads.threads.iter().zip(&of_thread).enumerate() {
        // Numbers of its own: pids and tids of domains are not unique.
        let place = (thread.process + 1, number + 1);
        let name = if thread.tid < 0 { thread.name.clone() } else { format!("{} ({})", thread.name, thread.tid) };
        trace.named("thread_name", place, &name)?;
        let mut open: Vec<Span> = Vec::new();
        let mut end = 0;
        for (at, &index) in list.iter().enumerate() {
            let sample = event.samples[index];
            let time = sample.time.saturating_sub(start);
            if time > end {
                trace.close(&mut open, 0, end, place)?;
            }
            let functions = event.stacks.get(sample.stack as usize).map_or(&[][..], |stack| &stack.functions);
            let way = || functions.iter().rev().map(|function| function.0);
            let same = open.iter().zip(way()).take_while(|(span, function)| span.function == *function).count();
            trace.close(&mut open, same, time, place)?;
            open.extend(way().skip(same).map(|function| Span { function, from: time, samples: 0, period: 0 }));
            for span in &mut open {
                span.samples += 1;
                span.period = span.period.saturating_add(sample.period);
            }
            let next = list.get(at + 1).map(|&next| event.samples[next].time.saturating_sub(start));
            let alone = time.saturating_add(interval);
            end = next.filter(|&next| next <= alone.saturating_add(interval)).unwrap_or(alone);
        }
        trace.close(&mut open, 0, end, place)?;
    }
    trace.out.write_all(b"]}\n")
}

struct Trace<'a> {
    out: &'a mut dyn Write,
    /// By function: `{"name":..,"cat":..}`.
    names: Vec<String>,
    unit: &'static str,
    any: bool,
}

impl Trace<'_> {
    fn next(&mut self) -> io::Result<()> {
        let comma: &[u8] = if std::mem::replace(&mut self.any, true) { b",\n" } else { b"\n" };
        self.out.write_all(comma)
    }

    fn named(&mut self, what: &str, (pid, tid): (usize, usize), name: &str) -> io::Result<()> {
        self.next()?;
        write!(self.out, "{}", json!({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}))
    }

    /// Ends all spans but the outermost `keep`. Of spans with the same times readers take the first for the outer one.
    fn close(&mut self, open: &mut Vec<Span>, keep: usize, end: u64, (pid, tid): (usize, usize)) -> io::Result<()> {
        for span in open.drain(keep.min(open.len())..) {
            self.next()?;
            let name = self.names.get(span.function as usize).map_or("{\"name\":\"?\"}", |name| name);
            let (from, lasts) = (Micros(span.from), Micros(end.saturating_sub(span.from)));
            let Span { samples, period, .. } = span;
            write!(
                self.out,
                r#"{},"ph":"X","pid":{pid},"tid":{tid},"ts":{from},"dur":{lasts},"args":{{"samples":{samples},"{}":{period}}}}}"#,
                &name[..name.len() - 1],
                if self.unit == "count" { "period" } else { self.unit },
            )?;
        }
        Ok(())
    }
}

/// ns as microseconds, all digits.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
