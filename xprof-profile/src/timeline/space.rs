//! One address space: maps by address, the newest on top.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::module::ModuleId;

/// One mapping of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Offset of `start` in the file, bytes.
    pub pgoff: u64,
    /// What is mapped.
    pub module: ModuleId,
    /// The module is addressed by run-time addresses (kernel, JIT), not by file offsets.
    pub identity: bool,
}

impl Map {
    /// The address as the module counts: a file offset, or the run-time address itself.
    pub fn to_module(&self, addr: u64) -> u64 {
        if self.identity { addr } else { addr.wrapping_sub(self.start).wrapping_add(self.pgoff) }
    }
}

/// An address in a module: a file offset for files, a run-time address for the kernel and for JIT code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which module; one of the unknown ones when nothing was mapped there.
    pub module: ModuleId,
    /// Address in it.
    pub addr: u64,
}

/// The maps of one process, or of the kernel. A fork shares them until one side changes.
#[derive(Debug)]
pub struct Space {
    maps: Arc<BTreeMap<u64, Map>>,
    epoch: u32,
    missed: Missed,
}

/// The addresses that were asked for in an epoch and lie in no map: from the first to the last.
#[derive(Debug)]
struct Missed {
    first: AtomicU64,
    last: AtomicU64,
}

impl Missed {
    fn nothing() -> Missed {
        Missed { first: AtomicU64::new(u64::MAX), last: AtomicU64::new(0) }
    }

    fn add(&self, addr: u64) {
        if addr < self.first.load(Ordering::Relaxed) {
            self.first.fetch_min(addr, Ordering::Relaxed);
        }
        if addr > self.last.load(Ordering::Relaxed) {
            self.last.fetch_max(addr, Ordering::Relaxed);
        }
    }

    fn may_be_in(&self, map: &Map) -> bool {
        self.first.load(Ordering::Relaxed) < map.end && map.start <= self.last.load(Ordering::Relaxed)
    }
}

impl Space {
    /// An empty space.
    pub fn new(epoch: u32) -> Space {
        Space { maps: Arc::default(), epoch, missed: Missed::nothing() }
    }

    /// The child's copy.
    pub fn fork(&self, epoch: u32) -> Space {
        Space { maps: Arc::clone(&self.maps), epoch, missed: Missed::nothing() }
    }

    /// Changes with every change of an answer that [`Space::find`] has given. A program takes memory and gives it back all the
    /// time, and nobody has asked for code there.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Adds a map; what it covers of older ones is cut away.
    pub fn insert(&mut self, map: Map, epoch: u32) {
        if self.maps.get(&map.start) == Some(&map) {
            return;
        }
        let maps = Arc::make_mut(&mut self.maps);
        let first =
            maps.range(..map.start).next_back().filter(|(_, m)| m.end > map.start).map_or(map.start, |(&s, _)| s);
        let covered: Vec<Map> = maps.range(first..map.end).map(|(_, &m)| m).collect();
        let is_same = |old: &Map| old.module == map.module && old.identity && map.identity;
        // Answers of epoch 0 are not kept: there was no map at all.
        if self.epoch == 0 || self.missed.may_be_in(&map) || !covered.iter().all(is_same) {
            self.epoch = epoch;
            self.missed = Missed::nothing();
        }
        for old in covered {
            maps.remove(&old.start);
            if old.start < map.start {
                maps.insert(old.start, Map { end: map.start, ..old });
            }
            if old.end > map.end {
                let pgoff = old.pgoff.wrapping_add(map.end - old.start);
                maps.insert(map.end, Map { start: map.end, pgoff, ..old });
            }
        }
        maps.insert(map.start, map);
    }

    /// Removes the map that starts at `start`.
    pub fn remove(&mut self, start: u64, epoch: u32) {
        if Arc::make_mut(&mut self.maps).remove(&start).is_some() {
            self.epoch = epoch;
            self.missed = Missed::nothing();
        }
    }

    /// The map that covers `addr`.
    pub fn find(&self, addr: u64) -> Option<&Map> {
        let found = self.maps.range(..=addr).next_back().map(|(_, map)| map).filter(|map| addr < map.end);
        if found.is_none() {
            self.missed.add(addr);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_lasts_while_no_answer_changes() {
        let code = |start, end| Map { start, end, pgoff: 0, module: ModuleId(7), identity: false };
        let memory = |start, end| Map { start, end, pgoff: 0, module: ModuleId(8), identity: true };
        let mut space = Space::new(0);
        space.insert(code(0x1000, 0x2000), 1);
        assert_eq!((space.epoch(), space.find(0x1800).is_some()), (1, true));
        space.insert(memory(0x10000, 0x20000), 2);
        assert_eq!(space.epoch(), 1, "nobody has asked there");
        assert!(space.find(0x30000).is_none() && space.find(0x50000).is_none());
        space.insert(memory(0x20000, 0x30000), 3);
        assert_eq!(space.epoch(), 1, "in front of all that was asked");
        space.insert(memory(0x30000, 0x31000), 4);
        assert_eq!(space.epoch(), 4, "there was an answer");
        space.insert(memory(0x30000, 0x38000), 5);
        assert_eq!((space.epoch(), space.find(0x37fff).is_some()), (4, true), "the same is there as before");
        let mut child = space.fork(6);
        child.insert(code(0x30000, 0x31000), 7);
        assert_eq!((child.epoch(), space.epoch()), (7, 4), "something else is there");
        child.insert(code(0x30800, 0x32000), 8);
        assert_eq!(child.epoch(), 8, "the same file at another offset");
    }
}
