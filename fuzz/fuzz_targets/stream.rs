#![no_main]
//! A whole recording, from a pipe.

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::read::Input;

#[path = "shared/report.rs"]
mod report;

fuzz_target!(|bytes: &[u8]| report::report(Input::Stream(Box::new(std::io::Cursor::new(bytes.to_vec())))));
