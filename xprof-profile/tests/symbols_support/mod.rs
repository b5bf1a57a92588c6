//! Files, compilers and witnesses for the tests of symbols.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use xprof_perfdata::source::Source;
use xprof_profile::supply::{BuildId, Need, Supplier};
use xprof_profile::symbols::{Module, ModuleKind};

/// Gives files by their path, and those of `cache` and `debug` by build id.
pub struct Files {
    /// Files of `~/.debug`: build id in hexadecimal, kind, path.
    pub cached: Vec<(String, &'static str, PathBuf)>,
    /// Debug files: build id in hexadecimal, path.
    pub debug: Vec<(String, PathBuf)>,
    /// What stands for `/proc/kallsyms`.
    pub kallsyms: Option<Vec<u8>>,
    /// The kernel's own file, as the user gave it.
    pub vmlinux: Option<PathBuf>,
    /// What stands for the map of any process.
    pub perf_map: Option<Vec<u8>>,
    /// Also debug files that packages installed.
    pub installed: bool,
}

impl Files {
    pub fn empty() -> Files {
        let (cached, debug) = (Vec::new(), Vec::new());
        Files { cached, debug, kallsyms: None, vmlinux: None, perf_map: None, installed: false }
    }
    pub fn new() -> Arc<Files> {
        Arc::new(Files::empty())
    }
}

impl Supplier for Files {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        let none = || io::Error::from(io::ErrorKind::NotFound);
        let path = match need {
            Need::Path { path, .. } => PathBuf::from(std::ffi::OsStr::from_bytes(path)),
            Need::Cached { build_id, kind } => {
                let id = build_id.to_string();
                self.cached.iter().find(|c| c.0 == id && c.1 == *kind).ok_or_else(none)?.2.clone()
            }
            Need::Debug { build_id } => {
                let id = build_id.to_string();
                match self.debug.iter().find(|c| c.0 == id) {
                    Some(debug) => debug.1.clone(),
                    None if self.installed => installed_debug(&id),
                    None => return Err(none()),
                }
            }
            Need::Kallsyms { .. } => return Ok(Arc::new(self.kallsyms.clone().ok_or_else(none)?)),
            Need::Vmlinux => self.vmlinux.clone().ok_or_else(none)?,
            Need::PerfMap { .. } => return Ok(Arc::new(self.perf_map.clone().ok_or_else(none)?)),
            _ => return Err(none()),
        };
        Ok(Arc::new(Pread(File::open(path)?)))
    }
}

/// Where packages put the debug file of a build id.
pub fn installed_debug(id: &str) -> PathBuf {
    PathBuf::from(format!("/usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]))
}

/// The build id that readelf reads.
pub fn build_id(path: &Path) -> Option<String> {
    let notes = run("readelf", &["-n", path.to_str().unwrap()]);
    notes.lines().find_map(|l| l.trim().strip_prefix("Build ID: ").map(str::to_owned))
}

struct Pread(File);

impl Source for Pread {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
}

/// A program as a module, without build id.
pub fn user(path: &Path) -> Module {
    Module { path: path.as_os_str().as_bytes().to_vec(), kind: ModuleKind::User, build_id: None, pid: None }
}

/// What a command prints; it must succeed.
pub fn run(command: &str, arguments: &[&str]) -> String {
    let out = Command::new(command).args(arguments).output().unwrap_or_else(|e| panic!("{command}: {e}"));
    assert!(out.status.success(), "{command} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// The bytes of a build id in hexadecimal.
pub fn bytes_of(id: &str) -> BuildId {
    BuildId((0..id.len()).step_by(2).map(|i| u8::from_str_radix(&id[i..i + 2], 16).unwrap()).collect())
}

/// A folder of this test.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles a program in a folder of its own.
pub fn compile(name: &str, extension: &str, source: &str, compiler: &[&str]) -> PathBuf {
    let folder = folder(name);
    let (input, output) = (folder.join(format!("program.{extension}")), folder.join("program"));
    fs::write(&input, source).unwrap();
    let mut arguments = compiler[1..].to_vec();
    arguments.extend([input.to_str().unwrap(), "-o", output.to_str().unwrap()]);
    run(compiler[0], &arguments);
    output
}

/// Names through `c++filt` as perf has them: without parameters and Rust's hashes.
pub fn filt<S: AsRef<str>>(names: impl Iterator<Item = S>) -> BTreeSet<String> {
    filt_each(&names.map(|n| n.as_ref().to_owned()).collect::<Vec<_>>()).into_iter().collect()
}

/// The same, one for one.
pub fn filt_each(names: &[String]) -> Vec<String> {
    let mut child = Command::new("c++filt")
        .args(["-p", "-i"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("c++filt (binutils)");
    let mut stdin = child.stdin.take().unwrap();
    let text = names.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
}
