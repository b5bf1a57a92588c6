use xprof_profile::profile::{EventStacks, FunctionId, FunctionName, Stack, Stacks, Value};

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
        functions: vec![
            function("main", '.'),
            function("</script><b>\"&\u{7}", '.'),
            function("write", 'k'),
            function("gone", '.'),
        ],
        events: vec![EventStacks { name: "cycles".into(), stacks: list.iter().map(stack).collect() }],
        unnamed: Vec::new(),
        damaged: 0,
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
        assert!(text.contains("&lt;/script&gt;&lt;b&gt;&quot;&amp;\\u{7}\n1 samples, 100.00 %"));
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
