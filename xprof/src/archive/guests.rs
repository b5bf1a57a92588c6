//! A recording of domains in the form in which perf names the kernels of guests: a folder with the data, and the kallsyms of
//! each machine in `kcore_dir__MACHINE`, where perf looks for them.
//!
//! A plain recording says nothing of the place of guests' kernels: perf would name them from the kallsyms of whatever
//! machine it runs on. Here it is said, because the right ones are there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustc_hash::FxHashSet;
use xprof_perfdata::abi::{misc, record};
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_perfdata::sample::{SampleFormat, SampleId};

use crate::{input, rewrite};

/// Lines of kallsyms that are read at most: a kernel has some hundred thousand symbols.
const LINES_MAX: usize = 4 << 20;

/// The kernel of one guest.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its machine.
    pub(crate) machine: u32,
    /// Its kallsyms.
    pub(crate) kallsyms: PathBuf,
    name: &'static str,
    start: u64,
    end: u64,
}

impl Kernel {
    /// Reads from its kallsyms where a kernel lies.
    pub(crate) fn of(machine: u32, kallsyms: &Path) -> anyhow::Result<Kernel> {
        let what = || format!("cannot use {} of guest {machine}", kallsyms.display());
        let lines = BufReader::new(File::open(kallsyms).with_context(what)?).lines();
        let (mut text, mut stext, mut end) = (None, None, None);
        for line in lines.take(LINES_MAX) {
            let line = line.with_context(what)?;
            let mut words = line.split_ascii_whitespace();
            let (address, name) = (words.next().and_then(|word| u64::from_str_radix(word, 16).ok()), words.nth(1));
            match name {
                Some("_text") => text = address,
                Some("_stext") => stext = address,
                Some("_etext") => end = address,
                _ => {}
            }
        }
        let named = text.map(|at| ("_text", at)).or(stext.map(|at| ("_stext", at)));
        let Some((name, start)) = named.filter(|(_, start)| *start != 0) else {
            bail!(
                "{}: neither _text nor _stext has an address in it; copy /proc/kallsyms as the guest's root (sysctl kernel.kptr_restrict=0)",
                what()
            );
        };
        let end = end.filter(|end| *end > start).unwrap_or(u64::MAX);
        Ok(Kernel { machine, kallsyms: kallsyms.to_owned(), name, start, end })
    }

    /// The record that says where it lies.
    fn record(&self, id: u64, format: &SampleFormat) -> xprof_perfdata::Result<Vec<u8>> {
        let mmap = Record::Mmap(Mmap {
            v2: false,
            pid: self.machine,
            tid: 0,
            start: self.start,
            len: self.end - self.start,
            pgoff: self.start,
            file: MmapFile::Unknown,
            path: format!("[guest.kernel.kallsyms.{}]{}", self.machine, self.name).into_bytes(),
            ..Mmap::default()
        });
        let id = SampleId { fields: u64::MAX, pid: self.machine, id, ..SampleId::default() };
        mmap.encode(&id, misc::GUEST_KERNEL, format)
    }
}

/// Writes the recording at `path` to `out`, with the places of these kernels in it.
pub(crate) fn write(path: &Path, kernels: &[Kernel], out: File) -> anyhow::Result<()> {
    let mut said: FxHashSet<u32> = FxHashSet::default();
    rewrite::rewrite(
        input::open(path)?,
        out,
        |_| {},
        |passing, events, out| {
            out.extend_from_slice(passing.whole);
            if passing.raw.kind != record::ID_INDEX {
                return Ok(());
            }
            // Right behind the record that names a guest's ids, whose first one says whose the mapping is.
            let Ok((Record::IdIndex(index), _)) = Record::decode(&passing.raw, events) else { return Ok(()) };
            for entry in &index.entries {
                let kernel = kernels.iter().find(|kernel| u64::from(kernel.machine) == entry.machine_pid);
                let event = events.by_id(entry.id).and_then(|event| events.list().get(event));
                if let (Some(kernel), Some(event)) = (kernel, event)
                    && said.insert(kernel.machine)
                {
                    out.extend(kernel.record(entry.id, &event.format)?);
                }
            }
            Ok(())
        },
    )?;
    if let Some(kernel) = kernels.iter().find(|kernel| !said.contains(&kernel.machine)) {
        bail!(
            "--guest-kallsyms: no domain {} is in the recording; xprof report -s domain shows those that are",
            kernel.machine
        );
    }
    Ok(())
}

/// A file without a name for what is made on the way, beside the archive.
pub(crate) fn scratch(archive: &Path) -> anyhow::Result<File> {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = folder.join(format!(".xprof-archive-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.with_context(|| format!("cannot create {}", path.display()))?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(file)
}
