//! The flat table of a profile, as text, JSON and CSV.

mod csv;
mod domains;
mod json;
mod text;
mod tree;

pub use csv::{csv, csv_heading, csv_rows};
pub use domains::domain_lines;
pub use json::{document, json};
pub use text::text;

use xprof_profile::profile::{EventProfile, Row};

/// What a table shows of a profile.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows below this share of the event's period are left out, percent.
    pub percent_limit: f64,
    /// A children column (only of profiles that have it).
    pub children: bool,
    /// Percentages in colour (text only).
    pub color: bool,
    /// Sentences below the table: what makes the result partial, and what would help.
    pub notes: Vec<String>,
}

/// `part` of `whole` in percent; 0 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The rows that the limit leaves.
pub(crate) fn shown<'a>(event: &'a EventProfile, options: &Options) -> impl Iterator<Item = &'a Row> {
    let (whole, limit, children) = (event.period, options.percent_limit, options.children);
    event.rows.iter().filter(move |row| {
        let weight = if children { row.children } else { row.period };
        percent(weight, whole) >= limit
    })
}

#[cfg(test)]
mod tests;
