//! The frames of a flame graph as JSON and CSV, for those who draw for themselves.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::Options;
use super::graph::Graph;
use crate::plain::csv_field;

/// Draws `{"schema":1,"event","frames":[{"name","kind","depth","start","share","samples","period","change"}],"small",
/// "gone","notes"}`; shares are of the whole, 0 to 1.
pub fn json(graph: &Graph, options: &Options, out: &mut String) {
    let frames: Vec<Json> = graph
        .frames
        .iter()
        .map(|frame| {
            json!({
                "name": frame.name, "kind": frame.kind.name(), "depth": frame.depth, "start": frame.start,
                "share": frame.share, "samples": frame.samples, "period": frame.period, "change": frame.change,
            })
        })
        .collect();
    let document = json!({
        "schema": 1, "event": graph.event, "frames": frames, "small": graph.small, "gone": graph.gone,
        "notes": options.notes,
    });
    let _ = writeln!(out, "{document}");
}

/// Draws `name,kind,depth,start,share,samples,period,change`.
pub fn csv(graph: &Graph, out: &mut String) {
    out.push_str("name,kind,depth,start,share,samples,period,change\n");
    for frame in &graph.frames {
        let change = frame.change.map_or(String::new(), |change| format!("{change:.6}"));
        let _ = writeln!(
            out,
            "{},{},{},{:.6},{:.6},{},{},{change}",
            csv_field(&frame.name),
            frame.kind.name(),
            frame.depth,
            frame.start,
            frame.share,
            frame.samples,
            frame.period
        );
    }
}
