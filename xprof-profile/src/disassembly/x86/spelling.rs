//! Instructions as objdump spells them, so that who knows its listings, or compares with perf's, finds the same words.
//!
//! iced-x86 writes the assembler's language too, and is asked for its words where it has an option; what it has none for is
//! put right here. objdump shows how an instruction was encoded (prefixes that do nothing, displacements of zero), which iced-x86
//! takes off: that is read from the bytes again.

use iced_x86::{
    CodeSize, Decoder, DecoderOptions, FormatMnemonicOptions, Formatter, GasFormatter, Instruction as Decoded,
    Mnemonic, OpKind, Register,
};

/// A formatter with what its options can do.
pub(super) fn formatter() -> GasFormatter {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_hex_prefix("0x");
    options.set_space_after_operand_separator(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_rip_relative_addresses(true);
    options.set_show_zero_displacements(true);
    formatter
}

/// Column at which operands begin.
const OPERANDS: usize = 7;

/// The text of an instruction that was decoded from `bytes`.
pub(super) fn text(formatter: &mut GasFormatter, decoded: &Decoded, bytes: &[u8]) -> String {
    let options = formatter.options_mut();
    options.set_always_show_scale(decoded.memory_index() != Register::None);
    options.set_always_show_segment_register(decoded.is_string_instruction());
    let mut text = String::with_capacity(48);
    prefixes(decoded, bytes, &mut text);
    let begun = text.len();
    formatter.format_mnemonic_options(decoded, &mut text, FormatMnemonicOptions::NO_PREFIXES);
    mnemonic(decoded, &mut text);
    if decoded.is_jcc_short_or_near() {
        text.push_str(match decoded.segment_prefix() {
            Register::CS => ",pn",
            Register::DS => ",pt",
            _ => "",
        });
    }
    let width = text.len() - begun;
    let at = begun + width + OPERANDS.saturating_sub(width).max(1);
    text.extend(std::iter::repeat_n(' ', at - text.len()));
    formatter.format_all_operands(decoded, &mut text);
    operands(decoded, bytes, at, &mut text);
    text.truncate(text.trim_end().len());
    text
}

/// Puts the name of an instruction right: without the size that objdump leaves to the operand.
fn mnemonic(decoded: &Decoded, text: &mut String) {
    match decoded.mnemonic() {
        Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Push | Mnemonic::Pop
            if text.ends_with(['q', 'l']) && !text.ends_with("call") =>
        {
            text.pop();
        }
        Mnemonic::Retf | Mnemonic::Iretd if text.ends_with('l') => {
            text.pop();
        }
        Mnemonic::Sal => {
            if let Some(at) = text.rfind("sal") {
                text.replace_range(at..at + 3, "shl");
            }
        }
        _ => {}
    }
}

/// Operands that objdump shows in other words.
fn operands(decoded: &Decoded, bytes: &[u8], at: usize, text: &mut String) {
    match decoded.mnemonic() {
        // The destination is also the source, and is named as both.
        Mnemonic::Imul
            if decoded.op_count() == 3
                && decoded.op1_kind() == OpKind::Register
                && decoded.op0_register() == decoded.op1_register() =>
        {
            if let Some(last) = text.rfind(',') {
                let register = text[last..].to_owned();
                text.push_str(&register);
            }
        }
        // By one, where the one is in the opcode.
        Mnemonic::Rol
        | Mnemonic::Ror
        | Mnemonic::Rcl
        | Mnemonic::Rcr
        | Mnemonic::Shl
        | Mnemonic::Shr
        | Mnemonic::Sal
        | Mnemonic::Sar
            if matches!(opcode(bytes).and_then(|at| bytes.get(at)), Some(0xd0 | 0xd1))
                && text[at..].starts_with("$0x1,") =>
        {
            text.replace_range(at..at + 5, "");
        }
        Mnemonic::In
        | Mnemonic::Out
        | Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => {
            if let Some(port) = text.rfind("%dx") {
                text.replace_range(port..port + 3, "(%dx)");
            }
        }
        Mnemonic::Xlatb => {
            text.replace_range(at.., if decoded.memory_base() == Register::RBX { "%ds:(%rbx)" } else { "%ds:(%ebx)" })
        }
        Mnemonic::Faddp | Mnemonic::Fmulp | Mnemonic::Fsubp | Mnemonic::Fsubrp | Mnemonic::Fdivp | Mnemonic::Fdivrp
            if text.len() == at =>
        {
            text.push_str("%st,%st(1)");
        }
        Mnemonic::Fxch | Mnemonic::Fucom | Mnemonic::Fucomp | Mnemonic::Fcom | Mnemonic::Fcomp if text.len() == at => {
            text.push_str("%st(1)")
        }
        Mnemonic::Mov if decoded.op0_register().is_dr() || decoded.op1_register().is_dr() => {
            if let Some(register) = text.rfind("%dr") {
                text.replace_range(register..register + 3, "%db");
            }
        }
        // What is nowhere in the bytes; the address of `monitor` has the size of addresses.
        Mnemonic::Monitor | Mnemonic::Monitorx => {
            let short = decoded.code_size() != CodeSize::Code64 || bytes.contains(&0x67);
            let address = if short { "%eax" } else { "%rax" };
            text.replace_range(at.., &format!("{address},%ecx,%edx"));
        }
        Mnemonic::Mwait => text.replace_range(at.., "%eax,%ecx"),
        Mnemonic::Mwaitx => text.replace_range(at.., "%eax,%ecx,%ebx"),
        _ => {}
    }
    if decoded.memory_base() != Register::None
        && decoded.memory_index() == Register::None
        && let (Some(scale), Some(end)) = (scale_of_nothing(bytes), text.rfind(')'))
    {
        let index = if decoded.memory_base().is_gpr64() { "riz" } else { "eiz" };
        text.insert_str(end, &format!(",%{index},{scale}"));
    }
}

/// The scale of an index that an operand in memory has room for and does not have, where its base needs no such room.
fn scale_of_nothing(bytes: &[u8]) -> Option<u8> {
    let at = opcode(bytes)?;
    let modrm = match (bytes.get(at)?, bytes.get(at + 1)?) {
        (0xc4 | 0xc5 | 0x62, _) => return None,
        (0x0f, 0x38 | 0x3a) => at + 3,
        (0x0f, _) => at + 2,
        _ => at + 1,
    };
    let (modrm, sib) = (bytes.get(modrm)?, bytes.get(modrm + 1)?);
    let room = modrm & 0xc0 != 0xc0 && modrm & 7 == 4 && sib >> 3 & 7 == 4;
    (room && (sib & 7 != 4 || sib >> 6 != 0)).then(|| 1 << (sib >> 6))
}

/// Where the opcode is: behind the prefixes.
fn opcode(bytes: &[u8]) -> Option<usize> {
    let at = bytes.iter().position(|byte| !is_legacy(*byte))?;
    Some(at + usize::from(bytes[at] & 0xf0 == 0x40))
}

/// Names the prefixes that do nothing else, in the order of their bytes.
fn prefixes(decoded: &Decoded, bytes: &[u8], text: &mut String) {
    let legacy = bytes.iter().position(|byte| !is_legacy(*byte)).unwrap_or(bytes.len());
    let bits = if decoded.code_size() == CodeSize::Code64 { 64 } else { 32 };
    let rex = (bits == 64).then(|| bytes.get(legacy)).flatten().filter(|byte| *byte & 0xf0 == 0x40);
    let again = Again { decoded, bytes, bits };
    let list = &bytes[..legacy];
    for (i, byte) in list.iter().enumerate() {
        // Of those that mean the same thing the last one counts.
        let idle = |group: &[u8]| list[i + 1..].iter().any(|byte| group.contains(byte)) || again.same_without(group);
        let name = match byte {
            0xf0 => Some("lock"),
            0x66 => idle(&[0x66]).then_some("data16"),
            0x67 => idle(&[0x67]).then_some(if bits == 64 { "addr32" } else { "addr16" }),
            0xf2 | 0xf3 => idle(&[0xf2, 0xf3]).then(|| repeat(decoded, *byte)),
            _ => segment(decoded, *byte, bits, !list[i + 1..].iter().any(|byte| SEGMENTS.contains(byte))),
        };
        text.extend(name.into_iter().flat_map(|name| [name, " "]));
    }
    let Some(rex) = rex else { return };
    let idle = match rex & 0xf {
        0 => again.same_without(&[0x40]),
        set => [1, 2, 4, 8].into_iter().any(|bit| set & bit != 0 && again.same_with(legacy, rex ^ bit)),
    };
    if idle {
        text.push_str(if rex & 0xf == 0 { "rex" } else { "rex." });
        text.extend([(8, 'W'), (4, 'R'), (2, 'X'), (1, 'B')].iter().filter(|(bit, _)| rex & bit != 0).map(|(_, c)| c));
        text.push(' ');
    }
}

/// An instruction, to be decoded again with other prefixes.
struct Again<'a> {
    decoded: &'a Decoded,
    bytes: &'a [u8],
    bits: u32,
}

impl Again<'_> {
    /// Whether it is the same instruction without these prefixes.
    fn same_without(&self, prefixes: &[u8]) -> bool {
        let is_prefix = |byte: u8| is_legacy(byte) || (self.bits == 64 && byte & 0xf0 == 0x40);
        let opcode = self.bytes.iter().position(|byte| !is_prefix(*byte)).unwrap_or(self.bytes.len());
        let (front, rest) = self.bytes.split_at(opcode);
        self.is(front.iter().filter(|byte| !prefixes.contains(byte)).chain(rest))
    }

    /// Whether it is the same instruction with another byte at an index.
    fn same_with(&self, index: usize, byte: u8) -> bool {
        self.is(self.bytes[..index].iter().chain([&byte]).chain(&self.bytes[index + 1..]))
    }

    fn is<'b>(&self, bytes: impl Iterator<Item = &'b u8>) -> bool {
        // At most 15 bytes (Intel SDM vol. 2, 2.3.11).
        let (mut code, mut len) = ([0; 15], 0);
        for (place, byte) in code.iter_mut().zip(bytes) {
            *place = *byte;
            len += 1;
        }
        let ip = self.decoded.next_ip().wrapping_sub(len as u64);
        let mut other = Decoder::with_ip(self.bits, &code[..len], ip, DecoderOptions::NONE).decode();
        // The prefixes that an instruction is told to have, whatever it does with them.
        other.set_has_rep_prefix(self.decoded.has_rep_prefix());
        other.set_has_repne_prefix(self.decoded.has_repne_prefix());
        other == *self.decoded
    }
}

/// Prefixes of segments: es, cs, ss, ds, fs, gs (Intel SDM vol. 2, 2.1.1).
const SEGMENTS: [u8; 6] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];

fn is_legacy(byte: u8) -> bool {
    matches!(byte, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3) || SEGMENTS.contains(&byte)
}

fn has_memory(decoded: &Decoded) -> bool {
    decoded.is_string_instruction() || decoded.op_kinds().any(|kind| kind == OpKind::Memory)
}

/// The name of a prefix of repetition.
fn repeat(decoded: &Decoded, byte: u8) -> &'static str {
    let compares = matches!(
        decoded.mnemonic(),
        Mnemonic::Cmpsb
            | Mnemonic::Cmpsw
            | Mnemonic::Cmpsd
            | Mnemonic::Cmpsq
            | Mnemonic::Scasb
            | Mnemonic::Scasw
            | Mnemonic::Scasd
            | Mnemonic::Scasq
    );
    match byte {
        0xf2 if is_near(decoded) => "bnd",
        0xf2 => "repnz",
        _ if decoded.is_string_instruction() && !compares => "rep",
        _ => "repz",
    }
}

/// Jumps, calls and returns within a segment, which have bounds (Intel SDM vol. 1, E.3.2).
fn is_near(decoded: &Decoded) -> bool {
    decoded.is_jmp_short_or_near()
        || decoded.is_jcc_short_or_near()
        || decoded.is_jmp_near_indirect()
        || decoded.is_call_near()
        || decoded.is_call_near_indirect()
        || decoded.mnemonic() == Mnemonic::Ret
}

/// The name of a prefix of a segment that no operand shows; `last`: of those of segments.
fn segment(decoded: &Decoded, byte: u8, bits: u32, last: bool) -> Option<&'static str> {
    let name = ["es", "cs", "ss", "ds", "fs", "gs"][SEGMENTS.iter().position(|s| *s == byte)?];
    // In 64 bits only fs and gs are added to an address.
    let flat = bits == 64 && byte < 0x60;
    match byte {
        0x3e if decoded.is_jmp_near_indirect() || decoded.is_call_near_indirect() => Some("notrack"),
        // A hint, which is shown behind the name.
        0x2e | 0x3e if decoded.is_jcc_short_or_near() => None,
        _ => (!last || flat || !has_memory(decoded)).then_some(name),
    }
}
