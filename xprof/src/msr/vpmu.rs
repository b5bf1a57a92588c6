//! `xprof msr allocate --backend xen`: the vPMU's mode of a whole Xen host, held as long as this runs.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;
use xprof_backend::msr::journal::Outcome;
use xprof_backend::msr::{Class, Contract, DomId, Scope};
use xprof_backend::sys::signal::Signals;
use xprof_backend::xen::msr::journal::Change;
use xprof_backend::xen::msr::vpmu::{Mode, Setting};
use xprof_backend::xen::msr::{Place, Registers};

use super::{LOOK, print};
use crate::Global;
use crate::commands::msr::{BackendChoice, Call, Options, VpmuMode};
use crate::commands::report::OutputFormat;
use crate::terminal::Output;

/// True where `--vpmu-mode` means something.
pub(super) fn is_local(options: &Options) -> bool {
    let is_local = Scope::from(options.scope) == Scope::Local;
    options.call == Call::Allocate && options.backend == BackendChoice::Xen && class(options) == Class::Perf && is_local
}

fn class(options: &Options) -> Class {
    options.class.map_or(Class::Perf, Into::into)
}

/// Opens a handle on Xen; one that sets modes for `allocate` alone.
pub(super) fn open(options: &Options) -> Result<Registers, xprof_backend::Error> {
    let place = Place { cpu: options.cpu, domain: DomId(options.domain), vcpu: options.vcpu.unwrap_or_default() };
    let local = match options.vpmu_mode {
        Some(VpmuMode::Hv) => Mode::Hypervisor,
        Some(VpmuMode::Own) | None => Mode::Own,
    };
    Ok(match (options.call, class(options)) {
        (Call::Allocate, Class::Perf) => Registers::setting_modes(place, local)?,
        _ => Registers::open(place)?,
    })
}

/// Allocates: says what that will change, changes it, waits for the end, changes it back.
pub(super) fn hold(
    options: &Options,
    registers: &mut Registers,
    signals: &Signals,
    global: &Global,
) -> anyhow::Result<ExitCode> {
    let (class, scope, domain) = (class(options), options.scope.into(), DomId(options.domain));
    // Of another domain this is refused; nothing is said to change then.
    let setting = match (class, domain) {
        (Class::Perf, DomId::ZERO) => registers.setting(scope)?,
        _ => None,
    };
    if !global.quiet {
        for trap in setting.iter().flat_map(|setting| &setting.traps) {
            eprintln!("xprof: {trap}");
        }
    }
    registers.allocate(class, domain, scope)?;
    if !global.quiet {
        let text = allocated(options, class, setting.as_ref());
        Output::new().write_all(text.as_bytes())?;
        std::io::stdout().flush()?;
    }
    if setting.is_some() {
        let ends_at = options.duration.and_then(|duration| Instant::now().checked_add(duration));
        while signals.next().is_none() && ends_at.is_none_or(|end| Instant::now() < end) {
            std::thread::sleep(LOOK);
        }
    }
    let answers = registers.restore();
    let mut is_settled = true;
    for (change, outcome) in &answers {
        is_settled &= outcome.is_settled();
        if !global.quiet || !outcome.is_settled() {
            eprintln!("xprof: {}", restored(change, outcome));
        }
    }
    if !is_settled {
        eprintln!("  try:   xprof doctor --restore   (when the guests that were started meanwhile are gone)");
    }
    Ok(if is_settled { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn allocated(options: &Options, class: Class, setting: Option<&Setting>) -> String {
    let domain = DomId(options.domain);
    let scope = format!("{:?}", options.scope).to_lowercase();
    let class = print::class_name(class);
    let [old, new] = [setting.map(|s| s.old.name()), setting.map(|s| s.new.name())];
    match options.format {
        OutputFormat::Text => {
            let mode = match setting {
                Some(Setting { old, new, .. }) if old == new => format!(", by the vPMU's mode {new}, as it was"),
                Some(Setting { old, new, .. }) => format!(", by the vPMU's mode {new} (it was {old})"),
                None => String::new(),
            };
            format!("allocate: {domain} has the {class} class {} while this runs{mode}\n", scope.to_uppercase())
        }
        OutputFormat::Json => {
            let mode = setting.map(|_| json!({ "old": old, "new": new }));
            let document =
                json!({ "schema": 1, "domain": domain.0, "class": class, "scope": scope, "vpmu_mode": mode });
            format!("{document}\n")
        }
        OutputFormat::Csv => format!(
            "domain,class,scope,vpmu_mode_old,vpmu_mode_new\n{},{class},{scope},{},{}\n",
            domain.0,
            old.unwrap_or_default(),
            new.unwrap_or_default()
        ),
    }
}

/// What became of a change that was to be taken back.
pub(crate) fn restored(change: &Change, outcome: &Outcome) -> String {
    let [old, _] = change.values();
    format!("{}: {} ({old})", change.of, words(outcome, |now| change.show(now)))
}

/// An outcome in words.
pub(crate) fn words(outcome: &Outcome, show: impl Fn(u64) -> String) -> String {
    match outcome {
        Outcome::Restored => "put back".into(),
        Outcome::Unchanged => "was not changed".into(),
        Outcome::Left { now } => {
            format!("holds {} now: somebody else has changed it, left as it is", show(*now))
        }
        Outcome::Unknown => "no register of this machine's classes: left as it is".into(),
        Outcome::Gone => "the domain is gone, and its registers with it".into(),
        Outcome::Failed(error) => format!("cannot be put back: {error}"),
    }
}
