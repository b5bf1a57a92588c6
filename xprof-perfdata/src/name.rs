//! Names of events that a recording does not name: what perf would call them, from their attrs.
//!
//! The rules are those of perf's `evsel__name()`: tables for hardware, software and cache events, then the modifiers
//! that say what the attr excludes. Tracepoints have only a number in their attr; the recording's copy of their format
//! files (TRACING_DATA) tells which one it is.

use crate::abi::{attr_flag as flag, event_type as kind};
use crate::attr::Attr;
use crate::feature::Features;

const HARDWARE: [&str; 10] = [
    "cycles",
    "instructions",
    "cache-references",
    "cache-misses",
    "branches",
    "branch-misses",
    "bus-cycles",
    "stalled-cycles-frontend",
    "stalled-cycles-backend",
    "ref-cycles",
];
const SOFTWARE: [&str; 12] = [
    "cpu-clock",
    "task-clock",
    "page-faults",
    "context-switches",
    "cpu-migrations",
    "minor-faults",
    "major-faults",
    "alignment-faults",
    "emulation-faults",
    "dummy",
    "bpf-output",
    "cgroup-switches",
];
/// `PERF_COUNT_HW_CACHE_*`, and which of load, store and prefetch (bits 0 to 2) perf takes as valid for it.
const CACHES: [(&str, u8); 7] = [
    ("L1-dcache", 0b111),
    ("L1-icache", 0b101),
    ("LLC", 0b111),
    ("dTLB", 0b111),
    ("iTLB", 0b001),
    ("branch", 0b001),
    ("node", 0b111),
];
/// `PERF_COUNT_HW_CACHE_OP_*`, one and many.
const CACHE_OPS: [(&str, &str); 3] = [("load", "loads"), ("store", "stores"), ("prefetch", "prefetches")];

/// The name that follows from the attr alone.
pub fn of_attr(attr: &Attr) -> String {
    let entry = |table: &[&'static str], unknown| {
        usize::try_from(attr.config).ok().and_then(|index| table.get(index)).copied().unwrap_or(unknown).to_owned()
    };
    let base = match attr.kind {
        kind::HARDWARE => entry(&HARDWARE, "unknown-hardware"),
        kind::SOFTWARE => entry(&SOFTWARE, "unknown-software"),
        kind::HW_CACHE => cache(attr.config),
        kind::RAW => format!("raw 0x{:x}", attr.config),
        kind::BREAKPOINT => {
            let access = |bit, letter| if attr.bp_type & bit != 0 { letter } else { "" };
            format!("mem:0x{:x}:{}{}{}", attr.config1, access(1, "r"), access(2, "w"), access(4, "x"))
        }
        kind::TRACEPOINT => return "unknown tracepoint".into(),
        other => return format!("unknown attr type: {other}"),
    };
    base + &modifiers(attr)
}

/// The name that follows from the attr, the tracepoint formats and the PMU names.
pub fn derive(attr: &Attr, features: &Features) -> String {
    if attr.kind == kind::TRACEPOINT
        && let Some(name) = features.tracing_data.as_deref().and_then(|formats| tracepoint(formats, attr.config))
    {
        return name;
    }
    if attr.kind > kind::BREAKPOINT
        && let Some((_, pmu)) = features.pmu_mappings.iter().find(|(number, _)| *number == attr.kind)
    {
        return format!("{pmu}/config=0x{:x}/{}", attr.config, modifiers(attr).trim_start_matches(':'));
    }
    of_attr(attr)
}

fn cache(config: u64) -> String {
    let field = |shift: u32| (config >> shift & 0xff) as usize;
    let Some((cache, valid)) = CACHES.get(field(0)) else { return "unknown-ext-hardware-cache-type".into() };
    let Some((one, many)) = CACHE_OPS.get(field(8)) else { return "unknown-ext-hardware-cache-op".into() };
    match field(16) {
        0 | 1 if valid >> field(8) & 1 == 0 => "invalid-cache".into(),
        0 => format!("{cache}-{many}"),
        1 => format!("{cache}-{one}-misses"),
        _ => "unknown-ext-hardware-cache-result".into(),
    }
}

/// perf's `:ukhpppHG`: what the attr does not exclude, when that is not the usual.
fn modifiers(attr: &Attr) -> String {
    let mut out = String::new();
    let mut guest_excluded_usually = false;
    let included = |out: &mut String, letters: &[(u64, char)]| {
        out.extend(letters.iter().filter(|(excluded, _)| !attr.has(*excluded)).map(|(_, letter)| letter));
    };
    let modes = [(flag::EXCLUDE_KERNEL, 'k'), (flag::EXCLUDE_USER, 'u'), (flag::EXCLUDE_HV, 'h')];
    if modes.iter().any(|(excluded, _)| attr.has(*excluded)) {
        included(&mut out, &modes);
        guest_excluded_usually = true;
    }
    let precise = (attr.flags & flag::PRECISE_IP) >> flag::PRECISE_SHIFT;
    if precise > 0 {
        out.extend((0..precise).map(|_| 'p'));
        guest_excluded_usually = true;
    }
    if attr.has(flag::EXCLUDE_HOST) || attr.has(flag::EXCLUDE_GUEST) == guest_excluded_usually {
        included(&mut out, &[(flag::EXCLUDE_HOST, 'H'), (flag::EXCLUDE_GUEST, 'G')]);
    }
    if out.is_empty() { out } else { format!(":{out}") }
}

/// `system:name` of the tracepoint with this id, from the format files in TRACING_DATA
/// (`tools/perf/util/trace-event-info.c`).
fn tracepoint(formats: &[u8], id: u64) -> Option<String> {
    let mut rest = formats.strip_prefix(b"\x17\x08\x44tracing")?;
    until_zero(&mut rest)?;
    let (&[big, _long, _, _, _, _], after) = rest.split_first_chunk::<6>()?;
    rest = after;
    let big = big != 0;
    // header_page and header_event.
    for _ in 0..2 {
        until_zero(&mut rest)?;
        let len = number::<8>(&mut rest, big)?;
        take(&mut rest, len)?;
    }
    for _ in 0..number::<4>(&mut rest, big)? {
        let len = number::<8>(&mut rest, big)?;
        take(&mut rest, len)?;
    }
    for _ in 0..number::<4>(&mut rest, big)? {
        let system = until_zero(&mut rest)?;
        for _ in 0..number::<4>(&mut rest, big)? {
            let len = number::<8>(&mut rest, big)?;
            let format = take(&mut rest, len)?;
            let mut lines = format.split(|&byte| byte == b'\n').take(2).map(String::from_utf8_lossy);
            let (name, number) = (lines.next()?, lines.next()?);
            if number.strip_prefix("ID: ").and_then(|n| n.trim().parse().ok()) == Some(id) {
                let name = name.strip_prefix("name: ")?;
                return Some(format!("{}:{name}", String::from_utf8_lossy(system)));
            }
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(taken)
}

fn until_zero<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = rest.iter().position(|&byte| byte == 0)?;
    let taken = take(rest, len as u64)?;
    take(rest, 1)?;
    Some(taken)
}

fn number<const N: usize>(rest: &mut &[u8], big: bool) -> Option<u64> {
    let bytes = take(rest, N as u64)?;
    let push = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if big { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
}
