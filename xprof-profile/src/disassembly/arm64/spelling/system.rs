//! Names of hints, system registers and system instructions (Arm ARM, C4.1.90 to C4.1.94 and D19), as far as kernels
//! and programs use them (`system.txt`). Those without a name here are written by number, as objdump does with what it does not know.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The whole text of an instruction of the system class, if it has a name of its own.
pub(super) fn respell(word: u32, name: &str) -> Option<String> {
    // HINT #imm.
    if word & 0xffff_f01f == 0xd503_201f {
        let number = word >> 5 & 0x7f;
        return Some(hint(number).map_or_else(|| format!("hint #{number:#x}"), str::to_owned));
    }
    // MSR (immediate): a field of PSTATE.
    if word & 0xfff8_f01f == 0xd500_401f {
        return Some(format!("msr {}, #{:#x}", field(word >> 16 & 7, word >> 5 & 7)?, word >> 8 & 15));
    }
    let register = if word & 31 == 31 { "xzr".to_owned() } else { format!("x{}", word & 31) };
    match name {
        "mrs" => Some(format!("mrs {register}, {}", named(&number(word)).unwrap_or(&number(word)))),
        // Not the form with an immediate, which has another class.
        "msr" if word & 0xfff0_0000 == 0xd510_0000 => {
            Some(match number(word).as_str() {
                // Read as another one.
                "s2_3_c0_c5_0" => format!("msr dbgdtrtx_el0, {register}"),
                number => format!("msr {}, {register}", named(number).unwrap_or(number)),
            })
        }
        "sys" => Some(match named(&number(word)) {
            Some(name) => name.replace("xt", &register),
            None => {
                let (op1, crn, crm, op2) = (word >> 16 & 7, word >> 12 & 15, word >> 8 & 15, word >> 5 & 7);
                let from = if word & 31 == 31 { String::new() } else { format!(", {register}") };
                format!("sys #{op1}, C{crn}, C{crm}, #{op2}{from}")
            }
        }),
        _ => None,
    }
}

/// The number of a register or an instruction as assemblers write it: op0, op1, CRn, CRm, op2.
fn number(word: u32) -> String {
    let (op0, op1) = (word >> 19 & 3, word >> 16 & 7);
    format!("s{op0}_{op1}_c{}_c{}_{}", word >> 12 & 15, word >> 8 & 15, word >> 5 & 7)
}

/// What Arm calls a number; `xt` in it is the register that is named in the instruction.
fn named(number: &str) -> Option<&'static str> {
    /// A number and its name in every line.
    static NAMES: LazyLock<HashMap<&str, &str>> =
        LazyLock::new(|| include_str!("system.txt").lines().filter_map(|line| line.split_once(' ')).collect());
    NAMES.get(number).copied()
}

/// A field of PSTATE by op1 and op2 (Arm ARM, C6.2.229).
fn field(op1: u32, op2: u32) -> Option<&'static str> {
    Some(match (op1, op2) {
        (0, 3) => "uao",
        (0, 4) => "pan",
        (0, 5) => "spsel",
        (1, 0) => "allint",
        (3, 1) => "ssbs",
        (3, 2) => "dit",
        (3, 4) => "tco",
        (3, 6) => "daifset",
        (3, 7) => "daifclr",
        _ => return None,
    })
}

/// The name of a hint.
fn hint(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "nop",
        1 => "yield",
        2 => "wfe",
        3 => "wfi",
        4 => "sev",
        5 => "sevl",
        7 => "xpaclri",
        8 => "pacia1716",
        10 => "pacib1716",
        12 => "autia1716",
        14 => "autib1716",
        16 => "esb",
        17 => "psb csync",
        18 => "tsb csync",
        20 => "csdb",
        22 => "clearbhb",
        24 => "paciaz",
        25 => "paciasp",
        26 => "pacibz",
        27 => "pacibsp",
        28 => "autiaz",
        29 => "autiasp",
        30 => "autibz",
        31 => "autibsp",
        32 => "bti",
        34 => "bti c",
        36 => "bti j",
        38 => "bti jc",
        _ => return None,
    })
}
