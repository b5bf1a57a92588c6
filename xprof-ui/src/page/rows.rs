//! The table of an event.

use std::fmt::Write as _;

use xprof_profile::profile::{EventProfile, Key, Profile, Row};

use crate::flame::{Xml, shortened};
use crate::table::{self, percent, shown};

/// Rows that a page has of each event.
const MOST_ROWS: usize = 1000;

/// Draws the heaviest rows. A click on a function looks for it in the flame graph.
pub(super) fn table(profile: &Profile, event: &EventProfile, options: &table::Options, out: &mut String) {
    let rows: Vec<&Row> = shown(event, options).collect();
    let _ = writeln!(out, "<h2>{}</h2>", Xml(&event.name));
    if rows.len() > MOST_ROWS {
        let _ = writeln!(out, "<p>The first {MOST_ROWS} of {} rows.</p>", rows.len());
    }
    out.push_str("<table class=\"rows\"><thead><tr>");
    if options.children {
        out.push_str("<th class=\"n\">Children</th>");
    }
    out.push_str("<th class=\"n\">Self</th><th class=\"n\">Samples</th>");
    for key in &profile.keys {
        let _ = write!(out, "<th>{}</th>", key.heading());
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows.iter().take(MOST_ROWS) {
        let symbol = profile.keys.iter().zip(&row.values).find(|(key, _)| **key == Key::Symbol);
        let name = symbol.map(|(_, value)| Xml(&shortened(&value.to_string())).to_string());
        let _ = match &name {
            Some(name) => write!(out, r#"<tr data-name="{name}">"#),
            None => write!(out, "<tr>"),
        };
        if options.children {
            let _ = write!(out, r#"<td class="n">{:.2} %</td>"#, percent(row.children, event.period));
        }
        let share = percent(row.period, event.period);
        let _ = write!(out, r#"<td class="n">{share:.2} %</td><td class="n">{}</td>"#, row.samples);
        for (key, value) in profile.keys.iter().zip(&row.values) {
            let text = value.to_string();
            let _ = match (key, &name) {
                (Key::Symbol, Some(name)) => {
                    write!(
                        out,
                        r#"<td><code>[{}]</code> <button type="button" class="find">{name}</button></td>"#,
                        row.letter
                    )
                }
                _ => write!(out, "<td>{}</td>", Xml(&shortened(&text))),
            };
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
}
