//! Counts its own instructions in a fixed loop, read without a system call where that is allowed and by `read(2)`, and
//! says which way was used and how far the two ways are apart: `self_monitor [EVENT [ROUNDS]]`.

use std::error::Error;
use std::hint::black_box;

use xprof_backend::event;
use xprof_backend::sys::own_counter::{OwnCounter, Way};

/// Pairs of reads, one each way, right behind each other.
const PAIRS: usize = 100;

/// Some instructions for each round, always the same.
#[inline(never)]
fn work(rounds: u64) {
    for round in 0..rounds {
        black_box(round);
    }
}

/// What is counted from one read to the next, with so many rounds between. Never inlined: whatever else is between the reads is
/// the same instructions each time.
#[inline(never)]
fn with_rounds(rounds: u64, count: &mut dyn FnMut() -> std::io::Result<u64>) -> std::io::Result<u64> {
    let before = count()?;
    work(rounds);
    Ok(count()?.wrapping_sub(before))
}

/// What twice the rounds count more than `rounds`: that many rounds, and nothing of the reads.
fn one_loop(rounds: u64, count: &mut dyn FnMut() -> std::io::Result<u64>) -> std::io::Result<u64> {
    let once = with_rounds(rounds, count)?;
    Ok(with_rounds(2 * rounds, count)?.wrapping_sub(once))
}

/// Why user space does not read a counter.
fn why() -> &'static str {
    match std::fs::read_to_string("/proc/sys/kernel/perf_user_access") {
        Ok(value) if value.trim() == "0" => "kernel.perf_user_access is 0",
        _ => "it is on no counter that user space may read",
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "instructions:u".into());
    let rounds = std::env::args().nth(2).map_or(Ok(100_000), |number| number.parse())?;
    let groups = event::parse(&name)?;
    let attr = &groups.first().and_then(|group| group.events.first()).ok_or("no event")?.attr;
    let counter = OwnCounter::open(attr).map_err(|error| format!("cannot count {name}: {error}"))?;
    counter.enable(true)?;
    // Once for the pages of the code.
    counter.read()?;
    counter.read_by_call()?;

    let way = counter.read()?.way;
    match way {
        Way::UserSpace => println!("{name} is read from user space"),
        Way::SystemCall => println!("{name} is read by system calls: {}", why()),
    }
    let loops = [
        one_loop(rounds, &mut || Ok(counter.read()?.value))?,
        one_loop(rounds, &mut || Ok(counter.read_by_call()?.value))?,
    ];
    println!("{rounds} rounds: {}, by system calls {}", loops[0], loops[1]);

    let mut pairs = Vec::with_capacity(PAIRS);
    for _ in 0..PAIRS {
        pairs.push([counter.read()?, counter.read_by_call()?]);
    }
    let apart = || pairs.iter().map(|[own, kernel]| kernel.value.wrapping_sub(own.value));
    println!("apart: {} to {}", apart().min().unwrap_or(0), apart().max().unwrap_or(0));
    let last = pairs.last().ok_or("no pair")?;
    let late = last.map(|reading| reading.enabled - reading.running);
    let between = last[1].enabled.wrapping_sub(last[0].enabled);
    println!("times: not running {} and {} ns, enabled {between} ns apart", late[0], late[1]);
    if pairs.iter().flatten().any(|reading| reading.way == Way::UserSpace) != (way == Way::UserSpace) {
        println!("the way has changed");
    }
    Ok(())
}
