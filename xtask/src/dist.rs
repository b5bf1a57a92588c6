//! What is released: for each machine a static binary and a Debian package, in `target/dist`.
//!
//! The binaries are musl's, so that one file runs on every distribution, in containers and in an initramfs. The packages
//! hold those same binaries: what was tested is what is installed.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::manual;

/// A stripped binary must stay below this many bytes.
const LARGEST_BINARY: u64 = 8_000_000;

/// Version of cargo-deb that is installed when there is none.
const CARGO_DEB: &str = "3.8.0";

/// A machine that releases are made for.
struct Machine {
    /// rustc's name.
    target: &'static str,
    /// First word of the binary's name.
    name: &'static str,
    /// binutils' program, of the machine's own or Debian's cross package.
    strip: &'static str,
    /// Debian packages that the build needs.
    packages: &'static str,
}

const MACHINES: [Machine; 2] = [
    Machine {
        target: "x86_64-unknown-linux-musl",
        name: "x86_64",
        strip: "x86_64-linux-gnu-strip",
        packages: "musl-tools binutils",
    },
    Machine {
        target: "aarch64-unknown-linux-musl",
        name: "aarch64",
        strip: "aarch64-linux-gnu-strip",
        packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    },
];

/// Options of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this machine: x86_64 or aarch64
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,
}

/// Where everything goes.
pub(crate) fn directory() -> PathBuf {
    target_directory().join("dist")
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree().join("target"), PathBuf::from)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let machines: Vec<&Machine> =
        MACHINES.iter().filter(|m| options.machine.as_deref().is_none_or(|name| name == m.name)).collect();
    ensure!(!machines.is_empty(), "no such machine: x86_64 and aarch64 are released");

    let dist = directory();
    manual::write(&dist)?;
    fs::write(dist.join("changelog"), changelog()?).context("cannot write the Debian changelog")?;
    if !succeeds(cargo(["deb", "--version"]).stdout(std::process::Stdio::null()))? {
        call(&mut cargo(["install", "--locked", "cargo-deb", "--version", CARGO_DEB]))?;
    }
    for machine in machines {
        release(machine, &dist)?;
    }
    Ok(())
}

fn release(machine: &Machine, dist: &Path) -> Result<()> {
    add_target(machine.target)?;
    call(&mut cargo(["build", "--release", "--package", "xprof", "--target", machine.target]))
        .with_context(|| format!("the build for {} needs these Debian packages: {}", machine.name, machine.packages))?;

    let built = target_directory().join(machine.target).join("release/xprof");
    let binary = dist.join(format!("xprof-{}", machine.name));
    call(Command::new(machine.strip).arg("-o").arg(&binary).arg(&built))?;
    let size = fs::metadata(&binary).with_context(|| format!("cannot read {}", binary.display()))?.len();
    ensure!(size < LARGEST_BINARY, "{} has {size} bytes; {LARGEST_BINARY} are too many", binary.display());
    println!("{} {size} bytes", binary.display());

    // The package holds this very file; its manifest names it without a machine.
    fs::copy(&binary, dist.join("xprof")).with_context(|| format!("cannot copy {}", binary.display()))?;
    call(
        cargo([
            "deb",
            "--quiet",
            "--no-build",
            "--no-strip",
            "--package",
            "xprof",
            "--target",
            machine.target,
            "--output",
        ])
        .arg(dist),
    )
}

/// rustup's target, when rustup is here and it is missing; a distribution's Rust has its own ways.
fn add_target(target: &str) -> Result<()> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
    if sysroot.join("lib/rustlib").join(target).exists() {
        return Ok(());
    }
    call(Command::new("rustup").args(["target", "add", target]))
}

/// The changelog in Debian's form, which points to ours: dated by the last commit, so that a build can be repeated.
fn changelog() -> Result<String> {
    let git = Command::new("git").args(["log", "-1", "--format=%aD"]).current_dir(tree()).output();
    let date = match git {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        _ => "Thu, 01 Jan 2026 00:00:00 +0000".to_string(),
    };
    let (version, maintainer) = (env!("CARGO_PKG_VERSION"), maintainer()?);
    Ok(format!(
        "xprof ({version}-1) unstable; urgency=medium\n\n  * Release {version}; CHANGELOG.md says what is new.\n\n -- {maintainer}  {date}\n"
    ))
}

/// The maintainer as xprof/Cargo.toml names it for cargo-deb.
fn maintainer() -> Result<String> {
    let manifest = fs::read_to_string(tree().join("xprof/Cargo.toml")).context("cannot read xprof/Cargo.toml")?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("maintainer = \""));
    match line.and_then(|rest| rest.strip_suffix('"')) {
        Some(maintainer) => Ok(maintainer.to_string()),
        None => bail!("xprof/Cargo.toml names no maintainer"),
    }
}

fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(tree());
    command
}

fn succeeds(command: &mut Command) -> Result<bool> {
    let name = command.get_program().to_owned();
    Ok(command.status().with_context(|| format!("cannot run {}", name.display()))?.success())
}

fn call(command: &mut Command) -> Result<()> {
    let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words = words.join(OsStr::new(" "));
    ensure!(succeeds(command)?, "{} failed", words.display());
    Ok(())
}
