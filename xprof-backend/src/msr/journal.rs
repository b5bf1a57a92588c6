//! What is changed on the machine, written down before it is: a small file in `/run`, locked by the program that made it.
//! A file that nobody locks was left by a program that was killed.
//!
//! The lines are the caller's. What comes back of them may be cut short or somebody else's, and is read that way.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Class, DomId, Error, Result};

/// The most that is read of a journal, bytes.
const MOST: u64 = 1 << 20;

/// A journal that is held by this program.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: fs::File,
}

impl Journal {
    /// Makes and locks a journal; `what` it is for, as in "use the registers of CPU 3".
    ///
    /// # Errors
    /// [`Error::Busy`] while another program has it; [`Error::Os`] when one that was killed has left something there
    /// (`EUCLEAN`), or the file cannot be made.
    pub(crate) fn take(directory: &Path, name: &str, class: Class, what: &str) -> Result<Journal> {
        let path = directory.join(name);
        let failed = |source: io::Error| Error::Os { attempt: format!("make the journal {}", path.display()), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = loop {
            let file = options.open(&path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Busy { class, holders: vec![DomId::ZERO] }),
                Err(error) => return Err(failed(error.into())),
            }
            // Whoever had it may have removed it between the two.
            let named = fs::symlink_metadata(&path).ok().map(|metadata| metadata.ino());
            if named == Some(file.metadata().map_err(failed)?.ino()) {
                break file;
            }
        };
        if file.metadata().map_err(failed)?.len() > 0 {
            // EUCLEAN: there is something to be cleaned up first.
            let source = io::Error::from_raw_os_error(libc::EUCLEAN);
            return Err(Error::Os { attempt: format!("{what}: {} is there", path.display()), source });
        }
        Ok(Journal { path, file })
    }

    /// Writes lines down.
    ///
    /// # Errors
    /// [`Error::Os`] when that fails; what they say must not be done then.
    pub(crate) fn note(&mut self, lines: &str) -> Result<()> {
        self.file
            .write_all(lines.as_bytes())
            .map_err(|source| Error::Os { attempt: format!("write {}", self.path.display()), source })
    }

    /// Everything was put back: there is nothing to tell any more.
    pub(crate) fn end(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A journal that nobody holds any more.
#[derive(Debug)]
pub(crate) struct Unheld {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// Keeps others out while it is looked at.
    pub(crate) lock: fs::File,
}

/// The journals of a directory that nobody holds, by name.
///
/// # Errors
/// [`Error::Os`] when the directory cannot be read; that there is none is no error.
pub(crate) fn unheld(directory: &Path) -> Result<Vec<Unheld>> {
    let failed = |source| Error::Os { attempt: format!("read {}", directory.display()), source };
    let list = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        answer => answer.map_err(failed)?,
    };
    let mut all = Vec::new();
    for path in list.filter_map(|entry| Some(entry.ok()?.path())) {
        let open = fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
        let Ok(file) = open else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let mut text = String::new();
        (&file).take(MOST).read_to_string(&mut text).map_err(failed)?;
        all.push(Unheld { path, text, lock: file });
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// What became of a change that was to be taken back.
#[derive(Debug)]
pub enum Outcome {
    /// It holds its old value again.
    Restored,
    /// It was never made: the old value is there.
    Unchanged,
    /// There is neither the old value nor the new one: somebody else has changed it since.
    Left {
        /// What it holds.
        now: u64,
    },
    /// It is no register of this machine's classes.
    Unknown,
    /// Its domain is gone, and its registers with it.
    Gone,
    /// That was refused.
    Failed(io::Error),
}

impl Outcome {
    /// Takes back what is changed from `old` to `new` and holds `now`.
    pub(crate) fn back(old: u64, new: u64, now: u64, write: impl FnOnce(u64) -> io::Result<()>) -> Outcome {
        match now {
            now if now == old && now != new => Outcome::Unchanged,
            now if now == new => write(old).map_or_else(Outcome::Failed, |()| Outcome::Restored),
            now => Outcome::Left { now },
        }
    }

    /// True when nothing is left to be done.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Outcome::Failed(_))
    }
}
