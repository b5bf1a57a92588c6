//! Registers of a user task, by the numbers that DWARF gives them.

use xprof_perfdata::sample::Callchain;

/// A machine whose stacks can be unwound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86_64 (System V ABI, DWARF numbers of its section 3.6.2).
    X86_64,
    /// AArch64 (DWARF numbers of `aadwarf64`).
    Aarch64,
}

impl Arch {
    /// By `uname -m`; `None` where stacks cannot be unwound.
    pub fn of(machine: &str) -> Option<Arch> {
        match machine {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// The machine that this runs on.
    pub fn here() -> Option<Arch> {
        Arch::of(std::env::consts::ARCH)
    }

    /// The user registers to record, as a mask of `PERF_REG_*` bits: all that CFI can name.
    pub fn mask(self) -> u64 {
        match self {
            // AX to IP, R8 to R15: arch/x86/include/uapi/asm/perf_regs.h.
            Arch::X86_64 => 0x00ff_01ff,
            // X0 to X30, SP, PC: arch/arm64/include/uapi/asm/perf_regs.h.
            Arch::Aarch64 => (1 << 33) - 1,
        }
    }

    /// DWARF's number of a `PERF_REG_*` bit.
    fn of_perf(self, bit: u32) -> Option<u8> {
        /// AX, BX, CX, DX, SI, DI, BP, SP, IP.
        const X86: [u8; 9] = [0, 3, 2, 1, 4, 5, 6, 7, PC_X86];
        match (self, bit) {
            (Arch::X86_64, 0..=8) => X86.get(bit as usize).copied(),
            (Arch::X86_64, 16..=23) => Some(bit as u8 - 8),
            (Arch::Aarch64, 0..=32) => Some(bit as u8),
            _ => None,
        }
    }

    pub(crate) fn pc(self) -> u8 {
        match self {
            Arch::X86_64 => PC_X86,
            Arch::Aarch64 => 32,
        }
    }

    pub(crate) fn sp(self) -> u8 {
        match self {
            Arch::X86_64 => 7,
            Arch::Aarch64 => 31,
        }
    }

    pub(crate) fn fp(self) -> u8 {
        match self {
            Arch::X86_64 => 6,
            Arch::Aarch64 => 29,
        }
    }

    /// A code address without what else its register may hold: an arm64 pointer authentication code above bit 47.
    pub(crate) fn code(self, addr: u64) -> u64 {
        match self {
            Arch::X86_64 => addr,
            Arch::Aarch64 => addr & ((1 << 48) - 1),
        }
    }
}

/// DWARF's number of the return address column of x86_64.
const PC_X86: u8 = 16;
/// One more than the highest register number that is kept.
pub(crate) const COUNT: usize = 33;

/// The registers of one frame; those that are not known cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    values: [u64; COUNT],
    known: u64,
}

impl Registers {
    /// None is known.
    pub fn new() -> Registers {
        Registers { values: [0; COUNT], known: 0 }
    }

    /// Those of a sample: `values` in the order of the bits of `mask` (`sample_regs_user`).
    pub fn of_sample(arch: Arch, mask: u64, values: Callchain<'_>) -> Registers {
        let mut registers = Registers::new();
        let bits = (0..64).filter(|bit| mask >> bit & 1 != 0);
        for (bit, value) in bits.zip(values.iter()) {
            if let Some(number) = arch.of_perf(bit) {
                registers.set(number, value);
            }
        }
        registers
    }

    /// The value of a register.
    #[inline]
    pub fn get(&self, number: u8) -> Option<u64> {
        let value = self.values.get(usize::from(number))?;
        (self.known >> number & 1 != 0).then_some(*value)
    }

    /// Sets a register; a number that no machine has is ignored.
    #[inline]
    pub fn set(&mut self, number: u8, value: u64) {
        if let Some(slot) = self.values.get_mut(usize::from(number)) {
            *slot = value;
            self.known |= 1 << number;
        }
    }

    /// Forgets a register.
    #[inline]
    pub(crate) fn forget(&mut self, number: u8) {
        if usize::from(number) < COUNT {
            self.known &= !(1 << number);
        }
    }
}

impl Default for Registers {
    fn default() -> Self {
        Registers::new()
    }
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::codec::ByteOrder;

    use super::*;

    #[test]
    fn perf_and_dwarf_number_registers_differently() {
        let values: Vec<u8> = (100u64..117).flat_map(u64::to_ne_bytes).collect();
        let values = Callchain::of_bytes(&values, ByteOrder::NATIVE);
        let x86 = Registers::of_sample(Arch::X86_64, Arch::X86_64.mask(), values);
        // perf: ax bx cx dx si di bp sp ip r8..r15; DWARF: ax dx cx bx si di bp sp r8..r15 ra.
        let dwarf: Vec<u64> = (0..17).map(|n| x86.get(n).unwrap()).collect();
        let expected = [100, 103, 102, 101, 104, 105, 106, 107, 109, 110, 111, 112, 113, 114, 115, 116, 108];
        assert_eq!(dwarf, expected);
        assert_eq!((x86.get(17), x86.get(64), x86.get(255)), (None, None, None));
        let some = Registers::of_sample(Arch::Aarch64, 1 << 29 | 1 << 31, values);
        assert_eq!((some.get(29), some.get(31), some.get(30)), (Some(100), Some(101), None));
        assert_eq!(Arch::Aarch64.code(0x002b_ffff_8123_4568), 0x0000_ffff_8123_4568);
    }
}
