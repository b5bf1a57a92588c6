//! The run: everything is set up, then the command starts, then one loop moves buffers from the session to the
//! writer and obeys signals, timers and `--control`, until one of them ends it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, never, select};
use xprof_backend::machine::Machine;
use xprof_backend::native::{Native, mended};
use xprof_backend::plan::{CallGraph, Plan, Sources, Target};
use xprof_backend::replay::Replay;
use xprof_backend::sys::process::Child;
use xprof_backend::sys::signal::{self, Signal};
use xprof_backend::sys::xen::is_dom0;
use xprof_backend::xen::session::Xen;
use xprof_backend::xen::trace;
use xprof_backend::xen::whole::WholeHost;
use xprof_backend::{Backend, Drained, Message, Session, Stats};
use xprof_perfdata::feature::Features;

use super::control::{Command, Ends, Event, Listener};
use super::plan::Recording;
use super::unwinding::Unwinding;
use super::values::{BackendChoice, Switch};
use super::writer::{Sink, Totals};
use super::{child, facts, frame_pointers, output, running};
use crate::Global;
use crate::terminal::on_terminal;

/// With nothing to do, the loop looks at its timers this often.
const IDLE: Duration = Duration::from_secs(1);

/// A hardware event that was open so long, s, and saw nothing is not believed.
const LONG_ENOUGH: f64 = 1.0;

/// What is caught while a recording runs.
const SIGNALS: [Signal; 5] = [Signal::Interrupt, Signal::Terminate, Signal::Hangup, Signal::User2, Signal::Child];

/// Why a recording ended.
#[derive(Debug)]
enum End {
    /// The command did.
    Command(u8),
    /// A signal said so.
    Signal,
    /// `-d`, or `stop` of `--control`.
    Asked,
    /// Nothing is left to measure.
    TargetsGone,
    /// It could not be written on.
    Broken(anyhow::Error),
}

/// The backend of a choice.
pub(crate) fn backend(choice: &BackendChoice, plan: &Plan) -> Box<dyn Backend> {
    match choice {
        BackendChoice::Auto if matches!(plan.target, Target::Domains(_)) => Box::new(Xen),
        // In dom0 everything is the whole host.
        BackendChoice::Auto if is_whole_host(plan) => Box::new(WholeHost::default()),
        BackendChoice::Auto | BackendChoice::Native => Box::new(Native::new()),
        BackendChoice::Xen => Box::new(Xen),
        BackendChoice::Replay(path) => Box::new(Replay::new(path)),
        BackendChoice::Simulated(simulated) => Box::new(simulated.clone()),
    }
}

/// False for what says itself what was running: a replayed recording, and a machine that is not there.
pub(crate) fn is_here(choice: &BackendChoice) -> bool {
    !matches!(choice, BackendChoice::Replay(_) | BackendChoice::Simulated(_))
}

/// Records.
pub(crate) fn run(mut recording: Recording, global: &Global) -> anyhow::Result<ExitCode> {
    output::refuse_terminal(recording.file.path.as_deref())?;
    let signals = signal::catch(&SIGNALS).context("cannot catch signals")?;
    let ends = recording.run.control.as_ref().map(Ends::open).transpose()?.unwrap_or_default();
    let to_stdout = recording.file.path.is_none();
    let waiting = match recording.command.is_empty() {
        true => None,
        false => Some(child::fork(&recording.command, to_stdout)?),
    };
    if let (Target::Command(pid), Some(waiting)) = (&mut recording.plan.target, &waiting) {
        *pid = waiting.pid();
    }
    let live = is_here(&recording.backend);
    let plan = &mut recording.plan;
    // A kernel that mislabels its samples follows no frame pointers in them.
    let follows = live && !mended::is_needed(&Machine::here());
    if follows && recording.best_stacks && frame_pointers::are_enough(&plan.target, &recording.command) {
        plan.call_graph = CallGraph::FramePointers;
        if global.verbose > 0 {
            eprintln!("xprof: all code that is there keeps frame pointers: stacks are taken by these");
        }
    }
    if live {
        mended::stacks(&Machine::here(), plan);
        if let Some(said) = Some(()).filter(|()| plan.sources.trace).and_then(|()| trace::first_use()) {
            eprintln!("xprof: {said}");
        }
    }
    let mut session = backend(&recording.backend, &recording.plan).open(&recording.plan)?;
    let machine = Machine::here();
    let mut notes = session.describe().notes.clone();
    let features = match recording.backend {
        _ if live => facts::features(&machine, session.describe(), &recording)?,
        BackendChoice::Simulated(_) => facts::of_nowhere(&recording),
        _ => Features::default(),
    };
    let unwinding = live.then(|| Unwinding::new(session.describe(), &recording.plan)).flatten();
    let (to, overwrite) = (recording.file.clone(), recording.plan.overwrite);
    let (mut sink, pending) = Sink::create(to, session.as_ref(), overwrite, features, unwinding.as_ref())?;
    if live {
        sink.synthesized(&running::kernel(&machine, session.describe(), &mut notes))?;
    }
    let listener = Listener::start(signals, ends)?;
    session.start()?;
    let told = if live { &recording.plan.target } else { &Target::Command(0) };
    let synthesis = running::processes(told, session.describe())?;
    let child = waiting.map(|waiting| child::execute(waiting, &recording.command)).transpose()?;
    pending.begin()?;

    let now = Instant::now();
    let mut run = Run {
        messages: session.messages().clone(),
        session,
        listener,
        synthesis: Some(synthesis),
        child,
        sink,
        unwinding,
        quiet: global.quiet,
        target: recording.plan.target.clone(),
        overwrite: recording.plan.overwrite,
        switch: recording.run.switch,
        started: now,
        ends_at: recording.run.duration.and_then(|d| now.checked_add(d)),
        enable_at: recording.run.enable_after.and_then(|d| now.checked_add(d)),
        file_since: now,
        interrupted: false,
        failed: false,
    };
    notes.drain(..).for_each(|note| run.say(&note));
    let end = run.until_end();
    let finished = run.finish(end);
    signal::release(&SIGNALS);
    finished
}

/// Everything that runs is asked for, in the dom0 of a Xen host. CPUs that are named are dom0's own.
fn is_whole_host(plan: &Plan) -> bool {
    let asked = plan.sources != Sources::default();
    plan.target == Target::System && plan.cpus.is_none() && !plan.overwrite && (asked || is_dom0(&Machine::here()))
}

/// A recording that runs.
struct Run {
    session: Box<dyn Session>,
    messages: Receiver<Message>,
    listener: Listener,
    /// Records of what was running; `None` when all have come.
    synthesis: Option<Receiver<Vec<u8>>>,
    child: Option<Child>,
    sink: Sink,
    /// What puts call chains in place of stack copies.
    unwinding: Option<Unwinding>,
    quiet: bool,
    target: Target,
    overwrite: bool,
    switch: Option<Switch>,
    started: Instant,
    ends_at: Option<Instant>,
    enable_at: Option<Instant>,
    /// When the current file was begun.
    file_since: Instant,
    /// Ctrl-C was pressed, and the command has it too.
    interrupted: bool,
    /// Part of the recording is missing, which the exit status says.
    failed: bool,
}

impl Run {
    fn say(&self, note: &str) {
        if !self.quiet {
            eprintln!("xprof: {note}");
        }
    }

    fn until_end(&mut self) -> End {
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => return End::Broken(error),
            }
        }
    }

    fn step(&mut self) -> anyhow::Result<Option<End>> {
        let now = Instant::now();
        let deadlines = [self.ends_at, self.enable_at, self.switches_at(), now.checked_add(IDLE)];
        let next = deadlines.into_iter().flatten().min().unwrap_or(now);
        let silent = never();
        let end = select! {
            recv(self.messages) -> message => match message {
                Ok(message) => self.message(message)?,
                Err(_) => Some(End::TargetsGone),
            },
            recv(self.listener.events) -> event => match event {
                Ok(event) => self.event(event)?,
                Err(_) => None,
            },
            recv(self.synthesis.as_ref().unwrap_or(&silent)) -> records => {
                self.synthesized(records.ok())?;
                None
            },
            default(next.saturating_duration_since(now)) => None,
        };
        if end.is_some() {
            return Ok(end);
        }
        self.timers()
    }

    fn message(&mut self, message: Message) -> anyhow::Result<Option<End>> {
        match message {
            Message::Drained(drained) if self.unwinding.is_some() => self.unwind(drained)?,
            Message::Drained(drained) => {
                self.sink.drained(&drained).with_context(|| self.sink.cannot_write())?;
                self.session.recycle(drained.bytes);
            }
            Message::Note(note) => self.say(&note),
            Message::Domain(domain) => self.sink.domain(*domain),
            Message::Facts(facts) => self.sink.facts(facts),
            // Not for -q to leave out: part of what was asked for is missing.
            Message::Failed(error) => {
                self.failed = true;
                eprintln!("xprof: {error}");
            }
            // The command's own end is awaited: it has the exit status.
            Message::TargetsGone if matches!(self.target, Target::Command(_)) => {}
            Message::TargetsGone => return Ok(Some(End::TargetsGone)),
        }
        Ok(None)
    }

    /// Takes what a ring held through the unwinding to the writer.
    fn unwind(&mut self, drained: Drained) -> anyhow::Result<()> {
        self.sink.hold(&drained.bytes);
        if let Some(unwinding) = &mut self.unwinding {
            unwinding.push(drained);
        }
        self.write_unwound()
    }

    fn write_unwound(&mut self) -> anyhow::Result<()> {
        let Some(unwinding) = &mut self.unwinding else { return Ok(()) };
        while let Some(records) = unwinding.next(|buffer| self.session.recycle(buffer)) {
            self.sink.in_order(records).with_context(|| self.sink.cannot_write())?;
        }
        Ok(())
    }

    fn synthesized(&mut self, records: Option<Vec<u8>>) -> anyhow::Result<()> {
        if let Some(unwinding) = &mut self.unwinding {
            match &records {
                Some(records) => unwinding.synthesized(records),
                None => unwinding.synthesis_done(),
            }
        }
        let written = match records {
            Some(records) => self.sink.synthesized(&records),
            None => {
                self.synthesis = None;
                self.sink.synthesis_done()
            }
        };
        written.with_context(|| self.sink.cannot_write())
    }

    fn event(&mut self, event: Event) -> anyhow::Result<Option<End>> {
        match event {
            Event::Signal(Signal::Child) => {
                if let Some(child) = &mut self.child
                    && let Some(ended) = child.try_wait().context("cannot wait for the command")?
                {
                    return Ok(Some(End::Command(child::status(ended))));
                }
            }
            Event::Signal(Signal::User2) => self.snapshot()?,
            Event::Signal(Signal::Interrupt) if self.child.is_some() && !self.interrupted && on_terminal() => {
                // The command has it too, and ends when it likes; a second one ends the recording.
                self.interrupted = true;
            }
            Event::Signal(Signal::Interrupt | Signal::Terminate | Signal::Hangup) => return Ok(Some(End::Signal)),
            Event::Signal(Signal::WindowChange) => {}
            Event::Command(command) => {
                match command {
                    Command::Enable => self.session.enable(true)?,
                    Command::Disable => self.session.enable(false)?,
                    Command::Snapshot => self.snapshot()?,
                    Command::Ping | Command::Stop => {}
                }
                self.listener.acknowledge();
                if command == Command::Stop {
                    return Ok(Some(End::Asked));
                }
            }
            Event::Unknown(line) => {
                self.say(&format!("--control: {line:?} is none of enable, disable, snapshot, stop, ping"));
            }
        }
        Ok(None)
    }

    /// SIGUSR2: writes what overwritten rings hold, begins a new file.
    fn snapshot(&mut self) -> anyhow::Result<()> {
        if self.overwrite {
            self.session.snapshot()?;
            while let Ok(message) = self.messages.try_recv() {
                self.message(message)?;
            }
        }
        if self.switch.is_some() { self.begin_file() } else { Ok(()) }
    }

    fn begin_file(&mut self) -> anyhow::Result<()> {
        self.end_synthesis()?;
        if let Some(unwinding) = &mut self.unwinding {
            unwinding.begin_file();
        }
        let mut notes = Vec::new();
        if let Some(path) = self.sink.switch(&mut notes)? {
            notes.push(format!("wrote {}", path.display()));
        }
        let session = self.session.describe();
        self.sink
            .synthesized(&running::kernel(&Machine::here(), session, &mut notes))
            .with_context(|| self.sink.cannot_write())?;
        // A command has children by now: everything that runs is told again.
        let target = if matches!(self.target, Target::Command(_)) { &Target::System } else { &self.target };
        self.synthesis = Some(running::processes(target, session)?);
        self.file_since = Instant::now();
        notes.iter().for_each(|note| self.say(note));
        Ok(())
    }

    /// Takes what synthesis has still to say.
    fn end_synthesis(&mut self) -> anyhow::Result<()> {
        let Some(rest) = self.synthesis.take() else { return Ok(()) };
        for records in rest.iter() {
            self.synthesized(Some(records))?;
        }
        self.synthesized(None)
    }

    fn switches_at(&self) -> Option<Instant> {
        match self.switch {
            Some(Switch::Time(time)) => self.file_since.checked_add(time),
            _ => None,
        }
    }

    fn timers(&mut self) -> anyhow::Result<Option<End>> {
        let now = Instant::now();
        if self.ends_at.is_some_and(|at| now >= at) {
            return Ok(Some(End::Asked));
        }
        if self.enable_at.is_some_and(|at| now >= at) {
            self.enable_at = None;
            self.session.enable(true)?;
        }
        let full = matches!(self.switch, Some(Switch::Bytes(limit)) if self.sink.bytes() >= limit);
        if full || self.switches_at().is_some_and(|at| now >= at) {
            self.begin_file()?;
        }
        self.sink.refresh(now).with_context(|| self.sink.cannot_write())?;
        Ok(None)
    }

    /// Stops the session, closes the file, waits for the command.
    fn finish(mut self, end: End) -> anyhow::Result<ExitCode> {
        let stopped = self.session.stop();
        let seconds = self.started.elapsed().as_secs_f64();
        let end = match end {
            End::Broken(error) => End::Broken(error),
            end => match self.last_records() {
                Ok(()) => end,
                Err(error) => End::Broken(error),
            },
        };
        let stats = stopped.unwrap_or_else(|error| {
            self.say(&error.to_string());
            Stats::default()
        });
        let end = match end {
            End::Broken(error) => {
                let (child, listener) = (self.child, self.listener);
                let totals = self.sink.rescue();
                let _ = end_child(child);
                drop(listener);
                return Err(error.context(format!("the recording ends after {} samples", totals.samples)));
            }
            end => end,
        };
        let mut notes = self.unwinding.as_ref().map(Unwinding::notes).unwrap_or_default();
        if seconds >= LONG_ENOUGH {
            let events = self.session.describe().events.list();
            notes.extend(stats.silent.iter().filter_map(|&index| events.get(index)).map(|event| {
                format!(
                    "{} counted nothing in {seconds:.1} s: this processor or virtual machine may not have the event, or nothing ran that was measured",
                    event.name
                )
            }));
        }
        let (totals, path) = self.sink.finish(&stats, &mut notes)?;
        let own = match end {
            End::Command(status) => Some(status),
            _ => end_child(self.child)?,
        };
        if !self.quiet {
            notes.iter().for_each(|note| eprintln!("xprof: {note}"));
            eprintln!("{}", summary(&totals, seconds, path.as_deref()));
        }
        // A command that we ended ourselves, as we were asked to, has not failed.
        let own = if matches!(end, End::Asked) { 0 } else { own.unwrap_or(0) };
        Ok(ExitCode::from(if own == 0 { u8::from(self.failed) } else { own }))
    }

    /// What is left in the channels after the session has stopped.
    fn last_records(&mut self) -> anyhow::Result<()> {
        self.end_synthesis()?;
        while let Ok(message) = self.messages.recv() {
            self.message(message)?;
        }
        if let Some(unwinding) = &mut self.unwinding {
            unwinding.finish();
        }
        self.write_unwound()
    }
}

/// Ends a command that still runs; its exit status.
fn end_child(child: Option<Child>) -> anyhow::Result<Option<u8>> {
    let Some(mut child) = child else { return Ok(None) };
    child.terminate().context("cannot end the command")?;
    let ended = child.wait().context("cannot wait for the command")?;
    Ok(Some(child::status(ended)))
}

fn summary(totals: &Totals, seconds: f64, path: Option<&std::path::Path>) -> String {
    let Totals { samples, lost, bytes } = totals;
    let to = path.map_or_else(|| "stdout".into(), |path| path.display().to_string());
    format!("xprof: {samples} samples, {lost} lost, {bytes} bytes, {seconds:.3} seconds: {to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_all_four_numbers() {
        let totals = Totals { samples: 12, lost: 3, bytes: 4567 };
        let line = summary(&totals, 1.5, Some(std::path::Path::new("perf.data")));
        assert_eq!(line, "xprof: 12 samples, 3 lost, 4567 bytes, 1.500 seconds: perf.data");
    }
}
