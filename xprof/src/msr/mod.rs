//! `xprof msr`: the 2005 contract by hand. A backend gives a handle, the call is made in one batch, and what came of it is
//! shown: the count that was done, and the entry that failed.

mod names;
mod print;
pub(crate) mod vpmu;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use xprof_backend::machine::Machine;
use xprof_backend::msr::{
    self, Caller, Class, Contract, DomId, Entry, Fault, Handler, Kind, Limits, On, Overflow, Scope, Table, tables,
};
use xprof_backend::native::{Native, msr as devices, registers};
use xprof_backend::simulated::ByHand;
use xprof_backend::sys::signal::{self, Signal, Signals};
use xprof_backend::xen;

use crate::Global;
use crate::commands::msr::{BackendChoice, Call, Options};
use crate::exit::Failure;
use crate::remedy;
use crate::terminal::Output;

/// How often an interrupt's source is looked at while a signal may come.
const LOOK: Duration = Duration::from_millis(50);
/// How much the simulated machine runs at a time, simulated ns.
const STRETCH: u64 = 10_000_000;

/// A backend's registers.
enum Handle {
    Native(registers::Registers),
    Msr(devices::Registers),
    Simulated { machine: ByHand, caller: Caller, of: Box<dyn Contract + Send>, cpu: u32 },
    Xen(Box<xen::msr::Registers>),
}

impl Handle {
    fn contract(&mut self) -> &mut dyn Contract {
        match self {
            Handle::Native(registers) => registers,
            Handle::Msr(registers) => registers,
            Handle::Simulated { of, .. } => of.as_mut(),
            Handle::Xen(registers) => registers.as_mut(),
        }
    }

    /// Allocates, which domain 0 does.
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> msr::Result<()> {
        match self {
            Handle::Simulated { machine, .. } => {
                machine.handle(Caller { domain: DomId::ZERO, on: On::Vcpu(0) }).allocate(class, domain, scope)
            }
            other => other.contract().allocate(class, domain, scope),
        }
    }

    /// A handler that passes every interrupt on. It rearms and claims them if asked to (the kernel rearms what is claimed
    /// by itself, the simulated machine is with these entries); else the first one stays masked.
    fn handler(&self, class: Class, reload: Vec<Entry>, rearm: bool, tell: Sender<Overflow>) -> Handler {
        let mut again = match self {
            Handle::Simulated { machine, caller, .. } if rearm => Some(machine.handle(*caller)),
            _ => None,
        };
        Box::new(move |overflow, _| {
            let rearmed = again.as_mut().is_none_or(|again| again.write(class, true, &mut reload.clone()).is_ok());
            tell.send(*overflow).is_ok() && rearm && rearmed
        })
    }

    fn table(&self) -> Table {
        match self {
            Handle::Native(registers) => *registers.table(),
            Handle::Msr(registers) => *registers.table(),
            Handle::Simulated { machine, .. } => machine.table(),
            Handle::Xen(_) => xen::msr::Registers::table(),
        }
    }
}

fn name(backend: &BackendChoice) -> &'static str {
    match backend {
        BackendChoice::Native => "native",
        BackendChoice::Msr => "msr",
        BackendChoice::Simulated(_) => "simulated",
        BackendChoice::Xen => "xen",
    }
}

/// Where `--backend msr` finds its devices and keeps its journals.
pub(crate) fn places(options: &Options) -> devices::Places {
    let usual = devices::Places::default();
    devices::Places {
        devices: options.devices.clone().unwrap_or(usual.devices),
        journals: options.journals.clone().unwrap_or(usual.journals),
    }
}

fn family(options: &Options) -> Result<Option<Table>, Failure> {
    let Some(name) = &options.family else { return Ok(None) };
    let family = tables::named(&name.to_ascii_lowercase()).ok_or_else(|| {
        let names: Vec<&str> = tables::FAMILIES.iter().map(|family| family.name).collect();
        Failure::usage(format!("--family: there is no {name:?}; the families are {}", names.join(", ")))
    })?;
    if !matches!((options.call, &options.backend), (Call::Classes, _) | (Call::Read, BackendChoice::Msr)) {
        return Err(Failure::usage("--family: another table is for looking at: classes, or read with --backend msr"));
    }
    Ok(Some(Table { family, limits: Limits::NONE }))
}

/// What does not exist is said before anything is done.
fn check(options: &Options) -> anyhow::Result<()> {
    let machine = Machine::here();
    match &options.backend {
        BackendChoice::Native | BackendChoice::Msr if options.vcpu.is_some() => {
            Err(Failure::usage("--vcpu: this machine has CPUs alone: --cpu N").into())
        }
        BackendChoice::Native if !machine.online_cpus().contains(&options.cpu) => {
            Err(xprof_backend::Error::NoTarget { what: format!("CPU {}", options.cpu) }.into())
        }
        BackendChoice::Simulated(simulated) => {
            let domains = simulated.by_hand()?.domains();
            if !domains.contains(&DomId(options.domain)) {
                let all: Vec<String> = domains.iter().map(|domain| domain.0.to_string()).collect();
                let all = all.join(", ");
                anyhow::bail!("--domain {}: the simulated machine has the domains {all}", options.domain);
            }
            for (option, number) in [("--cpu", Some(options.cpu)), ("--vcpu", options.vcpu)] {
                if let Some(number) = number.filter(|number| *number >= simulated.cpus) {
                    let last = simulated.cpus - 1;
                    anyhow::bail!(
                        "{option} {number}: the simulated machine has CPUs 0 to {last}, every domain as many vCPUs"
                    );
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn open(options: &Options, by_hand: Option<Table>) -> anyhow::Result<Handle> {
    check(options)?;
    Ok(match &options.backend {
        BackendChoice::Native => Handle::Native(registers::Registers::of_cpu(&Native::new(), options.cpu)),
        BackendChoice::Msr => Handle::Msr(devices::Registers::open_at(&places(options), options.cpu, by_hand)?),
        BackendChoice::Simulated(simulated) => {
            let machine = simulated.by_hand()?;
            let on = match options.scope.into() {
                Scope::Global => On::Cpu(options.cpu),
                _ => On::Vcpu(options.vcpu.unwrap_or(options.cpu)),
            };
            let caller = Caller { domain: DomId(options.domain), on };
            let of = machine.handle(caller);
            Handle::Simulated { machine, caller, of, cpu: options.cpu }
        }
        BackendChoice::Xen => Handle::Xen(Box::new(vpmu::open(options)?)),
    })
}

/// Makes the call.
pub(crate) fn run(options: &Options, global: &Global) -> anyhow::Result<ExitCode> {
    let by_hand = family(options)?;
    let class: Class = options.class.map_or(Class::Perf, Into::into);
    if options.call == Call::Classes {
        let table = match (&options.backend, by_hand) {
            (_, Some(table)) => table,
            (BackendChoice::Simulated(_), None) => open(options, None)?.table(),
            (BackendChoice::Xen, None) => xen::msr::Registers::table(),
            _ => msr::cpu::table(),
        };
        let text = print::classes(&table, options.class.map(Into::into), options.format);
        Output::new().write_all(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals =
        signal::catch(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup]).context("cannot catch signals")?;
    if options.vpmu_mode.is_some() && !vpmu::is_local(options) {
        return Err(Failure::usage("--vpmu-mode is for allocate --backend xen --scope local").into());
    }
    if options.call == Call::Allocate && !options.registers.is_empty() {
        return Err(Failure::usage("allocate gives whole classes: leave the registers away").into());
    }
    let mut handle = open(options, by_hand)?;
    let domain = DomId(options.domain);
    if let (Call::Allocate, Handle::Xen(registers)) = (options.call, &mut handle) {
        return vpmu::hold(options, registers, &signals, global);
    }
    if options.call == Call::Allocate {
        handle.allocate(class, domain, options.scope.into())?;
        if !global.quiet {
            let scope = format!("{:?}", options.scope).to_uppercase();
            println!("allocate: {domain} had the {} class {scope}, until this ended", print::class_name(class));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let scope = match options.scope.into() {
        Scope::Unavailable => return Err(Failure::usage("--scope unavailable is for allocate").into()),
        scope => scope,
    };
    let table = handle.table();
    let with_value = matches!(options.call, Call::Write | Call::Irq);
    let entries: Result<Vec<Entry>, String> =
        options.registers.iter().map(|text| names::entry(&table, class, text, with_value)).collect();
    let mut entries = entries.map_err(Failure::usage)?;
    handle.allocate(class, domain, scope)?;
    let (call, count) = match options.call {
        Call::Read => ("read", handle.contract().read(class, &mut entries)?),
        Call::Default => ("default", handle.contract().set_default(class, &mut entries)?),
        Call::Irq => {
            let (tell, told) = channel();
            let is_counter = |entry: &&Entry| {
                let kind = table.find(class, entry.msr).map(|found| found.row.kind);
                matches!(kind, Some(Kind::Counter | Kind::CounterAlias | Kind::Fixed))
            };
            let reload = entries.iter().filter(is_counter).copied().collect();
            let handler = handle.handler(class, reload, options.rearm, tell);
            handle.contract().irq_handler(class, Some(handler))?;
            let count = handle.contract().write(class, true, &mut entries)?;
            if count == entries.len() {
                if interrupts(options, &mut handle, &signals, &told)? == 0 && !global.quiet {
                    eprintln!("xprof: {}", why_none(&mut handle));
                }
                return Ok(ExitCode::SUCCESS);
            }
            ("irq", count)
        }
        _ => ("write", handle.contract().write(class, options.rearm, &mut entries)?),
    };
    let done = print::Done {
        call,
        backend: name(&options.backend),
        table: &table,
        class,
        cpu: options.cpu,
        count,
        entries: &entries,
    };
    Output::new().write_all(print::batch(&done, options.format).as_bytes())?;
    let Some(failed) = entries.get(count) else { return Ok(ExitCode::SUCCESS) };
    if !global.quiet
        && let Some(advice) = remedy::of_fault(failed.fault().unwrap_or(Fault::Refused), &options.backend, &table)
    {
        eprintln!("xprof: {}\n  try:   {}", advice.cause, advice.next);
    }
    Ok(ExitCode::from(1))
}

/// Why no interrupt came, as far as the registers say.
fn why_none(handle: &mut Handle) -> String {
    let table = handle.table();
    for msr in tables::GLOBAL_CONTROLS {
        let mut entries = [Entry::of(msr)];
        if table.find(Class::Perf, msr).is_some()
            && handle.contract().read(Class::Perf, &mut entries).is_ok_and(|count| count == 1)
            && entries[0].value == 0
        {
            let name = names::name(&table, Class::Perf, msr);
            return format!("no interrupt came: {name} enables no counter\n  try:   {msr:#x}=1 as well, for counter 0");
        }
    }
    "no interrupt came: a counter must overflow (REG=-N), and be enabled with its interrupt\n  try:   xprof msr classes"
        .into()
}

/// Shows interrupts until the end that was asked for; how many came.
fn interrupts(
    options: &Options,
    handle: &mut Handle,
    signals: &Signals,
    told: &Receiver<Overflow>,
) -> anyhow::Result<usize> {
    let ends_at = options.duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut out = std::io::stdout().lock();
    out.write_all(print::irq_head(options.format).as_bytes())?;
    let (mut simulated, mut came) = (0, 0);
    loop {
        let mut is_over = ends_at.is_some_and(|end| end <= Instant::now()) || signals.next().is_some();
        match handle {
            Handle::Native(registers) => {
                registers.dispatch(LOOK)?;
            }
            // irq_handler has refused.
            Handle::Msr(_) | Handle::Xen(_) => is_over = true,
            Handle::Simulated { machine, cpu, .. } => {
                simulated += STRETCH;
                machine.run(*cpu, STRETCH);
                is_over |= simulated >= machine.duration();
            }
        }
        for overflow in told.try_iter() {
            came += 1;
            out.write_all(print::irq(&overflow, options.format).as_bytes())?;
        }
        out.flush()?;
        if is_over {
            return Ok(came);
        }
    }
}
