//! The comparison as CSV.

use std::fmt::Write as _;

use xprof_profile::comparison::{Comparison, share};
use xprof_profile::profile::Key;

use super::{Options, shown};
use crate::plain::csv_field;

/// Draws one heading line and one line a row: the event, the keys, then for each recording N from 1 `samplesN`, `periodN`,
/// `selfN` and `childrenN` (percent), from the second on also `deltaN` (percentage points), `pN` and `verdictN`. Trees are left out.
pub fn csv(comparison: &Comparison, options: &Options, out: &mut String) {
    let keys = || comparison.keys.iter().map(|key| key.name()).filter(|&name| name != Key::Event.name());
    let mut heading: Vec<String> = std::iter::once("event").chain(keys()).map(Into::into).collect();
    for n in 1..=options.recordings.len() {
        heading.extend(["samples", "period", "self", "children"].map(|name| format!("{name}{n}")));
        if n > 1 {
            heading.extend(["delta", "p", "verdict"].map(|name| format!("{name}{n}")));
        }
    }
    let _ = writeln!(out, "{}", heading.join(","));
    for event in &comparison.events {
        for row in shown(comparison, event, options) {
            let _ = write!(out, "{}", csv_field(&event.name));
            let values = comparison.keys.iter().zip(&row.values).filter(|(key, _)| **key != Key::Event);
            for (_, value) in values {
                let _ = write!(out, ",{}", csv_field(&value.to_string()));
            }
            for (index, (side, total)) in row.sides.iter().zip(&event.totals).enumerate() {
                let percent = |part| share(part, total.period) * 100.0;
                let (own, children) = (percent(side.period), percent(side.other));
                let _ = write!(out, ",{},{},{own:.4},{children:.4}", side.samples, side.period);
                if let Some(change) = index.checked_sub(1).and_then(|i| row.changes.get(i)) {
                    let _ = write!(out, ",{:.4},{:e},{}", change.delta * 100.0, change.p, change.verdict.name());
                }
            }
            out.push('\n');
        }
    }
}
