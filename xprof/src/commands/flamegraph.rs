//! `xprof flamegraph`: the stacks of a recording as a picture, or as a page.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use xprof_ui::flame::{self, Graph};

use crate::reading::Reading;
use crate::stacks::{By, Wanted};
use crate::{Global, input};

/// Options of `xprof flamegraph`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording [default: perf.data]
    #[arg(value_name = "RECORDING", conflicts_with = "input")]
    recording: Option<PathBuf>,
    /// The recording (`-`: standard input)
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    input: PathBuf,
    /// Where to write it: .svg is a picture, .html a page (`-`: standard output)
    #[arg(short, long, value_name = "FILE", default_value = "flamegraph.svg")]
    output: PathBuf,
    /// Form of the output, where the file's name does not say it
    #[arg(long, value_name = "FORMAT")]
    format: Option<Form>,
    /// Colour by change since this recording: red grew, blue shrank
    #[arg(long, value_name = "RECORDING")]
    diff: Option<PathBuf>,
    /// From left to right the order in time, thread beside thread, and nothing added up
    #[arg(long, conflicts_with = "diff")]
    chart: bool,
    /// Draw roots on top
    #[arg(long)]
    inverted: bool,
    /// Only this event [default: the first that has samples]
    #[arg(short, long, value_name = "EVENT")]
    event: Option<String>,
    /// Leave functions that were compiled into others out of stacks
    #[arg(long)]
    no_inline: bool,
    #[command(flatten)]
    reading: Reading,
}

impl Options {
    /// The graph of a recording, coloured by change since another.
    pub(crate) fn of_change(paths: [PathBuf; 2], output: PathBuf, from: (Option<String>, bool, Reading)) -> Options {
        let ([before, recording], (event, no_inline, reading)) = (paths, from);
        Options {
            recording: Some(recording),
            input: input::DEFAULT.into(),
            output,
            format: None,
            diff: Some(before),
            chart: false,
            inverted: false,
            event,
            no_inline,
            reading,
        }
    }
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A picture
    Svg,
    /// A page
    Html,
    /// The frames as one JSON document
    Json,
    /// The frames as comma-separated values
    Csv,
}

impl Form {
    fn of(path: &Path) -> Form {
        match path.extension().and_then(|e| e.to_str()) {
            Some("html" | "htm") => Form::Html,
            Some("json") => Form::Json,
            Some("csv") => Form::Csv,
            _ => Form::Svg,
        }
    }
}

/// Runs `xprof flamegraph`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let path = options.recording.as_ref().unwrap_or(&options.input);
    let mut notes = Vec::new();
    let graph = graph(&options, path, &mut notes)?;
    for note in notes.iter().filter(|_| !global.quiet) {
        eprintln!("xprof: {note}");
    }
    let title = match &options.diff {
        Some(before) => format!("{} against {}", path.display(), before.display()),
        None => path.display().to_string(),
    };
    let view = flame::Options { title, inverted: options.inverted, notes };
    let mut out = String::new();
    match options.format.unwrap_or_else(|| Form::of(&options.output)) {
        Form::Svg => flame::svg(&graph, &view, &mut out),
        Form::Html => flame::html(&graph, &view, &mut out),
        Form::Json => flame::json(&graph, &view, &mut out),
        Form::Csv => flame::csv(&graph, &mut out),
    }
    if options.output == Path::new("-") {
        io::stdout().lock().write_all(out.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let name = options.output.display();
    fs::write(&options.output, &out).with_context(|| format!("cannot write {name}"))?;
    if !global.quiet {
        let samples = graph.frames.first().map_or(0, |root| root.samples);
        eprintln!("xprof: {samples} samples, {} frames, {} bytes: {name}", graph.frames.len(), out.len());
    }
    Ok(ExitCode::SUCCESS)
}

fn graph(options: &Options, path: &Path, notes: &mut Vec<String>) -> anyhow::Result<Graph> {
    let wanted = |input| Wanted {
        input,
        event: options.event.as_deref(),
        reading: &options.reading,
        inline: !options.no_inline,
        by: if options.chart { By::Time } else { By::Domain },
    };
    let stacks = wanted(path).read(notes)?;
    let event = wanted(path).choose(&stacks, notes)?;
    let before = options.diff.as_deref().map(|before| wanted(before).read(notes)).transpose()?;
    let before = match (&before, &options.diff) {
        (Some(stacks), Some(before)) => wanted(before).choose(stacks, notes)?.map(|event| (stacks, event)),
        _ => None,
    };
    Ok(match event {
        Some(event) if options.chart => Graph::chart(&stacks, event),
        Some(event) => Graph::new(&stacks, event, before),
        None => Graph::default(),
    })
}
