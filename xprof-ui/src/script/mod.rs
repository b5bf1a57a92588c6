//! `script`: every sample as text, in the form that perf 6.1's `perf script` prints, or as JSON or CSV.
//!
//! A [`Script`] is fed records in time order and appends text to a buffer; the caller writes it. The text of a line is
//! put together from parts that are made once (thread, event, address, call chain), because recordings repeat them
//! millions of times. perf's rules are those of `tools/perf/builtin-script.c`.

mod branches;
mod fields;
mod memory;
mod number;
mod places;
mod sideband;
mod structured;
mod text;

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{record, sample as bit};
use xprof_perfdata::domain::Guest;
use xprof_perfdata::events::{Event, Events};
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::header::Description;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::Record;
use xprof_perfdata::sample::{Sample, SampleView};
use xprof_profile::profile::{Filter, LinkRegister, Reads};
use xprof_profile::symbols::Symbolizer;
use xprof_profile::timeline::{Mode, ThreadId, Timeline};
use xprof_profile::tracepoint::{Format as TracepointFormat, Formats};

pub use fields::{Choices, Fields};
pub use places::MOST_FRAMES;

use crate::Format;
use places::Places;

/// Which records besides samples get a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// MMAP and MMAP2.
    pub mmap: bool,
    /// COMM, FORK and EXIT.
    pub task: bool,
    /// LOST and LOST_SAMPLES.
    pub lost: bool,
    /// SWITCH and SWITCH_CPU_WIDE.
    pub switch: bool,
    /// NAMESPACES.
    pub namespaces: bool,
    /// CGROUP.
    pub cgroup: bool,
    /// KSYMBOL and BPF_EVENT.
    pub bpf: bool,
}

/// What the times in the text are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// Those of the recording's clock.
    #[default]
    Recorded,
    /// Since the first line.
    SinceFirst,
    /// Since the line before.
    SinceLast,
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct Options {
    /// Fields of samples.
    pub fields: Choices,
    /// Times with nine decimals instead of six.
    pub nanoseconds: bool,
    /// What times are.
    pub times: Times,
    /// Frames of a call chain that are shown, the leaf among them.
    pub max_stack: usize,
    /// Call chains are shown.
    pub chains: bool,
    /// Which records besides samples.
    pub shown: Shown,
    /// Which samples.
    pub filter: Filter,
    /// Functions that were compiled into others are shown in call chains.
    pub inlined: bool,
    /// Chains were unwound from stack copies while reading: perf then shows calls, not what they return to.
    pub unwound: bool,
    /// Form of the output.
    pub format: Format,
    /// The recording is a stream (perf shows fewer fields of tracepoints with call chains).
    pub pipe: bool,
}

/// What is the same for all samples of an event.
#[derive(Debug)]
struct EventView {
    fields: Fields,
    /// Name with perf's padding, a colon and a space.
    title: Vec<u8>,
    /// It has call chains.
    chains: bool,
    /// Its addresses are those of code or data that has names.
    named_addresses: bool,
    /// The link register that belongs to its chains.
    link: Option<LinkRegister>,
    /// Fields are shown that lie behind parts of unknown length.
    whole: bool,
    tracepoint: Option<TracepointFormat>,
}

/// Whose the sample in hand is.
#[derive(Clone, Copy, Debug, Default)]
struct Whose {
    guest: Option<Guest>,
    /// Number of its process ([`Timeline::process`]).
    process: u32,
}

/// Prints samples.
#[derive(Debug)]
pub struct Script {
    options: Options,
    views: Vec<EventView>,
    timeline: Timeline,
    places: Places,
    threads: text::Threads,
    sample: Sample,
    whose: Whose,
    /// The last whole second and the last period as text: the next sample mostly has the same.
    second: (u64, Vec<u8>),
    /// The time from which the next one counts ([`Times`]).
    origin: Option<u64>,
    period: (u64, Vec<u8>),
    arch: String,
    /// Interrupted and user registers of every event, one bit each.
    masks: Vec<(u64, u64)>,
    reads: Reads,
    widest_source: usize,
    rows: u64,
    damaged: u64,
}

impl Script {
    /// For a recording.
    ///
    /// # Errors
    /// One sentence, when a field that was asked for is not recorded.
    pub fn new(description: &Description, symbolizer: Symbolizer, options: Options) -> Result<Script, String> {
        let events = &description.events;
        let fields = options.fields.of_events(events, options.pipe)?;
        let formats = description.features.tracing_data.as_deref().and_then(|blob| Formats::parse(blob).ok());
        let width = events.list().iter().map(|e| e.name.len()).max().unwrap_or(0);
        let views = events.list().iter().zip(fields);
        let arch = description.features.arch.as_deref();
        let chains = options.chains;
        let view = |(event, fields)| EventView::new(event, fields, formats.as_ref(), (width, arch, chains));
        let views = views.map(view).collect();
        Ok(Script {
            views,
            timeline: Timeline::new(&description.features.build_ids),
            places: Places::new(symbolizer, (options.inlined, options.unwound), options.max_stack),
            threads: text::Threads::default(),
            sample: Sample::default(),
            whose: Whose::default(),
            second: Default::default(),
            origin: None,
            period: Default::default(),
            arch: description.features.arch.clone().unwrap_or_default(),
            masks: events.list().iter().map(|e| (e.attr.sample_regs_intr, e.attr.sample_regs_user)).collect(),
            reads: Reads::default(),
            widest_source: 0,
            rows: 0,
            damaged: 0,
            options,
        })
    }

    /// Guests that run one program each: its path by the guest's machine.
    pub fn set_guest_programs(&mut self, programs: FxHashMap<u32, Vec<u8>>) {
        self.timeline.set_guest_programs(programs);
    }

    /// What stands before the first sample.
    pub fn begin(&self, out: &mut Vec<u8>) {
        match self.options.format {
            Format::Text => {}
            Format::Json => out.extend_from_slice(b"{\"schema\":1,\"samples\":["),
            Format::Csv => out.extend_from_slice(structured::CSV_HEADING),
        }
    }

    /// What stands behind the last sample.
    pub fn end(&self, out: &mut Vec<u8>) {
        if self.options.format == Format::Json {
            out.extend_from_slice(b"\n]}\n");
        }
    }

    /// Records that could not be decoded and were left out.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Build ids learnt late (pipe mode).
    pub fn add_build_ids(&mut self, entries: &[BuildIdEntry]) {
        self.timeline.add_build_ids(entries);
    }

    /// Takes the next record in time order. A damaged one is counted and left out.
    pub fn record(&mut self, raw: &RawRecord<'_>, events: &Events, out: &mut Vec<u8>) {
        if raw.kind == record::SAMPLE {
            return self.sample(raw, events, out);
        }
        // The reader's own records say nothing of tasks, but which ids are guests'.
        if raw.kind >= record::USER_START && raw.kind != record::ID_INDEX {
            return;
        }
        match Record::decode(raw, events) {
            Ok((record, id)) => {
                self.timeline.apply(&record, raw.misc, (id.id, id.pid));
                if self.options.format == Format::Text {
                    self.sideband(raw, &record, &id, out);
                }
            }
            Err(_) => self.damaged += 1,
        }
    }

    fn sample(&mut self, raw: &RawRecord<'_>, events: &Events, out: &mut Vec<u8>) {
        let event = events.list().get(raw.event as usize);
        let view = event.and_then(|event| event.layout.view(raw.body));
        let (Some(event), Some(view)) = (event, view) else {
            self.damaged += 1;
            return;
        };
        let Some(of_event) = self.views.get(raw.event as usize) else { return };
        if !self.options.filter.takes(&view) || of_event.fields == Fields::default() {
            return;
        }
        let reads = Reads::has(event);
        let whole = of_event.whole || reads || self.options.format != Format::Text;
        if whole && event.format.decode_sample(raw.body, &mut self.sample).is_err() {
            self.damaged += 1;
            return;
        }
        let (guest, machine) = self.timeline.machine(raw.misc, view.id(), view.pid());
        self.whose = Whose { guest, process: self.timeline.process(machine, view.pid()) };
        let thread = self.timeline.thread(machine, view.pid(), view.tid());
        if !self.options.filter.comms.is_empty() {
            let tasks = self.timeline.tasks();
            let comm = tasks.comm(tasks.key(thread).comm);
            if !self.options.filter.comms.iter().any(|wanted| wanted.as_bytes() == comm) {
                return;
            }
        }
        if !self.takes_place(raw, &view) {
            return;
        }
        if !reads {
            let period = view.period().unwrap_or(event.attr.sample_period);
            return self.show(raw, &view, thread, (event, period), out);
        }
        let counted: Vec<_> = self.reads.of(event, events, &self.sample).collect();
        for (index, period) in counted {
            if let Some(event) = events.list().get(index) {
                let raw = RawRecord { event: index as u32, ..*raw };
                self.show(&raw, &view, thread, (event, period), out);
            }
        }
    }

    /// Whether the filter takes the code that a sample is in.
    fn takes_place(&mut self, raw: &RawRecord<'_>, view: &SampleView<'_>) -> bool {
        let filter = &self.options.filter;
        if filter.symbols.is_empty() && filter.dsos.is_empty() {
            return true;
        }
        let place = self.places.place(&self.timeline, self.whose.process, Mode::of(raw.misc), view.ip());
        if !filter.dsos.is_empty() {
            let modules = self.timeline.modules();
            let names =
                [modules.short_name(place.module), modules.long_name(place.module)].map(String::from_utf8_lossy);
            if !Filter::names(&filter.dsos, &[&names[0], &names[1]]) {
                return false;
            }
        }
        let mut named = || self.places.named(&self.timeline, place);
        filter.symbols.is_empty() || named().is_some_and(|(name, _)| Filter::names(&filter.symbols, &[&*name]))
    }

    fn show(
        &mut self,
        raw: &RawRecord<'_>,
        view: &SampleView<'_>,
        thread: ThreadId,
        (event, period): (&Event, u64),
        out: &mut Vec<u8>,
    ) {
        match self.options.format {
            Format::Text => self.line(raw, view, thread, period, out),
            Format::Json => self.json(raw, view, thread, (event, period), out),
            Format::Csv => self.csv(raw, view, thread, (event, period), out),
        }
        self.rows += 1;
    }

    /// The link register of the sample in hand, of this event.
    fn link(&self, event: usize) -> Option<u64> {
        self.views.get(event)?.link?.read(&self.sample)
    }

    /// The mode in which an address that is no instruction pointer is looked up: perf tries the sample's own first,
    /// then the one that the address speaks for.
    fn data_mode(&self, raw: &RawRecord<'_>, address: u64) -> Mode {
        let own = Mode::of(raw.misc);
        if self.timeline.map(self.whose.process, own, address).is_some() {
            return own;
        }
        if address >> 63 == 1 { Mode::Kernel } else { Mode::User }
    }
}

impl EventView {
    fn new(
        event: &Event,
        fields: Fields,
        formats: Option<&Formats>,
        (width, arch, chains): (usize, Option<&str>, bool),
    ) -> EventView {
        /// `PERF_TYPE_SOFTWARE` and its `PERF_COUNT_SW_PAGE_FAULTS`, `_MIN`, `_MAJ`.
        const SOFTWARE: u32 = 1;
        const FAULTS: [u64; 3] = [2, 5, 6];
        let kind = event.attr.kind;
        let behind_chain = [
            Fields::TRACE,
            Fields::IREGS,
            Fields::UREGS,
            Fields::BRSTACK,
            Fields::BRSTACKSYM,
            Fields::BRSTACKOFF,
            Fields::DATA_SRC,
            Fields::WEIGHT,
            Fields::INS_LAT,
            Fields::PHYS_ADDR,
            Fields::DATA_PAGE_SIZE,
            Fields::CODE_PAGE_SIZE,
            Fields::CGROUP,
        ];
        let tracepoint = if fields::kind_of(kind) == fields::TRACEPOINT {
            formats.and_then(|formats| formats.get(u32::try_from(event.attr.config).ok()?))
        } else {
            None
        };
        let chains = chains && event.format.sample_type & bit::CALLCHAIN != 0;
        let link = LinkRegister::of(arch, &event.attr).filter(|_| chains);
        EventView {
            fields,
            title: format!("{:>width$}: ", event.name).into_bytes(),
            chains,
            link,
            named_addresses: kind == SOFTWARE && FAULTS.contains(&event.attr.config),
            whole: link.is_some() || behind_chain.into_iter().any(|field| fields.has(field)),
            tracepoint,
        }
    }
}
