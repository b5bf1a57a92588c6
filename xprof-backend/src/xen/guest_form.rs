//! Samples of domains as perf's records, in the form that perf has for guests.
//!
//! What makes perf 6.1 take them for guests, as tried: every (event, domain, vCPU) has a sample id of its own; all ids
//! stand in the attr; an ID_INDEX with its second part names the guest of an id before its first record, and an id in it
//! that no attr has is an error. So ids are reserved at the start for domains that appear later ([`SPARE_IDS`]), and
//! none is ever used twice. The cpumode says guest; the markers in chains do not (a `PERF_CONTEXT_GUEST` marker makes perf drop the
//! chain), and a chain always holds its leaf. `machine_pid` is the domain's id; Domain-0 is the host itself.
//!
//! Appending a sample allocates nothing but what the buffer lacks.

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::{attr_flag, context, event_type, misc, read_format, record, sample, software};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::domain::Guest;
pub use xprof_perfdata::domain::{Domain, DomainKind, State};
use xprof_perfdata::domain::{
    GOES_ON, NO_TASK, RUNNING_EVENT, RunState, STATES_EVENT, TORN, WAITING_EVENT, unseen_name,
};
use xprof_perfdata::events::Events;
use xprof_perfdata::record::{Comm, IdIndex, IdIndexEntry, Mmap, MmapFile, Record, TaskId};
use xprof_perfdata::sample::{SampleFormat, SampleId};

use crate::{Error, Result};

/// Ids that are reserved for domains that appear while it is recorded, for each event.
pub const SPARE_IDS: usize = 2048;
/// Frames that are kept of one side (kernel, user) of a stack; the rest is cut.
pub const FRAMES_MAX: usize = 512;

/// vCPUs that a domain can have (`XEN_LEGACY_MAX_VCPUS` and `HVM_MAX_VCPUS` are below, a PV guest can have 8,192).
const VCPUS_MAX: u32 = 8192;
/// The first id: the kernel counts its own from 1.
const FIRST_ID: u64 = 1 << 40;
/// Entries of one ID_INDEX: 48 bytes each, below the 65,535 of a record.
const INDEX_ENTRIES: usize = 1024;
/// Fields of a sample without chain.
const SAMPLE_TYPE: u64 = sample::IDENTIFIER
    | sample::IP
    | sample::TID
    | sample::TIME
    | sample::ADDR
    | sample::CPU
    | sample::PERIOD
    | sample::REGS_INTR
    | sample::PHYS_ADDR;

/// Bits of the registers in a sample: `PERF_REG_X86_BP` and `_SP` of arch/x86/include/uapi/asm/perf_regs.h.
const REGISTERS: u64 = 1 << 6 | 1 << 7;
/// `PERF_SAMPLE_REGS_ABI_NONE`, `_32`, `_64`.
const REGS_ABI: [u64; 3] = [0, 1, 2];

/// What is sampled of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Time that its vCPUs had a pCPU; the period is ns of it.
    Running,
    /// Time that its vCPUs waited for a pCPU; the period is ns of it.
    Waiting,
    /// Every state that its vCPUs were in, by Xen's trace; the period is ns of it.
    States,
}

impl Kind {
    /// Name of the event.
    pub fn event_name(self) -> &'static str {
        match self {
            Kind::Running => RUNNING_EVENT,
            Kind::Waiting => WAITING_EVENT,
            Kind::States => STATES_EVENT,
        }
    }
}

/// Where what stands for time unseen ([`unseen_name`]) is mapped: an address that no x86-64 or arm64 program can have, with four or five levels.
const BETWEEN_TICKS_AT: u64 = 0x0100_0000_0000_0000;
/// Bytes of it.
const BETWEEN_TICKS_LEN: u64 = 0x1000;

/// Where the states of vCPUs are mapped, one after the other, each as long as what stands for time unseen.
const STATES_AT: u64 = BETWEEN_TICKS_AT + 0x1_0000;

/// Time that a vCPU spent in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSample {
    /// When that ended, ns on the session's clock, and how long it was, ns.
    pub time: u64,
    /// See [`StateSample::time`].
    pub period: u64,
    /// Domain and vCPU.
    pub of: Guest,
    /// The pCPU that it had or last had.
    pub pcpu: u32,
    /// The state.
    pub state: RunState,
    /// Whose vCPU got the pCPU that this one was taken from.
    pub by: Option<Guest>,
    /// It is not over.
    pub goes_on: bool,
}

/// In which mode the vCPU was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The guest's user space.
    #[default]
    User,
    /// The guest's kernel.
    Kernel,
    /// Xen.
    Hypervisor,
}

/// The callers of a sample's ip, return addresses, innermost first; the ip itself is not among them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callers<'a> {
    /// In the guest's kernel.
    pub kernel: &'a [u64],
    /// In its user space. For a sample of the kernel the first is where user space was left.
    pub user: &'a [u64],
    /// The vCPU ran while its stack was read: the stack may be of two moments.
    pub torn: bool,
}

/// The registers of a vCPU beside its ip. `PERF_SAMPLE_REGS_INTR` has two of them; perf has no number for CR3, which stands in
/// `PERF_SAMPLE_PHYS_ADDR`: the physical address at which the tables of its address space begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Frame pointer.
    pub rbp: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// CR3; of a PV domain the machine's address.
    pub cr3: u64,
    /// They have 64 bits.
    pub wide: bool,
}

/// One sample of a vCPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct DomainSample<'a> {
    /// ns on the session's clock: the middle of the look.
    pub time: u64,
    /// How long the look took, ns.
    pub width: u64,
    /// Domain.
    pub domain: u32,
    /// vCPU.
    pub vcpu: u32,
    /// The pCPU it runs or last ran on.
    pub pcpu: u32,
    /// Where it was; of [`State::Blocked`] nothing is believed.
    pub ip: u64,
    /// Mode of `ip`.
    pub mode: Mode,
    /// ns that the vCPU ran (or waited) since its last sample.
    pub period: u64,
    /// How it was found.
    pub state: State,
    /// Process and thread in the guest, where they are known.
    pub task: Option<(u32, u32)>,
    /// The other registers; `None` where none were read.
    pub registers: Option<Registers>,
    /// The stack, where it was read.
    pub callers: Callers<'a>,
}

/// How a session samples domains.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Ticks a second, Hz.
    pub frequency: u64,
    /// Stacks are read.
    pub call_graph: bool,
    /// `CLOCK_*` of the samples.
    pub clockid: i32,
    /// Waiting is sampled too (`--off-cpu`).
    pub waiting: bool,
}

/// Encodes the records of a session that samples domains.
#[derive(Debug)]
pub struct GuestForm {
    attr: Attr,
    format: SampleFormat,
    kinds: Vec<Kind>,
    /// Ids of one event.
    capacity: usize,
    /// (domain, vCPU) -> place of its ids.
    places: FxHashMap<(u32, u32), usize>,
}

impl GuestForm {
    /// For a session that begins with these domains. Ids for `SPARE_IDS` more vCPUs are reserved.
    pub fn new(options: &Options, domains: &[Domain]) -> GuestForm {
        let chain = if options.call_graph { sample::CALLCHAIN } else { 0 };
        let attr = Attr {
            kind: event_type::SOFTWARE,
            config: software::CPU_CLOCK,
            sample_period: options.frequency,
            sample_type: SAMPLE_TYPE | chain,
            read_format: read_format::ID,
            flags: attr_flag::FREQ | attr_flag::SAMPLE_ID_ALL | attr_flag::USE_CLOCKID,
            clockid: options.clockid,
            sample_regs_intr: REGISTERS,
            ..Attr::default()
        };
        let known: usize = domains.iter().map(|domain| domain.vcpus.min(VCPUS_MAX) as usize).sum();
        GuestForm {
            format: attr.sample_format(ByteOrder::NATIVE),
            attr,
            kinds: if options.waiting { vec![Kind::Running, Kind::Waiting] } else { vec![Kind::Running] },
            capacity: known + SPARE_IDS,
            places: FxHashMap::default(),
        }
    }

    /// Every state of vCPUs is told, too.
    #[must_use]
    pub fn with_states(mut self) -> GuestForm {
        self.kinds.push(Kind::States);
        self
    }

    /// Nothing but the states of vCPUs is told.
    #[must_use]
    pub fn of_states(mut self) -> GuestForm {
        self.kinds = vec![Kind::States];
        self
    }

    /// The attr of an event: a state has neither stack nor registers.
    fn attr(&self, kind: Kind) -> Attr {
        if kind != Kind::States {
            return self.attr.clone();
        }
        let without = sample::CALLCHAIN | sample::REGS_INTR | sample::PHYS_ADDR;
        Attr { sample_type: self.attr.sample_type & !without, sample_regs_intr: 0, ..self.attr.clone() }
    }

    /// The events, with all ids.
    pub fn events(&self) -> Events {
        let mut events = Events::new(ByteOrder::NATIVE);
        for (event, kind) in self.kinds.iter().enumerate() {
            let ids = (0..self.capacity).map(|place| self.id(event, place)).collect();
            events.push(self.attr(*kind), kind.event_name().into(), ids);
        }
        events
    }

    fn id(&self, event: usize, place: usize) -> u64 {
        FIRST_ID + (event * self.capacity + place) as u64
    }

    /// Appends what must come before the first sample of a domain, or after it was renamed or got more vCPUs: an ID_INDEX
    /// of the ids that are new, its name, and the place of what stands for time unseen. `time`: when it was seen, ns; 0 for one
    /// that was there at the start. Also for Domain-0.
    ///
    /// # Errors
    /// [`Error::Other`] when no ids are left: the domain's samples are then refused by [`GuestForm::sample`].
    pub fn domain(&mut self, domain: &Domain, time: u64, out: &mut Vec<u8>) -> Result<()> {
        self.domains(std::slice::from_ref(domain), time, out)
    }

    /// [`GuestForm::domain`] for several, all ids in front: what a recording begins with.
    ///
    /// # Errors
    /// As there; the domains that ids are left for are written.
    pub fn domains(&mut self, domains: &[Domain], time: u64, out: &mut Vec<u8>) -> Result<()> {
        let mut entries = Vec::new();
        let mut refused = None;
        for domain in domains {
            if let Err(error) = self.reserve(domain, &mut entries) {
                refused = Some(error);
            }
        }
        for part in entries.chunks(INDEX_ENTRIES) {
            let index = Record::IdIndex(IdIndex { entries: part.to_vec(), guests: true });
            out.extend(index.encode(&SampleId::default(), 0, &self.format)?);
        }
        for domain in domains {
            self.names(domain, time, out)?;
        }
        refused.map_or(Ok(()), Err)
    }

    fn reserve(&mut self, domain: &Domain, entries: &mut Vec<IdIndexEntry>) -> Result<()> {
        for vcpu in (0..domain.vcpus).filter(|vcpu| !self.places.contains_key(&(domain.id, *vcpu))).collect::<Vec<_>>()
        {
            let place = self.places.len();
            if place >= self.capacity {
                return Err(Error::Other(format!(
                    "domain {} ({}) appeared when all {} sample ids of the recording were in use: it is not recorded; start a new recording",
                    domain.name, domain.id, self.capacity
                )));
            }
            self.places.insert((domain.id, vcpu), place);
            entries.extend((0..self.kinds.len()).map(|event| IdIndexEntry {
                id: self.id(event, place),
                idx: event as u64,
                cpu: u64::MAX,
                tid: u64::MAX,
                machine_pid: domain.id.into(),
                vcpu: vcpu.into(),
            }));
        }
        Ok(())
    }

    /// The name of a domain as that of a process, for readers that know no domains; and the row of time unseen.
    fn names(&self, domain: &Domain, time: u64, out: &mut Vec<u8>) -> Result<()> {
        let Some(&place) = self.places.get(&(domain.id, 0)) else { return Ok(()) };
        let task = TaskId { pid: NO_TASK, tid: NO_TASK };
        let id = SampleId {
            fields: self.format.sample_type & (sample::TID | sample::TIME | sample::CPU | sample::IDENTIFIER),
            pid: NO_TASK,
            tid: NO_TASK,
            time,
            id: self.id(0, place),
            ..SampleId::default()
        };
        let mode = if domain.id == 0 { misc::USER } else { misc::GUEST_USER };
        let comm = Record::Comm(Comm { task, comm: domain.name.clone().into_bytes() });
        let place = |start, path: &str| {
            Record::Mmap(Mmap {
                pid: NO_TASK,
                tid: NO_TASK,
                start,
                len: BETWEEN_TICKS_LEN,
                prot: 5,
                path: path.into(),
                file: MmapFile::Inode { major: 0, minor: 0, inode: 0, generation: 0 },
                v2: true,
                ..Mmap::default()
            })
        };
        let states = RunState::ALL.into_iter().filter(|_| self.kinds.contains(&Kind::States));
        let states = states.map(|state| place(state_at(state), state.name()));
        let unseen = place(BETWEEN_TICKS_AT, unseen_name(domain.id));
        for record in [comm, unseen].into_iter().chain(states) {
            out.extend(record.encode(&id, mode, &self.format)?);
        }
        Ok(())
    }

    /// Appends one whole SAMPLE record. False, and nothing appended, when the vCPU has no id: its domain was not told, or
    /// there was none left.
    pub fn sample(&self, kind: Kind, sample: &DomainSample<'_>, out: &mut Vec<u8>) -> bool {
        let event = self.kinds.iter().position(|known| *known == kind);
        let (Some(event), Some(&place)) = (event, self.places.get(&(sample.domain, sample.vcpu))) else { return false };
        let unseen = sample.state == State::Blocked;
        let ip = if unseen { BETWEEN_TICKS_AT } else { sample.ip };
        let mode = if unseen { Mode::User } else { sample.mode };
        let (pid, tid) = sample.task.filter(|_| !unseen).unwrap_or((NO_TASK, NO_TASK));
        let torn = if sample.callers.torn && !unseen { TORN } else { 0 };
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        let mut word = |number: u64| out.extend_from_slice(&number.to_ne_bytes());
        word(self.id(event, place));
        word(ip);
        word(pair(pid, tid));
        word(sample.time);
        word(sample.state.number() | torn | sample.width.min(u32::MAX.into()) << 32);
        word(pair(sample.pcpu, 0));
        word(sample.period);
        if self.format.sample_type & sample::CALLCHAIN != 0 {
            let callers = if unseen { Callers::default() } else { sample.callers };
            chain(mode, ip, &callers, out);
        }
        let registers = sample.registers.filter(|_| !unseen);
        let mut word = |number: u64| out.extend_from_slice(&number.to_ne_bytes());
        word(REGS_ABI[registers.map_or(0, |registers| 1 + usize::from(registers.wide))]);
        if let Some(Registers { rbp, rsp, .. }) = registers {
            word(rbp);
            word(rsp);
        }
        word(registers.map_or(0, |regs| regs.cr3));
        finish(out, start, cpumode(mode, sample.domain));
        true
    }

    /// Appends the sample of a state. False as for [`GuestForm::sample`].
    pub fn state(&self, sample: &StateSample, out: &mut Vec<u8>) -> bool {
        let StateSample { time, period, of, pcpu, state, by, goes_on } = *sample;
        let event = self.kinds.iter().position(|known| *known == Kind::States);
        let (Some(event), Some(&place)) = (event, self.places.get(&(of.machine_pid, of.vcpu))) else { return false };
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        let task = pair(NO_TASK, NO_TASK);
        let addr = state.address(by) | if goes_on { GOES_ON } else { 0 };
        for word in [self.id(event, place), state_at(state), task, time, addr, pair(pcpu, 0), period] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        finish(out, start, cpumode(Mode::User, of.machine_pid));
        true
    }
}

fn state_at(state: RunState) -> u64 {
    STATES_AT + state.number() * BETWEEN_TICKS_LEN
}

/// Two numbers of 32 bits as they lie one after the other.
fn pair(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Writes the head of the sample that was appended from `start` on.
fn finish(out: &mut [u8], start: usize, mode: u16) {
    let size = (out.len() - start) as u16;
    let head = &mut out[start..start + 8];
    head[..4].copy_from_slice(&record::SAMPLE.to_ne_bytes());
    head[4..6].copy_from_slice(&mode.to_ne_bytes());
    head[6..].copy_from_slice(&size.to_ne_bytes());
}

/// Domain-0 is the host.
fn cpumode(mode: Mode, domain: u32) -> u16 {
    match (mode, domain) {
        (Mode::Hypervisor, _) => misc::HYPERVISOR,
        (Mode::User, 0) => misc::USER,
        (Mode::Kernel, 0) => misc::KERNEL,
        (Mode::User, _) => misc::GUEST_USER,
        (Mode::Kernel, _) => misc::GUEST_KERNEL,
    }
}

/// Appends a chain with its length in front.
fn chain(mode: Mode, ip: u64, callers: &Callers<'_>, out: &mut Vec<u8>) {
    let kernel = &callers.kernel[..callers.kernel.len().min(FRAMES_MAX)];
    let user = &callers.user[..callers.user.len().min(FRAMES_MAX)];
    let start = out.len();
    let mut word = |number: u64| out.extend_from_slice(&number.to_ne_bytes());
    word(0);
    let leaf = match mode {
        Mode::User => context::USER,
        Mode::Kernel => context::KERNEL,
        Mode::Hypervisor => context::HV,
    };
    word(leaf);
    word(ip);
    if mode == Mode::Hypervisor && !kernel.is_empty() {
        word(context::KERNEL);
    }
    if mode != Mode::User {
        kernel.iter().for_each(|frame| word(*frame));
        if !user.is_empty() {
            word(context::USER);
        }
    }
    user.iter().for_each(|frame| word(*frame));
    let entries = (out.len() - start) / 8 - 1;
    out[start..start + 8].copy_from_slice(&(entries as u64).to_ne_bytes());
}

#[cfg(test)]
mod tests;
