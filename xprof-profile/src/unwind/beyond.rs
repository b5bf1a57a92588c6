//! Callers that the copy of a stack does not reach: read from the process while it is recorded, and believed only when they
//! stood there before the sample and after it.
//!
//! The kernel copies 65,528 bytes of a stack at most, and one frame can be larger (`rustc` has one of 540 KB). What lies above
//! changes seldom, so the process itself is asked, some time after the sample. That alone would be wrong where a stack was
//! popped and made anew with other callers, as alike as its inner frames may be. Hence the rule: the callers above a cut are
//! taken only when the thread showed the very same ones, at the same addresses, at an earlier moment too (an earlier sample
//! that saw them, or an earlier look into its memory), and no sample between showed them popped. A place of a stack that once
//! had other callers after a sample than before it is not completed again, and a thread is believed only after three looks that
//! agreed. So a wrong stack takes inner frames that are made anew bit by bit, over callers that change away and back between
//! two looks (50 ms) each of these times.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;

use rustc_hash::{FxHashMap, FxHashSet};
use xprof_perfdata::source::Source;

/// Frames that are remembered, of all threads together (16 bytes each); past it all are forgotten.
const MOST_FRAMES: usize = 1 << 19;
/// Looks into memory that wait for samples as late as they are.
const MOST_LOOKS: usize = 8;
/// Time between two looks that are remembered, ns.
const BETWEEN_LOOKS: u64 = 10_000_000;
/// Looks that must have agreed with what was known before.
const AGREEING: u32 = 3;
/// Places of one stack whose callers were seen to change; with more, none is completed.
const MOST_CHANGED: usize = 256;
/// Bytes that are read at once: no more than a page, so that what is mapped is read whole.
const PAGE: u64 = 4096;
/// Pages of one stack that are read.
const MOST_PAGES: usize = 1024;

/// The memory of running processes.
pub trait Memory: Debug + Send {
    /// That of a process, by address, as it is when it is read.
    fn of(&self, pid: u32) -> io::Result<Box<dyn Source>>;
    /// The time on the clock of the samples, ns.
    fn now(&self) -> Option<u64>;
}

/// The memory of one process.
pub(crate) struct Pages {
    source: Box<dyn Source>,
    pages: RefCell<FxHashMap<u64, Option<Box<[u8]>>>>,
}

impl Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pages({})", self.pages.borrow().len())
    }
}

impl Pages {
    /// Nothing has been read.
    pub(crate) fn new(source: Box<dyn Source>) -> Pages {
        Pages { source, pages: RefCell::default() }
    }

    /// The little-endian word at an address.
    pub(crate) fn word(&self, addr: u64) -> Option<u64> {
        let mut pages = self.pages.borrow_mut();
        let page = addr & !(PAGE - 1);
        if !pages.contains_key(&page) && pages.len() >= MOST_PAGES {
            return None;
        }
        let read = || {
            let mut bytes = vec![0; PAGE as usize];
            self.source.read_exact_at(page, &mut bytes).ok().map(|()| bytes.into_boxed_slice())
        };
        let bytes = pages.entry(page).or_insert_with(read).as_deref()?;
        let word = bytes.get((addr - page) as usize..)?.first_chunk()?;
        Some(u64::from_le_bytes(*word))
    }
}

/// A frame on a stack: where its own part begins, and the address that it goes on at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sp: u64,
    pub(crate) pc: u64,
}

/// What a thread's stack has shown, frames innermost first.
#[derive(Debug, Default)]
struct Thread {
    frames: Vec<Place>,
    /// Looks into its memory: when, and what it showed.
    looks: VecDeque<(u64, Vec<Place>)>,
    /// When the last look was counted that agreed, and how many did since one did not.
    agreed: (u64, u32),
    /// Places whose callers were seen to change between two looks.
    changed: FxHashSet<u64>,
}

impl Thread {
    fn size(&self) -> usize {
        self.frames.len() + self.looks.iter().map(|(_, frames)| frames.len()).sum::<usize>() + self.changed.len()
    }
}

/// What the stacks of all threads have shown.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    threads: FxHashMap<(u32, u32), Thread>,
    size: usize,
}

impl Shown {
    /// Whether the callers `rest` of a stack that was cut at `time` are believed: they were read just now (`now`).
    pub(crate) fn confirms(&mut self, who: (u32, u32), time: u64, now: u64, rest: &[Place]) -> bool {
        let Some(first) = rest.first() else { return false };
        let thread = self.threads.entry(who).or_default();
        let size = thread.size();
        thread.catch_up(time);
        let before = thread.frames.iter().position(|frame| frame.sp == first.sp).map(|at| &thread.frames[at..]);
        let same = before.map(|before| before == rest);
        if same == Some(false) && thread.changed.len() <= MOST_CHANGED {
            thread.changed.insert(first.sp);
            thread.agreed = (now, 0);
        }
        if same == Some(true) && now.saturating_sub(thread.agreed.0) >= BETWEEN_LOOKS {
            thread.agreed = (now, thread.agreed.1.saturating_add(1));
        }
        let steady = thread.changed.len() <= MOST_CHANGED && !thread.changed.contains(&first.sp);
        let due = thread.looks.back().is_none_or(|(last, _)| now.saturating_sub(*last) >= BETWEEN_LOOKS);
        if due && thread.looks.len() < MOST_LOOKS {
            thread.looks.push_back((now, rest.to_vec()));
        }
        let believed = same == Some(true) && steady && thread.agreed.1 >= AGREEING;
        let grown = thread.size();
        self.resized(size, grown);
        believed
    }

    /// Takes what a sample showed: its frames, and where its copy ended when it was cut there; what was seen above stays then.
    pub(crate) fn take(&mut self, who: (u32, u32), time: u64, frames: &[Place], cut_at: Option<u64>) {
        let thread = self.threads.entry(who).or_default();
        let size = thread.size();
        thread.catch_up(time);
        let above = cut_at.and_then(|end| thread.frames.iter().position(|frame| frame.sp > end));
        let kept = above.unwrap_or(thread.frames.len());
        thread.frames.splice(..kept, frames.iter().copied());
        let grown = thread.size();
        self.resized(size, grown);
    }

    /// A thread is gone, or begins anew.
    pub(crate) fn forget(&mut self, who: (u32, u32)) {
        if let Some(thread) = self.threads.remove(&who) {
            self.size -= thread.size();
        }
    }

    fn resized(&mut self, from: usize, to: usize) {
        self.size = self.size + to - from;
        if self.size > MOST_FRAMES {
            *self = Shown::default();
        }
    }
}

impl Thread {
    /// What memory showed no later than `time` is known before what a sample of that time shows.
    fn catch_up(&mut self, time: u64) {
        while let Some((_, frames)) = self.looks.pop_front_if(|(look, _)| *look <= time) {
            self.frames = frames;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: (u32, u32) = (1, 1);
    const MS: u64 = 1_000_000;

    /// Frames at 100 and 200 below callers at 1000 and 2000; `bottom` is the address of the outer one.
    fn callers(bottom: u64) -> Vec<Place> {
        vec![Place { sp: 1000, pc: 7 }, Place { sp: 2000, pc: bottom }]
    }

    const INNER: [Place; 2] = [Place { sp: 100, pc: 1 }, Place { sp: 200, pc: 2 }];

    fn cut(shown: &mut Shown, time: u64, now: u64, bottom: u64) -> bool {
        let rest = callers(bottom);
        let believed = shown.confirms(WHO, time * MS, now * MS, &rest);
        let frames = if believed { [&INNER[..], &rest].concat() } else { INNER.to_vec() };
        shown.take(WHO, time * MS, &frames, (!believed).then_some(500));
        believed
    }

    /// A thread whose callers above the cut were seen whole at 10, and looked at three times until 300.
    fn known() -> Shown {
        let mut shown = Shown::default();
        shown.take(WHO, 10 * MS, &[&[Place { sp: 900, pc: 5 }][..], &callers(8)].concat(), None);
        assert!(!cut(&mut shown, 11, 100, 8) && !cut(&mut shown, 12, 101, 8) && !cut(&mut shown, 110, 200, 8));
        shown
    }

    #[test]
    fn callers_that_stood_there_before_and_after() {
        let mut shown = known();
        assert!(cut(&mut shown, 210, 300, 8) && cut(&mut shown, 211, 301, 8));
        // A whole stack that does not have them: they are gone.
        shown.take(WHO, 212 * MS, &[Place { sp: 3000, pc: 1 }], None);
        assert!(!cut(&mut shown, 213, 302, 8));
        // What memory showed at 300 is of no use before that time.
        assert!(!cut(&mut shown, 299, 399, 8));
        assert!(cut(&mut shown, 300, 400, 8));
    }

    #[test]
    fn the_same_stack_over_another_bottom_is_found_out() {
        let mut shown = known();
        assert!(cut(&mut shown, 210, 300, 8));
        // Made anew before the look: nobody knows whether that was before or after the sample.
        assert!(!cut(&mut shown, 211, 301, 9));
        // From then on that place is not completed.
        assert!((0..20).all(|n| !cut(&mut shown, 212 + n, 400 + 100 * n, 8)));
        assert!((0..20).all(|n| !cut(&mut shown, 2400 + 100 * n, 2500 + 100 * n, 9)));
        shown.forget(WHO);
        assert_eq!(shown.size, 0);
    }

    #[test]
    fn the_first_stack_has_nothing_before_it() {
        let mut shown = Shown::default();
        let looks = [(1, 90), (2, 91), (90, 180), (180, 270), (270, 360)];
        assert_eq!(looks.map(|(time, now)| cut(&mut shown, time, now, 8)), [false, false, false, false, true]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut shown = Shown::default();
        let frames = vec![Place { sp: 1, pc: 1 }; 5000];
        for tid in 0..1000 {
            shown.take((1, tid), 0, &frames, None);
            assert!(shown.size <= MOST_FRAMES);
        }
        let sum = shown.threads.values().map(Thread::size).sum::<usize>();
        assert_eq!(sum, shown.size);
    }
}
