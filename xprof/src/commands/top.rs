//! `xprof top`: its options. What is done with them is in [`crate::top`].

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use xprof_profile::profile::Key;
use xprof_ui::screen::{Able, State};

use super::record::Sampling;
use super::report::OutputFormat;
use crate::exit::Failure;
use crate::naming::Naming;
use crate::record::values::{BackendChoice, Numbers};
use crate::top::batch::{self, Batch};
use crate::top::collect::{Collector, Wanted};
use crate::top::screen::{Shown, work};
use crate::{Global, record, screen, terminal};

/// Rows of a refresh for people, where it is not said.
const ROWS: usize = 20;

/// Options of `xprof top`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Without -p, -t, -C or -G the whole machine is looked at. On the screen a row is the sum of the last ten refreshes, and its \
trail what each of the last sixty gave to it; with --batch a refresh is what was sampled since the one before.\n\
Keys: arrows or jk choose, Enter callers and callees, f flame graph, a code, d domains, p processes, s sort, / filter, \
e event, z zero, space freeze, ? help, q quit.")]
pub(crate) struct Options {
    #[command(flatten)]
    sampling: Sampling,
    /// Print this many refreshes and end, for scripts and serial consoles
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch: Option<u64>,
    /// Milliseconds from one refresh to the next
    #[arg(short = 'I', long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(50..=3_600_000))]
    interval: u64,
    /// What rows are made of: domain, vcpu, comm, pid, tid, cpu, cgroup, dso, symbol, srcline, addr, event, mode, for
    /// [default: comm,dso,symbol; with domains: domain,comm,dso,symbol]
    #[arg(short, long, value_name = "KEYS", value_delimiter = ',')]
    sort: Vec<Key>,
    /// Print at most this many rows of each event [default: 20 as text, else all]
    #[arg(long, value_name = "N", requires = "batch")]
    rows: Option<usize>,
    /// Leave functions that were compiled into others out of callers, callees and flame graphs
    #[arg(long, conflicts_with = "batch")]
    no_inline: bool,
    /// Leave out rows below this share
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "batch")]
    percent_limit: f64,
    #[command(flatten)]
    naming: Naming,
    /// Form of the refreshes
    #[arg(long, value_name = "FORMAT", default_value = "text", requires = "batch")]
    format: OutputFormat,
}

/// Runs `xprof top`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    if options.sort.contains(&Key::Srcline) {
        return Err(Failure::usage("-s srcline is of recordings: xprof report -s srcline").into());
    }
    let Options { sampling, naming, .. } = &options;
    if sampling.sources.is_some_and(|sources| sources.trace) {
        return Err(Failure::usage(
            "--source trace and vpmu are of recordings: xprof record -a --source context,trace",
        )
        .into());
    }
    let plan = record::plan::plan(sampling, false, &|text| Ok(xprof_backend::event::parse(text)?))?;
    let interval = Duration::from_millis(options.interval);
    if options.batch.is_none() {
        screen::need_terminal("print refreshes: xprof top --batch 1")?;
    }
    let title = title(sampling);
    let collector = Collector::start(Wanted {
        backend: &sampling.backend,
        plan,
        naming,
        keys: options.sort.clone(),
        interval,
        duration: sampling.duration,
    })?;
    let is_text = options.format == OutputFormat::Text;
    if let Some(refreshes) = options.batch {
        let batch = Batch {
            refreshes,
            format: options.format,
            rows: options.rows.or(is_text.then_some(ROWS)),
            percent_limit: options.percent_limit,
            color: is_text && global.color.on(std::io::stdout().is_terminal()),
        };
        batch::run(collector, batch, global)?;
        return Ok(ExitCode::SUCCESS);
    }
    let able = collector.able(global.color.on(true), terminal::shows_unicode());
    let state = State::new(Able { inline: !options.no_inline, ..able }, &title);
    let paced = matches!(sampling.backend, BackendChoice::Replay(_));
    let shown = Shown { title, paced, has: collector.has() };
    let maker = screen::show(state, move |desk| work(collector, shown, desk))?;
    // The session is stopped by its owner.
    let _ = maker.join();
    Ok(ExitCode::SUCCESS)
}

/// What is looked at, in words.
fn title(sampling: &Sampling) -> String {
    let numbers = |list: &Numbers| list.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let what = match (&sampling.backend, &sampling.processes, &sampling.threads, &sampling.cpus) {
        (BackendChoice::Replay(path), ..) => path.display().to_string(),
        (BackendChoice::Simulated(_), ..) => "simulated machine".into(),
        (_, Some(pids), ..) => format!("process {}", numbers(pids)),
        (_, _, Some(tids), _) => format!("thread {}", numbers(tids)),
        _ if !sampling.cgroup.is_empty() => format!("cgroup {}", sampling.cgroup.join(",")),
        _ if sampling.all_domains => "all domains".into(),
        _ if !sampling.domain.is_empty() => format!("domain {}", sampling.domain.join(",")),
        (.., Some(cpus)) => format!("CPU {}", numbers(cpus)),
        _ => "whole machine".into(),
    };
    format!("xprof top: {what}")
}
