//! The comparison as one JSON document.

use serde_json::{Map, Value as Json, json};
use xprof_profile::comparison::{ComparedEvent, ComparedNode, ComparedRow, Comparison, Side, share};
use xprof_profile::profile::Value;

use super::{Options, node_name, shown};

/// Draws `{"schema":1,"recordings":[..],"events":[{"name","samples":[..],"period":[..],"lost":[..],"rows":[{KEY..,
/// "samples":[..],"period":[..],"self":[%..],"children":[%..],"changes":[{"delta","p","verdict"}]}]}],"unmatched","notes"}`.
///
/// Arrays have one element for each recording; `changes` one for each but the first, which it is against. `delta` is in
/// percentage points. With call trees rows have `nodes`, of `symbol`, `dso`, `samples`, `period`, `self`, `children` and `nodes`.
pub fn json(comparison: &Comparison, options: &Options, out: &mut String) {
    let events = comparison.events.iter().map(|event| {
        let rows: Vec<Json> = shown(comparison, event, options).map(|r| row(comparison, event, r)).collect();
        let of_total =
            |get: fn(&xprof_profile::comparison::Total) -> u64| event.totals.iter().map(get).collect::<Vec<_>>();
        json!({
            "name": event.name,
            "samples": of_total(|t| t.samples),
            "period": of_total(|t| t.period),
            "lost": of_total(|t| t.lost),
            "rows": rows,
        })
    });
    let document = json!({
        "schema": 1,
        "recordings": options.recordings,
        "events": events.collect::<Vec<_>>(),
        "unmatched": comparison.unmatched,
        "notes": options.notes,
    });
    out.push_str(&document.to_string());
    out.push('\n');
}

fn sides(sides: &[Side], get: fn(&Side) -> u64) -> Json {
    sides.iter().map(get).collect()
}

fn percents(event: &ComparedEvent, sides: &[Side], get: fn(&Side) -> u64) -> Json {
    sides.iter().zip(&event.totals).map(|(side, total)| share(get(side), total.period) * 100.0).collect()
}

fn row(comparison: &Comparison, event: &ComparedEvent, row: &ComparedRow) -> Json {
    let mut map = Map::new();
    for (key, value) in comparison.keys.iter().zip(&row.values) {
        let value = match value {
            Value::Text(text) => Json::from(&**text),
            Value::Number(number) => Json::from(*number),
            Value::Address(_) => Json::from(value.to_string()),
        };
        map.insert(key.name().into(), value);
    }
    map.insert("samples".into(), sides(&row.sides, |s| s.samples));
    map.insert("period".into(), sides(&row.sides, |s| s.period));
    map.insert("self".into(), percents(event, &row.sides, |s| s.period));
    map.insert("children".into(), percents(event, &row.sides, |s| s.other));
    let change = |c: &xprof_profile::comparison::Change| json!({"delta": c.delta * 100.0, "p": c.p, "verdict": c.verdict.name()});
    map.insert("changes".into(), row.changes.iter().map(change).collect());
    if comparison.has_trees {
        map.insert("nodes".into(), nodes(event, &row.nodes));
    }
    Json::Object(map)
}

fn nodes(event: &ComparedEvent, list: &[ComparedNode]) -> Json {
    let one = |node: &ComparedNode| {
        let (symbol, dso) = node_name(node);
        json!({
            "symbol": symbol,
            "dso": dso,
            "samples": sides(&node.sides, |s| s.samples),
            "period": sides(&node.sides, |s| s.period),
            "self": percents(event, &node.sides, |s| s.other),
            "children": percents(event, &node.sides, |s| s.period),
            "nodes": nodes(event, &node.nodes),
        })
    };
    list.iter().map(one).collect()
}
