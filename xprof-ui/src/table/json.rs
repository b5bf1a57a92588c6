//! The table as one JSON document.

use serde_json::{Map, Value as Json, json};
use xprof_profile::profile::{Profile, Row, Value};

use super::domains::{domains, host};
use super::{Options, percent, shown, tree};

/// Draws `{"schema":1,"events":[{"name","samples","period","lost","truncated","completed","rows":[{KEY..,"samples","period","self","children"}]}]}`;
/// with call trees rows have `callees`, `callers` or `chains` as well.
pub fn json(profile: &Profile, options: &Options, out: &mut String) {
    out.push_str(&document(profile, options).to_string());
    out.push('\n');
}

/// What [`json()`] draws, for whoever adds to it.
pub fn document(profile: &Profile, options: &Options) -> Json {
    let events: Vec<Json> = profile
        .events
        .iter()
        .map(|event| {
            let rows: Vec<Json> = shown(event, options).map(|r| row(profile, r, event.period)).collect();
            json!({
                "name": event.name, "samples": event.samples, "period": event.period, "lost": event.lost, "truncated": event.truncated, "completed": event.completed, "rows": rows,
            })
        })
        .collect();
    let unnamed: Vec<Json> =
        profile.unnamed.iter().map(|u| json!({"dso": u.path, "samples": u.samples, "advice": u.advice})).collect();
    let mut document = json!({"schema": 1, "events": events, "unnamed": unnamed, "notes": options.notes});
    if let (Some(domains), Some(map)) = (domains(profile), document.as_object_mut()) {
        map.insert("domains".into(), domains);
    }
    if let (Some(host), Some(map)) = (host(profile), document.as_object_mut()) {
        map.insert("host".into(), host);
    }
    document
}

fn row(profile: &Profile, row: &Row, whole: u64) -> Json {
    let mut map = Map::new();
    for (key, value) in profile.keys.iter().zip(&row.values) {
        let value = match value {
            Value::Text(text) => Json::from(&**text),
            Value::Number(number) => Json::from(*number),
            Value::Address(_) => Json::from(value.to_string()),
        };
        map.insert(key.name().into(), value);
    }
    map.insert("samples".into(), row.samples.into());
    map.insert("period".into(), row.period.into());
    map.insert("self".into(), percent(row.period, whole).into());
    map.insert("children".into(), percent(row.children, whole).into());
    tree::json(profile, row, whole, &mut map);
    Json::Object(map)
}
