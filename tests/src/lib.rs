//! What crosses crates: the command line, and perf as the witness of what it prints.
//!
//! These tests really record: they need root, Linux, perf and gcc (`tests/run` installs them).

pub mod control;
pub mod oracle;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The top of the tree.
pub fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the tree")
}

/// The `xprof` binary of this tree, built once per test process.
pub fn xprof() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "--bin", "xprof"]).current_dir(tree()).status();
        assert!(built.expect("cargo runs").success(), "xprof does not build");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree().join("target"), PathBuf::from);
        target.join("debug/xprof")
    })
}

/// Runs a command to its end; panics when it cannot be started.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command that must succeed; its standard output.
pub fn stdout(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles a C program of `benches/workloads` or of the test, with frame pointers, into `dir`.
pub fn compile(dir: &Path, source: &Path, options: &[&str]) -> PathBuf {
    let name = source.file_stem().expect("a source has a name");
    let program = dir.join(name);
    stdout(
        Command::new("gcc")
            .args(["-O1", "-g", "-fno-omit-frame-pointer"])
            .args(options)
            .arg("-o")
            .arg(&program)
            .arg(source),
    );
    program
}

/// The program of known work.
pub fn storm(dir: &Path) -> PathBuf {
    compile(dir, &tree().join("benches/workloads/storm.c"), &["-fno-optimize-sibling-calls"])
}
