//! The contract over perf_event_open on real counters, as a program that touched the hardware would use it: counts, periods,
//! interrupts, defaults, refusals. Written for PMUv3 (the Arm lab, where every instruction is one cycle).

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use xprof_backend::msr::tables::pmuv3::sys_reg;
use xprof_backend::msr::{Class, Contract, DomId, Entry, Overflow, Scope};
use xprof_backend::native::Native;
use xprof_backend::native::registers::Registers;

const CYCLES: u32 = sys_reg(3, 3, 9, 13, 0);
const CYCLES_FILTER: u32 = sys_reg(3, 3, 14, 15, 7);
const SET: u32 = sys_reg(3, 3, 9, 12, 1);
const CLEAR: u32 = sys_reg(3, 3, 9, 12, 2);
const INTERRUPTS: u32 = sys_reg(3, 0, 9, 14, 1);
const FLAGS: u32 = sys_reg(3, 3, 9, 12, 3);
/// PMEVCNTR0, PMEVTYPER0.
const COUNTER: u32 = sys_reg(3, 3, 14, 8, 0);
const SELECT: u32 = sys_reg(3, 3, 14, 12, 0);
/// Not the kernel: P of PMEVTYPER.
const USER: u64 = 1 << 31;
const INSTRUCTIONS: u64 = 0x08;
const CYCLE_BIT: u64 = 1 << 31;

/// Some instructions for each round, always the same.
#[inline(never)]
fn work(rounds: u64) {
    for round in 0..rounds {
        black_box(round);
    }
}

fn write(registers: &mut Registers, rearm: bool, batch: &[(u32, u64)]) -> Result<(), Box<dyn Error>> {
    let mut entries: Vec<Entry> = batch.iter().map(|&(msr, value)| Entry::with(msr, value)).collect();
    let count = registers.write(Class::Perf, rearm, &mut entries)?;
    match entries.get(count) {
        None => Ok(()),
        Some(entry) => Err(format!("{:#x}: {:?}", entry.msr, entry.fault()).into()),
    }
}

fn read(registers: &mut Registers) -> Result<[u64; 2], Box<dyn Error>> {
    let mut entries = [Entry::of(COUNTER), Entry::of(CYCLES)];
    if registers.read(Class::Perf, &mut entries)? != 2 {
        return Err("a counter is not read".into());
    }
    Ok(entries.map(|entry| entry.value))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut registers = Registers::of_this_thread(&Native::new());
    let mut early = [Entry::of(COUNTER)];
    println!("not held: errno {}", registers.read(Class::Perf, &mut early).map_or_else(|error| error.errno(), |_| 0));
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local)?;

    // The difference of a loop of twice the rounds and one of `rounds` is that many rounds, on both counters.
    let on = [(SELECT, INSTRUCTIONS | USER), (COUNTER, 7), (CYCLES_FILTER, USER), (CYCLES, 0), (SET, CYCLE_BIT | 1)];
    write(&mut registers, false, &on)?;
    read(&mut registers)?;
    for rounds in [10_000, 1_000_000] {
        let a = read(&mut registers)?;
        work(rounds);
        let b = read(&mut registers)?;
        work(2 * rounds);
        let c = read(&mut registers)?;
        let more = |i: usize| (c[i] - b[i]).wrapping_sub(b[i] - a[i]);
        println!("{rounds} rounds: {} instructions, {} cycles", more(0), more(1));
    }
    write(&mut registers, false, &[(CLEAR, 1)])?;
    let stopped = read(&mut registers)?;
    work(1000);
    let later = read(&mut registers)?;
    println!("stopped: {} more; the other: {}", later[0] - stopped[0], later[1] > stopped[1]);
    write(&mut registers, false, &[(COUNTER, 42)])?;
    println!("written: {}", read(&mut registers)?[0]);

    // A period of 100,000 cycles over many of them; the handler sees where each fell.
    let seen: Arc<Mutex<Vec<Overflow>>> = Arc::default();
    let claims = Arc::new(AtomicU64::new(u64::MAX));
    let (tell, left) = (Arc::clone(&seen), Arc::clone(&claims));
    let handler = move |overflow: &Overflow, _cpu: u32| {
        if let Ok(mut seen) = tell.lock() {
            seen.push(*overflow);
        }
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    };
    registers.irq_handler(Class::Perf, Some(Box::new(handler)))?;
    let period = [(INTERRUPTS, CYCLE_BIT), (CYCLES, 100_000u64.wrapping_neg())];
    write(&mut registers, true, &period)?;
    let before = read(&mut registers)?[1];
    work(2_000_000);
    let passed = read(&mut registers)?[1].wrapping_sub(before);
    registers.dispatch(Duration::ZERO)?;
    let count = seen.lock().map_or(0, |seen| seen.len()) as u64;
    println!("interrupts: {count} of {} periods, {passed} cycles", passed / 100_000);
    let here = work as *const () as usize as u64;
    let inside = |overflow: &&Overflow| (here..here + 256).contains(&overflow.ip) && overflow.sp != 0;
    let all = seen.lock().map_or(0, |seen| seen.iter().filter(inside).count()) as u64;
    println!("inside of the loop: {}", all == count);
    let mut flags = [Entry::of(FLAGS)];
    registers.read(Class::Perf, &mut flags)?;
    println!("flags: {:#x}", flags[0].value);

    // One that is not claimed stops its counter until it is rearmed.
    claims.store(0, Ordering::SeqCst);
    let run = |registers: &mut Registers| -> Result<usize, Box<dyn Error>> {
        let before = seen.lock().map_or(0, |seen| seen.len());
        work(400_000);
        registers.dispatch(Duration::ZERO)?;
        Ok(seen.lock().map_or(0, |seen| seen.len()) - before)
    };
    let (unclaimed, masked) = (run(&mut registers)?, run(&mut registers)?);
    claims.store(u64::MAX, Ordering::SeqCst);
    write(&mut registers, true, &period)?;
    println!("unclaimed: {unclaimed}, masked: {masked}, rearmed: {}", run(&mut registers)? > 1);

    let mut entries = [Entry::of(SELECT), Entry::of(COUNTER), Entry::of(SET)];
    println!("defaults: {}", registers.set_default(Class::Perf, &mut entries)?);
    println!("off: {:?}", read(&mut registers)?);
    let mut bad = [Entry::with(COUNTER, 1), Entry::with(SELECT, 1 << 16), Entry::with(COUNTER, 2)];
    let done = registers.write(Class::Perf, false, &mut bad)?;
    println!("reserved: {done} {:?}, the counter is {}", bad[1].fault(), read(&mut registers)?[0]);
    let mut unknown = [Entry::of(0x186)];
    println!("unknown: {} {:?}", registers.read(Class::Perf, &mut unknown)?, unknown[0].fault());
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Unavailable)?;
    println!("given back: errno {}", registers.read(Class::Perf, &mut early).map_or_else(|error| error.errno(), |_| 0));
    Ok(())
}
