//! The table: rows with their shares, and the trail of each.

use xprof_profile::profile::{EventProfile, Key as Column, Profile, Row, RowOf, Value};

use super::Able;
use super::keys::Step;
use super::paint::{Paint, percent, scroll};

/// Columns of a trail, by the width of the terminal.
const TRAILS: [(usize, usize); 3] = [(110, 20), (78, 12), (60, 6)];
/// Columns that the last key, the symbol, has at least: before it, trails are left out and names cut.
const LAST: usize = 20;

/// What rows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grouping {
    Usual,
    Processes,
    Domains,
}

impl Grouping {
    pub(super) fn keys(self, able: &Able) -> Vec<Column> {
        match self {
            Grouping::Usual => able.keys.clone(),
            Grouping::Processes => {
                let domain = able.domains.then_some(Column::Domain);
                domain.into_iter().chain([Column::Comm, Column::Pid]).collect()
            }
            Grouping::Domains => vec![Column::Domain],
        }
    }
}

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Weight,
    Own,
    Name,
}

/// A table, and where one is in it.
#[derive(Debug)]
pub(super) struct TableScreen {
    pub(super) grouping: Grouping,
    /// Only samples of which this holds.
    pub(super) within: Vec<(Column, Value)>,
    /// Index of the event.
    pub(super) event: usize,
    page: Option<(Profile, Vec<Vec<Vec<u64>>>)>,
    sort: Sort,
    filter: String,
    /// Indices of the rows that are shown.
    shown: Vec<usize>,
    /// Index in `shown`; and the values of that row, once it was chosen by a key: it stays chosen when rows move.
    at: usize,
    chosen: Option<Vec<Value>>,
    first: usize,
}

impl TableScreen {
    pub(super) fn new(grouping: Grouping, within: Vec<(Column, Value)>) -> TableScreen {
        TableScreen {
            grouping,
            within,
            event: 0,
            page: None,
            sort: Sort::Weight,
            filter: String::new(),
            shown: Vec::new(),
            at: 0,
            chosen: None,
            first: 0,
        }
    }

    pub(super) fn with_event(self, event: usize) -> TableScreen {
        TableScreen { event, ..self }
    }

    pub(super) fn take(&mut self, profile: Profile, trails: Vec<Vec<Vec<u64>>>) {
        let has_any = |event: &EventProfile| event.samples > 0;
        if self.page.is_none() && !profile.events.get(self.event).is_some_and(has_any) {
            self.event = profile.events.iter().position(has_any).unwrap_or(self.event);
        }
        self.page = Some((profile, trails));
        self.arrange();
    }

    fn event_profile(&self) -> Option<(&Profile, &EventProfile)> {
        let (profile, _) = self.page.as_ref()?;
        Some((profile, profile.events.get(self.event)?))
    }

    fn row(&self, at: usize) -> Option<&Row> {
        self.event_profile()?.1.rows.get(*self.shown.get(at)?)
    }

    /// Decides which rows are shown, and in which order.
    fn arrange(&mut self) {
        let Some((profile, event)) = self.event_profile() else { return };
        let wanted = self.filter.to_lowercase();
        let is_shown = |row: &Row| {
            wanted.is_empty() || row.values.iter().any(|value| value.to_string().to_lowercase().contains(&wanted))
        };
        let mut shown: Vec<usize> = (0..event.rows.len()).filter(|&at| is_shown(&event.rows[at])).collect();
        match self.sort {
            // Rows come by falling weight.
            Sort::Weight => {}
            Sort::Own => shown.sort_by_key(|&at| std::cmp::Reverse(event.rows[at].period)),
            Sort::Name => {
                let last = profile.keys.len().saturating_sub(1);
                shown.sort_by(|&a, &b| event.rows[a].values.get(last).cmp(&event.rows[b].values.get(last)));
            }
        }
        let same = |&at: &usize| Some(&event.rows[at].values) == self.chosen.as_ref();
        let at = shown.iter().position(same).unwrap_or(self.at).min(shown.len().saturating_sub(1));
        (self.shown, self.at) = (shown, at);
    }

    pub(super) fn walk(&mut self, step: Step) {
        self.at = step.from(self.at, self.shown.len());
        self.chosen = self.row(self.at).map(|row| row.values.clone());
    }

    pub(super) fn next_sort(&mut self) {
        let has_children = self.event_profile().is_some_and(|(profile, _)| profile.has_children);
        self.sort = match self.sort {
            Sort::Weight if has_children => Sort::Own,
            Sort::Weight | Sort::Own => Sort::Name,
            Sort::Name => Sort::Weight,
        };
        self.arrange();
    }

    /// The events that have samples: index and name.
    pub(super) fn events(&self) -> Vec<(usize, String)> {
        let Some((profile, _)) = &self.page else { return Vec::new() };
        let events = profile.events.iter().enumerate().filter(|(_, event)| event.samples > 0);
        events.map(|(at, event)| (at, event.name.clone())).collect()
    }

    /// The next event that has samples.
    pub(super) fn next_event(&mut self) {
        let Some((profile, _)) = &self.page else { return };
        let count = profile.events.len();
        let mut others = (1..=count).map(|by| (self.event + by) % count);
        let has_any = |&event: &usize| profile.events[event].samples > 0;
        if let Some(event) = others.find(has_any) {
            (self.event, self.at, self.first, self.chosen) = (event, 0, 0, None);
            self.arrange();
        }
    }

    pub(super) fn set_filter(&mut self, text: String) {
        self.filter = text;
        self.arrange();
    }

    /// Takes the filter away; false when there is none.
    pub(super) fn undo(&mut self) -> bool {
        let filtered = !self.filter.is_empty();
        self.set_filter(String::new());
        filtered
    }

    /// The row that is chosen.
    pub(super) fn chosen_row(&self, able: &Able) -> Option<RowOf> {
        let row = self.row(self.at)?;
        let keys = self.event_profile().map_or_else(|| self.grouping.keys(able), |(profile, _)| profile.keys.clone());
        Some(RowOf { event: self.event, keys, within: self.within.clone(), values: row.values.clone() })
    }

    /// Module and name of the function of the chosen row.
    pub(super) fn chosen_function(&self) -> Option<(String, String)> {
        let (profile, _) = self.event_profile()?;
        let row = self.row(self.at)?;
        let of = |wanted| {
            let at = profile.keys.iter().position(|key| *key == wanted)?;
            match row.values.get(at)? {
                Value::Text(text) => Some(text.to_string()),
                _ => None,
            }
        };
        Some((of(Column::Dso)?, of(Column::Symbol)?))
    }

    /// What is shown, in words.
    pub(super) fn about(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if let Some((profile, event)) = self.event_profile() {
            let others = profile.events.iter().filter(|e| e.samples > 0).count();
            let more = if others > 1 { format!(" (1 of {others} events)") } else { String::new() };
            parts.push(format!("{}{more}", event.name));
        }
        parts.extend(self.within.iter().map(|(key, value)| format!("{} {value}", key.name())));
        if !self.filter.is_empty() {
            parts.push(format!("with \"{}\"", self.filter));
        }
        if self.sort == Sort::Name {
            parts.push("by name".into());
        }
        parts.join("  ")
    }

    pub(super) fn draw(&mut self, paint: &mut Paint<'_>, (top, height): (usize, usize), doing: &str) {
        let Some((profile, trails)) = &self.page else {
            paint.text(
                (1, top),
                usize::MAX,
                if doing.is_empty() { "collecting samples" } else { doing },
                paint.faint(),
            );
            return;
        };
        let Some(event) = profile.events.get(self.event) else { return };
        let rows_height = height.saturating_sub(1);
        self.first = scroll(self.first.min(self.shown.len().saturating_sub(rows_height)), self.at, rows_height);
        let rows: Vec<(usize, &Row)> = self
            .shown
            .iter()
            .skip(self.first)
            .take(rows_height)
            .filter_map(|&at| Some((at, event.rows.get(at)?)))
            .collect();
        let room = paint.width().saturating_sub(if profile.has_children { 18 } else { 9 });
        let widths = widths(profile, &rows, room);
        let left = room.saturating_sub(needed(&widths));
        let has_trails = trails.get(self.event).is_some_and(|trails| !trails.is_empty());
        let fits = |&&(width, trail): &&(usize, usize)| has_trails && paint.width() >= width && trail < left;
        let trail_width = TRAILS.iter().find(fits).map_or(0, |(_, trail)| *trail);
        let heading = paint.bold();
        let mut x = 0;
        if profile.has_children {
            let style = if self.sort == Sort::Weight { paint.chosen() } else { heading };
            paint.right((x, top), 9, "Children", style);
            x += 9;
        }
        let sorts = if profile.has_children { self.sort == Sort::Own } else { self.sort == Sort::Weight };
        paint.right((x, top), 9, "Self", if sorts { paint.chosen() } else { heading });
        x += 9;
        if trail_width > 0 {
            paint.text((x + 1, top), trail_width, "Trail", heading);
            x += trail_width + 1;
        }
        for (key, width) in profile.keys.iter().zip(&widths) {
            paint.text((x + 2, top), *width, key.heading(), heading);
            x += width + 2;
        }
        for (line, (index, row)) in rows.into_iter().enumerate() {
            let y = top + 1 + line;
            let mut x = 0;
            let shares = [profile.has_children.then_some(row.children), Some(row.period)];
            for part in shares.into_iter().flatten() {
                let share = percent(part, event.period);
                paint.right((x, y), 9, &format!("{share:.2}%"), paint.heat(share));
                x += 9;
            }
            if trail_width > 0 {
                let trail = trails.get(self.event).and_then(|trails| trails.get(index)).map_or(&[][..], Vec::as_slice);
                paint.trail((x + 1, y), trail_width, trail, xprof_profile::profile::SLICES);
                x += trail_width + 1;
            }
            for ((key, value), width) in profile.keys.iter().zip(&row.values).zip(&widths) {
                paint.text((x + 2, y), *width, &cell(*key, value, row.letter), ratatui::style::Style::new());
                x += width + 2;
            }
            if self.first + line == self.at {
                paint.line(y, paint.chosen());
            }
        }
        if self.shown.is_empty() {
            let none = match (self.filter.is_empty(), doing) {
                (false, _) => "no row has this in it",
                (true, "") => "no samples",
                (true, doing) => doing,
            };
            paint.text((1, top + 1), usize::MAX, none, paint.faint());
        }
    }
}

/// Columns that all keys take, the last with as few as it may have.
fn needed(widths: &[usize]) -> usize {
    let (last, others) = widths.split_last().map_or((0, &[][..]), |(last, others)| (last.min(&LAST) + 2, others));
    last + others.iter().map(|width| width + 2).sum::<usize>()
}

/// Columns of each key: what its rows need, and the last whatever is left of `room`.
fn widths(profile: &Profile, rows: &[(usize, &Row)], room: usize) -> Vec<usize> {
    /// Names of threads have 15 letters, other columns are cut here.
    const MOST: usize = 24;
    /// No column is cut further, however little room there is.
    const FEWEST: usize = 8;
    let last = profile.keys.len().saturating_sub(1);
    let width = |at: usize, key: &Column| {
        if at == last {
            return usize::from(u16::MAX);
        }
        // Text is not counted further than it is shown.
        let of = |row: &&(usize, &Row)| match row.1.values.get(at) {
            Some(Value::Text(text)) => text.chars().take(MOST).count(),
            Some(value) => value.to_string().len(),
            None => 0,
        };
        rows.iter().map(|row| of(&row)).max().unwrap_or(0).max(key.heading().len()).min(MOST)
    };
    let mut widths: Vec<usize> = profile.keys.iter().enumerate().map(|(at, key)| width(at, key)).collect();
    while needed(&widths) > room {
        let widest = widths.iter_mut().rev().skip(1).max_by_key(|width| **width);
        match widest.filter(|width| **width > FEWEST) {
            Some(width) => *width -= 1,
            None => break,
        }
    }
    widths
}

fn cell(key: Column, value: &Value, letter: char) -> String {
    match (key, value) {
        (Column::Symbol, Value::Text(name)) => format!("[{letter}] {}", start(name)),
        (Column::Symbol, value) => format!("[{letter}] {value}"),
        (_, Value::Text(text)) => start(text).to_owned(),
        (_, value) => value.to_string(),
    }
}

/// As much of a name as any terminal shows.
fn start(name: &str) -> &str {
    name.char_indices().nth(2000).map_or(name, |(at, _)| &name[..at])
}
