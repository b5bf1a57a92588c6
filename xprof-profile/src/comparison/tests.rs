use super::*;
use crate::profile::{FunctionId, Order, Trees};

fn text(name: &str) -> Value {
    Value::Text(name.into())
}

fn row(symbol: Value, samples: u64) -> Row {
    let (period, children) = (samples * 10, samples * 20);
    Row {
        values: vec![text("a.out"), symbol],
        letter: '.',
        samples,
        period,
        children,
        nodes: Vec::new(),
        chains: Vec::new(),
    }
}

fn event(name: &str, rows: Vec<Row>) -> EventProfile {
    let samples = rows.iter().map(|r| r.samples).sum();
    EventProfile {
        name: name.into(),
        samples,
        period: samples * 10,
        effective: samples,
        lost: 0,
        truncated: 0,
        completed: 0,
        rows,
    }
}

fn profile(events: Vec<EventProfile>) -> Profile {
    Profile {
        keys: vec![Key::Dso, Key::Symbol],
        has_children: false,
        trees: None,
        functions: Vec::new(),
        events,
        unnamed: Vec::new(),
        damaged: 0,
        domains: Vec::new(),
        host: None,
    }
}

#[test]
fn rows_are_matched_by_name_not_by_address() {
    let old = vec![row(text("f.llvm.17"), 512), row(Value::Address(1), 300), row(Value::Address(2), 212)];
    let new = vec![row(text("f.llvm.4"), 1088), row(Value::Address(9), 768), row(text("g"), 192)];
    let both = [profile(vec![event("cycles", old)]), profile(vec![event("cycles", new)])];
    let got = Comparison::new(&both, false, 0.0);
    let shown = |r: &ComparedRow| {
        let change = r.changes[0];
        (r.values[1].to_string(), r.sides[0].samples, r.sides[1].samples, change.delta, change.verdict)
    };
    let rows: Vec<_> = got.events[0].rows.iter().map(shown).collect();
    let unnamed = ("[unnamed]".into(), 512, 768, -0.125, Verdict::Shrank);
    let g = ("g".into(), 0, 192, 0.09375, Verdict::Grew);
    assert_eq!(rows, [unnamed, g, ("f".into(), 512, 1088, 0.03125, Verdict::Noise)]);
}

#[test]
fn events_are_matched_by_name() {
    let of = |name| event(name, vec![row(text("f"), 5)]);
    let old = profile(vec![of("cycles"), of("instructions"), event("faults", Vec::new())]);
    let new = profile(vec![of("instructions"), of("branches"), event("faults", Vec::new())]);
    let got = Comparison::new(&[old, new], false, 0.0);
    assert_eq!(got.events.iter().map(|e| &e.name[..]).collect::<Vec<_>>(), ["instructions"]);
    assert_eq!(got.unmatched, ["cycles", "branches"]);
    assert!(Comparison::new(&[], false, 0.0).events.is_empty());
}

/// Samples whose periods differ say less than as many equal ones, and what is compared is periods.
#[test]
fn unequal_periods_count_for_less() {
    let both = |effective| {
        [100, 130].map(|hot| {
            let mut all = event("cycles", vec![row(text("f"), hot), row(text("g"), 1000 - hot)]);
            all.effective = effective;
            profile(vec![all])
        })
    };
    let p = |effective| {
        let got = Comparison::new(&both(effective), false, 0.0);
        got.events[0].rows.iter().find(|row| row.values[1] == text("f")).unwrap().changes[0]
    };
    assert_eq!(p(1000).p, Counts { row: [100, 130], all: [1000, 1000] }.p());
    assert_eq!(p(100).p, Counts { row: [10, 13], all: [100, 100] }.p());
    assert_eq!((p(1000).verdict, p(100).verdict), (Verdict::Grew, Verdict::Noise));
}

#[test]
fn trees_are_merged_by_name() {
    let name = |symbol: Value| FunctionName {
        symbol,
        dso: "a.out".into(),
        path: "/a.out".into(),
        letter: '.',
        inlined: false,
    };
    let node = |function: u32, samples, nodes: Vec<Node>| {
        let below: u64 = nodes.iter().map(|n: &Node| n.period).sum();
        let period = samples * 10;
        Node { function: Some(FunctionId(function)), samples, period, own: period - below, nodes }
    };
    let make = |names: [Value; 3], nodes| {
        let mut row = row(text("main"), 100);
        row.nodes = nodes;
        Profile {
            functions: names.into_iter().map(name).collect(),
            trees: Some(Trees { order: Order::Caller, limit: 0.0, inline: true }),
            ..profile(vec![event("cycles", vec![row])])
        }
    };
    // The ids differ between the two, and in the first there are two functions without names.
    let old = make(
        [text("f"), Value::Address(1), Value::Address(2)],
        vec![node(0, 60, vec![node(1, 20, vec![]), node(2, 30, vec![])]), node(1, 1, vec![])],
    );
    let new = make(
        [Value::Address(7), text("g"), text("f")],
        vec![node(2, 30, vec![node(0, 10, vec![])]), node(1, 70, vec![])],
    );
    let got = Comparison::new(&[old, new], false, 5.0);
    fn shape(nodes: &[ComparedNode]) -> String {
        let one = |n: &ComparedNode| {
            let name = n.function.as_ref().map_or("..".into(), |f| f.symbol.to_string());
            format!("{name}={}/{}({})", n.sides[0].samples, n.sides[1].samples, shape(&n.nodes))
        };
        nodes.iter().map(one).collect::<Vec<_>>().join(" ")
    }
    assert_eq!(shape(&got.events[0].rows[0].nodes), "g=0/70() f=60/30([unnamed]=50/10()) ..=1/0()");
}
