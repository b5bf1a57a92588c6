use xprof_profile::profile::{
    Chain, EventProfile, FunctionId, FunctionName, Key, Node, Order, Profile, Row, Trees, Unnamed, Value,
};

use super::*;

fn row(comm: &str, symbol: Value, samples: u64, period: u64, children: u64) -> Row {
    Row {
        values: vec![Value::Text(comm.into()), symbol],
        letter: '.',
        samples,
        period,
        children,
        nodes: Vec::new(),
        chains: Vec::new(),
    }
}

fn profile() -> Profile {
    Profile {
        keys: vec![Key::Comm, Key::Symbol],
        has_children: true,
        trees: None,
        functions: Vec::new(),
        events: vec![EventProfile {
            effective: 1500,
            truncated: 0,
            completed: 0,
            name: "cpu-clock:u".into(),
            samples: 1500,
            period: 3000,
            lost: 2,
            rows: vec![
                row("a", Value::Text("main".into()), 500, 1000, 3000),
                row("a\x1b[2J", Value::Text("f(int, \"x\")".into()), 999, 1998, 1998),
                row("b", Value::Address(0x1234), 1, 2, 2),
            ],
        }],
        unnamed: vec![Unnamed {
            path: "/bin/b".into(),
            dso: "b".into(),
            build_id: None,
            samples: 1,
            advice: "/bin/b: install b-dbgsym".into(),
        }],
        damaged: 0,
        domains: Vec::new(),
        host: None,
    }
}

fn options() -> Options {
    Options { percent_limit: 0.0, children: true, color: false, notes: vec!["partial: killed".into()] }
}

#[test]
fn text_has_aligned_columns_and_no_escapes() {
    let mut out = String::new();
    text(&profile(), &options(), &mut out);
    assert_eq!(
        out,
        r#"#
# Total Lost Samples: 2
#
# Samples: 1K  of event 'cpu-clock:u'
# Event count (approx.): 3000
#
# Children      Self     Samples  Command     Symbol
# ........  ........  ..........  ..........  ......................
#
   100.00%    33.33%         500  a           [.] main
    66.60%    66.60%         999  a\u{1b}[2J  [.] f(int, "x")
     0.07%     0.07%           1  b           [.] 0x0000000000001234

# 1 samples without names: /bin/b: install b-dbgsym
# partial: killed
"#
    );
}

#[test]
fn json_has_the_promised_keys() {
    let mut out = String::new();
    json(&profile(), &Options { percent_limit: 1.0, ..options() }, &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(got["schema"], 1);
    let event = &got["events"][0];
    assert_eq!(
        (event["samples"].as_u64(), event["period"].as_u64(), event["lost"].as_u64()),
        (Some(1500), Some(3000), Some(2))
    );
    assert_eq!(event["rows"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        event["rows"][1].to_string(),
        r#"{"comm":"a\u001b[2J","symbol":"f(int, \"x\")","samples":999,"period":1998,"self":66.6,"children":66.6}"#
    );
}

#[test]
fn csv_is_one_line_a_row() {
    let mut out = String::new();
    csv(&profile(), &options(), &mut out);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "comm,symbol,samples,period,self,children");
    assert_eq!(lines[2], "a\\u{1b}[2J,\"f(int, \"\"x\"\")\",999,1998,66.6000,66.6000");
    assert_eq!(lines.len(), 4);
}

#[test]
fn the_time_of_domains_that_was_seen_is_said() {
    use xprof_profile::profile::{DomainTime, Seen};
    let seen = Seen { running: 600_000_000, preempted: 300_000_000, unseen: 100_000_000, torn: 2, width: 9 };
    let time = |name: &str| DomainTime { name: name.into(), seen, ..DomainTime::default() };
    let mut many = profile();
    many.domains = (0..22).map(|at| time(&format!("d{at}"))).collect();
    let lines = domain_lines(&many);
    assert_eq!(
        lines[0],
        "Domain d0: 1.000 s of vCPU time: 60.0% seen running, 30.0% preempted, 10.0% unseen; 2 stacks may be of two moments"
    );
    assert!(lines[20].starts_with("Domains: 2 more: 2.000 s of vCPU time: 60.0%"), "{}", lines[20]);
    let mut out = String::new();
    json(&many, &options(), &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(got["domains"].as_array().map(Vec::len), Some(22));
    assert_eq!(got["domains"][3]["unseen_ns"], 100_000_000);
}

#[test]
fn the_books_of_a_host_are_shown() {
    use std::collections::BTreeMap;
    use xprof_perfdata::domain::{Domain, IDLE, REST};
    use xprof_profile::profile::{DomainTime, HostTime, Seen, TraceFacts, VcpuStates};
    let time = |name: &str, id: u32, running: u64, waited: &[(u32, u64)]| DomainTime {
        name: name.into(),
        domain: Some(Domain { id, ..Domain::default() }),
        seen: Seen { running, ..Seen::default() },
        waited: waited.to_vec(),
        states: BTreeMap::new(),
    };
    let mut whole = profile();
    whole.host = Some(HostTime { pcpus: 2, wall: 5_000_000_000, whole: true, ..HostTime::default() });
    whole.domains = vec![
        time("[idle]", IDLE, 6_000_000_000, &[]),
        time("web", 3, 3_990_000_000, &[(0, 500_000_000), (1, 0)]),
        time("[not accounted for]", REST, 5_000_000, &[]),
    ];
    let lines = domain_lines(&whole);
    assert_eq!(
        lines,
        [
            "Host: 2 pCPUs x 5.000 s = 10.000 s: domains 39.9%, idle 60.0%, not accounted for 0.1%, together 99.95%",
            "Domain web: 3.990 s of vCPU time: 100.0% seen running, 0.0% preempted, 0.0% unseen; waited for a pCPU (sampled): vCPU 0 10.0%, vCPU 1 0.0%",
        ]
    );
    // Of a hundred vCPUs those are named that waited most.
    let mut many = whole.clone();
    many.domains[1].waited = (0..100).map(|vcpu| (vcpu, if vcpu % 12 == 11 { 50_000_000 } else { 0 })).collect();
    let waited = domain_lines(&many)[1].split_once("(sampled): ").unwrap().1.to_owned();
    assert_eq!(waited, (0..8).map(|n| format!("vCPU {} 1.0%, ", n * 12 + 11)).collect::<String>() + "..");
    let mut out = String::new();
    json(&whole, &options(), &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&got["host"]["pcpu_ns"], &got["host"]["sum_ns"]),
        (&10_000_000_000u64.into(), &9_995_000_000u64.into())
    );
    assert_eq!(got["domains"][0]["waited_sampled"][0]["waited_ns"], 500_000_000);
    assert_eq!(got["domains"].as_array().map(Vec::len), Some(1));

    // By Xen's trace waiting is exact, and said to be.
    let mut states = VcpuStates { ns: [1_000_000_000, 250_000_000, 3_750_000_000, 0], ..VcpuStates::default() };
    states.taken.insert(("db".into(), 3), (7, 200_000_000));
    states.exits.extend([(0x6e, 90), (0x999, 10)]);
    whole.domains[1].states.insert(1, states);
    let trace = TraceFacts { error: 12_300, lost: 4, unknown: 500_000_000, svm: true };
    whole.host = Some(HostTime { pcpus: 2, wall: 5_000_000_000, trace: Some(trace), ..HostTime::default() });
    let lines = domain_lines(&whole);
    assert!(
        lines[0].ends_with(
            "; waited for a pCPU (exact): vCPU 1 5.0%; after its pCPU went to: db 0.200 s; 100 exits: RDTSC 90, 0x999 10"
        ),
        "{}",
        lines[0]
    );
    assert!(lines.iter().any(|l| l == "Xen's trace: times are right by 12.3 us, 4 records lost, 0.500 s not known"));
    out.clear();
    json(&whole, &options(), &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    let of_vcpu = &got["domains"][0]["states"][0];
    assert_eq!((&of_vcpu["waiting_ns"], &of_vcpu["blocked_ns"]), (&250_000_000.into(), &3_750_000_000u64.into()));
    assert_eq!(of_vcpu["pcpu_went_to"][0]["domain"], "db");
    assert_eq!((&of_vcpu["exits"][0]["name"], &got["host"]["trace"]["error_ns"]), (&"RDTSC".into(), &12_300.into()));
}

/// A profile of main, which calls f (once, and g from there) and itself; `order` as asked.
fn trees(order: Order, has_children: bool) -> Profile {
    let node = |function: Option<u32>, period, own, nodes| Node {
        function: function.map(FunctionId),
        samples: period / 2,
        period,
        own,
        nodes,
    };
    let name = |symbol: &str| FunctionName {
        symbol: Value::Text(symbol.into()),
        dso: "a.out".into(),
        path: "/bin/a.out".into(),
        letter: '.',
        inlined: false,
    };
    let mut profile = profile();
    let below_f = vec![node(Some(2), 1000, 1000, vec![]), node(Some(3), 600, 600, vec![]), node(None, 8, 8, vec![])];
    let f = vec![node(Some(1), 2000, 392, below_f)];
    let event = &mut profile.events[0];
    event.rows.truncate(1);
    event.rows[0].nodes = if has_children { f } else { vec![node(Some(0), 1000, 0, f)] };
    event.rows[0].chains = vec![Chain { functions: vec![FunctionId(2), FunctionId(0)], period: 1500 }];
    profile.unnamed.clear();
    profile.functions = ["main", "f", "g\n", "h"].map(name).into();
    profile.has_children = has_children;
    profile.trees = Some(Trees { order, limit: 0.5, inline: true });
    profile
}

fn drawn(profile: &Profile) -> String {
    let mut out = String::new();
    text(profile, &Options { notes: Vec::new(), children: profile.has_children, ..options() }, &mut out);
    out.split_once("#\n  ").unwrap().1.to_owned()
}

#[test]
fn trees_look_as_perfs_do() {
    assert_eq!(
        drawn(&trees(Order::Caller, true)),
        r#" 100.00%    33.33%         500  a        [.] main
            |
            ---main
               |
                --66.67%--f
                          |
                          |--33.33%--g\u{a}
                          |
                          |--20.00%--h
                          |
                           --0.27%--[...]


"#
    );
    assert!(
        drawn(&trees(Order::Caller, false))
            .contains("[.] main\n            |\n            ---main\n               |\n                --66.67%--f\n")
    );
    assert!(
        drawn(&trees(Order::Flat, true))
            .contains("            50.00%\n                 g\\u{a}\n                 main\n")
    );
}

#[test]
fn trees_in_json_and_csv() {
    let mut out = String::new();
    json(&trees(Order::Callee, true), &options(), &mut out);
    let got: serde_json::Value = serde_json::from_str(&out).unwrap();
    let f = &got["events"][0]["rows"][0]["callers"][0];
    assert_eq!(f["symbol"], "f");
    assert_eq!((f["samples"].as_u64(), f["period"].as_u64()), (Some(1000), Some(2000)));
    assert_eq!(
        f["callers"][1].to_string(),
        r#"{"symbol":"h","dso":"a.out","samples":300,"period":600,"self":20.0,"children":20.0,"callers":[]}"#
    );
    let mut out = String::new();
    csv(&trees(Order::Caller, true), &options(), &mut out);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "comm,symbol,samples,period,self,children,stack");
    assert_eq!(lines[1], "a,main,500,1000,33.3333,100.0000,");
    assert_eq!(lines[2], "a,main,1000,2000,13.0667,66.6667,f");
    assert_eq!(lines[4], "a,main,300,600,20.0000,20.0000,f;h");
}
