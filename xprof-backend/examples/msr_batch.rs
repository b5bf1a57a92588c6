//! What a batch of 16 registers costs beside 16 bare reads of `/dev/cpu/0/msr`, in turns, on the time stamp counter, which
//! every x86 has: medians in ns, and their ratio.

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use xprof_backend::msr::{Class, Contract, DomId, Entry, Scope};
use xprof_backend::native::msr::Registers;

const TSC: u32 = 0x10;
const ENTRIES: usize = 16;
const ROUNDS: usize = 4001;

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut registers = Registers::open(0)?;
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local)?;
    let device = File::open("/dev/cpu/0/msr")?;
    let (mut bare, mut batch) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..ENTRIES {
            let mut bytes = [0; 8];
            device.read_exact_at(&mut bytes, TSC.into())?;
            std::hint::black_box(u64::from_le_bytes(bytes));
        }
        bare.push(began.elapsed().as_nanos() as u64);
        let began = Instant::now();
        let mut entries = [Entry::of(TSC); ENTRIES];
        let count = registers.read(Class::Perf, std::hint::black_box(&mut entries))?;
        batch.push(began.elapsed().as_nanos() as u64);
        if count != ENTRIES {
            return Err("the time stamp counter is refused".into());
        }
    }
    let (bare, batch) = (median(bare), median(batch));
    println!("{ENTRIES} bare reads: {bare} ns");
    println!("a batch of {ENTRIES}: {batch} ns");
    println!("ratio {:.3}", batch as f64 / bare as f64);
    Ok(())
}
