//! From records to cells.

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{misc, record, sample as bit};
use xprof_perfdata::domain::{Guest, RUNNING_EVENT, STATES_EVENT, State, WAITING_EVENT};
use xprof_perfdata::events::{Event, Events, OFF_CPU_EVENT};
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::header::Description;
use xprof_perfdata::order::{Batch, RawRecord};
use xprof_perfdata::record::Record;
use xprof_perfdata::sample::{Sample, SampleView};

use super::books::Books;
use super::cells::{Cell, Cells, Spot, Who};
use super::chain::{FrameAddr, LinkRegister};
use super::domains::Origins;
use super::filter::Filter;
use super::frames::{ChainHash, FrameId, Frames, Mix, StackId};
use super::key::Key;
use super::reads::Reads;
use super::times::{OfCell, Times};
use super::waits::Waits;
use crate::timeline::{Mode, Timeline};

/// Lost records of one event, from both ways the kernel tells them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LostCount {
    /// `PERF_FORMAT_LOST` totals (LOST_SAMPLES records).
    pub(super) totals: Option<u64>,
    /// Sum of LOST records.
    pub(super) records: u64,
}

impl LostCount {
    /// Totals where present, else the sum of LOST records: never both.
    pub(super) fn count(self) -> u64 {
        self.totals.unwrap_or(self.records)
    }
}

/// Which parts of a sample make a cell.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    thread: bool,
    code: bool,
    cpu: bool,
    cgroup: bool,
    stacks: bool,
    domain: bool,
    vcpu: bool,
}

/// A thread and the address spaces it has, as the timeline has them now.
#[derive(Clone, Copy, Debug, Default)]
struct Running {
    /// Machine, process and thread as samples say them.
    task: (u32, u32, u32),
    /// The timeline's, where somebody asks for it.
    thread: u32,
    user: u32,
    kernel: u32,
    /// It is known.
    is_known: bool,
}

/// Tasks that are remembered until the timeline changes, a power of two.
const RUNNING: usize = 64;

/// Adds samples up.
#[derive(Debug)]
pub struct Builder {
    pub(super) keys: Vec<Key>,
    pub(super) filter: Filter,
    pub(super) timeline: Timeline,
    pub(super) frames: Frames,
    pub(super) cells: Cells,
    pub(super) lost: Vec<LostCount>,
    pub(super) origins: Origins,
    wanted: Wanted,
    /// `uname -m` of the recorded machine.
    arch: Option<String>,
    sample: Sample,
    reads: Reads,
    pub(super) waits: Waits,
    /// Of a whole host: what dom0's clock says of its time.
    pub(super) books: Option<Books>,
    /// Records that could not be decoded.
    pub(super) damaged: u64,
    running: [Running; RUNNING],
    has_kernel: bool,
    /// By event: whether nothing but its stack decides where a sample belongs; where that is known.
    is_plain: Vec<Option<bool>>,
    /// The samples one by one, where somebody asks when they were taken.
    pub(super) times: Option<Times>,
    /// All code of a module without names is one row.
    pub(super) unnamed_as_one: bool,
}

impl Builder {
    /// A builder of rows with these keys. `stacks`: call chains are kept (for the children column and for trees).
    pub fn new(description: &Description, keys: &[Key], filter: Filter, stacks: bool) -> Builder {
        let has = |wanted: &[Key]| wanted.iter().any(|k| keys.contains(k));
        let wanted = Wanted {
            thread: has(&[Key::Comm, Key::Pid, Key::Tid, Key::For]) || !filter.comms.is_empty(),
            code: keys.iter().any(|k| k.is_of_code())
                || !filter.dsos.is_empty()
                || !filter.symbols.is_empty()
                || stacks,
            cpu: has(&[Key::Cpu]),
            cgroup: has(&[Key::Cgroup]) || !filter.cgroups.is_empty(),
            stacks,
            domain: has(&[Key::Domain, Key::For]) || !filter.domains.is_empty() || has_domains(description),
            vcpu: has(&[Key::Vcpu]),
        };
        Builder {
            keys: keys.to_vec(),
            filter,
            timeline: Timeline::new(&description.features.build_ids),
            frames: Frames::new(),
            cells: Cells::new(),
            lost: Vec::new(),
            origins: Origins::new(description.features.domains.as_ref()),
            wanted,
            arch: description.features.arch.clone(),
            sample: Sample::default(),
            reads: Reads::default(),
            waits: Waits::default(),
            books: Books::of(description),
            damaged: 0,
            times: None,
            running: [Running::default(); RUNNING],
            has_kernel: false,
            is_plain: Vec::new(),
            unnamed_as_one: false,
        }
    }

    /// Keeps the time of every sample, in 24 bytes each. To be called before the first record.
    pub fn keep_times(&mut self) {
        self.times = Some(Times::default());
    }

    /// Makes one row of all code of a module that has no names, [`crate::comparison::UNNAMED`]: addresses of different builds mean nothing
    /// to each other.
    pub fn merge_unnamed(&mut self) {
        self.unnamed_as_one = true;
    }

    /// Makes the rows or stacks that are asked for next of these keys, which must be among those the builder was made with.
    pub fn show(&mut self, keys: &[Key]) {
        self.keys = keys.to_vec();
    }

    /// Guests that run one program each: its path by the guest's machine.
    pub fn set_guest_programs(&mut self, programs: FxHashMap<u32, Vec<u8>>) {
        self.timeline.set_guest_programs(programs);
    }

    /// Takes the next records, which are in time order.
    pub fn batch(&mut self, batch: &Batch, events: &Events) {
        for record in batch.iter() {
            self.record(&record, events);
        }
    }

    /// Whether a sample of the host's kernel has come.
    pub fn has_kernel(&self) -> bool {
        self.has_kernel
    }

    /// Takes the next record in time order. A damaged record is counted and left out.
    pub fn record(&mut self, raw: &RawRecord<'_>, events: &Events) {
        if raw.kind == record::SAMPLE {
            return self.sample(raw, events);
        }
        if matches!(raw.kind, record::SWITCH | record::SWITCH_CPU_WIDE) && raw.misc & misc::SWITCH_OUT == 0 {
            if let Some((cell, waited)) = self.waits.end(raw, events) {
                add((&mut self.cells, &mut self.times), cell, waited, raw.time);
            }
            return;
        }
        if !changes_something(raw.kind) {
            return;
        }
        match Record::decode(raw, events) {
            Ok((Record::Lost(lost), _)) => {
                let event = events.by_id(lost.id).map_or(raw.event, |e| e as u32);
                self.lost_of(event).records += lost.lost;
            }
            Ok((Record::LostSamples(lost), id)) => {
                let event = events.by_id(id.id).map_or(raw.event, |e| e as u32);
                *self.lost_of(event).totals.get_or_insert(0) += lost;
            }
            Ok((record, id)) => {
                self.timeline.apply(&record, raw.misc, (id.id, id.pid));
                self.cells.forget();
                self.running = [Running::default(); RUNNING];
            }
            Err(_) => self.damaged += 1,
        }
    }

    /// Build ids learnt after the records (pipe mode).
    pub fn add_build_ids(&mut self, entries: &[BuildIdEntry]) {
        self.timeline.add_build_ids(entries);
    }

    fn lost_of(&mut self, event: u32) -> &mut LostCount {
        // An unknown event counts for the first.
        let event = if event < 1 << 16 { event as usize } else { 0 };
        if self.lost.len() <= event {
            self.lost.resize(event + 1, LostCount::default());
        }
        &mut self.lost[event]
    }

    fn sample(&mut self, raw: &RawRecord<'_>, events: &Events) {
        let event = events.list().get(raw.event as usize);
        let Some((event, view)) = event.and_then(|e| Some((e, e.layout.view(raw.body)?))) else {
            self.damaged += 1;
            return;
        };
        let is_taken = self.filter.takes(&view);
        if !is_taken && self.books.is_none() {
            return;
        }
        self.has_kernel |= Mode::of(raw.misc) == Mode::Kernel;
        let who = self.who(raw, &view);
        let domains = &self.filter.domains;
        let is_taken = is_taken && (domains.is_empty() || self.origins.is_one_of(who.origin, domains));
        if self.wanted.stacks && is_taken && self.is_plain(raw.event, event) {
            return self.stack_sample(raw, &view, who, event);
        }
        let is_shared = self.books.is_some() && self.share(raw, &view, who, event, is_taken);
        if !is_taken {
            return;
        }
        if self.wanted.domain && event.name == RUNNING_EVENT {
            let period = view.period().unwrap_or(event.attr.sample_period);
            let state = if is_shared { State::Running.number() } else { view.addr() };
            self.origins.add_time(who.origin, state, period);
        }
        if self.wanted.domain && event.name == STATES_EVENT {
            let (guest, _) = self.timeline.machine(raw.misc, view.id(), view.pid());
            let period = view.period().unwrap_or(event.attr.sample_period);
            self.origins.add_state(who.origin, guest.map_or(0, |guest| guest.vcpu), view.addr(), period);
        }
        if is_shared {
            return;
        }
        if event.name == OFF_CPU_EVENT {
            let cell = self.cell(raw, &view, who, event.format.sample_type, None);
            return self.waits.begin((view.pid(), view.tid()), cell, view.time());
        }
        let arch = self.arch.as_deref().filter(|_| self.wanted.stacks);
        let link = LinkRegister::of(arch, &event.attr);
        if Reads::has(event) || self.wanted.cgroup || link.is_some() {
            return self.whole_sample(raw, &view, who, (event, link), events);
        }
        let period = view.period().unwrap_or(event.attr.sample_period);
        let (ip, pid, tid) = (view.ip(), view.pid(), view.tid());
        let spot = Spot { ip, pid, tid, event: raw.event, cpu: view.cpu(), who, misc: raw.misc };
        let has_memo = !self.wanted.stacks && self.times.is_none();
        if has_memo && self.cells.add_again(&spot, period) {
            return;
        }
        let cell = self.cell(raw, &view, who, event.format.sample_type, None);
        let index = add((&mut self.cells, &mut self.times), cell, period, view.time());
        if self.frames.was_completed() {
            self.cells.add_completed(index);
        }
        if has_memo {
            self.cells.remember(spot, index);
        }
    }

    /// Keeps dom0's part of a whole host's books, which knows of samples that are not taken too. True for how long a vCPU of dom0 ran,
    /// which its clock's samples have had instead.
    fn share(&mut self, raw: &RawRecord<'_>, view: &SampleView<'_>, who: Who, event: &Event, is_taken: bool) -> bool {
        let period = view.period().unwrap_or(event.attr.sample_period);
        let (guest, machine) = self.timeline.machine(raw.misc, view.id(), view.pid());
        let is_own = guest.is_none_or(|guest| guest.machine_pid == 0);
        if is_own && self.books.as_ref().is_some_and(|books| books.is_clock(raw.event)) {
            let cell = is_taken.then(|| {
                let vcpu = Guest { machine_pid: 0, vcpu: view.cpu() };
                let asked = self.wanted.domain || self.wanted.vcpu;
                let origin =
                    if asked { self.origins.of(Some(vcpu), 0, view.time(), self.wanted.vcpu) } else { who.origin };
                self.cell(raw, view, Who { origin, ..who }, event.format.sample_type, None)
            });
            if let Some(books) = &mut self.books {
                books.add(view.cpu(), (view.pid(), view.tid()) == (0, 0), cell, period);
            }
            return false;
        }
        let vcpu = guest.filter(|guest| guest.machine_pid == 0 && machine == 0 && event.name == RUNNING_EVENT);
        let (Some(vcpu), Some(books)) = (vcpu, &mut self.books) else { return false };
        let (cells, times) = (&mut self.cells, &mut self.times);
        books.end(vcpu.vcpu, period, |cell, part| {
            let index = cells.add_part(cell, part.samples, part.period);
            if let Some(times) = times {
                times.add(OfCell { time: view.time(), period: part.period, cell: index });
            }
        })
    }

    /// A sample of which something is wanted that lies behind parts of unknown length.
    fn whole_sample(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        who: Who,
        (event, link): (&Event, Option<LinkRegister>),
        events: &Events,
    ) {
        let mut sample = std::mem::take(&mut self.sample);
        if event.format.decode_sample(raw.body, &mut sample).is_err() {
            self.damaged += 1;
        } else {
            let link = link.and_then(|link| link.read(&sample));
            let mut cell = self.cell(raw, view, who, event.format.sample_type, link);
            cell.cgroup = if self.wanted.cgroup { sample.cgroup } else { 0 };
            if Reads::has(event) {
                for (event, period) in self.reads.of(event, events, &sample) {
                    add((&mut self.cells, &mut self.times), Cell { event: event as u32, ..cell }, period, view.time());
                }
            } else {
                let period = view.period().unwrap_or(event.attr.sample_period);
                let index = add((&mut self.cells, &mut self.times), cell, period, view.time());
                if self.frames.was_completed() {
                    self.cells.add_completed(index);
                }
            }
        }
        self.sample = sample;
    }

    /// Which machine a sample is of, and which domain, as far as somebody asks.
    #[inline]
    fn who(&mut self, raw: &RawRecord<'_>, view: &SampleView<'_>) -> Who {
        let asked = self.wanted.domain || self.wanted.vcpu;
        if !asked && !matches!(Mode::of(raw.misc), Mode::GuestKernel | Mode::GuestUser) {
            return Who::default();
        }
        let (guest, machine) = self.timeline.machine(raw.misc, view.id(), view.pid());
        let origin = if asked { self.origins.of(guest, machine, view.time(), self.wanted.vcpu) } else { 0 };
        Who { machine, origin }
    }

    /// Whether nothing but its stack and its task decides where a sample of an event belongs.
    #[inline]
    fn is_plain(&mut self, index: u32, event: &Event) -> bool {
        match self.is_plain.get(index as usize) {
            Some(Some(known)) => *known,
            _ => self.learn(index, event),
        }
    }

    #[cold]
    fn learn(&mut self, index: u32, event: &Event) -> bool {
        let is_own = [OFF_CPU_EVENT, RUNNING_EVENT, WAITING_EVENT, STATES_EVENT].contains(&event.name.as_str());
        let link = LinkRegister::of(self.arch.as_deref(), &event.attr);
        let is_plain = !is_own && self.books.is_none() && !Reads::has(event) && !self.wanted.cgroup && link.is_none();
        let index = index as usize;
        if self.is_plain.len() <= index {
            self.is_plain.resize(index + 1, None);
        }
        self.is_plain[index] = Some(is_plain);
        is_plain
    }

    /// A sample of which nothing but its stack is wanted. All that decides its cell is hashed at once, which is what most
    /// samples need: their stack was there before.
    fn stack_sample(&mut self, raw: &RawRecord<'_>, view: &SampleView<'_>, who: Who, event: &Event) {
        let period = view.period().unwrap_or(event.attr.sample_period);
        let running = self.running(who.machine, view);
        let cpu = if self.wanted.cpu { view.cpu() } else { 0 };
        let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        let chain = view.callchain();
        let seed = ChainHash(both(running.user, running.kernel), both(running.thread, cpu));
        let mut mix = Mix::new(chain.as_bytes().len(), seed);
        mix.pair(view.ip(), both(who.origin, raw.event << 3 | Mode::of(raw.misc) as u32));
        mix.bytes(chain.as_bytes());
        let key = mix.end();
        let index = match self.cells.add_known(key, period) {
            Some(index) => index,
            None => {
                let cell = self.cell(raw, view, who, event.format.sample_type, None);
                let index = self.cells.add(cell, period);
                if self.frames.was_completed() {
                    self.cells.add_completed(index);
                } else {
                    self.cells.remember_chain(key, index);
                }
                index
            }
        };
        if let Some(times) = &mut self.times {
            times.add(OfCell { time: view.time(), period, cell: index });
        }
    }

    #[inline]
    fn running(&mut self, machine: u32, view: &SampleView<'_>) -> Running {
        let task = (machine, view.pid(), view.tid());
        let slot = task.2 as usize % RUNNING;
        match self.running[slot] {
            known if known.is_known && known.task == task => known,
            _ => {
                let pid = self.timeline.process(machine, task.1);
                let thread = if self.wanted.thread { self.timeline.thread(machine, task.1, task.2).0 } else { 0 };
                let (user, kernel) = (self.timeline.epoch(pid, Mode::User), self.timeline.epoch(pid, Mode::Kernel));
                let running = Running { task, thread, user, kernel, is_known: true };
                self.running[slot] = running;
                running
            }
        }
    }

    fn cell(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        Who { machine, origin }: Who,
        sample_type: u64,
        link: Option<u64>,
    ) -> Cell {
        let wanted = self.wanted;
        let mode = Mode::of(raw.misc);
        let pid = self.timeline.process(machine, view.pid());
        let thread = if wanted.thread { self.timeline.thread(machine, view.pid(), view.tid()).0 } else { 0 };
        let (mut frame, mut stack) = (FrameId(0), StackId(0));
        if wanted.code {
            frame = self.frames.frame(&self.timeline, pid, mode, FrameAddr::Ip(view.ip()));
        }
        if wanted.stacks {
            stack = self.frames.stack(&self.timeline, (pid, mode), (frame, view.ip()), view.callchain(), link);
        }
        let cpu = if wanted.cpu && sample_type & bit::CPU != 0 { view.cpu() } else { u32::MAX };
        Cell { event: raw.event, thread, frame: frame.0, stack: stack.0, cpu, origin, cgroup: 0 }
    }
}

/// Adds a sample to its cell; the cell's index.
#[inline]
fn add((cells, times): (&mut Cells, &mut Option<Times>), cell: Cell, period: u64, time: u64) -> u32 {
    let index = cells.add(cell, period);
    if let Some(times) = times {
        times.add(OfCell { time, period, cell: index });
    }
    index
}

/// Whether a recording is of the domains of a Xen host.
pub fn has_domains(description: &Description) -> bool {
    description.features.domains.is_some()
        || description.events.list().iter().any(|event| [RUNNING_EVENT, WAITING_EVENT].contains(&event.name.as_str()))
}

/// Record types that the timeline or the lost counts care for.
fn changes_something(kind: u32) -> bool {
    matches!(
        kind,
        record::MMAP
            | record::MMAP2
            | record::COMM
            | record::FORK
            | record::KSYMBOL
            | record::CGROUP
            | record::LOST
            | record::LOST_SAMPLES
            | record::ID_INDEX
    )
}
