//! `xprof msr` and what counts through the contract, where no counters are needed: the simulated machine, class tables, and a
//! device that fails.

use std::process::{Command, Output};

use serde_json::Value;
use xprof_tests::{run, stdout, xprof};

fn msr(args: &[&str]) -> Output {
    run(Command::new(xprof()).arg("msr").args(args))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON document of a call, and its exit status.
fn call(args: &[&str]) -> (Value, i32) {
    let output = msr(&[args, &["--format", "json"]].concat());
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}"));
    (json, output.status.code().unwrap())
}

#[test]
fn batches_stop_at_the_first_bad_entry() {
    let simulated = ["--backend", "simulated"];
    let (json, status) = call(&[&["read"][..], &simulated].concat());
    assert_eq!((&json["count"], &json["failed"], status), (&0.into(), &Value::Null, 0));
    let (json, status) =
        call(&[&["write", "IA32_PMC1=5", "IA32_PMC1=7", "0x186=0x200000", "0xc1=1"][..], &simulated].concat());
    assert_eq!((&json["schema"], &json["call"], &json["class"]), (&1.into(), &"write".into(), &"perf".into()));
    assert_eq!((&json["count"], &json["failed"], status), (&2.into(), &2.into(), 1));
    let entry = |at: usize, key: &str| json["entries"][at][key].clone();
    assert_eq!((entry(1, "value"), entry(1, "done"), entry(1, "status")), (7.into(), true.into(), 0.into()));
    assert_eq!((entry(2, "fault"), entry(2, "status")), ("a reserved bit would change".into(), (-22).into()));
    assert_eq!((entry(3, "done"), entry(3, "status")), (false.into(), Value::Null));
    // A write leaves its values as they were given.
    let (json, _) = call(&[&["write", "IA32_PMC0=-100000"][..], &simulated].concat());
    assert_eq!(json["entries"][0]["value"], (-100_000i64) as u64);
    let many = vec!["0x10"; 129];
    let output = msr(&[&["read"][..], &simulated, &many].concat());
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("129 entries"), "{output:?}");
    for (args, fault) in
        [(["read", "0x1a0"], "no such register in the class"), (["write", "0x10=1"], "the register is read-only")]
    {
        let (json, status) = call(&[&args[..], &simulated].concat());
        assert_eq!((&json["entries"][0]["fault"], status), (&fault.into(), 1));
    }
    let text_of = text(&msr(&[&["read", "IA32_TSC", "IA32_PERFEVTSEL1", "0x1a0"][..], &simulated].concat()).stdout);
    assert_eq!(text_of.lines().count(), 4, "{text_of}");
    assert!(text_of.ends_with(
        "read: 2 of 3 done on CPU 0 (simulated, perfmon-v2)\nentry 2, 0x1a0: no such register in the class\n"
    ));
}

#[test]
fn calls_without_sense_are_usage_errors() {
    for args in [
        &["read", "0x10=5"][..],
        &["write", "0x186"],
        &["write", "0x186=zz"],
        &["read", "NO_SUCH_NAME"],
        &["classes", "--family", "z80"],
        &["write", "--family", "p6", "0xc1=1"],
        &["read", "--scope", "unavailable"],
        &["allocate", "0x10"],
    ] {
        let output = msr(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
    // Xen is a backend, which this machine need not be: it reads, or says that there is no Xen and what would be next.
    let xen = msr(&["read", "--backend", "xen", "0x10"]);
    match std::path::Path::new("/dev/xen/privcmd").exists() {
        true => assert_eq!(xen.status.code(), Some(0), "{xen:?}"),
        false => {
            let said = text(&xen.stderr);
            assert!(xen.status.code() == Some(125) && xen.stdout.is_empty(), "{xen:?}");
            assert!(said.starts_with("xprof: ") && said.contains("Xen") && said.contains("\n  try:   "), "{said}");
        }
    }
    let refused =
        msr(&["read", "--backend", "simulated", "--class", "debug", "--scope", "global", "--cpu", "99", "0x1d9"]);
    assert_eq!(refused.status.code(), Some(125), "{refused:?}");
}

#[test]
fn every_table_is_printed_in_every_form() {
    let listed = text(&msr(&["classes", "--family", "?"]).stderr);
    let families: Vec<&str> = listed.rsplit_once("families are ").unwrap().1.trim().split(", ").collect();
    assert!(families.contains(&"netburst") && families.contains(&"pmuv3") && families.len() >= 20, "{families:?}");
    for family in families {
        let of = |format: &str| {
            stdout(Command::new(xprof()).args(["msr", "classes", "--family", family, "--format", format]))
        };
        let json: Value = serde_json::from_str(&of("json")).unwrap();
        let rows = json["registers"].as_array().unwrap().len();
        assert_eq!((json["schema"].clone(), json["family"].clone()), (1.into(), family.into()));
        assert_eq!(of("csv").lines().count(), rows + 1, "{family}");
        assert_eq!(of("text").lines().filter(|line| !line.starts_with('#')).count(), rows, "{family}");
    }
    let debug = stdout(
        Command::new(xprof()).args(["msr", "classes", "--family", "amd-17h", "--class", "debug", "--format", "csv"]),
    );
    assert!(debug.lines().skip(1).all(|line| line.starts_with("debug,")), "{debug}");
    assert!(debug.contains("debug,DR0_ADDR_MASK,other,0xc0011027,1,1,32,0xffffffff00000000,0x0,rw,"), "{debug}");
}

/// A million cycles a period, 50 million cycles: every period interrupts, in the order of time.
#[test]
fn interrupts_come_period_by_period() {
    let interrupts = |options: &[&str]| {
        let machine = ["--backend", "simulated:seconds=0.05", "--scope", "global", "--format", "csv"];
        let registers = ["0xc1=-1000000", "0x186=0x53003c", "0x38f=1"];
        stdout(Command::new(xprof()).args(["msr", "irq"]).args(machine).args(options).args(registers))
    };
    let output = interrupts(&["--rearm"]);
    let rows: Vec<Vec<&str>> = output.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert!(rows.len() == 49 || rows.len() == 50, "{} interrupts:\n{output}", rows.len());
    assert!(rows.iter().all(|row| row[1] == "0" && row[5] == "0x1"), "{output}");
    let times: Vec<u64> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000_000), "{output}");
    // The same machine again.
    assert_eq!(interrupts(&["--rearm"]), output);
    // The first one masks, and nobody rearms.
    assert_eq!(interrupts(&[]).lines().collect::<Vec<_>>(), output.lines().take(2).collect::<Vec<_>>());
}

#[test]
fn no_interrupt_is_explained() {
    let registers = ["0xc1=-1000000", "0x186=0x53003c"];
    let output = msr(&[&["irq", "--backend", "simulated:seconds=0.05", "--scope", "global"], &registers[..]].concat());
    assert!(text(&output.stderr).contains("IA32_PERF_GLOBAL_CTRL enables no counter"), "{output:?}");
}

/// One domain's scope is another's refusal.
#[test]
fn the_simulated_machine_holds_to_scopes() {
    let at = |args: &[&str]| msr(&[&["read", "0x10", "--backend", "simulated"], args].concat());
    assert_eq!(at(&["--domain", "1"]).status.code(), Some(0));
    let missing = at(&["--domain", "77"]);
    assert_eq!(missing.status.code(), Some(125), "{missing:?}");
    assert!(text(&missing.stderr).contains("domain 77"), "{missing:?}");
    let given = msr(&["allocate", "--backend", "simulated", "--domain", "1", "--scope", "global"]);
    assert_eq!(text(&given.stdout), "allocate: domain 1 had the perf class GLOBAL, until this ended\n");
}

/// Reads at low addresses of a process's memory fail as a register's that faults: EIO.
#[test]
fn a_device_that_fails_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (devices, journals) = (at("cpu"), at("journals"));
    let read = |register: &str| {
        msr(&[
            "read",
            "--backend",
            "msr",
            "--family",
            "perfmon-v2",
            "--devices",
            &devices,
            "--journals",
            &journals,
            register,
        ])
    };
    let missing = read("0x186");
    assert_eq!(missing.status.code(), Some(125), "{missing:?}");
    assert!(text(&missing.stderr).contains("0/msr: No such file"), "{missing:?}");
    std::fs::create_dir_all(dir.path().join("cpu/0")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("cpu/0/msr")).unwrap();
    let faults = read("0x186");
    assert_eq!(faults.status.code(), Some(1), "{faults:?}");
    assert!(
        text(&faults.stdout).ends_with("entry 0, 0x186 IA32_PERFEVTSEL0: the CPU refused the access\n"),
        "{faults:?}"
    );
    assert!(text(&faults.stderr).contains("#GP"), "{faults:?}");
    // Not in the table, and not read.
    assert!(text(&read("0x1a0").stdout).contains("no such register in the class"));
    assert_eq!(std::fs::read_dir(&journals).unwrap().count(), 0);
}

#[test]
fn what_was_left_changed_is_shown_and_undone() {
    let dir = tempfile::tempdir().unwrap();
    let journals = dir.path().to_str().unwrap().to_owned();
    let restore = |format: &str| {
        run(Command::new(xprof()).args([
            "doctor",
            "--restore",
            "--journals",
            &journals,
            "--devices",
            "/nonexistent",
            "--format",
            format,
        ]))
    };
    assert_eq!(text(&restore("text").stdout), "nothing was left changed\n");
    std::fs::write(dir.path().join("0-Perf"), "0 186 0 5300c0\n0 186 5300c0 5300c4\n0 c1 7 ").unwrap();
    let output = restore("text");
    assert_eq!(output.status.code(), Some(125), "no device, nothing undone: {output:?}");
    assert!(text(&output.stdout).contains("CPU 0 0x186"), "{output:?}");
    assert!(text(&output.stdout).contains("was 0x0, left at 0x5300c4"), "{output:?}");
    assert!(dir.path().join("0-Perf").exists());
}

#[test]
fn the_simulated_machine_counts_the_same_every_time() {
    let count = |options: &[&str]| -> Value {
        let args = ["-q", "stat", "--backend", "simulated:seconds=2", "--format", "json"];
        serde_json::from_str(&stdout(Command::new(xprof()).args(args).args(options))).unwrap()
    };
    let (first, again) = (count(&[]), count(&[]));
    assert_eq!(first["events"], again["events"]);
    let value =
        |name: &str| first["events"].as_array().unwrap().iter().find(|e| e["event"] == name).unwrap()["value"].as_u64();
    // Two CPUs, two seconds, one cycle a ns.
    assert_eq!((value("cpu-clock"), value("cycles")), (Some(4_000_000_000), Some(4_000_000_000)));
    let by_cpu = count(&["-A", "-a", "-e", "cycles"]);
    let values: Vec<_> =
        by_cpu["events"].as_array().unwrap().iter().map(|e| (e["cpu"].clone(), e["value"].clone())).collect();
    assert_eq!(values, [(0.into(), 2_000_000_000u64.into()), (1.into(), 2_000_000_000u64.into())]);
}

#[test]
fn what_does_not_exist_is_named() {
    let refused = |options: &[&str], status, words: &str| {
        let output = run(Command::new(xprof()).args(options));
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.contains(words)), (Some(status), true), "{options:?}: {said}");
    };
    refused(&["msr", "read", "--cpu", "9999", "0x10"], 125, "CPU 9999 does not exist");
    refused(&["msr", "read", "--cpu", "9999", "0x10"], 125, "the CPUs online are");
    refused(&["msr", "read", "--vcpu", "0", "0x10"], 2, "--cpu N");
    refused(&["stat", "-C", "9999", "-e", "cpu-clock", "true"], 125, "the CPUs online are");
    let simulated = ["msr", "read", "--backend", "simulated", "0x10"];
    refused(&[&simulated[..], &["--domain", "99"]].concat(), 125, "the domains 0, 1, 2");
    refused(&[&simulated[..], &["--cpu", "2"]].concat(), 125, "CPUs 0 to 1");
    refused(&[&simulated[..], &["--vcpu", "2"]].concat(), 125, "CPUs 0 to 1");
}
