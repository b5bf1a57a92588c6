//! `data_src`: the kernel's `union perf_mem_data_src` in words, as `tools/perf/util/mem-events.c` of Linux 6.1.

use super::Script;
use super::number::hex_padded;

const OPS: [&str; 5] = ["N/A", "LOAD", "STORE", "PFETCH", "EXEC"];
const LEVELS: [&str; 14] = [
    "N/A",
    "HIT",
    "MISS",
    "L1",
    "LFB/MAB",
    "L2",
    "L3",
    "Local RAM",
    "Remote RAM (1 hop)",
    "Remote RAM (2 hops)",
    "Remote Cache (1 hop)",
    "Remote Cache (2 hops)",
    "I/O",
    "Uncached",
];
const SNOOPS: [&str; 5] = ["N/A", "None", "Hit", "Miss", "HitM"];
const TLBS: [&str; 7] = ["N/A", "HIT", "MISS", "L1", "L2", "Walker", "Fault"];
const NUMBERED: [(u64, &str); 7] =
    [(8, "Uncached"), (9, "CXL"), (10, "I/O"), (11, "Any cache"), (12, "LFB/MAB"), (13, "RAM"), (14, "PMEM")];

/// Longest text, as perf's buffer.
const MOST: usize = 99;

impl Script {
    /// Appends the hexadecimal value and its words, padded to the widest so far.
    pub(super) fn data_source(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        hex_padded(self.sample.data_src, out);
        out.push(b' ');
        out.extend_from_slice(words(self.sample.data_src).as_bytes());
        out.truncate(start + MOST);
        self.widest_source = self.widest_source.max(out.len() - start);
        out.resize(start + self.widest_source, b' ');
    }
}

/// `|OP LOAD|LVL L1 hit|SNP None|TLB L1 or L2 hit|LCK No|BLK  N/A`.
fn words(source: u64) -> String {
    let part = |shift: u32, bits: u32| source >> shift & ((1 << bits) - 1);
    let op = OPS.iter().enumerate().find(|(i, _)| part(0, 5) >> i & 1 == 1).map_or("No", |(_, name)| name);
    let lock = match part(24, 2) {
        lock if lock & 1 != 0 => "N/A",
        lock if lock & 2 != 0 => "Yes",
        _ => "No",
    };
    let mut block = String::new();
    for (bit, name) in [(2, " Data"), (4, " Addr")] {
        if part(40, 3) & bit != 0 {
            block.push_str(name);
        }
    }
    if part(40, 3) & 1 != 0 || block.is_empty() {
        block = " N/A".into();
    }
    format!(
        "|OP {op}|LVL {}|SNP {}|TLB {}|LCK {lock}|BLK {block}",
        level(part(5, 14), part(33, 4), part(37, 1)),
        snoop(part(19, 5), part(38, 2)),
        joined(&TLBS, part(26, 7), " or ", 1 << 1 | 1 << 2) + &hit(part(26, 7)),
    )
}

/// Names of the set bits, without those of `skipped`; `N/A` when none is left.
fn joined(names: &[&str], bits: u64, separator: &str, skipped: u64) -> String {
    let set = names.iter().enumerate().filter(|(i, _)| (bits & !skipped) >> i & 1 == 1);
    let text = set.map(|(_, name)| *name).collect::<Vec<_>>().join(separator);
    if text.is_empty() { "N/A".into() } else { text }
}

fn hit(bits: u64) -> String {
    format!("{}{}", if bits & 2 != 0 { " hit" } else { "" }, if bits & 4 != 0 { " miss" } else { "" })
}

fn level(bits: u64, number: u64, remote: u64) -> String {
    let mut parts = Vec::new();
    let old = bits & !(1 << 1 | 1 << 2);
    parts.extend(LEVELS.iter().enumerate().filter(|(i, _)| old >> i & 1 == 1).map(|(_, name)| (*name).to_owned()));
    if number != 0 {
        let name = NUMBERED.iter().find(|(n, _)| *n == number).map(|(_, name)| (*name).to_owned());
        let name = match number {
            15 => "N/A".to_owned(),
            _ => name.unwrap_or_else(|| format!("L{number}")),
        };
        parts.push(if remote != 0 { format!("Remote {name}") } else { name });
    }
    if parts.is_empty() {
        parts.push("N/A".into());
    }
    parts.join(" or ") + &hit(bits)
}

fn snoop(bits: u64, more: u64) -> String {
    let mut text = joined(&SNOOPS, bits, " or ", 0);
    for (bit, name) in [(1, "Fwd"), (2, "Peer")] {
        if more & bit != 0 {
            text = if bits == 0 { name.into() } else { format!("{text} or {name}") };
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What perf 6.1 prints for a page fault.
    #[test]
    fn nothing_known() {
        assert_eq!(words(0x1e_0508_0021), "|OP N/A|LVL N/A or N/A|SNP N/A|TLB N/A|LCK N/A|BLK  N/A");
    }
}
