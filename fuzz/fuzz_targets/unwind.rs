#![no_main]
//! Stacks unwound by call frame information that lies: an ELF file, registers and a stack, all from the input.

use std::io;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::abi::misc;
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::timeline::Timeline;
use xprof_profile::unwind::{Arch, Registers, Stack, Unwinder};

struct One(Arc<Vec<u8>>);

impl Supplier for One {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        match need {
            Need::Path { .. } => Ok(Arc::clone(&self.0) as Arc<dyn Source>),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Where the file is mapped, all of it, and where the stack is.
const BASE: u64 = 0x40_0000;
const STACK: u64 = 0x7fff_0000;

// The input: which machine, the file's offset of the program counter, bytes of the stack; the stack; the file.
fuzz_target!(|bytes: &[u8]| {
    let Some((head, rest)) = bytes.split_first_chunk::<8>() else { return };
    let arch = if head[0] & 1 == 0 { Arch::X86_64 } else { Arch::Aarch64 };
    let at = u64::from(u32::from_le_bytes([head[1], head[2], head[3], 0]));
    let (stack, file) = rest.split_at(usize::from(u16::from_le_bytes([head[4], head[5]])).min(rest.len()));
    let mut timeline = Timeline::new(&[]);
    let map = Mmap {
        v2: true,
        pid: 1,
        tid: 1,
        start: BASE,
        len: 16 << 20,
        pgoff: 0,
        file: MmapFile::Unknown,
        prot: 5,
        flags: 2,
        path: b"/bin/x".to_vec(),
    };
    timeline.apply(&Record::Mmap(map), misc::USER, (0, 1));
    let mut registers = Registers::new();
    for number in 0..33 {
        registers.set(number, STACK + 8 * u64::from(number));
    }
    let (pc, sp) = if arch == Arch::X86_64 { (16, 7) } else { (32, 31) };
    registers.set(pc, BASE + at);
    registers.set(sp, STACK);
    let mut unwinder = Unwinder::new(arch, Arc::new(One(Arc::new(file.to_vec()))));
    let mut chain = Vec::new();
    // A second time from the memory of the first.
    for full in [true, false] {
        chain.clear();
        unwinder.unwind(&timeline, 1, registers.clone(), &Stack::new(STACK, stack, full), &mut chain);
        assert!(!chain.is_empty() && chain.len() <= 4096);
    }
});
