//! What a class table says of registers. A table is const data per CPU family ([`Family`]), cut to what one CPU has
//! ([`Limits`]): the two make a [`Table`], which is all that decides what the contract touches.

use super::{Class, Fault};

/// What a register does. Rearming, saving and the kernel's own use are decided by it, not by addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A general counter; register i of the row is counter `first counter + i`.
    Counter,
    /// Another address of the general counters (full-width aliases).
    CounterAlias,
    /// What a general counter counts (EVNTSEL, PERF_CTL, PMEVTYPER).
    Select,
    /// A fixed counter.
    Fixed,
    /// NetBurst's CCCR of counter i.
    Cccr,
    /// NetBurst's ESCR.
    Escr,
    /// Enables counters as a set (FIXED_CTR_CTRL, GLOBAL_CTRL, PMCNTENSET).
    Enable,
    /// Which counters overflowed, read-only (GLOBAL_STATUS).
    Status,
    /// Write 1 to clear an overflow (GLOBAL_OVF_CTRL, GLOBAL_STATUS_RESET, PMOVSCLR).
    StatusClear,
    /// Write 1 to set an overflow (GLOBAL_STATUS_SET).
    StatusSet,
    /// Anything else.
    Other,
}

/// How a register may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Both.
    ReadWrite,
    /// Both; a write takes bits 31:0 and sign-extends them to the register's width (P6 and legacy perfmon counters).
    SignExtended32,
}

/// A register, or a range of equal ones.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The manual's name, of the first register of a range ("IA32_PMC").
    pub name: &'static str,
    /// Class.
    pub class: Class,
    /// What it does.
    pub kind: Kind,
    /// Address of the first.
    pub first: u32,
    /// Distance of the next, at least 1.
    pub stride: u32,
    /// How many the architecture knows; [`Limits`] may cut it.
    pub count: u32,
    /// Number of the first counter (rows of counters and of what belongs to them one by one).
    pub counter: u32,
    /// Bits that hold a value; higher ones read as 0.
    pub width: u8,
    /// Bits that must keep their value of `reset`.
    pub reserved: u64,
    /// The default.
    pub reset: u64,
    /// How it may be used.
    pub access: Access,
    /// The manual's section, or the header's name.
    pub source: &'static str,
}

/// One register, found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its row.
    pub row: &'static Row,
    /// Its place in the row.
    pub index: u32,
    /// Bits that hold a value on this CPU.
    pub width: u8,
}

impl Found {
    /// The counter that this register is, selects or controls.
    pub fn counter(&self) -> u32 {
        self.row.counter + self.index
    }

    /// Mask of the bits that hold a value.
    pub fn mask(&self) -> u64 {
        mask(self.width)
    }

    /// What a register holds after `value` was written to it, or why that is not allowed.
    pub fn accept(&self, value: u64) -> Result<u64, Fault> {
        if self.row.access == Access::ReadOnly {
            return Err(Fault::ReadOnly);
        }
        if (value ^ self.row.reset) & self.row.reserved != 0 {
            return Err(Fault::Reserved);
        }
        let value = match self.row.access {
            Access::SignExtended32 => i64::from(value as u32 as i32) as u64,
            Access::ReadWrite | Access::ReadOnly => value,
        };
        Ok(value & self.mask())
    }

    /// True when the value belongs to whoever wrote it, and must be there again when he runs again. What is cleared
    /// by writing has no value of its own.
    pub fn is_preserved(&self) -> bool {
        self.row.access != Access::ReadOnly && !matches!(self.row.kind, Kind::StatusClear | Kind::StatusSet)
    }
}

fn mask(width: u8) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

/// How interrupts are acknowledged and let through again, in this order of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rearm {
    /// Write the counter; clear OVF in its CCCR; write the counter again (erratum N15); unmask LVTPC when all are done.
    NetBurst,
    /// Write the counters, unmask LVTPC. Also perfmon version 1.
    PentiumM,
    /// Write the counters: the local APIC did not mask.
    P6,
    /// Write the counters, clear the overflow bits, unmask LVTPC last. A flagged counter that reads 0 is set to 1
    /// first, or the interrupt comes for ever (a quirk of Core, harmless elsewhere).
    Perfmon,
    /// Write the counters, and clear the overflow bits where the family has them: the hardware does not mask.
    Amd,
    /// Write the counters, clear the overflow bits (PMOVSCLR): the interrupt controller masks nothing.
    Pmuv3,
}

/// The class tables of one CPU family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Name on the command line, lower case ("perfmon-v2").
    pub name: &'static str,
    /// Which CPUs these are.
    pub cpus: &'static str,
    /// How it is rearmed.
    pub rearm: Rearm,
    /// Its rows. Several slices, so that versions of one architecture share theirs; an earlier row hides a later one of
    /// the same address.
    pub rows: &'static [&'static [Row]],
}

impl Family {
    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.rows.iter().flat_map(|rows| rows.iter())
    }
}

/// What one CPU has of its family's table (CPUID 0xA, 0x80000022, PMCR_EL0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// General counters (with their selects).
    pub general: u32,
    /// Fixed counters.
    pub fixed: u32,
    /// Bits of a general counter; the row's own width where that is less.
    pub general_width: u8,
    /// Bits of a fixed counter.
    pub fixed_width: u8,
}

impl Limits {
    /// As many as the table knows: for looking at a table that is not this machine's.
    pub const NONE: Limits = Limits { general: u32::MAX, fixed: u32::MAX, general_width: 64, fixed_width: 64 };
}

/// A family's table, cut to one CPU.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The family.
    pub family: &'static Family,
    /// What the CPU has of it.
    pub limits: Limits,
}

impl Table {
    /// How many registers of `row` this CPU has.
    pub fn count(&self, row: &Row) -> u32 {
        let most = match row.kind {
            Kind::Counter | Kind::CounterAlias | Kind::Select | Kind::Cccr => self.limits.general,
            Kind::Fixed => self.limits.fixed,
            _ => u32::MAX,
        };
        row.count.min(most.saturating_sub(row.counter))
    }

    fn width(&self, row: &Row) -> u8 {
        match row.kind {
            Kind::Counter | Kind::CounterAlias => row.width.min(self.limits.general_width),
            Kind::Fixed => row.width.min(self.limits.fixed_width),
            _ => row.width,
        }
    }

    /// The register at an address, if the class has it on this CPU.
    pub fn find(&self, class: Class, msr: u32) -> Option<Found> {
        self.family.rows().filter(|row| row.class == class).find_map(|row| {
            let offset = msr.checked_sub(row.first)?;
            let stride = row.stride.max(1);
            let index = offset / stride;
            (offset % stride == 0 && index < self.count(row)).then(|| Found { row, index, width: self.width(row) })
        })
    }

    /// Every register of a class, in table order: address and row.
    pub fn registers(&self, class: Class) -> impl Iterator<Item = (u32, Found)> + '_ {
        self.family.rows().filter(move |row| row.class == class).flat_map(move |row| {
            (0..self.count(row))
                .map(move |index| (row.first + index * row.stride, Found { row, index, width: self.width(row) }))
        })
    }

    /// The address of register `counter` of a kind: of general counter 3's select, say.
    pub fn address(&self, kind: Kind, counter: u32) -> Option<u32> {
        self.family.rows().filter(|row| row.kind == kind).find_map(|row| {
            let index = counter.checked_sub(row.counter)?;
            (index < self.count(row)).then(|| row.first + index * row.stride)
        })
    }

    /// The address of the counter that a bit of [`super::Overflow::overflow`] stands for.
    pub fn overflowed(&self, bit: u32) -> Option<u32> {
        match bit {
            0..32 => self.address(Kind::Counter, bit),
            _ => self.address(Kind::Fixed, bit - 32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::perfmon;
    use super::*;

    const CORE2: Table =
        Table { family: &perfmon::V2, limits: Limits { general: 2, fixed: 3, general_width: 40, fixed_width: 40 } };

    #[test]
    fn a_table_is_cut_to_its_cpu() {
        let second = CORE2.find(Class::Perf, 0xc2).unwrap();
        assert_eq!((second.row.name, second.index, second.counter(), second.width), ("IA32_PMC", 1, 1, 40));
        assert!(CORE2.find(Class::Perf, 0xc3).is_none());
        assert!(CORE2.find(Class::Debug, 0xc1).is_none());
        assert!(CORE2.find(Class::Perf, 0x188).is_none());
        assert!(CORE2.find(Class::Perf, 0).is_none() && CORE2.find(Class::Perf, u32::MAX).is_none());
        let all: Vec<u32> = CORE2.registers(Class::Perf).map(|(msr, _)| msr).collect();
        assert_eq!(
            all,
            [0x10, 0xc1, 0xc2, 0x186, 0x187, 0x309, 0x30a, 0x30b, 0x38d, 0x38e, 0x38f, 0x390, 0x345, 0x3f1]
        );
        assert_eq!(CORE2.address(Kind::Select, 1), Some(0x187));
        assert_eq!((CORE2.overflowed(1), CORE2.overflowed(34), CORE2.overflowed(2)), (Some(0xc2), Some(0x30b), None));
    }

    #[test]
    fn tables_have_what_their_models_have() {
        let of = |name, msr| {
            let family = super::super::tables::named(name).unwrap();
            Table { family, limits: Limits::NONE }.find(Class::Perf, msr)
        };
        // IQ_ESCR0 and 1: Pentium 4 before model 3.
        assert!(of("netburst", 0x3ba).is_some() && of("netburst", 0x3bb).is_some());
        assert!(of("netburst-3", 0x3ba).is_none() && of("netburst-3", 0x3bb).is_none());
        // EQ and UMASK2, at both addresses of version 6.
        let value = 1 << 36 | 0xa5 << 40 | 0x41_00c0;
        for msr in [0x186, 0x1901] {
            assert_eq!(of("perfmon-v6", msr).unwrap().accept(value), Ok(value), "{msr:#x}");
        }
        assert_eq!(of("perfmon-v5", 0x186).unwrap().accept(value), Err(Fault::Reserved));
    }

    #[test]
    fn values_are_taken_as_the_register_takes_them() {
        let accept = |msr, value| CORE2.find(Class::Perf, msr).unwrap().accept(value);
        assert_eq!(accept(0xc1, 0x8000_0000), Ok(0xff_8000_0000));
        assert_eq!(accept(0xc1, 1 << 35 | 5), Ok(5));
        assert_eq!(accept(0x309, (-5i64) as u64), Ok(0xff_ffff_fffb));
        assert_eq!(accept(0x186, 1 << 21), Err(Fault::Reserved));
        assert_eq!(accept(0x38e, 0), Err(Fault::ReadOnly));
    }
}
