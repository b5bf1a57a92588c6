//! Tries a native session by hand: `native_session EVENT PERIOD (-a SECONDS | -p PID SECONDS | COMMAND ..)`.
//!
//! EVENT is `default`, `page-faults`, `cpu-clock` or `sys_enter`; a negative PERIOD is a rate in Hz. Prints how many records of
//! each kind arrived, and what the session says of itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use xprof_backend::event::{EventGroup, EventSpec};
use xprof_backend::native::Native;
use xprof_backend::plan::{Plan, Rate, Target};
use xprof_backend::sys::process;
use xprof_backend::{Backend, Message};
use xprof_perfdata::abi::{event_type, software};
use xprof_perfdata::attr::Attr;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [event, period, rest @ ..] = arguments.as_slice() else { return Err("EVENT PERIOD TARGET".into()) };
    let attr = match event.as_str() {
        "default" => None,
        "page-faults" => Some((event_type::SOFTWARE, software::PAGE_FAULTS)),
        "cpu-clock" => Some((event_type::SOFTWARE, software::CPU_CLOCK)),
        "sys_enter" => {
            let id = std::fs::read_to_string("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")?;
            Some((event_type::TRACEPOINT, id.trim().parse()?))
        }
        _ => return Err("unknown event".into()),
    };
    let events = attr.map(|(kind, config)| EventSpec {
        name: event.clone(),
        attr: Attr { kind, config, ..Attr::default() },
        cpus: None,
        precise_is_fixed: false,
        rate_is_fixed: false,
    });
    let period: i64 = period.parse()?;
    let mut plan = Plan {
        events: events
            .map(|event| EventGroup { events: vec![event], leader_sampling: false, name: String::new() })
            .into_iter()
            .collect(),
        rate_is_asked: true,
        rate: if period < 0 { Rate::Frequency(period.unsigned_abs()) } else { Rate::Period(period as u64) },
        ..Plan::default()
    };
    let mut seconds = u64::MAX;
    let mut waiting = None;
    match rest {
        [all, time] if all == "-a" => seconds = time.parse()?,
        [process, pid, time] if process == "-p" => {
            plan.target = Target::Processes(vec![pid.parse()?]);
            seconds = time.parse()?;
        }
        command => {
            let words: Vec<OsString> = command.iter().map(Into::into).collect();
            let child = process::prepare(&words, false)?;
            plan.target = Target::Command(child.pid());
            waiting = Some(child);
        }
    }
    let before = Instant::now();
    let mut session = Native::new().open(&plan)?;
    println!("opened in {:?}", before.elapsed());
    for note in &session.describe().notes {
        println!("note: {note}");
    }
    session.start()?;
    let mut child = waiting.map(process::Waiting::go).transpose()?;
    let end = Instant::now() + Duration::from_secs(seconds.min(100_000));
    let mut kinds: BTreeMap<u32, u64> = BTreeMap::new();
    let (mut bytes, mut messages) = (0, 0u64);
    let mut take = |message: Message, give: &dyn Fn(Vec<u8>)| match message {
        Message::Drained(drained) => {
            let mut rest = drained.bytes.as_slice();
            while rest.len() >= 8 {
                let size = usize::from(u16::from_ne_bytes([rest[6], rest[7]]));
                *kinds.entry(u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]])).or_default() += 1;
                rest = &rest[size..];
            }
            bytes += drained.bytes.len();
            messages += 1;
            give(drained.bytes);
        }
        other => println!("{other:?}"),
    };
    loop {
        match session.messages().recv_timeout(Duration::from_millis(100)) {
            Ok(Message::TargetsGone) => break,
            Ok(message) => take(message, &|buffer| session.recycle(buffer)),
            Err(_) => {}
        }
        if Instant::now() >= end || child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
            break;
        }
    }
    let stats = session.stop()?;
    while let Ok(message) = session.messages().recv() {
        take(message, &|buffer| session.recycle(buffer));
    }
    println!("records by kind {kinds:?}, {bytes} bytes in {messages} messages; {stats:?}");
    Ok(())
}
