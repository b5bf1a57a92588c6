//! Registers as they are written: addresses and names of the class table.

use xprof_backend::msr::{Class, Entry, Table};

/// A register's name: of the row, and its number in a row of several.
pub(super) fn name(table: &Table, class: Class, msr: u32) -> String {
    match table.find(class, msr) {
        Some(found) if found.row.count > 1 => format!("{}{}", found.row.name, found.index),
        Some(found) => found.row.name.to_owned(),
        None => String::new(),
    }
}

fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { value.wrapping_neg() } else { value })
}

fn address(table: &Table, class: Class, text: &str) -> Option<u32> {
    if let Some(number) = number(text) {
        return u32::try_from(number).ok();
    }
    table.registers(class).map(|(msr, _)| msr).find(|&msr| name(table, class, msr).eq_ignore_ascii_case(text))
}

/// `REG` or `REG=VALUE`; the error says what is wrong.
pub(super) fn entry(table: &Table, class: Class, text: &str, with_value: bool) -> Result<Entry, String> {
    let (register, value) = match text.split_once('=') {
        Some((register, value)) => (register, Some(value)),
        None => (text, None),
    };
    let msr = address(table, class, register).ok_or_else(|| {
        format!("{register:?} is neither an address nor a name of the {class:?} class of {}", table.family.name)
    })?;
    match (value, with_value) {
        (Some(value), true) => {
            let value = number(value).ok_or_else(|| format!("{text:?}: {value:?} is no number of 64 bits"))?;
            Ok(Entry::with(msr, value))
        }
        (None, true) => Err(format!("{text:?}: REG=VALUE is needed")),
        (Some(_), false) => Err(format!("{text:?}: a register is read, or set to its default, without a value")),
        (None, false) => Ok(Entry::of(msr)),
    }
}

#[cfg(test)]
mod tests {
    use xprof_backend::msr::{Limits, tables};

    use super::*;

    #[test]
    fn registers_have_addresses_and_names() {
        let table = Table { family: tables::named("perfmon-v2").unwrap(), limits: Limits::NONE };
        let entry = |text, with| entry(&table, Class::Perf, text, with);
        assert_eq!(entry("0x186=0x5100c0", true), Ok(Entry::with(0x186, 0x51_00c0)));
        assert_eq!(entry("ia32_perfevtsel1", false), Ok(Entry::of(0x187)));
        assert_eq!(entry("IA32_PMC0=-1000", true), Ok(Entry::with(0xc1, (-1000i64) as u64)));
        assert_eq!(entry("16", false), Ok(Entry::of(0x10)));
        assert_eq!(name(&table, Class::Perf, 0x38f), "IA32_PERF_GLOBAL_CTRL");
        // Addresses of no class are the contract's to refuse.
        assert_eq!(entry("0x1a0", false), Ok(Entry::of(0x1a0)));
        for bad in ["IA32_PMC99", "0x100000000", "LBR", ""] {
            assert!(entry(bad, false).is_err(), "{bad}");
        }
        assert!(entry("0x10", true).is_err() && entry("0x10=1", false).is_err() && entry("0x10=z", true).is_err());
    }
}
