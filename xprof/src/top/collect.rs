//! From a session to slices of samples: records are put in order, unwound where they hold stack copies, added up, and cut
//! by their own time, so that a recording that is replayed gives the same slices on every machine.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use xprof_backend::machine::Machine;
use xprof_backend::native::mended;
use xprof_backend::plan::{Plan, Target};
use xprof_backend::{Message, Session, proc};
use xprof_perfdata::feature::Features;
use xprof_perfdata::header::Description;
use xprof_perfdata::order::{self, Batch, RawRecord};
use xprof_profile::profile::{Builder, Filter, Key, Live, SLICES, has_domains};
use xprof_profile::symbols::Symbolizer;
use xprof_profile::unwind::Stage;
use xprof_ui::screen::Able;

use super::images::Images;
use crate::input;
use crate::naming::Naming;
use crate::pages::Has;
use crate::reading::has_chains;
use crate::record::values::BackendChoice;
use crate::record::{backend, each, is_here, running};

/// Bytes that wait for the maps of running processes before they are used without.
const WAITING_MAX: usize = 32 << 20;
/// With nothing to do, the loop looks around this often.
const IDLE: Duration = Duration::from_millis(100);

/// What is collected, and how.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) backend: &'a BackendChoice,
    pub(crate) plan: Plan,
    pub(crate) naming: &'a Naming,
    /// What rows are made of; empty: the usual.
    pub(crate) keys: Vec<Key>,
    /// Length of a slice.
    pub(crate) interval: Duration,
    /// End after this.
    pub(crate) duration: Option<Duration>,
}

/// Why [`Collector::until`] returned.
pub(crate) enum Paused<T> {
    /// Something came.
    Given(T),
    /// Nothing is left to measure, or the time is up: [`Collector::finish`] is due.
    Over,
    /// Who looks at slices has enough.
    Enough,
}

/// What is done at the end of each slice, which was this long; `Break` ends the collecting.
pub(crate) type AtCut<'a> = &'a mut dyn FnMut(&mut Live, Duration) -> ControlFlow<()>;

/// A session whose samples are added up.
pub(crate) struct Collector {
    session: Box<dyn Session>,
    messages: Receiver<Message>,
    /// Records of what was running; `None` when all have come.
    synthesis: Option<Receiver<Vec<u8>>>,
    /// Bytes that came before that; `None` when they wait no longer.
    waiting: Option<usize>,
    stream: Stream,
    /// The samples.
    pub(crate) live: Live,
    /// Their names.
    pub(crate) symbolizer: Symbolizer,
    clock: Clock,
    ends_at: Option<Instant>,
    /// What rows are made of.
    keys: Vec<Key>,
    anew: Anew,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// What a fresh builder is made of.
struct Anew {
    description: Description,
    keys: Vec<Key>,
    has_children: bool,
    programs: rustc_hash::FxHashMap<u32, Vec<u8>>,
    /// Whose processes /proc tells of; `None` where it does not.
    target: Option<Target>,
}

impl Anew {
    fn builder(&self) -> Builder {
        let mut builder = Builder::new(&self.description, &self.keys, Filter::default(), self.has_children);
        builder.set_guest_programs(self.programs.clone());
        builder
    }
}

/// Records in time order.
struct Stream {
    order: order::Live,
    spare: Option<Batch>,
    stage: Option<Stage>,
    unwound: Batch,
}

/// When slices end, on the records' clock.
struct Clock {
    /// ns.
    interval: u64,
    next: Option<u64>,
    /// The latest time that was seen.
    latest: u64,
    /// A sample has come since the last slice ended.
    pending: bool,
}

impl Clock {
    /// It is `time` (ns); how many slices end before.
    fn at(&mut self, time: u64) -> usize {
        if time == 0 || time == u64::MAX {
            return 0;
        }
        let next = *self.next.get_or_insert(time.saturating_add(self.interval));
        self.latest = self.latest.max(time);
        let Some(late) = time.checked_sub(next) else { return 0 };
        let ended = late / self.interval + 1;
        self.next = Some(next.saturating_add(ended.saturating_mul(self.interval)));
        // After a long silence nothing is left of the slices before it.
        usize::try_from(ended).unwrap_or(SLICES).min(SLICES)
    }

    /// How long the slice is that has not ended yet.
    fn so_far(&self) -> Duration {
        let begun = self.next.unwrap_or(0).saturating_sub(self.interval);
        Duration::from_nanos(self.latest.saturating_sub(begun).min(self.interval))
    }
}

impl Collector {
    /// Opens a session and lets it run.
    pub(crate) fn start(mut wanted: Wanted<'_>) -> anyhow::Result<Collector> {
        let machine = Machine::here();
        if is_here(wanted.backend) {
            mended::stacks(&machine, &mut wanted.plan);
        }
        let Wanted { plan, naming, .. } = &wanted;
        let mut features = match wanted.backend {
            BackendChoice::Replay(path) => input::open(path)?.description().features.clone(),
            BackendChoice::Simulated(_) => Features::default(),
            _ => proc::facts(&machine),
        };
        let mut session = backend(wanted.backend, plan).open(plan)?;
        let opened = session.describe().clone();
        features.domains = opened.domains.clone();
        let mut description = Description { events: opened.events.clone(), features };
        let order = order::Live::new(description.events.clone(), opened.rings);
        let stage = input::unwinding(&mut description, naming, false);
        let has_children = has_chains(&description);
        let keys = if wanted.keys.is_empty() { usual_keys(&description) } else { wanted.keys.clone() };
        let files = naming.supplier(&description);
        let symbolizer = match session.images() {
            [] => naming.symbolizer(&description),
            images => Symbolizer::new(Arc::new(Images { images: images.to_vec(), files })),
        };
        let here = is_here(wanted.backend);
        // Processes and domains are told apart whatever rows are shown first.
        let all_keys = [&keys[..], &[Key::Comm, Key::Pid, Key::Dso, Key::Symbol]].concat();
        let anew = Anew {
            programs: naming.guest_programs(&description),
            description,
            keys: all_keys,
            has_children,
            target: here.then(|| plan.target.clone()),
        };
        let live = Live::new(anew.builder(), anew.description.events.clone(), &keys, has_children);
        let interval = u64::try_from(wanted.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        session.start()?;
        let mut collector = Collector {
            messages: session.messages().clone(),
            session,
            synthesis: None,
            waiting: None,
            stream: Stream { order, spare: None, stage, unwound: Batch::default() },
            live,
            symbolizer,
            clock: Clock { interval, next: None, latest: 0, pending: false },
            ends_at: wanted.duration.and_then(|duration| Instant::now().checked_add(duration)),
            keys,
            anew,
            notes: opened.notes,
        };
        collector.told(&opened.head);
        collector.learn_what_runs()?;
        Ok(collector)
    }

    /// Reads what runs from /proc.
    fn learn_what_runs(&mut self) -> anyhow::Result<()> {
        let Some(target) = &self.anew.target else { return Ok(()) };
        let mut notes = std::mem::take(&mut self.notes);
        let kernel = running::kernel(&Machine::here(), self.session.describe(), &mut notes);
        self.synthesis = Some(running::processes(target, self.session.describe())?);
        self.waiting = Some(0);
        self.notes = notes;
        self.told(&kernel);
        Ok(())
    }

    /// Takes whole records without time.
    fn told(&mut self, records: &[u8]) {
        if let Some(stage) = &mut self.stream.stage {
            stage.see_all(records);
        }
        let live = &mut self.live;
        each(records, |kind, misc, whole| {
            let body = whole.get(8..).unwrap_or_default();
            live.record(&RawRecord { kind, misc, body, time: 0, event: u32::MAX, offset: 0 });
        });
    }

    /// Works until `other` has something, or until it is over.
    pub(crate) fn until<T>(&mut self, other: &Receiver<T>, at_cut: AtCut<'_>) -> anyhow::Result<Paused<T>> {
        let silent = never();
        loop {
            if self.ends_at.is_some_and(|at| Instant::now() >= at) {
                return Ok(Paused::Over);
            }
            select! {
                recv(self.messages) -> message => match message {
                    Ok(Message::Drained(drained)) => {
                        if let Some(waiting) = &mut self.waiting {
                            *waiting += drained.bytes.len();
                        }
                        self.stream.order.push(drained.ring, drained.bytes, drained.until);
                    }
                    Ok(Message::Note(note)) => self.notes.push(note),
                    Ok(Message::Failed(error)) => self.notes.push(error.to_string()),
                    Ok(Message::Domain(domain)) => self.live.domain(*domain),
                    Ok(Message::Facts(_)) => {}
                    Ok(Message::TargetsGone) | Err(_) => return Ok(Paused::Over),
                },
                recv(self.synthesis.as_ref().unwrap_or(&silent)) -> records => match records {
                    Ok(records) => self.told(&records),
                    Err(_) => (self.synthesis, self.waiting) = (None, None),
                },
                recv(other) -> thing => return Ok(thing.map_or(Paused::Enough, Paused::Given)),
                default(IDLE) => {}
            }
            if self.pump(at_cut)?.is_break() {
                return Ok(Paused::Enough);
            }
        }
    }

    /// Adds up what may leave the order.
    fn pump(&mut self, at_cut: AtCut<'_>) -> anyhow::Result<ControlFlow<()>> {
        if self.waiting.is_some_and(|bytes| bytes < WAITING_MAX) {
            return Ok(ControlFlow::Continue(()));
        }
        while let Some(mut batch) = self.stream.order.batch(self.stream.spare.take()) {
            let mut unwound = std::mem::take(&mut self.stream.unwound);
            let records = match &mut self.stream.stage {
                Some(stage) => {
                    stage.batch(&batch, &mut unwound);
                    &unwound
                }
                None => &batch,
            };
            let mut flow = ControlFlow::Continue(());
            for raw in records.iter() {
                flow = self.ends_before(raw.time, at_cut);
                if flow.is_break() {
                    break;
                }
                self.clock.pending = true;
                self.live.record(&raw);
            }
            self.stream.unwound = unwound;
            self.session.recycle(std::mem::take(&mut batch.bytes));
            self.stream.spare = Some(batch);
            if flow.is_break() {
                return Ok(flow);
            }
        }
        let flow = self.ends_before(self.stream.order.until(), at_cut);
        if self.live.is_heavy() && self.anew.target.is_some() && self.synthesis.is_none() {
            self.live.renew(self.anew.builder());
            self.learn_what_runs()?;
        }
        Ok(flow)
    }

    /// Ends the slices that end before `time`, ns.
    fn ends_before(&mut self, time: u64, at_cut: AtCut<'_>) -> ControlFlow<()> {
        for _ in 0..self.clock.at(time) {
            self.cut(Duration::from_nanos(self.clock.interval), at_cut)?;
        }
        ControlFlow::Continue(())
    }

    fn cut(&mut self, length: Duration, at_cut: AtCut<'_>) -> ControlFlow<()> {
        self.clock.pending = false;
        self.live.cut(&self.symbolizer);
        at_cut(&mut self.live, length)
    }

    /// Stops the session, and ends the last slice with what is left.
    pub(crate) fn finish(&mut self, at_cut: AtCut<'_>) -> anyhow::Result<()> {
        if let Err(error) = self.session.stop() {
            self.notes.push(error.to_string());
        }
        (self.synthesis, self.waiting) = (None, None);
        while let Ok(message) = self.messages.recv() {
            if let Message::Drained(drained) = message {
                self.stream.order.push(drained.ring, drained.bytes, drained.until);
            }
        }
        self.stream.order.finish();
        let flow = self.pump(at_cut)?;
        if flow.is_continue() && self.clock.pending {
            let _ = self.cut(self.clock.so_far(), at_cut);
        }
        Ok(())
    }

    /// What screens can show of it.
    pub(crate) fn able(&self, color: bool, unicode: bool) -> Able {
        Able {
            color,
            unicode,
            live: true,
            chains: self.anew.has_children,
            domains: has_domains(&self.anew.description),
            inline: true,
            keys: self.keys.clone(),
        }
    }

    /// What the samples have.
    pub(crate) fn has(&self) -> Has {
        Has { children: self.anew.has_children, domains: has_domains(&self.anew.description) }
    }
}

/// The keys of the rows, where none are asked for.
pub(crate) fn usual_keys(description: &Description) -> Vec<Key> {
    let domain = has_domains(description).then_some(Key::Domain);
    domain.into_iter().chain([Key::Comm, Key::Dso, Key::Symbol]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_end_by_the_records_clock() {
        let mut clock = Clock { interval: 10, next: None, latest: 0, pending: false };
        let ended: Vec<usize> = [0, 100, 105, 110, 111, 119, 141, u64::MAX, 1 << 40].map(|t| clock.at(t)).to_vec();
        assert_eq!(ended, [0, 0, 0, 1, 0, 0, 3, 0, SLICES]);
        // Time that goes backward ends nothing.
        assert_eq!((clock.at(5), clock.next.unwrap() > 1 << 40), (0, true));
    }

    #[test]
    fn the_last_slice_is_as_long_as_it_was() {
        let mut clock = Clock { interval: 10, next: None, latest: 0, pending: false };
        assert_eq!(clock.so_far(), Duration::ZERO);
        let so_far: Vec<u128> =
            [100, 104, 103, u64::MAX, 110, 117].map(|t| (clock.at(t), clock.so_far().as_nanos()).1).to_vec();
        assert_eq!(so_far, [0, 4, 4, 4, 0, 7]);
    }
}
