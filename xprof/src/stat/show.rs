//! Where counts go, and in which form: once at the end, or interval by interval.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use xprof_backend::counters::{Count, Counter};

use super::{Outcome, perf_form, print};
use crate::commands::stat::{Format, Options};

/// The forms.
#[derive(Debug)]
enum Form {
    Text,
    Json,
    Csv,
    /// `-x`.
    Separated(String),
    /// `-j`.
    Objects,
}

/// A place to show counts.
#[derive(Debug)]
pub(super) struct Show {
    form: Form,
    /// Standard output when there is none.
    file: Option<(PathBuf, File)>,
    /// What is counted, in words.
    target: String,
    by_interval: bool,
    begun: bool,
}

impl Show {
    /// Creates the file, if one was asked for.
    pub(super) fn new(options: &Options, target: String) -> anyhow::Result<Show> {
        let form = match (&options.separator, options.json_lines, options.format) {
            // perf reads it so, as shells make a tab hard to type.
            (Some(separator), ..) => Form::Separated(separator.replace("\\t", "\t")),
            (None, true, _) => Form::Objects,
            (None, false, Format::Text) => Form::Text,
            (None, false, Format::Json) => Form::Json,
            (None, false, Format::Csv) => Form::Csv,
        };
        let create = |path: &PathBuf| {
            let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
            Ok::<_, anyhow::Error>((path.clone(), file))
        };
        let file = options.output.as_ref().map(create).transpose()?;
        Ok(Show { form, file, target, by_interval: options.interval.is_some(), begun: false })
    }

    /// What is counted, in words.
    pub(super) fn target(&self) -> &str {
        &self.target
    }

    /// Shows one interval, from `at - length` to `at` since the start.
    pub(super) fn interval(
        &mut self,
        at: Duration,
        length: Duration,
        counters: &[Counter],
        counts: &[Count],
    ) -> anyhow::Result<()> {
        let outcome = Outcome {
            target: self.target.clone(),
            elapsed: length,
            at: Some(at),
            counters: counters.to_vec(),
            counts: counts.to_vec(),
            repeats: None,
        };
        self.write(&outcome)
    }

    /// Shows the whole, unless intervals have.
    pub(super) fn end(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        if self.by_interval { Ok(()) } else { self.write(outcome) }
    }

    fn write(&mut self, outcome: &Outcome) -> anyhow::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        let text = match &self.form {
            Form::Text if self.by_interval => print::interval(outcome, first),
            Form::Text => print::text(outcome),
            Form::Json => print::json(outcome),
            Form::Csv => print::csv(outcome, first),
            Form::Separated(separator) => perf_form::separated(outcome, separator),
            Form::Objects => perf_form::objects(outcome),
        };
        match &mut self.file {
            Some((path, file)) => {
                file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text.as_bytes())?;
                stdout.flush()?;
            }
        }
        Ok(())
    }
}
