//! Machine code as text: what each instruction is, how long, and where it leads.
//!
//! Decoding is that of iced-x86 and yaxpeax-arm; the text is objdump's, word for word (AT&T for x86). The
//! bytes are untrusted and may be no code at all: what cannot be decoded is one `(bad)` instruction of the smallest length that
//! the machine has, and decoding goes on behind it.

use object::elf::{self, EM_386, EM_AARCH64, EM_X86_64};

mod arm64;
mod x86;

/// The machine that code is for (`e_machine` of its ELF file).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// `EM_X86_64`.
    X86_64,
    /// `EM_386`.
    X86,
    /// `EM_AARCH64`.
    Arm64,
    /// Any other: its code cannot be read here.
    Other,
}

impl From<elf::Machine> for Machine {
    fn from(machine: elf::Machine) -> Machine {
        match machine {
            EM_X86_64 => Machine::X86_64,
            EM_386 => Machine::X86,
            EM_AARCH64 => Machine::Arm64,
            _ => Machine::Other,
        }
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Its address, in the space of the address that was given for the first byte.
    pub address: u64,
    /// Bytes.
    pub len: u8,
    /// Mnemonic and operands. The target of a direct branch is an absolute address, `0x` and hexadecimal.
    pub text: String,
    /// Where it leads.
    pub flow: Flow,
}

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To an address, always or on a condition.
    Jump {
        /// The address; `None` when a register or memory holds it.
        target: Option<u64>,
    },
    /// To an address, and back.
    Call {
        /// The address; `None` when a register or memory holds it.
        target: Option<u64>,
    },
    /// Back to the caller, or out of an interrupt.
    Return,
}

impl Flow {
    /// Where a direct jump or call leads.
    pub fn target(self) -> Option<u64> {
        match self {
            Flow::Jump { target } | Flow::Call { target } => target,
            Flow::Next | Flow::Return => None,
        }
    }
}

/// The instructions of `code`, whose first byte is at `address`; `None` for machines that are not known here.
pub fn disassemble(machine: Machine, code: &[u8], address: u64) -> Option<Vec<Instruction>> {
    match machine {
        Machine::X86_64 => Some(x86::disassemble(code, address, 64)),
        Machine::X86 => Some(x86::disassemble(code, address, 32)),
        Machine::Arm64 => Some(arm64::disassemble(code, address)),
        Machine::Other => None,
    }
}

#[cfg(test)]
mod tests;
