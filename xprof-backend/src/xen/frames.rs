//! Frames of guests that are mapped here, kept for the next walk.
//!
//! A mapping costs twenty null hypercalls, a walk from mapped frames two; so what was mapped stays, under a budget. But a
//! mapped frame keeps its domain from dying, and a guest frame may come to stand for other memory: a domain's frames are all
//! let go when it dies, shuts down or changes its size, and every few seconds in any case. Until then a frame that the
//! guest gave up is not anybody else's: Xen holds it back as long as it is mapped.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};

use super::paging::{Fault, Frames};
use crate::sys::xen::{Hypervisor, Mapping};

/// Frames of all domains together: 32 MiB.
const BUDGET: usize = 8192;
/// Frames that are asked for at once.
const BATCH: usize = 256;
/// Age at which a domain's frames are let go.
const LIFE: Duration = Duration::from_secs(5);

/// The mapped frames of one domain.
#[derive(Debug)]
pub struct DomainFrames {
    /// Frames at and above this are not its memory.
    limit: u64,
    places: FxHashMap<u64, (u32, u32)>,
    refused: FxHashSet<u64>,
    mappings: Vec<Mapping>,
    since: Option<Instant>,
}

impl Frames for DomainFrames {
    fn word(&self, frame: u64, offset: usize) -> Result<u64, Fault> {
        if frame >= self.limit || self.refused.contains(&frame) {
            return Err(Fault::Unmapped);
        }
        let Some(&(mapping, index)) = self.places.get(&frame) else { return Err(Fault::Missing(frame)) };
        let mapping = self.mappings.get(mapping as usize).ok_or(Fault::Unmapped)?;
        mapping.read(index as usize, offset).map(u64::from_ne_bytes).ok_or(Fault::Unmapped)
    }
}

impl DomainFrames {
    /// None yet. `limit`: frames from there on are refused without asking Xen.
    pub fn new(limit: u64) -> DomainFrames {
        DomainFrames {
            limit,
            places: FxHashMap::default(),
            refused: FxHashSet::default(),
            mappings: Vec::new(),
            since: None,
        }
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.places.clear();
        self.refused.clear();
        self.mappings.clear();
        self.since = None;
    }

    /// Number of frames mapped.
    pub fn mapped(&self) -> usize {
        self.places.len()
    }

    fn is_old(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= LIFE)
    }

    /// Maps what walks asked for.
    fn fetch(&mut self, xen: &Hypervisor, domain: u16, wanted: &[u64], now: Instant) {
        for batch in wanted.chunks(BATCH) {
            let Ok(mapping) = xen.map(domain, batch) else {
                self.refused.extend(batch);
                continue;
            };
            self.since.get_or_insert(now);
            for (index, frame) in batch.iter().enumerate() {
                if mapping.has(index) {
                    self.places.insert(*frame, (self.mappings.len() as u32, index as u32));
                } else {
                    self.refused.insert(*frame);
                }
            }
            // One without a single frame keeps nothing.
            if (0..batch.len()).any(|index| mapping.has(index)) {
                self.mappings.push(mapping);
            }
        }
    }
}

/// The mapped frames of all domains.
#[derive(Debug, Default)]
pub struct FrameCache {
    domains: FxHashMap<u16, DomainFrames>,
}

impl FrameCache {
    /// Begins with a domain; see [`DomainFrames::new`].
    pub fn begin(&mut self, domain: u16, limit: u64) {
        self.domains.insert(domain, DomainFrames::new(limit));
    }

    /// Lets go of a domain's frames, which may be mapped again.
    pub fn clear(&mut self, domain: u16) {
        if let Some(frames) = self.domains.get_mut(&domain) {
            frames.clear();
        }
    }

    /// Lets go of a domain.
    pub fn end(&mut self, domain: u16) {
        self.domains.remove(&domain);
    }

    /// The frames of a domain.
    pub fn of(&self, domain: u16) -> Option<&DomainFrames> {
        self.domains.get(&domain)
    }

    /// Lets go of what is old, and of everything when it is too much.
    pub fn trim(&mut self, now: Instant) {
        let total: usize = self.domains.values().map(DomainFrames::mapped).sum();
        for frames in self.domains.values_mut() {
            if total > BUDGET || frames.is_old(now) {
                frames.clear();
            }
        }
    }

    /// Maps `wanted` frames; duplicates are asked for once.
    pub fn fetch(&mut self, xen: &Hypervisor, wanted: &mut Vec<(u16, u64)>, now: Instant) {
        wanted.sort_unstable();
        wanted.dedup();
        for group in wanted.chunk_by(|a, b| a.0 == b.0) {
            let domain = group[0].0;
            let list: Vec<u64> = group.iter().map(|(_, frame)| *frame).collect();
            if let Some(frames) = self.domains.get_mut(&domain) {
                frames.fetch(xen, domain, &list, now);
            }
        }
        wanted.clear();
    }
}
