//! One address space: maps by address, the newest on top.

use std::collections::BTreeMap;
use std::sync::Arc;

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
#[derive(Clone, Debug)]
pub struct Space {
    maps: Arc<BTreeMap<u64, Map>>,
    epoch: u32,
}

impl Space {
    /// An empty space.
    pub fn new(epoch: u32) -> Space {
        Space { maps: Arc::default(), epoch }
    }

    /// The child's copy.
    pub fn fork(&self, epoch: u32) -> Space {
        Space { maps: Arc::clone(&self.maps), epoch }
    }

    /// Changes with every change of the maps.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Adds a map; what it covers of older ones is cut away.
    pub fn insert(&mut self, map: Map, epoch: u32) {
        if self.maps.get(&map.start) == Some(&map) {
            return;
        }
        self.epoch = epoch;
        let maps = Arc::make_mut(&mut self.maps);
        let first =
            maps.range(..map.start).next_back().filter(|(_, m)| m.end > map.start).map_or(map.start, |(&s, _)| s);
        let covered: Vec<Map> = maps.range(first..map.end).map(|(_, &m)| m).collect();
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
        }
    }

    /// The map that covers `addr`.
    pub fn find(&self, addr: u64) -> Option<&Map> {
        self.maps.range(..=addr).next_back().map(|(_, map)| map).filter(|map| addr < map.end)
    }
}
