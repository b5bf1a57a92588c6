//! Drawing into a buffer of any size: nothing reaches beyond it, and nothing in a name acts on the terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use xprof_perfdata::domain::RunState;

use super::Able;
use crate::flame::Kind;
use crate::plain::Plain;

/// The letters of a trail, the lowest first.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII_BARS: [char; 9] = [' ', '.', '.', ':', '-', '=', '+', '*', '#'];

/// A place to draw in.
pub(super) struct Paint<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    able: &'a Able,
}

impl<'a> Paint<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, able: &'a Able) -> Paint<'a> {
        let area = buffer.area;
        Paint { buffer, area, able }
    }

    /// Columns.
    pub(super) fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Lines.
    pub(super) fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// Draws text from a column on, over at most `width` columns; the column after it.
    pub(super) fn text(&mut self, (x, y): (usize, usize), width: usize, text: &str, style: Style) -> usize {
        let left = self.width().saturating_sub(x).min(width);
        if left == 0 || y >= self.height() {
            return x;
        }
        // What cannot be seen is not looked at: names may have ten thousand characters.
        let end = text.char_indices().nth(left * 4 + 16).map_or(text.len(), |(at, _)| at);
        let mut plain = Plain(&text[..end]).to_string();
        if !self.able.unicode {
            plain = plain.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
        let (column, line) = (self.area.x + x as u16, self.area.y + y as u16);
        let (next, _) = self.buffer.set_stringn(column, line, plain, left, style);
        usize::from(next - self.area.x)
    }

    /// Draws text at the right end of `width` columns.
    pub(super) fn right(&mut self, (x, y): (usize, usize), width: usize, text: &str, style: Style) {
        let skip = width.saturating_sub(text.chars().count());
        self.text((x + skip, y), width - skip, text, style);
    }

    /// Gives a whole line a style.
    pub(super) fn line(&mut self, y: usize, style: Style) {
        self.span((0, y), self.width(), style);
    }

    /// Gives some columns a style.
    pub(super) fn span(&mut self, (x, y): (usize, usize), width: usize, style: Style) {
        let width = self.width().saturating_sub(x).min(width);
        if width > 0 && y < self.height() {
            let area = Rect::new(self.area.x + x as u16, self.area.y + y as u16, width as u16, 1);
            self.buffer.set_style(area, style);
        }
    }

    /// A trail of numbers as bars over `width` columns, the newest at the right; the tallest is the trail's largest.
    pub(super) fn trail(&mut self, at: (usize, usize), width: usize, trail: &[u64], most: usize) {
        let each = most.div_ceil(width.max(1)).max(1);
        let columns: Vec<u64> =
            trail.rchunks(each).take(width).map(|part| part.iter().fold(0, |sum, &v| sum.max(v))).collect();
        let largest = columns.iter().copied().max().unwrap_or(0).max(1);
        let bars = if self.able.unicode { BARS } else { ASCII_BARS };
        let text: String = columns.iter().rev().map(|&value| bar(bars, value, largest)).collect();
        self.right(at, width, &text, self.faint());
    }

    /// What stands for a step of time in a lane: its foremost state, that state's ns and those of all.
    pub(super) fn state(&self, step: Option<(RunState, u64, u64)>) -> (char, Style) {
        let Some((state, ns, all)) = step else { return (' ', Style::new()) };
        let (unicode, ascii, color) = match state {
            RunState::Running => (bar(BARS, ns, all), '#', Color::Green),
            RunState::Runnable => ('▒', 'w', Color::Red),
            RunState::Offline => ('=', 'p', Color::Yellow),
            RunState::Blocked => ('·', '.', Color::Cyan),
        };
        (if self.able.unicode { unicode } else { ascii }, self.colored(color))
    }

    /// What stands for a step of time with so many samples, of `most`.
    pub(super) fn bar(&self, count: u64, most: u64) -> (char, Style) {
        (bar(if self.able.unicode { BARS } else { ASCII_BARS }, count, most), self.colored(Color::Green))
    }

    /// A letter of boxes, and what stands for it in ASCII.
    pub(super) fn letter(&self, unicode: &'static str, ascii: &'static str) -> &'static str {
        if self.able.unicode { unicode } else { ascii }
    }

    fn colored(&self, color: Color) -> Style {
        if self.able.color { Style::new().fg(color) } else { Style::new() }
    }

    /// perf's colours: 5 % and more is hot, 0.5 % and more is warm.
    pub(super) fn heat(&self, percent: f64) -> Style {
        match percent {
            p if p >= 5.0 && self.able.color => self.colored(Color::Red),
            p if p >= 5.0 => Style::new().add_modifier(Modifier::BOLD),
            p if p >= 0.5 => self.colored(Color::Green),
            _ => Style::new(),
        }
    }

    /// Headings and the first line.
    pub(super) fn bold(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is of less interest.
    pub(super) fn faint(&self) -> Style {
        self.colored(Color::Cyan)
    }

    /// What is chosen.
    pub(super) fn chosen(&self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A frame of a flame graph.
    pub(super) fn kind(&self, kind: Kind, found: bool) -> Style {
        if !self.able.color {
            return if found { self.bold() } else { Style::new() };
        }
        let color = match kind {
            _ if found => Color::Magenta,
            Kind::Thread | Kind::Domain | Kind::Small => Color::Gray,
            Kind::User => Color::Yellow,
            Kind::Inline => Color::LightYellow,
            Kind::Jit => Color::Green,
            Kind::Kernel => Color::LightRed,
            Kind::Hypervisor => Color::LightBlue,
        };
        Style::new().bg(color).fg(Color::Black)
    }
}

/// The letter whose height is `part` of `whole`.
fn bar(bars: [char; 9], part: u64, whole: u64) -> char {
    bars[(u128::from(part) * 8).div_ceil(u128::from(whole.max(1))).min(8) as usize]
}

/// `part` of `whole` in percent; 0 of nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The first line of a list that is seen, so that the chosen one is.
pub(super) fn scroll(first: usize, chosen: usize, height: usize) -> usize {
    if height == 0 || chosen < first { chosen } else { first.max((chosen + 1).saturating_sub(height)) }
}
