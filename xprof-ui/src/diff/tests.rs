use serde_json::json;
use xprof_profile::comparison::significance::Verdict;
use xprof_profile::comparison::{Change, Total};
use xprof_profile::profile::{FunctionName, Key};

use super::*;

fn comparison() -> (Comparison, Options) {
    let total = |samples| Total { samples, period: samples * 10, effective: samples, lost: 1 };
    let side = |samples| Side { samples, period: samples * 10, other: samples * 10 };
    let row = |symbol: &str, old, new, p, verdict| ComparedRow {
        values: vec![Value::Text("a,b".into()), Value::Text(symbol.into())],
        letter: '.',
        sides: vec![side(old), side(new)],
        changes: vec![Change { delta: new as f64 / 2000.0 - old as f64 / 1000.0, p, verdict }],
        nodes: Vec::new(),
    };
    let name = |symbol: &str| {
        let (dso, path) = ("a".into(), "/a".into());
        Some(FunctionName { symbol: Value::Text(symbol.into()), dso, path, letter: '.', inlined: false })
    };
    let leaf = ComparedNode { function: None, sides: vec![side(1), side(2)], nodes: Vec::new() };
    let mut hot = row("f\x1b[2J", 100, 400, 3.2e-12, Verdict::Grew);
    hot.nodes = vec![ComparedNode { function: name("main"), sides: vec![side(100), side(400)], nodes: vec![leaf] }];
    let rows = vec![hot, row("g", 900, 1590, 0.25, Verdict::Noise), row("h", 0, 10, 1.0, Verdict::TooFew)];
    let event = ComparedEvent { name: "cycles".into(), totals: vec![total(1000), total(2000)], rows };
    let comparison = Comparison {
        keys: vec![Key::Dso, Key::Symbol],
        by_children: false,
        has_trees: true,
        events: vec![event],
        unmatched: vec!["faults".into()],
        lacking: Vec::new(),
    };
    let recordings = vec!["before.data".into(), "after.data".into()];
    (comparison, Options { recordings, notes: vec!["partial: killed".into()], ..Options::default() })
}

#[test]
fn text_says_what_changed_and_what_is_noise() {
    let (comparison, options) = comparison();
    let mut out = String::new();
    text(&comparison, &options, &mut out);
    assert_eq!(
        out,
        r"# Old: before.data
# New: after.data
#
# Event 'cycles': 1000 and 2000 samples
#
#     Old     New    Delta       p  Verdict  Old samples  New samples  Shared Object  Symbol
#  ......  ......  .......  ......  .......  ...........  ...........  .............  ..............
#
   10.00%  20.00%  +10.00%   3e-12  grew             100          400  a,b            [.] f\u{1b}[2J
            |
            |--10.00% +10.00%--main
                |--0.10% +0.00%--[...]

   90.00%  79.50%  -10.50%  0.2500  noise            900         1590  a,b            [.] g
    0.00%   0.50%   +0.50%  1.0000  too few            0           10  a,b            [.] h
#
# New: rows: 1 changed, 1 no more than noise, 1 with too few samples to tell.
# p: how often sampling alone makes such a difference (Fisher's exact test). Of the rows called changed, 5 % may be noise.

# Only some have samples of 'faults': not compared.
# partial: killed
"
    );
}

#[test]
fn the_options_leave_rows_out() {
    let (comparison, options) = comparison();
    let count = |options: &Options| {
        let mut out = String::new();
        csv(&comparison, options, &mut out);
        out.lines().count() - 1
    };
    assert_eq!(count(&options), 3);
    assert_eq!(count(&Options { percent_limit: 1.0, ..options.clone() }), 2);
    assert_eq!(count(&Options { changed: true, ..options }), 1);
}

#[test]
fn json_and_csv() {
    let (comparison, options) = comparison();
    let mut out = String::new();
    json(&comparison, &options, &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(got["schema"], 1);
    assert_eq!(got["recordings"], json!(["before.data", "after.data"]));
    assert_eq!(got["unmatched"], json!(["faults"]));
    let event = &got["events"][0];
    assert_eq!((&event["samples"], &event["lost"]), (&json!([1000, 2000]), &json!([1, 1])));
    let row = &event["rows"][0];
    assert_eq!(row["symbol"], "f\x1b[2J");
    assert_eq!((&row["self"], &row["samples"]), (&json!([10.0, 20.0]), &json!([100, 400])));
    assert_eq!(row["changes"], json!([{"delta": 10.0, "p": 3.2e-12, "verdict": "grew"}]));
    assert_eq!(row["nodes"][0]["symbol"], "main");
    assert_eq!(row["nodes"][0]["nodes"][0]["dso"], json!(null));
    let mut out = String::new();
    csv(&comparison, &options, &mut out);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "event,dso,symbol,samples1,period1,self1,children1,samples2,period2,self2,children2,delta2,p2,verdict2"
    );
    assert_eq!(lines[2], "cycles,\"a,b\",g,900,9000,90.0000,90.0000,1590,15900,79.5000,79.5000,-10.5000,2.5e-1,noise");
}
