//! `xprof archive`: a recording and the binaries that its build-id table names, as a tar file of perf's cache layout.
//!
//! Only files whose build id is the recorded one go in: on the other machine they are believed.

pub(crate) mod guests;
pub(crate) mod tar;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use flate2::Compression;
use flate2::write::GzEncoder;
use rustc_hash::FxHashSet;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{MmapFile, Record};
use xprof_perfdata::source::Source;
use xprof_profile::supply::{BuildId, Need, Supplier};
use xprof_profile::symbols;

use crate::input;
use crate::record::is_of_guest;
use guests::Kernel;
use tar::Tar;

/// Kinds of files in the cache, as perf and xprof name them.
const KINDS: [&str; 5] = ["elf", "kallsyms", "vdso", "debug", "perf-map"];
/// Most bytes taken of a file that has no length (kallsyms).
const ENDLESS_MAX: u64 = 256 << 20;

/// What went in.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Files.
    pub(crate) files: usize,
    /// Binaries that are no longer here, or have changed: their paths.
    pub(crate) missing: Vec<String>,
}

/// The binaries that a recording names.
pub(crate) fn wanted(path: &Path) -> anyhow::Result<Vec<BuildIdEntry>> {
    let mut recording = input::open(path)?;
    let mut mapped = Vec::new();
    let mut batch = None;
    while let Some(next) = recording.next_batch(batch.take())? {
        let events = &recording.description().events;
        // What a guest maps is none of this machine's files.
        let host = |raw: &RawRecord<'_>| !is_of_guest(raw.misc);
        for raw in next.iter().filter(|raw| raw.kind == xprof_perfdata::abi::record::MMAP2 && host(raw)) {
            if let Ok((Record::Mmap(mmap), _)) = Record::decode(&raw, events)
                && let MmapFile::BuildId(build_id) = mmap.file
            {
                mapped.push(BuildIdEntry { misc: raw.misc, pid: -1, build_id, path: mmap.path });
            }
        }
        batch = Some(next);
    }
    // A recording that was not finished has no table, but the kernel's own build ids.
    let table = recording.description().features.build_ids.clone();
    let mut list = if table.is_empty() { mapped } else { table };
    let mut seen = FxHashSet::default();
    list.retain(|entry| seen.insert((entry.build_id.clone(), entry.path.clone())));
    Ok(list)
}

/// Writes the archive.
pub(crate) fn write(
    (recording, kernels): (&Path, &[Kernel]),
    entries: &[BuildIdEntry],
    supplier: &dyn Supplier,
    (out, path): (fs::File, &Path),
) -> anyhow::Result<Contents> {
    let mut tar = Tar::new(GzEncoder::new(io::BufWriter::new(out), Compression::fast()));
    let mut contents = Contents::default();
    let name = recording.file_name().unwrap_or(OsStr::new(input::DEFAULT)).as_bytes();
    if kernels.is_empty() {
        let data = fs::File::open(recording).with_context(|| format!("cannot open {}", recording.display()))?;
        let size = data.metadata().context("cannot ask for the recording's size")?.len();
        tar.file(name, size, data).context("cannot write the archive")?;
    } else {
        folder(&mut tar, Path::new(OsStr::from_bytes(name)), (recording, kernels), path)?;
    }
    for entry in entries {
        let found = files(entry, supplier);
        if found.is_empty() {
            contents.missing.push(String::from_utf8_lossy(&entry.path).into_owned());
            continue;
        }
        let id = BuildId(entry.build_id.clone()).to_string();
        let directory = inside(&entry.path).join(&id);
        for (kind, source) in found {
            add(&mut tar, &directory.join(kind), source.as_ref()).context("cannot write the archive")?;
            contents.files += 1;
        }
        if let Some((first, rest)) = id.split_at_checked(2).filter(|(_, rest)| !rest.is_empty()) {
            let link = format!(".build-id/{first}/{rest}");
            let target = Path::new("../..").join(&directory);
            tar.link(link.as_bytes(), target.as_os_str().as_bytes()).context("cannot write the archive")?;
        }
    }
    let gzip = tar.finish().context("cannot write the archive")?;
    gzip.finish().and_then(|mut out| out.flush()).context("cannot write the archive")?;
    Ok(contents)
}

/// Adds a recording as a folder, with the kallsyms of guests. `path`: the archive's own.
fn folder<W: Write>(
    tar: &mut Tar<W>,
    name: &Path,
    (recording, kernels): (&Path, &[Kernel]),
    path: &Path,
) -> anyhow::Result<()> {
    let mut data = guests::scratch(path)?;
    guests::write(recording, kernels, data.try_clone().context("cannot write the archive")?)?;
    let mut add = |inside: String, mut file: fs::File| {
        file.rewind()?;
        tar.file(name.join(inside).as_os_str().as_bytes(), file.metadata()?.len(), &mut file)
    };
    data.flush().and_then(|()| add("data".into(), data)).context("cannot write the archive")?;
    for kernel in kernels {
        let file = fs::File::open(&kernel.kallsyms);
        let file = file.with_context(|| format!("cannot open {}", kernel.kallsyms.display()))?;
        add(format!("kcore_dir__{}/kallsyms", kernel.machine), file).context("cannot write the archive")?;
    }
    Ok(())
}

/// The files that belong to a build id, by their names in the cache.
fn files(entry: &BuildIdEntry, supplier: &dyn Supplier) -> Vec<(&'static str, Arc<dyn Source>)> {
    let build_id = BuildId(entry.build_id.clone());
    let cached = |kind| supplier.supply(&Need::Cached { build_id: build_id.clone(), kind }).ok().map(|s| (kind, s));
    let mut found: Vec<_> = KINDS.into_iter().filter_map(cached).collect();
    let has = |found: &[(&str, Arc<dyn Source>)], kind| found.iter().any(|(k, _)| *k == kind);
    let is_it = |source: &Arc<dyn Source>| {
        symbols::build_id_of(Arc::clone(source)).is_some_and(|id| id.0.starts_with(&build_id.0))
    };
    let checked = |need: Need| supplier.supply(&need).ok().filter(|source| is_it(source));
    if entry.path.starts_with(b"[kernel") {
        if !has(&found, "kallsyms")
            && let Ok(source) = supplier.supply(&Need::Kallsyms { build_id: Some(build_id.clone()) })
        {
            found.push(("kallsyms", source));
        }
    } else if entry.path == b"[vdso]" {
        if !has(&found, "vdso")
            && let Some(source) = checked(Need::Vdso)
        {
            found.push(("vdso", source));
        }
    } else if entry.path.first() == Some(&b'/') && !has(&found, "perf-map") {
        if !has(&found, "elf")
            && let Some(source) = checked(Need::Path { path: entry.path.clone(), pid: None })
        {
            found.push(("elf", source));
        }
        if !has(&found, "debug")
            && let Some(source) = checked(Need::Debug { build_id: build_id.clone() })
        {
            found.push(("debug", source));
        }
    }
    found
}

fn add<W: Write>(tar: &mut Tar<W>, name: &Path, source: &dyn Source) -> io::Result<()> {
    let name = name.as_os_str().as_bytes();
    let from = From { source, at: 0 };
    if !source.is_empty() {
        return tar.file(name, source.len(), from);
    }
    // Files of /proc say no length.
    let mut bytes = Vec::new();
    from.take(ENDLESS_MAX).read_to_end(&mut bytes)?;
    tar.file(name, bytes.len() as u64, bytes.as_slice())
}

/// A source, read from its beginning.
struct From<'a> {
    source: &'a dyn Source,
    at: u64,
}

impl Read for From<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read_at(self.at, buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A path of a recording as one below the cache: never outside of it.
pub(crate) fn inside(path: &[u8]) -> PathBuf {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    Path::new(OsStr::from_bytes(path)).components().filter(|c| matches!(c, Component::Normal(_))).collect()
}
