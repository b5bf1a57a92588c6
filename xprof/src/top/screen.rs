//! `xprof top` on a terminal: pages of the samples of the last refreshes, while they come.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use xprof_profile::profile::{Live, Snapshot};
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
    let mut maker = Maker { shown, symbolizer, news, ask: None, inliner, cost: Cost::begin(), due: None, status };
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

/// Makes pages.
struct Maker {
    shown: Shown,
    symbolizer: Symbolizer,
    news: crossbeam_channel::Sender<News>,
    ask: Option<Ask>,
    inliner: Inliner,
    cost: Cost,
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
