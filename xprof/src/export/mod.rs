//! Other programs' forms of a recording.

mod perf;

use std::fs;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use xprof_perfdata::header::Description;
use xprof_profile::profile::{EventStacks, Stacks};
use xprof_ui::export::{self, Source};
use xprof_ui::folded::folded;

use crate::commands::export::{Form, Options};
use crate::stacks::{By, Wanted};

/// What to write, and what to say when done.
pub(crate) struct Job {
    pub(crate) options: Options,
    /// What makes the result partial; printed to stderr.
    pub(crate) notes: Vec<String>,
}

impl Job {
    /// Writes the form that is asked for.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let Job { options, notes } = self;
        let by = match options.to {
            // Records, not stacks.
            Form::Perf => return perf::run(self),
            Form::Folded | Form::Speedscope | Form::Callgrind => By::Vcpu,
            Form::Pprof => By::Thread,
            Form::Firefox | Form::Chrome => By::ThreadTime,
        };
        let wanted = Wanted {
            input: &options.input,
            event: options.event.as_deref(),
            reading: &options.reading,
            inline: !options.no_inline,
            by,
        };
        match options.to {
            Form::Pprof | Form::Callgrind => {
                let (located, description) = wanted.read_located(notes)?;
                let events = chosen(&wanted, &located.stacks, notes, false)?;
                let source = source(&options.input, &description);
                let mut out = BufWriter::new(output(options, options.to == Form::Pprof)?);
                if options.to == Form::Pprof {
                    let mut packed = GzEncoder::new(&mut out, Compression::default());
                    packed.write_all(&export::pprof(&located, &events, &source))?;
                    packed.finish()?;
                } else {
                    export::callgrind(&located, &events, &source, &mut out)?;
                }
                out.flush()?;
            }
            _ => {
                let (stacks, description) = wanted.read_all(notes)?;
                let events = chosen(&wanted, &stacks, notes, options.to != Form::Speedscope)?;
                let events: Vec<&EventStacks> = events.into_iter().filter_map(|at| stacks.events.get(at)).collect();
                let source = source(&options.input, &description);
                let mut out = BufWriter::new(output(options, false)?);
                match (options.to, events.first()) {
                    (Form::Speedscope, _) => export::speedscope(&stacks, &events, &source, &mut out)?,
                    (Form::Folded, Some(event)) => {
                        let mut lines = Vec::new();
                        folded(&stacks, event, &mut lines);
                        out.write_all(&lines)?;
                    }
                    (Form::Firefox, Some(event)) => export::firefox(&stacks, event, &source, &mut out)?,
                    (Form::Chrome, Some(event)) => export::chrome(&stacks, event, &source, &mut out)?,
                    _ => {}
                }
                out.flush()?;
            }
        }
        Ok(())
    }
}

/// Where the result goes: `-o FILE`, or standard output. Binary forms do not go to a terminal.
fn output(options: &Options, is_binary: bool) -> anyhow::Result<Box<dyn Write>> {
    match options.output.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            Ok(Box::new(file))
        }
        _ if is_binary && io::stdout().is_terminal() => {
            anyhow::bail!("this form is binary and stdout is a terminal: give a file with -o FILE, or a pipe")
        }
        _ => Ok(Box::new(io::stdout().lock())),
    }
}

/// The events that are written, by index: the one that is asked for, else those that have samples, else the first.
fn chosen(wanted: &Wanted<'_>, stacks: &Stacks, notes: &mut Vec<String>, has_one: bool) -> anyhow::Result<Vec<usize>> {
    let one = || stacks.events.len().min(1);
    if wanted.event.is_none() && !has_one {
        let sampled = stacks.events.iter().enumerate().filter(|(_, event)| !event.stacks.is_empty());
        let sampled: Vec<usize> = sampled.map(|(at, _)| at).collect();
        return Ok(if sampled.is_empty() { (0..one()).collect() } else { sampled });
    }
    let event = wanted.choose(stacks, notes)?;
    let at = event.and_then(|event| stacks.events.iter().position(|other| std::ptr::eq(event, other)));
    Ok(at.map_or_else(|| (0..one()).collect(), |at| vec![at]))
}

fn source(path: &Path, description: &Description) -> Source {
    let features = &description.features;
    let command = Some(features.cmdline.join(" ")).filter(|command| !command.is_empty());
    let facts = [("command", command), ("kernel", features.os_release.clone()), ("machine", features.arch.clone())];
    let fact = |(name, value): (&str, Option<String>)| value.map(|value| format!("{name}: {value}"));
    Source {
        title: path.display().to_string(),
        host: features.hostname.clone(),
        facts: facts.into_iter().filter_map(fact).collect(),
        clock_offset: features.clock_data.and_then(|clock| clock.wall_ns.checked_sub(clock.clock_ns)),
        duration: features.sample_time.map(|(first, last)| last.saturating_sub(first)),
    }
}
