//! Recordings against each other, as text, JSON and CSV: the table with the columns of a difference.

mod csv;
mod json;
mod text;

pub use csv::csv;
pub use json::json;
pub use text::text;

use xprof_profile::comparison::significance::Verdict;
use xprof_profile::comparison::{ComparedEvent, ComparedNode, ComparedRow, Comparison, Side, share};
use xprof_profile::profile::Value;

use crate::plain::Plain;

/// What is shown of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The recordings' names; the first is what the others are held against.
    pub recordings: Vec<String>,
    /// Rows below this share in all recordings are left out, percent.
    pub percent_limit: f64,
    /// Only rows that are told from noise.
    pub changed: bool,
    /// Verdicts in colour (text only).
    pub color: bool,
    /// Sentences below the table: what makes the result partial, and what would help.
    pub notes: Vec<String>,
}

/// What is compared of a row.
fn weight(comparison: &Comparison, side: &Side) -> u64 {
    if comparison.by_children { side.other } else { side.period }
}

/// The shares of a row by recording, percent.
fn shares(comparison: &Comparison, event: &ComparedEvent, row: &ComparedRow) -> Vec<f64> {
    let share = |(side, total): (&Side, &xprof_profile::comparison::Total)| {
        share(weight(comparison, side), total.period) * 100.0
    };
    row.sides.iter().zip(&event.totals).map(share).collect()
}

/// The rows that the options leave.
fn shown<'a>(
    comparison: &'a Comparison,
    event: &'a ComparedEvent,
    options: &Options,
) -> impl Iterator<Item = &'a ComparedRow> {
    let (limit, changed) = (options.percent_limit, options.changed);
    event.rows.iter().filter(move |row| {
        let is_changed = row.changes.iter().any(|c| matches!(c.verdict, Verdict::Grew | Verdict::Shrank));
        shares(comparison, event, row).into_iter().fold(0.0, f64::max) >= limit && (is_changed || !changed)
    })
}

/// Name of all that the limit leaves out of a tree.
const REST: &str = "[...]";

/// The name of a node, and its module.
fn node_name(node: &ComparedNode) -> (String, Option<&str>) {
    match &node.function {
        None => (REST.into(), None),
        Some(function) => {
            let name = match &function.symbol {
                Value::Text(name) => Plain(name).to_string(),
                other => other.to_string(),
            };
            (name, Some(&function.dso))
        }
    }
}

#[cfg(test)]
mod tests;
