//! Writing a recording anew: the same events, every record as it was or changed, in the order of time.
//!
//! The copy is a plain file: records that were packed are unpacked, and marks of rounds are left out.

use std::fs::File;

use anyhow::Context;
use xprof_perfdata::abi::{feature, record};
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::Features;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::read::Recording;
use xprof_perfdata::write::{Output, Writer};

/// Bytes that are gathered before they are written.
const PIECE: usize = 1 << 20;

/// One record on its way.
pub(crate) struct Passing<'a> {
    /// The record.
    pub(crate) raw: RawRecord<'a>,
    /// The record as it stands in the recording.
    pub(crate) whole: &'a [u8],
}

/// Copies `recording` to `out`; `pass` appends what becomes of each record. Returns what it knew when all was read.
pub(crate) fn rewrite(
    mut recording: Recording,
    out: File,
    change: impl FnOnce(&mut Features),
    mut pass: impl FnMut(&Passing<'_>, &Events, &mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let events = recording.description().events.clone();
    let mut writer =
        Writer::<File>::begin(Output::File(out), &events, &Features::default()).context("cannot begin the copy")?;
    let mut bytes = Vec::with_capacity(PIECE + 65_536);
    let mut batch = None;
    while let Some(next) = recording.next_batch(batch.take())? {
        for slot in &next.slots {
            let (Some(raw), Some(whole)) = (next.record(slot), next.whole(slot)) else { continue };
            if matches!(raw.kind, record::FINISHED_ROUND | record::FINISHED_INIT) {
                continue;
            }
            pass(&Passing { raw, whole }, &events, &mut bytes)?;
            if bytes.len() >= PIECE {
                writer.records(&bytes).context("cannot write the copy")?;
                bytes.clear();
            }
        }
        batch = Some(next);
    }
    writer.records(&bytes).context("cannot write the copy")?;
    let mut features = recording.description().features.clone();
    features.compressed = None;
    features.dir_format = None;
    // Tables that the writer makes itself, or that hold offsets into the original.
    features.other.retain(|(number, _)| *number != feature::AUXTRACE);
    change(&mut features);
    writer.finish(&features).context("cannot write the copy")?;
    Ok(())
}
