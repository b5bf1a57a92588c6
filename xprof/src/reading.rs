//! What every view of a recording is told - which samples, and where names come from - and how samples reach a builder.

use std::ops::ControlFlow;
use std::path::Path;
use std::thread;

use anyhow::bail;
use xprof_perfdata::abi::sample;
use xprof_perfdata::events::Events;
use xprof_perfdata::header::Description;
use xprof_perfdata::read::Recording;
use xprof_profile::profile::{Builder, Filter, Key};
use xprof_profile::symbols::Symbolizer;
use xprof_profile::unwind::Stage;

use crate::naming::Naming;
use crate::{facts, guest_files, input, time};

/// The options that every view has.
#[derive(Debug, clap::Args)]
pub(crate) struct Reading {
    /// Only samples of this time: FROM,TO in seconds, or A%-B%
    #[arg(long, value_name = "A,B")]
    time: Option<String>,
    #[command(flatten)]
    filter: FilterOptions,
    #[command(flatten)]
    pub(crate) naming: Naming,
}

impl Reading {
    /// Which samples of a recording.
    pub(crate) fn filter(&self, description: &Description) -> anyhow::Result<Filter> {
        let (filter, span) = (&self.filter, description.features.sample_time);
        filter.domain.iter().try_for_each(|text| guest_files::known(description, "--domain", text))?;
        Ok(Filter {
            times: self.time.as_deref().map(|text| time::parse(text, span)).transpose()?.unwrap_or_default(),
            pids: filter.pid.clone(),
            tids: filter.tid.clone(),
            cpus: cpus(filter.cpu.as_deref(), &description.events)?,
            comms: filter.comm.clone(),
            dsos: filter.dso.clone(),
            symbols: filter.symbol.clone(),
            cgroups: filter.cgroup.clone(),
            domains: filter.domain.clone(),
        })
    }

    /// Opens a recording; stack copies in it will have become call chains.
    pub(crate) fn open<'a>(&'a self, path: &'a Path) -> anyhow::Result<Opened<'a>> {
        let recording = input::open(path)?;
        let mut description = recording.description().clone();
        self.naming.check(&description)?;
        let unwinding = input::unwinding(&mut description, &self.naming, false);
        Ok(Opened { reading: self, path, recording, unwinding, description, times: false })
    }
}

/// A recording that is about to be read.
pub(crate) struct Opened<'a> {
    reading: &'a Reading,
    path: &'a Path,
    recording: Recording,
    unwinding: Option<Stage>,
    /// What it says of itself at its start.
    pub(crate) description: Description,
    /// The time of every sample is wanted.
    pub(crate) times: bool,
}

/// A recording that has been read.
pub(crate) struct Filled {
    pub(crate) builder: Builder,
    pub(crate) symbolizer: Symbolizer,
    /// The events that the records were decoded by.
    pub(crate) events: Events,
    /// What the recording says of itself at its end.
    pub(crate) ended: Description,
}

impl Opened<'_> {
    /// What the recording says of itself, as perf's `#` lines.
    pub(crate) fn header(&self) -> String {
        facts::text(self.path, &self.description, self.recording.data_section())
    }

    /// Whether samples have call chains.
    pub(crate) fn has_chains(&self) -> bool {
        has_chains(&self.description)
    }

    /// Adds its samples up by these keys; `stacks`: with their call chains. `notes` says what was not read.
    pub(crate) fn fill(self, keys: &[Key], stacks: bool, notes: &mut Vec<String>) -> anyhow::Result<Filled> {
        let Opened { reading, path, recording, unwinding, description, times } = self;
        let mut builder = Builder::new(&description, keys, reading.filter(&description)?, stacks);
        if times {
            builder.keep_times();
        }
        builder.set_guest_programs(reading.naming.guest_programs(&description));
        let naming = reading.naming.beside(path);
        let early = naming.symbolizer(&description);
        let (builder, ended) = fill(builder, (recording, unwinding), &description.events, Some(early.clone()), notes);
        // A stream says late what it knows of files.
        let is_known = ended.features.build_ids == description.features.build_ids;
        let symbolizer = if is_known { early } else { naming.symbolizer(&ended) };
        Ok(Filled { builder, symbolizer, events: description.events, ended })
    }
}

/// Whether samples have call chains.
pub(crate) fn has_chains(description: &Description) -> bool {
    let chains = xprof_perfdata::abi::sample::CALLCHAIN;
    description.events.list().iter().any(|event| event.format.sample_type & chains != 0)
}

/// Which samples, by what they are of.
#[derive(Debug, clap::Args)]
struct FilterOptions {
    /// Only these processes
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only these threads
    #[arg(long, value_name = "TID,..", value_delimiter = ',')]
    tid: Vec<u32>,
    /// Only threads of these names
    #[arg(long, value_name = "COMM,..", value_delimiter = ',')]
    comm: Vec<String>,
    /// Only code of these files (short name or path)
    #[arg(long, value_name = "DSO,..", value_delimiter = ',')]
    dso: Vec<String>,
    /// Only these functions
    #[arg(long, value_name = "SYMBOL,..", value_delimiter = ',')]
    symbol: Vec<String>,
    /// Only these CPUs (0,2-5)
    #[arg(long, value_name = "CPUS")]
    cpu: Option<String>,
    /// Only these cgroups
    #[arg(long, value_name = "CGROUP,..", value_delimiter = ',')]
    cgroup: Vec<String>,
    /// Only these domains (ids, names or UUIDs)
    #[arg(long, value_name = "DOMAIN,..", value_delimiter = ',')]
    domain: Vec<String>,
}

/// The CPUs of `--cpu`, of a recording whose samples say on which they were.
pub(crate) fn cpus(list: Option<&str>, events: &Events) -> anyhow::Result<Vec<u32>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    if !events.list().is_empty() && events.list().iter().all(|event| event.attr.sample_type & sample::CPU == 0) {
        bail!(
            "--cpu: the samples do not say on which CPU they were; xprof record keeps that, perf record with --sample-cpu"
        );
    }
    cpu_list(list)
}

/// `0,2-5`.
fn cpu_list(text: &str) -> anyhow::Result<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.trim().parse::<u32>(), to.trim().parse::<u32>()) {
            // No machine has more CPUs than the kernel's NR_CPUS limit of 8192.
            (Ok(from), Ok(to)) if from <= to && to < 8192 => cpus.extend(from..=to),
            _ => anyhow::bail!("{text:?} is not a list of CPUs such as 0,2-5"),
        }
    }
    Ok(cpus)
}

/// Feeds a recording, as it leaves its unwinding, to a builder; with what the recording says of itself at its end. From the
/// first sample of the kernel on, `names` reads the kernel's symbols on the side. `notes` says what was not read.
pub(crate) fn fill(
    mut builder: Builder,
    (recording, unwinding): (Recording, Option<Stage>),
    events: &Events,
    mut names: Option<Symbolizer>,
    notes: &mut Vec<String>,
) -> (Builder, Description) {
    let end = input::for_each_batch(recording, unwinding, |batch| {
        builder.batch(batch, events);
        if builder.has_kernel()
            && let Some(names) = names.take()
        {
            // Without a thread they are read when they are wanted.
            let _ = thread::Builder::new().spawn(move || names.read_kernel());
        }
        ControlFlow::Continue(())
    });
    notes.extend(end.notes.iter().map(input::explain));
    notes.extend(end.error.map(|error| format!("reading stopped early: {error}")));
    builder.add_build_ids(&end.description.features.build_ids);
    (builder, end.description)
}

/// What is said of damaged records.
pub(crate) fn damage(records: u64) -> Option<String> {
    (records > 0).then(|| format!("{records} records were damaged and left out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(cpu_list("0,2-4").unwrap(), [0, 2, 3, 4]);
        for wrong in ["", "a", "4-2", "0-4294967295", "1,,2"] {
            assert!(cpu_list(wrong).is_err(), "{wrong}");
        }
    }
}
