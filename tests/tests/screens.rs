//! The screens as a user sees them: the whole program on a terminal (tmux), by keys, and the terminal as it was afterwards.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use xprof_tests::{compile, run, stdout, storm, tree, xprof};

/// Nobody waits longer for a screen, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal of 80x24 in which a command runs.
struct Terminal<'a> {
    dir: &'a Path,
    socket: String,
}

impl<'a> Terminal<'a> {
    /// `stty` is asked before and after the command, and its status is kept.
    fn start(dir: &'a Path, environment: &str, command: &str) -> Terminal<'a> {
        for file in ["before", "after", "pid", "status"] {
            let _ = std::fs::remove_file(dir.join(file));
        }
        // A server that ends may still be there when the next one begins.
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let socket = dir.join(format!("tmux{}", SERVERS.fetch_add(1, Ordering::Relaxed)));
        let terminal = Terminal { dir, socket: socket.to_str().unwrap().to_owned() };
        let at = dir.display();
        let script = format!(
            "cd {at}; stty -a > before; sh -c 'echo $$ > pid; exec env {environment} {} {command}'; echo $? > status.new; \
             stty -a > after; mv status.new status; exec sleep 1000",
            xprof().display()
        );
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &script]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        stdout(
            Command::new("tmux")
                .arg("-S")
                .arg(&self.socket)
                .args(arguments)
                .env("LC_ALL", "C.UTF-8")
                .env("TERM", "screen"),
        )
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be.
    fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is_there(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "no {what} in:\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Presses a key and waits for text.
    fn press(&self, key: &str, expected: &str) -> String {
        self.tmux(&["send-keys", key]);
        self.until(expected, |screen| screen.contains(expected))
    }

    /// Waits for the end of the program: its status; the terminal must be as it was.
    fn ended(&self) -> String {
        let begun = Instant::now();
        let status = loop {
            if let Ok(status) = std::fs::read_to_string(self.dir.join("status")) {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "still running:\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        };
        let setting = |file| std::fs::read_to_string(self.dir.join(file)).unwrap();
        assert_eq!(setting("before"), setting("after"));
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]).trim(), "0 1");
        status.trim().to_owned()
    }

    fn kill(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.join("pid")).unwrap();
        stdout(Command::new("kill").args([signal, pid.trim()]));
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        run(Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server"));
    }
}

#[test]
fn a_recording_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let program = storm(dir.path());
    let mut record = Command::new(xprof());
    record.current_dir(&dir).args(["record", "-q", "--call-graph", "fp", "-o", "storm.data", "--"]);
    stdout(record.arg(program).args(["spin", "300000000"]));
    // On a terminal the screens are what report shows.
    let terminal = Terminal::start(dir.path(), "LC_ALL=C.UTF-8", "report -i storm.data");
    let table = terminal.until("table", |screen| screen.contains("[.] main"));
    assert!(table.lines().next().unwrap().starts_with("xprof report: storm.data  "), "{table}");
    terminal.press("?", "choose a row");
    terminal.press("x", "[.] main");
    terminal.press("/", "/");
    terminal.tmux(&["send-keys", "-l", "main"]);
    let filtered = |screen: &str| screen.contains("with \"main\"") && screen.contains("[.] main");
    terminal.until("filtered table", filtered);
    terminal.press("Enter", "q quit");
    terminal.press("Enter", "Called from");
    terminal.press("Escape", "with \"main\"");
    terminal.press("a", "v source");
    let code = terminal.press("g", "Percent    Samples  Address");
    assert!(code.contains("# main in storm"), "{code}");
    terminal.press("Escape", "with \"main\"");
    terminal.press("f", "▏all");
    terminal.press("Down", "thread  storm");
    // Whatever size the terminal gets.
    for (width, height) in [("1", "1"), ("300", "100"), ("2", "50"), ("500", "2"), ("80", "24")] {
        terminal.tmux(&["resize-window", "-x", width, "-y", height]);
    }
    terminal.until("flame graph", |screen| screen.contains("▏all") && screen.contains("thread  storm"));
    terminal.tmux(&["send-keys", "q"]);
    assert_eq!(terminal.ended(), "0");
    // Every way out leaves the terminal as it was.
    for (name, end) in WAYS {
        let terminal = Terminal::start(dir.path(), "LC_ALL=C TERM=vt100", "report --tui -i storm.data");
        let table = terminal.until("table", |screen| screen.contains("[.] main"));
        assert!(table.is_ascii(), "{table}");
        end(&terminal);
        assert_eq!(terminal.ended(), "0", "{name}");
    }
    // A terminal that is gone ends it too.
    let terminal = Terminal::start(dir.path(), "LC_ALL=C.UTF-8", "report --tui -i storm.data");
    terminal.until("table", |screen| screen.contains("[.] main"));
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    drop(terminal);
    let begun = Instant::now();
    while Path::new("/proc").join(pid.trim()).join("exe").read_link().is_ok() {
        assert!(begun.elapsed() < PATIENCE, "still there without a terminal");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A way out.
type Way = (&'static str, fn(&Terminal<'_>));

/// Every way out but a panic.
const WAYS: [Way; 4] = [
    ("q", |terminal| drop(terminal.tmux(&["send-keys", "q"]))),
    ("Ctrl-C", |terminal| drop(terminal.tmux(&["send-keys", "C-c"]))),
    ("SIGTERM", |terminal| terminal.kill("-TERM")),
    ("SIGHUP", |terminal| terminal.kill("-HUP")),
];

#[test]
fn the_machine_is_looked_at_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let command = format!("top -p {} -I 100", busy.id());
    for (name, end) in WAYS {
        let terminal = Terminal::start(dir.path(), "LC_ALL=C NO_COLOR=1", &command);
        let screen = terminal.until("rows", |screen| screen.contains("sh ") && screen.contains("/s  0 lost"));
        assert!(screen.is_ascii() && screen.contains("% CPU"), "{screen}");
        terminal.press("Space", "FROZEN");
        terminal.press("p", "Pid");
        end(&terminal);
        assert_eq!(terminal.ended(), "0", "{name}");
    }
    busy.kill().unwrap();
    busy.wait().unwrap();
}

#[test]
fn the_simulated_machine_has_a_live_flame_graph() {
    let dir = tempfile::tempdir().unwrap();
    let terminal = Terminal::start(
        dir.path(),
        "LC_ALL=C.UTF-8",
        "top --call-graph fp -I 200 --backend simulated:seed=7,seconds=600,pace=1",
    );
    terminal.until("rows", |screen| screen.contains("[.] main"));
    // Every program stands by itself.
    terminal.press("f", "▏httpd");
    terminal.until("programs", |screen| ["▏db", "▏httpd", "▏logger", "▏spin"].iter().all(|name| screen.contains(name)));
    terminal.press("Escape", "Children");
    terminal.press("Enter", "Called from");
    terminal.tmux(&["send-keys", "q"]);
    assert_eq!(terminal.ended(), "0");
}

/// Live or of a file, by a key and by an option.
/// The lane of this name on a screen.
fn lane<'a>(screen: &'a str, name: &str) -> &'a str {
    screen.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in:\n{screen}"))
}

/// The simulated machine gives each domain a millisecond in turn: so wide that one sees it.
#[test]
fn what_vcpus_did_when_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = Command::new(xprof());
    record.current_dir(&dir).args(["record", "-q", "--backend", "simulated:seconds=0.1", "--source", "vpmu"]);
    stdout(record.args(["-c", "50000", "-o", "t.data"]));
    for (environment, runs, waits) in [("LC_ALL=C.UTF-8", '█', '▒'), ("LC_ALL=C TERM=vt100", '#', 'w')] {
        let terminal = Terminal::start(dir.path(), environment, "report --tui -i t.data");
        terminal.until("table", |screen| screen.contains("Domain-0"));
        let whole = terminal.press("t", "timeline of vcpu-states by vCPU  0.000 to 0.1");
        let lanes =
            whole.lines().filter(|line| line.contains(" vCPU ") && line.ends_with('%') && !line.contains(" s  "));
        assert_eq!(lanes.count(), 6, "{whole}");
        assert!(whole.is_ascii() || waits != 'w', "{whole}");
        assert!(lane(&whole, "simulated1 vCPU 0").ends_with("33.5%  66.5%"), "{whole}");
        terminal.press("+", "a step is 1.");
        terminal.press("+", " us");
        terminal.press("+", "a step is 2");
        let near = terminal.press("+", "a step is 1");
        for name in ["simulated1 vCPU 0", "simulated2 vCPU 1"] {
            // A third of the time, in turns of a millisecond: some eight columns.
            let steps = lane(&near, name);
            let turn: String = std::iter::repeat_n(runs, 5).collect();
            assert!(steps.contains(&turn) && steps.contains(waits), "{near}");
        }
        let samples = terminal.press("e", "timeline of cycles by vCPU");
        assert!(!samples.contains("0.000 to"), "the same time is looked at: {samples}");
        terminal.press("v", "timeline of cycles by CPU");
        terminal.press("Escape", "0.000 to");
        terminal.press("Escape", "t timeline");
        terminal.tmux(&["send-keys", "q"]);
        assert_eq!(terminal.ended(), "0");
    }
    let terminal = Terminal::start(dir.path(), "LC_ALL=C.UTF-8", "top --backend simulated:seconds=600,pace=1");
    terminal.until("table", |screen| screen.contains("compare"));
    let live = terminal.press("t", "timeline of cycles by program");
    terminal.until("programs", |screen| ["db", "httpd", "logger", "spin"].iter().all(|of| screen.contains(of)));
    assert!(!live.contains("farther"), "{live}");
    terminal.press("+", "a recording can be zoomed");
    terminal.tmux(&["send-keys", "q"]);
    assert_eq!(terminal.ended(), "0");
}

#[test]
fn functions_compiled_into_others() {
    let dir = tempfile::tempdir().unwrap();
    let source = tree().join("tests/programs/inlined.c");
    let program = compile(dir.path(), &source, &["-O2", "-fno-optimize-sibling-calls"]);
    let mut record = Command::new(xprof());
    record.current_dir(&dir).args([
        "record",
        "-q",
        "-e",
        "page-faults:u",
        "-c",
        "1",
        "--call-graph",
        "fp",
        "-o",
        "i.data",
    ]);
    stdout(record.arg("--").arg(program));
    for command in ["report --tui -i i.data", "top --backend replay:i.data"] {
        for option in ["", " --no-inline"] {
            let terminal = Terminal::start(dir.path(), "LC_ALL=C.UTF-8", &format!("{command}{option}"));
            terminal.until("table", |screen| screen.contains("[.] outer"));
            // The table's rows are what code is part of.
            terminal.tmux(&["send-keys", "-l", "/outer"]);
            terminal
                .until("filtered table", |screen| screen.contains("with \"outer\"") && !screen.contains("[.] main"));
            terminal.press("Enter", "q quit");
            let with = |screen: &str| screen.contains("Called from") && screen.contains("[.] between (inlined)");
            let without = |screen: &str| screen.contains("Called from") && !screen.contains("(inlined)");
            terminal.tmux(&["send-keys", "Enter"]);
            if option.is_empty() {
                terminal.until("inlined functions", with);
                terminal.press("I", "without functions that were compiled into others");
                terminal.until("none of them", without);
            } else {
                terminal.until("no inlined functions", without);
                terminal.press("I", "with functions that were compiled into others");
                terminal.until("inlined functions", with);
            }
            terminal.press("Escape", "with \"outer\"");
            terminal.press("f", "▏all");
            let has_graph =
                |screen: &str| screen.contains("▏outer") && screen.contains("▏between") != option.is_empty();
            terminal.until("flame graph", has_graph);
            terminal.tmux(&["send-keys", "q"]);
            assert_eq!(terminal.ended(), "0", "{command}");
        }
    }
}

#[test]
fn without_a_terminal() {
    let output = run(Command::new(xprof()).args(["report", "--tui", "-i", "nowhere"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("xprof report --stdio"));
    let output = run(Command::new(xprof()).arg("top"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("xprof top --batch 1"));
}
