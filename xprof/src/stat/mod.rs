//! `xprof stat`: counters are opened, the command runs (or a signal is waited for), counters are read once, shown.
//!
//! A number that was not measured for the whole time is never shown without saying so, and a hardware counter that saw
//! nothing in a second of running is called what it probably is: not implemented.

mod print;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xprof_backend::counters::{Count, CountPlan, Counter, Counters};
use xprof_backend::event::{self, EventGroup};
use xprof_backend::native::Native;
use xprof_backend::plan::Target;
use xprof_backend::sys::process::Child;
use xprof_backend::sys::signal::{self, Signal, Signals};

use crate::Global;
use crate::commands::stat::{Format, Options};
use crate::exit::Failure;
use crate::record::child;

/// What perf counts when nothing is named: these, and [`HARDWARE`] where it opens.
const SOFTWARE: &str = "task-clock,context-switches,cpu-migrations,page-faults";
/// The same for whole CPUs, whose clock runs without tasks.
const SOFTWARE_OF_CPUS: &str = "cpu-clock,context-switches,cpu-migrations,page-faults";
const HARDWARE: &str = "cycles,instructions,branches,branch-misses";

/// How often targets that cannot be waited for are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that is shown.
#[derive(Debug)]
struct Outcome {
    /// What was counted, in words.
    target: String,
    elapsed: Duration,
    counters: Vec<Counter>,
    /// By counter, then CPU.
    counts: Vec<Count>,
}

/// Counts.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let mut target = target(&options)?;
    let words = describe(&target, &options);
    let signals = signal::catch(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::Child])
        .context("cannot catch signals")?;
    let waiting = if options.command.is_empty() { None } else { Some(child::fork(&options.command)?) };
    if let (Target::Command(pid), Some(waiting)) = (&mut target, &waiting) {
        *pid = waiting.pid();
    }
    let by_default = options.events.is_empty();
    let events = events(&options, &target)?;
    let plan = CountPlan {
        events,
        target: target.clone(),
        cpus: options.cpus.as_ref().map(|list| list.0.clone()),
        inherit: !options.no_inherit,
    };
    let mut counting = Counters::open(&Native::new(), &plan)?;
    // Created before the command starts: it is not started when its counts cannot be written.
    let output = options.output.as_deref().map(create).transpose()?;

    let started = Instant::now();
    counting.enable(true)?;
    let mut child = waiting.map(|waiting| child::execute(waiting, &options.command)).transpose()?;
    let status = wait(&signals, child.as_mut(), &target, options.duration.and_then(|d| started.checked_add(d)))?;
    let elapsed = started.elapsed();
    if !matches!(target, Target::Command(_)) {
        counting.enable(false)?;
    }
    let mut counts = counting.read()?;
    if !options.no_aggr {
        counts = over_cpus(counts);
    }
    counts.sort_by_key(|count| (count.counter, count.cpu));

    let mut counters = counting.counters().to_vec();
    let mut notes = counting.notes().to_vec();
    if by_default {
        notes.extend(leave_out_refused(&mut counters));
    }
    let outcome = Outcome { target: words, elapsed, counters, counts };
    notes.extend(print::suspicions(&outcome));
    if !global.quiet {
        notes.iter().for_each(|note| eprintln!("xprof: {note}"));
    }
    let text = match options.format {
        Format::Text => print::text(&outcome),
        Format::Json => print::json(&outcome),
        Format::Csv => print::csv(&outcome),
    };
    match output {
        Some(mut file) => file.write_all(text.as_bytes()).context("cannot write the counts")?,
        None => io::stdout().lock().write_all(text.as_bytes())?,
    }
    Ok(ExitCode::from(status))
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

fn target(options: &Options) -> std::result::Result<Target, Failure> {
    let target = match (&options.processes, &options.threads) {
        (Some(list), _) => Target::Processes(list.0.clone()),
        (None, Some(list)) => Target::Threads(list.0.clone()),
        (None, None) if options.all || options.cpus.is_some() => Target::System,
        (None, None) if !options.command.is_empty() => Target::Command(0),
        (None, None) => return Err(Failure::usage("stat: what is to be counted? give a command, -p PID or -a")),
    };
    if options.no_aggr && target != Target::System {
        return Err(Failure::usage("-A shows CPUs by themselves: add -a, or -C with the CPUs"));
    }
    Ok(target)
}

fn describe(target: &Target, options: &Options) -> String {
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    match target {
        Target::Processes(pids) => format!("process {}", list(pids)),
        Target::Threads(tids) => format!("thread {}", list(tids)),
        Target::Command(_) => {
            let words: Vec<_> = options.command.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ")
        }
        Target::System | Target::Cgroups(_) => match &options.cpus {
            Some(cpus) => format!("CPU {}", list(&cpus.0)),
            None => "all CPUs".to_owned(),
        },
    }
}

fn events(options: &Options, target: &Target) -> anyhow::Result<Vec<EventGroup>> {
    let mut groups = Vec::new();
    if options.events.is_empty() {
        let software = if *target == Target::System { SOFTWARE_OF_CPUS } else { SOFTWARE };
        groups.extend(event::parse(software)?);
        groups.extend(event::parse(HARDWARE)?);
    }
    for text in &options.events {
        groups.extend(event::parse(text)?);
    }
    Ok(groups)
}

/// Hardware events that were not asked for and do not exist here become one note.
fn leave_out_refused(counters: &mut [Counter]) -> Option<String> {
    let refused: Vec<&Counter> = counters.iter().filter(|counter| counter.refusal.is_some()).collect();
    let why = refused.first()?.refusal.clone()?;
    let names: Vec<&str> = refused.iter().map(|counter| counter.name.as_str()).collect();
    Some(format!("not counted on this machine: {} ({why})", names.join(", ")))
}

/// Waits for the end; the command's exit status.
fn wait(
    signals: &Signals,
    mut child: Option<&mut Child>,
    target: &Target,
    ends_at: Option<Instant>,
) -> anyhow::Result<u8> {
    let mut asked = false;
    loop {
        while let Some(signal) = signals.next() {
            match (signal, child.as_deref_mut()) {
                (Signal::Child, _) => {}
                // Ctrl-C reaches the command as well; its end is waited for. Other signals are passed on.
                (Signal::Interrupt, Some(_)) => {}
                (_, Some(child)) => child.terminate().context("cannot end the command")?,
                (_, None) => asked = true,
            }
        }
        if let Some(child) = child.as_deref_mut()
            && let Some(ended) = child.try_wait()?
        {
            return Ok(child::status(ended));
        }
        let now = Instant::now();
        if ends_at.is_some_and(|end| end <= now) {
            match child.as_deref_mut() {
                Some(child) => {
                    child.terminate().context("cannot end the command")?;
                    return Ok(child::status(child.wait()?));
                }
                None => asked = true,
            }
        }
        if asked || (child.is_none() && gone(target)) {
            return Ok(0);
        }
        let mut timeout = ends_at.map_or(Duration::MAX, |end| end.duration_since(now));
        if child.is_none() && matches!(target, Target::Processes(_) | Target::Threads(_)) {
            timeout = timeout.min(LOOK);
        }
        let Some(fd) = signals.fd() else { anyhow::bail!("the signal pipe is closed") };
        let timespec = Timespec::try_from(timeout.min(Duration::from_secs(3600))).ok();
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timespec.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
    }
}

fn gone(target: &Target) -> bool {
    match target {
        Target::Processes(ids) | Target::Threads(ids) => {
            !ids.iter().any(|id| Path::new(&format!("/proc/{id}")).exists())
        }
        _ => false,
    }
}

/// One count for each counter.
fn over_cpus(counts: Vec<Count>) -> Vec<Count> {
    let mut sums: Vec<Count> = Vec::new();
    for count in counts {
        match sums.iter_mut().find(|sum| sum.counter == count.counter) {
            Some(sum) => {
                sum.value = sum.value.saturating_add(count.value);
                sum.enabled = sum.enabled.saturating_add(count.enabled);
                sum.running = sum.running.saturating_add(count.running);
            }
            None => sums.push(Count { cpu: None, ..count }),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_add_up() {
        let count = |counter, cpu, value| Count { counter, cpu: Some(cpu), value, enabled: 10, running: 5 };
        let sums = over_cpus(vec![count(0, 0, 1), count(1, 0, 2), count(0, 1, 30)]);
        assert_eq!(
            sums,
            [
                Count { counter: 0, cpu: None, value: 31, enabled: 20, running: 10 },
                Count { counter: 1, cpu: None, value: 2, enabled: 10, running: 5 },
            ]
        );
    }
}
