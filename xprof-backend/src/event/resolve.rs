//! From a written event to what the kernel is asked for: one attr, or one per core PMU or matching tracepoint.

use std::fmt::Write as _;

use xprof_perfdata::abi::{attr_flag as flag, event_type};
use xprof_perfdata::attr::Attr;

use super::modifiers::{self, Modifiers};
use super::names::{self, CacheName, Fixed};
use super::pmu::{self, Pmu};
use super::suggest::did_you_mean;
use super::syntax::{self, Span, Term, Written};
use super::{EventSpec, tracepoint};
use crate::Result;
use crate::machine::Machine;

/// `PERF_PMU_TYPE_SHIFT`: on hybrid machines the PMU's number stands above the event's in config.
const PMU_TYPE_SHIFT: u32 = 32;
/// `HW_BREAKPOINT_*` of `include/uapi/linux/hw_breakpoint.h`.
const BP_READ: u32 = 1;
const BP_WRITE: u32 = 2;
const BP_EXECUTE: u32 = 4;
/// Terms that may stand in any event beside the PMU's own.
const COMMON_TERMS: [&str; 9] =
    ["config", "config1", "config2", "config3", "config4", "name", "period", "freq", "max-stack"];
/// Terms of perf that make sense only elsewhere, and where.
const ELSEWHERE: [(&str, &str); 11] = [
    ("call-graph", "use --call-graph"),
    ("stack-size", "use --call-graph dwarf,SIZE"),
    ("inherit", "it is the default"),
    ("no-inherit", "use --no-inherit"),
    ("overwrite", "use --overwrite"),
    ("no-overwrite", "it is the default"),
    ("time", "samples always carry their time"),
    ("branch_type", "branch stacks are not recorded"),
    ("percore", "it works only when counting"),
    ("aux-output", "AUX area tracing is not recorded"),
    ("aux-sample-size", "AUX area tracing is not recorded"),
];

/// An event with the modifiers still apart, for a group to add its own.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) spec: EventSpec,
    pub(super) modifiers: Modifiers,
}

impl Found {
    fn new(name: impl Into<String>, attr: Attr, cpus: Option<Vec<u32>>, modifiers: Modifiers) -> Found {
        let spec = EventSpec { name: name.into(), attr, cpus, precise_is_fixed: false, rate_is_fixed: false };
        Found { spec, modifiers }
    }

    /// The event as it is to be opened.
    pub(super) fn finish(mut self) -> EventSpec {
        self.modifiers.apply(&mut self.spec.attr);
        self.spec.precise_is_fixed = self.modifiers.precise_is_fixed();
        self.spec
    }
}

/// Resolves one written event.
pub(super) fn event(machine: &Machine, written: &Written<'_>) -> Result<Vec<Found>> {
    if written.base.text.starts_with("mem:") {
        return Ok(vec![breakpoint(written)?]);
    }
    let Some((terms, letters)) = &written.slashes else { return without_slashes(machine, written) };
    let modifiers = Modifiers::of_event(*letters)?;
    let mut found = match named(machine, written.base, written.whole, modifiers)? {
        Some(found) => {
            let mut found = found;
            for f in &mut found {
                for term in terms {
                    common_term(f, term, written.base)?;
                }
            }
            found
        }
        None => match written.base.split_at_first(':') {
            Some((system, event)) => {
                let mut found = tracepoints(machine, system, event, modifiers)?;
                for f in &mut found {
                    for term in terms {
                        common_term(f, term, written.base)?;
                    }
                }
                found
            }
            None => pmu_event(machine, written, terms, modifiers)?,
        },
    };
    // A name given by the user is the user's even where several PMUs share it.
    if let Some(name) = terms.iter().rev().find(|t| t.key.text == "name").and_then(|t| t.value) {
        found.iter_mut().for_each(|f| f.spec.name = name.text.to_owned());
    }
    Ok(found)
}

/// `name[:mods]`, `type:config[:mods]`, `system:event[:mods]`.
fn without_slashes(machine: &Machine, written: &Written<'_>) -> Result<Vec<Found>> {
    let whole = written.whole;
    if let Some(found) = named(machine, whole, whole, Modifiers::none())? {
        return Ok(found);
    }
    let Some((head, tail)) = whole.split_at_first(':') else { return Err(unknown(machine, whole)) };
    // type:config:mods
    if syntax::number(head.text).is_some() {
        let (config, letters) = tail.split_at_first(':').unwrap_or((tail, end_of(tail)));
        let both = Span { text: &whole.text[..config.at + config.text.len() - whole.at], at: whole.at };
        let modifiers = Modifiers::of_event(letters)?;
        return named(machine, both, whole, modifiers)?
            .ok_or_else(|| config.error("a numeric event is written type:config"));
    }
    let (event, letters) = tail.split_at_first(':').unwrap_or((tail, end_of(tail)));
    if matches!(tracepoint::id(machine, head.text, event.text), Ok(Some(_))) {
        return tracepoints(machine, head, event, Modifiers::of_event(letters)?);
    }
    let is_event = named(machine, head, whole, Modifiers::none())?.is_some();
    if is_event
        || (modifiers::looks_like(tail.text)
            && !tracepoint::matching(machine, head.text, "*").is_ok_and(|l| !l.is_empty()))
    {
        let modifiers = Modifiers::of_event(tail)?;
        return named(machine, head, whole, modifiers)?.ok_or_else(|| unknown(machine, head));
    }
    tracepoints(machine, head, event, Modifiers::of_event(letters)?)
}

fn end_of(span: Span<'_>) -> Span<'_> {
    Span { text: "", at: span.at + span.text.len() }
}

/// Everything that is found by one name, without looking at colons: hardware, software, cache, raw, numbers, and
/// events that a PMU names. `None` when it is none of them.
fn named(machine: &Machine, base: Span<'_>, whole: Span<'_>, modifiers: Modifiers) -> Result<Option<Vec<Found>>> {
    let name = base.text;
    if let Some((kind, config)) = name.split_once(':') {
        let (Some(kind), Some(config)) = (syntax::number(kind), syntax::number(config)) else { return Ok(None) };
        let kind = u32::try_from(kind).map_err(|_| base.error("an event type has 32 bits"))?;
        let attr = Attr { kind, config, ..Attr::default() };
        return Ok(Some(vec![Found::new(whole.text, attr, None, modifiers)]));
    }
    let extended = |kind: u32, config: u64| on_every_core(machine, kind, config, base, whole, modifiers);
    if let Some(Fixed { config, .. }) = names::find(names::HARDWARE, name) {
        return Ok(Some(extended(event_type::HARDWARE, *config)));
    }
    if let Some(Fixed { config, .. }) = names::find(names::SOFTWARE, name) {
        let attr = Attr { kind: event_type::SOFTWARE, config: *config, ..Attr::default() };
        return Ok(Some(vec![Found::new(whole.text, attr, None, modifiers)]));
    }
    if names::TOOL.contains(&name) {
        return Err(base.error("this is measured by the tool itself, and only when counting"));
    }
    match names::cache(name) {
        CacheName::Config(config) => return Ok(Some(extended(event_type::HW_CACHE, config))),
        CacheName::NoSuchOperation(cache) => {
            return Err(base.error(format!("{cache} has no such operation; see `xprof list {cache}`")));
        }
        CacheName::No => {}
    }
    let in_pmus: Vec<(Pmu, pmu::Alias)> = match name.contains(['*', '?', '{', '}']) {
        true => Vec::new(),
        false => Pmu::all(machine).into_iter().filter_map(|p| p.alias(name).map(|a| (p, a))).collect(),
    };
    if !in_pmus.is_empty() {
        let mut list = Vec::new();
        for (pmu, _) in &in_pmus {
            let term = Term { key: base, value: None };
            let title = if in_pmus.len() == 1 { whole.text.to_owned() } else { on_pmu(pmu, base, whole) };
            list.push(on_one_pmu(pmu, &[term], title, base, modifiers)?);
        }
        return Ok(Some(list));
    }
    if let Some(config) = raw(name) {
        return Ok(Some(extended(event_type::RAW, config)));
    }
    Ok(None)
}

/// `rNNNN`, at most 16 hexadecimal digits.
fn raw(name: &str) -> Option<u64> {
    let hex = name.strip_prefix('r').filter(|h| (1..=16).contains(&h.len()))?;
    u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+'))
}

/// Hardware, cache and raw events: once, or on a hybrid machine once per core PMU.
fn on_every_core(
    machine: &Machine,
    kind: u32,
    config: u64,
    base: Span<'_>,
    whole: Span<'_>,
    modifiers: Modifiers,
) -> Vec<Found> {
    let cores = Pmu::cores(machine);
    if cores.len() < 2 {
        let attr = Attr { kind, config, ..Attr::default() };
        return vec![Found::new(whole.text, attr, None, modifiers)];
    }
    let one = |pmu: &Pmu| {
        let (kind, config) = match kind {
            event_type::RAW => (pmu.kind, config),
            _ => (kind, config | u64::from(pmu.kind) << PMU_TYPE_SHIFT),
        };
        let attr = Attr { kind, config, ..Attr::default() };
        Found::new(on_pmu(pmu, base, whole), attr, pmu.cpus.clone(), modifiers)
    };
    cores.iter().map(one).collect()
}

/// `cpu_core/cycles/u` for `cycles:u`.
fn on_pmu(pmu: &Pmu, base: Span<'_>, whole: Span<'_>) -> String {
    let letters = whole.text.rsplit([':', '/']).next().filter(|l| modifiers::looks_like(l) && *l != base.text);
    format!("{}/{}/{}", pmu.name, base.text, letters.unwrap_or_default())
}

/// `pmu/terms/`, on the PMU of that name, else on all that the name abbreviates.
fn pmu_event(machine: &Machine, written: &Written<'_>, terms: &[Term<'_>], modifiers: Modifiers) -> Result<Vec<Found>> {
    let base = written.base;
    let all = pmu::names(machine);
    let meant: Vec<&String> = match all.iter().find(|n| *n == base.text) {
        Some(exact) => vec![exact],
        None => all.iter().filter(|n| pmu::matches(base.text, n)).collect(),
    };
    let pmus: Vec<Pmu> = meant.into_iter().filter_map(|n| Pmu::read(machine, n)).collect();
    if pmus.is_empty() {
        let known = all.iter().map(String::as_str).chain(fixed_names());
        let mut problem = format!("this machine has no PMU {:?}{}", base.text, did_you_mean(base.text, known));
        if base.text.starts_with("cpu") {
            let _ = write!(problem, " (no core PMU: see `xprof doctor`)");
        }
        return Err(base.error(problem));
    }
    let mut list = Vec::new();
    for pmu in &pmus {
        let found = on_one_pmu(pmu, terms, written.whole.text.to_owned(), base, modifiers)?;
        list.push(found);
    }
    Ok(list)
}

fn on_one_pmu(pmu: &Pmu, terms: &[Term<'_>], name: String, base: Span<'_>, modifiers: Modifiers) -> Result<Found> {
    let attr = Attr { kind: pmu.kind, ..Attr::default() };
    let mut found = Found::new(name, attr, pmu.cpus.clone(), modifiers);
    for term in terms {
        let alias = if term.value.is_none() { core_alias(pmu, term.key.text) } else { None };
        let Some(alias) = alias else {
            pmu_term(&mut found, pmu, term)?;
            continue;
        };
        // The terms of a named event are the kernel's text: problems are reported at the name.
        for inner in syntax::terms(Span::new(&alias.terms))? {
            if inner.value.is_some_and(|v| v.text == "?") {
                return Err(term.key.error(format!("{} needs {}=VALUE beside it", term.key.text, inner.key.text)));
            }
            pmu_term(&mut found, pmu, &inner).map_err(|_| {
                base.error(format!(
                    "sysfs describes {} of {} as {:?}, which is not understood",
                    term.key.text, pmu.name, alias.terms
                ))
            })?;
        }
    }
    Ok(found)
}

/// An event that the PMU names, also under perf's other spellings of hardware events (`cycles` for `cpu-cycles`).
fn core_alias(pmu: &Pmu, name: &str) -> Option<pmu::Alias> {
    pmu.alias(name).or_else(|| names::find(names::HARDWARE, name)?.names.iter().find_map(|other| pmu.alias(other)))
}

/// A field of the PMU, else a term that every event may have.
fn pmu_term(found: &mut Found, pmu: &Pmu, term: &Term<'_>) -> Result<()> {
    let key = term.key.text;
    if let Some(format) = pmu.format(key) {
        let value = match term.value {
            None => 1,
            Some(v) => syntax::number(v.text).ok_or_else(|| v.error("a number is needed, decimal or 0x.."))?,
        };
        if value > format.max() {
            let at = term.value.unwrap_or(term.key);
            return Err(at.error(format!("{key} of {} is at most {:#x}", pmu.name, format.max())));
        }
        format.set(&mut found.spec.attr, value);
        return Ok(());
    }
    if let Some(config) = raw(key).filter(|_| term.value.is_none()) {
        found.spec.attr.config = config;
        return Ok(());
    }
    if COMMON_TERMS.contains(&key) || ELSEWHERE.iter().any(|e| e.0 == key) {
        return common_term(found, term, term.key);
    }
    let (aliases, formats) = (pmu.aliases(), pmu.formats());
    let known = || aliases.iter().chain(&formats).map(String::as_str).chain(COMMON_TERMS);
    let mut problem = format!("{} has no event or term {key:?}{}", pmu.name, did_you_mean(key, known()));
    if !formats.is_empty() {
        let _ = write!(problem, "; its terms are {}", formats.join(", "));
    }
    Err(term.key.error(problem))
}

/// `name=`, `period=`, `freq=`, `config..=`, `max-stack=`.
fn common_term(found: &mut Found, term: &Term<'_>, base: Span<'_>) -> Result<()> {
    let key = term.key.text;
    if let Some((_, instead)) = ELSEWHERE.iter().find(|e| e.0 == key) {
        return Err(term.key.error(format!("{key} cannot be set for one event; {instead}")));
    }
    if !COMMON_TERMS.contains(&key) {
        let near = did_you_mean(key, COMMON_TERMS);
        return Err(term.key.error(format!("{} has no term {key:?}{near}", base.text)));
    }
    let value = term.value.ok_or_else(|| term.key.error(format!("{key} needs a value")))?;
    if key == "name" {
        found.spec.name = value.text.to_owned();
        return Ok(());
    }
    let number = syntax::number(value.text).ok_or_else(|| value.error("a number is needed, decimal or 0x.."))?;
    let spec = &mut found.spec;
    let attr = &mut spec.attr;
    match key {
        "config" => attr.config = number,
        "config1" => attr.config1 = number,
        "config2" => attr.config2 = number,
        "config3" => attr.config3 = number,
        "config4" => attr.config4 = number,
        "max-stack" => {
            attr.sample_max_stack = u16::try_from(number).map_err(|_| value.error("at most 65535 frames"))?;
        }
        _ if number == 0 => return Err(value.error(format!("{key} must not be 0"))),
        _ => {
            (attr.sample_period, spec.rate_is_fixed) = (number, true);
            attr.flags = if key == "freq" { attr.flags | flag::FREQ } else { attr.flags & !flag::FREQ };
        }
    }
    Ok(())
}

/// One or, with globs, many tracepoints. They sample each time by themselves.
fn tracepoints(machine: &Machine, system: Span<'_>, event: Span<'_>, modifiers: Modifiers) -> Result<Vec<Found>> {
    let is_glob = |s: &str| s.contains(['*', '?', '[']);
    let one = |system: &str, event: &str, id: u64| {
        let attr = Attr { kind: event_type::TRACEPOINT, config: id, sample_period: 1, ..Attr::default() };
        Found::new(format!("{system}:{event}"), attr, None, modifiers)
    };
    let mut found = Vec::new();
    if is_glob(system.text) || is_glob(event.text) {
        for (sys, name) in tracepoint::matching(machine, system.text, event.text)? {
            if let Some(id) = tracepoint::id(machine, &sys, &name)? {
                found.push(one(&sys, &name, id));
            }
        }
        if found.is_empty() {
            return Err(system.error(format!("no tracepoint matches {}:{}", system.text, event.text)));
        }
        return Ok(found);
    }
    if let Some(id) = tracepoint::id(machine, system.text, event.text)? {
        found.push(one(system.text, event.text, id));
        return Ok(found);
    }
    let full = format!("{}:{}", system.text, event.text);
    let of_system = tracepoint::matching(machine, system.text, "*")?;
    let at = if of_system.is_empty() { system } else { event };
    let all = tracepoint::matching(machine, "*", "*")?;
    let known: Vec<String> = all.iter().map(|(s, e)| format!("{s}:{e}")).collect();
    let near = did_you_mean(&full, known.iter().map(String::as_str));
    Err(at.error(format!("this kernel has no tracepoint {full}{near}")))
}

/// `mem:ADDR[/LEN][:rwx][:mods]`.
fn breakpoint(written: &Written<'_>) -> Result<Found> {
    let whole = written.whole;
    let rest = Span { text: &whole.text["mem:".len()..], at: whole.at + "mem:".len() };
    let mut parts = Vec::new();
    let mut left = rest;
    while let Some((part, next)) = left.split_at_first(':') {
        parts.push(part);
        left = next;
    }
    parts.push(left);
    let (place, len) = match parts[0].split_at_first('/') {
        Some((place, len)) => (place, Some(len)),
        None => (parts[0], None),
    };
    let address = syntax::number(place.text).ok_or_else(|| {
        place.error("a breakpoint is written mem:ADDRESS[/LENGTH][:rwx], the address decimal or 0x..")
    })?;
    let access = |text: &str| {
        let mut bits = 0;
        for c in text.bytes() {
            let bit = match c {
                b'r' => BP_READ,
                b'w' => BP_WRITE,
                b'x' => BP_EXECUTE,
                _ => return None,
            };
            if bits & bit != 0 {
                return None;
            }
            bits |= bit;
        }
        Some(bits).filter(|&b| b != 0)
    };
    let (kind, letters) = match parts.as_slice() {
        [_] => (BP_READ | BP_WRITE, end_of(whole)),
        [_, one] => match access(one.text) {
            Some(kind) => (kind, end_of(whole)),
            None => (BP_READ | BP_WRITE, *one),
        },
        [_, one, letters] => {
            (access(one.text).ok_or_else(|| one.error("accesses are r, w, x or several of them"))?, *letters)
        }
        [_, _, _, more, ..] => return Err(more.error("nothing may follow the modifiers")),
        [] => return Err(rest.error("an address is missing")),
    };
    let len = match len {
        Some(span) => syntax::number(span.text)
            .filter(|l| [1, 2, 4, 8].contains(l))
            .ok_or_else(|| span.error("a breakpoint covers 1, 2, 4 or 8 bytes"))?,
        // HW_BREAKPOINT_LEN_4; for code the kernel wants sizeof(long).
        None if kind == BP_EXECUTE => size_of::<usize>() as u64,
        None => 4,
    };
    let attr = Attr {
        kind: event_type::BREAKPOINT,
        bp_type: kind,
        config1: address,
        config2: len,
        sample_period: 1,
        ..Attr::default()
    };
    Ok(Found::new(whole.text, attr, None, Modifiers::of_event(letters)?))
}

fn fixed_names<'a>() -> impl Iterator<Item = &'a str> {
    names::HARDWARE.iter().chain(names::SOFTWARE).flat_map(|f| f.names.iter().copied())
}

/// An error for a name that nothing knows.
fn unknown(machine: &Machine, name: Span<'_>) -> crate::Error {
    let caches: Vec<String> = names::cache_names().map(|c| c.0).collect();
    let pmus = Pmu::all(machine);
    let aliases: Vec<String> = pmus.iter().flat_map(Pmu::aliases).collect();
    let tracepoints: Vec<String> =
        tracepoint::matching(machine, "*", "*").unwrap_or_default().into_iter().map(|t| t.1).collect();
    let near = did_you_mean(
        name.text,
        fixed_names()
            .chain(caches.iter().map(String::as_str))
            .chain(aliases.iter().map(String::as_str))
            .chain(pmus.iter().map(|p| p.name.as_str())),
    );
    if pmus.iter().any(|p| p.name == name.text) {
        return name.error(format!("{0} is a PMU: write {0}/EVENT/", name.text));
    }
    if near.is_empty() && tracepoints.iter().any(|t| t == name.text) {
        let full = tracepoint::matching(machine, "*", name.text).unwrap_or_default();
        let full: Vec<String> = full.into_iter().take(3).map(|(s, e)| format!("{s}:{e}")).collect();
        return name.error(format!("unknown event {:?}; did you mean {}?", name.text, full.join(" or ")));
    }
    let hint = if near.is_empty() { "; `xprof list` shows what there is" } else { "" };
    name.error(format!("unknown event {:?}{near}{hint}", name.text))
}
