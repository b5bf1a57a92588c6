//! Other programs' forms of a recording: one file each, with a function that takes a [`Job`].

pub(crate) mod folded;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use anyhow::Context;

use crate::commands::export::Options;

/// What to write, and what to say when done.
pub(crate) struct Job {
    pub(crate) options: Options,
    /// What makes the result partial; printed to stderr.
    pub(crate) notes: Vec<String>,
}

impl Job {
    /// Where the result goes: `-o FILE`, or standard output. Binary forms do not go to a terminal.
    pub(crate) fn output(&self, is_binary: bool) -> anyhow::Result<Box<dyn Write>> {
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
