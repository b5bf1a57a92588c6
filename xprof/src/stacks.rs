//! The stacks of a recording and the event among them that is shown, for views of one event.

use std::path::Path;

use anyhow::bail;
use xprof_profile::profile::{Builder, EventStacks, Key, Stacks};

use crate::commands::report::{FilterOptions, damage, fill, has_chains};
use crate::input;
use crate::naming::Naming;

/// What is read of a recording.
pub(crate) struct Wanted<'a> {
    /// The recording.
    pub(crate) input: &'a Path,
    /// Only this event.
    pub(crate) event: Option<&'a str>,
    /// Only samples of this time.
    pub(crate) time: Option<&'a str>,
    /// Only these samples.
    pub(crate) filter: &'a FilterOptions,
    /// With functions that were compiled into others.
    pub(crate) inline: bool,
    /// Where names come from.
    pub(crate) naming: &'a Naming,
}

impl Wanted<'_> {
    /// Reads the stacks, by name of thread; `notes` says what makes them partial.
    pub(crate) fn read(&self, notes: &mut Vec<String>) -> anyhow::Result<Stacks> {
        let recording = input::open(self.input)?;
        let mut description = recording.description().clone();
        let unwinding = input::unwinding(&mut description, self.naming, false);
        let filter = self.filter.filter(self.time, &description)?;
        let mut builder = Builder::new(&description, &[Key::Comm, Key::Symbol], filter, has_chains(&description));
        builder.set_guest_programs(self.naming.guest_programs(&description));
        let (builder, ended) = fill(builder, (recording, unwinding), &description.events, notes);
        let symbolizer = self.naming.beside(self.input).symbolizer(&ended);
        let stacks = builder.stacks(&description.events, &symbolizer, self.inline);
        notes.extend(damage(stacks.damaged));
        notes.extend(stacks.unnamed.first().map(|u| format!("{} samples without names: {}", u.samples, u.advice)));
        Ok(stacks)
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
