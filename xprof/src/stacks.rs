//! The stacks of a recording and the event among them that is shown, for views of one event.

use std::path::Path;

use anyhow::bail;
use xprof_perfdata::header::Description;
use xprof_profile::profile::{EventStacks, Key, Located, Stacks, has_domains};

use crate::reading::{Filled, Reading, damage};

/// What is read of a recording.
pub(crate) struct Wanted<'a> {
    /// The recording.
    pub(crate) input: &'a Path,
    /// Only this event.
    pub(crate) event: Option<&'a str>,
    /// Which samples, and where names come from.
    pub(crate) reading: &'a Reading,
    /// With functions that were compiled into others.
    pub(crate) inline: bool,
    /// What tells stacks apart besides their functions.
    pub(crate) by: By,
}

/// What tells stacks apart besides their functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Domain, where there are any, and name of the thread.
    Domain,
    /// Domain, and the thread; with the times of the samples.
    Time,
    /// Domain and vCPU, and name of the thread.
    Vcpu,
    /// Domain and vCPU, name of the thread, process and thread.
    Thread,
    /// The same with the times of the samples.
    ThreadTime,
}

impl By {
    fn has_times(self) -> bool {
        matches!(self, By::Time | By::ThreadTime)
    }

    fn keys(self, has_domains: bool) -> Vec<Key> {
        let (outer, inner): (&[Key], &[Key]) = match self {
            By::Domain => (&[Key::Domain], &[]),
            By::Time => (&[Key::Domain], &[Key::Tid]),
            By::Vcpu => (&[Key::Domain, Key::Vcpu], &[]),
            By::Thread | By::ThreadTime => (&[Key::Domain, Key::Vcpu], &[Key::Pid, Key::Tid]),
        };
        let outer = outer.iter().filter(|_| has_domains);
        outer.chain(&[Key::Comm]).chain(inner).chain(&[Key::Symbol]).copied().collect()
    }
}

/// What is said of samples that a view by time does not show.
pub(crate) fn untimed(samples: u64) -> Option<String> {
    (samples > 0).then(|| format!("the last {samples} samples are not shown by time; choose a part: --time A,B"))
}

impl Wanted<'_> {
    /// Reads the stacks; `notes` says what makes them partial.
    pub(crate) fn read(&self, notes: &mut Vec<String>) -> anyhow::Result<Stacks> {
        Ok(self.read_all(notes)?.0)
    }

    /// Reads the stacks, and what the recording says of itself.
    pub(crate) fn read_all(&self, notes: &mut Vec<String>) -> anyhow::Result<(Stacks, Description)> {
        self.made(
            notes,
            |filled| filled.builder.stacks(&filled.events, &filled.symbolizer, self.inline),
            |stacks| stacks,
        )
    }

    /// Reads the stacks with the code of their frames, and what the recording says of itself.
    pub(crate) fn read_located(&self, notes: &mut Vec<String>) -> anyhow::Result<(Located, Description)> {
        let make = |filled: &mut Filled| filled.builder.located(&filled.events, &filled.symbolizer, self.inline);
        self.made(notes, make, |located| &located.stacks)
    }

    fn made<T>(
        &self,
        notes: &mut Vec<String>,
        make: impl FnOnce(&mut Filled) -> T,
        stacks: impl Fn(&T) -> &Stacks,
    ) -> anyhow::Result<(T, Description)> {
        let mut opened = self.reading.open(self.input)?;
        let has_chains = opened.has_chains();
        let keys = self.by.keys(has_domains(&opened.description));
        opened.times = self.by.has_times();
        let mut filled = opened.fill(&keys, has_chains, notes)?;
        let made = make(&mut filled);
        let stacks = stacks(&made);
        notes.extend(damage(stacks.damaged));
        notes.extend(untimed(stacks.untimed));
        notes.extend(stacks.unnamed.first().map(|u| format!("{} samples without names: {}", u.samples, u.advice)));
        Ok((made, filled.ended))
    }

    /// The event that was asked for, else the first that has any stacks; `None` when none has.
    pub(crate) fn choose<'s>(
        &self,
        stacks: &'s Stacks,
        notes: &mut Vec<String>,
    ) -> anyhow::Result<Option<&'s EventStacks>> {
        let names = || stacks.events.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
        let has_any = |event: &&EventStacks| !event.stacks.is_empty();
        let event = match self.event {
            Some(wanted) => match stacks.events.iter().find(|e| e.name == wanted) {
                Some(event) => Some(event),
                None => bail!("{}: there is no event {wanted:?} in it; there is: {}", self.input.display(), names()),
            },
            None => stacks.events.iter().find(has_any),
        };
        let others = stacks.events.iter().filter(has_any).count();
        if let (Some(event), None, 2..) = (event, self.event, others) {
            notes.push(format!("only the stacks of {} are shown; choose with -e: {}", event.name, names()));
        }
        Ok(event)
    }
}
