//! `brstack`, `brstacksym` and `brstackoff`.

use xprof_perfdata::sample::Branch;
use xprof_profile::timeline::Mode;

use super::number::{dec, hex};
use super::places::{dso, symbol};
use super::{Fields, Script};

/// `PERF_BR_*` as perf names them; the last means "see `new_type`".
const TYPES: [&str; 16] = [
    "",
    "COND",
    "UNCOND",
    "IND",
    "CALL",
    "IND_CALL",
    "RET",
    "SYSCALL",
    "SYSRET",
    "COND_CALL",
    "COND_RET",
    "ERET",
    "IRQ",
    "SERROR",
    "NO_TX",
    "",
];
/// `PERF_BR_NEW_*`.
const NEW_TYPES: [&str; 8] =
    ["FAULT_ALGN", "FAULT_DATA", "FAULT_INST", "ARCH_1", "ARCH_2", "ARCH_3", "ARCH_4", "ARCH_5"];
/// `PERF_BR_SPEC_*`.
const SPECULATION: [&str; 4] = ["-", "SPEC_WRONG_PATH", "NON_SPEC_CORRECT_PATH", "SPEC_CORRECT_PATH"];

impl Script {
    /// Appends the branch stack in the form that is asked for.
    pub(super) fn branches(&mut self, fields: Fields, pid: u32, out: &mut Vec<u8>) {
        let names = fields.has(Fields::BRSTACKSYM) && !fields.has(Fields::BRSTACK);
        let offsets = fields.has(Fields::BRSTACKOFF) && !names && !fields.has(Fields::BRSTACK);
        if !names && !offsets && !fields.has(Fields::BRSTACK) {
            return;
        }
        for i in 0..self.sample.branch_stack.entries.len() {
            let Some(&branch) = self.sample.branch_stack.entries.get(i) else { return };
            for (separator, address) in [(b' ', branch.from), (b'/', branch.to)] {
                if !(names && separator == b' ') {
                    out.push(separator);
                }
                let mode = if address >> 63 == 1 { Mode::Kernel } else { Mode::User };
                let place = self.places.place(&self.timeline, pid, mode, address);
                if names {
                    let named = self.places.named(&self.timeline, place);
                    symbol(&named, place, true, out);
                } else {
                    out.extend_from_slice(b"0x");
                    hex(if offsets { place.addr } else { address }, out);
                }
                if fields.has(Fields::DSO) {
                    out.push(b'(');
                    dso(&self.timeline, place, out);
                    out.push(b')');
                }
            }
            flags(branch, out);
        }
    }
}

/// `/P/-/-/12/CALL/- `.
fn flags(branch: Branch, out: &mut Vec<u8>) {
    let part = |shift: u32, bits: u32| (branch.flags >> shift & ((1 << bits) - 1)) as usize;
    let predicted = match (part(0, 1), part(1, 1)) {
        (_, 1) => b'P',
        (1, 0) => b'M',
        _ => b'-',
    };
    let transaction = if part(2, 1) == 1 { b'X' } else { b'-' };
    let aborted = if part(3, 1) == 1 { b'A' } else { b'-' };
    out.extend_from_slice(&[b'/', predicted, b'/', transaction, b'/', aborted, b'/']);
    dec(part(4, 16) as u64, out);
    out.push(b'/');
    let name = match part(20, 4) {
        15 => NEW_TYPES.get(part(26, 4)),
        kind => TYPES.get(kind),
    };
    out.extend_from_slice(name.copied().unwrap_or("").as_bytes());
    out.push(b'/');
    out.extend_from_slice(SPECULATION[part(24, 2)].as_bytes());
    out.push(b' ');
}
