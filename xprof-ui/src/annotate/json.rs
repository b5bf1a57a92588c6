//! Annotated functions as one JSON document.

use serde_json::{Value as Json, json};
use xprof_profile::annotation::{Line, Source};
use xprof_profile::profile::Heat;
use xprof_profile::symbols;

use super::source::Texts;
use super::{Annotated, Named, Options, percent};

/// Draws `{"schema":1,"functions":[{"event","symbol","dso","samples","period","percent","lines":[{"addr","text",
/// "samples","period","percent","file","line","inlined"}],"source":[{"file","line","text","samples","period","percent",
/// "inlined"}],"missing"}],"notes":[..]}`. `percent` of a function is of its event, that of a line of its function.
/// `inlined` are the functions that the line's code is of, as they were compiled into one another, innermost first, each with the
/// `file` and `line` of its call. Where there is no code, `lines` are the addresses of samples, without `text`, and
/// `missing` says why. `source` has the lines with code; the samples of each are those of no other.
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
        let line = |line: &Line| {
            let place = line.places.first();
            json!({
                "addr": format!("{:#x}", line.instruction.address), "text": named.code(line),
                "samples": line.heat.samples, "period": line.heat.period, "percent": share(&line.heat),
                "file": place.and_then(|place| place.file.as_deref()), "line": place.and_then(number),
                "inlined": inlined(&line.places),
            })
        };
        annotation.lines.iter().map(line).collect()
    };
    let mut rows = Vec::new();
    source(&annotation.source().0, function.heat, &annotated.texts, &mut Vec::new(), &mut rows);
    json!({
        "event": event, "symbol": &*function.symbol.name, "dso": function.dso, "samples": function.heat.samples,
        "period": function.heat.period, "percent": percent(function.heat.period, total.period), "lines": lines,
        "source": rows, "elsewhere": annotation.elsewhere.samples, "missing": annotation.missing,
    })
}

/// The number of a line, if it is known.
fn number(place: &symbols::Line) -> Option<u32> {
    Some(place.line).filter(|&line| line > 0)
}

fn inlined(places: &[symbols::Line]) -> Vec<Json> {
    let call = |pair: &[symbols::Line]| {
        let [callee, caller] = pair else { return Json::Null };
        json!({"symbol": callee.name.as_deref(), "file": caller.file.as_deref(), "line": number(caller)})
    };
    places.windows(2).map(call).collect()
}

/// `way`: as in CSV.
fn source(sources: &[Source], whole: Heat, texts: &Texts, way: &mut Vec<symbols::Line>, rows: &mut Vec<Json>) {
    for Source { name, file, lines } in sources {
        for (&line, own) in lines {
            way.insert(0, symbols::Line { name: name.clone(), file: file.clone(), line });
            let text = file.as_ref().and_then(|file| texts.get(file)?.line(line));
            rows.push(json!({
                "file": file.as_deref(), "line": number(&way[0]), "text": text, "samples": own.heat.samples,
                "period": own.heat.period, "percent": percent(own.heat.period, whole.period), "inlined": inlined(way),
            }));
            source(&own.inlined, whole, texts, way, rows);
            way.remove(0);
        }
    }
}
