//! Debug information from servers: Debian's own `debuginfod` on the loopback, and servers that hang, lie or have nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xprof_tests::{run, stdout, tree, xprof};

/// A stripped program, its recording, its debug file in a folder of its own, and its build id.
struct Case {
    dir: tempfile::TempDir,
    file: PathBuf,
    build_id: String,
}

fn case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let source = tree().join("tests/programs/inlined.c");
    let flags = ["-O2", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-Wl,--build-id=sha1", "-o"];
    stdout(Command::new("gcc").args(flags).arg("inlined").arg(source).current_dir(dir.path()));
    let prepare = "mkdir debug && objcopy --only-keep-debug inlined debug/inlined.debug && strip inlined";
    stdout(Command::new("sh").args(["-ec", prepare]).current_dir(dir.path()));
    let file = dir.path().join("perf.data");
    let record = ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o"];
    stdout(Command::new(xprof()).args(record).arg(&file).arg("--").arg(dir.path().join("inlined")));
    let notes = stdout(Command::new("readelf").arg("-n").arg(dir.path().join("inlined")));
    let build_id = notes.lines().find_map(|l| l.trim().strip_prefix("Build ID: ")).unwrap().to_owned();
    Case { dir, file, build_id }
}

impl Case {
    fn debug(&self) -> PathBuf {
        self.dir.path().join("debug/inlined.debug")
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Folded stacks of the program alone, and what was said, with servers.
    fn folded(&self, urls: &str, seconds: &str) -> (String, String) {
        let mut export = Command::new(xprof());
        export.args(["export", "--to", "folded", "--dso", "inlined", "-i"]).arg(&self.file);
        export.env("DEBUGINFOD_URLS", urls).env("DEBUGINFOD_CACHE_PATH", self.cache()).env("HOME", self.dir.path());
        export.env("DEBUGINFOD_TIMEOUT", seconds).env("DEBUGINFOD_MAXTIME", seconds);
        let Output { status, stdout, stderr } = run(&mut export);
        assert!(status.success());
        let heavy = |line: &&str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 900;
        let stacks: Vec<_> = std::str::from_utf8(&stdout).unwrap().lines().filter(heavy).map(last_frames).collect();
        (stacks.join(" "), String::from_utf8_lossy(&stderr).into_owned())
    }
}

/// What stands behind `main`, or the last frame of a stack without it.
fn last_frames(line: &str) -> String {
    let stack = line.rsplit_once(' ').unwrap().0;
    stack.split_once(";main").map_or_else(|| "unnamed".into(), |(_, rest)| rest.to_owned())
}

const NAMED: &str = ";innermost ;outer;between;innermost";

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn debians_own_server() {
    let case = case();
    let port = free_port();
    let mut server = Command::new("debuginfod");
    server.args(["-F", "-d", ":memory:", "-R", "-p", &port.to_string()]).arg(case.dir.path().join("debug"));
    let server = server.env("HOME", case.dir.path()).env_remove("DEBUGINFOD_URLS");
    let _server = Server(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let until = Instant::now() + Duration::from_secs(60);
    // It answers as soon as it has seen the folder.
    while run(Command::new("curl").args(["-sf", &format!("{url}/buildid/{}/debuginfo", case.build_id)]))
        .stdout
        .is_empty()
    {
        assert!(Instant::now() < until, "debuginfod does not answer");
        std::thread::yield_now();
    }
    assert_eq!(case.folded("", "20").0, "unnamed unnamed");
    assert_eq!(case.folded(&url, "20"), (NAMED.to_owned(), String::new()));
    let kept = case.cache().join(&case.build_id).join("debuginfo");
    assert_eq!(std::fs::read(&kept).unwrap(), std::fs::read(case.debug()).unwrap());
    // What is in the cache, by whomever, needs no server.
    drop(_server);
    assert_eq!(case.folded(&url, "20"), (NAMED.to_owned(), String::new()));
    // A damaged cache is not believed.
    std::fs::write(&kept, b"\x7fELF").unwrap();
    let (stacks, said) = case.folded(&url, "20");
    assert_eq!(stacks, "unnamed unnamed");
    assert!(said.contains("cannot be reached"), "{said}");
}

/// A server that answers every request the same way; how often it was asked.
fn liar(answer: impl Fn(TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            count.fetch_add(1, Ordering::Relaxed);
            open.push(stream.try_clone().unwrap());
            answer(stream);
        }
    });
    (url, asked)
}

fn ok(mut stream: TcpStream, body: &[u8]) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

#[test]
fn servers_that_hang_lie_or_have_nothing() {
    let case = case();
    let right = std::fs::read(case.debug()).unwrap();
    let (good, _) = liar(move |stream| ok(stream, &right));
    let other = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let (hangs, asked_hanging) = liar(drop);
    let (wrong, asked_wrong) = liar(move |stream| ok(stream, &other));
    let (garbage, _) = liar(|stream| ok(stream, b"not an ELF file"));
    let (circles, _) = liar(|mut stream| {
        let _ = stream
            .write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let (fails, _) = liar(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    // Said at once to be far too much.
    let (bomb, _) = liar(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n");
    });
    let nobody = format!("http://127.0.0.1:{}", free_port());
    for (bad, because) in [
        (&hangs, "did not answer in time"),
        (&wrong, "is not the file with build id"),
        (&garbage, "is not the file with build id"),
        (&circles, "the transfer failed"),
        (&fails, "it answered 500"),
        (&bomb, "the transfer failed"),
        (&nobody, "cannot be reached"),
    ] {
        let _ = std::fs::remove_dir_all(case.cache());
        let (stacks, said) = case.folded(bad, "2");
        assert_eq!(stacks, "unnamed unnamed", "{because}");
        assert_eq!(said.matches("is not asked for debug information any more").count(), 1, "{said}");
        assert!(said.contains(because), "{because}: {said}");
        // The next one is asked, and what it has is taken.
        let (stacks, _) = case.folded(&format!("{bad} {good}"), "2");
        assert_eq!(stacks, NAMED, "{because}");
        assert!(is_right(&case), "{because}");
    }
    // One time for each run, however many files are wanted.
    assert_eq!((asked_hanging.load(Ordering::Relaxed), asked_wrong.load(Ordering::Relaxed)), (2, 2));
    // That nobody has a file is remembered, as elfutils' client does.
    let _ = std::fs::remove_dir_all(case.cache());
    let (empty, asked) = liar(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    for _ in 0..2 {
        assert_eq!(case.folded(&empty, "2"), ("unnamed unnamed".to_owned(), case.folded("", "2").1));
    }
    // For the program, and for libraries of its stacks that are stripped too.
    let files = std::fs::read_dir(case.cache()).unwrap().count();
    assert_eq!(asked.load(Ordering::Relaxed), files);
}

fn is_right(case: &Case) -> bool {
    let kept: &Path = &case.cache().join(&case.build_id).join("debuginfo");
    std::fs::read(kept).unwrap() == std::fs::read(case.debug()).unwrap()
}
