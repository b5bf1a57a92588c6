#![no_main]
//! The 2005 contract: any sequence of calls, switches, interrupts, births and deaths, through calls and through the wire
//! form, against the model; and forged requests.

use libfuzzer_sys::fuzz_target;
use xprof_backend::msr::model;

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0..64, rest)) => model::forge(rest),
        Some((_, rest)) => model::run(rest),
        None => {}
    }
});
