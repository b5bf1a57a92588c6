//! What each vCPU did when, by Xen's trace: a lane for each.

use std::fmt::Write as _;

use xprof_perfdata::domain::RunState;
use xprof_profile::profile::{Cut, EventStacks, Key, Stacks, Steps, Value};

use crate::flame::Xml;

/// Steps that the time is cut into.
const STEPS: usize = 400;
const STEP: usize = 3;
const HEIGHT: f64 = 24.0;
/// Lanes that are drawn, those that waited most.
const MOST: usize = 64;

/// Draws the lanes of an event; nothing where there are none.
pub(super) fn table(stacks: &Stacks, event: &EventStacks, out: &mut String) {
    let lanes = stacks.lanes(event, &[Key::Domain, Key::Vcpu], Cut { steps: STEPS, window: None });
    let of = |steps: &[[u64; 4]], state: RunState| steps.iter().map(|step| step[state as usize]).sum::<u64>();
    let states = lanes.rows.iter().filter_map(|lane| match &lane.steps {
        Steps::States(steps) => Some((&lane.of[..], &steps[..])),
        Steps::Samples(_) => None,
    });
    let mut rows: Vec<(&[Value], &[[u64; 4]])> = states.collect();
    if rows.is_empty() {
        return;
    }
    let left_out = rows.len().saturating_sub(MOST);
    if left_out > 0 {
        rows.sort_by_key(|(_, steps)| std::cmp::Reverse(of(steps, RunState::Runnable)));
        rows.truncate(MOST);
        rows.sort_by_key(|(values, _)| *values);
    }
    let more = if left_out > 0 { format!(" {left_out} more waited less.") } else { String::new() };
    let _ = write!(
        out,
        concat!(
            "<table class=\"activity lanes\"><caption>By vCPU: {:.3} s in steps of {:.3} ms; <i class=\"running\">running</i>, ",
            "<i class=\"waiting\">waiting for a pCPU</i>, <i class=\"paused\">paused</i>, blocked.{}</caption><tbody>"
        ),
        lanes.step.saturating_mul(STEPS as u64) as f64 / 1e9,
        lanes.step as f64 / 1e6,
        more,
    );
    for (values, steps) in rows {
        let [domain, vcpu] = values else { continue };
        let name = Xml(&format!("{domain} vCPU {vcpu}")).to_string();
        let all = steps.iter().flatten().sum::<u64>().max(1);
        let share = |state| of(steps, state) as f64 * 100.0 / all as f64;
        let (running, waiting) = (share(RunState::Running), share(RunState::Runnable));
        let _ = write!(
            out,
            r#"<tr><th scope="row">{name}</th><td class="wide"><svg viewBox="0 0 {} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{name}: {running:.1} % running, {waiting:.1} % waiting">"#,
            STEPS * STEP
        );
        // From below: running, waiting above it, paused above that.
        let mut below = vec![0u64; STEPS];
        for (class, state) in
            [("running", RunState::Running), ("waiting", RunState::Runnable), ("paused", RunState::Offline)]
        {
            if of(steps, state) == 0 {
                continue;
            }
            let _ = write!(out, r#"<path class="{class}" d=""#);
            for (at, step) in steps.iter().enumerate().filter(|(_, step)| step[state as usize] > 0) {
                let height = |ns: u64| ns as f64 / lanes.step.max(1) as f64 * HEIGHT;
                let (base, tall) = (HEIGHT - height(below[at]), height(step[state as usize]));
                let _ = write!(out, "M{} {base:.1}v-{tall:.1}h{STEP}v{tall:.1}z", at * STEP);
                below[at] += step[state as usize];
            }
            out.push_str(r#""/>"#);
        }
        let _ = write!(
            out,
            r#"</svg></td><td class="n">{running:.1} % running</td><td class="n">{waiting:.1} % waiting</td></tr>"#
        );
    }
    out.push_str("</tbody></table>\n");
}
