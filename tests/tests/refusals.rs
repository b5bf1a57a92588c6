//! Every refusal of the kernel, provoked: the message names the true cause and a command that would help.
//!
//! Settings of the machine are changed and restored, so these tests run one after the other.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xprof_tests::{compile, run, xprof};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
const NOBODY: u32 = 65534;

/// Sole user of the machine's settings; puts back what it changed.
struct Machine {
    changed: Vec<(PathBuf, String)>,
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    fn new() -> Machine {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = tempfile::tempdir().unwrap();
        // Where nobody may start xprof and write.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = dir.path().join("home");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::copy(xprof(), dir.path().join("xprof")).unwrap();
        let mut machine = Machine { changed: Vec::new(), dir, _alone: alone };
        machine.set("perf_event_paranoid", "2");
        machine
    }

    fn set(&mut self, name: &str, value: &str) {
        let path = Path::new("/proc/sys/kernel").join(name);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, value).unwrap();
        self.changed.push((path, before));
    }

    fn binary(&self) -> PathBuf {
        self.dir.path().join("xprof")
    }

    fn root(&self, args: &[&str]) -> Output {
        run(Command::new(self.binary()).args(args).current_dir(self.dir.path()))
    }

    /// As an unprivileged user, behind `before` (a wrapper such as prlimit).
    fn nobody(&self, before: &[&str], args: &[&str]) -> Output {
        let home = self.dir.path().join("home");
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(before);
        run(command.arg(self.binary()).args(args).current_dir(&home).env("HOME", &home))
    }

    /// A program that runs another one behind a seccomp filter: `refuse ERRNO COMMAND..`.
    fn refuse(&self) -> PathBuf {
        let source = self.dir.path().join("refuse.c");
        fs::write(&source, REFUSE).unwrap();
        compile(self.dir.path(), &source, &[])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (path, before) in self.changed.drain(..).rev() {
            let _ = fs::write(path, before);
        }
    }
}

/// x86-64 and arm64: the number of perf_event_open comes from the headers.
const REFUSE: &str = r#"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_perf_event_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(argv[1])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof *code, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 99;
    execvp(argv[2], argv + 2);
    return 98;
}
"#;

/// 40 threads beside the first, which says when they run.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static void *wait_here(void *unused) { sleep(60); return unused; }
int main(void) {
    pthread_t thread;
    for (int i = 0; i < 40; i++) pthread_create(&thread, 0, wait_here, 0);
    puts("");
    fflush(stdout);
    sleep(60);
}
"#;

/// The status, and words of the message.
#[track_caller]
fn refused(output: &Output, status: i32, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    for word in words {
        assert!(message.contains(word), "{word:?} is not in:\n{message}");
    }
    assert_eq!(output.status.code(), Some(status), "{message}");
    assert!(output.stdout.is_empty());
}

#[test]
fn whole_cpus_need_level_0() {
    let machine = Machine::new();
    let output = machine.nobody(&[], &["record", "-a", "-e", "cpu-clock", "-d", "0.1"]);
    refused(&output, 125, &["perf_event_paranoid is 2", "whole CPUs", "sysctl kernel.perf_event_paranoid=0"]);
}

#[test]
fn the_kernel_needs_level_1() {
    let mut machine = Machine::new();
    machine.set("perf_event_paranoid", "2");
    let output = machine.nobody(&[], &["record", "-e", "cpu-clock:k", "--", "true"]);
    refused(&output, 125, &["perf_event_paranoid is 2", "measure the kernel", "sysctl kernel.perf_event_paranoid=1"]);
}

#[test]
fn tracepoints_are_closed_to_users() {
    let machine = Machine::new();
    let output = machine.nobody(&[], &["record", "-e", "sched:sched_switch", "--", "true"]);
    refused(&output, 125, &["tracefs", "mount -o remount,mode=755,gid=$(id -g)", "perf_event_paranoid=-1"]);
}

/// The advice is followed step by step, until it works.
#[test]
fn the_advice_on_tracepoints_opens_them() {
    let mut machine = Machine::new();
    let _open = Remounted::new("mode=755,gid=65534");
    let record = ["record", "-e", "sched:sched_switch", "--", "true"];
    refused(&machine.nobody(&[], &record), 125, &["may not read tracepoints", "perf_event_paranoid=-1"]);
    machine.set("perf_event_paranoid", "-1");
    let output = machine.nobody(&[], &record);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// tracefs with other options, until the end of the test.
struct Remounted;

impl Remounted {
    fn new(options: &str) -> Remounted {
        Remounted::set(options);
        Remounted
    }

    fn set(options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}"), "/sys/kernel/tracing"]).status();
        assert!(done.is_ok_and(|s| s.success()), "tracefs is mounted with {options}");
    }
}

impl Drop for Remounted {
    fn drop(&mut self) {
        Remounted::set("mode=700,gid=0");
    }
}

#[test]
fn root_of_a_user_namespace_is_not_root() {
    let machine = Machine::new();
    let output = machine.nobody(&["unshare", "-Ur"], &["record", "-a", "-e", "cpu-clock", "-d", "0.1"]);
    refused(&output, 125, &["is not root for perf", "sudo sysctl kernel.perf_event_paranoid=0"]);
}

/// Debian's level 3 and Ubuntu's 4 answer EACCES to everything; other kernels know no such level, so a filter answers.
#[test]
fn levels_3_and_4_are_named() {
    let mut machine = Machine::new();
    let refuse = machine.refuse();
    for level in ["3", "4"] {
        machine.set("perf_event_paranoid", level);
        let output = machine.nobody(&[refuse.to_str().unwrap(), "13"], &["record", "-e", "cpu-clock:u", "--", "true"]);
        let is = format!("perf_event_paranoid is {level}");
        refused(&output, 125, &[&is, "may not measure at all", "sysctl kernel.perf_event_paranoid="]);
    }
}

#[test]
fn a_seccomp_filter_is_named() {
    let machine = Machine::new();
    let refuse = machine.refuse();
    for errno in ["1", "38"] {
        for args in [&["record", "-e", "cpu-clock", "--", "true"][..], &["record", "-a", "-d", "0.1"]] {
            let output = machine.nobody(&[refuse.to_str().unwrap(), errno], args);
            refused(&output, 125, &["seccomp filter", "--cap-add PERFMON"]);
        }
    }
    let output = run(Command::new(&refuse).args(["1"]).arg(machine.binary()).args(["record", "-a", "-d", "0.1"]));
    refused(&output, 125, &["seccomp filter"]);
}

#[test]
fn the_owner_of_a_process_is_named() {
    let machine = Machine::new();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id().to_string();
    let output = machine.nobody(&[], &["record", "-p", &pid, "-e", "cpu-clock:u", "-d", "0.1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let belongs = format!("process {pid} belongs to user 0, and this is user {NOBODY}");
    refused(&output, 125, &[&belongs, "the same command with sudo"]);
}

#[test]
fn the_number_of_files_is_named() {
    let machine = Machine::new();
    let source = machine.dir.path().join("threads.c");
    fs::write(&source, THREADS).unwrap();
    let threads = compile(machine.dir.path(), &source, &["-pthread"]);
    let mut child = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(threads)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Read;
    let started = child.stdout.as_mut().unwrap().read_exact(&mut [0]);
    let pid = child.id().to_string();
    let output =
        machine.nobody(&["prlimit", "--nofile=40:40"], &["record", "-p", &pid, "-e", "cpu-clock:u", "-d", "0.1"]);
    child.kill().unwrap();
    child.wait().unwrap();
    started.unwrap();
    refused(&output, 125, &["41 threads", "the limit is 40", "ulimit -n "]);
}

/// What other machines answer: a table of files that is full, another profiler that holds the counters. (A limit that was
/// really lowered would hit every user's processes.)
#[test]
fn a_full_table_of_files_and_counters_in_use_are_named() {
    let machine = Machine::new();
    let refuse = machine.refuse();
    let record = ["record", "-e", "cpu-clock:u", "--", "true"];
    let full = machine.nobody(&[refuse.to_str().unwrap(), "23"], &record);
    refused(&full, 125, &["the whole machine has no file left to open", "sysctl fs.file-max="]);
    let busy = machine.nobody(&[refuse.to_str().unwrap(), "16"], &record);
    refused(&busy, 125, &["counter", "sudo "]);
}

#[test]
fn the_memory_limit_of_rings_is_named() {
    let mut machine = Machine::new();
    machine.set("perf_event_mlock_kb", "8");
    let output =
        machine.nobody(&["prlimit", "--memlock=0:0"], &["record", "-m", "1024", "-e", "cpu-clock:u", "--", "true"]);
    refused(&output, 125, &["perf_event_mlock_kb (8 KiB", "ulimit -l", "-m with fewer pages"]);
}

#[test]
fn targets_that_do_not_exist() {
    let machine = Machine::new();
    refused(
        &machine.root(&["record", "-p", "4194305", "-d", "0.1"]),
        125,
        &["process 4194305 does not exist", "pgrep"],
    );
    refused(&machine.root(&["record", "-t", "4194305", "-d", "0.1"]), 125, &["4194305 does not exist"]);
    refused(
        &machine.root(&["record", "-C", "4000", "-d", "0.1"]),
        125,
        &["CPU 4000 does not exist", "CPUs online are"],
    );
}

#[test]
fn a_machine_without_counters_says_so() {
    let machine = Machine::new();
    if Path::new("/sys/bus/event_source/devices/cpu").exists() {
        let output = machine.root(&["record", "-e", "cycles", "-o", "/dev/null", "--", "true"]);
        assert!(output.status.success(), "{output:?}");
        return;
    }
    for event in ["cycles", "instructions:u", "LLC-load-misses", "r1a8"] {
        refused(&machine.root(&["record", "-e", event, "--", "true"]), 125, &["no PMU", "-e cpu-clock"]);
    }
}

#[test]
fn a_counter_that_cannot_sample_says_so() {
    let machine = Machine::new();
    if Path::new("/sys/bus/event_source/devices/msr/events/tsc").exists() {
        let output = machine.root(&["record", "-e", "msr/tsc/", "--", "true"]);
        refused(&output, 125, &["no interrupt to take samples by", "cpu-clock"]);
    }
}

#[test]
fn breakpoint_registers_run_out() {
    let machine = Machine::new();
    let events: Vec<String> = (1..=20).map(|i| format!("mem:{:#x}:w:u", i * 0x1000)).collect();
    let output = machine.root(&["record", "-e", &events.join(","), "--", "true"]);
    refused(&output, 125, &["breakpoint registers", "fewer mem: events"]);
}

/// The caret stands under the wrong word, and the nearest name is offered.
#[test]
fn a_bad_event_is_pointed_at() {
    let machine = Machine::new();
    for (text, column, word) in [
        ("cpu-clok", 0, "did you mean cpu-clock?"),
        ("cpu-clock,fualts:u", 10, "did you mean faults?"),
        ("cpu-clock:q", 10, "unknown modifier 'q'"),
        ("{cpu-clock,cs", 0, "not closed"),
        ("sched:sched_swich", 6, "did you mean sched:sched_switch?"),
        ("sched_switch", 0, "did you mean sched:sched_switch?"),
        ("cpu-clock/perid=3/", 10, "did you mean period?"),
        ("mem:zz", 4, "mem:ADDRESS"),
        ("cpu-clock:pppp", 13, "at most three p"),
        ("cpu-clock,", 10, "missing"),
    ] {
        let output = machine.root(&["record", "-e", text, "--", "true"]);
        refused(&output, 2, &[word, &format!("  -e {text}\n"), &format!("\n     {:column$}^\n", "")]);
    }
}

#[test]
fn doctor_ends_with_success_only_where_recording_works() {
    let mut machine = Machine::new();
    let checks = |output: &Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    };
    let state = |json: &serde_json::Value, name: &str| {
        let list = json["checks"].as_array().unwrap();
        let check = list.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}"));
        (check["state"].as_str().unwrap().to_owned(), check["command"].as_str().unwrap_or_default().to_owned())
    };
    let root = machine.root(&["doctor", "--format", "json"]);
    let json = checks(&root);
    assert_eq!((root.status.code(), &json["recording_works"]), (Some(0), &true.into()));
    assert_eq!(state(&json, "whole CPUs").0, "works");

    let user = machine.nobody(&[], &["doctor", "--format", "json"]);
    let json = checks(&user);
    assert_eq!(user.status.code(), Some(0));
    for (name, want) in
        [("own programs", "works"), ("kernel samples", "fails"), ("whole CPUs", "fails"), ("other users", "fails")]
    {
        assert_eq!(state(&json, name).0, want, "{name}");
    }
    assert!(state(&json, "whole CPUs").1.ends_with("sudo sysctl kernel.perf_event_paranoid=0"));

    machine.set("perf_event_paranoid", "-1");
    let json = checks(&machine.nobody(&[], &["doctor", "--format", "json"]));
    assert_eq!(state(&json, "whole CPUs").0, "works");

    let refuse = machine.refuse();
    let closed = machine.nobody(&[refuse.to_str().unwrap(), "1"], &["doctor", "--format", "json"]);
    let json = checks(&closed);
    assert_eq!((closed.status.code(), &json["recording_works"]), (Some(1), &false.into()));
    assert_eq!(state(&json, "seccomp").0, "fails");
}

#[test]
fn hidden_kernel_addresses_are_told() {
    let mut machine = Machine::new();
    machine.set("kptr_restrict", "2");
    let output = machine.root(&["doctor", "--format", "csv"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|l| l.starts_with("kernel names,")).expect("a line");
    assert!(line.contains("fails") && line.contains("not even root") && line.ends_with("kptr_restrict=1"), "{line}");
}
