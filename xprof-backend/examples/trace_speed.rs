//! How fast Xen's trace is read, on one core: `cargo run --release --example trace_speed [FILE]`, where FILE is what xentrace has written
//! (default: the recorded one of the tests). Records are decoded, changes put in order and made stints.

use std::time::Instant;

use xprof_backend::xen::trace::reading::Reading;
use xprof_backend::xen::trace::records::Records;
use xprof_backend::xen::trace::states::States;

/// Bytes of one piece, as a ring would hold, and of all of them.
const PIECE: usize = 256 << 10;
const ALL: usize = 1 << 30;

fn main() {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/src/xen/trace/fixtures/xentrace");
    let path = std::env::args().nth(1).unwrap_or_else(|| default.into());
    let recorded = std::fs::read(&path).expect("the file");
    let piece: Vec<u8> =
        recorded.iter().copied().cycle().take(recorded.len() * (PIECE / recorded.len()).max(1)).collect();
    let pieces = ALL / piece.len();
    let rate = |begun: Instant| (pieces * piece.len()) as f64 / begun.elapsed().as_secs_f64() / 1e9;
    for _ in 0..5 {
        let begun = Instant::now();
        let count: usize = (0..pieces).map(|_| Records::new(std::hint::black_box(&piece)).count()).sum();
        let records = rate(begun);
        let begun = Instant::now();
        let mut reading = Reading::default();
        for _ in 0..pieces {
            reading.read(0, &piece);
            reading.changes.clear();
        }
        let decoded = rate(begun);
        let begun = Instant::now();
        let (mut reading, mut states, mut stints) = (Reading::default(), States::default(), 0u64);
        for _ in 0..pieces {
            reading.read(0, &piece);
            for change in reading.until(u64::MAX) {
                states.change(&change, &mut |_| stints += 1);
            }
        }
        let whole = rate(begun);
        println!("{count} records: split {records:.2} GB/s, decoded {decoded:.2} GB/s, to stints {whole:.2} GB/s");
    }
}
