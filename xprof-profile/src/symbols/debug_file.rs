//! Where names are when a program was stripped: its separate debug file, or the compressed table inside it.

use std::io::{self, Read};
use std::sync::Arc;

use object::{Endianness, U32, pod};
use xprof_perfdata::source::Source;

use super::elf::{Elf, read_up_to};
use super::symtab::has_symtab;
use crate::supply::{BuildId, Need, Supplier};

/// `.gnu_debuglink` is a file name, and `.gnu_debugdata` some megabytes; more is not read or unpacked.
const LONGEST_LINK: u64 = 4096;
const MOST_PACKED: u64 = 256 << 20;
const MOST_UNPACKED: u64 = 1 << 30;

/// The separate debug file of `elf`, which was found as `path` (in the mount namespace of `pid`): by build id, by
/// `.gnu_debuglink`, by its path below `/usr/lib/debug`, from a server. A file is believed when its build id is the same, or, when either
/// has none, when its checksum is that of the link.
pub(crate) fn find(supplier: &dyn Supplier, elf: &Elf, path: &[u8], pid: Option<u32>) -> Option<Elf> {
    let build_id = elf.build_id();
    let open = |need: &Need| Elf::open(supplier.supply(need).ok()?).ok().filter(has_symtab);
    if let Some(id) = &build_id {
        let by_id = [Need::Debug { build_id: id.clone() }, Need::Cached { build_id: id.clone(), kind: "debug" }];
        let found = by_id.iter().filter_map(open).find(|debug| debug.build_id().is_none_or(|d| d == *id));
        if found.is_some() {
            return found;
        }
    }
    let link = debuglink(elf);
    let crc = link.as_ref().map(|l| l.1);
    // A container's debug files may be on this machine only.
    let pids = [Some(pid), pid.and(Some(None))];
    let tries = pids.into_iter().flatten().flat_map(|pid| {
        places(path, link.as_ref().map(|l| &l.0[..])).into_iter().map(move |path| Need::Path { path, pid })
    });
    let found = tries.into_iter().find_map(|need| {
        let source = supplier.supply(&need).ok()?;
        let debug = Elf::open(source.clone()).ok().filter(has_symtab)?;
        let same = match (&build_id, debug.build_id()) {
            (Some(a), Some(b)) => *a == b,
            _ => crc.is_some_and(|crc| crc32(&*source).is_ok_and(|c| c == crc)),
        };
        same.then_some(debug)
    });
    found.or_else(|| download(supplier, &build_id?))
}

/// Debug information of a build id from a server; what has another build id is refused.
pub(crate) fn download(supplier: &dyn Supplier, build_id: &BuildId) -> Option<Elf> {
    let need = Need::Download { build_id: build_id.clone(), what: "debuginfo" };
    Elf::open(supplier.supply(&need).ok()?).ok().filter(|debug| debug.build_id().as_ref() == Some(build_id))
}

/// Where a debug file of `path` may be, best first.
fn places(path: &[u8], link: Option<&[u8]>) -> Vec<Vec<u8>> {
    let folder = &path[..path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1)];
    let mut places = Vec::new();
    if let Some(link) = link {
        places.push([folder, link].concat());
        places.push([folder, b".debug/", link].concat());
        places.push([b"/usr/lib/debug", folder, link].concat());
    }
    places.push([b"/usr/lib/debug", path, b".debug"].concat());
    places.push([b"/usr/lib/debug", path].concat());
    places.retain(|p| p != path);
    places
}

/// `.gnu_debuglink`: a file name and the checksum of that file. A name with a `/` in it is refused.
fn debuglink(elf: &Elf) -> Option<(Vec<u8>, u32)> {
    let (_, section) = elf.section_named(b".gnu_debuglink")?;
    let bytes = elf.bytes(section, LONGEST_LINK).ok()?;
    let end = bytes.iter().position(|&b| b == 0)?;
    let name = bytes[..end].to_vec();
    let at = (end + 4) & !3;
    let (crc, _) = pod::from_bytes::<U32<Endianness>>(bytes.get(at..)?).ok()?;
    let crc = crc.get(elf.endian);
    (!name.is_empty() && !name.contains(&b'/')).then_some((name, crc))
}

/// The checksum of zlib, Ethernet and `.gnu_debuglink` over the whole file.
fn crc32(source: &dyn Source) -> io::Result<u32> {
    let mut crc = flate2::Crc::new();
    let mut offset = 0;
    loop {
        let bytes = read_up_to(source, offset, 1 << 20)?;
        if bytes.is_empty() {
            return Ok(crc.sum());
        }
        crc.update(&bytes);
        offset += bytes.len() as u64;
    }
}

/// `.gnu_debugdata`: an xz-compressed ELF file with the symbols that `.dynsym` lacks.
pub(crate) fn mini(elf: &Elf) -> Option<Elf> {
    let (_, section) = elf.section_named(b".gnu_debugdata")?;
    let packed = elf.bytes(section, MOST_PACKED).ok()?;
    let mut bytes = Vec::new();
    // What could be unpacked of a damaged one is used.
    let _ = liblzma::read::XzDecoder::new(&packed[..]).take(MOST_UNPACKED).read_to_end(&mut bytes);
    let source: Arc<dyn Source> = Arc::new(bytes);
    Elf::open(source).ok().filter(has_symtab)
}
