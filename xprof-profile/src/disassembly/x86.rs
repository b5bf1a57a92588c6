//! x86, 32 and 64 bits, through iced-x86.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction as Decoded, OpKind};

use super::{Flow, Instruction};

mod spelling;

/// Instructions of `code`; `bits`: 32 or 64.
pub(super) fn disassemble(code: &[u8], address: u64, bits: u32) -> Vec<Instruction> {
    let mut decoder = Decoder::with_ip(bits, code, address, DecoderOptions::NONE);
    let mut formatter = spelling::formatter();
    let mut decoded = Decoded::default();
    let mut list = Vec::with_capacity(code.len() / 4);
    while decoder.can_decode() {
        let (at, start) = (decoder.ip(), decoder.position());
        decoder.decode_out(&mut decoded);
        if decoded.is_invalid() {
            // One byte, as objdump passes over it.
            list.push(Instruction { address: at, len: 1, text: "(bad)".into(), flow: Flow::Next });
            decoder.set_ip(at.wrapping_add(1));
            if decoder.set_position(start + 1).is_err() {
                break;
            }
            continue;
        }
        let text = spelling::text(&mut formatter, &decoded, &code[start..decoder.position()]);
        // At most 15 bytes (Intel SDM vol. 2, 2.3.11).
        list.push(Instruction { address: at, len: decoded.len() as u8, text, flow: flow(&decoded) });
    }
    list
}

fn flow(instruction: &Decoded) -> Flow {
    let direct = matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    let target = direct.then(|| instruction.near_branch_target());
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend
            if target.is_some() =>
        {
            Flow::Jump { target }
        }
        FlowControl::IndirectBranch => Flow::Jump { target: None },
        FlowControl::Call => Flow::Call { target },
        FlowControl::IndirectCall => Flow::Call { target: None },
        FlowControl::Return => Flow::Return,
        _ => Flow::Next,
    }
}
