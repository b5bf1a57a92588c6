//! What is around the screens: the first lines, the last line, and the help.

use ratatui::buffer::Buffer;
use ratatui::style::Style;

use super::paint::Paint;
use super::{Able, Screen, State};

/// Keys and what they do; those of `top` alone are marked.
const KEYS: [(&str, &str, bool); 20] = [
    ("up down j k", "choose a row; PgUp PgDn Home End g G too", false),
    ("Enter", "callers and callees; into a process or a domain; open a node; zoom", false),
    ("Esc", "back", false),
    ("f", "flame graph", false),
    ("a", "instructions of the chosen function; v: source lines; n: the next hot line", false),
    ("t", "timeline: what vCPUs, CPUs, domains, programs did when; v: of which", false),
    ("p", "processes, and back", false),
    ("d", "domains, and back", false),
    ("s", "sort: by all samples, by its own, by name", false),
    ("/", "filter rows; search in trees, graphs and code", false),
    ("e Tab", "the next event", false),
    ("left right", "in trees: close, open; in flame graphs: beside", false),
    ("+ -", "in timelines: closer, farther; left right: beside", false),
    ("i", "in flame graphs: upside down", false),
    ("I", "in trees and flame graphs: functions compiled into others, or not", false),
    ("space", "freeze, and go on", true),
    ("z", "set to zero", true),
    ("?", "this", false),
    ("q", "quit", false),
    ("", "Letters before symbols: k kernel, . user, g u of a guest, H hypervisor", false),
];

impl State {
    /// Draws everything into a buffer of any size.
    pub fn draw(&mut self, buffer: &mut Buffer) {
        let able = self.able.clone();
        let mut paint = Paint::new(buffer, &able);
        let height = paint.height();
        // Where there is little room the rows come first.
        let (head, foot) = match height {
            0..4 => (0, 0),
            4..8 => (1, 0),
            _ => (2, 1),
        };
        let room = height.saturating_sub(head + foot);
        self.height = room.saturating_sub(1).max(1);
        if head > 0 {
            let style = paint.bold();
            paint.text((0, 0), usize::MAX, &self.first_line(), style);
        }
        if head > 1 {
            let about = match self.screens.last() {
                Some(Screen::Table(table)) => table.about(),
                Some(Screen::Calls(calls)) => calls.about(),
                Some(Screen::Flame(flame)) => flame.about(),
                Some(Screen::Code(code)) => code.about(),
                Some(Screen::Timeline(timeline)) => timeline.about(),
                None => String::new(),
            };
            paint.text((0, 1), usize::MAX, &about, paint.faint());
        }
        let place = (head, room);
        if self.help {
            help(&mut paint, place, &able, &self.status.notes);
        } else {
            let doing = &self.status.doing;
            match self.screens.last_mut() {
                Some(Screen::Table(table)) => table.draw(&mut paint, place, doing),
                Some(Screen::Calls(calls)) => calls.draw(&mut paint, place, doing),
                Some(Screen::Flame(flame)) => flame.draw(&mut paint, place, doing),
                Some(Screen::Code(code)) => code.draw(&mut paint, place, doing),
                Some(Screen::Timeline(timeline)) => timeline.draw(&mut paint, place, doing),
                None => {}
            }
        }
        if foot > 0 {
            self.last_line(&mut paint, height - 1);
        } else if let Some(text) = &self.typing {
            // What is typed is seen even where there is no room for it.
            let y = height.saturating_sub(1);
            paint.line(y, Style::reset());
            let end = paint.text((0, y), usize::MAX, &format!("/{text}"), Style::new());
            paint.text((end, y), usize::MAX, " ".repeat(500).as_str(), Style::new());
        }
    }

    fn first_line(&self) -> String {
        let status = &self.status;
        // First, where it is seen on the narrowest screen: what stands still must not look live.
        let mut parts: Vec<String> = self.frozen.then(|| "FROZEN".to_owned()).into_iter().collect();
        parts.extend([status.title.clone(), format!("{} samples", status.samples)]);
        parts.extend(status.rate.map(|rate| format!("{rate:.0}/s")));
        parts.push(format!("{} lost", status.lost));
        parts.extend(status.cost.map(|cost| format!("xprof {cost:.1}% CPU")));
        parts.extend((!status.doing.is_empty()).then(|| status.doing.clone()));
        parts.join("  ")
    }

    fn last_line(&self, paint: &mut Paint<'_>, y: usize) {
        if let Some(text) = &self.typing {
            let end = paint.text((0, y), usize::MAX, &format!("/{text}"), Style::new());
            paint.text((end, y), 1, " ", paint.chosen());
        } else if !self.message.is_empty() {
            paint.text((0, y), usize::MAX, &self.message, paint.bold());
        } else if let Some(note) = self.status.notes.first().filter(|_| !self.noted) {
            let more = match self.status.notes.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            paint.text((0, y), usize::MAX, &format!("{note}{more}"), paint.faint());
        } else {
            let of_screen = match self.screens.last() {
                Some(Screen::Table(_)) => "Enter look into  f flame graph  a code  t timeline  s sort  / filter",
                Some(Screen::Calls(_)) => "Enter open  a code  f flame graph  / search  Esc back",
                Some(Screen::Flame(_)) => "arrows choose  Enter zoom  i turn  / search  Esc back",
                Some(Screen::Code(_)) => "n next hot line  v source  / search  Esc back",
                Some(Screen::Timeline(_)) if self.able.live => "arrows choose  v of what  e event  Esc back",
                Some(Screen::Timeline(_)) => "arrows choose  + closer  - farther  v of what  e event  Esc back",
                None => "",
            };
            let live = if self.able.live { "  space freeze" } else { "" };
            paint.text((0, y), usize::MAX, &format!("? help  q quit  {of_screen}{live}"), paint.faint());
        }
    }
}

fn help(paint: &mut Paint<'_>, (top, height): (usize, usize), able: &Able, notes: &[String]) {
    let keys = KEYS.iter().filter(|(_, _, live)| able.live || !live);
    let below = top + keys.clone().count();
    for (y, note) in (below..top + height).zip(notes) {
        paint.text((1, y), usize::MAX, note, paint.faint());
    }
    for (y, (key, what, _)) in keys.take(height).enumerate() {
        paint.text((1, top + y), 12, key, paint.bold());
        let x = if key.is_empty() { 1 } else { 14 };
        paint.text((x, top + y), usize::MAX, what, Style::new());
    }
}
