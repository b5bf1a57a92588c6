//! The screens of `top` and of `report --tui`: what they show, what keys do, and how they are drawn.
//!
//! One [`State`], one [`State::key`], one [`State::draw`], and no input or output: a host gives keys and pages, and draws the
//! buffer. What a screen wants to show is an [`Ask`]; the host answers it when it can, and again whenever the samples
//! change. So nothing here waits, and everything can be tested by keys.

mod calls;
mod code;
mod flame;
mod help;
mod keys;
mod paint;
mod table;
mod timeline;

use xprof_profile::profile::{Calls, Cut, Key as Column, Lanes, Profile, RowOf, Value};

pub use keys::{Action, Key};
pub use timeline::LanesOf;

use crate::annotate::View;
use crate::flame::Graph;
use calls::CallsScreen;
use code::CodeScreen;
use flame::FlameScreen;
use table::{Grouping, TableScreen};
use timeline::TimelineScreen;

/// What is there to be shown, and how the terminal can show it.
#[derive(Clone, Debug, Default)]
pub struct Able {
    /// Colours; without them there are still bold and reversed letters.
    pub color: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
    /// Samples are still coming: they can be frozen and set to zero.
    pub live: bool,
    /// Samples have call chains.
    pub chains: bool,
    /// Samples are of domains.
    pub domains: bool,
    /// Functions that were compiled into others are shown, until a key says otherwise.
    pub inline: bool,
    /// What rows are made of.
    pub keys: Vec<Column>,
}

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// What is looked at: a file, a target.
    pub title: String,
    /// Samples of all events.
    pub samples: u64,
    /// Samples a second, while they come.
    pub rate: Option<f64>,
    /// Records that were lost.
    pub lost: u64,
    /// What xprof itself uses, percent of a CPU.
    pub cost: Option<f64>,
    /// What goes on: `reading 40 %`, `ended`.
    pub doing: String,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// What a screen wants to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Rows with these keys, of the samples of which all this holds.
    Table {
        /// The keys.
        keys: Vec<Column>,
        /// What holds.
        within: Vec<(Column, Value)>,
    },
    /// The calls around a row.
    Calls {
        /// The row.
        row: RowOf,
        /// With functions that were compiled into others.
        inline: bool,
    },
    /// The flame graph of an event.
    Flame {
        /// Index of the event.
        event: usize,
        /// What holds of its samples.
        within: Vec<(Column, Value)>,
        /// With functions that were compiled into others.
        inline: bool,
    },
    /// The instructions of a function.
    Code {
        /// Short name of its module.
        dso: String,
        /// Its name.
        symbol: String,
        /// Instructions, source lines, or both.
        view: View,
    },
    /// What was done when.
    Timeline {
        /// Index of the event.
        event: usize,
        /// What lanes are of.
        of: LanesOf,
        /// Which part of the time, in how many steps; samples that come are not cut.
        cut: Cut,
    },
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug)]
pub enum Page {
    /// Rows; the trail of a row is its weight in each of the last slices (by event and row; empty for files).
    Table {
        /// The rows.
        profile: Profile,
        /// Their trails.
        trails: Vec<Vec<Vec<u64>>>,
    },
    /// Calls; `None` when there is no such row any more.
    Calls(Option<Box<Calls>>),
    /// A flame graph.
    Flame(Graph),
    /// Lines, each with its share of the function's samples, percent.
    Code(Vec<(f64, String)>),
    /// Lanes, and why there are none.
    Timeline(Lanes, String),
}

/// One screen; others lie below it.
#[derive(Debug)]
enum Screen {
    Table(TableScreen),
    Calls(CallsScreen),
    Flame(FlameScreen),
    Code(CodeScreen),
    Timeline(TimelineScreen),
}

/// Everything that the screens know.
#[derive(Debug)]
pub struct State {
    able: Able,
    status: Status,
    /// The last is seen.
    screens: Vec<Screen>,
    /// Text that is being typed after `/`.
    typing: Option<String>,
    /// What is said in the last line until the next key.
    message: String,
    help: bool,
    frozen: bool,
    /// A key was pressed: notes have been seen, and the last line says what keys do.
    noted: bool,
    /// Rows that a page has, as of the last drawing.
    height: usize,
}

impl State {
    /// A table, still empty.
    pub fn new(able: Able, title: &str) -> State {
        let status = Status { title: title.into(), ..Status::default() };
        let screens = vec![Screen::Table(TableScreen::new(Grouping::Usual, Vec::new()))];
        State {
            able,
            status,
            screens,
            typing: None,
            message: String::new(),
            help: false,
            frozen: false,
            noted: false,
            height: 1,
        }
    }

    /// What is to be shown.
    pub fn ask(&self) -> Ask {
        match self.screens.last() {
            Some(Screen::Calls(calls)) => Ask::Calls { row: calls.row.clone(), inline: self.able.inline },
            Some(Screen::Flame(flame)) => {
                Ask::Flame { event: flame.event, within: flame.within.clone(), inline: self.able.inline }
            }
            Some(Screen::Code(code)) => {
                Ask::Code { dso: code.dso.clone(), symbol: code.symbol.clone(), view: code.view }
            }
            Some(Screen::Timeline(timeline)) => {
                Ask::Timeline { event: timeline.event, of: timeline.of, cut: timeline.cut() }
            }
            Some(Screen::Table(table)) => {
                Ask::Table { keys: table.grouping.keys(&self.able), within: table.within.clone() }
            }
            None => Ask::Table { keys: Vec::new(), within: Vec::new() },
        }
    }

    /// Takes the answer to an ask; one that is not asked any more is passed over.
    pub fn give(&mut self, ask: &Ask, page: Page) {
        if *ask != self.ask() {
            return;
        }
        match (self.screens.last_mut(), page) {
            (Some(Screen::Table(table)), Page::Table { profile, trails }) => table.take(profile, trails),
            (Some(Screen::Calls(calls)), Page::Calls(page)) => calls.take(page),
            (Some(Screen::Flame(flame)), Page::Flame(graph)) => flame.take(graph),
            (Some(Screen::Code(code)), Page::Code(lines)) => code.take(lines),
            (Some(Screen::Timeline(timeline)), Page::Timeline(lanes, why)) => timeline.take(lanes, why),
            _ => {}
        }
    }

    /// Takes what the first line says.
    pub fn set_status(&mut self, status: Status) {
        self.status = status;
    }

    /// Says something until the next key.
    fn say(&mut self, message: &str) {
        self.message = message.into();
    }
}

#[cfg(test)]
mod tests;
