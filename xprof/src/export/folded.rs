//! `--to folded`: one line a stack, for flame graph programs.

use std::io::Write;

use super::Job;
use crate::stacks::{By, Wanted};

/// Writes the stacks of one event: the one that is asked for, else the first that has any.
pub(crate) fn run(job: &mut Job) -> anyhow::Result<()> {
    let options = &job.options;
    let wanted = Wanted {
        input: &options.input,
        event: options.event.as_deref(),
        reading: &options.reading,
        inline: !options.no_inline,
        by: By::Comm,
    };
    let stacks = wanted.read(&mut job.notes)?;
    let mut out = Vec::new();
    if let Some(event) = wanted.choose(&stacks, &mut job.notes)? {
        xprof_ui::folded::folded(&stacks, event, &mut out);
    }
    let mut output = job.output(false)?;
    output.write_all(&out)?;
    output.flush()?;
    Ok(())
}
