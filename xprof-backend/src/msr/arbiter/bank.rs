//! The registers of one class, in the order in which they are stopped: what enables counters as a set, what selects and
//! controls, the rest, and the counters last. Values are put back in the opposite order, so that nothing counts before
//! everything is there.

use rustc_hash::FxHashMap;

use crate::msr::table::Found;
use crate::msr::{Access, Class, Kind, Table};

/// A register.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) msr: u32,
    pub(super) found: Found,
    /// The slot that holds the value: another one for an alias.
    pub(super) shared: usize,
    /// The address through which any value can be put back; `None`: only what sign-extends.
    pub(super) exact: Option<u32>,
}

/// The registers of a class.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    pub(super) slots: Vec<Slot>,
    places: FxHashMap<u32, usize>,
    /// The counter that each overflow bit stands for.
    pub(super) counters: [Option<u32>; 64],
    /// The CCCR of each counter.
    pub(super) cccrs: [Option<u32>; 64],
    /// Where overflows are shown.
    pub(super) status: Option<u32>,
    /// Where they are cleared.
    pub(super) status_clear: Option<u32>,
}

fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Enable => 0,
        Kind::Select | Kind::Cccr => 1,
        Kind::Escr | Kind::Other => 2,
        Kind::Counter | Kind::CounterAlias | Kind::Fixed => 3,
        Kind::Status | Kind::StatusClear | Kind::StatusSet => 4,
    }
}

impl Bank {
    pub(super) fn new(table: &Table, class: Class) -> Bank {
        let mut registers: Vec<_> = table.registers(class).collect();
        registers.sort_by_key(|(_, found)| rank(found.row.kind));
        let mut slots: Vec<Slot> = Vec::with_capacity(registers.len());
        let mut places = FxHashMap::default();
        for (msr, found) in registers {
            // An earlier row hides a later one.
            if let std::collections::hash_map::Entry::Vacant(place) = places.entry(msr) {
                place.insert(slots.len());
                let exact = (found.row.access != Access::SignExtended32).then_some(msr);
                slots.push(Slot { msr, found, shared: slots.len(), exact });
            }
        }
        for at in 0..slots.len() {
            // Full-width counters, and the second addresses of selects (AMD's old ones, perfmon 6's new ones).
            let kind = match slots[at].found.row.kind {
                Kind::CounterAlias => Kind::Counter,
                Kind::Select => Kind::Select,
                _ => continue,
            };
            let counter = slots[at].found.counter();
            let same = |slot: &Slot| slot.found.row.kind == kind && slot.found.counter() == counter;
            if let Some(shared) = slots.iter().position(same).filter(|&shared| shared != at) {
                slots[at].shared = shared;
                slots[shared].exact = slots[shared].exact.or(slots[at].exact);
            }
        }
        let address = |kind| slots.iter().find(|slot| slot.found.row.kind == kind).map(|slot| slot.msr);
        let status_clear = address(Kind::StatusClear);
        let status = address(Kind::Status).or(status_clear);
        let counters = std::array::from_fn(|bit| table.overflowed(bit as u32));
        let cccrs = std::array::from_fn(|counter| table.address(Kind::Cccr, counter as u32));
        Bank { slots, places, counters, cccrs, status, status_clear }
    }

    pub(super) fn find(&self, msr: u32) -> Option<usize> {
        self.places.get(&msr).copied()
    }
}
