//! The table as CSV: the keys, then samples, period, self, children, and with call trees the way to a node of one.

use std::fmt::Write as _;

use xprof_profile::profile::{Key, Profile};

use super::{Options, percent, shown, tree};
use crate::plain::csv_field;

/// Draws one heading line and one line a row. With several events an `event` column stands first (unless it is a key).
pub fn csv(profile: &Profile, options: &Options, out: &mut String) {
    let _ = writeln!(out, "{}", csv_heading(profile));
    csv_rows(profile, options, "", out);
}

fn is_by_event(profile: &Profile) -> bool {
    profile.events.len() > 1 && !profile.keys.contains(&Key::Event)
}

/// The names of the fields of [`csv_rows`].
pub fn csv_heading(profile: &Profile) -> String {
    let by_event = is_by_event(profile);
    let mut heading: Vec<&str> = if by_event { vec!["event"] } else { Vec::new() };
    heading.extend(profile.keys.iter().map(|k| k.name()));
    heading.extend(["samples", "period", "self", "children"]);
    heading.extend(profile.trees.map(|_| "stack"));
    heading.join(",")
}

/// Draws one line a row; `before` stands in front of each.
pub fn csv_rows(profile: &Profile, options: &Options, before: &str, out: &mut String) {
    let by_event = is_by_event(profile);
    for event in &profile.events {
        for row in shown(event, options) {
            let mut fields: Vec<String> = if by_event { vec![csv_field(&event.name)] } else { Vec::new() };
            fields.extend(row.values.iter().map(|v| csv_field(&v.to_string())));
            let keys = format!("{before}{}", fields.join(","));
            let share = |part| percent(part, event.period);
            let (own, children) = (share(row.period), share(row.children));
            let _ = write!(out, "{keys},{},{},{own:.4},{children:.4}", row.samples, row.period);
            out.push_str(if profile.trees.is_some() { ",\n" } else { "\n" });
            tree::csv(profile, row, |way, samples, period, own| {
                let (own, passing, way) = (share(own), share(period), csv_field(way));
                let _ = writeln!(out, "{keys},{samples},{period},{own:.4},{passing:.4},{way}");
            });
        }
    }
}
