use xprof_profile::profile::{EventStacks, FunctionId, FunctionName, Key, Stack, Stacks, Timed, Value};

use super::*;

fn stacks(list: &[(&str, &[u32], u64)]) -> Stacks {
    let function = |name: &str, letter| FunctionName {
        symbol: Value::Text(name.into()),
        dso: "a".into(),
        path: "/bin/a".into(),
        letter,
        inlined: false,
    };
    let stack = |&(comm, functions, period): &(&str, &[u32], u64)| Stack {
        values: vec![Value::Text(comm.into()), Value::Text("".into())],
        functions: functions.iter().copied().map(FunctionId).collect(),
        samples: period,
        period,
    };
    Stacks {
        keys: vec![Key::Comm, Key::Symbol],
        functions: vec![
            function("main", '.'),
            function("</script><b>\"&\u{7}", '.'),
            function("write", 'k'),
            function("gone", '.'),
        ],
        events: vec![EventStacks {
            name: "cycles".into(),
            stacks: list.iter().map(stack).collect(),
            samples: Vec::new(),
        }],
        unnamed: Vec::new(),
        damaged: 0,
        untimed: 0,
    }
}

/// Name, depth, start and share of a million.
fn places(graph: &Graph) -> Vec<(&str, usize, u64, u64)> {
    let million = |share: f64| (share * 1e6).round() as u64;
    graph.frames.iter().map(|f| (f.name.as_str(), f.depth, million(f.start), million(f.share))).collect()
}

#[test]
fn frames_stand_on_their_callers() {
    let stacks = stacks(&[("b", &[0], 25), ("a", &[2, 0], 50), ("a", &[0], 25)]);
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    assert_eq!(
        places(&graph),
        [
            ("all", 0, 0, 1_000_000),
            ("a", 1, 0, 750_000),
            ("main", 2, 0, 750_000),
            ("write", 3, 0, 500_000),
            ("b", 1, 750_000, 250_000),
            ("main", 2, 750_000, 250_000),
        ]
    );
    assert_eq!((graph.frames[3].kind, graph.frames[1].kind), (Kind::Kernel, Kind::Thread));
    assert_eq!((graph.frames[1].samples, graph.small), (75, 0));
}

#[test]
fn changes_are_of_shares_and_what_is_gone_is_said() {
    let (now, before) = (stacks(&[("a", &[0], 75), ("a", &[2, 0], 25)]), stacks(&[("a", &[0], 5), ("a", &[3, 0], 5)]));
    let graph = Graph::new(&now, &now.events[0], Some((&before, &before.events[0])));
    let changes: Vec<(&str, Option<f64>)> = graph.frames.iter().map(|f| (f.name.as_str(), f.change)).collect();
    assert_eq!(changes, [("all", Some(0.0)), ("a", Some(0.0)), ("main", Some(0.0)), ("write", Some(0.25))]);
    assert_eq!(graph.gone, 0.5);
}

#[test]
fn narrow_frames_are_one_and_counted() {
    let mut list: Vec<(&str, &[u32], u64)> = vec![("a", &[0], 10_000_000)];
    list.extend([("b", &[0][..], 300), ("c", &[0], 300), ("d", &[0], 300)]);
    let stacks = stacks(&list);
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    let last = &graph.frames[1];
    assert_eq!((last.name.as_str(), last.kind, last.samples), ("3 functions too small to show", Kind::Small, 900));
    assert_eq!((graph.frames.len(), graph.small), (4, 3));
}

#[test]
fn no_more_frames_than_a_browser_can_draw() {
    let names: Vec<String> = (0..20_000).map(|i| format!("t{i}")).collect();
    let list: Vec<(&str, &[u32], u64)> = names.iter().map(|name| (name.as_str(), &[0][..], 10)).collect();
    let stacks = stacks(&list);
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    assert!(graph.frames.len() <= 8001, "{}", graph.frames.len());
    assert_eq!(graph.small, 20_000);
}

#[test]
fn deep_stacks_end_and_an_empty_profile_is_a_picture() {
    let deep = vec![0; 5000];
    let list = stacks(&[("a", &deep, 1)]);
    assert_eq!(Graph::new(&list, &list.events[0], None).frames.len(), 1001);
    let none = stacks(&[]);
    let graph = Graph::new(&none, &none.events[0], None);
    assert!(graph.frames.is_empty());
    let (mut picture, mut document) = (String::new(), String::new());
    svg(&graph, &Options::default(), &mut picture);
    html(&graph, &Options::default(), &mut document);
    assert!(picture.ends_with("</svg>\n") && document.contains("No samples."));
}

#[test]
fn names_act_on_nothing() {
    let stacks = stacks(&[("<x>", &[1], 1)]);
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    let options = Options { title: "</title><script>".into(), ..Options::default() };
    let (mut picture, mut document) = (String::new(), String::new());
    svg(&graph, &options, &mut picture);
    html(&graph, &options, &mut document);
    for text in [&picture, &document] {
        assert_eq!(text.matches("<script>").count(), 1);
        assert!(text.contains("&lt;/script&gt;&lt;b&gt;&quot;&amp;\\u{7}\n1 samples, 100.00 %, user"));
        assert!(!text.contains('\u{7}'));
    }
}

#[test]
fn frames_as_json_and_csv() {
    let stacks = stacks(&[("a", &[2, 0], 4)]);
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    let mut out = String::new();
    json(&graph, &Options::default(), &mut out);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["frames"][3]["name"], "write");
    assert_eq!(document["frames"][3]["kind"], "kernel");
    let mut out = String::new();
    csv(&graph, &mut out);
    assert_eq!(out.lines().last(), Some("write,kernel,3,0.000000,1.000000,4,4,"));
}

#[test]
fn long_names_and_many_of_them_stay_below_the_limit() {
    let mut stacks = stacks(&[]);
    for index in 0..6000u32 {
        let name = format!("{}{index}", "std::vector<a>".repeat(if index < 1000 { 10 } else { 700 }));
        stacks.functions[0].symbol = Value::Text(name.into());
        let function = stacks.functions[0].clone();
        stacks.functions.push(function);
        let stack = Stack {
            values: vec![Value::Text("a".into()), Value::Text("".into())],
            functions: vec![FunctionId(stacks.functions.len() as u32 - 1)],
            samples: 1,
            period: 40_000 - u64::from(index),
        };
        stacks.events[0].stacks.push(stack);
    }
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    let mut picture = String::new();
    svg(&graph, &Options::default(), &mut picture);
    assert!((1_000_000..2_000_000).contains(&picture.len()), "{}", picture.len());
    assert!((2000..5000).contains(&graph.small), "{}", graph.small);
}

#[test]
fn domains_are_the_outermost_frames_and_inlined_code_has_a_colour() {
    let mut stacks = stacks(&[("a", &[0], 1), ("a", &[0], 3)]);
    stacks.keys = vec![Key::Domain, Key::Comm, Key::Symbol];
    stacks.functions[0].inlined = true;
    for (stack, domain) in stacks.events[0].stacks.iter_mut().zip(["web", "Domain-0"]) {
        stack.values.insert(0, Value::Text(domain.into()));
    }
    let graph = Graph::new(&stacks, &stacks.events[0], None);
    let kinds: Vec<(&str, Kind, u64)> = graph.frames.iter().map(|f| (f.name.as_str(), f.kind, f.samples)).collect();
    let of = |domain, samples| {
        [(domain, Kind::Domain, samples), ("a", Kind::Thread, samples), ("main", Kind::Inline, samples)]
    };
    assert_eq!(kinds, [&[("all", Kind::Thread, 4)][..], &of("Domain-0", 3), &of("web", 1)].concat());
}

/// The chart of samples of stacks, by (stack, period).
fn chart(mut stacks: Stacks, samples: &[(u32, u64)]) -> Graph {
    let timed = |(time, &(stack, period))| Timed { time, period, stack };
    stacks.events[0].samples = (0..).zip(samples).map(timed).collect();
    Graph::chart(&stacks, &stacks.events[0])
}

#[test]
fn a_chart_has_the_samples_in_their_order() {
    let stacks = stacks(&[("a", &[0], 0), ("a", &[2, 0], 0), ("b", &[0], 0)]);
    let graph = chart(stacks, &[(1, 10), (2, 30), (0, 20), (1, 20), (1, 20)]);
    assert_eq!(
        places(&graph),
        [
            ("all", 0, 0, 1_000_000),
            ("a", 1, 0, 700_000),
            ("main", 2, 0, 700_000),
            ("write", 3, 0, 100_000),
            ("write", 3, 300_000, 400_000),
            ("b", 1, 700_000, 300_000),
            ("main", 2, 700_000, 300_000),
        ]
    );
    assert_eq!((graph.frames[4].samples, graph.frames[2].samples), (2, 4));
}

#[test]
fn what_is_narrow_in_a_chart_is_put_together() {
    let stacks = stacks(&[("a", &[0], 0), ("a", &[2, 0], 0)]);
    // 100,000 short calls between others, then a long one.
    let samples: Vec<(u32, u64)> = (0..200_000).map(|i| (i % 2, 1)).chain([(1, 1_000_000)]).collect();
    let graph = chart(stacks, &samples);
    let last = &places(&graph)[3..];
    assert_eq!(last, [("99999 calls too small to show", 3, 1, 83_333), ("write", 3, 166_666, 833_334)]);
    assert_eq!(graph.small, 99_999);
    assert!(chart(super::tests::stacks(&[]), &[]).frames.is_empty());
}
