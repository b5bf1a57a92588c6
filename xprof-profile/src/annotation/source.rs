//! The source lines of a function with the samples of their instructions, and what was compiled into them in its place.
//!
//! Every sample belongs to one line: the innermost one that its instruction was written on. So the sums over all lines are the
//! function's, however deep functions were compiled into one another.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Annotation;
use crate::profile::Heat;
use crate::supply::{Need, Supplier};
use crate::symbols;

/// Longest source file that is read, bytes; generated ones have some MB.
const LONGEST: u64 = 64 << 20;

/// The lines of one function in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Name of the function, where the debug information says it.
    pub name: Option<Arc<str>>,
    /// Path of the file, as the compiler wrote it; `None` where that is not known.
    pub file: Option<Arc<str>>,
    /// Lines that have code, by number; 0 is code of no line in particular.
    pub lines: BTreeMap<u32, SourceLine>,
}

/// A line that has code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceLine {
    /// Samples of its own instructions.
    pub heat: Heat,
    /// Functions that were compiled into it, in the order of their code.
    pub inlined: Vec<Source>,
}

impl Annotation {
    /// Says where every instruction was written: `places` are the lines of [`symbols::Symbolizer::lines`], in the order of
    /// [`Annotation::addresses`].
    pub fn locate(&mut self, places: impl IntoIterator<Item = Vec<symbols::Line>>) {
        for (line, places) in self.lines.iter_mut().zip(places) {
            line.places = places;
        }
    }

    /// The addresses of the instructions in the module's space, in order.
    pub fn addresses(&self) -> impl Iterator<Item = u64> {
        let moved = self.moved();
        self.lines.iter().map(move |line| line.instruction.address.wrapping_sub(moved))
    }

    /// The function's lines, one [`Source`] for each file that it was written in, and the samples that fell on no known line.
    pub fn source(&self) -> (Vec<Source>, Heat) {
        let mut sources = Vec::new();
        let mut nowhere = self.elsewhere;
        for line in &self.lines {
            if line.places.is_empty() {
                nowhere.add(line.heat);
                continue;
            }
            let mut list = &mut sources;
            let mut place = line.places.iter().rev().peekable();
            while let Some(outer) = place.next() {
                let source = entry(list, outer);
                let own = source.lines.entry(outer.line).or_default();
                if place.peek().is_none() {
                    own.heat.add(line.heat);
                }
                list = &mut own.inlined;
            }
        }
        (sources, nowhere)
    }
}

fn entry<'a>(list: &'a mut Vec<Source>, place: &symbols::Line) -> &'a mut Source {
    let is_it = |source: &Source| source.name == place.name && source.file == place.file;
    let at = list.iter().position(is_it).unwrap_or_else(|| {
        list.push(Source { name: place.name.clone(), file: place.file.clone(), lines: BTreeMap::new() });
        list.len() - 1
    });
    &mut list[at]
}

/// The lines of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText(Vec<Box<str>>);

impl SourceText {
    /// Reads a file that a module was compiled from; `None` when it is not here. `pid` is a process that mapped the module.
    pub(crate) fn read(supplier: &dyn Supplier, path: &str, pid: Option<u32>) -> Option<SourceText> {
        let source = supplier.supply(&Need::Source { path: path.as_bytes().to_vec(), pid }).ok()?;
        let bytes = source.read_vec(0, source.len().min(LONGEST)).ok()?;
        Some(SourceText::of(&String::from_utf8_lossy(&bytes)))
    }

    /// The lines of a text.
    pub fn of(text: &str) -> SourceText {
        SourceText(text.lines().map(Into::into).collect())
    }

    /// A line by its number, from 1.
    pub fn line(&self, number: u32) -> Option<&str> {
        self.0.get((number as usize).checked_sub(1)?).map(|line| &**line)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::annotation;
    use super::*;

    fn place(name: &str, file: &str, line: u32) -> symbols::Line {
        symbols::Line { name: Some(name.into()), file: Some(file.into()), line }
    }

    #[test]
    fn every_sample_is_on_one_line() {
        // Heats 1, 6, 0, 0, 0, and 8 behind the code.
        let mut annotation = annotation();
        let outer = |line| place("f", "f.c", line);
        annotation.locate([
            vec![outer(3)],
            vec![place("leaf", "a.h", 9), place("middle", "a.h", 20), outer(4)],
            vec![place("middle", "a.h", 20), outer(4)],
            vec![],
            vec![outer(3)],
        ]);
        let (sources, nowhere) = annotation.source();
        assert_eq!(nowhere.samples, 8);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].lines.keys().copied().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(sources[0].lines[&3].heat.samples, 1);
        let middle = &sources[0].lines[&4].inlined[0];
        assert_eq!((sources[0].lines[&4].heat.samples, middle.lines[&20].heat.samples), (0, 0));
        let leaf = &middle.lines[&20].inlined[0];
        assert_eq!((leaf.name.as_deref(), leaf.lines[&9].heat.samples), (Some("leaf"), 6));
    }

    #[test]
    fn lines_are_counted_from_one() {
        let text = SourceText::of("a\nb\r\n\nc");
        assert_eq!([0, 1, 2, 3, 4, 5].map(|n| text.line(n)), [None, Some("a"), Some("b"), Some(""), Some("c"), None]);
    }
}
