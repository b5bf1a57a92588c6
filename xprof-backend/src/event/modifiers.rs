//! The letters behind an event's colon: which modes are counted, how exact, how grouped.

use xprof_perfdata::abi::attr_flag as flag;
use xprof_perfdata::attr::Attr;

use super::syntax::Span;
use crate::Result;

/// What modifiers change of an event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modifiers {
    /// exclude_{user,kernel,hv,idle,host,guest}, pinned and exclusive, as attr flags.
    flags: u64,
    /// 0 to 3.
    precise: u8,
    /// `P`: as precise as the machine can.
    precise_max: bool,
    /// `S`: read the whole group with each sample.
    pub(super) sample_read: bool,
    /// `G` or `H` was written: the exclusion of guests is the user's, not the default.
    host_or_guest: bool,
}

/// The attr flags that modifiers decide.
const DECIDED: u64 = flag::EXCLUDE_USER
    | flag::EXCLUDE_KERNEL
    | flag::EXCLUDE_HV
    | flag::EXCLUDE_IDLE
    | flag::EXCLUDE_HOST
    | flag::EXCLUDE_GUEST
    | flag::PINNED
    | flag::EXCLUSIVE;
const MODES: u64 = flag::EXCLUDE_USER | flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV;
const MACHINES: u64 = flag::EXCLUDE_HOST | flag::EXCLUDE_GUEST;

/// True when `text` could be modifiers: only their letters.
pub(super) fn looks_like(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b"ukhpPGHSDIWeb".contains(&b))
}

impl Modifiers {
    /// Those of an event without any: perf leaves guests out by default.
    pub(super) fn none() -> Self {
        Modifiers { flags: flag::EXCLUDE_GUEST, ..Modifiers::default() }
    }

    /// An event's own modifiers: they start from nothing, so a lone `:k` counts guests too, as perf does.
    pub(super) fn of_event(text: Span<'_>) -> Result<Self> {
        if text.text.is_empty() { Ok(Self::none()) } else { Modifiers::default().and(text) }
    }

    /// More letters on top (a group's modifiers on a member's).
    pub(super) fn and(mut self, text: Span<'_>) -> Result<Self> {
        let mut modes = self.flags & MODES != 0;
        for (i, c) in text.text.char_indices() {
            let here = Span { text: &text.text[i..i + c.len_utf8()], at: text.at + i };
            let mode = match c {
                'u' => flag::EXCLUDE_USER,
                'k' => flag::EXCLUDE_KERNEL,
                'h' => flag::EXCLUDE_HV,
                _ => 0,
            };
            if mode != 0 {
                if !modes {
                    self.flags |= MODES;
                    modes = true;
                }
                self.flags &= !mode;
                if c == 'u' && !self.host_or_guest {
                    self.flags |= flag::EXCLUDE_GUEST;
                }
                continue;
            }
            match c {
                'G' | 'H' => {
                    if !self.host_or_guest {
                        self.flags |= MACHINES;
                        self.host_or_guest = true;
                    }
                    self.flags &= !if c == 'G' { flag::EXCLUDE_GUEST } else { flag::EXCLUDE_HOST };
                }
                'I' => self.flags |= flag::EXCLUDE_IDLE,
                'D' => self.flags |= flag::PINNED,
                'e' => self.flags |= flag::EXCLUSIVE,
                'S' => self.sample_read = true,
                'P' => self.precise_max = true,
                'p' if self.precise == 3 => return Err(here.error("at most three p: 3 is the highest precision")),
                'p' => {
                    self.precise += 1;
                    if !self.host_or_guest {
                        self.flags |= flag::EXCLUDE_GUEST;
                    }
                }
                'W' | 'b' => return Err(here.error(format!("the modifier {c} works only when counting"))),
                _ => {
                    return Err(here.error(format!(
                        "unknown modifier {c:?}; there are u k h (modes), G H (guest, host), I (not idle), \
                         p pp ppp P (precision), S (read the group), D (pinned), e (exclusive)"
                    )));
                }
            }
        }
        Ok(self)
    }

    /// A group's modifiers on a member that does not lead it: pinned and exclusive are the leader's alone.
    pub(super) fn keep_scheduling_of(mut self, before: &Self) -> Self {
        const LEADER: u64 = flag::PINNED | flag::EXCLUSIVE;
        self.flags = self.flags & !LEADER | before.flags & LEADER;
        self
    }

    /// Puts them into the attr.
    pub(super) fn apply(&self, attr: &mut Attr) {
        let precise = if self.precise_max { 3 } else { self.precise };
        attr.flags =
            attr.flags & !(DECIDED | flag::PRECISE_IP) | self.flags | u64::from(precise) << flag::PRECISE_SHIFT;
    }

    /// `p` was written out, so the level is not to be lowered.
    pub(super) fn precise_is_fixed(&self) -> bool {
        self.precise > 0 && !self.precise_max
    }
}
