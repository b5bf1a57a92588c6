//! Reads a recording (of perf or xprof) and counts its records by kind: `record_kinds [perf.data]`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use xprof_backend::sys::file::File;
use xprof_perfdata::read::{Input, Recording};
use xprof_perfdata::record::Record;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("perf.data"), PathBuf::from);
    let mut recording = Recording::open(Input::File(Box::new(File::open(&path)?)))?;
    let events = recording.description().events.clone();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut last, mut backwards, mut reuse) = (0, 0, None);
    while let Some(batch) = recording.next_batch(reuse.take())? {
        for raw in batch.iter() {
            backwards += u64::from(raw.time != 0 && raw.time < last);
            last = raw.time.max(last);
            let name = match Record::decode(&raw, &events) {
                Ok((record, _)) => format!("{record:?}").chars().take_while(|c| c.is_alphanumeric()).collect(),
                Err(error) => error.to_string(),
            };
            *counts.entry(name).or_default() += 1;
        }
        reuse = Some(batch);
    }
    for event in events.list() {
        println!("event {}", event.name);
    }
    for (name, count) in counts {
        println!("{count:>10} {name}");
    }
    println!("{backwards:>10} records out of order");
    for note in recording.notes() {
        println!("note: {note:?}");
    }
    Ok(())
}
