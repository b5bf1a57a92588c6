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

/// A recording that does not have its name yet: nothing that stands there is touched before it begins.
#[derive(Debug)]
pub(crate) struct Pending {
    /// The name it has and the name it gets; `None` when there is nothing to rename.
    names: Option<(PathBuf, PathBuf)>,
}

/// Opens a recording for writing, under another name until [`Pending::begin`]. `path` is `None` for stdout.
pub(crate) fn create(path: Option<&Path>) -> anyhow::Result<(Output<fs::File>, Pending)> {
    let Some(path) = path else {
        let copy = io::stdout().as_fd().try_clone_to_owned().context("cannot use stdout")?;
        return Ok((Output::Pipe(fs::File::from(copy)), Pending { names: None }));
    };
    let before = fs::metadata(path).ok();
    if before.as_ref().is_some_and(|m| m.is_dir()) {
        anyhow::bail!("cannot create {}: it is a directory", path.display());
    }
    // A device or a FIFO is written as it is.
    let special = before.as_ref().is_some_and(|m| !m.is_file());
    let stream = before.is_some_and(|m| m.file_type().is_fifo());
    let made = if special { path.into() } else { with_suffix(path, &format!("{}.new", std::process::id())) };
    let file = fs::OpenOptions::new()
        .read(!stream)
        .write(true)
        .create(!special)
        .truncate(!special)
        .mode(0o600)
        .open(&made)
        .with_context(|| format!("cannot create {}", path.display()))?;
    let output = if stream { Output::Pipe(file) } else { Output::File(file) };
    Ok((output, Pending { names: (!special).then(|| (made, path.into())) }))
}

impl Pending {
    /// Gives the recording its name; an older one becomes `FILE.old`.
    pub(crate) fn begin(mut self) -> anyhow::Result<()> {
        let Some((made, path)) = &self.names else { return Ok(()) };
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
        };
        if fs::metadata(path).is_ok_and(|m| m.len() > 0) {
            rename(path, &with_suffix(path, "old"))?;
        }
        rename(made, path)?;
        self.names = None;
        Ok(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((made, _)) = &self.names {
            let _ = fs::remove_file(made);
        }
    }
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
