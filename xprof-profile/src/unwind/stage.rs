//! Records with stack copies in, records with call chains out.
//!
//! The stage stands between the order and whoever takes records: the writer of a recording, or the report on one. What
//! leaves it looks as if the kernel had walked the stacks: kernel half, user half, a `[truncated]` pseudo mapping under
//! what a copy was too small for. So nobody behind it knows of stack copies, and what is recorded can be read by tools
//! that do not unwind.
//!
//! The calls that a CPU kept (`--call-graph lbr`) become chains here too, but only when a recording is read: perf reads them
//! from where they are.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::abi::{attr_flag, branch, context, misc, record, sample as bit};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::order::{Batch, RawRecord, Slot};
use xprof_perfdata::record::{Mmap, MmapFile, Record};
use xprof_perfdata::sample::{Sample, SampleFormat, SampleId, UserStack};

use super::beyond::{Memory, Pages, Place, Shown};
use super::{Arch, End, Registers, Stack, Unwinder, unwind_32};
use crate::profile::CALLS;
use crate::supply::Supplier;
use crate::timeline::Timeline;

/// Where the pseudo mapping under cut chains begins and how long it is. In the second page nothing can be mapped
/// (`vm.mmap_min_addr`).
const TRUNCATED_START: u64 = 0x1000;
const TRUNCATED_LEN: u64 = 0x1000;
/// The address that ends a chain whose stack copy was too small: as a return address it is looked up one byte before.
pub const TRUNCATED: u64 = TRUNCATED_START + 1;
/// Name of the pseudo mapping at [`TRUNCATED`].
pub const TRUNCATED_NAME: &[u8] = b"[truncated]";
/// `PROT_EXEC`.
const PROT_EXEC: u32 = 4;
/// A record's size is 16 bits; the kernel ends records at a multiple of 8.
const RECORD_MAX: usize = 0xfff8;

/// What happened to the stack copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stacks with a user half.
    pub stacks: u64,
    /// Those that reach the start of their thread or program.
    pub whole: u64,
    /// Those that end where the copy does.
    pub cut: u64,
    /// Whole ones whose outer frames are from the memory of the process.
    pub completed: u64,
    /// Those of 32-bit programs, which were followed by frame pointers alone.
    pub narrow: u64,
}

/// A stack that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Its stack pointer.
    pub sp: u64,
}

/// What is done with the samples of one event.
#[derive(Clone, Debug)]
struct Way {
    format: SampleFormat,
    mask: u64,
    copies: bool,
    /// The calls that the CPU kept are its user half.
    calls: bool,
}

/// The stage.
pub struct Stage {
    arch: Arch,
    unwinder: Unwinder,
    timeline: Timeline,
    taken: Events,
    ways: Vec<Way>,
    given: Events,
    keeps_registers: bool,
    /// Processes whose maps have a `[truncated]`.
    marked: FxHashSet<u32>,
    counts: Counts,
    /// Where the cut stacks of each thread began, lowest first seen: for advice on the size.
    cuts: FxHashMap<(u32, u32), u64>,
    chain: Vec<u64>,
    /// The processes' memory, while they run, and what their stacks have shown.
    memory: Option<Box<dyn Memory>>,
    shown: Shown,
    decoded: Sample,
}

/// Words of a frame that are searched for its return address, from above.
const MOST_WORDS: u64 = 1 << 12;
/// Threads whose cut stacks are remembered.
const MOST_CUTS: usize = 1 << 16;

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({:?})", self.counts)
    }
}

impl Stage {
    /// A stage for records of these events; `None` when none of them has stack copies, or stacks of this machine
    /// (`uname -m`) cannot be unwound. `keep_registers`: samples keep their user registers.
    pub fn new(
        events: &Events,
        machine: Option<&str>,
        build_ids: &[BuildIdEntry],
        supplier: Arc<dyn Supplier>,
        keep_registers: bool,
    ) -> Option<Stage> {
        let arch = Arch::of(machine?)?;
        const COPY: u64 = bit::STACK_USER | bit::REGS_USER;
        let has_copy = |sample_type: u64| sample_type & COPY == COPY;
        // perf's `evsel__has_branch_callstack`; without a chain there is no kernel half, and perf shows none either.
        const CALLS: u64 = bit::CALLCHAIN | bit::BRANCH_STACK;
        let has_calls =
            |attr: &Attr| attr.sample_type & CALLS == CALLS && attr.branch_sample_type & branch::CALL_STACK != 0;
        let is_changed = |attr: &Attr| has_copy(attr.sample_type) || has_calls(attr);
        if events.order != ByteOrder::Little || !events.list().iter().any(|e| is_changed(&e.attr)) {
            return None;
        }
        let mut given = Events::new(events.order);
        for event in events.list() {
            let mut attr = event.attr.clone();
            if has_copy(attr.sample_type) {
                attr.sample_type = attr.sample_type & !bit::STACK_USER | bit::CALLCHAIN;
                attr.sample_stack_user = 0;
                if !keep_registers {
                    attr.sample_type &= !bit::REGS_USER;
                    attr.sample_regs_user = 0;
                    attr.flags &= !attr_flag::EXCLUDE_CALLCHAIN_USER;
                }
            }
            given.push(attr, event.name.clone(), event.ids.clone());
        }
        let way = |event: &xprof_perfdata::events::Event| Way {
            format: event.format.clone(),
            mask: event.attr.sample_regs_user,
            copies: has_copy(event.attr.sample_type),
            calls: has_calls(&event.attr),
        };
        Some(Stage {
            arch,
            unwinder: Unwinder::new(arch, supplier),
            timeline: Timeline::new(build_ids),
            ways: events.list().iter().map(way).collect(),
            taken: events.clone(),
            given,
            keeps_registers: keep_registers,
            marked: FxHashSet::default(),
            counts: Counts::default(),
            cuts: FxHashMap::default(),
            chain: Vec::new(),
            memory: None,
            shown: Shown::default(),
            decoded: Sample::default(),
        })
    }

    /// Stacks larger than their copies are completed from this memory, where that is certain. The join is a second marker of
    /// the user half ([`context::USER`]), which no tool takes for a frame.
    pub fn complete_from(&mut self, memory: Box<dyn Memory>) {
        self.memory = Some(memory);
    }

    /// The events whose records leave the stage.
    pub fn events(&self) -> &Events {
        &self.given
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The threads of cut stacks, each with the lowest stack pointer of one.
    pub fn cuts(&self) -> impl Iterator<Item = Cut> + '_ {
        self.cuts.iter().map(|(&(pid, tid), &sp)| Cut { pid, tid, sp })
    }

    /// Forgets which processes have a `[truncated]` mapping: a new file begins.
    pub fn begin_file(&mut self) {
        self.marked.clear();
    }

    /// Takes a record that changes what is mapped, without passing it on.
    pub fn see(&mut self, raw: &RawRecord<'_>) {
        if !matches!(raw.kind, record::MMAP | record::MMAP2 | record::COMM | record::FORK | record::EXIT) {
            return;
        }
        let Ok((decoded, id)) = Record::decode(raw, &self.taken) else { return };
        match &decoded {
            Record::Comm(comm) if raw.misc & misc::COMM_EXEC != 0 => drop(self.marked.remove(&comm.task.pid)),
            Record::Exit(task) if task.pid == task.tid => drop(self.marked.remove(&task.pid)),
            _ => {}
        }
        match &decoded {
            Record::Comm(comm) if raw.misc & misc::COMM_EXEC != 0 => self.shown.forget((comm.task.pid, comm.task.tid)),
            Record::Fork(task) | Record::Exit(task) => self.shown.forget((task.pid, task.tid)),
            _ => {}
        }
        self.timeline.apply(&decoded, raw.misc, (id.id, id.pid));
    }

    /// [`Stage::see`] for whole records, undecoded and without event (records of what was running).
    pub fn see_all(&mut self, mut bytes: &[u8]) {
        while let Some((head, _)) = bytes.split_first_chunk::<8>() {
            let kind = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            let misc = u16::from_le_bytes([head[4], head[5]]);
            let size = usize::from(u16::from_le_bytes([head[6], head[7]]));
            let Some((whole, rest)) = bytes.split_at_checked(size.max(8)) else { return };
            let body = whole.get(8..).unwrap_or_default();
            self.see(&RawRecord { kind, misc, body, time: 0, event: u32::MAX, offset: 0 });
            bytes = rest;
        }
    }

    /// Puts the records of a batch, with chains in place of copies, into another one.
    pub fn batch(&mut self, batch: &Batch, out: &mut Batch) {
        out.bytes.clear();
        out.slots.clear();
        out.swapped = batch.swapped;
        for slot in &batch.slots {
            let (Some(raw), Some(whole)) = (batch.record(slot), batch.whole(slot)) else { continue };
            if raw.kind == record::SAMPLE {
                let (pid, at) = (self.marked.len(), out.bytes.len());
                self.sample(&raw, whole, &mut out.bytes);
                if self.marked.len() != pid {
                    // A mapping was declared in front of the sample.
                    let size =
                        out.bytes.get(at + 6..at + 8).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
                    out.slots.push(Slot { at: at as u32, ..*slot });
                    out.slots.push(Slot { at: (at + size) as u32, ..*slot });
                    continue;
                }
                out.slots.push(Slot { at: at as u32, ..*slot });
                continue;
            }
            self.see(&raw);
            out.slots.push(Slot { at: out.bytes.len() as u32, ..*slot });
            out.bytes.extend_from_slice(whole);
        }
    }

    /// Appends a sample with its chain, and in front of the first cut one of a process its `[truncated]` mapping.
    fn sample(&mut self, raw: &RawRecord<'_>, whole: &[u8], out: &mut Vec<u8>) {
        let way = match self.ways.get(raw.event as usize) {
            Some(way) if way.copies => way,
            Some(way) if way.calls => return calls(&way.format, raw, whole, &mut self.decoded, out),
            _ => return out.extend_from_slice(whole),
        };
        let event = self.taken.list().get(raw.event as usize);
        let view = event.and_then(|event| event.layout.view(raw.body));
        let parts = way.format.user_stack(raw.body);
        let (Some(view), Some(parts)) = (view, parts) else {
            // Too short for its format: it is as short for the format that it gets.
            out.extend_from_slice(whole.get(..8).unwrap_or_default());
            let at = out.len();
            if let Some(size) = out.get_mut(at - 2..) {
                size.copy_from_slice(&8u16.to_le_bytes());
            }
            return;
        };
        let (pid, tid, time) = (view.pid(), view.tid(), view.time());
        self.chain.clear();
        self.chain.extend(parts.chain.iter());
        let registers = Registers::of_sample(self.arch, way.mask, parts.regs);
        if parts.abi != 0 && self.user_half(&parts, (pid, tid, time), registers) && self.marked.insert(pid) {
            self.declare(raw, pid, tid, time, out);
        }
        let fixed = raw.body.len() - (parts.chain_at.len() + parts.stack_at.len());
        self.chain.truncate((RECORD_MAX - 16).saturating_sub(fixed) / 8);
        let start = out.len();
        out.extend_from_slice(&whole[..8]);
        out.extend_from_slice(&raw.body[..parts.chain_at.start]);
        out.extend_from_slice(&(self.chain.len() as u64).to_le_bytes());
        for entry in &self.chain {
            out.extend_from_slice(&entry.to_le_bytes());
        }
        out.extend_from_slice(&raw.body[parts.chain_at.end..parts.regs_at.start]);
        if self.keeps_registers {
            out.extend_from_slice(&raw.body[parts.regs_at.clone()]);
        }
        out.extend_from_slice(&raw.body[parts.stack_at.end..]);
        let size = (out.len() - start) as u16;
        if let Some(field) = out.get_mut(start + 6..start + 8) {
            field.copy_from_slice(&size.to_le_bytes());
        }
    }

    /// Appends the user half of a chain; true when it was cut.
    fn user_half(&mut self, parts: &UserStack<'_>, (pid, tid, time): (u32, u32, u64), registers: Registers) -> bool {
        /// `PERF_SAMPLE_REGS_ABI_32`.
        const ABI_32: u64 = 1;
        let Some(sp) = registers.get(self.arch.sp()) else { return false };
        // The kernel walked the user half too: the frames are the same, and CFI knows more of them.
        if let Some(user) = self.chain.iter().position(|&entry| entry == context::USER) {
            self.chain.truncate(user);
        }
        let full = parts.asked != 0 && parts.stack.len() >= parts.asked;
        let stack = Stack::new(sp, parts.stack, full);
        self.chain.push(context::USER);
        self.counts.stacks += 1;
        let end = if parts.abi == ABI_32 {
            self.counts.narrow += 1;
            unwind_32(&self.timeline, pid, &registers, &stack, &mut self.chain)
        } else {
            let end = self.unwinder.unwind(&self.timeline, pid, registers.clone(), &stack, &mut self.chain);
            if self.memory.is_some() { self.complete((pid, tid, time), registers, &stack, end) } else { end }
        };
        match end {
            End::Whole => self.counts.whole += 1,
            End::Broken => {}
            End::Cut => {
                self.counts.cut += 1;
                self.chain.push(TRUNCATED);
                if self.cuts.len() < MOST_CUTS {
                    let lowest = self.cuts.entry((pid, tid)).or_insert(sp);
                    *lowest = sp.min(*lowest);
                }
                return true;
            }
        }
        false
    }

    /// Appends what a cut chain lacks, where that is certain, and remembers what the stack shows.
    fn complete(
        &mut self,
        (pid, tid, time): (u32, u32, u64),
        registers: Registers,
        stack: &Stack<'_>,
        end: End,
    ) -> End {
        let who = (pid, tid);
        let mut seen = self.unwinder.frames().to_vec();
        if end != End::Cut {
            self.shown.take(who, time, &seen, None);
            return end;
        }
        let rest = self.callers_beyond(pid, registers, stack, &seen);
        let now = self.memory.as_ref().and_then(|memory| memory.now());
        if let (Some(rest), Some(now)) = (rest, now)
            && self.shown.confirms(who, time, now, &rest)
        {
            self.chain.push(context::USER);
            self.chain.extend(rest.iter().map(|place| place.pc));
            seen.extend(rest);
            self.counts.completed += 1;
            self.shown.take(who, time, &seen, None);
            return End::Whole;
        }
        self.shown.take(who, time, &seen, Some(stack.end()));
        end
    }

    /// The callers above a copy, as the process's memory has them now; `None` when it shows another stack.
    fn callers_beyond(
        &mut self,
        pid: u32,
        registers: Registers,
        stack: &Stack<'_>,
        seen: &[Place],
    ) -> Option<Vec<Place>> {
        let (outer, inner) = (seen.last()?, seen.iter().rev().nth(1)?);
        let pages = Pages::new(self.memory.as_ref()?.of(pid).ok()?);
        // The outermost frame that was copied is still there: what returns to it does so from the same place.
        let words = (1..=MOST_WORDS).map_while(|n| outer.sp.checked_sub(8 * n)).take_while(|at| *at >= inner.sp);
        let returns = |&at: &u64| stack.word(at).is_ok_and(|word| self.arch.code(word) == outer.pc);
        let at = { words }.find(returns)?;
        if stack.word(at).ok() != pages.word(at) {
            return None;
        }
        let mut chain = Vec::new();
        let end = self.unwinder.unwind(&self.timeline, pid, registers, &stack.with(&pages), &mut chain);
        let rest = self.unwinder.frames().strip_prefix(seen)?;
        (end == End::Whole).then(|| rest.to_vec())
    }

    /// Declares the `[truncated]` mapping of a process.
    fn declare(&mut self, raw: &RawRecord<'_>, pid: u32, tid: u32, time: u64, out: &mut Vec<u8>) {
        let mmap = Record::Mmap(Mmap {
            v2: true,
            pid,
            tid,
            start: TRUNCATED_START,
            len: TRUNCATED_LEN,
            pgoff: 0,
            file: MmapFile::Inode { major: 0, minor: 0, inode: 0, generation: 0 },
            prot: PROT_EXEC,
            flags: 0,
            path: TRUNCATED_NAME.to_vec(),
        });
        let Some(event) = self.given.list().get(raw.event as usize) else { return };
        let id = SampleId {
            fields: u64::MAX,
            pid,
            tid,
            time,
            id: event.ids.first().copied().unwrap_or_default(),
            ..SampleId::default()
        };
        if let Ok(bytes) = mmap.encode(&id, misc::USER, &event.format) {
            self.timeline.apply(&mmap, misc::USER, (0, pid));
            out.extend(bytes);
        } else {
            self.marked.remove(&pid);
        }
    }
}

/// Appends a sample with the calls that its CPU kept as the user half of its chain, as perf puts it together
/// (`resolve_lbr_callchain_sample` of tools/perf/util/machine.c): the kernel half, where the last call led to, and from where
/// each was made. A sample that has been in no user space, or has no calls, stays as it is.
fn calls(format: &SampleFormat, raw: &RawRecord<'_>, whole: &[u8], sample: &mut Sample, out: &mut Vec<u8>) {
    let start = out.len();
    if format.decode_sample(raw.body, sample).is_ok()
        && let Some(last) = sample.branch_stack.entries.first().map(|call| call.to)
        && let Some(user) = sample.callchain.iter().position(|&entry| entry == context::USER)
    {
        sample.callchain.truncate(user);
        sample.callchain.extend([CALLS, last]);
        let from = sample.branch_stack.entries.iter().map(|call| call.from);
        sample.callchain.extend(from);
        out.extend_from_slice(whole.get(..8).unwrap_or_default());
        let is_encoded = format.encode_sample(sample, out).is_ok();
        if let (true, Ok(size @ ..=0xfff8)) = (is_encoded, u16::try_from(out.len() - start)) {
            if let Some(field) = out.get_mut(start + 6..start + 8) {
                field.copy_from_slice(&size.to_le_bytes());
            }
            return;
        }
        out.truncate(start);
    }
    out.extend_from_slice(whole);
}
