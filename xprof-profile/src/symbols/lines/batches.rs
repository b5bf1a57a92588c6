//! Many addresses of one module at once, in batches of units.
//!
//! A reader keeps the functions and lines of every unit that it read: of debug information of hundreds of megabytes more than
//! twice its size. (What a unit has in a `.dwo` file is not counted.) So addresses are sorted by unit, and a reader is dropped when it has read so many bytes of units; several
//! threads read batches side by side.

use std::sync::atomic::{AtomicUsize, Ordering};

use gimli::Section;

use super::{Debug, Line};

/// Bytes of units of `.debug_info` that all readers together hold at one time, about.
const MOST_HELD: u64 = 48 << 20;
/// Bytes of units that are worth a thread.
const WORTH: u64 = 2 << 20;
/// Threads at most; more modules than one are read at the same time already.
const MOST_THREADS: usize = 8;

/// The lines at file offsets.
pub(super) fn lines(debug: &Debug<'_>, offsets: &[u64]) -> Vec<Vec<Line>> {
    let mut lines = vec![Vec::new(); offsets.len()];
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let batches = batches(debug, offsets, threads as u64);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let files = debug.files();
            let Some(mut reader) = debug.reader(&files) else { continue };
            done.extend(batch.iter().filter_map(|&index| Some((index, reader.at(*offsets.get(index)?)))));
        }
        done
    };
    let done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(batches.len())).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        done.extend(others.into_iter().filter_map(|thread| thread.join().ok()).flatten());
        done
    });
    for (index, found) in done {
        if let Some(place) = lines.get_mut(index) {
            *place = found;
        }
    }
    lines
}

/// The indices of file offsets, by what one reader is to read.
fn batches(debug: &Debug<'_>, offsets: &[u64], threads: u64) -> Vec<Vec<usize>> {
    // Not worth an index of the units.
    if (debug.dwarf.debug_info.reader().len() as u64) < WORTH {
        return vec![(0..offsets.len()).collect()];
    }
    let units = Units::of(debug);
    let unit_of = |&offset: &u64| debug.elf.address_of(offset).and_then(|address| units.at(address));
    let mut places: Vec<(Option<usize>, usize)> = offsets.iter().map(unit_of).zip(0..).collect();
    places.sort_unstable();
    let size = |unit: Option<usize>| unit.and_then(|unit| units.sizes.get(unit)).copied().unwrap_or(0);
    let mut all = 0;
    let of_units = || places.chunk_by(|a, b| a.0 == b.0).filter_map(|same| Some((size(same.first()?.0), same)));
    for (size, _) in of_units() {
        all += size;
    }
    let most = (all / threads).clamp(WORTH, MOST_HELD / threads);
    let (mut batches, mut held) = (vec![Vec::new()], 0);
    for (size, same) in of_units() {
        if held + size > most && held > 0 {
            batches.push(Vec::new());
            held = 0;
        }
        held += size;
        if let Some(batch) = batches.last_mut() {
            batch.extend(same.iter().map(|&(_, index)| index));
        }
    }
    batches
}

/// Where the code of each unit lies. Only an order to read in comes from it: what overlaps may be found in the wrong one.
struct Units {
    /// Bytes of `.debug_info` of each.
    sizes: Vec<u64>,
    /// First address, the one after the last, and the unit; sorted.
    ranges: Vec<(u64, u64, usize)>,
}

impl Units {
    fn of(debug: &Debug<'_>) -> Units {
        let dwarf = &debug.dwarf;
        let (mut sizes, mut ranges) = (Vec::new(), Vec::new());
        let mut headers = dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            let size = header.length_including_self() as u64;
            if let Ok(unit) = dwarf.unit(header)
                && let Ok(mut of_unit) = dwarf.unit_ranges(&unit)
            {
                while let Ok(Some(range)) = of_unit.next() {
                    ranges.push((range.begin, range.end, sizes.len()));
                }
            }
            sizes.push(size);
        }
        ranges.sort_unstable();
        Units { sizes, ranges }
    }

    fn at(&self, address: u64) -> Option<usize> {
        let after = self.ranges.partition_point(|&(from, ..)| from <= address);
        let &(_, to, unit) = self.ranges.get(after.checked_sub(1)?)?;
        (address < to).then_some(unit)
    }
}
