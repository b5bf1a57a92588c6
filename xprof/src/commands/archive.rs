//! `xprof archive`: its options.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::archive::guests::Kernel;
use crate::guest_files::{Given, kallsyms_of};
use crate::supply::FileSupplier;
use crate::{Global, archive, input};

/// Options of `xprof archive`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On the other machine:\n\n    mkdir -p ~/.debug && tar xf perf.data.tar.gz -C ~/.debug\n    xprof report -i ~/.debug/perf.data\n\n\
Binaries go where perf keeps them as well, so perf report shows the same names.")]
pub(crate) struct Options {
    /// The recording
    #[arg(short, long, value_name = "FILE", default_value = input::DEFAULT)]
    input: PathBuf,
    /// The archive [default: the recording's name and .tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A domain's kallsyms, for the names of its kernel: the recording is then kept as a folder that perf reads as well
    #[arg(long, value_name = "DOM=FILE")]
    guest_kallsyms: Vec<Given>,
}

/// Runs `xprof archive`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    let entries = archive::wanted(&options.input)?;
    let kernels = if options.guest_kallsyms.is_empty() {
        Vec::new()
    } else {
        let recording = input::open(&options.input)?;
        let files = kallsyms_of(&options.guest_kallsyms, recording.description())?;
        files.iter().map(|(machine, file)| Kernel::of(*machine, file)).collect::<anyhow::Result<Vec<_>>>()?
    };
    let path = options.output.unwrap_or_else(|| {
        let mut name = OsString::from(&options.input);
        name.push(".tar.gz");
        name.into()
    });
    let file = fs::File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let supplier = FileSupplier::new(None, None, None);
    let contents = archive::write((&options.input, &kernels), &entries, &supplier, (file, &path))?;
    if !global.quiet {
        for missing in &contents.missing {
            eprintln!("xprof: not in the archive: {missing}: no file here has the recorded build id");
        }
        eprintln!("xprof: {} binaries and the recording: {}", contents.files, path.display());
        eprintln!("xprof: on the other machine: tar xf {} -C ~/.debug", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
