#![forbid(unsafe_code)]
//! The command: arguments -> plan -> wiring. One file per sub-command; errors are printed here, with their remedy.
//! A library only so that the release tools see the same options as the program.

mod archive;
mod arguments;
mod commands;
mod debuginfod;
mod exit;
mod export;
mod facts;
mod guest_files;
mod input;
mod msr;
mod naming;
mod pages;
mod reading;
mod record;
mod remedy;
mod rewrite;
mod screen;
mod stacks;
mod stat;
mod supply;
mod terminal;
mod time;
mod top;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

/// A sampling profiler for Linux and for whole Xen hosts.
#[derive(Debug, Parser)]
#[command(name = "xprof", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every sub-command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// Say more on stderr
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say only errors on stderr
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Colour: auto (a terminal, and neither NO_COLOR nor TERM=dumb), always, never
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: terminal::Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record samples of a command, processes, CPUs or the whole machine into a file
    Record(commands::record::Options),
    /// Show where the samples of a recording fell
    Report(commands::report::Options),
    /// Show which instructions of a function the samples fell on
    Annotate(commands::annotate::Options),
    /// Show what changed between recordings, and what is no more than noise
    Diff(commands::diff::Options),
    /// Write a recording in the form of another program
    Export(commands::export::Options),
    /// Draw the stacks of a recording as a flame graph
    Flamegraph(commands::flamegraph::Options),
    /// Print every sample as text, as `perf script` does
    Script(commands::script::Options),
    /// Show where samples fall at this moment
    Top(commands::top::Options),
    /// Count events of a command, processes, CPUs or the whole machine
    Stat(commands::stat::Options),
    /// List the events that this machine can measure
    List(commands::list::Options),
    /// List the domains of this Xen host, and how they spend their time
    Domains(commands::domains::Options),
    /// Read and write performance and debug registers: the xen_msr contract by hand
    Msr(commands::msr::Options),
    /// Say what can be measured here, what cannot, and the command that would change it
    Doctor(commands::doctor::Options),
    /// Pack a recording with the symbols it needs, to be read on another machine
    Archive(commands::archive::Options),
}

/// The definition of every option: what man pages and completions are made from. `--help` is the short help of each
/// command, `help COMMAND` the long one.
pub fn command_line() -> clap::Command {
    fn short_help(command: clap::Command) -> clap::Command {
        let help = clap::Arg::new("help").short('h').long("help").action(clap::ArgAction::HelpShort);
        command.disable_help_flag(true).arg(help.help("Show this; `xprof help COMMAND` shows more"))
    }
    short_help(<Cli as clap::CommandFactory>::command()).mut_subcommands(short_help)
}

/// What `xprof report -i FILE` does.
pub(crate) fn report_on(path: &std::path::Path, global: &Global) -> anyhow::Result<ExitCode> {
    let arguments = ["xprof".as_ref(), "report".as_ref(), "--stdio".as_ref(), "-i".as_ref(), path.as_os_str()];
    match Cli::try_parse_from(arguments)?.command {
        Command::Report(options) => commands::report::run(options, global),
        _ => Ok(ExitCode::from(exit::FAILED)),
    }
}

/// Runs what the arguments of this process say; the exit status is `main`'s.
pub fn run() -> ExitCode {
    let command_line = command_line();
    let arguments = arguments::attach(std::env::args_os().collect(), &command_line);
    let matches = command_line.get_matches_from(arguments);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let result = match cli.command {
        Command::Record(options) => commands::record::run(options, &cli.global),
        Command::Report(options) => commands::report::run(options, &cli.global),
        Command::Annotate(options) => commands::annotate::run(options, &cli.global),
        Command::Diff(options) => commands::diff::run(options, &cli.global),
        Command::Export(options) => commands::export::run(options, &cli.global),
        Command::Flamegraph(options) => commands::flamegraph::run(options, &cli.global),
        Command::Script(options) => commands::script::run(options, &cli.global),
        Command::Top(options) => commands::top::run(options, &cli.global),
        Command::Stat(options) => commands::stat::run(options, &cli.global),
        Command::List(options) => commands::list::run(options, &cli.global),
        Command::Domains(options) => commands::domains::run(options, &cli.global),
        Command::Msr(options) => commands::msr::run(options, &cli.global),
        Command::Doctor(options) => commands::doctor::run(options, &cli.global),
        Command::Archive(options) => commands::archive::run(options, &cli.global),
    };
    exit::code(result)
}
