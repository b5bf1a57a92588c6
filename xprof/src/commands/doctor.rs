//! `xprof doctor`: what can be measured here, what cannot, why, and the command that would change it.
//!
//! Nothing is inferred that can be tried: the checks open real events. Exit status 0 when recording works.

mod checks;
mod restore;
mod xen;

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use xprof_ui::plain::csv_field;

use crate::Global;
use crate::commands::report::OutputFormat;
use crate::terminal::Output;

/// Options of `xprof doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Form of the output
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
    /// Show, then undo, what a killed run has left changed on this machine
    #[arg(long)]
    restore: bool,
    /// Where the devices are, in place of /dev/cpu
    #[arg(long, value_name = "DIR", hide = true)]
    devices: Option<PathBuf>,
    /// Where journals are, in place of /run/xprof/msr
    #[arg(long, value_name = "DIR", hide = true)]
    journals: Option<PathBuf>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It works.
    Works,
    /// It works with a limit.
    Limited,
    /// It does not work.
    Fails,
    /// A fact, neither good nor bad.
    Fact,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Works => "works",
            State::Limited => "limited",
            State::Fails => "fails",
            State::Fact => "fact",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
struct Check {
    /// What: a fixed word or two, for scripts.
    name: &'static str,
    state: State,
    /// What was found, and why.
    found: String,
    /// The command that would change it.
    command: Option<String>,
}

/// Runs `xprof doctor`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    if options.restore {
        return restore::run(&options);
    }
    let checks = checks::all();
    // Whatever else fails: a user's own program can be recorded, or it cannot.
    let works = checks.iter().any(|c| c.name == checks::RECORDING && c.state != State::Fails);
    let text = match options.format {
        OutputFormat::Text => text(&checks, global.color.on(std::io::stdout().is_terminal())),
        OutputFormat::Json => json(&checks, works),
        OutputFormat::Csv => csv(&checks),
    };
    Output::new().write_all(text.as_bytes())?;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn text(checks: &[Check], color: bool) -> String {
    let mut out = String::new();
    for check in checks {
        let (mark, code) = match check.state {
            State::Works => ("ok  ", "32"),
            State::Limited => ("some", "33"),
            State::Fails => ("NO  ", "31"),
            State::Fact => ("    ", "0"),
        };
        let mark = if color { format!("\x1b[{code}m{mark}\x1b[0m") } else { mark.to_owned() };
        let _ = writeln!(out, "{mark} {:<18} {}", check.name, check.found);
        if let Some(command) = &check.command {
            let _ = writeln!(out, "{:24}try: {command}", "");
        }
    }
    out
}

fn json(checks: &[Check], works: bool) -> String {
    let list: Vec<_> = checks
        .iter()
        .map(|c| json!({ "name": c.name, "state": c.state.name(), "found": c.found, "command": c.command }))
        .collect();
    format!("{}\n", json!({ "schema": 1, "recording_works": works, "checks": list }))
}

fn csv(checks: &[Check]) -> String {
    let mut out = String::from("name,state,found,command\n");
    for c in checks {
        let fields = [c.name, c.state.name(), &c.found, c.command.as_deref().unwrap_or_default()].map(csv_field);
        let _ = writeln!(out, "{}", fields.join(","));
    }
    out
}
