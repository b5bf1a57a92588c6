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
        let options = &self.options;
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
        let (stacks, description) = wanted.read_all(&mut self.notes)?;
        let has_one = matches!(options.to, Form::Folded | Form::Firefox | Form::Chrome);
        let events: Vec<&EventStacks> = match options.event {
            None if !has_one => all(&stacks),
            _ => wanted.choose(&stacks, &mut self.notes)?.or(stacks.events.first()).into_iter().collect(),
        };
        let source = source(&options.input, &description);
        let mut out = BufWriter::new(self.output(options.to == Form::Pprof)?);
        match (options.to, events.first()) {
            (Form::Pprof, _) => {
                let mut packed = GzEncoder::new(&mut out, Compression::default());
                packed.write_all(&export::pprof(&stacks, &events, &source))?;
                packed.finish()?;
            }
            (Form::Speedscope, _) => export::speedscope(&stacks, &events, &source, &mut out)?,
            (Form::Callgrind, _) => export::callgrind(&stacks, &events, &source, &mut out)?,
            (Form::Folded, Some(event)) => {
                let mut lines = Vec::new();
                folded(&stacks, event, &mut lines);
                out.write_all(&lines)?;
            }
            (Form::Firefox, Some(event)) => export::firefox(&stacks, event, &source, &mut out)?,
            (Form::Chrome, Some(event)) => export::chrome(&stacks, event, &source, &mut out)?,
            (Form::Perf, _) | (_, None) => {}
        }
        out.flush()?;
        Ok(())
    }

    /// Where the result goes: `-o FILE`, or standard output. Binary forms do not go to a terminal.
    fn output(&self, is_binary: bool) -> anyhow::Result<Box<dyn Write>> {
        match self.options.output.as_deref() {
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
}

/// The events that have samples; the first one where none has.
fn all(stacks: &Stacks) -> Vec<&EventStacks> {
    let sampled: Vec<&EventStacks> = stacks.events.iter().filter(|event| !event.stacks.is_empty()).collect();
    if sampled.is_empty() { stacks.events.iter().take(1).collect() } else { sampled }
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
