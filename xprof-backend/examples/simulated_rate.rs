//! How fast the simulated machine is: runs it for ten simulated seconds with a sample each PERIOD cycles (default 1000),
//! through handlers, rings and drain as a recording does, and prints samples, seconds and samples per second. Bind it to
//! one CPU to see what one core does: `taskset -c 0 simulated_rate [PERIOD [OPTION=VALUE,..]]`.

use std::time::Instant;

use xprof_backend::plan::{Plan, Rate};
use xprof_backend::simulated::Simulated;
use xprof_backend::{Backend, Message};

/// Bytes of a sample of ip, tid, time, cpu and period.
const SAMPLE: u64 = 8 + 8 + 8 + 8 + 8 + 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let period = arguments.next().map_or(Ok(1000), |period| period.parse())?;
    let simulated: Simulated = arguments.next().unwrap_or_else(|| "cpus=1".into()).parse()?;
    let plan = Plan { rate: Rate::Period(period), ..Plan::default() };
    let mut session = simulated.open(&plan)?;
    let last = session.describe().rings - 1;
    let began = Instant::now();
    session.start()?;
    let mut bytes = 0;
    for message in session.messages().iter() {
        match message {
            Message::Drained(drained) => {
                bytes += if drained.ring == last { 0 } else { drained.bytes.len() as u64 };
                session.recycle(drained.bytes);
            }
            Message::TargetsGone => break,
            Message::Failed(error) => return Err(error.into()),
            Message::Note(note) => eprintln!("{note}"),
            Message::Domain(_) | Message::Facts(_) => {}
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let lost: u64 = session.stop()?.lost.unwrap_or_default().iter().sum();
    let samples = bytes / SAMPLE;
    println!("{samples} samples, {lost} lost, {seconds:.3} s: {:.0} samples/s", samples as f64 / seconds);
    Ok(())
}
