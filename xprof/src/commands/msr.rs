//! `xprof msr`: its options. The calls are in [`crate::msr`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use xprof_backend::msr::{Class, Scope};
use xprof_backend::simulated::Simulated;

use crate::commands::report::OutputFormat;
use crate::record::values;
use crate::{Global, msr};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Call {
    /// Read registers
    Read,
    /// Write registers
    Write,
    /// Set registers to the defaults of the class table
    Default,
    /// Give a domain a class of registers, or take it away
    Allocate,
    /// Show the class table of this CPU, or of --family
    Classes,
    /// Write registers, then show the interrupts of the class
    Irq,
}

/// Whose registers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BackendChoice {
    /// perf's counters behind the CPU's register addresses.
    Native,
    /// `/dev/cpu/N/msr`.
    Msr,
    /// The simulated machine.
    Simulated(Simulated),
    /// Xen, from dom0.
    Xen,
}

/// The vPMU's mode that LOCAL stands for, by Linux's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VpmuMode {
    /// Every domain counts itself
    #[value(name = "self")]
    Own,
    /// The same, and dom0 counts Xen as well
    Hv,
}

/// A class, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClassChoice {
    /// Performance counters
    Perf,
    /// Debug control, last branches, address masks
    Debug,
}

impl From<ClassChoice> for Class {
    fn from(class: ClassChoice) -> Class {
        match class {
            ClassChoice::Perf => Class::Perf,
            ClassChoice::Debug => Class::Debug,
        }
    }
}

/// A scope, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeChoice {
    /// Not at all
    Unavailable,
    /// The domain's own values
    Local,
    /// The machine's registers, and no other domain has any
    Global,
}

impl From<ScopeChoice> for Scope {
    fn from(scope: ScopeChoice) -> Scope {
        match scope {
            ScopeChoice::Unavailable => Scope::Unavailable,
            ScopeChoice::Local => Scope::Local,
            ScopeChoice::Global => Scope::Global,
        }
    }
}

/// Options of `xprof msr`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
REG is an address (0x186) or a name of the table (IA32_PERFEVTSEL0); VALUE a number, -N for a counter that is to \
overflow after N.\n\
read, write, default and irq allocate LOCAL for their own duration. What --backend msr or xen changed is put back at the end.\n\
allocate --backend xen sets the vPMU's mode of the whole host: local: self (or --vpmu-mode hv), global: all, unavailable: off. \
It says so first, holds the mode until Ctrl-C or --duration, and puts the old one back. The vPMU is not security \
supported (XSA-163). read, write, default and irq change no mode.\n\
The exit status is 0 when every entry was done, 1 when one was not; 125: nothing was done.")]
pub(crate) struct Options {
    /// What is done
    pub(crate) call: Call,
    /// Registers, with values to write
    #[arg(value_name = "REG[=VALUE]")]
    pub(crate) registers: Vec<String>,
    /// Whose registers: native (perf's counters), msr (/dev/cpu/N/msr), simulated[:OPTION=VALUE,..], xen
    #[arg(long, value_name = "BACKEND", value_parser = backend, default_value = "native")]
    pub(crate) backend: BackendChoice,
    /// Class of the registers [default: perf; for classes: both]
    #[arg(long, value_name = "CLASS")]
    pub(crate) class: Option<ClassChoice>,
    /// How the class is allocated
    #[arg(long, value_name = "SCOPE", default_value = "local")]
    pub(crate) scope: ScopeChoice,
    /// The class table to use in place of this CPU's (classes, and read with --backend msr)
    #[arg(long, value_name = "NAME")]
    pub(crate) family: Option<String>,
    /// Acknowledge interrupts and let them through again (irq: each one; without it the first is the last)
    #[arg(long)]
    pub(crate) rearm: bool,
    /// The CPU whose registers are meant
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) cpu: u32,
    /// allocate: the domain that is given the class; else the domain that calls (simulated), or whose vCPU is meant (xen)
    #[arg(long, value_name = "D", default_value_t = 0)]
    pub(crate) domain: u16,
    /// The vCPU whose registers are meant (simulated, xen) [default: the CPU's number; xen: 0]
    #[arg(long, value_name = "V")]
    pub(crate) vcpu: Option<u32>,
    /// allocate --backend xen: the vPMU's mode that LOCAL is [default: self]
    #[arg(long, value_name = "MODE")]
    pub(crate) vpmu_mode: Option<VpmuMode>,
    /// irq, and allocate --backend xen: end after this many seconds
    #[arg(short, long, value_name = "SECS", value_parser = values::seconds)]
    pub(crate) duration: Option<Duration>,
    /// Form of the output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: OutputFormat,
    /// Where the devices are, in place of /dev/cpu
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) devices: Option<PathBuf>,
    /// Where journals go, in place of /run/xprof/msr
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) journals: Option<PathBuf>,
}

/// `native`, `msr`, `xen`, `simulated[:OPTION=VALUE,..]`.
pub(crate) fn backend(text: &str) -> Result<BackendChoice, String> {
    match text {
        "native" => Ok(BackendChoice::Native),
        "msr" => Ok(BackendChoice::Msr),
        "simulated" => Ok(BackendChoice::Simulated(Simulated::default())),
        "xen" => Ok(BackendChoice::Xen),
        _ => match text.split_once(':') {
            Some(("simulated", options)) => options.parse().map(BackendChoice::Simulated),
            _ => Err("native, msr, xen or simulated[:OPTION=VALUE,..]".into()),
        },
    }
}

/// Runs `xprof msr`.
pub(crate) fn run(options: Options, global: &Global) -> anyhow::Result<ExitCode> {
    msr::run(&options, global)
}
