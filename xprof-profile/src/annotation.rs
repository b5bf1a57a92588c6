//! Samples laid over the instructions of their function, and over its source lines.

mod source;

pub use source::{Source, SourceLine, SourceText};

use crate::code::Code;
use crate::disassembly::{Flow, Instruction, disassemble};
use crate::profile::{Function, Heat};
use crate::symbols;

/// An instruction and the samples that fell on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The instruction; its address is the one that the file's own symbols are numbered by.
    pub instruction: Instruction,
    /// Samples.
    pub heat: Heat,
    /// Where it was written: the lines in the functions compiled into one another there, innermost first. Empty until
    /// [`Annotation::locate`], and where nothing is known.
    pub places: Vec<symbols::Line>,
}

/// A function's code with its samples.
#[derive(Clone, Debug)]
pub struct Annotation {
    /// The function.
    pub function: Function,
    /// Its instructions in order of address; empty when there is no code.
    pub lines: Vec<Line>,
    /// Samples that fell on no line: all of them when there is no code.
    pub elsewhere: Heat,
    /// Why there is no code, and what would supply it.
    pub missing: Option<String>,
}

impl Annotation {
    /// Lays the samples of a function over its code.
    pub fn new(function: Function, code: Result<Code, String>) -> Annotation {
        let instructions = code.and_then(|code| {
            let moved = code.linked.wrapping_sub(code.start);
            let list = disassemble(code.machine, &code.bytes, code.linked);
            list.map(|list| (list, moved))
                .ok_or_else(|| format!("{}: is for a machine that is not known", function.dso))
        });
        let (instructions, moved, missing) = match instructions {
            Ok((list, moved)) => (list, moved, None),
            Err(why) => (Vec::new(), 0, Some(why)),
        };
        let line = |instruction| Line { instruction, heat: Heat::default(), places: Vec::new() };
        let mut lines: Vec<Line> = instructions.into_iter().map(line).collect();
        let mut elsewhere = Heat::default();
        for (&address, &heat) in &function.spots {
            let address = address.wrapping_add(moved);
            let next = lines.partition_point(|line| line.instruction.address <= address);
            let line = next.checked_sub(1).and_then(|at| lines.get_mut(at)).filter(|line| {
                let Instruction { address: start, len, .. } = line.instruction;
                address - start < u64::from(len)
            });
            line.map_or(&mut elsewhere, |line| &mut line.heat).add(heat);
        }
        Annotation { function, lines, elsewhere, missing }
    }

    /// Direct jumps within the function, as indices of lines (from, to).
    pub fn jumps(&self) -> Vec<(usize, usize)> {
        let line_at = |address: u64| self.lines.binary_search_by_key(&address, |line| line.instruction.address).ok();
        let jump = |(from, line): (usize, &Line)| match line.instruction.flow {
            Flow::Jump { target: Some(target) } => Some((from, line_at(target)?)),
            _ => None,
        };
        self.lines.iter().enumerate().filter_map(jump).collect()
    }

    /// Where direct calls and jumps lead that leave the function, in the module's space: sorted, unique.
    pub fn exits(&self) -> Vec<u64> {
        let (Some(first), Some(last)) = (self.lines.first(), self.lines.last()) else { return Vec::new() };
        let own = first.instruction.address..=last.instruction.address;
        let mut exits: Vec<u64> = self
            .lines
            .iter()
            .filter_map(|line| line.instruction.flow.target())
            .filter(|target| !own.contains(target))
            .map(|target| target.wrapping_sub(self.moved()))
            .collect();
        exits.sort_unstable();
        exits.dedup();
        exits
    }

    /// What was added to an address of the module's space to get that of a line.
    pub fn moved(&self) -> u64 {
        self.lines.first().map_or(0, |line| line.instruction.address.wrapping_sub(self.function.symbol.start))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::disassembly::Machine;
    use crate::symbols::{Module, ModuleKind, Symbol};

    /// One sample on the first instruction of five, six on the second, eight behind them.
    pub(super) fn annotation() -> Annotation {
        // push %rbp; mov %rsp,%rbp; jmp to the push; call far ahead; ret
        let bytes = vec![0x55, 0x48, 0x89, 0xe5, 0xeb, 0xfa, 0xe8, 0, 0x10, 0, 0, 0xc3];
        let module = Module { path: b"/bin/x".to_vec(), kind: ModuleKind::User, build_id: None, pid: None };
        let heat = |samples| Heat { samples, period: samples * 10 };
        let spots = BTreeMap::from([(0x1000, heat(1)), (0x1001, heat(2)), (0x1002, heat(4)), (0x100c, heat(8))]);
        let symbol = Symbol { name: "f".into(), start: 0x1000, size: 12 };
        let function = Function { module, dso: "x".into(), symbol, event: 0, heat: heat(15), spots };
        let code = Code { machine: Machine::X86_64, start: 0x1000, linked: 0x401000, bytes };
        Annotation::new(function, Ok(code))
    }

    #[test]
    fn every_sample_is_on_one_line_or_elsewhere() {
        let annotation = annotation();
        let heats: Vec<u64> = annotation.lines.iter().map(|line| line.heat.samples).collect();
        assert_eq!((heats, annotation.elsewhere), (vec![1, 6, 0, 0, 0], Heat { samples: 8, period: 80 }));
        assert_eq!(annotation.jumps(), [(2, 0)]);
        assert_eq!(annotation.exits(), [0x200b]);
        assert_eq!(annotation.moved(), 0x400000);
    }
}
