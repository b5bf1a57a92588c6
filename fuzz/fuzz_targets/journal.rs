#![no_main]
//! Lines of a journal of changed registers: what is read is what was written, or nothing.

use libfuzzer_sys::fuzz_target;
use xprof_backend::native::msr::journal::Change;

fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Some(change) = Change::parse(line) {
            assert_eq!(Change::parse(&change.to_string()), Some(change));
        }
    }
});
