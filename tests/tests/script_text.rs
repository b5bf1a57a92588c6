//! `xprof script` against `perf script`, line by line, on recordings made here by perf.

use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_tests::{run, stdout, storm, xprof};

/// Records with perf a shell that forks, execs, faults, reads and writes.
fn record(dir: &Path, options: &[&str]) -> PathBuf {
    let storm = storm(dir);
    let storm = storm.display();
    let work = format!(
        "for i in 1 2 3; do find /usr/share -maxdepth 2 -name 'a*' | sort | uniq -c | wc -l; done; \
         dd if=/dev/zero of=written bs=64k count=20 conv=fsync; {storm} faults 2000; {storm} deep 500 9; (exit 3); true"
    );
    let file = dir.join("perf.data");
    let mut perf = Command::new("perf");
    perf.args(["record", "-q", "-N"]).args(options).arg("-o").arg(&file).args(["--", "bash", "-c", &work]);
    let output = run(perf.current_dir(dir));
    assert!(file.exists(), "{perf:?}: {}", String::from_utf8_lossy(&output.stderr));
    file
}

fn text(program: &Path, file: &Path, options: &[&str]) -> String {
    stdout(Command::new(program).args(["script", "--no-inline", "-i"]).arg(file).args(options))
}

/// Runs both with `options` and holds their lines against each other; how many there were.
fn same(file: &Path, options: &[&str]) -> usize {
    let (perf, ours) = (text(Path::new("perf"), file, options), text(xprof(), file, options));
    for (number, (theirs, ours)) in perf.lines().zip(ours.lines()).enumerate() {
        assert_eq!(ours, theirs, "{options:?}, line {}", number + 1);
    }
    assert_eq!(ours.lines().count(), perf.lines().count(), "{options:?}");
    perf.lines().count()
}

#[test]
fn clock_samples() {
    let dir = tempfile::tempdir().unwrap();
    let file = record(dir.path(), &["-e", "cpu-clock", "-F", "5000"]);
    assert!(same(&file, &[]) > 10);
    for options in [&["--ns"][..], &["-F", "comm,pid,tid,ip,sym"], &["-F", "+misc,-period"], &["-F", "ip"]] {
        same(&file, options);
    }
    let perf = text(Path::new("perf"), &file, &["-F", "time"]);
    let times: Vec<_> = perf.lines().map(|line| line.trim().trim_end_matches(':')).collect();
    let (from, to) = (times[times.len() / 4], times[times.len() / 2]);
    same(&file, &["--time", &format!("{from},{to}")]);
    same(&file, &["--time", "10%-40%"]);
    assert!(same(&file, &["--reltime"]) > 10);
    assert!(same(&file, &["--deltatime"]) > 10);
    let names = text(Path::new("perf"), &file, &["-F", "ip,sym,dso"]);
    let line = names.lines().find(|line| line.contains("([kernel.kallsyms])") && !line.contains("[unknown]")).unwrap();
    assert!(same(&file, &["-S", line.split_whitespace().nth(1).unwrap()]) > 0);
    assert!(same(&file, &["--dsos", "[kernel.kallsyms]"]) > 0);
}

#[test]
fn page_faults_and_their_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let file = record(dir.path(), &["-e", "page-faults", "-c", "1", "-d", "-W"]);
    assert!(same(&file, &[]) > 1000);
    assert!(same(&file, &["-F", "+data_src,+weight"]) > 1000);
    let file = record(dir.path(), &["-e", "page-faults", "-c", "1", "-a", "-d", "--phys-data", "--data-page-size"]);
    assert!(same(&file, &["-F", "+phys_addr,+cpu,+data_page_size,-sym,-symoff"]) > 1000);
}

#[test]
fn registers() {
    let dir = tempfile::tempdir().unwrap();
    let file = record(dir.path(), &["-e", "cpu-clock", "-I", "--user-regs=ip,sp,bp"]);
    assert!(same(&file, &["-F", "+iregs,+uregs"]) > 10);
}

#[test]
fn several_events_and_cpus() {
    let dir = tempfile::tempdir().unwrap();
    let events = ["-a", "-e", "page-faults,sched:sched_process_exec,context-switches", "-c", "1"];
    assert!(same(&record(dir.path(), &events), &["-F", "-sym,-symoff"]) > 1000);
}

#[test]
fn side_band_records() {
    let dir = tempfile::tempdir().unwrap();
    let file = record(dir.path(), &["-e", "cpu-clock", "--switch-events", "-z"]);
    assert!(same(&file, &["--show-mmap-events", "--show-task-events", "--show-switch-events"]) > 50);
    // Where a copy ends before its stack, a mapping is declared while reading that is not shown.
    let file = record(dir.path(), &["-e", "page-faults", "-c", "20", "--call-graph", "dwarf,256"]);
    assert!(text(xprof(), &file, &[]).contains("[truncated]"));
    assert!(same(&file, &["-F", "comm,pid,tid,time,event", "--show-mmap-events"]) > 50);
}

/// Tracepoints of many kinds: the texts of their print formats.
#[test]
fn tracepoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut events = vec!["-a", "-m", "512"];
    let systems = "sched:*,irq:*,timer:*,signal:*,task:*,writeback:*,block:*,ext4:*,workqueue:*,exceptions:*,tlb:*";
    for system in systems.split(',') {
        events.extend(["-e", system]);
    }
    events.extend(["-e", "syscalls:sys_enter_openat", "-e", "raw_syscalls:sys_exit", "-e", "kmem:mm_page_alloc"]);
    assert!(same(&record(dir.path(), &events), &[]) > 1000);
}

/// Frame-pointer chains: inside of execs, and of idle CPUs, whose stacks begin in code that is not in the kernel's map.
#[test]
fn call_chains() {
    let kinds = [
        &["-e", "cpu-clock", "-F", "2000", "-g"][..],
        &["-e", "page-faults", "-c", "1", "-g", "-z"],
        &["-a", "-e", "sched:sched_switch", "-g"],
    ];
    for options in kinds {
        let dir = tempfile::tempdir().unwrap();
        let file = record(dir.path(), options);
        // Of the machine only what is the same everywhere: its idle tasks.
        let whose: &[&str] = if options[0] == "-a" { &["--pid", "0"] } else { &[] };
        let (perf, ours) = (text(Path::new("perf"), &file, whose), text(xprof(), &file, whose));
        // On a busy machine no CPU is idle.
        assert!(!whose.is_empty() || perf.lines().count() > 10, "{options:?}");
        assert_eq!(ours.lines().count(), perf.lines().count(), "{options:?}");
        if options.contains(&"page-faults") {
            same(&file, &["-G", "-f"]);
            same(&file, &["--max-stack", "3", "-F", "comm,tid,time,ip"]);
        }
        // perf 6.1 has no names for entries of .plt.sec.
        for (ours, theirs) in ours.lines().zip(perf.lines()).filter(|(ours, _)| !ours.contains("@plt+")) {
            assert_eq!(ours, theirs, "{options:?}");
        }
    }
}

/// A sample that reads a group stands for one of each member.
#[test]
fn groups_that_are_read() {
    let dir = tempfile::tempdir().unwrap();
    // A sample each 100 us, of the shell alone: perf reads groups without inheritance.
    let options = ["-e", "{cpu-clock,page-faults}:S", "-c", "100000"];
    let file = record(dir.path(), &options);
    assert!(same(&file, &[]) > 10);
}

/// Every form has the same samples.
#[test]
fn structured_forms() {
    let dir = tempfile::tempdir().unwrap();
    let file = record(dir.path(), &["-e", "cpu-clock,sched:sched_process_exec", "-g"]);
    let heads = text(xprof(), &file, &["-F", "comm,tid,time"]);
    let heads: Vec<_> = heads.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let json = text(xprof(), &file, &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["schema"], 1);
    let samples = json["samples"].as_array().expect("a list");
    assert_eq!(samples.iter().filter_map(|s| s["comm"].as_str()).collect::<Vec<_>>(), heads);
    let csv = text(xprof(), &file, &["--format", "csv"]);
    assert_eq!(csv.lines().skip(1).filter_map(|row| row.split(',').nth(1)).collect::<Vec<_>>(), heads);
    let chains = samples.iter().filter(|s| s["callchain"].as_array().is_some_and(|c| !c.is_empty())).count();
    let exec = samples.iter().find(|s| s["event"] == "sched:sched_process_exec").expect("an exec");
    assert!(exec["trace"].as_str().is_some_and(|t| t.starts_with("filename=")), "{exec}");
    assert_eq!(chains, samples.len());
}

/// What a recording says of itself, but for the topology of the machine, which only perf shows.
#[test]
fn headers() {
    let kinds = [
        &["-e", "cpu-clock", "-g"][..],
        &["-e", "{cpu-clock,page-faults}:S", "-k", "mono", "-z", "--call-graph", "dwarf", "-W"],
        &["-a", "-e", "sched:sched_switch,cpu-clock:u", "-c", "1000000"],
    ];
    for options in kinds {
        let dir = tempfile::tempdir().unwrap();
        let file = record(dir.path(), options);
        for command in ["script", "report"] {
            let header = |program: &Path, option: &str| {
                let mut run = Command::new(program);
                run.args([command, option, "-i"]).arg(&file).args((command == "report").then_some("--stdio"));
                stdout(&mut run).replace("perf report --header-only -I displays it", "use -I to display")
            };
            let (perf, ours) = (header(Path::new("perf"), "--header-only"), header(xprof(), "--header-only"));
            assert_eq!(ours, perf, "{command} {options:?}");
            assert!(header(xprof(), "--header").starts_with(&perf));
        }
    }
}
