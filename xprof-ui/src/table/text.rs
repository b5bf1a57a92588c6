//! The table for people: `#` header lines as perf writes them, then one line a row.

use std::fmt::Write as _;

use xprof_profile::profile::{EventProfile, Key, Profile, Row, Value};

use super::{Options, domain_lines, percent, shown, tree};
use crate::plain::Plain;

/// Modules without names that are listed below the table.
const UNNAMED_SHOWN: usize = 5;

/// Draws every event's table and the notes.
pub fn text(profile: &Profile, options: &Options, out: &mut String) {
    let lost: u64 = profile.events.iter().map(|e| e.lost).sum();
    let _ = writeln!(out, "#\n# Total Lost Samples: {lost}\n#");
    let mut any = false;
    for event in profile.events.iter().filter(|e| e.samples > 0) {
        any = true;
        table(profile, event, options, out);
        out.push('\n');
    }
    if !any {
        out.push_str("# No samples.\n");
    }
    for event in profile.events.iter().filter(|e| e.truncated > 0) {
        let share = 100.0 * event.truncated as f64 / event.samples.max(1) as f64;
        let _ = writeln!(
            out,
            "# {} of {} stacks of '{}' ({share:.1} %) are larger than what was copied of them and end in [truncated]; \
             --call-graph dwarf,65528 copies the most that the kernel can",
            event.truncated,
            event.samples,
            Plain(&event.name)
        );
    }
    for event in profile.events.iter().filter(|e| e.completed > 0) {
        let _ = writeln!(
            out,
            "# {} of {} stacks of '{}' are larger than what was copied of them and were completed from what the same thread \
             showed before and after",
            event.completed,
            event.samples,
            Plain(&event.name)
        );
    }
    for unnamed in profile.unnamed.iter().take(UNNAMED_SHOWN) {
        let _ = writeln!(out, "# {} samples without names: {}", unnamed.samples, Plain(&unnamed.advice));
    }
    if profile.unnamed.len() > UNNAMED_SHOWN {
        let rest = &profile.unnamed[UNNAMED_SHOWN..];
        let samples: u64 = rest.iter().map(|u| u.samples).sum();
        let _ = writeln!(out, "# {samples} samples without names in {} more modules", rest.len());
    }
    for line in domain_lines(profile) {
        let _ = writeln!(out, "# {line}");
    }
    for note in &options.notes {
        let _ = writeln!(out, "# {}", Plain(note));
    }
}

fn table(profile: &Profile, event: &EventProfile, options: &Options, out: &mut String) {
    let _ = writeln!(out, "# Samples: {}  of event '{}'", short(event.samples), Plain(&event.name));
    let _ = writeln!(out, "# Event count (approx.): {}\n#", event.period);
    let rows: Vec<&Row> = shown(event, options).collect();
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| profile.keys.iter().zip(&row.values).map(|(&key, value)| cell(key, value, row.letter)).collect())
        .collect();
    let last = profile.keys.len().saturating_sub(1);
    let widths: Vec<usize> = profile
        .keys
        .iter()
        .enumerate()
        .map(|(i, key)| {
            let widest = cells.iter().map(|c| c[i].chars().count()).max().unwrap_or(0);
            widest.max(key.heading().len())
        })
        .collect();
    let headings: &[&str] = if options.children { &["Children", "Self"] } else { &["Overhead"] };
    let mut heading = String::from("#");
    let mut dots = String::from("#");
    for name in headings {
        let _ = write!(heading, " {name:>8} ");
        let _ = write!(dots, " ........ ");
    }
    let _ = write!(heading, " {:>10}", "Samples");
    let _ = write!(dots, " ..........");
    for (key, &width) in profile.keys.iter().zip(&widths) {
        let _ = write!(heading, "  {:<width$}", key.heading());
        let _ = write!(dots, "  {}", ".".repeat(width));
    }
    let _ = writeln!(out, "{}\n{}\n#", heading.trim_end(), dots);
    for (row, cells) in rows.iter().zip(&cells) {
        out.push(' ');
        if options.children {
            share(percent(row.children, event.period), options.color, out);
        }
        share(percent(row.period, event.period), options.color, out);
        let _ = write!(out, " {:>10}", row.samples);
        for (i, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            let _ = if i == last { write!(out, "  {cell}") } else { write!(out, "  {cell:<width$}") };
        }
        out.push('\n');
        tree::text(profile, row, event.period, out);
    }
}

fn share(percent: f64, color: bool, out: &mut String) {
    // perf's colours: 5 % and more is hot, 0.5 % and more is warm.
    let code = match percent {
        _ if !color => "",
        p if p >= 5.0 => "\x1b[31m",
        p if p >= 0.5 => "\x1b[32m",
        _ => "",
    };
    let reset = if code.is_empty() { "" } else { "\x1b[m" };
    let _ = write!(out, " {code}{percent:>7.2}%{reset} ");
}

fn cell(key: Key, value: &Value, letter: char) -> String {
    match (key, value) {
        (Key::Symbol, Value::Text(name)) => format!("[{letter}] {}", Plain(name)),
        (Key::Symbol, value) => format!("[{letter}] {value}"),
        (_, Value::Text(text)) => Plain(text).to_string(),
        (_, value) => value.to_string(),
    }
}

/// 1234567 is `1M`, as perf writes it.
fn short(count: u64) -> String {
    match count {
        0..1000 => count.to_string(),
        1000..1_000_000 => format!("{}K", count / 1000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}
