#![no_main]
//! A whole recording, as a file: header, features, records, order, timeline, profile.

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::read::Input;

#[path = "shared/report.rs"]
mod report;

fuzz_target!(|bytes: &[u8]| report::report(Input::File(Box::new(bytes.to_vec()))));
