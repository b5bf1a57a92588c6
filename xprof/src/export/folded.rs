//! `--to folded`: one line a stack, for flame graph programs.

use std::io::Write;

use anyhow::bail;
use xprof_profile::profile::{Builder, EventStacks, Key};

use super::Job;
use crate::commands::report::{damage, fill, has_chains};
use crate::input;

/// Writes the stacks of one event: the one that is asked for, else the first that has any.
pub(crate) fn run(job: &mut Job) -> anyhow::Result<()> {
    let recording = input::open(job.input())?;
    let mut description = recording.description().clone();
    let unwinding = input::unwinding(&mut description, &job.options.naming, false);
    let filter = job.options.filter.filter(job.options.time.as_deref(), &description)?;
    let mut builder = Builder::new(&description, &[Key::Comm, Key::Symbol], filter, has_chains(&description));
    builder.set_guest_programs(job.options.naming.guest_programs(&description));
    let (builder, ended) = fill(builder, (recording, unwinding), &description.events, &mut job.notes);
    let symbolizer = job.options.naming.beside(job.input()).symbolizer(&ended);
    let stacks = builder.stacks(&description.events, &symbolizer);
    let names = || stacks.events.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
    let has_any = |event: &&EventStacks| !event.stacks.is_empty();
    let event = match &job.options.event {
        Some(wanted) => match stacks.events.iter().find(|e| e.name == *wanted) {
            Some(event) => Some(event),
            None => bail!("{}: there is no event {wanted:?} in it; there is: {}", job.input().display(), names()),
        },
        None => stacks.events.iter().find(has_any),
    };
    let others = stacks.events.iter().filter(has_any).count();
    if let (Some(event), None, 2..) = (event, &job.options.event, others) {
        job.notes.push(format!("only the stacks of {} are written; choose with -e: {}", event.name, names()));
    }
    job.notes.extend(damage(stacks.damaged));
    job.notes.extend(stacks.unnamed.first().map(|u| format!("{} samples without names: {}", u.samples, u.advice)));
    let mut out = Vec::new();
    if let Some(event) = event {
        xprof_ui::folded::folded(&stacks, event, &mut out);
    }
    let mut output = job.output(false)?;
    output.write_all(&out)?;
    output.flush()?;
    Ok(())
}
