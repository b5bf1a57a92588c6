//! Where a recording goes: a file (an older one is set aside), files by time stamp, or stdout.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use xprof_backend::sys::local_time;
use xprof_perfdata::write::Output;

use crate::exit::Failure;

/// Refuses to write binary to a terminal. `path` is `None` for stdout.
pub(crate) fn refuse_terminal(path: Option<&Path>) -> Result<(), Failure> {
    if path.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a recording is binary and stdout is a terminal: give a file with -o FILE, or a pipe",
        ));
    }
    Ok(())
}

/// Opens the recording for writing. What stood there before is kept as `FILE.old`.
pub(crate) fn create(path: Option<&Path>) -> anyhow::Result<Output<fs::File>> {
    let Some(path) = path else {
        let copy = io::stdout().as_fd().try_clone_to_owned().context("cannot use stdout")?;
        return Ok(Output::Pipe(fs::File::from(copy)));
    };
    let stream = fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo());
    if has_old(Some(path)) {
        let old = with_suffix(path, "old");
        fs::rename(path, &old).with_context(|| format!("cannot rename {} to {}", path.display(), old.display()))?;
    }
    let file = fs::OpenOptions::new()
        .read(!stream)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    Ok(if stream { Output::Pipe(file) } else { Output::File(file) })
}

/// Takes a recording back that never began: what stood there before is put back.
pub(crate) fn withdraw(path: Option<&Path>, had_old: bool) {
    let Some(path) = path.filter(|p| p.metadata().is_ok_and(|m| m.is_file())) else { return };
    // Nothing better can be done when this fails.
    let _ = if had_old { fs::rename(with_suffix(path, "old"), path) } else { fs::remove_file(path) };
}

/// True when [`create`] will set a file aside.
pub(crate) fn has_old(path: Option<&Path>) -> bool {
    path.and_then(|path| fs::metadata(path).ok()).is_some_and(|m| m.is_file() && m.len() > 0)
}

/// Gives a finished file the name that perf gives it, `FILE.YYYYMMDDhhmmsscc`.
pub(crate) fn stamp(path: &Path) -> anyhow::Result<PathBuf> {
    loop {
        let to = with_suffix(path, &stamp_text(local_time::now()));
        if to.symlink_metadata().is_ok() {
            // Two files within a hundredth of a second.
            std::thread::sleep(std::time::Duration::from_millis(5));
            continue;
        }
        fs::rename(path, &to).with_context(|| format!("cannot rename {} to {}", path.display(), to.display()))?;
        return Ok(to);
    }
}

fn stamp_text(([year, month, day, hour, minute, second], micros): ([i32; 6], u32)) -> String {
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}{:02}", micros / 10_000)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_perfs() {
        assert_eq!(stamp_text(([2026, 1, 2, 3, 4, 5], 678_901)), "2026010203040567");
    }

    #[test]
    fn suffixes_do_not_replace_extensions() {
        assert_eq!(with_suffix(Path::new("a/perf.data"), "old"), Path::new("a/perf.data.old"));
    }
}
