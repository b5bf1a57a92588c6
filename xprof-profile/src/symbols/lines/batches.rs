//! Many addresses of one module at once, in batches of units.
//!
//! A reader keeps the functions and lines of every unit that it read: of debug information of hundreds of megabytes more than
//! twice its size. So addresses are sorted by unit, and a reader is dropped when it has read so many bytes of units; several
//! threads read batches side by side. How large a unit in a `.dwo` file is shows when it is loaded, so of these a reader may hold one more.

use std::sync::atomic::{AtomicUsize, Ordering};

use gimli::Section;

use super::{Debug, Line};

/// How much is read at one time.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes of units of `.debug_info` that all readers together hold at one time, about.
    held: u64,
    /// Bytes of units that are worth a thread.
    worth: u64,
    /// Threads.
    threads: usize,
}

/// Threads at most; more modules than one are read at the same time already.
const MOST_THREADS: usize = 8;

/// An address to be looked up: the unit it is in, where that was asked, and its index.
type Wanted = (Option<usize>, usize);

/// The lines at file offsets.
pub(super) fn lines(debug: &Debug<'_>, offsets: &[u64]) -> Vec<Vec<Line>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    within(debug, offsets, Limits { held: 48 << 20, worth: 512 << 10, threads })
}

fn within(debug: &Debug<'_>, offsets: &[u64], limits: Limits) -> Vec<Vec<Line>> {
    let mut lines = vec![Vec::new(); offsets.len()];
    let batches = batches(debug, offsets, limits);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut left = &batch[..];
            while !left.is_empty() {
                let files = debug.files();
                let Some(mut reader) = debug.reader(&files) else { break };
                while let Some((&(unit, index), rest)) = left.split_first() {
                    left = rest;
                    done.extend(offsets.get(index).map(|&offset| (index, reader.at(offset))));
                    let is_last = rest.first().is_some_and(|&(next, _)| next != unit);
                    if is_last && reader.split_bytes > limits.held / limits.threads as u64 {
                        break;
                    }
                }
            }
        }
        done
    };
    let done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..limits.threads.min(batches.len())).map(|_| scope.spawn(work)).collect();
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

/// The addresses, by what one reader is to read.
fn batches(debug: &Debug<'_>, offsets: &[u64], limits: Limits) -> Vec<Vec<Wanted>> {
    // Not worth an index of the units, unless what they have lies elsewhere.
    let is_split = !debug.dwarf.debug_addr.reader().is_empty();
    if (debug.dwarf.debug_info.reader().len() as u64) < limits.worth && !is_split {
        return vec![(0..offsets.len()).map(|index| (None, index)).collect()];
    }
    let threads = limits.threads as u64;
    let units = Units::of(debug);
    let unit_of = |&offset: &u64| debug.elf.address_of(offset).and_then(|address| units.at(address));
    let mut places: Vec<Wanted> = offsets.iter().map(unit_of).zip(0..).collect();
    places.sort_unstable();
    let size = |unit: Option<usize>| unit.and_then(|unit| units.sizes.get(unit)).copied().unwrap_or(0);
    let mut all = 0;
    let of_units = || places.chunk_by(|a, b| a.0 == b.0).filter_map(|same| Some((size(same.first()?.0), same)));
    for (size, _) in of_units() {
        all += size;
    }
    let most = (all / threads).max(limits.worth).min((limits.held / threads).max(limits.worth));
    let (mut batches, mut held) = (vec![Vec::new()], 0);
    for (size, same) in of_units() {
        if held + size > most && held > 0 {
            batches.push(Vec::new());
            held = 0;
        }
        held += size;
        if let Some(batch) = batches.last_mut() {
            batch.extend_from_slice(same);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::sync::Arc;

    use xprof_perfdata::source::Source;

    use super::super::{Module, ModuleKind, with_debug};
    use super::*;
    use crate::supply::{Need, Supplier};

    /// Files by their paths.
    struct Here;

    impl Supplier for Here {
        fn supply(&self, need: &Need) -> std::io::Result<Arc<dyn Source>> {
            match need {
                Need::Path { path, .. } => Ok(Arc::new(std::fs::read(String::from_utf8_lossy(path).as_ref())?)),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }

    /// A program of 40 units, each with functions compiled into others.
    fn program(dir: &Path, options: &[&str]) -> Module {
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-g"]).args(options).arg("-o").arg("program").current_dir(dir);
        for n in 0..40 {
            let file = format!("unit{n}.c");
            let source = format!(
                "static inline int twice{n}(int a) {{ volatile int b = a; return b * 2; }}\n\
                 static inline int four{n}(int a) {{ return twice{n}(a)\n + twice{n}(a + 1); }}\n\
                 int of{n}(int a) {{ return four{n}(a)\n + {n}; }}\n"
            );
            std::fs::write(dir.join(&file), source).unwrap();
            gcc.arg(file);
        }
        std::fs::write(dir.join("main.c"), "int of0(int); int main(int n) { return of0(n); }\n").unwrap();
        let status = gcc.arg("main.c").status().expect("gcc");
        assert!(status.success());
        let path = dir.join("program").to_str().unwrap().into();
        Module { path, kind: ModuleKind::User, build_id: None, pid: None }
    }

    #[test]
    fn batches_say_what_one_reader_says() {
        for options in [&[][..], &["-gsplit-dwarf"]] {
            let dir = tempfile::tempdir().unwrap();
            let module = program(dir.path(), options);
            let found = with_debug(&Here, &module, |debug| {
                let (_, text) = debug.elf.section_named(b".text").unwrap();
                // Not in order: batches are by unit, whatever the order is.
                let mut offsets: Vec<u64> = (text.offset..text.offset + text.size).rev().collect();
                offsets.rotate_left(100);
                let files = debug.files();
                let mut one = debug.reader(&files).unwrap();
                let wanted: Vec<Vec<Line>> = offsets.iter().map(|&offset| one.at(offset)).collect();
                let inlined = wanted.iter().filter(|lines| lines.len() == 3).count();
                assert!(inlined >= 40, "{inlined} of {}", wanted.len());
                for threads in [1, 3] {
                    for held in [1, 2000, 48 << 20] {
                        let limits = Limits { held, worth: 1, threads };
                        assert!(held > 1 || !options.is_empty() || batches(debug, &offsets, limits).len() >= 40);
                        assert!(within(debug, &offsets, limits) == wanted, "{options:?} {limits:?}");
                    }
                }
                assert!(lines(debug, &offsets) == wanted, "{options:?}");
                one.split_bytes
            });
            assert_eq!(found.expect("debug information") > 0, !options.is_empty(), "{options:?}");
        }
    }
}
