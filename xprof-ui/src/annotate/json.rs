//! Annotated functions as one JSON document.

use serde_json::{Value as Json, json};
use xprof_profile::profile::Heat;

use super::{Annotated, Named, Options, percent};

/// Draws `{"schema":1,"functions":[{"event","symbol","dso","samples","period","percent","lines":[{"addr","text",
/// "samples","period","percent"}],"missing"}],"notes":[..]}`. `percent` of a function is of its event, that of a line of its
/// function. Where there is no code, `lines` are the addresses of samples, without `text`, and `missing` says why.
pub fn json(annotated: &Annotated, options: &Options, out: &mut String) {
    let functions: Vec<Json> = annotated.functions.iter().map(|f| function(annotated, f)).collect();
    let document = json!({"schema": 1, "functions": functions, "notes": options.notes});
    out.push_str(&document.to_string());
    out.push('\n');
}

fn function(annotated: &Annotated, named: &Named) -> Json {
    let annotation = &named.annotation;
    let function = &annotation.function;
    let (event, total) = annotated.events.get(function.event).cloned().unwrap_or_default();
    let share = |heat: &Heat| percent(heat.period, function.heat.period);
    let lines: Vec<Json> = if annotation.missing.is_some() {
        let spot = |(address, heat): (&u64, &Heat)| {
            json!({
                "addr": format!("{address:#x}"), "samples": heat.samples, "period": heat.period, "percent": share(heat),
            })
        };
        function.spots.iter().map(spot).collect()
    } else {
        let line = |line: &xprof_profile::annotation::Line| {
            json!({
                "addr": format!("{:#x}", line.instruction.address), "text": named.code(line),
                "samples": line.heat.samples, "period": line.heat.period, "percent": share(&line.heat),
            })
        };
        annotation.lines.iter().map(line).collect()
    };
    json!({
        "event": event, "symbol": &*function.symbol.name, "dso": function.dso, "samples": function.heat.samples,
        "period": function.heat.period, "percent": percent(function.heat.period, total.period), "lines": lines,
        "elsewhere": annotation.elsewhere.samples, "missing": annotation.missing,
    })
}
