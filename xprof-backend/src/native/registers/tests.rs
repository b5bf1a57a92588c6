//! The suite of the contract on this machine's counters, as far as it has any; the Arm lab runs it where they are exact.

use super::*;
use crate::msr::{Caller, conformance};

struct Stand(conformance::Shared<Registers>);

impl conformance::Stand for Stand {
    fn ability(&self) -> conformance::Ability {
        let writes = self.table().address(Kind::Select, 0).is_some();
        conformance::Ability { domains: false, writes, interrupts: false }
    }
    fn table(&self) -> Table {
        *self.0.0.lock().unwrap().table()
    }
    fn handle(&mut self, _caller: Caller) -> Box<dyn Contract + Send> {
        Box::new(self.0.clone())
    }
}

#[test]
fn the_contract_is_kept_on_perfs_counters() {
    conformance::suite(&mut || Box::new(Stand(conformance::Shared::of(Registers::of_cpu(&Native::new(), 0)))));
}

/// What the registers ask for, as events of the kernel: a Core 2's.
#[test]
fn registers_are_events() {
    use crate::msr::Limits;
    use crate::msr::tables::{amd, perfmon};
    let core2 =
        Table { family: &perfmon::V2, limits: Limits { general: 2, fixed: 3, general_width: 40, fixed_width: 40 } };
    let mut registers = Registers::of(&Native::new(), -1, 0, core2);
    let mut slot = Slot { select: 0x53_01c2, reload: (1 << 40) - 5000, ..Slot::default() };
    let wanted = |period| Wanted { config: 0x01c2, user: true, kernel: true, period };
    // GLOBAL_CTRL is off.
    assert_eq!(registers.wanted((false, 1), &slot), Some((wanted(5000), false)));
    registers.shared.insert(0x38f, 2);
    assert_eq!(registers.wanted((false, 1), &slot), Some((wanted(5000), true)));
    slot.select &= !select::INT;
    assert_eq!(registers.wanted((false, 1), &slot), Some((wanted(0), true)));
    slot.select = 0x42_003c;
    let kernel = Wanted { config: 0x3c, user: false, kernel: true, period: 0 };
    assert_eq!(registers.wanted((false, 1), &slot), Some((kernel, true)));
    // Fixed counter 1, user mode, with its interrupt.
    registers.shared.insert(FIXED_CTR_CTRL, 0xa0);
    registers.shared.insert(0x38f, 1 << 33);
    let fixed = Wanted { config: 0x3c, user: true, kernel: false, period: 5000 };
    assert_eq!(registers.wanted((true, 1), &slot), Some((fixed, true)));
    // An AMD event of more than 8 bits; no switch above.
    let zen2 = Table { family: &amd::F17H, limits: Limits { general: 6, fixed: 0, general_width: 48, fixed_width: 0 } };
    let registers = Registers::of(&Native::new(), -1, 0, zen2);
    let slot = Slot { select: 0x1_0043_0287, reload: 7, ..Slot::default() };
    let wanted = Wanted { config: 0x1_0000_0287, user: true, kernel: true, period: 0 };
    assert_eq!(registers.wanted((false, 5), &slot), Some((wanted, true)));
}
