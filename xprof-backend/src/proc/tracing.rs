//! The tracing data of a recording with tracepoints: the formats by which a reader prints them.
//!
//! Layout: `tools/perf/util/trace-event-info.c` of the kernel, version 0.6, in the byte order of this machine.

use std::collections::BTreeMap;
use std::path::Path;

use xprof_perfdata::abi::event_type;

use crate::event::{EventSpec, tracepoint};
use crate::machine::Machine;
use crate::sys::file;
use crate::{Error, Result};

/// The most that is taken of one file, bytes: the formats of the longest tracepoints have some 20 kB.
const FILE_MAX: usize = 1 << 20;
const MAGIC: &[u8] = b"\x17\x08Dtracing0.6\0";

/// The tracing data for the tracepoints among these events; `None` when there are none.
pub fn tracing_data<'a>(machine: &Machine, events: impl IntoIterator<Item = &'a EventSpec>) -> Result<Option<Vec<u8>>> {
    let mut systems: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events.into_iter().filter(|e| e.attr.kind == event_type::TRACEPOINT) {
        let Some((system, name)) = name_of(machine, event)? else { continue };
        let list = systems.entry(system).or_default();
        if !list.contains(&name) {
            list.push(name);
        }
    }
    if systems.is_empty() {
        return Ok(None);
    }
    let events = tracepoint::events_dir(machine)?;
    let read =
        |path: &Path| file::read_small(path, FILE_MAX).map_err(|e| Error::os(format!("read {}", path.display()), e));
    let mut out = MAGIC.to_vec();
    out.push(u8::from(cfg!(target_endian = "big")));
    out.push(size_of::<usize>() as u8);
    out.extend((rustix::param::page_size() as u32).to_ne_bytes());
    for name in ["header_page", "header_event"] {
        out.extend(name.as_bytes());
        out.push(0);
        sized(&mut out, &read(&events.join(name))?);
    }
    // No formats of ftrace's own events.
    out.extend(0u32.to_ne_bytes());
    out.extend((systems.len() as u32).to_ne_bytes());
    for (system, names) in &systems {
        out.extend(system.as_bytes());
        out.push(0);
        out.extend((names.len() as u32).to_ne_bytes());
        for name in names {
            sized(&mut out, &read(&events.join(system).join(name).join("format"))?);
        }
    }
    // kallsyms: a reader has it from the recording's own maps.
    out.extend(0u32.to_ne_bytes());
    // Both are conveniences (`%pS`-less strings, names of dead tasks), and not everyone may read them.
    let beside = |name: &str| events.parent().and_then(|d| file::read_small(&d.join(name), FILE_MAX).ok());
    let formats = beside("printk_formats").unwrap_or_default();
    out.extend((formats.len() as u32).to_ne_bytes());
    out.extend(formats);
    sized(&mut out, &beside("saved_cmdlines").unwrap_or_default());
    Ok(Some(out))
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_ne_bytes());
    out.extend(bytes);
}

/// Subsystem and name of a tracepoint: those of its own name if its number agrees, else found by the number.
fn name_of(machine: &Machine, event: &EventSpec) -> Result<Option<(String, String)>> {
    if let Some((system, name)) = event.name.split_once(':')
        && tracepoint::id(machine, system, name)? == Some(event.attr.config)
    {
        return Ok(Some((system.to_owned(), name.to_owned())));
    }
    for (system, name) in tracepoint::matching(machine, "*", "*")? {
        if tracepoint::id(machine, &system, &name)? == Some(event.attr.config) {
            return Ok(Some((system, name)));
        }
    }
    Ok(None)
}
