//! What the CPU that runs this says of itself.

/// EAX, EBX, ECX, EDX of a leaf and its sub-leaf; zeros on machines without the instruction.
#[cfg(target_arch = "x86_64")]
pub fn leaf(leaf: u32, sub: u32) -> [u32; 4] {
    let answer = std::arch::x86_64::__cpuid_count(leaf, sub);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// EAX, EBX, ECX, EDX of a leaf and its sub-leaf; zeros on machines without the instruction.
#[cfg(not(target_arch = "x86_64"))]
pub fn leaf(_leaf: u32, _sub: u32) -> [u32; 4] {
    [0; 4]
}
