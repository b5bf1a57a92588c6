//! What the CPU that runs this says of itself.

/// EAX, EBX, ECX, EDX of a leaf and its sub-leaf; zeros on machines without the instruction.
#[cfg(target_arch = "x86_64")]
pub fn leaf(leaf: u32, sub: u32) -> [u32; 4] {
    let answer = std::arch::x86_64::__cpuid_count(leaf, sub);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// The time stamp counter of the CPU that runs this; 0 on machines without one.
#[cfg(target_arch = "x86_64")]
pub fn time_stamp() -> u64 {
    // SAFETY: rdtsc reads a register; Linux forbids it only to a process that has asked for that (PR_SET_TSC).
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The time stamp counter of the CPU that runs this; 0 on machines without one.
#[cfg(not(target_arch = "x86_64"))]
pub fn time_stamp() -> u64 {
    0
}

/// EAX, EBX, ECX, EDX of a leaf and its sub-leaf; zeros on machines without the instruction.
#[cfg(not(target_arch = "x86_64"))]
pub fn leaf(_leaf: u32, _sub: u32) -> [u32; 4] {
    [0; 4]
}
