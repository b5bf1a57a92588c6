//! Keys and what they do.

use xprof_perfdata::domain::STATES_EVENT;
use xprof_profile::profile::Key as Column;

use super::calls::CallsScreen;
use super::code::CodeScreen;
use super::flame::FlameScreen;
use super::table::{Grouping, TableScreen};
use super::timeline::TimelineScreen;
use super::{Screen, State};

/// A key that was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A letter.
    Char(char),
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Tab.
    Tab,
    /// Ctrl-C.
    Interrupt,
}

/// What the host is to do after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but to draw, and to answer [`State::ask`].
    Draw,
    /// End.
    Quit,
    /// Forget what was counted.
    Zero,
    /// Count no more (true), or again.
    Freeze(bool),
}

/// A way along a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    By(isize),
    First,
    Last,
}

impl Step {
    /// The place in a list of `len` after a step.
    pub(super) fn from(self, at: usize, len: usize) -> usize {
        let last = len.saturating_sub(1);
        match self {
            Step::By(by) => at.saturating_add_signed(by).min(last),
            Step::First => 0,
            Step::Last => last,
        }
    }
}

impl State {
    /// A key was pressed.
    pub fn key(&mut self, key: Key) -> Action {
        self.message.clear();
        self.noted = true;
        if key == Key::Interrupt {
            return Action::Quit;
        }
        if self.help {
            self.help = false;
            return if key == Key::Char('q') { Action::Quit } else { Action::Draw };
        }
        if self.typing.is_some() {
            self.typed(key);
            return Action::Draw;
        }
        match key {
            Key::Char('q') => return Action::Quit,
            Key::Char('?') | Key::Char('h') => self.help = true,
            Key::Char('/') => self.typing = Some(String::new()),
            Key::Escape | Key::Backspace => self.back(),
            Key::Char('z') if self.able.live => return Action::Zero,
            Key::Char(' ') if self.able.live => {
                self.frozen = !self.frozen;
                return Action::Freeze(self.frozen);
            }
            Key::Char(' ' | 'z') => self.say("a file does not change: there is nothing to freeze or to set to zero"),
            Key::Char('f') => self.open_flame(),
            Key::Char('a') => self.open_code(),
            Key::Char('t') => self.open_timeline(),
            Key::Char('d') if !self.able.domains => {
                self.say("there are no domains here: xprof top --all-domains in dom0")
            }
            Key::Char('I') => {
                self.able.inline = !self.able.inline;
                self.say(if self.able.inline {
                    "trees and flame graphs with functions that were compiled into others"
                } else {
                    "trees and flame graphs without functions that were compiled into others"
                });
            }
            Key::Char('d') => self.group(Grouping::Domains),
            Key::Char('p') => self.group(Grouping::Processes),
            _ => match step(key, self.height) {
                Some(step) => self.walk(step),
                None => self.of_screen(key),
            },
        }
        Action::Draw
    }

    fn walk(&mut self, step: Step) {
        match self.screens.last_mut() {
            Some(Screen::Table(table)) => table.walk(step),
            Some(Screen::Calls(calls)) => calls.walk(step),
            Some(Screen::Flame(flame)) => flame.walk(step),
            Some(Screen::Code(code)) => code.walk(step),
            Some(Screen::Timeline(timeline)) => timeline.walk(step),
            None => {}
        }
    }

    fn of_screen(&mut self, key: Key) {
        match (self.screens.last_mut(), key) {
            (Some(Screen::Table(table)), Key::Char('s')) => table.next_sort(),
            (Some(Screen::Table(table)), Key::Char('e') | Key::Tab) => table.next_event(),
            (Some(Screen::Table(_)), Key::Enter | Key::Right) => self.enter(),
            (Some(Screen::Calls(calls)), Key::Enter) => calls.toggle(),
            (Some(Screen::Calls(calls)), Key::Right) => calls.open(true),
            (Some(Screen::Calls(calls)), Key::Left) => calls.open(false),
            (Some(Screen::Flame(flame)), Key::Left) => flame.beside(false),
            (Some(Screen::Flame(flame)), Key::Right) => flame.beside(true),
            (Some(Screen::Flame(flame)), Key::Enter) => flame.zoom(),
            (Some(Screen::Flame(flame)), Key::Char('i')) => flame.invert(),
            (Some(Screen::Code(code)), Key::Char('n')) => code.next_hot(),
            (Some(Screen::Code(code)), Key::Char('v')) => code.next_view(),
            (Some(Screen::Timeline(timeline)), Key::Left) => timeline.beside(false),
            (Some(Screen::Timeline(timeline)), Key::Right) => timeline.beside(true),
            (Some(Screen::Timeline(timeline)), Key::Char('v')) => timeline.next_of(&self.able),
            (Some(Screen::Timeline(timeline)), Key::Char('e') | Key::Tab) => timeline.next_event(&self.able),
            (Some(Screen::Timeline(_)), Key::Enter | Key::Char('+' | '=' | '-')) if self.able.live => {
                self.say("these are all the seconds that are kept; a recording can be zoomed")
            }
            (Some(Screen::Timeline(timeline)), Key::Enter | Key::Char('+' | '=')) => timeline.zoom(true),
            (Some(Screen::Timeline(timeline)), Key::Char('-')) => timeline.zoom(false),
            _ => self.say("? shows the keys"),
        }
    }

    /// Text after `/`.
    fn typed(&mut self, key: Key) {
        let Some(text) = &mut self.typing else { return };
        match key {
            Key::Char(c) if text.len() < 200 => text.push(c),
            Key::Backspace => {
                text.pop();
            }
            Key::Escape => {
                text.clear();
                self.typing = None;
                return self.filter(String::new());
            }
            Key::Enter => {
                self.typing = None;
                return;
            }
            _ => return,
        }
        let text = text.clone();
        self.filter(text);
    }

    fn filter(&mut self, text: String) {
        match self.screens.last_mut() {
            Some(Screen::Table(table)) => table.set_filter(text),
            Some(Screen::Calls(calls)) => calls.find(text),
            Some(Screen::Flame(flame)) => flame.find(text),
            Some(Screen::Code(code)) => code.find(text),
            Some(Screen::Timeline(timeline)) => timeline.find(text),
            None => {}
        }
    }

    /// Undoes one thing of the screen, or leaves it.
    fn back(&mut self) {
        let undone = match self.screens.last_mut() {
            Some(Screen::Table(table)) => table.undo(),
            Some(Screen::Flame(flame)) => flame.undo(),
            Some(Screen::Timeline(timeline)) => timeline.undo(),
            _ => false,
        };
        if !undone && self.screens.len() > 1 {
            self.screens.pop();
        }
    }

    fn group(&mut self, grouping: Grouping) {
        // Grouping begins at the whole again.
        self.screens.truncate(1);
        if let Some(Screen::Table(table)) = self.screens.last_mut() {
            let next = if table.grouping == grouping { Grouping::Usual } else { grouping };
            *table = TableScreen::new(next, Vec::new()).with_event(table.event);
        }
    }

    fn enter(&mut self) {
        let Some(Screen::Table(table)) = self.screens.last() else { return };
        let Some(row) = table.chosen_row(&self.able) else { return self.say("there is nothing to look into") };
        if table.grouping != Grouping::Usual {
            let of_row = row.keys.iter().copied().zip(row.values);
            let within = row.within.into_iter().chain(of_row).collect();
            let below = TableScreen::new(Grouping::Usual, within).with_event(row.event);
            self.screens.push(Screen::Table(below));
        } else if !self.able.chains {
            self.say("there are no call chains: start with -g, or --call-graph fp");
        } else if !row.keys.contains(&Column::Symbol) {
            self.say("rows without symbols have no callers");
        } else {
            self.screens.push(Screen::Calls(CallsScreen::new(row)));
        }
    }

    fn open_flame(&mut self) {
        let of = |table: &TableScreen| (table.event, table.within.clone());
        let (event, within) = match self.screens.last() {
            Some(Screen::Table(table)) => of(table),
            Some(Screen::Calls(calls)) => (calls.row.event, calls.row.within.clone()),
            _ => return self.say("? shows the keys"),
        };
        self.screens.push(Screen::Flame(FlameScreen::new(event, within)));
        if !self.able.chains {
            self.say("there are no call chains: start with -g, or --call-graph fp");
        }
    }

    /// Of Xen's trace, where it was recorded, else of the event that is seen.
    fn open_timeline(&mut self) {
        let mut tables = self.screens.iter().filter_map(|screen| match screen {
            Screen::Table(table) => Some(table),
            _ => None,
        });
        let events = tables.next_back().map(TableScreen::events).unwrap_or_default();
        let states = events.iter().find(|(_, name)| name == STATES_EVENT).map(|(event, _)| *event);
        let seen = match self.screens.last() {
            Some(Screen::Table(table)) => table.event,
            Some(Screen::Calls(calls)) => calls.row.event,
            Some(Screen::Flame(flame)) => flame.event,
            _ => return self.say("? shows the keys"),
        };
        let timeline = TimelineScreen::new(&self.able, states.unwrap_or(seen), events, states.is_some());
        self.screens.push(Screen::Timeline(timeline));
    }

    fn open_code(&mut self) {
        let named = match self.screens.last() {
            Some(Screen::Table(table)) => table.chosen_function(),
            Some(Screen::Calls(calls)) => calls.chosen_function(),
            _ => None,
        };
        match named {
            Some((dso, symbol)) => self.screens.push(Screen::Code(CodeScreen::new(dso, symbol))),
            None => self.say("only a function with a name has instructions to show"),
        }
    }
}

fn step(key: Key, height: usize) -> Option<Step> {
    let page = isize::try_from(height.saturating_sub(1).max(1)).unwrap_or(1);
    Some(match key {
        Key::Up | Key::Char('k') => Step::By(-1),
        Key::Down | Key::Char('j') => Step::By(1),
        Key::PageUp => Step::By(-page),
        Key::PageDown => Step::By(page),
        Key::Home | Key::Char('g') => Step::First,
        Key::End | Key::Char('G') => Step::Last,
        _ => return None,
    })
}
