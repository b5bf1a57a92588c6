//! What the machine code itself says where CFI says nothing, or not enough: signal trampolines and linkage tables.

use super::registers::Arch;
use super::row::{Cfa, Row, Rule};

/// Bytes of code that tell a signal trampoline.
pub(crate) const TRAMPOLINE_BYTES: u64 = 9;

/// The row of a signal trampoline that starts with these bytes: where the kernel stored the interrupted registers.
pub(crate) fn trampoline(arch: Arch, code: &[u8]) -> Option<Row> {
    match arch {
        // mov $15, %rax (in one of three encodings); syscall: `rt_sigreturn`.
        Arch::X86_64 => {
            let tells = code.starts_with(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05])
                || code.starts_with(&[0xb8, 15, 0, 0, 0, 0x0f, 0x05]);
            tells.then(x86_signal)
        }
        // mov x8, #139; svc #0: `rt_sigreturn`.
        Arch::Aarch64 => code.starts_with(&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]).then(aarch64_signal),
    }
}

/// `struct ucontext` lies at the stack pointer: flags, link and stack (40 bytes), then `struct sigcontext_64` of
/// arch/x86/include/uapi/asm/sigcontext.h.
fn x86_signal() -> Row {
    /// DWARF's numbers in the order of `struct sigcontext_64`: r8 to r15, di, si, bp, bx, dx, ax, cx, sp, ip.
    const ORDER: [u8; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    let rules = ORDER.iter().zip(0i64..).map(|(&register, at)| (register, Rule::At(40 + 8 * at)));
    Row { cfa: Cfa::Offset(7, 0), rules: rules.collect(), return_register: 16, signal: true }
}

/// `struct rt_sigframe` lies at the stack pointer: 128 bytes of siginfo, a ucontext whose `struct sigcontext` (16-byte
/// aligned, arch/arm64/include/uapi/asm/sigcontext.h) begins 176 bytes into it with the fault address: x0 to x30, sp, pc.
fn aarch64_signal() -> Row {
    let rules = (0u8..=32).map(|register| (register, Rule::At(128 + 176 + 8 + 8 * i64::from(register))));
    Row { cfa: Cfa::Offset(31, 0), rules: rules.collect(), return_register: 32, signal: true }
}

/// Bytes of one entry of a linkage table.
pub(crate) const LINKAGE_ENTRY: u64 = 16;

/// The row of an instruction `at` bytes into an entry of a linkage table that has no CFI (lld writes none).
pub(crate) fn linkage_entry(arch: Arch, code: &[u8], at: usize) -> Row {
    /// jmp *slot; push $number; jmp head.
    const LAZY: &[u8] = &[0xff, 0x25];
    /// The table's head: push; jmp.
    const HEAD: &[u8] = &[0xff, 0x35];
    /// endbr64; push $number.
    const MARKED: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa, 0x68];
    if arch == Arch::Aarch64 {
        return Row { cfa: Cfa::Offset(31, 0), rules: Box::new([]), return_register: 30, signal: false };
    }
    let pushed = if code.starts_with(HEAD) {
        1 + i64::from(at >= 6)
    } else if code.starts_with(LAZY) {
        i64::from(at >= 11 && code.get(6) == Some(&0x68))
    } else {
        i64::from(at >= 9 && code.starts_with(MARKED))
    };
    let rules = Box::new([(16, Rule::At(-8))]);
    Row { cfa: Cfa::Offset(7, 8 + 8 * pushed), rules, return_register: 16, signal: false }
}
