//! Functions with the samples on each instruction or source line, as text, JSON and CSV.

mod arrows;
mod csv;
mod json;
mod source;
mod text;

pub use csv::csv;
pub use json::json;
pub use source::{Row, Texts, rows};
pub use text::text;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use xprof_profile::annotation::{Annotation, Line};
use xprof_profile::profile::Heat;

/// Functions to be shown.
#[derive(Clone, Debug)]
pub struct Annotated {
    /// Names of the events and all their samples.
    pub events: Vec<(String, Heat)>,
    /// The functions, in the order they are shown in.
    pub functions: Vec<Named>,
    /// The source files that are here.
    pub texts: Texts,
}

/// A function and the names of what it leads to.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its lines.
    pub annotation: Annotation,
    /// Names of places outside, by address in the module's space.
    pub names: BTreeMap<u64, String>,
}

/// What is shown of a function's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Its instructions.
    #[default]
    Assembly,
    /// Its source lines.
    Source,
    /// Its instructions, and before them the lines that they were written on.
    Both,
}

/// How text is drawn.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Instructions, or source.
    pub view: View,
    /// Hot lines in colour.
    pub color: bool,
    /// Arrows of lines and corners; else of ASCII characters.
    pub unicode: bool,
    /// Sentences below: what makes the result partial, and what would help.
    pub notes: Vec<String>,
}

impl Named {
    /// An instruction's text, with the name of the place it leads to behind it, as objdump writes it.
    fn code(&self, line: &Line) -> String {
        let mut text = line.instruction.text.clone();
        let Some(target) = line.instruction.flow.target() else { return text };
        let function = &self.annotation.function.symbol;
        let place = target.wrapping_sub(self.annotation.moved());
        let name = match place.checked_sub(function.start) {
            Some(0) => Some(function.name.to_string()),
            Some(offset) if offset < function.size => Some(format!("{}+{offset:#x}", function.name)),
            _ => self.names.get(&place).cloned(),
        };
        if let Some(name) = name {
            let _ = write!(text, " <{name}>");
        }
        text
    }
}

/// `part` of `whole` in percent; 0 of nothing.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

#[cfg(test)]
mod tests;
