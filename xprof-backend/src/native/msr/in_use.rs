//! Whose registers are they? The kernel's perf and its NMI watchdog take counters without asking anybody; what gives
//! them away are the enable bits.

use std::io;

use crate::msr::table::Found;
use crate::msr::{Kind, Rearm, Table};

/// EVNTSEL and PERF_CTL: EN.
const SELECT_ENABLE: u64 = 1 << 22;
/// CCCR: ENABLE.
const CCCR_ENABLE: u64 = 1 << 12;
const FIXED_CTR_CTRL: u32 = 0x38d;
const PMCNTENSET: u32 = crate::msr::tables::pmuv3::sys_reg(3, 3, 9, 12, 1);

/// Registers with an enable bit of their own, and those that belong to them: DEBUGCTL and IA32_LBR_CTL (LBR) with the
/// branch filters, DBG_EXTN_CFG (LBRV2EN, BRSMEN), IBSFETCHCTL, IBSOPCTL.
const OWN_ENABLE: [(u32, u64, &[u32]); 5] = [
    (0x1d9, 1, &[0x1d9, 0x1c8]),
    (0x14ce, 1, &[0x14ce, 0x14cf]),
    (0xc000_010f, 1 << 6 | 1 << 2, &[0xc000_010f, 0xc000_010e]),
    (0xc001_1030, 1 << 48, &[0xc001_1030]),
    (0xc001_1033, 1 << 17, &[0xc001_1033]),
];

/// What decides whether others use a register.
pub(super) struct Users<'a> {
    pub(super) table: &'a Table,
    /// Registers that this handle has written.
    pub(super) is_ours: &'a dyn Fn(u32) -> bool,
    /// The value of a register now.
    pub(super) read: &'a dyn Fn(u32) -> io::Result<u64>,
}

impl Users<'_> {
    /// True when changing `msr` from `old` to `new` would touch what others count with.
    pub(super) fn forbid(&self, found: &Found, msr: u32, old: u64, new: u64) -> io::Result<bool> {
        if let Some((control, enable, _)) = OWN_ENABLE.iter().find(|(.., family)| family.contains(&msr)) {
            let is_known = self.table.find(found.row.class, *control).is_some();
            return Ok(is_known && !(self.is_ours)(*control) && (self.read)(*control)? & enable != 0);
        }
        match found.row.kind {
            Kind::Counter | Kind::CounterAlias | Kind::Select | Kind::Cccr => self.is_taken(found.counter()),
            Kind::Fixed => self.is_fixed_taken(found.counter()),
            // An ESCR that is set and is not ours belongs to a CCCR of somebody else's.
            Kind::Escr => Ok(old != 0 && !(self.is_ours)(msr)),
            // Sets of bits, one for each counter: those of others keep their value, and are not acknowledged.
            Kind::Enable | Kind::StatusClear | Kind::StatusSet => {
                let changed = if found.row.kind == Kind::Enable { old ^ new } else { new };
                Ok(changed & self.bits_of_others(msr, changed)? != 0)
            }
            Kind::Status | Kind::Other => Ok(false),
        }
    }

    /// General counter `i` counts for somebody else.
    fn is_taken(&self, i: u32) -> io::Result<bool> {
        let (select, enable) = match self.table.address(Kind::Cccr, i) {
            Some(cccr) => (Some(cccr), CCCR_ENABLE),
            None => (self.table.address(Kind::Select, i), SELECT_ENABLE),
        };
        let Some(select) = select.filter(|&select| !(self.is_ours)(select)) else { return Ok(false) };
        let value = (self.read)(select)?;
        match self.table.family.rearm {
            // EN of EVNTSEL0 starts both.
            Rearm::P6 | Rearm::PentiumM if i > 0 && self.table.limits.fixed == 0 && !self.has_enable(select) => {
                let first = self.table.address(Kind::Select, 0).map_or(Ok(0), |first| (self.read)(first))?;
                Ok(value != 0 && first & SELECT_ENABLE != 0)
            }
            Rearm::Pmuv3 => Ok((self.read)(PMCNTENSET)? >> i & 1 != 0),
            _ => Ok(value & enable != 0),
        }
    }

    fn has_enable(&self, select: u32) -> bool {
        let found = self.table.find(crate::msr::Class::Perf, select);
        found.is_some_and(|found| found.row.reserved & SELECT_ENABLE == 0)
    }

    /// Fixed counter `i` counts for somebody else: its enable bits are set and its value is not ours.
    fn is_fixed_taken(&self, i: u32) -> io::Result<bool> {
        let Some(msr) = self.table.address(Kind::Fixed, i).filter(|&msr| !(self.is_ours)(msr)) else {
            return Ok(false);
        };
        if self.table.find(crate::msr::Class::Perf, FIXED_CTR_CTRL).is_none() {
            let _ = msr;
            return Ok(false);
        }
        Ok((self.read)(FIXED_CTR_CTRL)? >> (4 * i) & 3 != 0)
    }

    /// Which of `bits` of a register of sets are somebody else's counters'.
    fn bits_of_others(&self, msr: u32, bits: u64) -> io::Result<u64> {
        let mut others = 0;
        for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
            let taken = match msr {
                FIXED_CTR_CTRL => self.is_fixed_taken(bit / 4)?,
                _ if bit < 32 && self.table.address(Kind::Counter, bit).is_some() => self.is_taken(bit)?,
                _ if bit >= 32 && self.table.address(Kind::Fixed, bit - 32).is_some() => {
                    self.is_fixed_taken(bit - 32)?
                }
                _ => false,
            };
            others |= u64::from(taken) << bit;
        }
        Ok(others)
    }
}
