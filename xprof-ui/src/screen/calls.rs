//! The calls around a row: what calls it, and what it calls, as trees that open.

use std::collections::HashSet;

use xprof_profile::profile::{Calls, Node, RowOf, Value};

use super::keys::Step;
use super::paint::{Paint, percent, scroll};

/// Lines that are shown of trees that are open.
const LINES_MAX: usize = 100_000;
/// Deepest indentation, columns.
const DEEPEST: usize = 40;

/// A node's place: which tree, and the nodes on the way to it by their function.
type Way = Vec<Option<u32>>;

/// One line.
#[derive(Clone, Debug)]
struct Line {
    way: Way,
    name: String,
    period: u64,
    own: u64,
    /// Whether it has nodes below, and whether they are shown.
    below: Option<bool>,
    /// Module and symbol, if it has a name.
    function: Option<(String, String)>,
    letter: char,
}

/// The calls around a row, and where one is in them.
#[derive(Debug)]
pub(super) struct CallsScreen {
    pub(super) row: RowOf,
    page: Option<Option<Box<Calls>>>,
    open: HashSet<Way>,
    lines: Vec<Line>,
    at: usize,
    first: usize,
    wanted: String,
}

const CALLERS: Option<u32> = Some(u32::MAX);
const CALLEES: Option<u32> = Some(u32::MAX - 1);

impl CallsScreen {
    pub(super) fn new(row: RowOf) -> CallsScreen {
        let open = HashSet::from([vec![CALLERS], vec![CALLEES]]);
        CallsScreen { row, page: None, open, lines: Vec::new(), at: 0, first: 0, wanted: String::new() }
    }

    pub(super) fn take(&mut self, page: Option<Box<Calls>>) {
        self.page = Some(page);
        self.arrange();
    }

    fn arrange(&mut self) {
        let mut lines = Vec::new();
        if let Some(Some(calls)) = &self.page {
            for (tree, title, nodes) in [(CALLERS, "Called from", &calls.callers), (CALLEES, "Calls", &calls.callees)] {
                let way = vec![tree];
                let is_open = self.open.contains(&way);
                let below = (!nodes.is_empty()).then_some(is_open);
                let period = nodes.iter().fold(0u64, |sum, node| sum.saturating_add(node.period));
                let (name, way) = (title.to_owned(), way);
                lines.push(Line { way: way.clone(), name, period, own: 0, below, function: None, letter: ' ' });
                if is_open {
                    self.add(calls, nodes, way, &mut lines);
                }
            }
        }
        let chosen = self.lines.get(self.at).map(|line| line.way.clone());
        let same = chosen.and_then(|way| lines.iter().position(|line| line.way == way));
        self.at = same.unwrap_or(self.at).min(lines.len().saturating_sub(1));
        self.lines = lines;
    }

    /// Adds the nodes of an open tree. A tree has 255 levels at most.
    fn add(&self, calls: &Calls, nodes: &[Node], way: Way, lines: &mut Vec<Line>) {
        for node in nodes {
            if lines.len() >= LINES_MAX {
                return;
            }
            let function = node.function.and_then(|id| calls.functions.get(id.0 as usize));
            let mut way = way.clone();
            way.push(node.function.map(|id| id.0));
            let is_open = self.open.contains(&way);
            let (name, of) = match function {
                Some(function) => {
                    let name = match &function.symbol {
                        Value::Text(name) => name.to_string(),
                        address => format!("{address} [{}]", function.dso),
                    };
                    let inlined = if function.inlined { " (inlined)" } else { "" };
                    let of = matches!(function.symbol, Value::Text(_))
                        .then(|| (function.dso.to_string(), function.symbol.to_string()));
                    (format!("{name}{inlined}"), of)
                }
                None => ("(what is too small to show)".to_owned(), None),
            };
            let below = (!node.nodes.is_empty()).then_some(is_open);
            let letter = function.map_or(' ', |function| function.letter);
            let (period, own) = (node.period, node.own);
            lines.push(Line { way: way.clone(), name, period, own, below, function: of, letter });
            if is_open {
                self.add(calls, &node.nodes, way, lines);
            }
        }
    }

    pub(super) fn walk(&mut self, step: Step) {
        self.at = step.from(self.at, self.lines.len());
    }

    pub(super) fn toggle(&mut self) {
        if let Some(below) = self.lines.get(self.at).and_then(|line| line.below) {
            self.open(!below);
        }
    }

    /// Opens or closes the chosen node; closing a closed one goes to the node that it hangs from.
    pub(super) fn open(&mut self, open: bool) {
        let Some(line) = self.lines.get(self.at) else { return };
        match (open, line.below) {
            (true, Some(false)) => drop(self.open.insert(line.way.clone())),
            (false, Some(true)) => drop(self.open.remove(&line.way)),
            (false, _) => {
                let above = line.way.split_last().map(|(_, above)| above.to_vec()).unwrap_or_default();
                self.at = self.lines.iter().position(|line| line.way == above).unwrap_or(self.at);
            }
            _ => {}
        }
        self.arrange();
    }

    /// Goes to the next line with this text.
    pub(super) fn find(&mut self, text: String) {
        self.wanted = text.to_lowercase();
        let count = self.lines.len();
        let wanted = &self.wanted;
        let found = (0..count)
            .map(|by| (self.at + by) % count)
            .find(|&at| !wanted.is_empty() && self.lines[at].name.to_lowercase().contains(wanted));
        self.at = found.unwrap_or(self.at);
    }

    /// Module and name of the chosen function: of the row itself at the heads of the trees.
    pub(super) fn chosen_function(&self) -> Option<(String, String)> {
        let line = self.lines.get(self.at)?;
        if line.way.len() > 1 {
            return line.function.clone();
        }
        use xprof_profile::profile::Key as Column;
        let of = |wanted| {
            let at = self.row.keys.iter().position(|key| *key == wanted)?;
            match self.row.values.get(at)? {
                Value::Text(text) => Some(text.to_string()),
                _ => None,
            }
        };
        Some((of(Column::Dso)?, of(Column::Symbol)?))
    }

    pub(super) fn about(&self) -> String {
        let values: Vec<String> = self.row.values.iter().map(ToString::to_string).collect();
        values.join("  ")
    }

    pub(super) fn draw(&mut self, paint: &mut Paint<'_>, (top, height): (usize, usize), doing: &str) {
        let calls = match &self.page {
            Some(Some(calls)) => calls,
            Some(None) => {
                paint.text((1, top), usize::MAX, "no samples any more", paint.faint());
                return;
            }
            None => {
                let what = if doing.is_empty() { "adding up" } else { doing };
                paint.text((1, top), usize::MAX, what, paint.faint());
                return;
            }
        };
        let share = |part| percent(part, calls.whole);
        let sums = format!(
            "{:.2}% of all samples in it and in what it calls, {:.2}% in itself",
            share(calls.period),
            share(calls.own)
        );
        paint.text((1, top), usize::MAX, &sums, paint.bold());
        let rows = height.saturating_sub(1);
        self.first = scroll(self.first.min(self.lines.len().saturating_sub(rows)), self.at, rows);
        for (y, line) in self.lines.iter().skip(self.first).take(rows).enumerate() {
            let y = top + 1 + y;
            let is_head = line.way.len() == 1;
            let mark = match line.below {
                Some(true) => paint.letter("▾", "-"),
                Some(false) => paint.letter("▸", "+"),
                None => " ",
            };
            let mut x = 0;
            if !is_head {
                paint.right((0, y), 9, &format!("{:.2}%", share(line.period)), paint.heat(share(line.period)));
                let own = if line.own > 0 { format!("{:.2}%", share(line.own)) } else { String::new() };
                paint.right((9, y), 9, &own, paint.faint());
                x = 19 + (2 * (line.way.len() - 1)).min(DEEPEST);
            }
            let x = paint.text((x, y), 2, mark, paint.faint()) + 1;
            let text = match line.letter {
                ' ' => line.name.clone(),
                letter => format!("[{letter}] {}", line.name),
            };
            let found = !self.wanted.is_empty() && line.name.to_lowercase().contains(&self.wanted);
            let nobody = if is_head && line.below.is_none() { " nobody that was seen" } else { "" };
            let style = if is_head || found { paint.bold() } else { ratatui::style::Style::new() };
            paint.text((x, y), usize::MAX, &format!("{text}{nobody}"), style);
            if self.first + y == self.at + top + 1 {
                paint.line(y, paint.chosen());
            }
        }
    }
}
