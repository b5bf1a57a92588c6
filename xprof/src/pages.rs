//! The pages of the screens, made of a view of a profile.

use xprof_profile::profile::{Cut, Key, Lanes, Stacks, View, has_domains};
use xprof_profile::symbols::Symbolizer;
use xprof_ui::annotate;
use xprof_ui::flame::Graph;
use xprof_ui::screen::{Ask, Page, Status};

use crate::commands::annotate::{annotate as lay, locate};
use crate::reading::{Filled, Opened, damage};
use crate::screen::{Desk, News, Request};
use crate::stacks::untimed;
use crate::terminal;

/// What the samples have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Has {
    /// Tables have a children column.
    pub(crate) children: bool,
    /// They are of domains.
    pub(crate) domains: bool,
}

/// Reads a recording and makes pages of it, until nobody looks any more.
/// `again`: opens the recording once more.
pub(crate) fn of_recording<'a>(
    opened: Opened<'a>,
    again: &dyn Fn() -> anyhow::Result<Opened<'a>>,
    (keys, children): (&[Key], bool),
    title: &str,
    desk: &Desk,
) -> anyhow::Result<()> {
    let mut status = Status { title: format!("xprof report: {title}"), ..Status::default() };
    let mut tell = |change: &dyn Fn(&mut Status)| {
        change(&mut status);
        let _ = desk.news.send(News::Status(status.clone()));
    };
    tell(&|status| status.doing = "reading the recording".into());
    // Processes are told apart whatever rows are shown first.
    let all_keys = [keys, &[Key::Comm, Key::Pid, Key::Dso, Key::Symbol]].concat();
    let (chains, mut notes) = (opened.has_chains(), Vec::new());
    let has = Has { children, domains: has_domains(&opened.description) };
    let Filled { builder, symbolizer, events, .. } = opened.fill(&all_keys, chains, &mut notes)?;
    tell(&|status| status.doing = "looking up names".into());
    let mut named = builder.name(&events, &symbolizer);
    let mut inlined = false;
    let mut timed: Option<Timed> = None;
    for (nth, request) in desk.requests.iter().enumerate() {
        // Only the newest is still wanted.
        let Some(Request::Show(ask)) = std::iter::once(request).chain(desk.requests.try_iter()).last() else {
            continue;
        };
        if !inlined && wants_inlined(&ask) {
            inlined = true;
            tell(&|status| status.doing = "looking up functions that were compiled into others".into());
            named.inline(&symbolizer);
        }
        if timed.is_none() && matches!(ask, Ask::Timeline { .. }) {
            tell(&|status| status.doing = "reading when samples were taken".into());
            timed = Some(Timed::read(again, has));
        }
        let page = match (&ask, &timed) {
            (Ask::Timeline { event, of, cut }, Some(timed)) => timed.page(*event, &of.keys(has.domains), *cut),
            _ => page(&named.view(), &ask, has, &symbolizer),
        };
        if let (0, Page::Table { profile, .. }) = (nth, &page) {
            notes.extend(damage(profile.damaged));
            notes.extend(profile.unnamed.first().map(|u| format!("{} samples without names: {}", u.samples, u.advice)));
            tell(&|status| {
                status.samples = profile.events.iter().map(|event| event.samples).sum();
                status.lost = profile.events.iter().map(|event| event.lost).sum();
                status.notes.clone_from(&notes);
            });
        }
        let _ = desk.news.send(News::Page(ask, Box::new(page)));
        tell(&|status| status.doing.clear());
    }
    Ok(())
}

/// The samples one by one, for timelines. Nobody else wants their times, which take 24 bytes each: so the recording is read once more for the first timeline.
struct Timed {
    stacks: Option<Stacks>,
    /// What is missing.
    why: String,
}

impl Timed {
    fn read<'a>(again: &dyn Fn() -> anyhow::Result<Opened<'a>>, has: Has) -> Timed {
        let read = || {
            let mut opened = again()?;
            opened.times = true;
            let domain: &[Key] = if has.domains { &[Key::Domain, Key::Vcpu] } else { &[] };
            let keys = [domain, &[Key::Cpu, Key::Comm, Key::Symbol]].concat();
            let Filled { mut builder, symbolizer, events, .. } = opened.fill(&keys, false, &mut Vec::new())?;
            Ok(builder.stacks(&events, &symbolizer, false))
        };
        match read() {
            Ok(stacks) => Timed { why: untimed(stacks.untimed).unwrap_or_default(), stacks: Some(stacks) },
            Err(error) => {
                let error: anyhow::Error = error;
                Timed { stacks: None, why: format!("{error:#}") }
            }
        }
    }

    fn page(&self, event: usize, by: &[Key], cut: Cut) -> Page {
        let of = |stacks: &Stacks| Some(stacks.lanes(stacks.events.get(event)?, by, cut));
        Page::Timeline(self.stacks.as_ref().and_then(of).unwrap_or_default(), self.why.clone())
    }
}

/// Whether an ask is of functions that were compiled into others, too.
pub(crate) fn wants_inlined(ask: &Ask) -> bool {
    matches!(ask, Ask::Calls { inline: true, .. } | Ask::Flame { inline: true, .. })
}

/// Answers an ask.
pub(crate) fn page(view: &View<'_>, ask: &Ask, has: Has, symbolizer: &Symbolizer) -> Page {
    match ask {
        Ask::Table { keys, within } => {
            Page::Table { profile: view.table(keys, within, has.children), trails: Vec::new() }
        }
        Ask::Calls { row, inline } => Page::Calls(view.calls(row, *inline).map(Box::new)),
        Ask::Flame { event, within, inline } => {
            // Domains and threads stand outermost; the last key is the leaf's.
            let domain = has.domains.then_some(Key::Domain);
            let keys: Vec<Key> = domain.into_iter().chain([Key::Comm, Key::Symbol]).collect();
            let stacks = view.stacks(&keys, within, *inline);
            let event = stacks.events.get(*event);
            Page::Flame(event.map_or_else(Graph::default, |event| Graph::new(&stacks, event, None)))
        }
        // Of times a view knows nothing.
        Ask::Timeline { .. } => Page::Timeline(Lanes::default(), String::new()),
        Ask::Code { dso, symbol, view: of } => {
            let mut annotated = lay(view.functions(dso, symbol), symbolizer, 0.0);
            let mut notes = Vec::new();
            if *of != annotate::View::Assembly {
                notes.extend(locate(&mut annotated, symbolizer));
            }
            let options = annotate::Options { view: *of, color: false, unicode: terminal::shows_unicode(), notes };
            let mut text = String::new();
            annotate::text(&annotated, &options, &mut text);
            // A line begins with its share of the function's samples.
            let share = |line: &str| line.get(..10).and_then(|share| share.trim().parse().ok()).unwrap_or(0.0);
            Page::Code(text.lines().map(|line| (share(line), line.to_owned())).collect())
        }
    }
}
