//! Call chains out of registers and stack copies.
//!
//! A frame's caller is found by the row of call frame information that holds at its code address ([`row`], made by
//! [`cfi`]), by the frame pointer where no CFI covers the address (code made at run time, hand-written code), or by what
//! the code itself says (signal trampolines, linkage tables: [`code`]). A row depends on the file and the offset in it,
//! not on the process: it is made once for all processes and kept; in front of that stands a small table by address space
//! and address, which answers nearly every frame.
//!
//! framehop, the obvious crate, tracks three registers: it has no answer for signal frames, for realigned frames and for
//! frames whose CFA hangs on another register, and would need all of this beside it. One evaluator for all registers is
//! less, and no slower ([`Unwinder`]'s hot path is one table look-up and two or three words of the stack a frame).
//!
//! * [`Unwinder`]: one stack.
//! * [`Stage`]: records with stack copies in, records with call chains out; for recording and for reading.

mod beyond;
mod cfi;
mod code;
mod registers;
mod row;
mod stack;
mod stage;

pub use beyond::Memory;
pub use registers::{Arch, Registers};
pub use stack::{Gap, Stack};
pub use stage::{Counts, Stage, TRUNCATED, TRUNCATED_NAME};

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::source::Source;

use crate::supply::Supplier;
use crate::symbols::elf::Elf;
use crate::symbols::{Module, ModuleKind, load};
use crate::timeline::{Mode, ModuleId, Timeline};
use cfi::{Cfi, Found};
use row::{Row, Stop};

/// Frames of one stack. A copy of 65,528 bytes has no more than 4,095 frames of 16 bytes.
const MOST_FRAMES: usize = 4096;
/// Signal frames of one stack: each one may lead anywhere, even back.
const MOST_SIGNALS: usize = 64;
/// Entries of the table by address space and address; a power of two.
const NEAR: usize = 1 << 14;
/// Code addresses that are remembered; past it the memory starts anew.
const MOST_PLACES: usize = 1 << 19;
/// Bytes of CFI in memory; past it all of it is let go. Rows stay.
const MOST_BYTES: usize = 48 << 20;

/// Whether the code of an ELF file keeps frame pointers; false where nothing tells.
pub fn keeps_frame_pointers(source: Arc<dyn Source>) -> bool {
    let cfi = Elf::open(source).ok().and_then(Cfi::of);
    cfi.and_then(|mut cfi| cfi.keeps_frame_pointers()).unwrap_or(false)
}

/// How a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the thread's or the program's start.
    Whole,
    /// Where the copy of the stack does: a larger one would show more.
    Cut,
    /// Where nobody knows how to go on: code without CFI or frame pointer, damaged CFI, a stack that was left (a signal
    /// handler on a stack of its own).
    Broken,
}

/// What is done at a code address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// There is no code.
    Unmapped,
    /// The frame pointer is all there is.
    FramePointer,
    Row(Row),
    /// The CFI is damaged.
    Bad,
}

const UNMAPPED: u32 = 0;
const FRAME_POINTER: u32 = 1;

/// One entry of the table by address space and address.
#[derive(Clone, Copy, Debug, Default)]
struct Near {
    addr: u64,
    epoch: u32,
    step: u32,
}

/// Unwinds stacks of one machine.
pub struct Unwinder {
    arch: Arch,
    supplier: Arc<dyn Supplier>,
    steps: Vec<Step>,
    step_ids: FxHashMap<Step, u32>,
    places: FxHashMap<(ModuleId, u64), u32>,
    near: Box<[Near]>,
    /// `None`: the file is not to be had, or not of this machine.
    files: FxHashMap<ModuleId, Option<Cfi>>,
    bytes: usize,
    /// The frames of the last stack.
    frames: Vec<beyond::Place>,
}

impl std::fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unwinder({} places, {} steps)", self.places.len(), self.steps.len())
    }
}

impl Unwinder {
    /// An unwinder of stacks of `arch`; files come from `supplier`.
    pub fn new(arch: Arch, supplier: Arc<dyn Supplier>) -> Unwinder {
        let steps = vec![Step::Unmapped, Step::FramePointer];
        Unwinder {
            arch,
            supplier,
            step_ids: steps.iter().cloned().zip(0..).collect(),
            steps,
            places: FxHashMap::default(),
            near: vec![Near::default(); NEAR].into(),
            files: FxHashMap::default(),
            bytes: 0,
            frames: Vec::new(),
        }
    }

    /// Appends the code addresses of a stack, innermost first: the instruction pointer, then return addresses.
    ///
    /// `registers` are those of a task of process `pid`, whose maps `timeline` knows. At most 4,096 frames. Bounded in time
    /// by that; what the files hold may be anything.
    pub fn unwind(
        &mut self,
        timeline: &Timeline,
        pid: u32,
        mut registers: Registers,
        stack: &Stack<'_>,
        chain: &mut Vec<u64>,
    ) -> End {
        let Some(mut pc) = registers.get(self.arch.pc()) else { return End::Broken };
        let mut step = self.step(timeline, pid, pc);
        let (mut signals, mut innermost) = (0, true);
        self.frames.clear();
        for _ in 0..MOST_FRAMES {
            chain.push(pc);
            let own_sp = registers.get(self.arch.sp()).unwrap_or(0);
            self.frames.push(beyond::Place { sp: own_sp, pc });
            let by_signal = match self.steps.get(step as usize) {
                Some(Step::Row(row)) => {
                    match row.caller(self.arch, &registers, stack) {
                        Ok(caller) => registers = caller,
                        Err(Stop::Root) => return End::Whole,
                        Err(Stop::Gap(Gap::Cut)) => return End::Cut,
                        Err(Stop::Gap(Gap::Elsewhere) | Stop::Bad) => return End::Broken,
                    }
                    row.signal
                }
                Some(Step::FramePointer) => {
                    match by_frame_pointer(self.arch, &mut registers, stack) {
                        Ok(()) => {}
                        Err(Stop::Root) => return End::Whole,
                        Err(Stop::Gap(Gap::Cut)) => return End::Cut,
                        Err(_) => return End::Broken,
                    }
                    false
                }
                Some(Step::Unmapped | Step::Bad) | None => return End::Broken,
            };
            let sp = registers.get(self.arch.sp()).unwrap_or(0);
            let caller = registers.get(self.arch.pc()).unwrap_or(0);
            if by_signal {
                signals += 1;
            }
            // A caller's frame lies above; only a leaf may have none, and only a signal may have switched stacks.
            let progress = if by_signal { signals <= MOST_SIGNALS } else { sp > own_sp || (innermost && caller != pc) };
            if caller == 0 {
                return End::Whole;
            }
            if !progress {
                return End::Broken;
            }
            innermost = by_signal;
            pc = caller;
            // A call at the very end of a function returns to the next one.
            step = self.step(timeline, pid, if by_signal { pc } else { pc - 1 });
            if step == UNMAPPED {
                return End::Broken;
            }
        }
        End::Broken
    }

    /// Where the frames of the last stack were.
    pub(crate) fn frames(&self) -> &[beyond::Place] {
        &self.frames
    }

    /// What is done at a code address of a process.
    fn step(&mut self, timeline: &Timeline, pid: u32, addr: u64) -> u32 {
        let epoch = timeline.epoch(pid, Mode::User);
        let slot = (addr ^ addr >> 14 ^ u64::from(epoch) << 5) as usize & (NEAR - 1);
        if let Some(near) = self.near.get(slot)
            && near.addr == addr
            && near.epoch == epoch
            && epoch != 0
        {
            return near.step;
        }
        let step = self.far_step(timeline, pid, addr);
        if let Some(near) = self.near.get_mut(slot) {
            *near = Near { addr, epoch, step };
        }
        step
    }

    fn far_step(&mut self, timeline: &Timeline, pid: u32, addr: u64) -> u32 {
        let Some(map) = timeline.map(pid, Mode::User, addr) else { return UNMAPPED };
        let Some(module) = timeline.modules().get(map.module) else { return UNMAPPED };
        if !matches!(module.kind, ModuleKind::User | ModuleKind::Vdso) {
            return FRAME_POINTER;
        }
        let place = (map.module, map.to_module(addr));
        if let Some(&step) = self.places.get(&place) {
            return step;
        }
        let step = match self.file(map.module, module).map(|cfi| cfi.at(place.1)) {
            Some(Found::Row(row)) => Step::Row(row),
            Some(Found::Bad) => Step::Bad,
            Some(Found::NotCode) => Step::Unmapped,
            Some(Found::Nothing) | None => Step::FramePointer,
        };
        let step = self.intern(step);
        if self.places.len() >= MOST_PLACES {
            self.places.clear();
        }
        self.places.insert(place, step);
        step
    }

    fn intern(&mut self, step: Step) -> u32 {
        if let Some(&id) = self.step_ids.get(&step) {
            return id;
        }
        if self.steps.len() >= MOST_PLACES {
            // No program has so many different rows.
            return FRAME_POINTER;
        }
        let id = self.steps.len() as u32;
        self.steps.push(step.clone());
        self.step_ids.insert(step, id);
        id
    }

    fn file(&mut self, id: ModuleId, module: &Module) -> Option<&mut Cfi> {
        if !self.files.contains_key(&id) {
            let elf = match module.kind {
                ModuleKind::Vdso => load::vdso_of(&*self.supplier, module).ok(),
                _ => load::file_of(&*self.supplier, module).ok(),
            };
            let cfi = elf.and_then(Cfi::of).filter(|cfi| cfi.arch() == self.arch);
            let bytes = cfi.as_ref().map_or(0, Cfi::size);
            if self.bytes + bytes > MOST_BYTES {
                self.files.retain(|_, file| file.is_none());
                self.bytes = 0;
            }
            self.bytes += bytes;
            self.files.insert(id, cfi);
        }
        self.files.get_mut(&id)?.as_mut()
    }
}

/// Goes to the caller by the frame record at the frame pointer: the caller's frame pointer and the return address.
fn by_frame_pointer(arch: Arch, registers: &mut Registers, stack: &Stack<'_>) -> Result<(), Stop> {
    let fp = registers.get(arch.fp()).ok_or(Stop::Bad)?;
    if fp == 0 {
        return Err(Stop::Root);
    }
    let sp = registers.get(arch.sp()).ok_or(Stop::Bad)?;
    if fp < sp || fp % 8 != 0 {
        return Err(Stop::Bad);
    }
    let caller_fp = stack.word(fp)?;
    let pc = stack.word(fp.wrapping_add(8))?;
    registers.set(arch.fp(), caller_fp);
    registers.set(arch.sp(), fp.wrapping_add(16));
    registers.set(arch.pc(), arch.code(pc));
    if arch == Arch::Aarch64 {
        registers.set(30, pc);
    }
    Ok(())
}

/// The chain of a 32-bit x86 task, by frame pointers alone: the caller's, then the return address, four bytes each.
pub(crate) fn unwind_32(
    timeline: &Timeline,
    pid: u32,
    registers: &Registers,
    stack: &Stack<'_>,
    chain: &mut Vec<u64>,
) -> End {
    let arch = Arch::X86_64;
    let (Some(pc), Some(mut fp)) = (registers.get(arch.pc()), registers.get(arch.fp())) else { return End::Broken };
    chain.push(pc);
    let mut floor = stack.start();
    for _ in 0..MOST_FRAMES {
        if fp == 0 {
            return End::Whole;
        }
        if fp < floor || fp % 4 != 0 {
            return End::Broken;
        }
        let word = match stack.word(fp) {
            Ok(word) => word,
            Err(Gap::Cut) => return End::Cut,
            Err(Gap::Elsewhere) => return End::Broken,
        };
        let (caller_fp, caller) = (word & 0xffff_ffff, word >> 32);
        if caller == 0 {
            return End::Whole;
        }
        if timeline.map(pid, Mode::User, caller).is_none() {
            return End::Broken;
        }
        chain.push(caller);
        floor = fp + 8;
        fp = caller_fp;
    }
    End::Broken
}
