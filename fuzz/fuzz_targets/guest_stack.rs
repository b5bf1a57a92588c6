#![no_main]
//! A guest that lies: its registers, page tables and stack are the input, and every walk ends after a bounded number of
//! looks into its memory, at addresses of the side they should be on.

use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use xprof_backend::sys::xen::Context;
use xprof_backend::xen::paging::{Fault, Frames};
use xprof_backend::xen::stack::{FRAMES_MAX, Stack, walk};

/// Frames that are there; Xen refuses the others.
const FRAMES: u64 = 64;
/// Each step reads two words, each through five levels; besides, what the kernel's entry left at two places.
const LOOKS_MAX: usize = (2 * FRAMES_MAX + 8 + 2) * 6 * 2;

/// The input again and again, so that a small one fills all frames.
struct Memory<'a> {
    bytes: &'a [u8],
    /// Frames that are mapped.
    mapped: u64,
    looks: Cell<usize>,
}

impl Frames for Memory<'_> {
    fn word(&self, frame: u64, offset: usize) -> Result<u64, Fault> {
        self.looks.set(self.looks.get() + 1);
        assert!(offset % 8 == 0 && offset < 4096);
        if frame >= FRAMES {
            return Err(Fault::Unmapped);
        }
        if self.mapped >> frame & 1 == 0 {
            return Err(Fault::Missing(frame));
        }
        let at = (frame as usize * 4096 + offset) % self.bytes.len();
        let word = [0, 1, 2, 3, 4, 5, 6, 7].map(|byte| self.bytes[(at + byte) % self.bytes.len()]);
        Ok(u64::from_le_bytes(word))
    }
}

// The input: the kind of guest, seven registers, the memory.
fuzz_target!(|bytes: &[u8]| {
    let Some((head, memory)) = bytes.split_at_checked(64).filter(|(_, memory)| !memory.is_empty()) else { return };
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at * 8 + byte]));
    let pv = head[0] & 1 != 0;
    let context = Context {
        rip: word(1),
        rsp: word(2),
        rbp: word(3),
        cs: word(4) as u16,
        in_kernel: head[0] & 2 != 0,
        cr0: 1 << 31 | word(4) >> 32,
        cr4: word(5) | 1 << 5,
        cr3: word(6),
        kernel_sp: word(7),
        ..Context::default()
    };
    let mut memory = Memory { bytes: memory, mapped: 0, looks: Cell::new(0) };
    let mut stack = Stack::default();
    loop {
        memory.looks.set(0);
        let walked = walk(&context, pv, &memory, &mut stack);
        assert!(memory.looks.get() <= LOOKS_MAX);
        assert!(stack.kernel.len() <= FRAMES_MAX && stack.user.len() <= FRAMES_MAX + 1);
        assert!(stack.kernel.iter().all(|address| *address >= 0xffff_8000_0000_0000));
        assert!(stack.user.iter().all(|address| *address < 1 << 56));
        match walked {
            Ok(()) => return,
            // Every missing frame is asked for once.
            Err(frame) => {
                assert!(frame < FRAMES && memory.mapped >> frame & 1 == 0);
                memory.mapped |= 1 << frame;
            }
        }
    }
});
