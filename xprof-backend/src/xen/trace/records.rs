//! Records of Xen's trace (public/trace.h), from bytes: of a ring, or of a file that xentrace has written.
//!
//! A record is a word (event in 28 bits, a count of words in three, and whether a time follows), the time of its pCPU's TSC, and up
//! to seven words. Which events mean something here is said by [`TABLE`] alone; all others are passed over by their size.
//! The bytes are another's: what is cut short ends the reading and is counted.

pub use xprof_perfdata::domain::RunState;

/// What an event means to a profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// A vCPU went from one state into another, which bits of the event's number say.
    State,
    /// The pCPU goes on with the vCPU that it has.
    Continues,
    /// A vCPU gives its pCPU away.
    Yields,
    /// A guest stopped for Xen (SVM's or VMX's exit).
    Exits,
    /// There was no space for some.
    Lost,
    /// Fills up the end of a ring.
    End,
    /// What follows is of another pCPU: xentrace's own.
    Cpu,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The number of the event, without the bits that say more.
    pub number: u32,
    /// Those bits.
    pub variable: u32,
    /// The words that follow, at least.
    pub words: u8,
    /// `TRC_*`.
    pub name: &'static str,
    /// What it means.
    pub meaning: Meaning,
}

const fn row(number: u32, variable: u32, words: u8, name: &'static str, meaning: Meaning) -> Row {
    Row { number, variable, words, name, meaning }
}

/// Classes of events, for the mask: `TRC_SCHED_MIN`, `TRC_SCHED_VERBOSE` (yields are there), `TRC_HVM_ENTRYEXIT`. An event is written when both its
/// class (bits 27 to 16) and its subclass (15 to 12) have a bit in the mask.
pub const MASK: u32 = 0x0002_1000 | 0x0002_8000 | 0x0008_1000;

/// What is read, the most frequent first. The states of `TRC_SCHED_RUNSTATE_CHANGE` are in bits 9 and 8 (before) and 5 and 4 (after); exits have
/// numbers for guests of 32 and of 64 bits (`TRC_64_FLAG`), for nested ones, and in later releases for SVM.
pub const TABLE: [Row; 7] = [
    row(0x2_1001, 0x330, 1, "TRC_SCHED_RUNSTATE_CHANGE", Meaning::State),
    row(0x8_1002, 0x501, 1, "TRC_HVM_VMEXIT", Meaning::Exits),
    row(0x2_1002, 0, 1, "TRC_SCHED_CONTINUE_RUNNING", Meaning::Continues),
    row(0x2_8005, 0, 2, "TRC_SCHED_YIELD", Meaning::Yields),
    row(0x1_f001, 0, 4, "TRC_LOST_RECORDS", Meaning::Lost),
    row(0x1_f002, 0, 0, "TRC_TRACE_WRAP_BUFFER", Meaning::End),
    row(0x1_f003, 0, 1, "TRC_TRACE_CPU_CHANGE", Meaning::Cpu),
];

/// The row of an event.
#[inline]
fn row_of(event: u32) -> Option<&'static Row> {
    TABLE.iter().find(|row| event & !row.variable == row.number)
}

/// A vCPU, as records name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vcpu {
    /// Its domain's id.
    pub domain: u16,
    /// Its number.
    pub vcpu: u16,
}

impl Vcpu {
    /// `u32 vcpu:16, domain:16`.
    fn of(word: u32) -> Vcpu {
        Vcpu { domain: (word >> 16) as u16, vcpu: word as u16 }
    }
}

/// The state in the two lowest bits.
fn state_of(bits: u32) -> RunState {
    RunState::ALL[(bits & 3) as usize]
}

/// A record that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// [`Meaning::State`].
    State {
        /// Whose.
        of: Vcpu,
        /// The state before.
        old: RunState,
        /// The one from here on.
        new: RunState,
    },
    /// [`Meaning::Continues`].
    Continues(Vcpu),
    /// [`Meaning::Yields`].
    Yields(Vcpu),
    /// [`Meaning::Exits`], with the reason as the CPU's vendor numbers it.
    Exits(u32),
    /// [`Meaning::Lost`].
    Lost {
        /// Records.
        count: u32,
        /// TSC of the first.
        first: u64,
    },
    /// [`Meaning::Cpu`].
    Cpu(u32),
    /// Nothing.
    Other,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub number: u32,
    /// TSC of its pCPU, where it has one.
    pub tsc: Option<u64>,
    words: &'a [u8],
}

impl Record<'_> {
    /// A word of it; 0 for one that is not there.
    #[inline]
    pub fn word(&self, index: usize) -> u32 {
        self.words
            .get(index * 4..index * 4 + 4)
            .map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
    }

    /// What it means.
    #[inline]
    pub fn event(&self) -> Event {
        let Some(row) = row_of(self.number).filter(|row| self.words.len() >= usize::from(row.words) * 4) else {
            return Event::Other;
        };
        match row.meaning {
            Meaning::State => {
                let (old, new) = (state_of(self.number >> 8), state_of(self.number >> 4));
                Event::State { of: Vcpu::of(self.word(0)), old, new }
            }
            Meaning::Continues => Event::Continues(Vcpu::of(self.word(0))),
            Meaning::Yields => Event::Yields(Vcpu { domain: self.word(0) as u16, vcpu: self.word(1) as u16 }),
            Meaning::Exits => Event::Exits(self.word(0)),
            Meaning::Lost => {
                Event::Lost { count: self.word(0), first: u64::from(self.word(2)) | u64::from(self.word(3)) << 32 }
            }
            Meaning::Cpu => Event::Cpu(self.word(0)),
            Meaning::End => Event::Other,
        }
    }
}

/// The records of some bytes.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    /// The last one was cut short.
    pub cut: bool,
}

impl<'a> Records<'a> {
    /// Of these bytes.
    pub fn new(bytes: &'a [u8]) -> Records<'a> {
        Records { rest: bytes, cut: false }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let (head, rest) = match self.rest.split_first_chunk::<4>() {
            Some((head, rest)) => (u32::from_le_bytes(*head), rest),
            None => {
                self.cut |= !self.rest.is_empty();
                return None;
            }
        };
        let (tsc, rest) = match rest.split_first_chunk::<8>() {
            Some((tsc, rest)) if head >> 31 == 1 => (Some(u64::from_le_bytes(*tsc)), rest),
            None if head >> 31 == 1 => {
                (self.rest, self.cut) = (&[], true);
                return None;
            }
            _ => (None, rest),
        };
        let Some((words, rest)) = rest.split_at_checked((head >> 28 & 7) as usize * 4) else {
            (self.rest, self.cut) = (&[], true);
            return None;
        };
        self.rest = rest;
        Some(Record { number: head & 0x0fff_ffff, tsc, words })
    }
}
