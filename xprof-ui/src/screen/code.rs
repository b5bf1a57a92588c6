//! The instructions of a function, or its source lines, with the samples on each.

use crate::annotate::View;

use super::keys::Step;
use super::paint::{Paint, scroll};

/// A listing, and where one is in it.
#[derive(Debug)]
pub(super) struct CodeScreen {
    pub(super) dso: String,
    pub(super) symbol: String,
    pub(super) view: View,
    lines: Option<Vec<(f64, String)>>,
    at: usize,
    first: usize,
    wanted: String,
}

impl CodeScreen {
    pub(super) fn new(dso: String, symbol: String) -> CodeScreen {
        CodeScreen { dso, symbol, view: View::Assembly, lines: None, at: 0, first: 0, wanted: String::new() }
    }

    pub(super) fn take(&mut self, lines: Vec<(f64, String)>) {
        let is_first = self.lines.is_none();
        self.lines = Some(lines);
        if is_first {
            self.at = self.hottest().unwrap_or(0);
        }
        self.at = self.at.min(self.lines().len().saturating_sub(1));
    }

    fn lines(&self) -> &[(f64, String)] {
        self.lines.as_deref().unwrap_or(&[])
    }

    fn hottest(&self) -> Option<usize> {
        let lines = self.lines();
        (0..lines.len()).max_by(|&a, &b| lines[a].0.total_cmp(&lines[b].0).then(b.cmp(&a)))
    }

    pub(super) fn walk(&mut self, step: Step) {
        self.at = step.from(self.at, self.lines().len());
    }

    /// Instructions, source lines with instructions, source lines.
    pub(super) fn next_view(&mut self) {
        self.view = match self.view {
            View::Assembly => View::Both,
            View::Both => View::Source,
            View::Source => View::Assembly,
        };
        self.lines = None;
    }

    /// The next line that is cooler than this one, or the hottest again.
    pub(super) fn next_hot(&mut self) {
        let lines = self.lines();
        let Some(here) = lines.get(self.at).map(|line| (line.0, self.at)) else { return };
        let order = |a: (f64, usize), b: (f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let after = (0..lines.len())
            .map(|at| (lines[at].0, at))
            .filter(|&line| line.0 > 0.0 && order(line, here).is_gt())
            .min_by(|&a, &b| order(a, b));
        self.at = after.map(|(_, at)| at).or_else(|| self.hottest()).unwrap_or(0);
    }

    /// Goes to the next line with this text.
    pub(super) fn find(&mut self, text: String) {
        self.wanted = text.to_lowercase();
        let (lines, wanted) = (self.lines(), &self.wanted);
        let count = lines.len();
        let found = (0..count)
            .map(|by| (self.at + by) % count)
            .find(|&at| !wanted.is_empty() && lines[at].1.to_lowercase().contains(wanted));
        self.at = found.unwrap_or(self.at);
    }

    pub(super) fn about(&self) -> String {
        format!("{}  {}", self.symbol, self.dso)
    }

    pub(super) fn draw(&mut self, paint: &mut Paint<'_>, (top, height): (usize, usize), doing: &str) {
        let Some(lines) = &self.lines else {
            let what = if doing.is_empty() { "reading the code" } else { doing };
            paint.text((1, top), usize::MAX, what, paint.faint());
            return;
        };
        self.first = scroll(self.first.min(lines.len().saturating_sub(height)), self.at, height);
        for (line, (heat, text)) in lines.iter().skip(self.first).take(height).enumerate() {
            let found = !self.wanted.is_empty() && text.to_lowercase().contains(&self.wanted);
            let style = if found { paint.bold() } else { paint.heat(*heat) };
            paint.text((0, top + line), usize::MAX, text, style);
            if self.first + line == self.at {
                paint.line(top + line, paint.chosen());
            }
        }
        if lines.is_empty() {
            paint.text((1, top), usize::MAX, "no samples in it any more", paint.faint());
        }
    }
}
