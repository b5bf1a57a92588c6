//! A timeline: a lane for each vCPU, CPU, domain or program, time from left to right.
//!
//! A lane is one line. A letter is a step of time: of Xen's trace the state that had most of it, of samples how many there were.

use ratatui::style::Style;
use xprof_perfdata::domain::{RunState, STATES_EVENT};
use xprof_profile::profile::{Cut, Key as Column, Lane, Lanes, Steps, Value};

use super::Able;
use super::keys::Step;
use super::paint::{Paint, percent, scroll};

/// Columns of time before the first drawing.
const COLUMNS: usize = 60;
/// Columns of a lane's name, and of its sums, which are left out where there is little room.
const NAME: usize = 24;
const SUMS: usize = 14;
const SUMS_FROM: usize = 60;
/// A vCPU that was doing something for less than this part of a step is drawn as asleep.
const SOME: u64 = 16;

/// What lanes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanesOf {
    /// vCPUs of domains.
    Vcpus,
    /// CPUs.
    Cpus,
    /// Domains.
    Domains,
    /// Processes of a name.
    Programs,
}

impl LanesOf {
    /// The keys that tell them apart.
    pub fn keys(self, domains: bool) -> Vec<Column> {
        match self {
            LanesOf::Vcpus => vec![Column::Domain, Column::Vcpu],
            LanesOf::Cpus => vec![Column::Cpu],
            LanesOf::Domains => vec![Column::Domain],
            LanesOf::Programs => domains.then_some(Column::Domain).into_iter().chain([Column::Comm]).collect(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            LanesOf::Vcpus => "vCPU",
            LanesOf::Cpus => "CPU",
            LanesOf::Domains => "domain",
            LanesOf::Programs => "program",
        }
    }

    /// What there is to choose from. Of samples that come no CPUs are kept; a pCPU is in no state.
    fn all(able: &Able, states: bool) -> &'static [LanesOf] {
        match (able.domains, able.live, states) {
            (true, true, _) => &[LanesOf::Domains, LanesOf::Programs],
            (false, true, _) => &[LanesOf::Programs],
            (_, _, true) => &[LanesOf::Vcpus, LanesOf::Domains],
            (true, ..) => &[LanesOf::Vcpus, LanesOf::Cpus, LanesOf::Domains, LanesOf::Programs],
            (false, ..) => &[LanesOf::Cpus, LanesOf::Programs],
        }
    }

    fn label(self, of: &[Value]) -> String {
        let text = |value: &Value| match value {
            Value::Number(..0) => "not recorded".to_owned(),
            value => value.to_string(),
        };
        match (self, of) {
            (LanesOf::Vcpus, [domain, Value::Number(..0)]) => text(domain),
            (LanesOf::Vcpus, [domain, vcpu]) => format!("{} vCPU {}", text(domain), text(vcpu)),
            (LanesOf::Cpus, [cpu]) => format!("CPU {}", text(cpu)),
            (_, of) => of.iter().map(text).collect::<Vec<_>>().join(" "),
        }
    }
}

/// A timeline, and where one is in it.
#[derive(Debug)]
pub(super) struct TimelineScreen {
    /// Index of the event, of those in `events` (index, name).
    pub(super) event: usize,
    events: Vec<(usize, String)>,
    pub(super) of: LanesOf,
    /// The part that is seen; `None`: all of it.
    window: Option<(u64, u64)>,
    /// Columns of time.
    columns: usize,
    page: Option<(Lanes, String)>,
    /// Indices of the lanes that are shown, the chosen one's place among them, and the column.
    shown: Vec<usize>,
    at: usize,
    column: usize,
    first: usize,
    wanted: String,
}

impl TimelineScreen {
    /// Of an event; `events` are those that have samples. `states`: it is Xen's trace.
    pub(super) fn new(able: &Able, event: usize, events: Vec<(usize, String)>, states: bool) -> TimelineScreen {
        TimelineScreen {
            event,
            events,
            of: LanesOf::all(able, states)[0],
            window: None,
            columns: COLUMNS,
            page: None,
            shown: Vec::new(),
            at: 0,
            column: COLUMNS / 2,
            first: 0,
            wanted: String::new(),
        }
    }

    pub(super) fn cut(&self) -> Cut {
        Cut { steps: self.columns, window: self.window }
    }

    /// `why`: why there are none.
    pub(super) fn take(&mut self, lanes: Lanes, why: String) {
        self.page = Some((lanes, why));
        self.arrange();
    }

    fn arrange(&mut self) {
        let Some((lanes, _)) = &self.page else { return };
        let is_shown =
            |lane: &Lane| self.wanted.is_empty() || self.of.label(&lane.of).to_lowercase().contains(&self.wanted);
        self.shown = (0..lanes.rows.len()).filter(|&at| is_shown(&lanes.rows[at])).collect();
        self.at = self.at.min(self.shown.len().saturating_sub(1));
    }

    fn lanes(&self) -> Option<&Lanes> {
        self.page.as_ref().map(|(lanes, _)| lanes)
    }

    fn has_states(&self) -> bool {
        self.lanes().is_some_and(|lanes| lanes.rows.iter().any(|lane| matches!(lane.steps, Steps::States(_))))
    }

    pub(super) fn walk(&mut self, step: Step) {
        self.at = step.from(self.at, self.shown.len());
    }

    pub(super) fn next_of(&mut self, able: &Able) {
        let all = LanesOf::all(able, self.has_states());
        let here = all.iter().position(|of| *of == self.of).unwrap_or(0);
        self.of = all[(here + 1) % all.len()];
        self.at = 0;
    }

    pub(super) fn next_event(&mut self, able: &Able) {
        let here = self.events.iter().position(|(event, _)| *event == self.event).unwrap_or(0);
        let Some((event, name)) = self.events.get((here + 1) % self.events.len().max(1)) else { return };
        let of = LanesOf::all(able, name == STATES_EVENT);
        // The time that is looked at stays.
        (self.event, self.page) = (*event, None);
        self.of = if of.contains(&self.of) { self.of } else { of[0] };
    }

    /// Goes a column to the left or right; at the edge half of the picture goes.
    pub(super) fn beside(&mut self, right: bool) {
        let last = self.columns.saturating_sub(1);
        match (right, self.column) {
            (true, at) if at < last => self.column += 1,
            (false, 1..) => self.column -= 1,
            _ => self.scroll(right),
        }
    }

    fn scroll(&mut self, right: bool) {
        let (Some((from, to)), Some((first, last))) = (self.window, self.lanes().map(|lanes| lanes.whole)) else {
            return;
        };
        let half = to.saturating_sub(from) / 2;
        let by = if right { half.min(last.saturating_sub(to)) } else { half.min(from.saturating_sub(first)) };
        let span = to.saturating_sub(from).max(1);
        let columns = (u128::from(by) * self.columns as u128 / u128::from(span)) as usize;
        if right {
            self.window = Some((from + by, to + by));
            self.column = self.column.saturating_sub(columns);
        } else {
            self.window = Some((from - by, to - by));
            self.column = (self.column + columns).min(self.columns.saturating_sub(1));
        }
    }

    /// Shows half of the time, around the column, or twice.
    pub(super) fn zoom(&mut self, closer: bool) {
        let Some(lanes) = self.lanes() else { return };
        let (first, last) = lanes.whole;
        let whole = last.saturating_sub(first);
        let (from, to) = self.window.unwrap_or((first, last));
        let span = to.saturating_sub(from);
        let next = if closer { (span / 2).max(self.columns as u64) } else { span.saturating_mul(2) };
        if next >= whole {
            self.window = None;
            return;
        }
        let part = |span: u64| (u128::from(span) * self.column as u128 / self.columns.max(1) as u128) as u64;
        // What the column stands for stays there.
        let from = from.saturating_add(part(span)).saturating_sub(part(next)).clamp(first, last - next);
        self.window = Some((from, from + next));
    }

    pub(super) fn find(&mut self, text: String) {
        self.wanted = text.to_lowercase();
        self.arrange();
    }

    /// Takes the filter or the window away; false when there is neither.
    pub(super) fn undo(&mut self) -> bool {
        if !self.wanted.is_empty() {
            self.find(String::new());
            return true;
        }
        self.window.take().is_some()
    }

    pub(super) fn about(&self) -> String {
        let name = self.events.iter().find(|(event, _)| *event == self.event).map_or("", |(_, name)| name);
        let mut parts = vec![format!("timeline of {name} by {}", self.of.name())];
        if let Some(lanes) = self.lanes().filter(|lanes| !lanes.rows.is_empty()) {
            let (first, last) = lanes.whole;
            let seconds = |time: u64| time.saturating_sub(first) as f64 / 1e9;
            parts.push(format!(
                "{:.3} to {:.3} s of {:.3} s",
                seconds(lanes.from),
                seconds(lanes.end().min(last.saturating_add(lanes.step))),
                seconds(last)
            ));
            parts.push(format!("a step is {}", duration(lanes.step)));
        }
        if !self.wanted.is_empty() {
            parts.push(format!("with {:?}", self.wanted));
        }
        parts.join("  ")
    }

    pub(super) fn draw(&mut self, paint: &mut Paint<'_>, (top, height): (usize, usize), doing: &str) {
        let Some((lanes, why)) = &self.page else {
            let what = if doing.is_empty() { "reading when samples were taken" } else { doing };
            paint.text((1, top), usize::MAX, what, paint.faint());
            return;
        };
        if self.shown.is_empty() {
            let what = match (doing, why.as_str()) {
                _ if !lanes.rows.is_empty() => "no lane has this in its name",
                ("", "") => "no samples with times",
                ("", why) => why,
                (doing, _) => doing,
            };
            paint.text((1, top), usize::MAX, what, paint.faint());
            return;
        }
        let width = paint.width();
        let labels: Vec<String> = self.shown.iter().map(|&at| self.of.label(&lanes.rows[at].of)).collect();
        let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let name = longest.min(NAME).min(width / 3);
        let sums = if width >= SUMS_FROM { SUMS } else { 0 };
        let columns = width.saturating_sub(name + 1 + sums).max(1);
        // Where there is little room lanes come first.
        let head = usize::from(height > 2);
        let foot = usize::from(height > 3);
        let rows = height.saturating_sub(head + foot);
        let most = lanes.rows.iter().flat_map(|lane| match &lane.steps {
            Steps::Samples(steps) => &steps[..],
            Steps::States(_) => &[],
        });
        let most = most.copied().max().unwrap_or(0);
        let has_states = lanes.rows.iter().any(|lane| matches!(lane.steps, Steps::States(_)));
        if head > 0 {
            if has_states {
                let mut x = name + 1;
                for (state, word) in STATES {
                    let (letter, style) = paint.state(Some((state, 1, 1)));
                    x = paint.text((x, top), usize::MAX, &letter.to_string(), style);
                    x = paint.text((x, top), usize::MAX, &format!(" {word}  "), paint.faint());
                }
                paint.right((width.saturating_sub(sums), top), sums, "run   wait", paint.faint());
            } else {
                paint.text((name + 1, top), usize::MAX, &format!("the highest step has {most}"), paint.faint());
                paint.right((width.saturating_sub(sums), top), sums, "all", paint.faint());
            }
        }
        let whole: u64 = lanes.rows.iter().map(|lane| lane.steps.sums()[0]).fold(0, u64::saturating_add);
        self.first = scroll(self.first.min(labels.len().saturating_sub(rows)), self.at, rows);
        self.column = self.column.min(columns - 1);
        for (line, (place, label)) in labels.iter().enumerate().skip(self.first).take(rows).enumerate() {
            let (y, lane) = (top + head + line, &lanes.rows[self.shown[place]]);
            paint.text((0, y), name, label, Style::new());
            let letters: Vec<(char, Style)> = (0..columns)
                .map(|column| match &lane.steps {
                    Steps::States(steps) => paint.state(foremost(&states(steps, (column, columns)))),
                    Steps::Samples(steps) => paint.bar(samples(steps, (column, columns)), most),
                })
                .collect();
            let mut x = name + 1;
            for part in letters.chunk_by(|a, b| a.1 == b.1) {
                let text: String = part.iter().map(|(letter, _)| letter).collect();
                x = paint.text((x, y), part.len(), &text, part[0].1);
            }
            if sums > 0 {
                let of = lane.steps.sums();
                let text = match &lane.steps {
                    Steps::States(_) => {
                        let all = of.iter().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
                        let share = |state: RunState| percent(of[state as usize], all);
                        format!("{:.1}% {:5.1}%", share(RunState::Running), share(RunState::Runnable))
                    }
                    Steps::Samples(_) => format!("{:.1}%", percent(of[0], whole)),
                };
                paint.right((width - sums, y), sums, &text, Style::new());
            }
            if place == self.at {
                paint.span((0, y), name, paint.chosen());
                paint.span((name + 1 + self.column, y), 1, paint.chosen());
            }
        }
        if foot > 0 {
            let lane = &lanes.rows[self.shown[self.at]];
            let span = u128::from(lanes.end().saturating_sub(lanes.from));
            let time = lanes.from.saturating_add((span * self.column as u128 / columns as u128) as u64);
            let at = format!("{:.6} s  {}  ", time.saturating_sub(lanes.whole.0) as f64 / 1e9, labels[self.at]);
            let what = said(lane, (self.column, columns));
            paint.text((0, top + height - 1), usize::MAX, &(at + &what), paint.bold());
        }
        self.columns = columns;
    }
}

/// The states, in the order of the legend.
const STATES: [(RunState, &str); 4] = [
    (RunState::Running, "running"),
    (RunState::Runnable, "waiting"),
    (RunState::Offline, "paused"),
    (RunState::Blocked, "blocked"),
];

/// What is drawn of a step: the state that had most of it, its ns, and those of all; asleep is who did next to nothing.
fn foremost(step: &[u64; 4]) -> Option<(RunState, u64, u64)> {
    let all = step.iter().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
    if all == 0 {
        return None;
    }
    let awake = [RunState::Running, RunState::Runnable, RunState::Offline].map(|state| (state, step[state as usize]));
    let does = awake.iter().fold(0, |sum: u64, (_, ns)| sum.saturating_add(*ns));
    let most = awake.into_iter().rev().max_by_key(|(_, ns)| *ns).filter(|_| does >= all / SOME && does > 0);
    let (state, ns) = most.unwrap_or((RunState::Blocked, step[RunState::Blocked as usize]));
    Some((state, ns, all))
}

/// The steps that a column of so many stands for: one, but for pages that were made for another width.
fn steps_of<T>(steps: &[T], (column, columns): (usize, usize)) -> &[T] {
    let place = |column: usize| column * steps.len() / columns.max(1);
    let from = place(column);
    steps.get(from..place(column + 1).max(from + 1)).unwrap_or(&[])
}

fn samples(steps: &[u64], column: (usize, usize)) -> u64 {
    steps_of(steps, column).iter().copied().max().unwrap_or(0)
}

fn states(steps: &[[u64; 4]], column: (usize, usize)) -> [u64; 4] {
    Steps::States(steps_of(steps, column).to_vec()).sums()
}

/// What was in a column of a lane, in words.
fn said(lane: &Lane, column: (usize, usize)) -> String {
    match &lane.steps {
        Steps::Samples(steps) => format!("{} in the step", samples(steps, column)),
        Steps::States(steps) => {
            let step = states(steps, column);
            let all = step.iter().fold(0, |sum: u64, ns| sum.saturating_add(*ns));
            let share = |(state, word): &(RunState, &str)| {
                let ns = step[*state as usize];
                (ns > 0).then(|| format!("{word} {:.0}%", percent(ns, all)))
            };
            let list: Vec<String> = STATES.iter().filter_map(share).collect();
            if list.is_empty() { "not known".to_owned() } else { list.join(", ") }
        }
    }
}

/// A length of time in a unit that fits.
fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
