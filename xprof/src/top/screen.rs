//! `xprof top` on a terminal: pages of the samples of the last refreshes, while they come.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use xprof_profile::profile::{Lane, Lanes, Live, Row, SLICES, Snapshot, Steps};
use xprof_profile::symbols::Symbolizer;
use xprof_ui::screen::{Ask, Page, Status};

use super::collect::{Collector, Paused};
use super::cost::Cost;
use super::inlined::Inliner;
use crate::pages::{Has, page, wants_inlined};
use crate::screen::{Desk, News, Request, wait_for};

/// Refreshes that a row is the sum of.
pub(crate) const WINDOW: usize = 10;

/// Most rows of a table: nobody walks further.
const ROWS: usize = 5000;

/// How samples are shown while they come.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) title: String,
    /// Slices end no faster than they did: of a recording that is replayed.
    pub(crate) paced: bool,
    pub(crate) has: Has,
}

/// Makes pages until nobody looks any more.
pub(crate) fn work(mut collector: Collector, shown: Shown, desk: Desk) -> anyhow::Result<()> {
    let Desk { requests, news } = desk;
    let symbolizer = collector.symbolizer.clone();
    let status = Status { doing: "collecting samples".into(), ..Status::default() };
    let inliner = Inliner::new(symbolizer.clone());
    let mut maker = Maker {
        shown,
        symbolizer,
        news,
        ask: None,
        inliner,
        cost: Cost::begin(),
        slice: Duration::ZERO,
        due: None,
        status,
    };
    loop {
        maker.status.notes.clone_from(&collector.notes);
        let paused = collector.until(&requests, &mut |live, length| maker.at_cut((live, length), &requests))?;
        match paused {
            Paused::Given(request) => maker.obey(request, &mut collector.live),
            Paused::Enough => return Ok(()),
            Paused::Over => break,
        }
    }
    collector.finish(&mut |live, length| maker.at_cut((live, length), &requests))?;
    maker.status.notes.clone_from(&collector.notes);
    maker.status.doing = "ENDED".into();
    (maker.status.rate, maker.status.cost) = (None, None);
    maker.tell(&collector.live);
    while let Ok(request) = maker.inliner.wait_for(&requests) {
        match request {
            Some(request) => maker.obey(request, &mut collector.live),
            None => maker.answer(&mut collector.live),
        }
    }
    Ok(())
}

/// The trails of an event's rows as lanes, by name; the newest slice is the last step.
fn lanes(Snapshot { profile, mut trails }: Snapshot, event: usize, slice: Duration) -> Page {
    let (Some(of), Some(trails)) = (profile.events.into_iter().nth(event), trails.get_mut(event)) else {
        return Page::Timeline(Lanes::default(), String::new());
    };
    let steps = trails.iter().map(Vec::len).max().unwrap_or(0);
    let lane = |(row, trail): (Row, &mut Vec<u64>)| {
        let before = std::iter::repeat_n(0, steps - trail.len());
        Lane { of: row.values, steps: Steps::Samples(before.chain(trail.drain(..)).collect()) }
    };
    let mut rows: Vec<Lane> = of.rows.into_iter().zip(trails).map(lane).collect();
    rows.sort_by(|a, b| a.of.cmp(&b.of));
    let step = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX).max(1);
    let whole = (0, step.saturating_mul(steps as u64));
    Page::Timeline(Lanes { from: 0, step, whole, rows }, String::new())
}

/// Makes pages.
struct Maker {
    shown: Shown,
    symbolizer: Symbolizer,
    news: crossbeam_channel::Sender<News>,
    ask: Option<Ask>,
    inliner: Inliner,
    cost: Cost,
    /// How long the last slice was.
    slice: Duration,
    /// When the next slice may end.
    due: Option<Instant>,
    status: Status,
}

impl Maker {
    fn at_cut(
        &mut self,
        (live, length): (&mut Live, Duration),
        requests: &crossbeam_channel::Receiver<Request>,
    ) -> ControlFlow<()> {
        let seconds = length.as_secs_f64().max(1e-3);
        self.slice = length;
        self.status.doing.clear();
        self.status.rate = Some(live.samples(1) as f64 / seconds);
        self.status.cost = Some(self.cost.since_last());
        self.tell(live);
        self.answer(live);
        if !self.shown.paced {
            return ControlFlow::Continue(());
        }
        let due = self.due.unwrap_or_else(Instant::now) + length;
        self.due = Some(due.max(Instant::now()));
        loop {
            match wait_for(requests, due) {
                Ok(Some(request)) => self.obey(request, live),
                Ok(None) => return ControlFlow::Continue(()),
                Err(()) => return ControlFlow::Break(()),
            }
        }
    }

    fn tell(&mut self, live: &Live) {
        let status = Status {
            title: self.shown.title.clone(),
            samples: live.samples(WINDOW),
            lost: live.lost(),
            ..self.status.clone()
        };
        let _ = self.news.send(News::Status(status));
    }

    fn obey(&mut self, request: Request, live: &mut Live) {
        match request {
            Request::Show(ask) => self.ask = Some(ask),
            Request::Zero => live.zero(),
            Request::Freeze(on) => live.freeze(on),
        }
        self.answer(live);
    }

    fn answer(&mut self, live: &mut Live) {
        let Some(ask) = &self.ask else { return };
        let page = match ask {
            Ask::Table { keys, within } => {
                live.show(keys, within);
                let Snapshot { profile, trails } = live.snapshot(WINDOW, ROWS);
                Page::Table { profile, trails }
            }
            Ask::Timeline { event, of, .. } => {
                live.show(&of.keys(self.shown.has.domains), &[]);
                lanes(live.snapshot(SLICES, ROWS), *event, self.slice)
            }
            _ => {
                if wants_inlined(ask) {
                    self.inliner.look_up(live);
                }
                page(&live.view(WINDOW), ask, self.shown.has, &self.symbolizer)
            }
        };
        let _ = self.news.send(News::Page(ask.clone(), Box::new(page)));
    }
}
