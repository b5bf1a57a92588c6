//! A flame graph of letters: the root on top, one line a level.

use super::keys::Step;
use super::paint::{Paint, scroll};
use crate::flame::{Frame, Graph};
use xprof_profile::profile::{Key as Column, Value};

/// A flame graph, and where one is in it.
#[derive(Debug)]
pub(super) struct FlameScreen {
    /// Index of the event.
    pub(super) event: usize,
    /// Only samples of which this holds.
    pub(super) within: Vec<(Column, Value)>,
    graph: Option<Graph>,
    /// Indices of frames: the chosen one, and the one that fills the width.
    at: usize,
    zoomed: usize,
    first: usize,
    inverted: bool,
    wanted: String,
}

impl FlameScreen {
    pub(super) fn new(event: usize, within: Vec<(Column, Value)>) -> FlameScreen {
        FlameScreen { event, within, graph: None, at: 0, zoomed: 0, first: 0, inverted: false, wanted: String::new() }
    }

    pub(super) fn take(&mut self, graph: Graph) {
        // Frames move when samples come: the same names on the way are the same frame.
        let (at, zoomed) = (self.names(self.at), self.names(self.zoomed));
        self.graph = Some(graph);
        self.at = at.and_then(|names| self.frame_of(&names)).unwrap_or(0);
        self.zoomed = zoomed.and_then(|names| self.frame_of(&names)).unwrap_or(0);
    }

    fn frames(&self) -> &[Frame] {
        self.graph.as_ref().map_or(&[], |graph| &graph.frames)
    }

    fn parent(&self, at: usize) -> Option<usize> {
        let frames = self.frames();
        let frame = frames.get(at)?;
        let depth = frame.depth.checked_sub(1)?;
        // Parents stand before what they call.
        (0..at).rev().find(|&before| frames[before].depth == depth && contains(&frames[before], frame))
    }

    /// The names from the root to a frame.
    fn names(&self, at: usize) -> Option<Vec<String>> {
        let mut names = vec![self.frames().get(at)?.name.clone()];
        let mut at = at;
        while let Some(parent) = self.parent(at) {
            names.push(self.frames()[parent].name.clone());
            at = parent;
        }
        names.reverse();
        Some(names)
    }

    fn frame_of(&self, names: &[String]) -> Option<usize> {
        let frames = self.frames();
        let mut at = 0;
        for (depth, name) in names.iter().enumerate().skip(1) {
            let above = frames.get(at)?;
            let is_it = |frame: &Frame| frame.depth == depth && frame.name == *name && contains(above, frame);
            at = frames.iter().position(is_it)?;
        }
        Some(at)
    }

    pub(super) fn walk(&mut self, step: Step) {
        match step {
            Step::By(by) => {
                let down = (by > 0) != self.inverted;
                for _ in 0..by.unsigned_abs() {
                    let next = if down { self.widest_below(self.at) } else { self.parent(self.at) };
                    let Some(next) = next else { return };
                    self.at = next;
                }
            }
            Step::First => self.at = self.zoomed,
            Step::Last => {
                while let Some(next) = self.widest_below(self.at) {
                    self.at = next;
                }
            }
        }
        // Going up beyond what fills the width makes the picture wider.
        if let (Some(at), Some(zoomed)) = (self.frames().get(self.at), self.frames().get(self.zoomed))
            && at.depth < zoomed.depth
        {
            self.zoomed = self.at;
        }
    }

    fn widest_below(&self, at: usize) -> Option<usize> {
        let frames = self.frames();
        let frame = frames.get(at)?;
        let below = (0..frames.len()).filter(|&i| frames[i].depth == frame.depth + 1 && contains(frame, &frames[i]));
        below.max_by(|&a, &b| frames[a].share.total_cmp(&frames[b].share).then(b.cmp(&a)))
    }

    /// The next frame at the right or at the left, of the same level.
    pub(super) fn beside(&mut self, right: bool) {
        let frames = self.frames();
        let (Some(frame), Some(zoomed)) = (frames.get(self.at), frames.get(self.zoomed)) else { return };
        let level =
            frames.iter().enumerate().filter(|(_, other)| other.depth == frame.depth && contains(zoomed, other));
        let next = if right {
            level.filter(|(_, other)| other.start > frame.start).min_by(|a, b| a.1.start.total_cmp(&b.1.start))
        } else {
            level.filter(|(_, other)| other.start < frame.start).max_by(|a, b| a.1.start.total_cmp(&b.1.start))
        };
        if let Some((next, _)) = next {
            self.at = next;
        }
    }

    pub(super) fn zoom(&mut self) {
        self.zoomed = self.at;
    }

    pub(super) fn invert(&mut self) {
        self.inverted = !self.inverted;
    }

    pub(super) fn find(&mut self, text: String) {
        self.wanted = text.to_lowercase();
    }

    /// Takes the search or the zoom away; false when there is neither.
    pub(super) fn undo(&mut self) -> bool {
        if !self.wanted.is_empty() {
            self.wanted.clear();
            return true;
        }
        let zoomed = self.zoomed != 0;
        self.zoomed = 0;
        zoomed
    }

    fn is_found(&self, frame: &Frame) -> bool {
        !self.wanted.is_empty() && frame.name.to_lowercase().contains(&self.wanted)
    }

    pub(super) fn about(&self) -> String {
        let Some(graph) = &self.graph else { return String::new() };
        let mut parts = vec![graph.event.clone()];
        parts.extend(self.within.iter().map(|(key, value)| format!("{} {value}", key.name())));
        if !self.wanted.is_empty() {
            // What lies in a frame that is found is found with it.
            let (mut share, mut beyond) = (0.0, f64::NEG_INFINITY);
            let mut found: Vec<&Frame> = graph.frames.iter().filter(|frame| self.is_found(frame)).collect();
            found.sort_by(|a, b| a.start.total_cmp(&b.start).then(b.share.total_cmp(&a.share)));
            for frame in found {
                let end = frame.start + frame.share;
                share += (end - frame.start.max(beyond)).max(0.0);
                beyond = beyond.max(end);
            }
            parts.push(format!("\"{}\" {:.2}%", self.wanted, share * 100.0));
        }
        parts.join("  ")
    }

    pub(super) fn draw(&mut self, paint: &mut Paint<'_>, (top, height): (usize, usize), doing: &str) {
        let Some(graph) = &self.graph else {
            let what = if doing.is_empty() { "adding up" } else { doing };
            paint.text((1, top), usize::MAX, what, paint.faint());
            return;
        };
        let (Some(chosen), Some(zoomed)) = (graph.frames.get(self.at), graph.frames.get(self.zoomed)) else {
            paint.text((1, top), usize::MAX, if doing.is_empty() { "no samples" } else { doing }, paint.faint());
            return;
        };
        let rows = height.saturating_sub(1);
        let width = paint.width() as f64;
        let levels = graph.frames.iter().map(|frame| frame.depth + 1).max().unwrap_or(0);
        let first = scroll(self.first.min(levels.saturating_sub(rows)), chosen.depth, rows);
        for frame in &graph.frames {
            let Some(level) = frame.depth.checked_sub(first).filter(|level| *level < rows) else { continue };
            // What the zoomed frame was called by fills the width.
            let (start, end) = if frame.depth < zoomed.depth {
                if !contains(frame, zoomed) {
                    continue;
                }
                (0.0, 1.0)
            } else {
                let start = (frame.start - zoomed.start) / zoomed.share;
                (start, start + frame.share / zoomed.share)
            };
            let column = |share: f64| (share * width).round().clamp(0.0, width) as usize;
            let (from, to) = (column(start), column(end));
            if from >= to {
                continue;
            }
            let y = if self.inverted { top + rows - 1 - level } else { top + level };
            let is_chosen = std::ptr::eq(frame, chosen);
            let style = paint.kind(frame.kind, self.is_found(frame));
            let edge = paint.letter("▏", "|");
            paint.span((from, y), to - from, style);
            paint.text((from, y), 1, edge, style);
            paint.text((from + 1, y), to - from - 1, &frame.name, style);
            if is_chosen {
                paint.span((from, y), to - from, paint.chosen());
            }
        }
        let kind = chosen.kind.name();
        let words = format!("{:.2}%  {} samples  {kind}  {}", chosen.share * 100.0, chosen.samples, chosen.name);
        paint.text((0, top + rows), usize::MAX, &words, paint.bold());
        self.first = first;
    }
}

/// Whether a frame lies over another.
fn contains(below: &Frame, above: &Frame) -> bool {
    // A tenth of a billionth: shares are sums of floating point numbers.
    const ROUNDING: f64 = 1e-10;
    below.depth <= above.depth
        && above.start >= below.start - ROUNDING
        && above.start + above.share <= below.start + below.share + ROUNDING
}
