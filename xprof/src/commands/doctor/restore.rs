//! `xprof doctor --restore`: what a killed run has left changed, shown first, then put back.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use xprof_backend::msr::journal::Outcome;
use xprof_backend::msr::{Class, cpu};
use xprof_backend::native::msr::Places;
use xprof_backend::native::msr::journal::{self, Change, Left};
use xprof_backend::sys::xen::{Hypervisor, holder};
use xprof_backend::xen::msr::journal as of_xen;

use super::Options;
use crate::commands::report::OutputFormat;
use crate::msr::vpmu;

/// Shows and undoes.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let usual = Places::default();
    let places = Places {
        devices: options.devices.clone().unwrap_or(usual.devices),
        journals: options.journals.clone().unwrap_or(usual.journals),
    };
    let left = journal::left(&places)?;
    let (held, host) = match options.journals {
        None => (paused()?, of_xen::left(Path::new(of_xen::JOURNALS))?),
        Some(_) => (Vec::new(), Vec::new()),
    };
    let mut out = std::io::stdout().lock();
    if options.format == OutputFormat::Text {
        out.write_all(found(&left, &held, &host).as_bytes())?;
        out.flush()?;
    }
    let mut all = Vec::new();
    for left in left {
        all.extend(left.restore(&places)?);
    }
    let done = Done { registers: all, paused: unpause(held)?, host: of_host(host)? };
    let text = match options.format {
        OutputFormat::Text => text(&done),
        OutputFormat::Json => json(&done),
        OutputFormat::Csv => csv(&done),
    };
    out.write_all(text.as_bytes())?;
    let settled = done.registers.iter().all(|(_, outcome)| outcome.is_settled())
        && done.host.iter().all(|(_, outcome)| outcome.is_settled());
    Ok(if settled { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What was undone.
struct Done {
    registers: Vec<(Change, Outcome)>,
    /// Domains that run again.
    paused: Vec<u16>,
    /// The vPMU's mode, and registers that were written through Xen.
    host: Vec<(of_xen::Change, Outcome)>,
}

/// What was changed through Xen.
fn of_host(left: Vec<of_xen::Left>) -> anyhow::Result<Vec<(of_xen::Change, Outcome)>> {
    let mut all = Vec::new();
    if left.is_empty() {
        return Ok(all);
    }
    let mut xen = Hypervisor::open().map_err(xprof_backend::Error::from)?;
    for left in left {
        all.extend(left.restore(&mut xen)?);
    }
    Ok(all)
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

fn found(left: &[Left], held: &[holder::Left], host: &[of_xen::Left]) -> String {
    let mut out = String::new();
    let nothing = left.iter().all(|left| left.changes.is_empty()) && host.iter().all(|left| left.changes.is_empty());
    if nothing && held.iter().all(|held| held.domain.is_none()) {
        out.push_str("nothing was left changed\n");
    }
    for held in held {
        if let Some(domain) = held.domain {
            let _ = writeln!(out, "{}:\n  domain {domain} was left paused", held.path.display());
        }
    }
    for left in host {
        let _ = writeln!(out, "{}:", left.path.display());
        for change in &left.changes {
            let [old, new] = change.values();
            let _ = writeln!(out, "  {} was {old}, left at {new}", change.of);
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
    vpmu::words(outcome, |now| format!("{now:#x}"))
}

fn text(done: &Done) -> String {
    let mut out = String::new();
    for domain in &done.paused {
        let _ = writeln!(out, "domain {domain}: it runs again");
    }
    for (change, outcome) in &done.host {
        let _ = writeln!(out, "{}", vpmu::restored(change, outcome));
    }
    for (Change { cpu, msr, old, .. }, outcome) in &done.registers {
        let _ = writeln!(out, "CPU {cpu} {msr:#x} {}: {} ({old:#x})", name(*msr), words(outcome));
    }
    out
}

fn json(done: &Done) -> String {
    let one = |(Change { cpu, msr, old, new }, outcome): &(Change, Outcome)| {
        json!({
            "cpu": cpu, "msr": msr, "name": name(*msr), "old": old, "new": new,
            "restored": matches!(outcome, Outcome::Restored), "outcome": words(outcome),
        })
    };
    let of_host = |(change, outcome): &(of_xen::Change, Outcome)| {
        let [old, new] = change.values();
        json!({
            "of": change.of.to_string(), "old": old, "new": new,
            "restored": matches!(outcome, Outcome::Restored), "outcome": vpmu::words(outcome, |now| change.show(now)),
        })
    };
    let list: Vec<_> = done.registers.iter().map(one).collect();
    let host: Vec<_> = done.host.iter().map(of_host).collect();
    format!("{}\n", json!({ "schema": 1, "changes": list, "unpaused": done.paused, "xen": host }))
}

fn csv(done: &Done) -> String {
    let mut out = String::from("cpu,msr,name,old,new,outcome\n");
    for (change, outcome) in &done.host {
        let [old, new] = change.values();
        let words = xprof_ui::plain::csv_field(&vpmu::words(outcome, |now| change.show(now)));
        let _ = writeln!(out, ",,{},{old},{new},{words}", xprof_ui::plain::csv_field(&change.of.to_string()));
    }
    for (Change { cpu, msr, old, new }, outcome) in &done.registers {
        let words = xprof_ui::plain::csv_field(&words(outcome));
        let _ = writeln!(out, "{cpu},{msr:#x},{},{old:#x},{new:#x},{words}", name(*msr));
    }
    out
}
