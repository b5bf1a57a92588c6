//! `xprof report --html`: the report as one page.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, time};

use anyhow::Context;
use xprof_perfdata::domain::STATES_EVENT;
use xprof_perfdata::header::Description;
use xprof_profile::profile::Key;
use xprof_ui::{page, table};

use super::Options;
use crate::Global;
use crate::reading::{Filled, damage};
use crate::stacks::untimed;

/// What stacks are told apart by: the outermost frames of the flame graph, and the rows of the samples over time.
const STACKS: [Key; 4] = [Key::Domain, Key::Comm, Key::Cpu, Key::Symbol];

/// Events whose pictures a page holds.
const MOST_EVENTS: usize = 16;

/// Writes the page.
pub(super) fn run(options: &Options, path: &Path, global: &Global) -> anyhow::Result<ExitCode> {
    let mut notes = Vec::new();
    let mut opened = options.reading.open(&options.input)?;
    let has_chains = opened.has_chains();
    let has_domains = xprof_profile::profile::has_domains(&opened.description);
    let keys = options.keys(&opened.description);
    let has_states = opened.description.events.list().iter().any(|event| event.name == STATES_EVENT);
    let mut stacks: Vec<Key> = STACKS.into_iter().filter(|key| *key != Key::Domain || has_domains).collect();
    if has_states {
        // The last one is the leaf's.
        stacks.insert(stacks.len() - 1, Key::Vcpu);
    }
    let children = options.children || (has_chains && !options.no_children);
    opened.times = true;
    let all: Vec<Key> = keys.iter().chain(&stacks).copied().collect();
    let Filled { mut builder, symbolizer, events, ended } = opened.fill(&all, has_chains, &mut notes)?;
    builder.show(&keys);
    let profile = builder.finish(&events, &symbolizer, children, None);
    builder.show(&stacks);
    let stacks = builder.stacks(&events, &symbolizer, !options.no_inline);
    let mut events: Vec<_> = stacks.events.iter().filter(|event| !event.stacks.is_empty()).collect();
    if events.len() > MOST_EVENTS {
        events.sort_by_key(|event| std::cmp::Reverse(event.stacks.iter().map(|stack| stack.samples).sum::<u64>()));
        notes.push(format!(
            "the flame graph and the samples over time are those of the {MOST_EVENTS} events with the most samples, of {}",
            events.len()
        ));
        events.truncate(MOST_EVENTS);
    }
    notes.extend(damage(profile.damaged));
    notes.extend(untimed(stacks.untimed));
    let title = options.input.display().to_string();
    let environment = environment(&options.input, &ended);
    let table = table::Options { percent_limit: options.percent_limit, children, color: false, notes };
    let mut out = String::new();
    let page = page::Page {
        profile: &profile,
        table: &table,
        stacks: &stacks,
        events: &events,
        title: &title,
        environment: &environment,
    };
    page::html(&page, &mut out);
    if path == Path::new("-") {
        io::stdout().lock().write_all(out.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = path.display();
    fs::write(path, &out).with_context(|| format!("cannot write {name}"))?;
    if !global.quiet {
        eprintln!("xprof: {} bytes: {name}", out.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// What the recording says of itself and of its machine.
fn environment(input: &Path, description: &Description) -> Vec<(&'static str, String)> {
    let features = &description.features;
    let seconds = |(from, to): (u64, u64)| format!("{:.3} s", to.saturating_sub(from) as f64 / 1e9);
    let cpus = features.nr_cpus.map(|(available, online)| format!(", {online} of {available} CPUs online"));
    let command = Some(features.cmdline.join(" ")).filter(|command| !command.is_empty());
    let (os, arch) = (features.os_release.as_deref(), features.arch.as_deref().unwrap_or_default());
    let began = features.clock_data.as_ref().and_then(|clock| {
        let (first, _) = features.sample_time?;
        Some(utc(clock.wall_ns.checked_add(first.checked_sub(clock.clock_ns)?)? / 1_000_000_000))
    });
    let written = || {
        let modified = fs::metadata(input).ok()?.modified().ok()?;
        Some(utc(modified.duration_since(time::UNIX_EPOCH).ok()?.as_secs()))
    };
    let facts = [
        ("Recording", Some(input.display().to_string())),
        ("Command", command),
        ("Began", began.clone()),
        ("Written", if began.is_some() { None } else { written() }),
        ("Time", features.sample_time.map(seconds)),
        ("Host", features.hostname.clone()),
        ("Kernel", os.map(|os| format!("Linux {os} {arch}"))),
        ("Processor", features.cpu_desc.as_ref().map(|cpu| format!("{cpu}{}", cpus.unwrap_or_default()))),
        ("Memory", features.total_mem.map(|kib| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)))),
        ("Recorder", features.version.clone()),
    ];
    let domains = features.domains.iter().flat_map(|domains| &domains.facts);
    let domains = domains.map(|(name, value)| ("Xen", format!("{name}: {value}")));
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).chain(domains).collect()
}

/// Seconds since 1970 as a date and time of day.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days are counted in eras of 400 years from the 1st of March of the year 0.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{date:02} {:02}:{:02}:{:02} UTC", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        // By `date -u -d @SECONDS`.
        for (seconds, date) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_703_379, "2026-11-26 14:29:39 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(super::utc(seconds), date);
        }
        super::utc(u64::MAX);
    }
}
