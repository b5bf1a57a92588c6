//! `xprof top --batch N`: refreshes for scripts and serial consoles. Each is what was sampled since the one before.

use std::fmt::Write as _;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;

use xprof_backend::sys::signal::{self, Signal};
use xprof_profile::profile::{Live, Profile};
use xprof_ui::table;

use super::collect::{Collector, Paused};
use super::cost::Cost;
use crate::Global;
use crate::commands::report::OutputFormat;
use crate::record::control::{Ends, Listener};

/// Signals that end it.
const SIGNALS: [Signal; 3] = [Signal::Interrupt, Signal::Terminate, Signal::Hangup];

/// How refreshes are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) refreshes: u64,
    pub(crate) format: OutputFormat,
    /// Rows of each event.
    pub(crate) rows: Option<usize>,
    pub(crate) percent_limit: f64,
    pub(crate) color: bool,
}

/// Prints refreshes until there were enough, or a signal comes, or nothing is left to measure.
pub(crate) fn run(mut collector: Collector, batch: Batch, global: &Global) -> anyhow::Result<()> {
    let listener = Listener::start(signal::catch(&SIGNALS)?, Ends::default())?;
    let mut printed = 0;
    let mut broken = None;
    let mut cost = Cost::begin();
    let mut at_cut = |live: &mut Live, length| {
        printed += 1;
        let text = batch.refresh(
            live.snapshot(1, batch.rows.unwrap_or(usize::MAX)).profile,
            (printed, length),
            cost.since_last(),
        );
        let mut out = std::io::stdout().lock();
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            broken = Some(error);
            return ControlFlow::Break(());
        }
        if printed >= batch.refreshes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let finished = match collector.until(&listener.events, &mut at_cut) {
        Ok(Paused::Over) => collector.finish(&mut at_cut),
        Ok(Paused::Given(_) | Paused::Enough) => Ok(()),
        Err(error) => Err(error),
    };
    if !global.quiet {
        collector.notes.iter().for_each(|note| eprintln!("xprof: {note}"));
    }
    signal::release(&SIGNALS);
    finished?;
    broken.map_or(Ok(()), |error| Err(error.into()))
}

impl Batch {
    /// One refresh, by its number and length; `cost`: what xprof itself used, percent of a CPU.
    fn refresh(&self, profile: Profile, (number, length): (u64, Duration), cost: f64) -> String {
        let view = table::Options {
            percent_limit: self.percent_limit,
            children: profile.has_children,
            color: self.color,
            notes: Vec::new(),
        };
        let seconds = length.as_secs_f64();
        let samples: u64 = profile.events.iter().map(|event| event.samples).sum();
        let mut out = String::new();
        match self.format {
            OutputFormat::Text => {
                // The very last may hold a single instant.
                let rate = if seconds > 0.0 { samples as f64 / seconds } else { 0.0 };
                let _ = writeln!(
                    out,
                    "# Refresh {number}: {seconds:.3} s, {rate:.0} samples/s, xprof itself {cost:.1} % of a CPU"
                );
                table::text(&profile, &view, &mut out);
                out.push('\n');
            }
            OutputFormat::Json => {
                let mut document = table::document(&profile, &view);
                if let Some(map) = document.as_object_mut() {
                    map.insert("refresh".into(), number.into());
                    map.insert("seconds".into(), seconds.into());
                    map.insert("samples".into(), samples.into());
                    map.insert("own_cpu".into(), cost.into());
                }
                let _ = writeln!(out, "{document}");
            }
            OutputFormat::Csv => {
                if number == 1 {
                    let _ = writeln!(out, "refresh,{}", table::csv_heading(&profile));
                }
                table::csv_rows(&profile, &view, &format!("{number},"), &mut out);
            }
        }
        out
    }
}
