//! The comparison for people.

use std::fmt::Write as _;

use xprof_profile::comparison::significance::{FALSE_ALARMS, Verdict};
use xprof_profile::comparison::{Change, ComparedEvent, ComparedNode, ComparedRow, Comparison, share};
use xprof_profile::profile::{Key, Value};

use super::{Options, node_name, shares, shown};
use crate::plain::Plain;

/// Left of a tree.
const MARGIN: &str = "            ";

/// Draws every event's table, and below it how its verdicts come about.
pub fn text(comparison: &Comparison, options: &Options, out: &mut String) {
    let several = options.recordings.len() > 2;
    for (index, name) in options.recordings.iter().enumerate() {
        let _ = writeln!(out, "# {}: {}", side(index, several), Plain(name));
    }
    out.push_str("#\n");
    for event in &comparison.events {
        table(comparison, event, options, several, out);
        out.push('\n');
    }
    if comparison.events.is_empty() {
        out.push_str("# There is no event that all have samples of.\n");
    }
    for name in &comparison.unmatched {
        let _ = writeln!(out, "# Only some have samples of '{}': not compared.", Plain(name));
    }
    for note in &options.notes {
        let _ = writeln!(out, "# {}", Plain(note));
    }
}

/// `Old`, `New`; with more than two recordings `Old`, `New1`, `New2`, ..
fn side(index: usize, several: bool) -> String {
    match index {
        0 => "Old".into(),
        _ if several => format!("New{index}"),
        _ => "New".into(),
    }
}

/// One column: its heading, whether it is flush left, and its cells.
struct Column {
    heading: String,
    is_left: bool,
    cells: Vec<String>,
}

impl Column {
    fn new(heading: impl Into<String>, is_left: bool, cells: Vec<String>) -> Column {
        Column { heading: heading.into(), is_left, cells }
    }

    fn write(&self, text: &str, width: usize, out: &mut String) {
        let _ = if self.is_left { write!(out, "  {text:<width$}") } else { write!(out, "  {text:>width$}") };
    }
}

fn table(comparison: &Comparison, event: &ComparedEvent, options: &Options, several: bool, out: &mut String) {
    let samples: Vec<String> = event.totals.iter().map(|t| t.samples.to_string()).collect();
    let what = if comparison.by_children { ", with what is called from there" } else { "" };
    let _ = writeln!(out, "# Event '{}': {} samples{what}\n#", Plain(&event.name), samples.join(" and "));
    let rows: Vec<&ComparedRow> = shown(comparison, event, options).collect();
    let columns = columns(comparison, event, &rows, several);
    let width = |c: &Column| c.cells.iter().map(|t| t.chars().count()).max().unwrap_or(0).max(c.heading.len());
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let (mut headings, mut dots) = (String::from("#"), String::from("#"));
    for (column, &width) in columns.iter().zip(&widths) {
        column.write(&column.heading, width, &mut headings);
        column.write(&".".repeat(width), width, &mut dots);
    }
    let _ = writeln!(out, "{}\n{dots}\n#", headings.trim_end());
    for (at, row) in rows.iter().enumerate() {
        let mut line = String::from(" ");
        for (column, &width) in columns.iter().zip(&widths) {
            column.write(&column.cells[at], width, &mut line);
        }
        let line = line.trim_end();
        match color(row).filter(|_| options.color) {
            Some(code) => {
                let _ = writeln!(out, "\x1b[{code}m{line}\x1b[m");
            }
            None => {
                let _ = writeln!(out, "{line}");
            }
        }
        if !row.nodes.is_empty() {
            let _ = writeln!(out, "{MARGIN}|");
            tree(event, &row.nodes, &mut String::from(MARGIN), out);
            out.push('\n');
        }
    }
    summary(event, several, out);
}

fn columns(comparison: &Comparison, event: &ComparedEvent, rows: &[&ComparedRow], several: bool) -> Vec<Column> {
    let percent = |index: usize| {
        let cell = |row: &&ComparedRow| format!("{:.2}%", shares(comparison, event, row)[index]);
        rows.iter().map(cell).collect()
    };
    let mut columns = vec![Column::new("Old", false, percent(0))];
    for index in 1..event.totals.len() {
        let of_change = |show: fn(&Change) -> String| {
            rows.iter().map(|row| row.changes.get(index - 1).map_or(String::new(), show)).collect()
        };
        columns.push(Column::new(side(index, several), false, percent(index)));
        columns.push(Column::new("Delta", false, of_change(|c| format!("{:+.2}%", c.delta * 100.0))));
        columns.push(Column::new("p", false, of_change(|c| p(c.p))));
        columns.push(Column::new("Verdict", true, of_change(|c| c.verdict.name().into())));
    }
    for index in 0..event.totals.len() {
        let cells = rows.iter().map(|row| row.sides[index].samples.to_string()).collect();
        columns.push(Column::new(format!("{} samples", side(index, several)), false, cells));
    }
    for (index, &key) in comparison.keys.iter().enumerate() {
        let cell = |row: &&ComparedRow| match (key, &row.values[index]) {
            (Key::Symbol, Value::Text(name)) => format!("[{}] {}", row.letter, Plain(name)),
            (_, Value::Text(name)) => Plain(name).to_string(),
            (_, value) => value.to_string(),
        };
        columns.push(Column::new(key.heading(), true, rows.iter().map(cell).collect()));
    }
    columns
}

/// `0.0312`, `3e-12`, `<1e-99`.
pub(super) fn p(p: f64) -> String {
    match p {
        p if p >= 0.001 => format!("{p:.4}"),
        p if p >= 1e-99 => format!("{p:.0e}"),
        _ => "<1e-99".into(),
    }
}

/// Red for what grew, green for what shrank.
fn color(row: &ComparedRow) -> Option<u8> {
    row.changes.iter().find_map(|change| match change.verdict {
        Verdict::Grew => Some(31),
        Verdict::Shrank => Some(32),
        _ => None,
    })
}

/// How many rows of each verdict there are, and what the verdicts mean.
fn summary(event: &ComparedEvent, several: bool, out: &mut String) {
    out.push_str("#\n");
    for index in 1..event.totals.len() {
        let count = |wanted: &[Verdict]| {
            let has = |row: &&ComparedRow| row.changes.get(index - 1).is_some_and(|c| wanted.contains(&c.verdict));
            event.rows.iter().filter(has).count()
        };
        let _ = writeln!(
            out,
            "# {}: rows: {} changed, {} no more than noise, {} with too few samples to tell{}.",
            side(index, several),
            count(&[Verdict::Grew, Verdict::Shrank]),
            count(&[Verdict::Noise]),
            count(&[Verdict::TooFew]),
            match count(&[Verdict::NoNames]) {
                0 => String::new(),
                unknown => format!(", {unknown} that names are missing for"),
            },
        );
    }
    let _ = writeln!(
        out,
        "# p: how often sampling alone makes such a difference (Fisher's exact test). Of the rows called changed, {:.0} % may be noise.",
        FALSE_ALARMS * 100.0
    );
}

fn tree(event: &ComparedEvent, nodes: &[ComparedNode], prefix: &mut String, out: &mut String) {
    let last = nodes.len().saturating_sub(1);
    for (index, node) in nodes.iter().enumerate() {
        let shares: Vec<f64> = node
            .sides
            .iter()
            .zip(&event.totals)
            .map(|(side, total)| share(side.period, total.period) * 100.0)
            .collect();
        let before = shares.first().copied().unwrap_or(0.0);
        let _ = write!(out, "{prefix}|--{before:.2}%");
        for now in shares.iter().skip(1) {
            let _ = write!(out, " {:+.2}%", now - before);
        }
        let _ = writeln!(out, "--{}", node_name(node).0);
        let length = prefix.len();
        prefix.push_str(if index == last { "    " } else { "|   " });
        tree(event, &node.nodes, prefix, out);
        prefix.truncate(length);
    }
}
