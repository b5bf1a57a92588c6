//! What `xprof report` does with a recording, without files.

use std::io;
use std::sync::Arc;

use xprof_perfdata::read::{Input, Recording};
use xprof_perfdata::record::Record;
use xprof_perfdata::source::Source;
use xprof_profile::profile::{Builder, Filter, Key};
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::symbols::Symbolizer;

struct Nothing;

impl Supplier for Nothing {
    fn supply(&self, _: &Need) -> io::Result<Arc<dyn Source>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Reads, decodes and adds up everything in `input`.
pub fn report(input: Input) {
    let Ok(mut recording) = Recording::open(input) else { return };
    let description = recording.description().clone();
    let keys = [Key::Comm, Key::Tid, Key::Dso, Key::Symbol, Key::Cgroup];
    let mut builder = Builder::new(&description, &keys, Filter::default(), true);
    let mut reuse = None;
    while let Ok(Some(batch)) = recording.next_batch(reuse.take()) {
        for raw in batch.iter() {
            let _ = Record::decode(&raw, &description.events);
            builder.record(&raw, &description.events);
        }
        reuse = Some(batch);
    }
    builder.finish(&description.events, &Symbolizer::new(Arc::new(Nothing)), true, None);
}
