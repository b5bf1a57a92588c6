use super::super::tests::{KEYS, able, drawn, press, profile_of, row, text};
use super::super::{Ask, Key, Page, State};
use super::*;

/// A recording of two events; `states`: the second is Xen's trace.
fn state(able: Able, states: bool) -> State {
    let mut state = State::new(able, "xprof report: t.data");
    let name = if states { STATES_EVENT } else { "faults" };
    let rows = || vec![row("db", "main", 10, 10)];
    let profile = profile_of(vec![("cycles", rows()), (name, rows())], &KEYS);
    state.give(&state.ask(), Page::Table { profile, trails: Vec::new() });
    state
}

fn file() -> Able {
    Able { live: false, ..able() }
}

/// Gives lanes as long as they are asked for: three vCPUs over 2 s that begin at 5 s.
fn give(state: &mut State) {
    let ask = state.ask();
    let Ask::Timeline { event, of, cut } = &ask else { panic!("{ask:?}") };
    let (from, to) = cut.window.unwrap_or((5_000_000_000, 7_000_000_000));
    let step = (to - from) / cut.steps as u64 + 1;
    let vcpus: [[u64; 4]; 3] = [[step, 0, 0, 0], [step / 4, step - step / 4, 0, 0], [0, 0, step, 0]];
    let lane = |(vcpu, what): (i64, [u64; 4])| {
        let of = match of {
            LanesOf::Vcpus => vec![text("web"), Value::Number(vcpu)],
            LanesOf::Cpus => vec![Value::Number(vcpu)],
            LanesOf::Domains => vec![text("web")],
            LanesOf::Programs => vec![text("web"), text("httpd")],
        };
        let steps = match event {
            1 => Steps::States((0..cut.steps).map(|at| if at % 10 == 9 { [0; 4] } else { what }).collect()),
            _ => Steps::Samples((0..cut.steps as u64).map(|at| at % 3 * 4).collect()),
        };
        Lane { of, steps }
    };
    let rows = (0..).zip(vcpus).map(lane).collect();
    let lanes = Lanes { from, step, whole: (5_000_000_000, 7_000_000_000), rows };
    state.give(&ask, Page::Timeline(lanes, String::new()));
}

/// A timeline, drawn: what is asked is as wide as the terminal.
fn shown(state: &mut State, width: u16, height: u16) -> Vec<String> {
    give(state);
    drawn(state, width, height);
    give(state);
    drawn(state, width, height)
}

fn times(state: &mut State, count: usize, key: Key) {
    for _ in 0..count {
        state.key(key);
    }
}

fn cut(state: &State) -> Cut {
    let Ask::Timeline { cut, .. } = state.ask() else { panic!("{:?}", state.ask()) };
    cut
}

#[test]
fn lanes_of_states_in_80_columns() {
    let mut state = state(file(), true);
    press(&mut state, "t");
    let lines = shown(&mut state, 80, 24);
    assert_eq!(lines[1], "timeline of vcpu-states by vCPU  0.000 to 2.000 s of 2.000 s  a step is 36.4 ms");
    assert_eq!(lines[2], "           █ running  ▒ waiting  = paused  · blocked                  run   wait");
    // 80 columns less the name, a space, and the sums; every tenth step is not known.
    let steps = |letter: &str| (0..55).map(|at| if at % 10 == 9 { " " } else { letter }).collect::<String>();
    assert_eq!(lines[3], format!("web vCPU 0 {} 100.0%   0.0%", steps("█")));
    assert_eq!(lines[4], format!("web vCPU 1 {}  25.0%  75.0%", steps("▒")));
    assert_eq!(lines[5], format!("web vCPU 2 {}   0.0%   0.0%", steps("·")));
    assert_eq!(lines[22], "1.090909 s  web vCPU 0  running 100%");
    state.key(Key::Down);
    assert_eq!(drawn(&mut state, 80, 24)[22], "1.090909 s  web vCPU 1  running 25%, waiting 75%");
    press(&mut state, "/0");
    assert!(drawn(&mut state, 80, 24)[3].starts_with("web vCPU 0") && drawn(&mut state, 80, 24)[4].is_empty());
    // Esc takes the filter away, then leaves.
    state.key(Key::Enter);
    press(&mut state, "\x1b");
    assert!(drawn(&mut state, 80, 24)[4].starts_with("web vCPU 1"));
    press(&mut state, "\x1b");
    assert!(matches!(state.ask(), Ask::Table { .. }));
}

#[test]
fn without_colour_and_without_unicode_states_are_letters() {
    let mut state = state(Able { color: false, unicode: false, ..file() }, true);
    press(&mut state, "t");
    let lines = shown(&mut state, 80, 24);
    assert!(lines.iter().all(|line| line.is_ascii()), "{lines:?}");
    assert_eq!(lines[2], "           # running  w waiting  p paused  . blocked                  run   wait");
    assert!(lines[3].starts_with("web vCPU 0 ######### ") && lines[4].starts_with("web vCPU 1 wwwwwwwww "));
    assert!(lines[5].starts_with("web vCPU 2 ......... "));
}

#[test]
fn time_is_zoomed_around_the_column_and_goes_by_halves() {
    let mut state = state(file(), true);
    press(&mut state, "t");
    shown(&mut state, 80, 24);
    assert_eq!(cut(&state), Cut { steps: 55, window: None });
    // The column in the middle stands for 1.09 s, and does so afterwards.
    press(&mut state, "+");
    let Some((from, to)) = cut(&state).window else { panic!("all of it") };
    assert_eq!((from, to), (5_545_454_545, 6_545_454_545));
    shown(&mut state, 80, 24);
    assert!(drawn(&mut state, 80, 24)[22].starts_with("1.0909"));
    press(&mut state, "\n\n");
    let (near, far) = cut(&state).window.unwrap();
    assert_eq!(far - near, 250_000_000);
    // To the left edge, and beyond by half of what is seen; never before the first sample.
    times(&mut state, 31, Key::Left);
    assert_eq!(cut(&state).window, Some((near - 125_000_000, far - 125_000_000)));
    times(&mut state, 1000, Key::Left);
    assert_eq!(cut(&state).window, Some((5_000_000_000, 5_250_000_000)));
    times(&mut state, 1000, Key::Right);
    assert_eq!(cut(&state).window, Some((6_750_000_000, 7_000_000_000)));
    press(&mut state, "-");
    assert_eq!(cut(&state).window, Some((6_500_000_000, 7_000_000_000)));
    press(&mut state, "--");
    assert_eq!(cut(&state).window, None);
    // As close as a nanosecond a step, and no closer.
    press(&mut state, &"+".repeat(99));
    let (near, far) = cut(&state).window.unwrap();
    assert_eq!(far - near, 55);
    press(&mut state, "\x1b");
    assert_eq!(cut(&state).window, None);
}

#[test]
fn what_lanes_are_of_follows_the_event() {
    let mut state = state(file(), true);
    press(&mut state, "t");
    give(&mut state);
    let of = |state: &State| {
        let Ask::Timeline { event, of, .. } = state.ask() else { panic!() };
        (event, of)
    };
    assert_eq!(of(&state), (1, LanesOf::Vcpus));
    press(&mut state, "v");
    assert_eq!(of(&state), (1, LanesOf::Domains), "a pCPU is in no state");
    press(&mut state, "v");
    assert_eq!(of(&state), (1, LanesOf::Vcpus));
    press(&mut state, "e");
    assert_eq!((of(&state), cut(&state).window), ((0, LanesOf::Vcpus), None));
    let lines = shown(&mut state, 80, 24);
    assert!(lines[2].contains("the highest step has 8"), "{}", lines[2]);
    assert!(lines[3].starts_with("web vCPU 0  ▄█ ▄█"), "{}", lines[3]);
    let named = ["CPU 0", "web", "web httpd"].map(|name| {
        press(&mut state, "v");
        shown(&mut state, 80, 24)[3].starts_with(name)
    });
    assert_eq!((named, of(&state)), ([true; 3], (0, LanesOf::Programs)));
    // Without the trace the event of the table, and without domains CPUs.
    let mut plain = self::state(Able { domains: false, ..file() }, false);
    press(&mut plain, "et");
    assert_eq!(of(&plain), (1, LanesOf::Cpus));
    // Of samples that come CPUs are not kept, and there is nothing to zoom.
    let mut live = self::state(able(), false);
    press(&mut live, "t");
    give(&mut live);
    assert_eq!(of(&live), (0, LanesOf::Domains));
    press(&mut live, "+v");
    assert_eq!((cut(&live).window, of(&live)), (None, (0, LanesOf::Programs)));
}

#[test]
fn no_lanes_and_why() {
    let mut state = state(file(), false);
    press(&mut state, "t");
    assert!(drawn(&mut state, 80, 24)[2].contains("reading when samples were taken"));
    let ask = state.ask();
    state.give(&ask, Page::Timeline(Lanes::default(), "standard input is read once".into()));
    assert!(drawn(&mut state, 80, 24)[2].contains("standard input is read once"));
    // Lanes of another width than the terminal's: a column is the steps that lie in it.
    let steps = Steps::Samples(vec![0, 0, 9, 9]);
    let lanes = Lanes { from: 0, step: 1, whole: (0, 4), rows: vec![Lane { of: vec![text("a")], steps }] };
    state.give(&ask, Page::Timeline(lanes, String::new()));
    let line = drawn(&mut state, 20, 24)[3].clone();
    assert!(line.ends_with("█████████") && line.contains("         █"), "{line:?}");
}
