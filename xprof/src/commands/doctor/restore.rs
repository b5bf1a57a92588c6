//! `xprof doctor --restore`: what a killed run has left changed, shown first, then put back.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use xprof_backend::msr::{Class, cpu};
use xprof_backend::native::msr::Places;
use xprof_backend::native::msr::journal::{self, Change, Left, Outcome};
use xprof_backend::sys::xen::{Hypervisor, holder};

use super::Options;
use crate::commands::report::OutputFormat;

/// Shows and undoes.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let usual = Places::default();
    let places = Places {
        devices: options.devices.clone().unwrap_or(usual.devices),
        journals: options.journals.clone().unwrap_or(usual.journals),
    };
    let left = journal::left(&places)?;
    let held = if options.journals.is_none() { paused()? } else { Vec::new() };
    let mut out = std::io::stdout().lock();
    if options.format == OutputFormat::Text {
        out.write_all(found(&left, &held).as_bytes())?;
        out.flush()?;
    }
    let mut all = Vec::new();
    for left in left {
        all.extend(left.restore(&places)?);
    }
    let paused = unpause(held)?;
    let text = match options.format {
        OutputFormat::Text => text(&all, &paused),
        OutputFormat::Json => json(&all, &paused),
        OutputFormat::Csv => csv(&all),
    };
    out.write_all(text.as_bytes())?;
    let failed = all.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// What a killed `record --consistent` had written down.
pub(super) fn paused() -> anyhow::Result<Vec<holder::Left>> {
    holder::left(Path::new(holder::JOURNALS)).context("cannot read what was paused")
}

/// Its domains run again; those that were not paused any more are left out.
fn unpause(left: Vec<holder::Left>) -> anyhow::Result<Vec<u16>> {
    let mut domains = Vec::new();
    if left.is_empty() {
        return Ok(domains);
    }
    let mut xen = Hypervisor::open().map_err(xprof_backend::Error::from)?;
    for left in left {
        let domain = left.domain;
        if left.restore(&mut xen).map_err(xprof_backend::Error::from)? {
            domains.extend(domain);
        }
    }
    Ok(domains)
}

fn name(msr: u32) -> &'static str {
    let table = cpu::table();
    let found = [Class::Perf, Class::Debug].into_iter().find_map(|class| table.find(class, msr));
    found.map_or("", |found| found.row.name)
}

fn found(left: &[Left], held: &[holder::Left]) -> String {
    let mut out = String::new();
    if left.iter().all(|left| left.changes.is_empty()) && held.iter().all(|held| held.domain.is_none()) {
        out.push_str("nothing was left changed\n");
    }
    for held in held {
        if let Some(domain) = held.domain {
            let _ = writeln!(out, "{}:\n  domain {domain} was left paused", held.path.display());
        }
    }
    for left in left {
        let _ = writeln!(out, "{}:", left.path.display());
        for Change { cpu, msr, old, new } in &left.changes {
            let _ = writeln!(out, "  CPU {cpu} {msr:#x} {} was {old:#x}, left at {new:#x}", name(*msr));
        }
    }
    out
}

fn words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Restored => "put back".into(),
        Outcome::Unchanged => "was not changed".into(),
        Outcome::Left { now } => format!("holds {now:#x} now: somebody else has changed it, left as it is"),
        Outcome::Unknown => "no register of this CPU's classes: left as it is".into(),
        Outcome::Failed(error) => format!("cannot be put back: {error}"),
    }
}

fn text(all: &[(Change, Outcome)], paused: &[u16]) -> String {
    let mut out = String::new();
    for domain in paused {
        let _ = writeln!(out, "domain {domain}: it runs again");
    }
    for (Change { cpu, msr, old, .. }, outcome) in all {
        let _ = writeln!(out, "CPU {cpu} {msr:#x} {}: {} ({old:#x})", name(*msr), words(outcome));
    }
    out
}

fn json(all: &[(Change, Outcome)], paused: &[u16]) -> String {
    let one = |(Change { cpu, msr, old, new }, outcome): &(Change, Outcome)| {
        json!({
            "cpu": cpu, "msr": msr, "name": name(*msr), "old": old, "new": new,
            "restored": matches!(outcome, Outcome::Restored), "outcome": words(outcome),
        })
    };
    let list: Vec<_> = all.iter().map(one).collect();
    format!("{}\n", json!({ "schema": 1, "changes": list, "unpaused": paused }))
}

fn csv(all: &[(Change, Outcome)]) -> String {
    let mut out = String::from("cpu,msr,name,old,new,outcome\n");
    for (Change { cpu, msr, old, new }, outcome) in all {
        let words = xprof_ui::plain::csv_field(&words(outcome));
        let _ = writeln!(out, "{cpu},{msr:#x},{},{old:#x},{new:#x},{words}", name(*msr));
    }
    out
}
