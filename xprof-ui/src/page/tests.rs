use xprof_profile::profile::{EventProfile, FunctionId, FunctionName, Row, Stack, Timed, Unnamed, Value};

use super::*;

const EVIL: &str = "</script><b>\"&\u{7}";

/// A row and stacks on two CPUs, in two domains, with names that mean harm.
fn profile(samples: u64) -> (Profile, Stacks) {
    let text = |text: &str| Value::Text(text.into());
    let row = Row {
        values: vec![text("a"), text(EVIL)],
        letter: '.',
        samples,
        period: samples * 10,
        children: samples * 10,
        nodes: Vec::new(),
        chains: Vec::new(),
    };
    let unnamed = vec![Unnamed {
        path: "/bin/a".into(),
        dso: "a".into(),
        build_id: None,
        samples: 1,
        advice: format!("{EVIL}: install it"),
    }];
    let rows = if samples > 0 { vec![row] } else { Vec::new() };
    let profile = Profile {
        keys: vec![Key::Comm, Key::Symbol],
        has_children: true,
        trees: None,
        functions: Vec::new(),
        events: vec![EventProfile {
            name: "cycles".into(),
            samples,
            period: samples * 10,
            effective: samples,
            truncated: 3,
            completed: 0,
            lost: 2,
            rows,
        }],
        unnamed,
        damaged: 0,
        domains: Vec::new(),
        host: None,
    };
    let stack = |domain: &str, cpu| Stack {
        values: vec![text(domain), text("a"), Value::Number(cpu), text(EVIL)],
        functions: vec![FunctionId(0)],
        samples: samples / 2,
        period: samples * 5,
    };
    let timed = |time| Timed { time, period: 10, stack: (time % 2) as u32 };
    let function =
        FunctionName { symbol: text(EVIL), dso: "a".into(), path: "/bin/a".into(), letter: '.', inlined: false };
    let stacks = Stacks {
        keys: vec![Key::Domain, Key::Comm, Key::Cpu, Key::Symbol],
        functions: vec![function],
        events: vec![EventStacks {
            name: "cycles".into(),
            stacks: vec![stack(EVIL, 0), stack("web", 1)],
            samples: (0..samples).map(timed).collect(),
        }],
        unnamed: Vec::new(),
        damaged: 0,
        untimed: 0,
    };
    (profile, stacks)
}

fn drawn(samples: u64) -> String {
    let (profile, stacks) = profile(samples);
    of(&profile, &stacks)
}

fn of(profile: &Profile, stacks: &Stacks) -> String {
    let events: Vec<&EventStacks> = stacks.events.iter().filter(|event| !event.samples.is_empty()).collect();
    let table =
        table::Options { percent_limit: 0.0, children: true, color: false, notes: vec![format!("note {EVIL}")] };
    let environment = [("Command", EVIL.to_owned())];
    let page = Page { profile, table: &table, stacks, events: &events, title: EVIL, environment: &environment };
    let mut out = String::new();
    html(&page, &mut out);
    out
}

#[test]
fn names_act_on_nothing() {
    let page = drawn(1000);
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("</script>").count(), 1);
    assert!(!page.contains("<b>") && !page.contains('\u{7}'));
}

#[test]
fn every_part_is_there() {
    let page = drawn(1000);
    for id in ["summary", "warnings", "flame", "activity", "table", "environment"] {
        assert_eq!(page.matches(&format!("<section id=\"{id}\"")).count(), 1, "{id}");
    }
    assert!(page.contains("<li>2 samples were lost: they are in no table.</li>"));
    let cut = "<li>3 of 1000 stacks of cycles are larger than what was copied of them and end in [truncated].</li>";
    assert!(page.contains(cut));
    assert!(page.contains(r#"aria-label="CPU 1: 500 samples over time""#), "{page}");
    assert!(page.contains(r#"aria-label="web: 500 samples over time""#));
    assert!(
        page.contains(r#"<td class="n">100.00 %</td><td class="n">100.00 %</td><td class="n">1000</td><td>a</td>"#)
    );
}

#[test]
fn a_page_of_nothing_says_so() {
    let page = drawn(0);
    assert!(page.contains("<p>No samples.</p>") && page.ends_with("</html>\n"));
}

#[test]
fn one_of_several_events_is_chosen() {
    assert!(!drawn(1000).contains("<select") && !drawn(1000).contains("<div data-event"));
    let (profile, mut stacks) = profile(1000);
    let mut other = stacks.events[0].clone();
    other.name = EVIL.into();
    stacks.events.push(other);
    let page = of(&profile, &stacks);
    let options = r#"<option value="0">cycles</option><option value="1">&lt;/script&gt;&lt;b&gt;"#;
    assert!(page.contains(options), "{page}");
    // A picture, a legend and the samples over time of each.
    assert_eq!(page.matches("<svg xmlns").count(), 2);
    for event in 0..2 {
        assert_eq!(page.matches(&format!("<div data-event=\"{event}\">")).count(), 3);
    }
}

#[test]
fn long_names_and_deep_stacks_stay_small() {
    let (mut profile, mut stacks) = profile(1000);
    let name = Value::Text(format!("ns::f<{}>", "T</script>, ".repeat(1000)).into());
    profile.events[0].rows[0].values[1] = name.clone();
    stacks.functions[0].symbol = name;
    stacks.events[0].stacks.iter_mut().for_each(|stack| stack.functions = vec![FunctionId(0); 5000]);
    let page = of(&profile, &stacks);
    assert_eq!(page.matches("</script>").count(), 1);
    // The limit of a picture: names are shortened, and frames end where a picture does.
    assert!(page.len() < 2_000_000, "{}", page.len());
}
