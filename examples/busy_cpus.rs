//! Samples every CPU's clock for a second through the backend and says how busy each was. Needs the rights of
//! `xprof record -a`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use xprof_backend::native::Native;
use xprof_backend::plan::{Plan, Rate, Target};
use xprof_backend::{Backend, Message, event};
use xprof_perfdata::abi::record;

const HZ: u64 = 997;

fn main() -> Result<(), Box<dyn Error>> {
    let plan = Plan {
        events: event::parse("cpu-clock")?,
        target: Target::System,
        rate: Rate::Frequency(HZ),
        ..Plan::default()
    };
    let mut session = Native::default().open(&plan)?;
    let events = session.describe().events.clone();
    session.start()?;
    let messages = session.messages().clone();
    let end = Instant::now() + Duration::from_secs(1);
    let mut samples: BTreeMap<u32, u64> = BTreeMap::new();
    while let Ok(message) = messages.recv_deadline(end) {
        let Message::Drained(drained) = message else { continue };
        let mut rest = &drained.bytes[..];
        while let Some((head, _)) = rest.split_first_chunk::<8>() {
            let kind = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
            let size = usize::from(u16::from_ne_bytes([head[6], head[7]]));
            let Some(body) = rest.get(8..size) else { break };
            // The idle task is no work.
            let sample = events.list().first().filter(|_| kind == record::SAMPLE).and_then(|e| e.layout.view(body));
            if let Some(sample) = sample.filter(|s| s.pid() != 0) {
                *samples.entry(sample.cpu()).or_default() += 1;
            }
            rest = &rest[size..];
        }
        session.recycle(drained.bytes);
    }
    session.stop()?;
    for (cpu, samples) in samples {
        println!("CPU {cpu}: {:.0} % busy", 100.0 * samples as f64 / HZ as f64);
    }
    Ok(())
}
