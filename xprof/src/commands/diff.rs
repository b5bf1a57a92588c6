//! `xprof diff`: what changed between recordings, and what is no more than noise.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use xprof_profile::comparison::Comparison;
use xprof_profile::profile::{Key, Order, Profile, Trees, has_domains};
use xprof_ui::diff;

use super::flamegraph;
use super::report::{OutputFormat, Wanted, trees};
use crate::Global;
use crate::reading::{Filled, Reading, damage};
use crate::terminal::Output;

/// Options of `xprof diff`.
///
/// Functions are matched by name and by their module's file name, so that a program that was built anew is still the same.
/// Keep the old program (in another directory, or with `xprof archive`): names of the old recording come from it.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording that the others are held against, and these
    #[arg(value_name = "RECORDING", num_args = 2.., required = true)]
    recordings: Vec<PathBuf>,
    /// What rows are made of: the keys of `xprof report` [default: dso,symbol; with domains: domain,dso,symbol]
    #[arg(short, long, value_name = "KEYS", value_delimiter = ',')]
    sort: Vec<Key>,
    /// Compare what fell on functions and on what they call, not on the functions alone
    #[arg(long)]
    children: bool,
    /// Call trees below the rows: caller, callee, none; a number leaves out nodes below that percentage in all recordings
    /// (caller,2; the default is 0.5)
    #[arg(short = 'g', value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "caller", value_parser = trees)]
    trees: Option<Wanted>,
    /// Only this event [default: all that every recording has]
    #[arg(short, long, value_name = "EVENT")]
    event: Option<String>,
    /// Only rows that changed by more than noise
    #[arg(long)]
    changed: bool,
    /// Leave out rows below this share in all recordings
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    percent_limit: f64,
    /// Leave functions that were compiled into others out of call trees and flame graphs
    #[arg(long)]
    no_inline: bool,
    /// Draw the flame graph of the last recording (.svg or .html), coloured by change since the first, in place of the table
    #[arg(long, value_name = "FILE", conflicts_with_all = ["trees", "sort", "children", "format", "changed"])]
    flame: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
}

/// Modules without names that are told of.
const MOST_LACKING: usize = 3;

/// Runs `xprof diff`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    if let (Some(file), [old, .., new]) = (&options.flame, &options.recordings[..]) {
        let (file, paths) = (file.clone(), [old.clone(), new.clone()]);
        let from = (options.event, options.no_inline, options.reading);
        return flamegraph::run(flamegraph::Options::of_change(paths, file, from), global);
    }
    let wanted = match options.trees {
        Some(Wanted::Trees(Trees { order: Order::Flat, .. })) => {
            bail!("-g flat: stacks by themselves cannot be compared; use -g caller or -g callee")
        }
        Some(Wanted::Trees(wanted)) => Some(wanted),
        _ => None,
    };
    let mut notes = Vec::new();
    // What is left out of trees is left out when they are put together.
    let whole = wanted.map(|wanted| Trees { limit: 0.0, inline: !options.no_inline, ..wanted });
    let keys = keys(&options)?;
    let mut profiles = Vec::new();
    for path in &options.recordings {
        let from = notes.len();
        profiles.push(profile(&options, path, &keys, whole, &mut notes)?);
        notes[from..].iter_mut().for_each(|note| *note = format!("{}: {note}", path.display()));
    }
    let has_samples = profiles.iter().any(|profile| profile.events.iter().any(|event| event.samples > 0));
    if let Some(event) = &options.event {
        profiles.iter_mut().for_each(|profile| profile.events.retain(|e| e.name == *event));
    }
    let comparison = Comparison::new(&profiles, options.children, wanted.map_or(0.0, |wanted| wanted.limit));
    if comparison.events.is_empty() && has_samples {
        bail!("{}", nothing_in_common(&options, &comparison));
    }
    if comparison.lacks_names() {
        notes.retain(|note| !comparison.lacking.iter().any(|(_, module)| note.ends_with(&module.advice)));
        // The heaviest come first; the rest is likely there for the same cause.
        notes.extend(comparison.lacking.iter().take(MOST_LACKING).map(|(at, module)| {
            let recording = options.recordings.get(*at).map(|path| path.display().to_string()).unwrap_or_default();
            format!(
                "{recording}: {} samples of {} have no names, and any of its functions may hide among them: {}. Keep a program before it is built anew: xprof archive -i {recording}",
                module.samples, module.path, module.advice
            )
        }));
    }
    let view = diff::Options {
        recordings: options.recordings.iter().map(|path| path.display().to_string()).collect(),
        percent_limit: options.percent_limit,
        changed: options.changed,
        color: options.format == OutputFormat::Text && global.color.on(std::io::stdout().is_terminal()),
        notes,
    };
    let mut out = String::new();
    match options.format {
        OutputFormat::Text => diff::text(&comparison, &view, &mut out),
        OutputFormat::Json => diff::json(&comparison, &view, &mut out),
        OutputFormat::Csv => {
            diff::csv(&comparison, &view, &mut out);
            for note in view.notes.iter().filter(|_| !global.quiet) {
                eprintln!("xprof: {note}");
            }
        }
    }
    Output::new().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The keys of the rows, the same for all recordings.
fn keys(options: &Options) -> anyhow::Result<Vec<Key>> {
    if !options.sort.is_empty() {
        return Ok(options.sort.clone());
    }
    let mut domains = false;
    for path in options.recordings.iter().filter(|path| path.as_os_str() != "-") {
        domains |= has_domains(&options.reading.open(path)?.description);
    }
    let domain = domains.then_some(Key::Domain);
    Ok(domain.into_iter().chain([Key::Dso, Key::Symbol]).collect())
}

fn profile(
    options: &Options,
    path: &Path,
    keys: &[Key],
    trees: Option<Trees>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Profile> {
    let opened = options.reading.open(path)?;
    let needs = options.children || trees.is_some();
    if needs && !opened.has_chains() {
        let what = if options.children { "--children" } else { "-g" };
        bail!(
            "{}: there are no call chains in it, so nothing for {what}; record with them: xprof record -g -- CMD",
            path.display()
        );
    }
    let Filled { mut builder, symbolizer, events, .. } = opened.fill(keys, needs, notes)?;
    builder.merge_unnamed();
    let profile = builder.finish(&events, &symbolizer, options.children, trees);
    notes.extend(damage(profile.damaged));
    notes.extend(profile.unnamed.first().map(|u| format!("{} samples without names: {}", u.samples, u.advice)));
    Ok(profile)
}

fn nothing_in_common(options: &Options, comparison: &Comparison) -> String {
    match &options.event {
        Some(event) if comparison.unmatched.is_empty() => {
            format!("no recording has samples of {event:?}; see what they have: xprof report -s event -i FILE")
        }
        Some(event) => format!("only some of the recordings have samples of {event:?}, so there is nothing to compare"),
        None => format!(
            "the recordings have no event in common (only some have {}): record all with the same -e",
            comparison.unmatched.join(", ")
        ),
    }
}
