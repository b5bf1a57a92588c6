//! `xprof stat`: counters are opened, the command runs (or a signal is waited for), counters are read, shown. With `-I`
//! they are read and shown again and again, with `-r` all of it is repeated and shown once.
//!
//! A number that was not measured for the whole time is never shown without saying so, and a hardware counter that saw
//! nothing in a second of running is called what it probably is: not implemented.

mod events;
mod perf_form;
mod print;
mod repeat;
mod show;

use std::cell::Cell;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use xprof_backend::counters::{Count, CountPlan, Counter, Counters, Counting};
use xprof_backend::event::EventGroup;
use xprof_backend::native::Native;
use xprof_backend::native::msr::count::Counts;
use xprof_backend::plan::Target;
use xprof_backend::sys::process::Child;
use xprof_backend::sys::signal::{self, Signal, Signals};
use xprof_backend::xen::msr::count::Lent;

use crate::Global;
use crate::commands::msr::BackendChoice;
use crate::commands::stat::Options;
use crate::exit::Failure;
use crate::record::child;
use crate::terminal::on_terminal;
use repeat::Repeats;
use show::Show;

/// How often targets that cannot be waited for are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that is shown at once.
#[derive(Debug)]
struct Outcome {
    /// What was counted, in words.
    target: String,
    /// Of one run (the mean of several), or of the interval.
    elapsed: Duration,
    /// The end of the interval, since the start (`-I`).
    at: Option<Duration>,
    counters: Vec<Counter>,
    /// By counter, then CPU; the means of several runs.
    counts: Vec<Count>,
    /// `-r`.
    repeats: Option<Repeats>,
}

impl Outcome {
    /// The number to be shown for `counts[at]`; `None` when nothing was measured.
    fn estimate(&self, at: usize) -> Option<f64> {
        match &self.repeats {
            Some(repeats) => repeats.estimates.get(at)?.mean(),
            None => self.counts.get(at)?.estimate().map(|value| value as f64),
        }
    }
}

/// One run that has ended.
struct Ended {
    outcome: Outcome,
    /// The command's exit status.
    status: u8,
    /// A signal or a limit of time ended it: it is not repeated.
    asked: bool,
}

/// Counts.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let target = target(&options)?;
    if options.repeat.is_some() && options.command.is_empty() && !matches!(options.backend, BackendChoice::Simulated(_))
    {
        return Err(Failure::usage("-r repeats a command: give one (the simulated machine alone runs without)").into());
    }
    let signals = signal::catch(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::Child])
        .context("cannot catch signals")?;
    let events = events::of(&options, &target)?;
    // Created before the command starts: it is not started when its counts cannot be written.
    let mut show = Show::new(&options, describe(&target, &options))?;
    let mut repeats = Repeats::default();
    let mut notes: Vec<String> = Vec::new();
    let (mut outcome, status) = loop {
        let ended = once(&options, &target, &events, &signals, &mut show, &mut notes)?;
        let Some(runs) = options.repeat else { break (ended.outcome, ended.status) };
        repeats.add(ended.outcome.elapsed.as_secs_f64(), &ended.outcome.counts);
        if repeats.runs < runs && !ended.asked {
            continue;
        }
        let elapsed = Duration::from_secs_f64(repeats.elapsed.mean().unwrap_or(0.0));
        let outcome = Outcome { elapsed, counts: repeats.counts(), repeats: Some(repeats), ..ended.outcome };
        break (outcome, ended.status);
    };
    if options.events.is_empty() {
        notes.extend(events::leave_out_refused(&mut outcome.counters));
    }
    notes.extend(print::suspicions(&outcome));
    if !global.quiet {
        notes.iter().for_each(|note| eprintln!("xprof: {note}"));
    }
    show.end(&outcome)?;
    Ok(ExitCode::from(status))
}

/// Opens the counters, runs the command or waits, reads.
fn once(
    options: &Options,
    target: &Target,
    events: &[EventGroup],
    signals: &Signals,
    show: &mut Show,
    notes: &mut Vec<String>,
) -> anyhow::Result<Ended> {
    let mut target = target.clone();
    let waiting = if options.command.is_empty() { None } else { Some(child::fork(&options.command, false)?) };
    if let (Target::Command(pid), Some(waiting)) = (&mut target, &waiting) {
        *pid = waiting.pid();
    }
    let plan = CountPlan {
        events: events.to_vec(),
        target: target.clone(),
        cpus: options.cpus.as_ref().map(|list| list.0.clone()),
        inherit: !options.no_inherit,
    };
    let mut counting = match &options.backend {
        BackendChoice::Native => Counters::open(&Native::new(), &plan)?,
        BackendChoice::Msr => Counters::open(&Counts::default(), &plan)?,
        BackendChoice::Xen => Counters::open(&Lent::default(), &plan)?,
        BackendChoice::Simulated(simulated) => Counters::open(simulated, &plan)?,
    };
    for note in counting.notes() {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let started = Instant::now();
    counting.enable(true)?;
    let mut child = waiting.map(|waiting| child::execute(waiting, &options.command)).transpose()?;
    let mut wait = Wait {
        signals,
        target: &target,
        ends_at: options.duration.and_then(|duration| started.checked_add(duration)),
        interrupted: false,
    };
    let mut shown = Vec::new();
    let shown_until = Cell::new(Duration::ZERO);
    let mut interval = |counting: &mut dyn Counting, show: &mut Show| -> anyhow::Result<()> {
        let counts = sorted(counting.read()?, options.no_aggr);
        let now = counting.elapsed().unwrap_or_else(|| started.elapsed());
        let length = now.saturating_sub(shown_until.replace(now));
        show.interval(now, length, counting.counters(), &differences(&counts, &shown))?;
        shown = counts;
        Ok(())
    };
    let mut ticks = 0;
    let own_pace = own_pace(options);
    let (status, mut asked) = loop {
        if own_pace.is_some() && child.is_none() {
            break (0, false);
        }
        let every = options.interval.filter(|_| own_pace.is_none());
        let tick = every.and_then(|every| started.checked_add(every.checked_mul(ticks + 1)?));
        match wait.until(child.as_mut(), tick)? {
            Some(end) => break end,
            None => ticks += 1,
        }
        if let Err(error) = interval(counting.as_mut(), show) {
            // Nobody reads on: the command does not go on unseen.
            if let Some(child) = child.as_mut() {
                child.terminate().ok();
            }
            return Err(error);
        }
    };
    if let Some(step) = own_pace {
        let end = options.duration.filter(|_| options.command.is_empty()).unwrap_or(Duration::MAX);
        let mut next = options.interval.unwrap_or(end).min(end);
        let (mut now, mut stopped) = (Duration::ZERO, false);
        while !stopped && now < end && counting.advance(step.min(next.saturating_sub(now)))?.is_some() {
            now = counting.elapsed().unwrap_or(end);
            if now >= next
                && let Some(every) = options.interval
            {
                interval(counting.as_mut(), show)?;
                next = next.saturating_add(every).min(end);
            }
            stopped = std::iter::from_fn(|| signals.next()).any(|signal| signal != Signal::Child);
        }
        asked |= stopped;
    }
    let elapsed = started.elapsed();
    // A command's perf counters have ended with it.
    if !matches!((&target, &options.backend), (Target::Command(_), BackendChoice::Native)) {
        counting.enable(false)?;
    }
    // What is left of an interval; a machine of its own time has ended with one, or has not.
    if options.interval.is_some() && counting.elapsed().is_none_or(|elapsed| elapsed > shown_until.get()) {
        interval(counting.as_mut(), show)?;
    }
    let counts = sorted(counting.read()?, options.no_aggr);
    let outcome = Outcome {
        target: show.target().to_owned(),
        elapsed: counting.elapsed().unwrap_or(elapsed),
        at: None,
        counts,
        counters: counting.counters().to_vec(),
        repeats: None,
    };
    Ok(Ended { outcome, status, asked })
}

/// The simulated machine's time is not ours: without a command, or as fast as it goes, it is run to its end by its own time,
/// so much of it between two looks at signals. `None`: what is counted goes on by itself.
fn own_pace(options: &Options) -> Option<Duration> {
    let BackendChoice::Simulated(simulated) = &options.backend else { return None };
    match simulated.pace > 0.0 {
        true if options.command.is_empty() => Some(LOOK.mul_f64(simulated.pace).max(Duration::from_nanos(1))),
        true => None,
        false => Some(Duration::from_secs(1)),
    }
}

fn sorted(mut counts: Vec<Count>, by_cpu: bool) -> Vec<Count> {
    if !by_cpu {
        counts = over_cpus(counts);
    }
    counts.sort_by_key(|count| (count.counter, count.cpu));
    counts
}

/// What has been counted since `before`.
fn differences(now: &[Count], before: &[Count]) -> Vec<Count> {
    let since = |count: &Count| {
        let old = before.iter().find(|old| (old.counter, old.cpu) == (count.counter, count.cpu));
        let old = old.copied().unwrap_or_default();
        Count {
            value: count.value.saturating_sub(old.value),
            enabled: count.enabled.saturating_sub(old.enabled),
            running: count.running.saturating_sub(old.running),
            ..*count
        }
    };
    now.iter().map(since).collect()
}

fn target(options: &Options) -> std::result::Result<Target, Failure> {
    let target = match (&options.processes, &options.threads) {
        (Some(list), _) => Target::Processes(list.0.clone()),
        (None, Some(list)) => Target::Threads(list.0.clone()),
        (None, None) if options.all || options.cpus.is_some() => Target::System,
        (None, None) if !options.command.is_empty() => Target::Command(0),
        (None, None) if options.backend != BackendChoice::Native => Target::System,
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
        Target::Domains(_) => "domains".into(),
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

/// What is waited for.
struct Wait<'a> {
    signals: &'a Signals,
    target: &'a Target,
    ends_at: Option<Instant>,
    /// Ctrl-C was pressed, and the command has it too.
    interrupted: bool,
}

impl Wait<'_> {
    /// Waits for the end (the command's exit status, and whether it was asked for), at most until `tick` (`None`).
    fn until(&mut self, mut child: Option<&mut Child>, tick: Option<Instant>) -> anyhow::Result<Option<(u8, bool)>> {
        let mut asked = false;
        loop {
            while let Some(signal) = self.signals.next() {
                match signal {
                    Signal::Child => {}
                    // Ctrl-C reaches the command as well, which ends when it likes; a second one ends both.
                    Signal::Interrupt if child.is_some() && !self.interrupted && on_terminal() => {
                        self.interrupted = true
                    }
                    _ => asked = true,
                }
            }
            let now = Instant::now();
            asked |= self.ends_at.is_some_and(|end| end <= now);
            if let Some(child) = child.as_deref_mut() {
                if let Some(ended) = child.try_wait()? {
                    return Ok(Some((child::status(ended), self.interrupted)));
                }
                if asked {
                    child.terminate().context("cannot end the command")?;
                    return Ok(Some((child::status(child.wait()?), true)));
                }
            } else if asked || gone(self.target) {
                return Ok(Some((0, asked)));
            }
            if tick.is_some_and(|tick| tick <= now) {
                return Ok(None);
            }
            let next = [self.ends_at, tick].into_iter().flatten().min();
            let mut timeout = next.map_or(Duration::MAX, |next| next.duration_since(now));
            if child.is_none() && matches!(self.target, Target::Processes(_) | Target::Threads(_)) {
                timeout = timeout.min(LOOK);
            }
            let Some(fd) = self.signals.fd() else { anyhow::bail!("the signal pipe is closed") };
            let timespec = Timespec::try_from(timeout.min(Duration::from_secs(3600))).ok();
            match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timespec.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for signals"),
            }
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
    fn an_interval_holds_what_came_since_the_one_before() {
        let count = |value, enabled, running| Count { counter: 3, cpu: Some(1), value, enabled, running };
        assert_eq!(differences(&[count(10, 20, 5)], &[]), [count(10, 20, 5)]);
        assert_eq!(differences(&[count(10, 20, 5)], &[count(4, 12, 2)]), [count(6, 8, 3)]);
    }

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
