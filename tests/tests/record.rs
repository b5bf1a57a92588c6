//! `xprof record` against perf: the same work gives the same samples, and perf reads every file without a complaint.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use xprof_tests::control::Control;
use xprof_tests::{compile, run, stdout, tree, xprof};

/// A folder of its own for each test, with `touch` in it.
struct Lab {
    dir: tempfile::TempDir,
    touch: PathBuf,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let touch = compile(dir.path(), &tree().join("tests/programs/touch.c"), &["-pthread"]);
        Lab { dir, touch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `xprof record` in the folder, with a cache of its own.
    fn record(&self, args: &[&str]) -> Command {
        let mut command = Command::new(xprof());
        command.arg("record").args(args).current_dir(self.dir.path()).env("PERF_BUILDID_DIR", self.path("cache"));
        command.stdin(Stdio::null());
        command
    }

    fn touching<'a>(&self, command: &'a mut Command, args: &[&str]) -> &'a mut Command {
        command.arg("--").arg(&self.touch).args(args)
    }

    /// What `perf script` says of a file, without any complaint.
    fn script(&self, file: &str, fields: &str) -> String {
        let output = run(Command::new("perf").args(["script", "-i", file, "-F", fields]).current_dir(self.dir.path()));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "perf script complains about {file}");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Samples in `touch()`.
    fn touches(&self, file: &str) -> usize {
        self.script(file, "ip,sym").lines().filter(|line| line.trim_end().ends_with(" touch")).count()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

fn last_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn kill(child: &Child, signal: &str) {
    stdout(Command::new("kill").args([signal, &child.id().to_string()]));
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const FAULTS: [&str; 4] = ["-e", "page-faults:u", "-c", "1"];

#[test]
fn each_fault_of_threads_and_children_is_there_as_in_perf() {
    let lab = Lab::new();
    stdout(lab.touching(&mut lab.record(&FAULTS), &["1000", "3", "2"]));
    stdout(
        Command::new("perf")
            .args(["record", "-q", "-N", "-o", "by-perf"])
            .args(FAULTS)
            .arg(&lab.touch)
            .args(["1000", "3", "2"])
            .current_dir(lab.dir.path()),
    );
    assert_eq!((lab.touches("perf.data"), lab.touches("by-perf")), (6000, 6000));
    let tasks = |file: &str| {
        let text = lab.script(file, "pid,tid,ip,sym");
        let mut tasks: Vec<&str> = text
            .lines()
            .filter(|l| l.trim_end().ends_with(" touch"))
            .filter_map(|l| l.split_whitespace().next())
            .collect();
        tasks.dedup();
        tasks.len()
    };
    assert_eq!((tasks("perf.data"), tasks("by-perf")), (6, 6));
}

#[test]
fn children_are_left_out_when_asked() {
    let lab = Lab::new();
    stdout(lab.touching(lab.record(&FAULTS).arg("--no-inherit"), &["500", "1", "1"]));
    assert_eq!(lab.touches("perf.data"), 500);
}

#[test]
fn compressed_and_plain_and_streamed_say_the_same() {
    let lab = Lab::new();
    stdout(lab.touching(lab.record(&FAULTS).arg("-z"), &["2000"]));
    assert_eq!(lab.touches("perf.data"), 2000);
    let compressed = fs::metadata(lab.path("perf.data")).unwrap().len();
    stdout(lab.touching(lab.record(&FAULTS).args(["-z9", "-o", "nine"]), &["2000"]));
    assert_eq!(lab.touches("nine"), 2000);
    stdout(lab.touching(lab.record(&FAULTS).args(["-o", "plain"]), &["2000"]));
    assert_eq!(lab.touches("plain"), 2000);
    assert!(fs::metadata(lab.path("plain")).unwrap().len() > 2 * compressed);

    let stream = run(lab.touching(lab.record(&FAULTS).args(["-o", "-"]), &["2000"]));
    assert!(stream.status.success());
    fs::write(lab.path("stream"), &stream.stdout).unwrap();
    let mut script = Command::new("perf")
        .args(["script", "-i", "-", "-F", "ip,sym"])
        .stdin(fs::File::open(lab.path("stream")).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    script.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(script.wait().unwrap().success());
    assert_eq!(text.lines().filter(|l| l.trim_end().ends_with(" touch")).count(), 2000);
}

#[test]
fn exit_statuses() {
    let lab = Lab::new();
    let status = |args: &[&str]| code(&run(lab.record(&["-e", "cpu-clock", "--"]).args(args)));
    assert_eq!(status(&["true"]), 0);
    assert_eq!(status(&["sh", "-c", "exit 41"]), 41);
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), 128 + 15);
    assert_eq!(status(&["/no/such/command"]), 127);
    assert_eq!(status(&["/etc/passwd"]), 126);
    assert_eq!(code(&run(lab.record(&["-p", "1", "-a"]).arg("true"))), 2);
    assert_eq!(code(&run(lab.record(&["--call-graph", "magic"]).arg("true"))), 2);
    let before = fs::read(lab.path("perf.data")).unwrap();
    let failed = run(lab.record(&["-o", "/no/such/folder/x"]).args(["touch", "ran"]));
    assert_eq!(code(&failed), 125);
    assert!(!lab.path("ran").exists(), "the command must not start when the set-up failed");
    assert_eq!(code(&run(lab.record(&["-e", "no-such-event"]).args(["touch", "ran"]))), 2);
    assert!(!lab.path("ran").exists());
    assert_eq!(fs::read(lab.path("perf.data")).unwrap(), before, "a failed set-up leaves the older recording");
}

#[test]
fn an_older_file_is_kept() {
    let lab = Lab::new();
    stdout(lab.touching(&mut lab.record(&FAULTS), &["100"]));
    stdout(lab.touching(&mut lab.record(&FAULTS), &["200"]));
    assert_eq!((lab.touches("perf.data.old"), lab.touches("perf.data")), (100, 200));
    run(lab.record(&["-e", "cpu-clock", "--", "/no/such/command"]).arg("x"));
    assert_eq!((lab.touches("perf.data.old"), lab.touches("perf.data")), (100, 200));
}

#[test]
fn the_last_line_says_samples_lost_bytes_seconds() {
    let lab = Lab::new();
    let output = run(lab.touching(&mut lab.record(&FAULTS), &["1000"]));
    let line = last_line(&output);
    let words: Vec<&str> = line.split_whitespace().collect();
    let samples = lab.script("perf.data", "ip").lines().count();
    let bytes = fs::metadata(lab.path("perf.data")).unwrap().len();
    assert_eq!(words[..7], ["xprof:", &samples.to_string(), "samples,", "0", "lost,", &bytes.to_string(), "bytes,"]);
    assert_eq!(words[8], "seconds:");
    let quiet = run(lab.touching(lab.record(&FAULTS).arg("-q"), &["10"]));
    assert_eq!(String::from_utf8_lossy(&quiet.stderr), "");
}

/// A recording of a busy command that does not end by itself.
fn busy(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.record(&["-F", "997", "-e", "cpu-clock"]);
    command.args(args).args(["--", "sh", "-c", "echo go; while :; do :; done"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "go\n");
    child
}

fn samples(lab: &Lab, file: &str) -> usize {
    lab.script(file, "ip").lines().count()
}

/// Feature sections included: perf needs one of them to unpack, and one to print a tracepoint.
#[test]
fn a_killed_recording_opens() {
    for options in [&["-e", "sched:sched_switch"][..], &["-e", "sched:sched_switch", "-z"]] {
        let lab = Lab::new();
        let mut child = busy(&lab, options);
        let size = || fs::metadata(lab.path("perf.data")).map_or(0, |file| file.len());
        wait_for("a second of samples", || size() > 30_000);
        let id = child.id().to_string();
        let busy = stdout(Command::new("pgrep").args(["-P", &id]));
        child.kill().unwrap();
        child.wait().unwrap();
        run(Command::new("kill").args(["-9", busy.trim()]));
        let script = |reader: &Path| stdout(Command::new(reader).args(["script", "-i"]).arg(lab.path("perf.data")));
        let perf = run(Command::new("perf").args(["script", "-i"]).arg(lab.path("perf.data")));
        assert!(perf.status.success() && perf.stderr.is_empty(), "{}", String::from_utf8_lossy(&perf.stderr));
        let (perfs, ours) = (String::from_utf8(perf.stdout).unwrap(), script(xprof()));
        assert!(perfs.lines().count() > 20 && perfs.contains("cpu-clock"), "{options:?}: {perfs}");
        // perf reads what the header says, and xprof what came after that too.
        assert!(ours.starts_with(&perfs), "{options:?}: perf\n{perfs}\nxprof\n{ours}");
    }
}

#[test]
fn signals_end_a_recording_properly() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let lab = Lab::new();
        let child = busy(&lab, &[]);
        std::thread::sleep(Duration::from_millis(300));
        kill(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(&output), 128 + 15, "{signal}: the command was ended");
        let said: usize = last_line(&output).split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(samples(&lab, "perf.data"), said);
        assert!(said > 5, "{signal}: {said}");
    }
}

#[test]
fn a_duration_ends_command_and_machine() {
    let lab = Lab::new();
    xprof();
    let started = Instant::now();
    assert_eq!(code(&run(lab.record(&["-e", "cpu-clock", "-d", "0.5", "--"]).args(["sleep", "30"]))), 0);
    assert_eq!(code(&run(lab.record(&["-e", "cpu-clock", "-a", "-d", "0.5", "-o", "all"]).arg("-q"))), 0);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(samples(&lab, "all") > 0);
}

#[test]
fn control_turns_events_on_and_off_and_answers() {
    let lab = Lab::new();
    let mut control = Control::new(lab.dir.path());
    let child = busy(&lab, &["-D", "-1", "--control", "fifo:ctl,ack"]);
    control.say("ping");
    std::thread::sleep(Duration::from_millis(400));
    let before = Instant::now();
    control.say("enable");
    std::thread::sleep(Duration::from_millis(500));
    control.say("disable");
    let enabled = before.elapsed().as_secs_f64();
    std::thread::sleep(Duration::from_millis(400));
    control.say("stop");
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 0);
    let times = lab.script("perf.data", "time");
    let times: Vec<f64> = times.lines().map(|l| l.trim().trim_end_matches(':').parse().unwrap()).collect();
    let span = times.last().unwrap() - times[0];
    assert!(span > 0.1 && span <= enabled, "samples over {span} s of the {enabled} that were enabled");
}

/// What the command prints is no part of a recording on standard output.
#[test]
fn a_recording_on_stdout_is_whole_whatever_the_command_prints() {
    let lab = Lab::new();
    let mut recorder = lab.record(&["-q", "-e", "cpu-clock:u", "-o", "-", "--"]);
    let output = run(recorder.args(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo said; i=$((i+1)); done"]));
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("said\nsaid\n"));
    fs::write(lab.path("stream"), &output.stdout).unwrap();
    let file = || fs::File::open(lab.path("stream")).unwrap();
    let theirs = stdout(Command::new("perf").args(["script", "-i", "-", "-F", "comm"]).stdin(file()));
    let ours = stdout(Command::new(xprof()).args(["script", "-i", "-", "-F", "comm"]).stdin(file()));
    let lines = |text: &str| text.lines().filter(|line| line.trim() == "sh").count();
    assert!(lines(&theirs) > 0 && lines(&theirs) == lines(&ours));
}

/// perf finds a part of a recording by percent, as of its own.
#[test]
fn a_recording_says_when_its_samples_were() {
    let lab = Lab::new();
    assert_eq!(code(&run(lab.record(&["-q", "-e", "page-faults:u", "-c", "1", "--"]).arg(&lab.touch).arg("500"))), 0);
    let times = lab.script("perf.data", "time");
    let times: Vec<&str> = times.lines().map(|line| line.trim().trim_end_matches(':')).collect();
    let header = stdout(Command::new("perf").args(["report", "--header-only"]).current_dir(lab.dir.path()));
    for (what, time) in [("first", times[0]), ("last", times[times.len() - 1])] {
        assert!(header.contains(&format!("time of {what} sample : {time}")), "{what} {time}: {header}");
    }
}

#[test]
fn output_switches_on_signal_to_stamped_files() {
    let lab = Lab::new();
    let child = busy(&lab, &["--switch-output"]);
    let stamped = || -> Vec<String> {
        let names = fs::read_dir(lab.dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.starts_with("perf.data.")).collect();
        names.sort();
        names
    };
    std::thread::sleep(Duration::from_millis(400));
    kill(&child, "-USR2");
    wait_for("the first switch", || stamped().len() == 1);
    std::thread::sleep(Duration::from_millis(400));
    kill(&child, "-TERM");
    child.wait_with_output().unwrap();
    let files = stamped();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        let stamp = file.strip_prefix("perf.data.").unwrap();
        assert!(stamp.len() == 16 && stamp.starts_with("20") && stamp.bytes().all(|b| b.is_ascii_digit()), "{file}");
        assert!(samples(&lab, file) > 100, "{file}");
        // The second file knows the process that was there before it began.
        let comms = lab.script(file, "comm");
        assert!(comms.lines().all(|l| l.trim() == "sh"), "{file}");
    }
    assert!(!lab.path("perf.data").exists());
}

#[test]
fn overwritten_rings_are_written_on_request_and_at_the_end() {
    let lab = Lab::new();
    let child = busy(&lab, &["--overwrite", "-m", "4"]);
    std::thread::sleep(Duration::from_millis(1500));
    kill(&child, "-TERM");
    child.wait_with_output().unwrap();
    let times = lab.script("perf.data", "time");
    let times: Vec<f64> = times.lines().map(|l| l.trim().trim_end_matches(':').parse().unwrap()).collect();
    // 16 KiB hold some 400 samples of 40 bytes a ring, of the 1,500 that were taken.
    assert!((50..=900).contains(&times.len()), "{} samples", times.len());
}

/// A small file system of its own.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn mount(path: &Path) -> SmallDisk<'_> {
        fs::create_dir(path).unwrap();
        stdout(Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(path));
        SmallDisk(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0));
    }
}

/// The group's own faults, exactly, although the same program runs outside of it too.
#[test]
fn a_control_group_is_measured_alone() {
    let lab = Lab::new();
    // In mounts of its own: version 1 where the controller can be had so, else version 2.
    let script = r#"
        set -e
        exec 2>&1
        umount -a -t cgroup -O perf_event 2>/dev/null || :
        if ! grep -q '^perf_event[[:space:]]*0[[:space:]]' /proc/cgroups; then
            "$xprof" record $faults -o none -G xprof-test -- true && exit 3 || [ $? = 125 ]
            mkdir groups
            mount -t cgroup -o perf_event none groups
            group=$PWD/groups/xprof-test
        else
            group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/xprof-test
        fi
        "$xprof" record $faults -o none -G xprof-test -- true && exit 3 || [ $? = 125 ]
        mkdir "$group"
        trap 'cd /; rmdir "$group"' EXIT
        "$xprof" record $faults -o in -G xprof-test -- sh -c '"$1" 3000; echo $$ >"$0/cgroup.procs"; "$1" 2000; :' "$group" "$touch"
    "#;
    let output = run(Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .env("xprof", xprof())
        .env("touch", &lab.touch)
        .env("faults", FAULTS.join(" "))
        .current_dir(lab.dir.path()));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert_eq!(lab.touches("in"), 2000, "{said}");
    assert!(said.contains("cgroup xprof-test") && said.contains("does not exist"), "{said}");
    let elsewhere = !fs::read_to_string("/proc/cgroups")
        .unwrap()
        .lines()
        .any(|line| line.split_whitespace().take(2).eq(["perf_event", "0"]));
    assert_eq!(said.contains("mount -t cgroup -o perf_event"), elsewhere, "{said}");
}

#[test]
fn a_full_disk_leaves_what_fitted() {
    let lab = Lab::new();
    let disk = lab.path("disk");
    let _disk = SmallDisk::mount(&disk);
    let output = run(lab.touching(lab.record(&FAULTS).args(["-o", "disk/out"]), &["40000"]));
    assert_eq!(code(&output), 125);
    let error = last_line(&output);
    assert!(error.contains("disk/out") && error.contains("No space left on device"), "{error}");
    let output =
        run(Command::new("perf").args(["script", "-i", "disk/out", "-F", "ip,sym"]).current_dir(lab.dir.path()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let fitted = String::from_utf8_lossy(&output.stdout).lines().count();
    assert!(fitted > 100 && error.contains(&format!("ends after {fitted} samples")), "{fitted}: {error}");
}

#[test]
fn a_deleted_program_is_kept_in_perfs_cache() {
    let lab = Lab::new();
    let script = format!("cp {} gone; exec 9<gone; rm gone; exec /proc/self/fd/9 1000 0 0 500", lab.touch.display());
    stdout(lab.record(&FAULTS).args(["--", "sh", "-c", &script]));
    let list = stdout(Command::new("perf").args(["buildid-list", "-i", "perf.data"]).current_dir(lab.dir.path()));
    let gone = list.lines().find(|l| l.contains("gone (deleted)")).unwrap_or_else(|| panic!("{list}"));
    let id = gone.split(' ').next().unwrap();
    let elf = lab.path("cache/.build-id").join(&id[..2]).join(&id[2..]).join("elf");
    assert_eq!(fs::read(elf).unwrap(), fs::read(&lab.touch).unwrap());
}

#[test]
fn build_ids_of_what_was_mapped_are_listed() {
    let lab = Lab::new();
    stdout(lab.touching(&mut lab.record(&FAULTS), &["10"]));
    let list = stdout(Command::new("perf").args(["buildid-list", "-i", "perf.data"]).current_dir(lab.dir.path()));
    let notes = stdout(Command::new("readelf").arg("-n").arg(&lab.touch));
    let id = notes.lines().find_map(|l| l.trim().strip_prefix("Build ID: ")).unwrap();
    assert!(list.contains(&format!("{id} {}", lab.touch.display())), "{list}");
    assert!(list.contains("libc.so.6"), "{list}");
}

#[test]
fn an_archive_names_a_program_that_is_not_there() {
    let lab = Lab::new();
    stdout(lab.touching(&mut lab.record(&FAULTS), &["1000"]));
    let archive = |args: &[&str]| {
        let mut command = Command::new(xprof());
        stdout(command.arg("archive").args(args).current_dir(lab.dir.path()).env("PERF_BUILDID_DIR", lab.path("cache")))
    };
    archive(&["-i", "perf.data"]);
    fs::remove_file(&lab.touch).unwrap();
    fs::create_dir(lab.path("there")).unwrap();
    stdout(Command::new("tar").args(["xf", "perf.data.tar.gz", "-C", "there"]).current_dir(lab.dir.path()));
    let there = lab.path("there");
    let named = |tool: &Path, before: &[&str]| {
        let mut script = Command::new(tool);
        script.args(before).args(["script", "-i", "there/perf.data", "-F", "ip,sym"]).env("PERF_BUILDID_DIR", &there);
        let text = stdout(script.current_dir(lab.dir.path()));
        text.lines().filter(|line| line.trim_end().ends_with(" touch")).count()
    };
    assert_eq!(named(xprof(), &[]), 1000);
    assert_eq!(named(Path::new("perf"), &["--buildid-dir", there.to_str().unwrap()]), 1000);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn names_of_generated_code_outlive_their_map() {
    let lab = Lab::new();
    let jit = compile(lab.dir.path(), &tree().join("tests/programs/jit.c"), &[]);
    stdout(lab.record(&FAULTS).arg("--").arg(jit).args(["1000", "10"]));
    let pid = lab.script("perf.data", "pid").lines().next().unwrap().trim().to_owned();
    fs::remove_file(format!("/tmp/perf-{pid}.map")).unwrap();
    let mut script = Command::new(xprof());
    script.args(["script", "-i", "perf.data", "-F", "ip,sym"]).env("PERF_BUILDID_DIR", lab.path("cache"));
    let text = stdout(script.current_dir(lab.dir.path()));
    assert_eq!(text.lines().filter(|line| line.trim_end().ends_with(" made_at_run_time")).count(), 1000);
}
