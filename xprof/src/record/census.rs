//! One look at the headers of what is written: counts, which processes have samples, and the few side-band records
//! that others must see. Samples are not decoded: of each one the header and a pid are read.

use rustc_hash::FxHashSet;
use xprof_perfdata::abi::{misc, record, sample};
use xprof_perfdata::events::Events;

/// More processes than this and every one counts as sampled.
const PIDS_MAX: usize = 1 << 20;

/// What has been written so far.
#[derive(Debug)]
pub(crate) struct Census {
    /// Samples.
    pub(crate) samples: u64,
    /// Records that the kernel says were lost (LOST and LOST_SAMPLES).
    pub(crate) lost: u64,
    /// The earliest and the latest time of a sample, ns.
    pub(crate) times: Option<(u64, u64)>,
    /// A sample fell into the kernel, or its chain may have.
    pub(crate) kernel: bool,
    /// Where a sample's pid stands after its header, when all events agree.
    pid_at: Option<usize>,
    /// And its time.
    time_at: Option<usize>,
    chains: bool,
    pids: FxHashSet<u32>,
    last_pid: u32,
}

impl Census {
    /// Nothing seen yet.
    pub(crate) fn new(events: &Events) -> Self {
        let same = |place: fn(u64) -> Option<usize>| {
            let mut places = events.list().iter().map(|event| place(event.attr.sample_type));
            let first = places.next().flatten();
            first.filter(|_| places.all(|place| place == first))
        };
        let chains = events.list().iter().any(|event| event.attr.sample_type & sample::CALLCHAIN != 0);
        Census {
            samples: 0,
            lost: 0,
            times: None,
            kernel: false,
            pid_at: same(pid_place),
            time_at: same(time_place),
            chains,
            pids: FxHashSet::default(),
            last_pid: u32::MAX,
        }
    }

    /// Walks whole records. `other` is given what is neither a sample nor a loss: kind, misc, and the whole record.
    pub(crate) fn walk(&mut self, bytes: &[u8], mut other: impl FnMut(u32, u16, &[u8])) {
        each(bytes, |kind, flags, whole| match kind {
            record::SAMPLE => self.sample(flags, whole),
            record::LOST => self.lost = self.lost.saturating_add(word(whole, 16)),
            record::LOST_SAMPLES => self.lost = self.lost.saturating_add(word(whole, 8)),
            _ => other(kind, flags, whole),
        });
    }

    fn sample(&mut self, flags: u16, whole: &[u8]) {
        self.samples += 1;
        if let Some(at) = self.time_at {
            let time = word(whole, 8 + at);
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
        // What a guest runs is none of this machine's files.
        if is_of_guest(flags) {
            return;
        }
        self.kernel |= self.chains || flags & misc::CPUMODE_MASK == misc::KERNEL;
        let Some(at) = self.pid_at else { return };
        let Some(pid) = whole.get(8 + at..).and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_ne_bytes(*b)) else {
            return;
        };
        if pid != self.last_pid {
            self.last_pid = pid;
            if self.pids.len() < PIDS_MAX {
                self.pids.insert(pid);
            }
        }
    }

    /// False when samples do not tell, or there were too many: then every process may have samples.
    pub(crate) fn pids_known(&self) -> bool {
        self.pid_at.is_some() && self.pids.len() < PIDS_MAX
    }

    /// The processes that have samples, as far as they are known.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.pids.iter().copied()
    }
}

/// True for the records of guests, by the cpumode.
pub(crate) fn is_of_guest(flags: u16) -> bool {
    matches!(flags & misc::CPUMODE_MASK, misc::GUEST_KERNEL | misc::GUEST_USER)
}

/// Gives each of whole records: kind, misc, and the whole record.
pub(crate) fn each(mut bytes: &[u8], mut give: impl FnMut(u32, u16, &[u8])) {
    while let Some((head, _)) = bytes.split_first_chunk::<8>() {
        let kind = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let flags = u16::from_ne_bytes([head[4], head[5]]);
        let size = usize::from(u16::from_ne_bytes([head[6], head[7]]));
        let Some((whole, rest)) = bytes.split_at_checked(size.max(8)) else { return };
        give(kind, flags, whole);
        bytes = rest;
    }
}

/// Offset of pid in the body of a sample of this type; `None` when it has none.
fn pid_place(sample_type: u64) -> Option<usize> {
    let before = sample_type & (sample::IDENTIFIER | sample::IP);
    (sample_type & sample::TID != 0).then(|| before.count_ones() as usize * 8)
}

/// The same of its time.
fn time_place(sample_type: u64) -> Option<usize> {
    let before = sample_type & (sample::IDENTIFIER | sample::IP | sample::TID);
    (sample_type & sample::TIME != 0).then(|| before.count_ones() as usize * 8)
}

/// The eight bytes at `at`; 0 when the record ends before.
fn word(record: &[u8], at: usize) -> u64 {
    let Some(bytes) = record.get(at..).and_then(|b| b.first_chunk::<8>()) else { return 0 };
    u64::from_ne_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::attr::Attr;
    use xprof_perfdata::codec::ByteOrder;

    use super::*;

    fn events(sample_types: &[u64]) -> Events {
        let mut events = Events::new(ByteOrder::NATIVE);
        for &sample_type in sample_types {
            events.push(Attr { sample_type, ..Attr::default() }, String::new(), Vec::new());
        }
        events
    }

    fn record(kind: u32, misc: u16, words: &[u64]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(misc.to_ne_bytes());
        bytes.extend((8 + 8 * words.len() as u16).to_ne_bytes());
        words.iter().for_each(|w| bytes.extend(w.to_ne_bytes()));
        bytes
    }

    #[test]
    fn samples_losses_and_pids_are_counted() {
        let mut census = Census::new(&events(&[sample::IDENTIFIER | sample::IP | sample::TID]));
        let mut bytes = record(record::SAMPLE, misc::USER, &[1, 2, 77]);
        bytes.extend(record(record::SAMPLE, misc::USER, &[1, 2, 78]));
        bytes.extend(record(record::LOST, 0, &[1, 10]));
        bytes.extend(record(record::LOST_SAMPLES, 0, &[5]));
        bytes.extend(record(record::EXIT, 0, &[0, 0, 0]));
        bytes.extend([1, 2, 3]);
        let mut others = Vec::new();
        census.walk(&bytes, |kind, _, whole| others.push((kind, whole.len())));
        assert_eq!((census.samples, census.lost, census.kernel), (2, 15, false));
        assert_eq!(others, [(record::EXIT, 32)]);
        let mut pids: Vec<u32> = census.pids().collect();
        pids.sort_unstable();
        assert_eq!((pids, census.pids_known()), (vec![77, 78], true));
        census.walk(&record(record::SAMPLE, misc::KERNEL, &[1, 2, 77]), |_, _, _| {});
        assert!(census.kernel);
    }

    #[test]
    fn the_first_and_the_last_time() {
        let mut census = Census::new(&events(&[sample::IDENTIFIER | sample::IP | sample::TID | sample::TIME]));
        for time in [50, 40, 60] {
            census.walk(&record(record::SAMPLE, misc::USER, &[1, 2, 77, time]), |_, _, _| {});
        }
        assert_eq!(census.times, Some((40, 60)));
        let mut census = Census::new(&events(&[sample::IDENTIFIER | sample::IP]));
        census.walk(&record(record::SAMPLE, misc::USER, &[1, 2]), |_, _, _| {});
        assert_eq!(census.times, None);
    }

    #[test]
    fn events_that_disagree_make_every_process_count() {
        let census = Census::new(&events(&[sample::IP | sample::TID, sample::TID]));
        assert!(!census.pids_known());
    }
}
