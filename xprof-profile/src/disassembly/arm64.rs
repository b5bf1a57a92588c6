//! arm64, through yaxpeax-arm.

use std::fmt::Write as _;

use yaxpeax_arch::{Decoder as _, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Instruction as Decoded, Opcode, Operand};

use super::{Flow, Instruction};

mod spelling;

/// Bytes of every instruction (Arm ARM, C4.1).
const LEN: usize = 4;

/// Instructions of `code`. Bytes behind the last whole word are left out.
pub(super) fn disassemble(code: &[u8], address: u64) -> Vec<Instruction> {
    let decoder = InstDecoder::default();
    let words = code.chunks_exact(LEN).zip((0u64..).map(|i| address.wrapping_add(i * LEN as u64)));
    words
        .map(|(word, address)| {
            let (text, flow) = match decoder.decode(&mut U8Reader::new(word)) {
                Ok(decoded) => {
                    let whole = u32::from_le_bytes(word.try_into().unwrap_or_default());
                    (spelling::respell(whole, &text(&decoded, address)), flow(&decoded, address))
                }
                Err(_) => ("(bad)".into(), Flow::Next),
            };
            Instruction { address, len: LEN as u8, text, flow }
        })
        .collect()
}

/// The address that an operand stands for, when it is relative to the instruction (`adrp`: to its page).
fn relative(decoded: &Decoded, address: u64) -> Option<u64> {
    let base = if decoded.opcode == Opcode::ADRP { address & !0xfff } else { address };
    decoded.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(offset) => Some(base.wrapping_add_signed(*offset)),
        _ => None,
    })
}

/// The text, with an absolute address where the decoder writes `$+0x10`.
fn text(decoded: &Decoded, address: u64) -> String {
    let mut text = decoded.to_string();
    if let (Some(target), Some(at)) = (relative(decoded, address), text.find('$')) {
        let end = text[at..].find([',', ' ']).map_or(text.len(), |n| at + n);
        let mut absolute = String::new();
        let _ = write!(absolute, "{target:#x}");
        text.replace_range(at..end, &absolute);
    }
    text
}

fn flow(decoded: &Decoded, address: u64) -> Flow {
    match decoded.opcode {
        Opcode::B | Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => {
            Flow::Jump { target: relative(decoded, address) }
        }
        Opcode::BR | Opcode::BRAA | Opcode::BRAB | Opcode::BRAAZ | Opcode::BRABZ => Flow::Jump { target: None },
        Opcode::BL => Flow::Call { target: relative(decoded, address) },
        Opcode::BLR | Opcode::BLRAA | Opcode::BLRAB | Opcode::BLRAAZ | Opcode::BLRABZ => Flow::Call { target: None },
        Opcode::RET | Opcode::RETAA | Opcode::RETAB | Opcode::ERET | Opcode::ERETAA | Opcode::ERETAB => Flow::Return,
        _ => Flow::Next,
    }
}
