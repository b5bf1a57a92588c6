//! `xprof script`: every sample as text, as perf 6.1 prints it.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use xprof_profile::profile::Filter;
use xprof_ui::script::{Choices, MOST_FRAMES, Options as View, Script, Shown, Times};

use super::report::OutputFormat;
use crate::exit::Failure;
use crate::facts::{self, HeaderOptions};
use crate::naming::Naming;
use crate::reading::cpus;
use crate::{Global, input, time};

/// Text that is gathered before it is written, bytes.
const PIECE: usize = 256 << 10;

/// Options of `xprof script`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording (`-`: standard input)
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    input: PathBuf,
    /// Fields to print: [TYPE:]FIELD,.. or [TYPE:]+FIELD,-FIELD,.. to change the defaults (as perf script -F)
    #[arg(short = 'F', long = "fields", value_name = "FIELDS", allow_hyphen_values = true)]
    fields: Vec<String>,
    /// Leave functions that were compiled into others out of call chains
    #[arg(long)]
    no_inline: bool,
    /// Print times with nine decimals
    #[arg(long)]
    ns: bool,
    /// Print times since the first sample
    #[arg(long)]
    reltime: bool,
    /// Print times since the sample before
    #[arg(long, conflicts_with = "reltime")]
    deltatime: bool,
    /// Frames of a call chain that are shown
    #[arg(long, value_name = "N", default_value_t = MOST_FRAMES)]
    max_stack: usize,
    /// Leave out call chains
    #[arg(short = 'G', long)]
    hide_call_graph: bool,
    #[command(flatten)]
    header: HeaderOptions,
    /// Only samples of this time: FROM,TO in seconds, or A%-B%
    #[arg(long, value_name = "A,B")]
    time: Option<String>,
    /// Only these processes
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Only these threads
    #[arg(long, value_name = "TID,..", value_delimiter = ',')]
    tid: Vec<u32>,
    /// Only threads of these names
    #[arg(long, visible_alias = "comms", value_name = "COMM,..", value_delimiter = ',')]
    comm: Vec<String>,
    /// Only these CPUs (0,2-5)
    #[arg(short = 'C', long, value_name = "CPUS")]
    cpu: Option<String>,
    /// Only samples in these functions
    #[arg(short = 'S', long, visible_alias = "symbols", value_name = "SYMBOL,..", value_delimiter = ',')]
    symbol: Vec<String>,
    /// Only samples in code of these files (short name or path)
    #[arg(long, visible_alias = "dsos", value_name = "DSO,..", value_delimiter = ',')]
    dso: Vec<String>,
    /// Taken for the sake of perf's scripts: recordings of other users are read without it
    #[arg(short, long, hide = true)]
    force: bool,
    #[command(flatten)]
    shown: ShowOptions,
    #[command(flatten)]
    naming: Naming,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
}

/// Which records besides samples.
#[derive(Debug, clap::Args)]
struct ShowOptions {
    /// Show mapped files
    #[arg(long)]
    show_mmap_events: bool,
    /// Show forks, exits and changes of name
    #[arg(long)]
    show_task_events: bool,
    /// Show lost records
    #[arg(long)]
    show_lost_events: bool,
    /// Show context switches
    #[arg(long)]
    show_switch_events: bool,
    /// Show namespaces
    #[arg(long)]
    show_namespace_events: bool,
    /// Show cgroups
    #[arg(long)]
    show_cgroup_events: bool,
    /// Show BPF programs and other code that the kernel made
    #[arg(long)]
    show_bpf_events: bool,
}

/// Runs `xprof script`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let mut fields = Choices::default();
    for text in &options.fields {
        fields.apply(text).map_err(Failure::usage)?;
    }
    let recording = input::open(&options.input)?;
    let mut description = recording.description().clone();
    let mut out = Vec::with_capacity(2 * PIECE);
    if options.header.header || options.header.header_only {
        out.extend(facts::text(&options.input, &description, recording.data_section()).into_bytes());
    }
    if options.header.header_only {
        io::stdout().lock().write_all(&out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let unwinding = input::unwinding(&mut description, &options.naming, true);
    let span = description.features.sample_time;
    let filter = Filter {
        times: options.time.as_deref().map(|text| time::parse(text, span)).transpose()?.unwrap_or_default(),
        pids: options.pid,
        tids: options.tid,
        comms: options.comm,
        cpus: cpus(options.cpu.as_deref(), &description.events)?,
        symbols: options.symbol,
        dsos: options.dso,
        ..Filter::default()
    };
    let shown = Shown {
        mmap: options.shown.show_mmap_events,
        task: options.shown.show_task_events,
        lost: options.shown.show_lost_events,
        switch: options.shown.show_switch_events,
        namespaces: options.shown.show_namespace_events,
        cgroup: options.shown.show_cgroup_events,
        bpf: options.shown.show_bpf_events,
    };
    let view = View {
        fields,
        nanoseconds: options.ns,
        times: match (options.reltime, options.deltatime) {
            (true, _) => Times::SinceFirst,
            (_, true) => Times::SinceLast,
            _ => Times::Recorded,
        },
        max_stack: options.max_stack,
        chains: !options.hide_call_graph,
        shown,
        filter,
        inlined: !options.no_inline,
        unwound: unwinding.is_some(),
        format: options.format.into(),
        pipe: recording.is_pipe(),
    };
    let symbolizer = options.naming.beside(&options.input).symbolizer(&description);
    let mut script = Script::new(&description, symbolizer, view).map_err(anyhow::Error::msg)?;
    script.set_guest_programs(options.naming.guest_programs(&description));
    let mut stdout = io::stdout().lock();
    let mut failed = None;
    script.begin(&mut out);
    let end = input::for_each_batch(recording, unwinding, |batch| {
        for record in batch.iter() {
            script.record(&record, &description.events, &mut out);
            if out.len() >= PIECE {
                failed = stdout.write_all(&out).err();
                out.clear();
                if failed.is_some() {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    });
    script.end(&mut out);
    match failed {
        Some(error) => return Err(error.into()),
        None => stdout.write_all(&out)?,
    }
    let damaged = script.damaged();
    let mut notes: Vec<_> = end.notes.iter().map(input::explain).collect();
    notes.extend(end.error.map(|error| format!("reading stopped early: {error}")));
    if damaged > 0 {
        notes.push(format!("{damaged} records were damaged and left out"));
    }
    for note in notes.iter().filter(|_| !global.quiet) {
        eprintln!("xprof: {note}");
    }
    Ok(ExitCode::SUCCESS)
}
