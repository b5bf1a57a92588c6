//! Keys in, buffers out: every key, every size, bad names.

use std::sync::Arc;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use xprof_profile::profile::{
    Calls, EventProfile, FunctionId, FunctionName, Key as Column, Lane, Lanes, Node, Profile, Row, RowOf, Steps, Value,
};

use super::{Able, Action, Ask, Key, Page, State, Status};
use crate::annotate::View;
use crate::flame::{Frame, Graph, Kind};

pub(super) fn text(name: &str) -> Value {
    Value::Text(Arc::from(name))
}

pub(super) fn row(comm: &str, symbol: &str, period: u64, children: u64) -> Row {
    let values = vec![text(comm), text("prog"), text(symbol)];
    Row { values, letter: '.', samples: period / 10, period, children, ..Row::default() }
}

pub(super) fn profile_of(events: Vec<(&str, Vec<Row>)>, keys: &[Column]) -> Profile {
    let event = |(name, rows): (&str, Vec<Row>)| EventProfile {
        name: name.into(),
        samples: 100,
        period: 1000,
        effective: 100,
        lost: 0,
        truncated: 0,
        completed: 0,
        rows,
    };
    Profile {
        keys: keys.to_vec(),
        has_children: true,
        trees: None,
        functions: Vec::new(),
        events: events.into_iter().map(event).collect(),
        unnamed: Vec::new(),
        damaged: 0,
        domains: Vec::new(),
        host: None,
    }
}

pub(super) const KEYS: [Column; 3] = [Column::Comm, Column::Dso, Column::Symbol];

fn rows() -> Vec<Row> {
    vec![
        row("db", "main", 0, 900),
        row("db", "compare", 600, 600),
        row("web", "zlib", 300, 350),
        row("db", "alloc", 100, 100),
    ]
}

pub(super) fn able() -> Able {
    Able { color: true, unicode: true, live: true, chains: true, domains: true, inline: true, keys: KEYS.to_vec() }
}

fn trails() -> Vec<Vec<Vec<u64>>> {
    vec![(0..4).map(|row| (0..60).map(|at| (at + row) % 9 * 10).collect()).collect(), Vec::new()]
}

fn table_page() -> Page {
    let profile = profile_of(vec![("cycles", rows()), ("faults", vec![row("db", "fault", 1000, 1000)])], &KEYS);
    Page::Table { profile, trails: trails() }
}

/// A state with a table.
fn state() -> State {
    let mut state = State::new(able(), "xprof top: test");
    state.give(&state.ask(), table_page());
    state
}

pub(super) fn drawn(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| state.draw(frame.buffer_mut())).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

pub(super) fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        state.key(match key {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            '\t' => Key::Tab,
            other => Key::Char(other),
        });
    }
}

/// The symbols in the order in which they are shown.
fn symbols(state: &mut State) -> Vec<String> {
    let lines = drawn(state, 100, 24);
    lines.iter().filter_map(|line| Some(line.split_once("[.] ")?.1.to_owned())).collect()
}

/// The symbol of the chosen row.
fn chosen(state: &State) -> String {
    match state.screens.last() {
        Some(super::Screen::Table(table)) => table.chosen_row(&able()).unwrap().values[2].to_string(),
        _ => panic!("no table"),
    }
}

#[test]
fn a_table_of_80_columns() {
    let mut state = state();
    state.set_status(Status {
        title: "xprof top: test".into(),
        samples: 100,
        rate: Some(1994.4),
        lost: 3,
        cost: Some(0.84),
        ..Status::default()
    });
    let lines = drawn(&mut state, 80, 10);
    assert_eq!(lines[0], "xprof top: test  100 samples  1994/s  3 lost  xprof 0.8% CPU");
    assert_eq!(lines[1], "cycles (1 of 2 events)");
    assert_eq!(lines[2], " Children     Self Trail         Command  Shared Object  Symbol");
    assert!(lines[3].starts_with("   90.00%    0.00% "), "{}", lines[3]);
    assert!(lines[3].ends_with("  db       prog           [.] main"), "{}", lines[3]);
    assert!(lines[9].starts_with("? help  q quit  Enter look into  f flame graph"), "{}", lines[9]);
}

/// Domains on a serial console: what stands before a symbol gives way to it.
#[test]
fn a_symbol_has_room_in_80_columns() {
    let keys = [Column::Domain, Column::Comm, Column::Dso, Column::Symbol];
    let values = ["Domain-0", "Domain-0", "[guest.kernel.kallsyms.1]", "finish_task_switch"].map(text).to_vec();
    let rows = vec![Row { values, letter: 'k', samples: 1, period: 1000, children: 1000, ..Row::default() }];
    let mut state = State::new(Able { keys: keys.to_vec(), ..able() }, "xprof top: all domains");
    let trails = vec![vec![vec![1; 60]]];
    state.give(&state.ask(), Page::Table { profile: profile_of(vec![("domain-clock", rows)], &keys), trails });
    let line = drawn(&mut state, 80, 10)[3].clone();
    assert!(line.ends_with("  Domain-0  Domain-0  [guest.kernel.kall  [k] finish_task_swit"), "{line}");
    assert!(drawn(&mut state, 140, 10)[3].ends_with("  [guest.kernel.kallsyms.1  [k] finish_task_switch"));
}

#[test]
fn a_trail_is_drawn_to_its_own_height() {
    let of = |unicode, trail: &[u64], width| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 6, 1));
        let able = Able { unicode, ..able() };
        super::paint::Paint::new(&mut buffer, &able).trail((0, 0), 6, trail, width);
        buffer.content.iter().map(|cell| cell.symbol()).collect::<String>()
    };
    assert_eq!(of(true, &[0, 8, 4, 1, 0, 3], 6), " █▄▁ ▃");
    // The newest stands at the right; two of twelve share a column, as the larger of them.
    assert_eq!(of(true, &[1, 8, 2, 4], 12), "    █▄");
    assert_eq!(of(false, &[0, 8, 4], 6), "    #-");
    assert_eq!(of(true, &[], 6), "      ");
}

#[test]
fn keys_of_the_table() {
    let mut state = state();
    assert_eq!(symbols(&mut state), ["main", "compare", "zlib", "alloc"]);
    press(&mut state, "s");
    assert_eq!(symbols(&mut state), ["compare", "zlib", "alloc", "main"]);
    press(&mut state, "s");
    assert_eq!(symbols(&mut state), ["alloc", "compare", "main", "zlib"]);
    press(&mut state, "s");
    for (keys, expected) in
        [("j", "compare"), ("jj", "alloc"), ("j", "alloc"), ("k", "zlib"), ("g", "main"), ("G", "alloc")]
    {
        press(&mut state, keys);
        assert_eq!(chosen(&state), expected, "{keys:?}");
    }
    for (key, expected) in [
        (Key::Up, "zlib"),
        (Key::Down, "alloc"),
        (Key::Home, "main"),
        (Key::PageDown, "alloc"),
        (Key::PageUp, "main"),
        (Key::End, "alloc"),
    ] {
        state.key(key);
        assert_eq!(chosen(&state), expected, "{key:?}");
    }
    // The chosen row stays chosen when rows move.
    press(&mut state, "k");
    let moved = vec![row("web", "zlib", 800, 800), row("db", "main", 0, 200)];
    state.give(&state.ask(), Page::Table { profile: profile_of(vec![("cycles", moved)], &KEYS), trails: Vec::new() });
    assert_eq!((chosen(&state), symbols(&mut state).len()), ("zlib".into(), 2));
    // Filters are typed; q is a letter then.
    state.give(&state.ask(), table_page());
    press(&mut state, "/ZQ");
    assert!(symbols(&mut state).is_empty());
    state.key(Key::Backspace);
    assert_eq!(symbols(&mut state), ["zlib"]);
    press(&mut state, "\n");
    assert!(drawn(&mut state, 100, 24)[1].contains("with \"Z\""));
    press(&mut state, "\x1b");
    assert_eq!(symbols(&mut state).len(), 4);
    press(&mut state, "/web\x1b");
    assert_eq!(symbols(&mut state).len(), 4);
    // Events.
    press(&mut state, "e");
    assert_eq!(symbols(&mut state), ["fault"]);
    press(&mut state, "\t");
    assert_eq!(symbols(&mut state).len(), 4);
    // What the host does.
    assert_eq!(state.key(Key::Char('z')), Action::Zero);
    assert_eq!(state.key(Key::Char(' ')), Action::Freeze(true));
    assert!(drawn(&mut state, 20, 24)[0].starts_with("FROZEN"));
    assert_eq!(state.key(Key::Char(' ')), Action::Freeze(false));
    press(&mut state, "?");
    assert!(drawn(&mut state, 100, 24)[2].contains("choose a row"));
    press(&mut state, "x");
    assert_eq!(symbols(&mut state).len(), 4);
    assert_eq!(state.key(Key::Char('q')), Action::Quit);
    press(&mut state, "/");
    assert_eq!(state.key(Key::Char('q')), Action::Draw);
    assert_eq!(state.key(Key::Interrupt), Action::Quit);
}

#[test]
fn processes_and_domains_are_looked_into() {
    let mut state = state();
    press(&mut state, "d");
    let keys = vec![Column::Domain];
    assert_eq!(state.ask(), Ask::Table { keys: keys.clone(), within: Vec::new() });
    let domain = Row { values: vec![text("web-1")], samples: 9, period: 700, children: 700, ..Row::default() };
    state.give(
        &state.ask(),
        Page::Table { profile: profile_of(vec![("cycles", vec![domain])], &keys), trails: Vec::new() },
    );
    press(&mut state, "\n");
    let within = vec![(Column::Domain, text("web-1"))];
    assert_eq!(state.ask(), Ask::Table { keys: KEYS.to_vec(), within: within.clone() });
    press(&mut state, "f");
    assert_eq!(state.ask(), Ask::Flame { event: 0, within, inline: true });
    press(&mut state, "\x1b\x1b");
    assert_eq!(state.ask(), Ask::Table { keys, within: Vec::new() });
    press(&mut state, "p");
    let processes = vec![Column::Domain, Column::Comm, Column::Pid];
    assert_eq!(state.ask(), Ask::Table { keys: processes, within: Vec::new() });
    press(&mut state, "p");
    assert_eq!(state.ask(), Ask::Table { keys: KEYS.to_vec(), within: Vec::new() });
    // Where there are none it is said.
    let mut state = State::new(Able { domains: false, live: false, ..able() }, "x");
    press(&mut state, "d");
    assert!(drawn(&mut state, 80, 10)[9].contains("there are no domains here"));
    press(&mut state, "z");
    assert!(drawn(&mut state, 80, 10)[9].contains("a file does not change"));
}

fn calls() -> Calls {
    let function = |name: &str| FunctionName {
        symbol: text(name),
        dso: Arc::from("prog"),
        path: Arc::from("/prog"),
        letter: '.',
        inlined: false,
    };
    let node = |id, period, nodes| Node { function: Some(FunctionId(id)), samples: period, period, own: 0, nodes };
    Calls {
        functions: vec![function("main"), function("query"), function("hash")],
        whole: 1000,
        period: 600,
        own: 400,
        callers: vec![node(1, 600, vec![node(0, 600, Vec::new())])],
        callees: vec![node(2, 200, Vec::new())],
    }
}

#[test]
fn calls_open_and_close() {
    let mut state = state();
    press(&mut state, "j\n");
    let of = RowOf {
        event: 0,
        keys: KEYS.to_vec(),
        within: Vec::new(),
        values: vec![text("db"), text("prog"), text("compare")],
    };
    assert_eq!(state.ask(), Ask::Calls { row: of, inline: true });
    state.give(&state.ask(), Page::Calls(Some(Box::new(calls()))));
    let tree = |state: &mut State| -> Vec<String> {
        let lines = drawn(state, 60, 12);
        lines[3..].iter().take_while(|line| !line.is_empty()).map(|line| line.trim_start().to_owned()).collect()
    };
    assert_eq!(
        drawn(&mut state, 80, 12)[2].trim(),
        "60.00% of all samples in it and in what it calls, 40.00% in itself"
    );
    assert_eq!(
        tree(&mut state),
        [
            "▾ Called from".to_owned(),
            format!("60.00%{:12}▸ [.] query", ""),
            "▾ Calls".to_owned(),
            format!("20.00%{:14}[.] hash", "")
        ]
    );
    press(&mut state, "j\n");
    assert_eq!(tree(&mut state)[2], format!("60.00%{:16}[.] main", ""));
    state.key(Key::Left);
    assert_eq!(tree(&mut state).len(), 4);
    state.key(Key::Right);
    assert_eq!(tree(&mut state).len(), 5);
    // Left of what cannot be closed leads to what it hangs from.
    press(&mut state, "j");
    state.key(Key::Left);
    press(&mut state, "\n");
    assert_eq!(tree(&mut state).len(), 4);
    press(&mut state, "/hash\na");
    assert_eq!(state.ask(), Ask::Code { dso: "prog".into(), symbol: "hash".into(), view: View::Assembly });
    press(&mut state, "\x1b");
    state.give(&state.ask(), Page::Calls(None));
    assert_eq!(drawn(&mut state, 60, 12)[2].trim(), "no samples any more");
    press(&mut state, "\x1b");
    assert_eq!(chosen(&state), "compare");
    // Without call chains it is said what to do.
    let mut state = State::new(Able { chains: false, ..able() }, "x");
    state.give(&state.ask(), table_page());
    press(&mut state, "\n");
    assert!(drawn(&mut state, 80, 10)[9].contains("there are no call chains: start with -g"));
}

fn graph() -> Graph {
    let frame = |name: &str, depth, start, share| Frame {
        name: name.into(),
        kind: if depth < 2 { Kind::Thread } else { Kind::User },
        depth,
        start,
        share,
        samples: (share * 100.0) as u64,
        period: (share * 1000.0) as u64,
        change: None,
    };
    let frames = vec![
        frame("all", 0, 0.0, 1.0),
        frame("db", 1, 0.0, 0.75),
        frame("main", 2, 0.0, 0.75),
        frame("compare", 3, 0.0, 0.5),
        frame("hash", 3, 0.5, 0.25),
        frame("web", 1, 0.75, 0.25),
    ];
    Graph { event: "cycles".into(), frames, ..Graph::default() }
}

#[test]
fn flame_graphs_are_walked_and_zoomed() {
    let mut state = state();
    press(&mut state, "f");
    assert_eq!(state.ask(), Ask::Flame { event: 0, within: Vec::new(), inline: true });
    state.give(&state.ask(), Page::Flame(graph()));
    let lines = drawn(&mut state, 40, 12);
    let level = format!("▏db{:27}▏web", "");
    let leaves = format!("▏compare{:12}▏hash", "");
    assert_eq!(lines[2..6], ["▏all", level.as_str(), "▏main", leaves.as_str()]);
    assert_eq!(lines[10], "100.00%  100 samples  thread  all");
    let at = |state: &mut State| drawn(state, 60, 12)[10].split("  ").last().unwrap().to_owned();
    for (key, expected) in [
        (Key::Down, "db"),
        (Key::Right, "web"),
        (Key::Right, "web"),
        (Key::Left, "db"),
        (Key::End, "compare"),
        (Key::Right, "hash"),
        (Key::Up, "main"),
        (Key::Home, "all"),
    ] {
        state.key(key);
        assert_eq!(at(&mut state), expected, "{key:?}");
    }
    press(&mut state, "jjj");
    state.key(Key::Right);
    press(&mut state, "\n");
    assert_eq!(drawn(&mut state, 40, 12)[2..6], ["▏all", "▏db", "▏main", "▏hash"]);
    // New samples come, and the same frame is chosen and fills the width.
    state.give(&state.ask(), Page::Flame(graph()));
    assert_eq!(at(&mut state), "hash");
    press(&mut state, "\x1b/hash\n");
    assert!(drawn(&mut state, 60, 12)[1].contains("\"hash\" 25.00%"));
    press(&mut state, "i");
    assert_eq!(drawn(&mut state, 40, 12)[9], "▏all");
    press(&mut state, "\x1b\x1b");
    assert!(matches!(state.ask(), Ask::Table { .. }));
}

#[test]
fn code_is_read_from_its_hottest_line_on() {
    let mut state = state();
    press(&mut state, "ja");
    let ask = |view| Ask::Code { dso: "prog".into(), symbol: "compare".into(), view };
    assert_eq!(state.ask(), ask(View::Assembly));
    let lines: Vec<(f64, String)> =
        [0.0, 20.0, 70.0, 10.0].iter().enumerate().map(|(at, &heat)| (heat, format!("line {at}"))).collect();
    state.give(&state.ask(), Page::Code(lines.clone()));
    let reversed = |state: &mut State| {
        let mut terminal = Terminal::new(TestBackend::new(30, 9)).unwrap();
        terminal.draw(|frame| state.draw(frame.buffer_mut())).unwrap();
        let buffer = terminal.backend().buffer();
        let is_chosen = |y: &u16| buffer[(0, *y)].modifier.contains(ratatui::style::Modifier::REVERSED);
        (0..9).find(is_chosen).map(|y| (0..6).map(|x| buffer[(x, y)].symbol()).collect::<String>()).unwrap()
    };
    assert_eq!(reversed(&mut state), "line 2");
    for expected in ["line 1", "line 3", "line 2"] {
        press(&mut state, "n");
        assert_eq!(reversed(&mut state), expected);
    }
    press(&mut state, "g/line 3\n");
    assert_eq!(reversed(&mut state), "line 3");
    press(&mut state, "v");
    assert_eq!(state.ask(), ask(View::Both));
    // A late answer is not taken for another.
    state.give(&ask(View::Assembly), Page::Code(lines));
    assert!(drawn(&mut state, 30, 9)[2].contains("reading the code"));
    press(&mut state, "v");
    assert_eq!(state.ask(), ask(View::Source));
}

#[test]
fn without_colour_and_without_unicode() {
    let plain = Able { color: false, unicode: false, ..able() };
    let mut state = State::new(plain, "x");
    state.give(&state.ask(), table_page());
    let styled = |state: &mut State| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        state.draw(&mut buffer);
        assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()), "{buffer:?}");
        let plain = ratatui::style::Color::Reset;
        assert!(buffer.content.iter().all(|cell| cell.fg == plain && cell.bg == plain));
    };
    styled(&mut state);
    press(&mut state, "f");
    state.give(&state.ask(), Page::Flame(graph()));
    styled(&mut state);
    press(&mut state, "\x1b\n");
    state.give(&state.ask(), Page::Calls(Some(Box::new(calls()))));
    styled(&mut state);
}

/// Names that want to do something to the terminal, or are too long for it.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\x1b[2J\x1b]0;owned\x07".to_owned()),
        Just("a\nb\r\tc\u{202e}d\u{0}".to_owned()),
        Just("x".repeat(10_000)),
        Just("\u{301}\u{1f600}漢".repeat(300)),
        Just(String::new()),
        ".{0,40}",
    ]
}

fn keys() -> impl Strategy<Value = Key> {
    prop_oneof![
        4 => any::<char>().prop_map(Key::Char),
        8 => prop::sample::select("jkgGsefaipd/ zn?vht+-".chars().collect::<Vec<_>>()).prop_map(Key::Char),
        8 => prop::sample::select(vec![
            Key::Up, Key::Down, Key::Left, Key::Right, Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Enter,
            Key::Escape, Key::Backspace, Key::Tab,
        ]),
    ]
}

/// The page of an ask, with this name in it everywhere; sometimes empty.
fn page(ask: &Ask, name: &str, empty: bool) -> Page {
    match ask {
        Ask::Table { keys, .. } => {
            let values: Vec<Value> = keys.iter().map(|_| text(name)).collect();
            let rows =
                vec![
                    Row { values, letter: 'k', samples: 1, period: u64::MAX, children: u64::MAX, ..Row::default() };
                    50
                ];
            let events = if empty { Vec::new() } else { vec![(name, rows.clone()), (name, rows)] };
            Page::Table { profile: profile_of(events, keys), trails: vec![vec![vec![u64::MAX; 60]; 50]; 2] }
        }
        Ask::Calls { .. } => {
            let mut calls = calls();
            calls.functions[1].symbol = text(name);
            // As deep as trees are made.
            let mut deep = Node { function: Some(FunctionId(9)), samples: 1, period: 1, own: 1, nodes: Vec::new() };
            for _ in 0..255 {
                deep = Node { function: Some(FunctionId(1)), samples: 1, period: 1, own: 0, nodes: vec![deep] };
            }
            calls.callers.push(deep);
            Page::Calls((!empty).then(|| Box::new(calls)))
        }
        Ask::Flame { .. } => {
            let mut graph = graph();
            for depth in 4..1000 {
                let frame = Frame { name: name.into(), depth, ..graph.frames[3].clone() };
                graph.frames.push(frame);
            }
            Page::Flame(if empty { Graph::default() } else { graph })
        }
        Ask::Code { view, .. } => {
            let lines = if empty { Vec::new() } else { vec![(50.0, format!("{view:?} {name}")); 30] };
            Page::Code(lines)
        }
        Ask::Timeline { event, of, cut } => {
            let of = of.keys(true).iter().map(|_| text(name)).collect::<Vec<_>>();
            let steps = match event {
                0 => Steps::States(vec![[u64::MAX, 3, 0, u64::MAX], [0; 4], [0, 0, 1, 0]]),
                _ => Steps::Samples(vec![u64::MAX; cut.steps]),
            };
            let rows = vec![Lane { of, steps }; 300];
            let lanes = Lanes { from: 0, step: u64::MAX, whole: (0, u64::MAX), rows };
            Page::Timeline(if empty { Lanes::default() } else { lanes }, name.to_owned())
        }
    }
}

/// Every screen by the keys that lead to it, and text that it shows where there is room.
const SCREENS: [(&str, &str, &str); 17] = [
    ("table", "", "Children"),
    ("filter prompt", "/na", "/na"),
    ("filtered", "/nothing has this\n", "no row has this in it"),
    ("processes", "p", "Pid"),
    ("domains", "d", "Domain"),
    ("callers and callees", "\n", "Called from"),
    ("closed tree", "\nh\n", "Calls"),
    ("search in the tree", "\n/ma", "/ma"),
    ("without inlined", "\nI", "without functions"),
    ("flame graph", "f", "all"),
    ("flame graph upside down", "fi", "all"),
    ("instructions", "a", "Assembly 50.00"),
    ("instructions and source", "av", "Both 50.00"),
    ("source alone", "avv", "Source 50.00"),
    ("timeline of states", "t", "waiting"),
    ("timeline of samples", "te", "the highest step"),
    ("help", "?", "choose a row"),
];

/// All of them, at every size from one cell on and in storms of sizes, with and without colours, Unicode and samples, with names that mean
/// harm: nothing breaks out, nothing overflows, and where there is room one sees what it is.
#[test]
fn every_screen_at_every_size() {
    let sizes: [(u16, u16); 9] = [(1, 1), (2, 2), (10, 3), (80, 24), (500, 200), (1, 200), (500, 1), (80, 24), (3, 9)];
    let hostile = format!("50.00 \x1b[2J\x07\u{202e}</script>{}", "std::vector<int> ".repeat(600));
    assert!(hostile.len() >= 10_000);
    for (flags, empty) in (0..8u8).flat_map(|flags| [(flags, false), (flags, true)]) {
        let able = Able { color: flags & 1 != 0, unicode: flags & 2 != 0, live: flags & 4 != 0, ..able() };
        for (screen, keys, shows) in SCREENS {
            let mut state = State::new(able.clone(), &hostile);
            state.set_status(Status { notes: vec![hostile.clone(); 3], title: "title".into(), ..Status::default() });
            state.give(&state.ask(), page(&state.ask(), &hostile, empty));
            for key in keys.chars() {
                press(&mut state, &key.to_string());
                let ask = state.ask();
                state.give(&ask, page(&ask, &hostile, empty));
            }
            for (width, height) in sizes {
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                state.draw(&mut buffer);
                let at = format!("{screen} at {width}x{height}, flags {flags}, empty {empty}");
                let text: String = buffer.content.iter().map(|cell| cell.symbol()).collect();
                assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{at}: {text:?}");
                assert!(able.unicode || text.is_ascii(), "{at}: {text:?}");
                let reset = ratatui::style::Color::Reset;
                let is_plain = buffer.content.iter().all(|cell| (cell.fg, cell.bg) == (reset, reset));
                assert!(able.color || is_plain, "{at}");
                if (width, height) == (80, 24) || (width, height) == (500, 200) {
                    assert!(text.trim().len() > 20, "{at}: {text:?}");
                    assert!(empty || text.contains(shows), "{at}: no {shows:?}: {text}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn nothing_breaks_at_any_size(
        sizes in prop::collection::vec((1u16..=500, 1u16..=200), 1..4),
        pressed in prop::collection::vec(keys(), 0..20),
        name in names(),
        empty in any::<bool>(),
        flags in any::<(bool, bool, bool)>(),
    ) {
        let able = Able { color: flags.0, unicode: flags.1, live: flags.2, ..able() };
        let mut state = State::new(able, &name);
        let mut pressed = pressed.into_iter();
        loop {
            let ask = state.ask();
            state.give(&ask, page(&ask, &name, empty));
            state.set_status(Status { title: name.clone(), doing: name.clone(), notes: vec![name.clone()], ..Status::default() });
            for &(width, height) in &sizes {
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                state.draw(&mut buffer);
                for cell in &buffer.content {
                    prop_assert!(!cell.symbol().contains(|c: char| c.is_control() || c == '\u{202e}'), "{:?}", cell.symbol());
                }
            }
            let Some(key) = pressed.next() else { break };
            state.key(key);
        }
    }
}
