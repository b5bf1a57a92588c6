#![no_main]
//! Lines of /proc/PID/maps.

use libfuzzer_sys::fuzz_target;
use xprof_backend::proc::parse_line;

fuzz_target!(|bytes: &[u8]| {
    for line in bytes.split(|&b| b == b'\n') {
        let _ = parse_line(line);
    }
});
