//! Instructions as objdump spells them, made from yaxpeax-arm's text, which has no options: numbers in the base that
//! objdump chooses, its names of conditions, extensions and system registers.

use std::fmt::Write as _;

mod system;

/// Instructions whose every number is a count of bits, a position or a zero: decimal.
const DECIMAL: &[&str] = &[
    "tbz",
    "tbnz",
    "lsl",
    "lsr",
    "asr",
    "ror",
    "ubfx",
    "ubfiz",
    "sbfx",
    "sbfiz",
    "bfi",
    "bfxil",
    "bfc",
    "extr",
    "ext",
    "shl",
    "ushr",
    "sshr",
    "usra",
    "ssra",
    "srshr",
    "urshr",
    "srsra",
    "ursra",
    "sri",
    "sli",
    "sqshl",
    "uqshl",
    "sqshlu",
    "shrn",
    "shrn2",
    "rshrn",
    "rshrn2",
    "sqshrn",
    "sqshrn2",
    "uqshrn",
    "uqshrn2",
    "sqrshrn",
    "sqrshrn2",
    "uqrshrn",
    "uqrshrn2",
    "sqshrun",
    "sqshrun2",
    "sqrshrun",
    "sqrshrun2",
    "sshll",
    "sshll2",
    "ushll",
    "ushll2",
    "shll",
    "shll2",
    "cmeq",
    "cmgt",
    "cmge",
    "cmle",
    "cmlt",
    "fcvtzs",
    "fcvtzu",
    "scvtf",
    "ucvtf",
    "udf",
];

/// The text of the instruction `word`, which `text` says in other words.
pub(super) fn respell(word: u32, text: &str) -> String {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let (name, operands) = (name, operands.trim());
    if let Some(whole) = system::respell(word, name) {
        return whole;
    }
    // MOVZ of a zero that is shifted is no `mov` (Arm ARM, C6.2.227).
    if word & 0x7f9f_ffe0 == 0x5280_0000 && word >> 21 & 3 != 0 {
        return format!("movz {operands}, lsl #{}", (word >> 21 & 3) * 16);
    }
    let operands = extended(word, operands).unwrap_or_else(|| numbers(operands, DECIMAL.contains(&name)));
    let operands = operands.trim();
    // An index that is extended and not scaled (Arm ARM, C4.1.93.19).
    let unscaled = word & 0x3b20_1c00 == 0x3820_0800;
    let operands = &if unscaled { operands.replace(" #0]", "]") } else { operands.to_owned() };
    let name = match name {
        "b.hs" => "b.cs",
        "b.lo" => "b.cc",
        // DUP (element), to a vector (Arm ARM, C7.2.90).
        "mov" if word & 0xbfe0_fc00 == 0x0e00_0400 => "dup",
        _ => name,
    };
    if let (Some(short), Some(rest)) = (lengthened(name), operands.strip_suffix(", #0")) {
        return format!("{short} {rest}");
    }
    let mut whole = name.to_owned();
    if !operands.is_empty() {
        whole.push(' ');
        match operands.rsplit_once(", ") {
            Some((rest, "hs")) => {
                let _ = write!(whole, "{rest}, cs");
            }
            Some((rest, "lo")) => {
                let _ = write!(whole, "{rest}, cc");
            }
            _ => whole.push_str(operands),
        }
    }
    whole
}

/// The name of a shift of nothing into wider elements.
fn lengthened(name: &str) -> Option<&'static str> {
    Some(match name {
        "sshll" => "sxtl",
        "sshll2" => "sxtl2",
        "ushll" => "uxtl",
        "ushll2" => "uxtl2",
        _ => return None,
    })
}

/// Operands with decimal numbers behind the first bracket (what is added to an address), or everywhere, and with floating
/// numbers as C's `%.18e` writes them.
fn numbers(operands: &str, all: bool) -> String {
    let mut text = String::with_capacity(operands.len());
    let (mut rest, mut decimal) = (operands, all);
    while let Some(at) = rest.find('#') {
        decimal |= rest[..at].contains('[');
        text.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        let end = rest.find([',', ' ', ']', '!']).unwrap_or(rest.len());
        let number = &rest[..end];
        let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
        match digits.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(value)) if decimal => {
                let _ = write!(text, "{sign}{value}");
            }
            None if digits.contains('.') && digits != "0.0" => match digits.parse::<f64>() {
                Ok(value) => {
                    let digits = format!("{value:.18e}");
                    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
                    let exponent: i32 = exponent.parse().unwrap_or(0);
                    let of = if exponent < 0 { '-' } else { '+' };
                    let _ = write!(text, "{sign}{mantissa}e{of}{:02}", exponent.unsigned_abs());
                }
                Err(_) => text.push_str(number),
            },
            _ => text.push_str(number),
        }
        rest = &rest[end..];
    }
    text.push_str(rest);
    text
}

/// Operands of additions, subtractions and comparisons with an extended register (Arm ARM, C4.1.94.4): the extension is
/// named, but where it is none and the stack pointer takes part.
fn extended(word: u32, operands: &str) -> Option<String> {
    if word & 0x1fe0_0000 != 0x0b20_0000 {
        return None;
    }
    let (wide, flags) = (word >> 31 == 1, word >> 29 & 1 == 1);
    let (rd, rn, amount) = (word & 31, word >> 5 & 31, word >> 10 & 7);
    let option = (word >> 13 & 7) as usize;
    let names = ["uxtb", "uxth", "uxtw", "uxtx", "sxtb", "sxth", "sxtw", "sxtx"];
    let stack = rn == 31 || (rd == 31 && !flags);
    let plain = stack && option == if wide { 3 } else { 2 };
    // Comparisons have two registers.
    let registers = if rd == 31 && flags { 2 } else { 3 };
    let mut text = operands.split(", ").take(registers).collect::<Vec<_>>().join(", ");
    match (plain, amount) {
        (true, 0) => {}
        (true, _) => {
            let _ = write!(text, ", lsl #{amount}");
        }
        (false, 0) => {
            let _ = write!(text, ", {}", names[option]);
        }
        (false, _) => {
            let _ = write!(text, ", {} #{amount}", names[option]);
        }
    }
    Some(text)
}
