//! The class tables, one file per vendor's line of CPUs, each row with its source.

pub mod perfmon;

use super::Family;

/// Every family, by name.
pub static FAMILIES: &[&Family] = &[&perfmon::V2];

/// The family of that name.
pub fn named(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| family.name == name)
}
