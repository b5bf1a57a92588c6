//! `xprof list`: the events of this machine, from the kernel's names, sysfs and tracefs.
//!
//! Whether an event works is not guessed: each is opened once. Tracepoints, of which there are thousands, all open
//! or fail together, so one of them answers for all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;
use xprof_backend::event::catalog::{self, Kind, Known};
use xprof_backend::machine::Machine;
use xprof_ui::plain::{Plain, csv_field};

use crate::Global;
use crate::commands::report::OutputFormat;
use crate::exit::Failure;
use crate::terminal::Output;

/// Options of `xprof list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only events with this in their name, that match this glob (sched:*), or of this kind: hardware, software,
    /// cache, pmu, tracepoint (hw, sw for short)
    pattern: Option<String>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// An event, and why it does not open (`None`: it does).
struct Row {
    event: Known,
    refusal: Option<String>,
}

/// Runs `xprof list`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let _ = global;
    let machine = Machine::here();
    let mut list = catalog::known(&machine);
    if let Some(pattern) = &options.pattern {
        list.retain(|event| matches(event, pattern));
        if list.is_empty() {
            return Err(Failure::new(1, format!("no event of this machine matches {pattern:?}")).into());
        }
    }
    let rows = probe(&machine, list, options.pattern.is_some() || options.format != OutputFormat::Text);
    let text = match options.format {
        OutputFormat::Text => text(&rows),
        OutputFormat::Json => json(&rows),
        OutputFormat::Csv => csv(&rows),
    };
    Output::new().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn matches(event: &Known, pattern: &str) -> bool {
    let kind = match pattern {
        "hw" => "hardware",
        "sw" => "software",
        other => other,
    };
    let pattern = pattern.to_ascii_lowercase();
    kind == event.kind.name()
        || std::iter::once(&event.name).chain(&event.aliases).any(|name| {
            let name = name.to_ascii_lowercase();
            name.contains(&pattern) || catalog::glob(&pattern, &name)
        })
}

fn probe(machine: &Machine, list: Vec<Known>, describe: bool) -> Vec<Row> {
    let refusal = |name: &str| match catalog::try_open(machine, name) {
        Ok(()) => None,
        Err(xprof_backend::Error::Open { source, .. }) => Some(reason(&source)),
        Err(error) => Some(error.to_string()),
    };
    let mut of_tracepoints: Option<Option<String>> = None;
    let row = |mut event: Known| {
        let refusal = match event.kind {
            Kind::Tracepoint => of_tracepoints.get_or_insert_with(|| refusal(&event.name)).clone(),
            _ => refusal(&event.name),
        };
        if describe && event.kind == Kind::Tracepoint {
            event.description = catalog::tracepoint_format(machine, &event.name).unwrap_or_default();
        }
        Row { event, refusal }
    };
    list.into_iter().map(row).collect()
}

/// The kernel's answer in words that fit a line of a list.
fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::Unsupported => "not on this CPU".into(),
        ErrorKind::PermissionDenied => "not permitted".into(),
        _ => error.to_string(),
    }
}

fn text(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut kind = None;
    for Row { event, refusal } in rows {
        if kind != Some(event.kind) {
            let gap = if kind.is_some() { "\n" } else { "" };
            let _ = writeln!(out, "{gap}# {} events", event.kind.name());
            kind = Some(event.kind);
        }
        let names = std::iter::once(&event.name).chain(&event.aliases).cloned().collect::<Vec<_>>().join(" OR ");
        let mut about: Vec<String> = Vec::new();
        if !event.description.is_empty() {
            about.push(Plain(&event.description).to_string());
        }
        about.extend(event.unit.as_ref().map(|u| format!("[{}]", Plain(u))));
        about.extend(refusal.as_ref().map(|r| format!("({r})")));
        // A mark in the first column, so that what does not work is seen at once.
        let mark = if refusal.is_some() { '-' } else { ' ' };
        let line = format!("{mark} {:<50} {}", Plain(&names), about.join(" "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if rows.iter().any(|r| r.refusal.is_some()) {
        let _ = writeln!(out, "\n# - does not open here; `xprof doctor` says why");
    }
    out
}

fn json(rows: &[Row]) -> String {
    let events: Vec<_> = rows
        .iter()
        .map(|Row { event, refusal }| {
            json!({
                "name": event.name,
                "aliases": event.aliases,
                "kind": event.kind.name(),
                "description": event.description,
                "unit": event.unit,
                "opens": refusal.is_none(),
                "reason": refusal,
            })
        })
        .collect();
    format!("{}\n", json!({ "schema": 1, "events": events }))
}

fn csv(rows: &[Row]) -> String {
    let mut out = String::from("name,aliases,kind,description,unit,opens,reason\n");
    for Row { event, refusal } in rows {
        let fields = [
            event.name.as_str(),
            &event.aliases.join(" "),
            event.kind.name(),
            &event.description,
            event.unit.as_deref().unwrap_or_default(),
            if refusal.is_none() { "true" } else { "false" },
            refusal.as_deref().unwrap_or_default(),
        ];
        let fields: Vec<String> = fields.iter().map(|f| csv_field(f)).collect();
        let _ = writeln!(out, "{}", fields.join(","));
    }
    out
}
