//! `xprof report` sums equal perf's, for recordings made by perf with many options.

use std::path::Path;
use std::process::Command;

use xprof_tests::oracle::assert_equal;
use xprof_tests::{run, storm, tree};

/// Records with perf; panics with perf's words when that fails.
fn record(dir: &Path, name: &str, options: &[&str], command: &str) -> std::path::PathBuf {
    let file = dir.join(name);
    let mut perf = Command::new("perf");
    perf.args(["record", "-N"]).args(options).arg("-o").arg(&file).args(["--", "bash", "-c", command]);
    let output = run(perf.current_dir(dir));
    assert!(output.status.success(), "{perf:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    file
}

/// All keys whose sums have to be exactly perf's.
fn same(file: &Path) {
    for keys in [&["comm", "dso"][..], &["comm"], &["tid"], &["dso"], &["comm", "tid", "dso"]] {
        assert_equal(file, keys);
    }
}

/// The same, and by process.
fn same_and_by_process(file: &Path) {
    same(file);
    assert_equal(file, &["pid"]);
}

/// Processes that fork, exec, thread, and die.
fn busy(dir: &Path) -> String {
    let storm = storm(dir);
    let storm = storm.display();
    format!(
        "for i in 1 2 3 4 5; do ls -R {} >/dev/null; {storm} faults 2000; (exec -a renamed {storm} deep 500 9); done; {storm} spin 30000000",
        tree().join("xprof").display()
    )
}

#[test]
fn plain_and_with_frame_pointers() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    same_and_by_process(&record(dir.path(), "plain", &["-e", "cpu-clock", "-F", "5000"], &busy));
    same_and_by_process(&record(dir.path(), "fp", &["-e", "cpu-clock", "-F", "5000", "-g"], &busy));
}

#[test]
fn every_page_fault() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    same_and_by_process(&record(dir.path(), "faults", &["-e", "page-faults", "-c", "1"], &busy));
    same_and_by_process(&record(dir.path(), "addr", &["-e", "page-faults", "-c", "1", "-d", "-g"], &busy));
}

#[test]
fn several_events() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    let events = ["-e", "cpu-clock,page-faults,context-switches,sched:sched_process_exec"];
    same(&record(dir.path(), "events", &events, &busy));
    same(&record(dir.path(), "raw", &["-e", "raw_syscalls:sys_enter", "-c", "7"], &busy));
}

#[test]
fn a_group_sampled_by_its_leader() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    same(&record(dir.path(), "group", &["-e", "{cpu-clock,page-faults,minor-faults}:S", "--no-inherit"], &busy));
    same(&record(dir.path(), "each", &["-e", "{cpu-clock,page-faults}"], &busy));
}

#[test]
fn the_whole_machine_by_cpu() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    let file = record(dir.path(), "all", &["-a", "-e", "cpu-clock", "-F", "2000", "-g"], &busy);
    same(&file);
    assert_equal(&file, &["cpu"]);
    assert_equal(&file, &["cpu", "comm"]);
}

#[test]
fn other_forms_of_file() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    same_and_by_process(&record(dir.path(), "zstd", &["-z", "-e", "cpu-clock", "-F", "5000", "-g"], &busy));
    same(&record(dir.path(), "buildid", &["--buildid-mmap", "-e", "cpu-clock", "-F", "5000"], &busy));
    same_and_by_process(&record(
        dir.path(),
        "dwarf",
        &["--call-graph", "dwarf,4096", "-e", "cpu-clock", "-F", "500"],
        &busy,
    ));
    same(&record(dir.path(), "threads", &["--threads", "-a", "-e", "cpu-clock", "-F", "2000"], &busy));
    let pipe = dir.path().join("pipe");
    let command =
        format!("perf record -N -o - -e cpu-clock -F 5000 -- bash -c '{busy}' > {} 2>/dev/null", pipe.display());
    assert!(run(Command::new("bash").args(["-c", &command]).current_dir(dir.path())).status.success());
    same(&pipe);
}

#[test]
fn clocks_and_kernels_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let busy = busy(dir.path());
    same(&record(dir.path(), "mono", &["-k", "mono", "-e", "cpu-clock:u", "-F", "3000"], &busy));
    same(&record(dir.path(), "kernel", &["-e", "cpu-clock:k", "-F", "3000", "--no-buildid"], &busy));
}
