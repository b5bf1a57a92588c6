#![no_main]
//! A tracepoint's `format` file and, behind its first zero byte, a record of it.

use libfuzzer_sys::fuzz_target;
use xprof_profile::tracepoint::Formats;

fuzz_target!(|bytes: &[u8]| {
    let _ = Formats::parse(bytes);
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (format, record) = bytes.split_at(end);
    let mut section = b"\x17\x08\x44tracing0.6\0\0\x08\0\0\0\0header_page\0\0\0\0\0\0\0\0\0header_event\0".to_vec();
    section.extend_from_slice(&[0; 12]);
    section.extend_from_slice(&1u32.to_le_bytes());
    section.extend_from_slice(b"s\0");
    section.extend_from_slice(&1u32.to_le_bytes());
    section.extend_from_slice(&(format.len() as u64).to_le_bytes());
    section.extend_from_slice(format);
    let formats = Formats::parse(&section).expect("the section is whole");
    for format in formats.ids().filter_map(|id| formats.get(id)) {
        format.print(record.get(1..).unwrap_or_default(), &mut (), &mut Vec::new());
    }
});
