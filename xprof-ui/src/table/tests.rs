use xprof_profile::profile::{EventProfile, Key, Profile, Row, Unnamed, Value};

use super::*;

fn row(comm: &str, symbol: Value, samples: u64, period: u64, children: u64) -> Row {
    Row { values: vec![Value::Text(comm.into()), symbol], letter: '.', samples, period, children }
}

fn profile() -> Profile {
    Profile {
        keys: vec![Key::Comm, Key::Symbol],
        has_children: true,
        events: vec![EventProfile {
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
        unnamed: vec![Unnamed { path: "/bin/b".into(), samples: 1, advice: "/bin/b: install b-dbgsym".into() }],
        damaged: 0,
        domains: Vec::new(),
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
    assert_eq!(lines[2], "a\u{1b}[2J,\"f(int, \"\"x\"\")\",999,1998,66.6000,66.6000");
    assert_eq!(lines.len(), 4);
}

#[test]
fn the_time_of_domains_that_was_seen_is_said() {
    use xprof_profile::profile::{DomainTime, Seen};
    let seen = Seen { running: 600_000_000, preempted: 300_000_000, unseen: 100_000_000, torn: 2 };
    let time = |name: &str| DomainTime { name: name.into(), domain: None, seen };
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
