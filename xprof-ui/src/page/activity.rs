//! Samples over time as a table: a row for each CPU or domain, with a small picture.

use std::fmt::Write as _;

use xprof_profile::profile::{Cut, EventStacks, Key, Stacks, Steps, Value};

use crate::flame::Xml;

/// Steps that the time is cut into.
const STEPS: usize = 200;
/// Width of a step, and height of a picture, in its own measure.
const STEP: usize = 5;
const HEIGHT: f64 = 24.0;
/// Rows that are drawn for themselves, those with the most samples.
const MOST_ROWS: usize = 64;

/// Draws the activity of an event by a key; nothing where there is none. `before` stands before a value.
pub(super) fn table(stacks: &Stacks, event: &EventStacks, key: Key, before: &str, out: &mut String) {
    let activity = stacks.lanes(event, &[key], Cut { steps: STEPS, window: None });
    let counts = activity.rows.iter().filter_map(|lane| match (&lane.of[..], &lane.steps) {
        ([value], Steps::Samples(steps)) => Some((value, steps)),
        _ => None,
    });
    let whole: u64 = counts.clone().flat_map(|(_, steps)| steps).sum();
    if whole == 0 {
        return;
    }
    let sum = |steps: &[u64]| steps.iter().sum::<u64>();
    let name = |value: &Value| match value {
        Value::Number(..0) => format!("{before}not recorded"),
        value => format!("{before}{value}"),
    };
    let mut rows: Vec<(String, Vec<u64>)> = counts.map(|(value, steps)| (name(value), steps.clone())).collect();
    if rows.len() > MOST_ROWS {
        let mut sums: Vec<u64> = rows.iter().map(|(_, steps)| sum(steps)).collect();
        sums.sort_unstable_by(|a, b| b.cmp(a));
        let least = sums[MOST_ROWS];
        let (shown, rest): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, steps)| sum(steps) > least);
        rows = shown;
        let mut all = vec![0; STEPS];
        rest.iter().for_each(|(_, steps)| all.iter_mut().zip(steps).for_each(|(all, count)| *all += count));
        rows.push((format!("{} more", rest.len()), all));
    }
    let highest = rows.iter().flat_map(|(_, steps)| steps).copied().max().unwrap_or(0).max(1);
    let seconds = |ns: u64| ns as f64 / 1e9;
    let _ = write!(
        out,
        "<table class=\"activity\"><caption>By {}: {:.3} s in steps of {:.3} ms; the highest has {highest} samples.</caption><tbody>",
        key.heading(),
        seconds(activity.step.saturating_mul(STEPS as u64)),
        seconds(activity.step) * 1e3,
    );
    for (name, steps) in &rows {
        let (samples, share) = (sum(steps), sum(steps) as f64 * 100.0 / whole as f64);
        let name = Xml(name).to_string();
        let _ = write!(
            out,
            r#"<tr><th scope="row">{name}</th><td class="wide"><svg viewBox="0 0 {} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{name}: {samples} samples over time"><path d="M0 {HEIGHT}"#,
            STEPS * STEP
        );
        let mut last = 0;
        for (at, &count) in steps.iter().enumerate() {
            if count != last {
                let height = HEIGHT - count as f64 / highest as f64 * HEIGHT;
                let _ = write!(out, "H{}V{height:.1}", at * STEP);
                last = count;
            }
        }
        let _ = write!(
            out,
            r#"H{}V{HEIGHT}Z"/></svg></td><td class="n">{samples}</td><td class="n">{share:.2} %</td></tr>"#,
            STEPS * STEP
        );
    }
    out.push_str("</tbody></table>\n");
}
