#![no_main]
//! Event expressions.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xprof_backend::event::parse_on;
use xprof_backend::machine::Machine;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = parse_on(text, &Machine::below(Path::new("/nonexistent")));
});
