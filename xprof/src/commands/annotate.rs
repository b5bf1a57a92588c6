//! `xprof annotate`: which instructions and source lines of a function the samples fell on.

use std::collections::{BTreeSet, HashMap};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use xprof_profile::annotation::Annotation;
use xprof_profile::code::Reader;
use xprof_profile::profile::{Builder, Filter, Function, Functions, Key};
use xprof_profile::symbols::{Module, Symbolizer};
use xprof_ui::annotate::{self, Annotated, Named, Texts, View};

use super::report::OutputFormat;
use crate::reading::{Reading, damage, fill};
use crate::terminal::{self, Output};
use crate::{Global, input};

/// Options of `xprof annotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The recording (`-`: standard input)
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    input: PathBuf,
    /// Only these functions (as --symbol); without it, every function with samples, the hottest first
    #[arg(short = 's', value_name = "SYMBOL,..", value_delimiter = ',')]
    symbols: Vec<String>,
    /// Show instructions (the default)
    #[arg(long, overrides_with_all = ["source", "both"])]
    asm: bool,
    /// Show source lines, and in their place what was compiled into them
    #[arg(long, overrides_with_all = ["asm", "both"])]
    source: bool,
    /// Show instructions, and before them the source lines that they were written on
    #[arg(long, overrides_with_all = ["asm", "source"])]
    both: bool,
    /// Leave out functions below this share of their event
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    percent_limit: f64,
    #[command(flatten)]
    reading: Reading,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,
}

impl Options {
    fn view(&self) -> View {
        match (self.source, self.both) {
            (true, _) => View::Source,
            (_, true) => View::Both,
            _ => View::Assembly,
        }
    }
}

/// Runs `xprof annotate`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let mut notes = Vec::new();
    let (functions, symbolizer) = functions(&options, &mut notes)?;
    if functions.list.is_empty() && !options.symbols.is_empty() {
        bail!(
            "no samples in {}; the functions that have some: xprof report -s symbol -i {}",
            options.symbols.join(", "),
            options.input.display()
        );
    }
    let mut annotated = annotate(functions, &symbolizer, options.percent_limit);
    if options.view() != View::Assembly || options.format != OutputFormat::Text {
        let missing = locate(&mut annotated, &symbolizer);
        if options.view() != View::Assembly {
            notes.extend(missing);
        }
    }
    let is_text = options.format == OutputFormat::Text;
    let view = annotate::Options {
        view: options.view(),
        color: is_text && global.color.on(std::io::stdout().is_terminal()),
        unicode: terminal::shows_unicode(),
        notes,
    };
    let mut out = String::new();
    match options.format {
        OutputFormat::Text => annotate::text(&annotated, &view, &mut out),
        OutputFormat::Json => annotate::json(&annotated, &view, &mut out),
        OutputFormat::Csv => {
            annotate::csv(&annotated, view.view, &mut out);
            for note in view.notes.iter().filter(|_| !global.quiet) {
                eprintln!("xprof: {note}");
            }
        }
    }
    Output::new().write_all(out.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn functions(options: &Options, notes: &mut Vec<String>) -> anyhow::Result<(Functions, Symbolizer)> {
    let recording = input::open(&options.input)?;
    let description = recording.description().clone();
    let filter = options.reading.filter(&description)?;
    let mut builder = Builder::new(&description, &[Key::Symbol, Key::Addr], filter, false);
    builder.set_guest_programs(options.reading.naming.guest_programs(&description));
    let (builder, ended) = fill(builder, (recording, None), &description.events, None, notes);
    let symbolizer = options.reading.naming.symbolizer(&ended);
    let mut functions = builder.functions(&description.events, &symbolizer);
    // Chosen now, and not when samples are taken: shares are parts of all.
    functions.list.retain(|function| Filter::names(&options.symbols, &[&*function.symbol.name]));
    notes.extend(damage(functions.damaged));
    Ok((functions, symbolizer))
}

/// Reads the code of every function that the limit leaves, each file opened once.
pub(crate) fn annotate(functions: Functions, symbolizer: &Symbolizer, percent_limit: f64) -> Annotated {
    let Functions { events, list, .. } = functions;
    let mut readers: HashMap<Module, Result<Reader, String>> = HashMap::new();
    let is_shown = |function: &Function| {
        let total = events.get(function.event).map_or(0, |(_, heat)| heat.period);
        function.heat.period as f64 * 100.0 >= percent_limit * total as f64
    };
    let shown: Vec<Function> = list.into_iter().filter(is_shown).collect();
    let named = |function: Function| {
        let module = function.module.clone();
        let reader = readers.entry(module.clone()).or_insert_with(|| symbolizer.code(&module));
        let code = reader.as_ref().map_err(Clone::clone).and_then(|reader| reader.read(&function.symbol));
        let annotation = Annotation::new(function, code);
        let exits = annotation.exits();
        let (symbols, _) = symbolizer.lookup(&module, &exits);
        let name = |(address, symbol): (&u64, Option<xprof_profile::symbols::Symbol>)| {
            let symbol = symbol?;
            let name = match address - symbol.start {
                0 => symbol.name.to_string(),
                offset => format!("{}+{offset:#x}", symbol.name),
            };
            Some((*address, name))
        };
        let names = exits.iter().zip(symbols).filter_map(name).collect();
        Named { annotation, names }
    };
    Annotated { functions: shown.into_iter().map(named).collect(), events, texts: Texts::new() }
}

/// Finds the source lines of all functions, and reads the files; what is said of those that are not here.
pub(crate) fn locate(annotated: &mut Annotated, symbolizer: &Symbolizer) -> Option<String> {
    let mut by_module: HashMap<Module, Vec<usize>> = HashMap::new();
    for (at, named) in annotated.functions.iter().enumerate() {
        by_module.entry(named.annotation.function.module.clone()).or_default().push(at);
    }
    let mut absent: BTreeSet<Arc<str>> = BTreeSet::new();
    for (module, functions) in by_module {
        let all = functions.iter().flat_map(|&at| annotated.functions[at].annotation.addresses());
        let mut addresses: Vec<u64> = all.collect();
        addresses.sort_unstable();
        addresses.dedup();
        let lines = symbolizer.lines(&module, &addresses);
        for at in functions {
            let annotation = &mut annotated.functions[at].annotation;
            let place = |address| addresses.binary_search(&address).map_or_else(|_| Vec::new(), |at| lines[at].clone());
            let places: Vec<_> = annotation.addresses().map(place).collect();
            annotation.locate(places);
            let files = annotation.lines.iter().flat_map(|line| &line.places).filter_map(|place| place.file.as_ref());
            for file in files {
                if annotated.texts.contains_key(file) || absent.contains(file) {
                    continue;
                }
                match symbolizer.source(&module, file) {
                    Some(text) => drop(annotated.texts.insert(file.clone(), text)),
                    None => drop(absent.insert(file.clone())),
                }
            }
        }
    }
    let first = absent.first()?;
    let more = match absent.len() {
        1 => String::new(),
        count => format!(" (and {} more source files)", count - 1),
    };
    Some(format!("{first} is not here{more}; say where sources are with --source-path DIR"))
}
