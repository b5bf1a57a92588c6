//! `xprof report`: where the samples of a recording fell.

mod page;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use xprof_perfdata::header::Description;
use xprof_profile::profile::{Key, Order, Profile, Trees, has_domains};
use xprof_ui::screen::{Able, State};
use xprof_ui::{Format, table};

use crate::facts::HeaderOptions;
use crate::reading::{Filled, Reading, damage};
use crate::terminal::{self, Output};
use crate::{Global, input, pages, screen};

/// Options of `xprof report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording (`-`: standard input)
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    input: PathBuf,
    /// Print the table as text, on a terminal too
    #[arg(long, conflicts_with = "tui")]
    stdio: bool,
    /// Write one page that opens anywhere: summary, warnings, flame graph, samples over time, table, environment (`-`:
    /// standard output)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stdio", "tui", "trees", "format"])]
    html: Option<PathBuf>,
    /// Call trees: caller (what each function calls, or with --no-children the way to it), callee (what calls it), flat
    /// (every stack), none; a number leaves out nodes below that percentage (caller,2; the default is 0.5)
    #[arg(short = 'g', value_name = "MODE", num_args = 0..=1, default_missing_value = "caller", value_parser = trees)]
    trees: Option<Wanted>,
    /// Look around in the terminal: tables, callers and callees, flame graph, timeline, code (the default on a terminal)
    #[arg(long, conflicts_with = "format")]
    tui: bool,
    /// What rows are made of: domain, vcpu, comm, pid, tid, cpu, cgroup, dso, symbol, srcline, addr, event, mode, for
    /// [default: comm,dso,symbol; with domains: domain,comm,dso,symbol]
    #[arg(short, long, value_name = "KEYS", value_delimiter = ',')]
    sort: Vec<Key>,
    /// Count a function's callees as its own in a column of their own (default where there are call chains)
    #[arg(long, overrides_with = "no_children")]
    children: bool,
    /// Count only what fell in the function itself
    #[arg(long)]
    no_children: bool,
    /// Leave functions that were compiled into others out of call trees
    #[arg(long)]
    no_inline: bool,
    /// Leave out rows below this share
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    percent_limit: f64,
    #[command(flatten)]
    header: HeaderOptions,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
}

impl Options {
    /// The keys of the rows.
    fn keys(&self, description: &Description) -> Vec<Key> {
        let domain = (self.sort.is_empty() && has_domains(description)).then_some(Key::Domain);
        let usual = if self.sort.is_empty() { &[Key::Comm, Key::Dso, Key::Symbol][..] } else { &self.sort };
        domain.into_iter().chain(usual.iter().copied()).collect()
    }
}

/// The trees that `-g` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// `-g none`.
    None,
    Trees(Trees),
}

/// `caller,0.5`. perf's other words for the same trees are taken too.
pub(crate) fn trees(text: &str) -> Result<Wanted, String> {
    let mut trees = Trees { order: Order::Caller, limit: 0.5, inline: true };
    for word in text.split(',') {
        match word {
            "none" => return Ok(Wanted::None),
            "caller" => trees.order = Order::Caller,
            "callee" => trees.order = Order::Callee,
            "flat" => trees.order = Order::Flat,
            "graph" | "function" | "percent" => {}
            _ => match word.parse() {
                Ok(limit) if (0.0..=100.0).contains(&limit) => trees.limit = limit,
                _ => return Err(format!("{word:?} is none of caller, callee, flat, none, and no percentage")),
            },
        }
    }
    Ok(Wanted::Trees(trees))
}

/// `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// Comma-separated values
    Csv,
}

impl From<OutputFormat> for Format {
    fn from(format: OutputFormat) -> Format {
        match format {
            OutputFormat::Text => Format::Text,
            OutputFormat::Json => Format::Json,
            OutputFormat::Csv => Format::Csv,
        }
    }
}

/// Runs `xprof report`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    if let Some(path) = &options.html {
        return page::run(&options, path, global);
    }
    let is_text = options.format == OutputFormat::Text;
    if options.header.header_only {
        let opened = options.reading.open(&options.input)?;
        Output::new().write_all(opened.header().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.tui {
        screen::need_terminal("print the table: xprof report --stdio")?;
    }
    if options.tui || is_text && !options.stdio && !options.header.header && screen::has_terminal() {
        return browse(options, global);
    }
    let mut notes = Vec::new();
    let mut out = String::new();
    let (profile, children) = profile(&options, &mut notes, &mut out)?;
    let view = table::Options {
        percent_limit: options.percent_limit,
        children,
        color: options.format == OutputFormat::Text && global.color.on(std::io::stdout().is_terminal()),
        notes,
    };
    match Format::from(options.format) {
        Format::Text => table::text(&profile, &view, &mut out),
        Format::Json => table::json(&profile, &view, &mut out),
        Format::Csv => {
            table::csv(&profile, &view, &mut out);
            for note in table::domain_lines(&profile).iter().chain(&view.notes).filter(|_| !global.quiet) {
                eprintln!("xprof: {note}");
            }
        }
    }
    Output::new().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `xprof report --tui`.
fn browse(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    // Lives until the program ends: its thread may still read when the user has seen enough.
    let options: &'static Options = Box::leak(Box::new(options));
    let opened = options.reading.open(&options.input)?;
    let chains = opened.has_chains();
    let children = options.children || (chains && !options.no_children);
    let keys = options.keys(&opened.description);
    let able = Able {
        color: global.color.on(true),
        unicode: terminal::shows_unicode(),
        live: false,
        chains,
        domains: has_domains(&opened.description),
        inline: !options.no_inline,
        keys: keys.clone(),
    };
    let title = options.input.display().to_string();
    let state = State::new(able, &format!("xprof report: {title}"));
    let again = || match options.input.to_str() {
        Some("-") => bail!("standard input is read once; a timeline wants a file: xprof report -i FILE"),
        _ => options.reading.open(&options.input),
    };
    screen::show(state, move |desk| pages::of_recording(opened, &again, (&keys, children), &title, &desk))?;
    Ok(ExitCode::SUCCESS)
}

/// Adds the recording up; whether callees count for their callers too. Its header goes to `out`, where it is asked for.
fn profile(options: &Options, notes: &mut Vec<String>, out: &mut String) -> anyhow::Result<(Profile, bool)> {
    let opened = options.reading.open(&options.input)?;
    if options.header.header && options.format == OutputFormat::Text {
        out.push_str(&opened.header());
    }
    let has_chains = opened.has_chains();
    let children = options.children || (has_chains && !options.no_children);
    let trees = match options.trees {
        Some(Wanted::Trees(_)) if !has_chains => bail!(
            "{}: there are no call chains in it, so no call trees; record with them: xprof record -g -- CMD",
            options.input.display()
        ),
        Some(Wanted::Trees(trees)) => Some(Trees { inline: !options.no_inline, ..trees }),
        _ => None,
    };
    let stacks = has_chains && (children || trees.is_some());
    let keys = options.keys(&opened.description);
    let Filled { mut builder, symbolizer, events, .. } = opened.fill(&keys, stacks, notes)?;
    let profile = builder.finish(&events, &symbolizer, children, trees);
    notes.extend(damage(profile.damaged));
    Ok((profile, children))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_trees() {
        let of = |order, limit| Ok(Wanted::Trees(Trees { order, limit, inline: true }));
        assert_eq!(trees("caller"), of(Order::Caller, 0.5));
        assert_eq!(trees("graph,0,callee"), of(Order::Callee, 0.0));
        assert_eq!(trees("flat,2.5"), of(Order::Flat, 2.5));
        assert_eq!(trees("none"), Ok(Wanted::None));
        assert!(trees("calle").unwrap_err().contains("\"calle\" is none of caller, callee, flat"));
        assert!(trees("caller,101").is_err());
    }
}
