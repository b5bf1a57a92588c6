//! From a guest's virtual address to a frame: x86-64 page tables of 4 and 5 levels, pages of 4 KiB, 2 MiB and 1 GiB.
//!
//! A guest writes its page tables as it likes, and while they are read. A walk reads at most one entry of each level, so it
//! ends; where it leads is asked of Xen, which maps only what belongs to the domain.
//!
//! With KPTI, CR3 is that of the mode the vCPU is in, and maps what that mode can reach: it is used as it is found. PV
//! entries hold machine frames, and so does CR3 of a PV domain.

use crate::sys::xen::Context;

/// Why an address could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This frame is not mapped here yet.
    Missing(u64),
    /// The address is not mapped, or leads to what is not the guest's memory.
    Unmapped,
}

/// Frames of a guest that are mapped here.
pub trait Frames {
    /// The word at `offset` (a multiple of 8 below 4096) of a frame.
    ///
    /// # Errors
    /// [`Fault::Missing`] for a frame that may be asked for, [`Fault::Unmapped`] for one that Xen refused.
    fn word(&self, frame: u64, offset: usize) -> Result<u64, Fault>;
}

/// An address space of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Frame of the root.
    pub root: u64,
    /// 4, or 5 with LA57.
    pub levels: u32,
}

const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
/// Bits 51:12 of an entry: the frame (Intel SDM 3A 4.5, AMD APM 2 5.3).
const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;
/// `CR0.PG`, `CR4.PAE`, `CR4.LA57`.
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const LA57: u64 = 1 << 12;

impl Space {
    /// The address space that a vCPU of a 64-bit guest is in; `None` when it has none of the kind that is known here.
    pub fn of(context: &Context, pv: bool) -> Option<Space> {
        if pv {
            // PV knows four levels.
            return Some(Space { root: (context.cr3 & FRAME_MASK) >> 12, levels: 4 });
        }
        let paged = context.cr0 & PG != 0 && context.cr4 & PAE != 0;
        let levels = if context.cr4 & LA57 != 0 { 5 } else { 4 };
        paged.then_some(Space { root: (context.cr3 & FRAME_MASK) >> 12, levels })
    }

    /// True for an address that this many levels can translate: its upper bits repeat the highest one.
    fn is_canonical(&self, address: u64) -> bool {
        let unused = 64 - (12 + 9 * self.levels);
        ((address << unused) as i64 >> unused) as u64 == address
    }

    /// The frame of an address, and the offset in it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn translate(&self, address: u64, frames: &dyn Frames) -> Result<(u64, usize), Fault> {
        if !self.is_canonical(address) {
            return Err(Fault::Unmapped);
        }
        let offset = (address & 0xfff) as usize;
        let mut table = self.root;
        for level in (0..self.levels).rev() {
            let index = (address >> (12 + 9 * level)) as usize & 511;
            let entry = frames.word(table, index * 8)?;
            if entry & PRESENT == 0 {
                return Err(Fault::Unmapped);
            }
            let frame = (entry & FRAME_MASK) >> 12;
            if entry & LARGE != 0 && (1..=2).contains(&level) {
                let within = (1u64 << (9 * level)) - 1;
                return Ok((frame & !within | (address >> 12) & within, offset));
            }
            if entry & LARGE != 0 && level > 2 {
                return Err(Fault::Unmapped);
            }
            table = frame;
        }
        Ok((table, offset))
    }

    /// The word at an address, which must be a multiple of 8.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn word(&self, address: u64, frames: &dyn Frames) -> Result<u64, Fault> {
        if !address.is_multiple_of(8) {
            return Err(Fault::Unmapped);
        }
        let (frame, offset) = self.translate(address, frames)?;
        frames.word(frame, offset)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A guest's memory, by word.
    #[derive(Debug, Default)]
    pub(crate) struct Memory(pub(crate) HashMap<(u64, usize), u64>);

    impl Memory {
        pub(crate) fn put(&mut self, physical: u64, word: u64) {
            self.0.insert((physical >> 12, (physical & 0xfff) as usize), word);
        }
    }

    impl Frames for Memory {
        fn word(&self, frame: u64, offset: usize) -> Result<u64, Fault> {
            if frame >= 1 << 20 {
                return Err(Fault::Missing(frame));
            }
            Ok(self.0.get(&(frame, offset)).copied().unwrap_or(0))
        }
    }

    fn index(address: u64, level: u32) -> u64 {
        (address >> (12 + 9 * level) & 511) * 8
    }

    #[test]
    fn pages_of_all_sizes() {
        let mut memory = Memory::default();
        let address = 0x7f12_3456_7898u64;
        let space = Space { root: 1, levels: 4 };
        assert_eq!(space.translate(address, &memory), Err(Fault::Unmapped));
        memory.put(0x1000 + index(address, 3), 0x2000 | 0x8000_0000_0000_0067);
        memory.put(0x2000 + index(address, 2), 0x3067);
        memory.put(0x3000 + index(address, 1), 0x4067);
        memory.put(0x4000 + index(address, 0), 0x5067);
        assert_eq!(space.translate(address, &memory), Ok((5, 0x898)));
        memory.put(0x5898, 77);
        assert_eq!(space.word(address, &memory), Ok(77));
        assert_eq!(space.word(address + 1, &memory), Err(Fault::Unmapped));
        // 2 MiB; bit 12 of its entry is PAT, and bits 20:13 are reserved: neither is part of the frame.
        memory.put(0x3000 + index(address, 1), 0x4000_0000 | 1 << 12 | LARGE | PRESENT);
        assert_eq!(space.translate(address, &memory), Ok((0x4_0000 + (address >> 12 & 511), 0x898)));
        memory.put(0x2000 + index(address, 2), 0x8000_0000 | LARGE | PRESENT);
        assert_eq!(space.translate(address, &memory), Ok((0x8_0000 + (address >> 12 & 0x3_ffff), 0x898)));
        // Not in the root.
        memory.put(0x1000 + index(address, 3), 0x2000 | LARGE | PRESENT);
        assert_eq!(space.translate(address, &memory), Err(Fault::Unmapped));
    }

    #[test]
    fn five_levels_and_canonical_addresses() {
        let mut memory = Memory::default();
        let address = 0x00ab_7f12_3456_7000u64;
        for level in (0..5u32).rev() {
            let table = u64::from(10 - level) << 12;
            memory.put(table + index(address, level), (table + 0x1000) | PRESENT);
        }
        assert_eq!(Space { root: 6, levels: 5 }.translate(address, &memory), Ok((11, 0)));
        assert_eq!(Space { root: 6, levels: 4 }.translate(address, &memory), Err(Fault::Unmapped));
        assert!(Space { root: 0, levels: 4 }.is_canonical(0xffff_8000_0000_0000));
        assert!(!Space { root: 0, levels: 4 }.is_canonical(0x0000_8000_0000_0000));
    }

    #[test]
    fn a_table_that_points_at_itself_ends_and_a_frame_outside_is_missing() {
        let mut memory = Memory::default();
        (0..512).for_each(|entry| memory.put(0x1000 + entry * 8, 0x1000 | PRESENT));
        assert_eq!(Space { root: 1, levels: 5 }.translate(0x1234_5678, &memory), Ok((1, 0x678)));
        memory.put(0x1000, FRAME_MASK | PRESENT);
        assert_eq!(Space { root: 1, levels: 4 }.translate(0, &memory), Err(Fault::Missing(FRAME_MASK >> 12)));
    }

    #[test]
    fn roots() {
        let pv = |cr3| Space::of(&Context { cr3, ..Context::default() }, true).unwrap().root;
        assert_eq!((pv(0x1_2345_6000), pv(0x000f_8001_2345_6003)), (0x12_3456, 0xf8_0012_3456));
        let hvm = Context { cr0: PG, cr4: PAE, cr3: 0x8000_0000_1234_5801, ..Context::default() };
        assert_eq!(Space::of(&hvm, false), Some(Space { root: 0x1_2345, levels: 4 }));
        let wide = Context { cr4: PAE | LA57, ..hvm };
        assert_eq!(Space::of(&wide, false).unwrap().levels, 5);
        assert_eq!(Space::of(&Context::default(), false), None);
    }
}
