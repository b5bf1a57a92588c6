//! Attaching to a process of many threads: none is missing, and the limit of open files is raised as far as it goes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use xprof_tests::control::Control;
use xprof_tests::{compile, run, stdout, tree, xprof};

/// `programs/threads.c`, its threads waiting.
struct Waiting {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Waiting {
    fn start(dir: &Path, threads: usize) -> Waiting {
        let program = compile(dir, &tree().join("tests/programs/threads.c"), &["-pthread"]);
        let mut child = Command::new(program)
            .arg(threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("threads starts");
        let (stdin, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut waiting = Waiting { child, stdin, stdout: output };
        waiting.says("ready");
        waiting
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    #[track_caller]
    fn says(&mut self, word: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), word);
    }

    fn touch(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
        self.says("touched");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_one_of_thousands_of_threads_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    // Two descriptors for each thread and CPU.
    let threads = 4000 / cpus;
    let mut waiting = Waiting::start(dir.path(), threads);
    let mut control = Control::new(dir.path());
    let recorder = Command::new("prlimit")
        .arg("--nofile=1024:")
        .arg(xprof())
        .args(["record", "-p", &waiting.pid(), "-e", "page-faults:u", "-c", "1", "--control", "fifo:ctl,ack"])
        .current_dir(dir.path())
        .env("PERF_BUILDID_DIR", path("cache"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // An answer comes when every event is open.
    control.say("ping");
    waiting.touch();
    control.say("stop");
    let output = recorder.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let tasks = fs::read_dir(format!("/proc/{}/task", waiting.pid())).unwrap();
    let mut wanted: BTreeMap<u32, usize> =
        tasks.map(|task| (task.unwrap().file_name().into_string().unwrap().parse().unwrap(), 1)).collect();
    wanted.remove(&waiting.child.id());
    assert_eq!(wanted.len(), threads);
    let mut touched: BTreeMap<u32, usize> = BTreeMap::new();
    let script = stdout(Command::new("perf").args(["script", "-F", "tid,ip,sym"]).current_dir(dir.path()));
    for line in script.lines().filter(|line| line.trim_end().ends_with(" touch")) {
        *touched.entry(line.split_whitespace().next().unwrap().parse().unwrap()).or_default() += 1;
    }
    assert!(touched == wanted, "{} of {threads} threads were seen", touched.len());
}

/// What cannot be raised is said, with the number that is needed and the way around; and the way around works.
#[test]
fn too_many_threads_for_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut waiting = Waiting::start(dir.path(), 300);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    // Raising the hard limit is taken away, where this test may raise it.
    let limited = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--inh-caps=-sys_resource", "--bounding-set=-sys_resource", "prlimit", "--nofile=400:400"]);
        command.arg(xprof()).args(args).current_dir(dir.path()).env("PERF_BUILDID_DIR", dir.path().join("cache"));
        command
    };
    let pid = waiting.pid();
    let output = run(&mut limited(&["record", "-p", &pid, "-e", "page-faults:u", "-c", "1"]));
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{message}");
    let needed: usize = message.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((602 * cpus..602 * cpus + 400).contains(&needed), "{message}");
    for words in
        ["for 301 threads", "the limit is 400", &format!("ulimit -n {needed}"), "xprof record -a", "report --pid"]
    {
        assert!(message.contains(words), "{words:?} is not in: {message}");
    }
    let mut control = Control::new(dir.path());
    let all = ["record", "-a", "-e", "page-faults:u", "-c", "1", "-o", "all", "--control", "fifo:ctl"];
    let mut recorder = limited(&all).stderr(Stdio::null()).spawn().unwrap();
    while !dir.path().join("all").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    waiting.touch();
    control.send("stop");
    assert!(recorder.wait().unwrap().success());
    let report = ["report", "-i", "all", "--pid", &pid, "--symbol", "touch", "-s", "tid", "--format", "csv"];
    let rows = stdout(Command::new(xprof()).args(report).current_dir(dir.path()));
    assert_eq!(rows.lines().skip(1).filter(|line| line.split(',').nth(1) == Some("1")).count(), 300, "{rows}");
}
