//! A guest's stack by frame pointers, kernel and user.
//!
//! A hostile guest chooses the frame pointers. Each step goes up in memory, so a cycle ends a walk; [`FRAMES_MAX`] steps are
//! the end of any. Nothing is believed that is not an address of the side it should be on.

use super::guest_form::Mode;
use super::paging::{Fault, Frames, Space};
use crate::sys::xen::Context;

/// Frames of one side of a stack, at most: what the kernel takes for perf (`kernel.perf_event_max_stack`).
pub const FRAMES_MAX: usize = 127;
/// Lowest address of a kernel's code (`__START_KERNEL_map` of Linux), and lowest of its memory with LA57; with four levels nothing is mapped below
/// 0xffff_8000_0000_0000.
const KERNEL_CODE: u64 = 0xffff_ffff_8000_0000;
const KERNEL: u64 = 0xff00_0000_0000_0000;
/// A kernel stack and those of its interrupts lie apart, but one frame of it does not span more than a stack:
/// `THREAD_SIZE` of Linux on x86-64.
const KERNEL_STACK: u64 = 16 << 10;
/// `struct pt_regs` of Linux on x86-64: its size, and what of it is read.
const REGS_SIZE: u64 = 168;
const REGS_BP: u64 = 32;
const REGS_IP: u64 = 128;
const REGS_CS: u64 = 136;
const REGS_SP: u64 = 152;

/// The callers of a vCPU's instruction pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// In the kernel.
    pub kernel: Vec<u64>,
    /// In user space; of a vCPU in its kernel the first is where user space was left.
    pub user: Vec<u64>,
}

/// The mode of a vCPU of a guest.
pub fn mode(context: &Context, pv: bool) -> Mode {
    let kernel = if pv { context.in_kernel } else { context.cs & 3 == 0 };
    if kernel { Mode::Kernel } else { Mode::User }
}

/// Walks the stack of a vCPU. What can be read is kept: a frame that Xen refuses ends a side.
///
/// # Errors
/// The frame that must be mapped before it can be walked on; then start again.
pub fn walk(context: &Context, pv: bool, frames: &dyn Frames, stack: &mut Stack) -> Result<(), u64> {
    stack.kernel.clear();
    stack.user.clear();
    let Some(space) = Space::of(context, pv) else { return Ok(()) };
    if mode(context, pv) == Mode::User {
        if !is_compatible(context.cs) {
            chain(&space, context.rbp, context.rsp, false, frames, &mut stack.user)?;
        }
        return Ok(());
    }
    chain(&space, context.rbp, context.rsp, true, frames, &mut stack.kernel)?;
    // Where user space was left stands at the top of the task's kernel stack.
    let top = (context.rsp & !(KERNEL_STACK - 1)).wrapping_add(KERNEL_STACK);
    let tops = [top, if pv { context.kernel_sp } else { 0 }];
    for top in tops.into_iter().filter(|top| *top > KERNEL) {
        let field = |offset: u64| read(&space, top - REGS_SIZE + offset, frames);
        let (Some(cs), Some(ip)) = (field(REGS_CS)?, field(REGS_IP)?) else { continue };
        let (Some(sp), Some(bp)) = (field(REGS_SP)?, field(REGS_BP)?) else { continue };
        if cs & 3 == 3 && cs < 0x1_0000 && is_user(ip) && is_user(sp) {
            stack.user.push(ip);
            if !is_compatible(cs as u16) {
                chain(&space, bp, sp, false, frames, &mut stack.user)?;
            }
            break;
        }
    }
    Ok(())
}

/// True for the code of a 32-bit program in a 64-bit guest: `__USER32_CS` of Linux, and Xen's `FLAT_RING3_CS32`.
fn is_compatible(cs: u16) -> bool {
    matches!(cs, 0x23 | 0xe023)
}

/// An address below the half that LA57 gives to user space.
fn is_user(address: u64) -> bool {
    address != 0 && address < 1 << 56
}

/// A word; `None` where there is none.
fn read(space: &Space, address: u64, frames: &dyn Frames) -> Result<Option<u64>, u64> {
    match space.word(address, frames) {
        Ok(word) => Ok(Some(word)),
        Err(Fault::Missing(frame)) => Err(frame),
        Err(Fault::Unmapped) => Ok(None),
    }
}

/// Follows frame pointers from `bp` on.
fn chain(
    space: &Space,
    mut bp: u64,
    sp: u64,
    kernel: bool,
    frames: &dyn Frames,
    callers: &mut Vec<u64>,
) -> Result<(), u64> {
    let mut floor = sp;
    while callers.len() < FRAMES_MAX {
        let is_place = if kernel { bp >= KERNEL && bp.wrapping_sub(floor) < KERNEL_STACK } else { is_user(bp) };
        if !is_place || bp < floor || !bp.is_multiple_of(8) {
            break;
        }
        let Some(address) = read(space, bp.wrapping_add(8), frames)? else { break };
        let is_code = if kernel { address >= KERNEL_CODE } else { is_user(address) };
        if !is_code {
            break;
        }
        callers.push(address);
        let Some(next) = read(space, bp, frames)? else { break };
        floor = bp + 16;
        bp = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::paging::tests::Memory;
    use super::*;

    /// One 2 MiB page of user memory at 0x400000 (physical 0x800000), and one of the kernel's at its first address
    /// (physical 0xa00000).
    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory.put(0x1000, 0x2001);
        memory.put(0x2000, 0x3001);
        memory.put(0x3010, 0x80_0081);
        memory.put(0x1000 + 256 * 8, 0x4001);
        memory.put(0x4000, 0x5001);
        memory.put(0x5000, 0xa0_0081);
        memory
    }

    fn user(rbp: u64) -> Context {
        Context {
            cr0: 1 << 31,
            cr4: 1 << 5,
            cr3: 0x1000,
            cs: 0x33,
            rip: 0x40_0000,
            rsp: 0x41_0000,
            rbp,
            ..Context::default()
        }
    }

    fn record(memory: &mut Memory, at: u64, next: u64, address: u64) {
        memory.put(0x80_0000 + (at & 0x1f_ffff), next);
        memory.put(0x80_0000 + (at & 0x1f_ffff) + 8, address);
    }

    fn walked(context: &Context, memory: &Memory) -> Stack {
        let mut stack = Stack::default();
        walk(context, false, memory, &mut stack).unwrap();
        stack
    }

    #[test]
    fn a_chain_to_its_end() {
        let mut memory = memory();
        record(&mut memory, 0x41_0010, 0x41_0040, 0x40_1111);
        record(&mut memory, 0x41_0040, 0x41_0080, 0x40_2222);
        record(&mut memory, 0x41_0080, 0, 0x40_3333);
        assert_eq!(walked(&user(0x41_0010), &memory).user, [0x40_1111, 0x40_2222, 0x40_3333]);
        // A 32-bit program's frames have another form.
        assert_eq!(walked(&Context { cs: 0x23, ..user(0x41_0010) }, &memory), Stack::default());
    }

    #[test]
    fn hostile_chains_end() {
        let mut memory = memory();
        record(&mut memory, 0x41_0000, 0x41_0020, 0x40_1111);
        record(&mut memory, 0x41_0020, 0x41_0000, 0x40_2222);
        assert_eq!(walked(&user(0x41_0000), &memory).user, [0x40_1111, 0x40_2222]);
        record(&mut memory, 0x41_0000, 0x41_0000, 0x40_1111);
        assert_eq!(walked(&user(0x41_0000), &memory).user, [0x40_1111]);
        // Overlapping, odd, into the kernel, and not canonical.
        for next in [0x41_0008, 0x41_0013, 0xffff_8000_0000_0000, u64::MAX - 7, 1 << 60] {
            record(&mut memory, 0x41_0000, next, 0x40_1111);
            assert_eq!(walked(&user(0x41_0000), &memory).user, [0x40_1111], "{next:#x}");
        }
        for step in 0..1000 {
            record(&mut memory, 0x41_0000 + step * 16, 0x41_0010 + step * 16, 0x40_1111);
        }
        assert_eq!(walked(&user(0x41_0000), &memory).user.len(), FRAMES_MAX);
    }

    #[test]
    fn from_the_kernel_into_user_space() {
        let mut memory = memory();
        record(&mut memory, 0x41_0010, 0, 0x40_1111);
        let regs = 0xa0_4000 - REGS_SIZE;
        for (offset, word) in [(REGS_BP, 0x41_0010), (REGS_IP, 0x40_0042), (REGS_CS, 0x33), (REGS_SP, 0x41_0000)] {
            memory.put(regs + offset, word);
        }
        let stack = 0xffff_8000_0000_0000;
        let context = Context { cs: 0x10, rsp: stack + 0x100, rbp: stack + 0x110, ..user(0) };
        memory.put(0xa0_0110, 0);
        memory.put(0xa0_0118, KERNEL_CODE + 5);
        let whole = walked(&context, &memory);
        assert_eq!((whole.kernel, whole.user), (vec![KERNEL_CODE + 5], vec![0x40_0042, 0x40_1111]));
        // KPTI: with the tables of user space the kernel's stack is not there, as on the way in and out.
        memory.put(0x9000, 0x2001);
        assert_eq!(walked(&Context { cr3: 0x9000, ..context }, &memory), Stack::default());
        assert_eq!(walked(&Context { cr3: 0x9000, ..user(0x41_0010) }, &memory).user, [0x40_1111]);
    }

    /// LA57: Linux has the stacks of its tasks at 0xffa0.. then, and programs may have memory above 128 TiB.
    #[test]
    fn five_levels() {
        let mut memory = memory();
        let wide = |context: Context| Context { cr3: 0x9000, cr4: 1 << 5 | 1 << 12, ..context };
        memory.put(0x9000, 0x1001);
        record(&mut memory, 0x41_0010, 0x00ab_0000_0041_0040, 0x40_1111);
        // The same tables below another entry of the root.
        memory.put(0x9000 + (0x00ab_0000_0000_0000 >> 48 & 511) * 8, 0x1001);
        record(&mut memory, 0x41_0040, 0, 0x00ab_0000_0040_2222);
        let chain = [0x40_1111, 0x00ab_0000_0040_2222];
        assert_eq!(walked(&wide(user(0x41_0010)), &memory).user, chain);
        memory.put(0x9000 + (0xffa0_0000_0000_0000 >> 48 & 511) * 8, 0xb001);
        memory.put(0xb000, 0x4001);
        let regs = 0xa0_4000 - REGS_SIZE;
        for (offset, word) in [(REGS_BP, 0x41_0010), (REGS_IP, 0x40_0042), (REGS_CS, 0x33), (REGS_SP, 0x41_0000)] {
            memory.put(regs + offset, word);
        }
        let stack = 0xffa0_0000_0000_0000;
        memory.put(0xa0_0110, 0);
        memory.put(0xa0_0118, KERNEL_CODE + 5);
        let context = wide(Context { cs: 0x10, rsp: stack + 0x100, rbp: stack + 0x110, ..user(0) });
        let whole = walked(&context, &memory);
        assert_eq!((whole.kernel, whole.user), (vec![KERNEL_CODE + 5], vec![0x40_0042, chain[0], chain[1]]));
        // Where four levels are in use such addresses are none.
        assert_eq!(walked(&Context { cr4: 1 << 5, ..context }, &memory), Stack::default());
    }

    #[test]
    fn a_frame_that_is_not_mapped_here_is_named() {
        let mut memory = memory();
        memory.put(0x3010, 0xffff_ffff_f000 | 1);
        assert_eq!(walk(&user(0x41_0000), false, &memory, &mut Stack::default()), Err(0xf_ffff_ffff));
    }
}
