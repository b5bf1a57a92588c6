//! `--header`, `--header-only`: what a recording says of itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xprof_backend::sys::local_time;
use xprof_perfdata::header::Description;
use xprof_ui::header::{self, FileFacts};

/// Whether the header of the recording is shown.
#[derive(Debug, clap::Args)]
pub(crate) struct HeaderOptions {
    /// Show first what the recording says of itself: machine, command, events, times
    #[arg(long)]
    pub(crate) header: bool,
    /// Show only that
    #[arg(long)]
    pub(crate) header_only: bool,
}

/// What the recording at `path` says of itself, as perf's `#` lines. `data`: its data section.
pub(crate) fn text(path: &Path, description: &Description, data: Option<(u64, u64)>) -> String {
    /// As `ctime(3)` writes them.
    const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let changed = fs::metadata(path).ok().and_then(|file| u64::try_from(file.ctime()).ok());
    let captured = changed.map_or("unknown".into(), |seconds| {
        let ([year, month, day, hour, minute, second], weekday) = local_time::at(seconds);
        let name = |names: &[&'static str], at: i32| usize::try_from(at).ok().and_then(|at| names.get(at).copied());
        let (weekday, month) = (name(&DAYS, weekday), name(&MONTHS, month - 1));
        let (weekday, month) = (weekday.unwrap_or_default(), month.unwrap_or_default());
        format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
    });
    let clock_read = description.features.clock_data.map_or(String::new(), |clock| {
        let ([year, month, day, hour, minute, second], _) = local_time::at(clock.wall_ns / 1_000_000_000);
        let micros = clock.wall_ns % 1_000_000_000 / 1000;
        format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{micros:06}")
    });
    let mut out = String::new();
    header::text(description, &FileFacts { captured, clock_read, data }, &mut out);
    out
}
