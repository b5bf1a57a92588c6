//! The source lines of a function as rows: its own, and indented below a line what was compiled into it there.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use xprof_profile::annotation::{Source, SourceText};
use xprof_profile::profile::Heat;
use xprof_profile::symbols;

/// Source files by path.
pub type Texts = HashMap<Arc<str>, SourceText>;

/// Lines without code that are shown between two that have some: in the function itself, and in one compiled into it.
const BETWEEN: [u32; 2] = [8, 1];

/// One row of a listing. `depth`: functions that it was compiled into, one in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row<'a> {
    /// Lines of another function or file begin.
    Head {
        /// Depth.
        depth: usize,
        /// The function and its file.
        source: &'a Source,
    },
    /// A line.
    Line {
        /// Depth.
        depth: usize,
        /// Its number, 0 for code of no line in particular.
        number: u32,
        /// Samples; `None` for a line without code.
        heat: Option<Heat>,
        /// What stands there, where the file is here.
        text: &'a str,
    },
    /// Lines are left out.
    Gap {
        /// Depth.
        depth: usize,
    },
}

/// The rows of a function's sources.
pub fn rows<'a>(sources: &'a [Source], texts: &'a Texts) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    below(sources, texts, 0, &mut rows);
    rows
}

fn below<'a>(sources: &'a [Source], texts: &'a Texts, depth: usize, rows: &mut Vec<Row<'a>>) {
    for source in sources {
        rows.push(Row::Head { depth, source });
        let text = source.file.as_ref().and_then(|file| texts.get(file));
        let line = |number| text.and_then(|text| text.line(number));
        let mut last = None;
        for (&number, own) in &source.lines {
            let from = last.map_or(number, |last: u32| last.saturating_add(1));
            if number - from > BETWEEN[depth.min(1)] || (number > from && text.is_none()) {
                rows.push(Row::Gap { depth });
            } else {
                let between = |number| Row::Line { depth, number, heat: None, text: line(number).unwrap_or_default() };
                rows.extend((from..number).map(between));
            }
            // The rows of a line 0 stand first, and no gap follows it.
            last = Some(number).filter(|&number| number > 0);
            rows.push(Row::Line { depth, number, heat: Some(own.heat), text: line(number).unwrap_or_default() });
            below(&own.inlined, texts, depth + 1, rows);
        }
    }
}

/// The name of a file without its folders.
pub(super) fn short(file: Option<&str>) -> &str {
    file.map_or("??", |file| file.rsplit('/').next().unwrap_or(file))
}

/// How code came where it is: `leaf (a.h:20) in middle (f.c:4)`; empty for a function's own.
pub(super) fn origin(places: &[symbols::Line]) -> String {
    let mut text = String::new();
    for pair in places.windows(2) {
        let [callee, caller] = pair else { continue };
        let joint = if text.is_empty() { "" } else { " in " };
        let name = callee.name.as_deref().unwrap_or("??");
        let _ = write!(text, "{joint}{name} ({}:{})", short(caller.file.as_deref()), caller.line);
    }
    text
}
