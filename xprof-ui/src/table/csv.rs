//! The table as CSV: the keys, then samples, period, self, children.

use std::fmt::Write as _;

use xprof_profile::profile::{Key, Profile};

use super::{Options, percent, shown};
use crate::plain::csv_field;

/// Draws one heading line and one line a row. With several events an `event` column stands first (unless it is a key).
pub fn csv(profile: &Profile, options: &Options, out: &mut String) {
    let by_event = profile.events.len() > 1 && !profile.keys.contains(&Key::Event);
    let mut heading: Vec<&str> = if by_event { vec!["event"] } else { Vec::new() };
    heading.extend(profile.keys.iter().map(|k| k.name()));
    heading.extend(["samples", "period", "self", "children"]);
    let _ = writeln!(out, "{}", heading.join(","));
    for event in &profile.events {
        for row in shown(event, options) {
            let mut fields: Vec<String> = if by_event { vec![csv_field(&event.name)] } else { Vec::new() };
            fields.extend(row.values.iter().map(|v| csv_field(&v.to_string())));
            let _ = writeln!(
                out,
                "{},{},{},{:.4},{:.4}",
                fields.join(","),
                row.samples,
                row.period,
                percent(row.period, event.period),
                percent(row.children, event.period)
            );
        }
    }
}
