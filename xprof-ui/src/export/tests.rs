//! What cannot be seen from outside: hostile names, deep stacks, huge numbers, nothing at all. What the forms' own readers make
//! of them is in `tests/tests/export.rs` and `tests/browser`.

use std::sync::Arc;

use serde_json::Value as Json;
use xprof_profile::profile::{FunctionId, Located, LocatedFrame, Mapping, Timed};

use super::*;

const HOSTILE: &str = "a\"b\\c</script>\x1b[2J\nfn=(1) \u{202e}'";

fn function(symbol: Value, inlined: bool) -> FunctionName {
    FunctionName { symbol, dso: "a.out".into(), path: "/tmp/a\n.out".into(), letter: '.', inlined }
}

/// Two events; of the first a stack of 5,000 frames with the largest period, and one with an inlined function.
fn stacks() -> Stacks {
    let text = |text: &str| Value::Text(Arc::from(text));
    let values = |comm: &str| vec![text("Domain-0"), Value::Number(1), text(comm), Value::Number(7), Value::Number(8)];
    let deep = Stack {
        values: values(HOSTILE),
        functions: (0..5000).map(|n| FunctionId(n % 2)).collect(),
        samples: 1,
        period: u64::MAX,
    };
    let short = Stack { values: values("b"), functions: [2, 0].map(FunctionId).into(), samples: 2, period: 30 };
    let other = Stack { values: values("b"), functions: vec![FunctionId(0)], samples: 4, period: 5 };
    let at = |time, period, stack| Timed { time, period, stack };
    let samples = vec![at(1000, u64::MAX, 0), at(2000, 10, 1), at(3000, 20, 1)];
    Stacks {
        keys: vec![Key::Domain, Key::Vcpu, Key::Comm, Key::Pid, Key::Tid],
        functions: vec![
            function(text(HOSTILE), false),
            function(Value::Address(16), false),
            function(text("compiled in"), true),
        ],
        events: vec![
            EventStacks { name: "cpu-clock".into(), stacks: vec![deep, short], samples },
            EventStacks { name: "page faults:u".into(), stacks: vec![other], samples: vec![at(5, 5, 0)] },
        ],
        unnamed: Vec::new(),
        damaged: 0,
        untimed: 0,
    }
}

fn empty() -> Stacks {
    Stacks { events: vec![EventStacks { name: "cycles".into(), stacks: Vec::new(), samples: Vec::new() }], ..stacks() }
}

/// The stacks with a code address for each function, in one file; the one that was compiled into the hostile one in its frame. Every
/// address is on the line of its number.
fn located(stacks: Stacks) -> Located {
    let place = |line| Some((Arc::from("/src/a\n.c"), line));
    let frame = |address, functions: &[u32]| LocatedFrame {
        mapping: 0,
        address,
        functions: functions.iter().map(|&id| (FunctionId(id), place(address as u32))).collect(),
    };
    let mapping = Mapping { path: "/tmp/a\n.out".into(), build_id: None, addresses: 0..4096, offset: 0 };
    let way = |stack: &Stack| match stack.functions[..] {
        [FunctionId(2), FunctionId(0)] => vec![2],
        _ => stack.functions.iter().map(|function| function.0).collect(),
    };
    let of_stacks = stacks.events.iter().map(|event| event.stacks.iter().map(way).collect()).collect();
    Located {
        frames: vec![frame(1, &[0]), frame(2, &[1]), frame(3, &[2, 0])],
        mappings: vec![mapping],
        of_stacks,
        stacks,
    }
}

fn source() -> Source {
    let title = HOSTILE.into();
    Source {
        title,
        host: Some("h\n".into()),
        facts: vec![HOSTILE.into()],
        clock_offset: Some(u64::MAX),
        duration: Some(1),
    }
}

type Draw = fn(&Stacks, &mut Vec<u8>);

fn written(stacks: &Stacks, draw: Draw) -> String {
    let mut out = Vec::new();
    draw(stacks, &mut out);
    String::from_utf8(out).unwrap()
}

const FORMS: [Draw; 4] = [
    |stacks, out| speedscope(stacks, &stacks.events.iter().collect::<Vec<_>>(), &source(), out).unwrap(),
    |stacks, out| callgrind(&located(stacks.clone()), &[0, 1], &source(), out).unwrap(),
    |stacks, out| firefox(stacks, &stacks.events[0], &source(), out).unwrap(),
    |stacks, out| chrome(stacks, &stacks.events[0], &source(), out).unwrap(),
];

#[test]
fn nothing_breaks_out_and_nothing_overflows() {
    for draw in FORMS {
        for text in [written(&stacks(), draw), written(&empty(), draw)] {
            assert!(!text.contains(['\x1b', '\u{202e}']), "{}", &text[..200]);
            assert!(!text.lines().any(|line| line.starts_with("fn=(1) \u{202e}")));
        }
    }
    for draw in [FORMS[0], FORMS[2], FORMS[3]] {
        serde_json::from_str::<Json>(&written(&stacks(), draw)).unwrap();
        serde_json::from_str::<Json>(&written(&empty(), draw)).unwrap();
    }
    let located = located(stacks());
    assert!(!pprof(&located, &[0, 1], &source()).is_empty());
    assert!(!pprof(&located, &[], &Source::default()).is_empty());
}

#[test]
fn speedscope_has_a_profile_for_each_event() {
    let got: Json = serde_json::from_str(&written(&stacks(), FORMS[0])).unwrap();
    let profiles = got["profiles"].as_array().unwrap();
    assert_eq!(profiles.len(), 2);
    assert_eq!((&profiles[0]["unit"], &profiles[1]["unit"]), (&"nanoseconds".into(), &"none".into()));
    let way = profiles[0]["samples"][1].as_array().unwrap();
    let name =
        |frame: &Json| got["shared"]["frames"][frame.as_u64().unwrap() as usize]["name"].as_str().unwrap().to_owned();
    let names: Vec<String> = way.iter().map(name).collect();
    assert_eq!([&names[..3], &names[4..]].concat(), ["Domain-0", "vCPU 1", "b", "compiled in"]);
    assert!(names[3].starts_with("a\"b\\c</script>\\u{1b}[2J\\u{a}fn"), "{names:?}");
    assert_eq!(profiles[0]["weights"].to_string(), format!("[{},30]", u64::MAX));
    assert_eq!(profiles[0]["samples"][0].as_array().unwrap().len(), 5003);
}

#[test]
fn callgrind_counts_a_recurring_call_once() {
    let text = written(&stacks(), FORMS[1]);
    assert!(text.contains("\nevents: cpu-clock page_faults:u\n"), "{text}");
    assert!(text.ends_with(&format!("totals: {} 5\n", u64::MAX)));
    // b calls the hostile one, which calls what was compiled into it; itself it has what the second event saw.
    let block = text.split("\n\n").find(|block| block.contains("fn=(1)") && block.contains("cfn=(3)")).unwrap();
    assert!(
        block.contains("\ncfn=(3)\ncalls=1 0\n3 30 0") || block.contains("compiled in\ncalls=1 0\n3 30 0"),
        "{block}"
    );
    assert!(text.lines().any(|line| line == format!("1 {} 5", u64::MAX)), "{text}");
}

#[test]
fn chrome_spans_end_where_the_samples_do() {
    let got: Json = serde_json::from_str(&written(&stacks(), FORMS[3])).unwrap();
    let events = got["traceEvents"].as_array().unwrap();
    let spans: Vec<&Json> = events.iter().filter(|event| event["ph"] == "X").collect();
    assert_eq!(spans.iter().filter(|span| span["ts"] == 0.0).count(), 5000);
    let compiled: Vec<_> = spans.iter().filter(|span| span["name"] == "compiled in").collect();
    assert_eq!(compiled.len(), 1);
    let [one] = compiled[..] else { panic!() };
    // Two samples, 1 us apart, and an interval of 1 us behind the last.
    assert_eq!((&one["ts"], &one["dur"]), (&Json::from(1.0), &Json::from(2.0)));
    assert_eq!(one["args"]["samples"], 2);
    // Its caller lasts as long: the one that comes first is the outer one.
    assert_eq!(spans.last(), Some(one));
    let named = |what: &str| {
        events.iter().filter(|e| e["name"] == what).map(|e| e["args"]["name"].to_string()).collect::<Vec<_>>()
    };
    assert!(named("process_name")[0].starts_with("\"Domain-0: a"), "{:?}", named("process_name"));
    assert!(named("thread_name")[0].ends_with("(vCPU 1) (8)\""), "{:?}", named("thread_name"));
}

#[test]
fn firefox_has_every_sample_at_its_time() {
    let got: Json = serde_json::from_str(&written(&stacks(), FORMS[2])).unwrap();
    let thread = &got["threads"][0];
    assert_eq!(thread["samples"]["length"], 3);
    assert_eq!(got["meta"]["symbolicated"], true);
    assert_eq!(thread["stackTable"]["length"], 5002);
    assert!(thread["name"].as_str().unwrap().ends_with("(vCPU 1)"), "{}", thread["name"]);
}
