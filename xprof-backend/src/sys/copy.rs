//! `memcpy` and `memmove` of the static x86_64 binary.
//!
//! musl copies with `rep movsq` whatever the size, which takes some eighty cycles to begin; xprof mostly copies less than a hundred bytes (a
//! column of text, a record). Here a copy of up to 128 bytes is loaded whole into registers, its end overlapping its middle, before anything is
//! stored: no loop, no case for each remainder, and overlapping memory is no case of its own. Longer ones go 64 bytes at a time, those that do not overlap and are
//! long enough to be worth its beginning by `rep movsq` still. SSE2 is what every x86_64 has.
//!
//! It is assembler because a compiler may make a call of `memcpy` out of any code that copies. musl for arm64 has its own
//! in assembler (Arm's), which needs no help.

use std::arch::naked_asm;
use std::ffi::c_void;

/// Copies `size` bytes from `from` to `to`, which may overlap; returns `to`.
///
/// # Safety
/// C's `memmove`: `from` can be read and `to` written for `size` bytes.
#[cfg_attr(target_env = "musl", unsafe(export_name = "memmove"))]
#[unsafe(naked)]
pub(super) unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, size: usize) -> *mut c_void {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 20f",
        "cmp rdx, 32",
        "ja 10f",
        // 16 to 32
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm1",
        "ret",
        "10:",
        "cmp rdx, 64",
        "ja 11f",
        // 33 to 64
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + rdx - 32]",
        "movups xmm3, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm2",
        "movups [rdi + rdx - 16], xmm3",
        "ret",
        "11:",
        "cmp rdx, 128",
        "ja 30f",
        // 65 to 128
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups xmm4, [rsi + rdx - 64]",
        "movups xmm5, [rsi + rdx - 48]",
        "movups xmm6, [rsi + rdx - 32]",
        "movups xmm7, [rsi + rdx - 16]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "movups [rdi + rdx - 64], xmm4",
        "movups [rdi + rdx - 48], xmm5",
        "movups [rdi + rdx - 32], xmm6",
        "movups [rdi + rdx - 16], xmm7",
        "ret",
        "20:",
        "cmp edx, 8",
        "jb 21f",
        // 8 to 15
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "21:",
        "cmp edx, 4",
        "jb 22f",
        // 4 to 7
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "22:",
        "cmp edx, 1",
        "jb 24f",
        // 1 to 3
        "movzx ecx, byte ptr [rsi]",
        "je 23f",
        "movzx r8d, word ptr [rsi + rdx - 2]",
        "mov [rdi + rdx - 2], r8w",
        "23:",
        "mov [rdi], cl",
        "24:",
        "ret",
        // 129 and more: backward when `to` lies within what is copied.
        "30:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 50f",
        "cmp rdx, {LONG}",
        "jb 40f",
        "neg rcx",
        "cmp rcx, rdx",
        "jb 40f",
        // Long and apart: 8 bytes at a time from an address of `to` that 16 divides, and the ends by themselves.
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 16]",
        "mov rcx, rdi",
        "neg rcx",
        "and ecx, 15",
        "add rdi, rcx",
        "add rsi, rcx",
        "sub rdx, rcx",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "movups [rax], xmm0",
        "movups [r8], xmm1",
        "ret",
        // Forward: what is behind the last whole round is loaded before anything is stored, and stored last.
        "40:",
        "movups xmm4, [rsi]",
        "movups xmm5, [rsi + rdx - 64]",
        "movups xmm6, [rsi + rdx - 48]",
        "movups xmm7, [rsi + rdx - 32]",
        "movups xmm8, [rsi + rdx - 16]",
        "lea r8, [rdi + rdx - 64]",
        "mov rcx, rdi",
        "or rcx, -16",
        "neg rcx",
        "add rdi, rcx",
        "add rsi, rcx",
        "41:",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "add rsi, 64",
        "movaps [rdi], xmm0",
        "movaps [rdi + 16], xmm1",
        "movaps [rdi + 32], xmm2",
        "movaps [rdi + 48], xmm3",
        "add rdi, 64",
        "cmp rdi, r8",
        "jb 41b",
        "movups [r8], xmm5",
        "movups [r8 + 16], xmm6",
        "movups [r8 + 32], xmm7",
        "movups [r8 + 48], xmm8",
        "movups [rax], xmm4",
        "ret",
        // Backward, the same the other way round.
        "50:",
        "movups xmm4, [rsi + rdx - 16]",
        "movups xmm5, [rsi]",
        "movups xmm6, [rsi + 16]",
        "movups xmm7, [rsi + 32]",
        "movups xmm8, [rsi + 48]",
        "lea r8, [rdi + rdx - 16]",
        "lea r9, [rdi + rdx]",
        "add rsi, rdx",
        "lea rcx, [r9 - 1]",
        "and ecx, 15",
        "inc ecx",
        "sub r9, rcx",
        "sub rsi, rcx",
        "add rdi, 64",
        "51:",
        "movups xmm0, [rsi - 16]",
        "movups xmm1, [rsi - 32]",
        "movups xmm2, [rsi - 48]",
        "movups xmm3, [rsi - 64]",
        "sub rsi, 64",
        "movaps [r9 - 16], xmm0",
        "movaps [r9 - 32], xmm1",
        "movaps [r9 - 48], xmm2",
        "movaps [r9 - 64], xmm3",
        "sub r9, 64",
        "cmp r9, rdi",
        "ja 51b",
        "movups [rax], xmm5",
        "movups [rax + 16], xmm6",
        "movups [rax + 32], xmm7",
        "movups [rax + 48], xmm8",
        "movups [r8], xmm4",
        "ret",
        LONG = const LONG,
    )
}

/// Bytes from which `rep movsq` is worth its beginning.
const LONG: usize = 4096;

/// Copies `size` bytes from `from` to `to`; returns `to`. The same code: what is apart is what overlaps least.
///
/// # Safety
/// C's `memcpy`.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub(super) unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, size: usize) -> *mut c_void {
    naked_asm!("jmp {}", sym memmove)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that differ from their neighbours, so that any that is moved wrongly shows.
    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|i| (i * 7 + i / 256) as u8).collect()
    }

    /// Moves within one area, and compares all of it with what a loop over bytes does.
    fn check(area: &[u8], (to, from, size): (usize, usize, usize)) {
        let mut expected = area.to_vec();
        let moved: Vec<u8> = area.iter().skip(from).take(size).copied().collect();
        for (place, byte) in expected.iter_mut().skip(to).zip(&moved) {
            *place = *byte;
        }
        let mut copied = area.to_vec();
        assert!(to.max(from) + size <= copied.len());
        let start = copied.as_mut_ptr();
        // SAFETY: both ranges lie within `copied`, as asserted.
        let end = unsafe { memmove(start.add(to).cast(), start.add(from).cast(), size) };
        assert_eq!(end, start.wrapping_add(to).cast());
        assert!(copied == expected, "{size} bytes from {from} to {to}");
    }

    #[test]
    fn every_small_size_at_every_alignment_and_overlap() {
        let area = bytes(512);
        for size in 0..=150 {
            for from in 80..96 {
                for to in from - 80..from + 80 {
                    check(&area, (to, from, size));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn long_ones(size in 0..3 * LONG, from in 0..200_usize, distance in -200..200_isize) {
            check(&bytes(size + 600), ((from + 200).saturating_add_signed(distance), from + 200, size));
        }

        #[test]
        fn long_ones_that_lie_apart(size in 0..3 * LONG, from in 0..64_usize, to in 0..64_usize) {
            let area = bytes(2 * size + 128);
            check(&area, (to, from + 64 + size, size));
            check(&area, (to + 64 + size, from, size));
        }
    }
}
