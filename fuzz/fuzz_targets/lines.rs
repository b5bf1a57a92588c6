#![no_main]
//! Debug information that lies: functions compiled into one another and source lines of an ELF file from the input, which
//! is also its own split, separate and supplementary file.

use std::io;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::symbols::{Module, ModuleKind, Symbolizer};

struct Always(Arc<Vec<u8>>);

impl Supplier for Always {
    fn supply(&self, _: &Need) -> io::Result<Arc<dyn Source>> {
        Ok(Arc::clone(&self.0) as Arc<dyn Source>)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let module = Module { path: b"/bin/x".to_vec(), kind: ModuleKind::User, build_id: None, pid: None };
    let symbolizer = Symbolizer::new(Arc::new(Always(Arc::new(bytes.to_vec()))));
    // The code of the corpus' files lies at 0x1000.
    let addresses: Vec<u64> = (0..80).map(|i| 0x1000 + 4 * i).collect();
    let lines = symbolizer.lines(&module, &addresses);
    assert!(lines.len() == addresses.len() && lines.iter().all(|frames| frames.len() <= 256));
    let mut reader = symbolizer.line_reader(&module);
    assert_eq!(reader.at(0x1010), lines[4]);
});
