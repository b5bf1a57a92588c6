//! How much of the domains' time was seen, and whether the host's books balance: without it, shares of rows say more than is known.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use xprof_perfdata::domain::{HYPERVISOR, IDLE, REST, RunState, UNKNOWN, UNKNOWN_NAME, exit_name};
use xprof_profile::profile::{DomainTime, HostTime, Profile, TraceFacts, VcpuStates};

use super::percent;
use crate::plain::Plain;

/// Domains that have a line of their own below a table; the rest share one.
const SHOWN: usize = 20;
/// vCPUs of a domain whose waiting is said in its line.
const VCPUS_SHOWN: usize = 8;

/// True for what stands among the domains for time that is no domain's.
fn is_no_domain(time: &DomainTime) -> bool {
    time.domain.as_ref().is_some_and(|domain| [IDLE, REST, HYPERVISOR, UNKNOWN].contains(&domain.id))
}

/// One line for each domain: its time, and how much of it was seen running, preempted, and not at all; of a whole host one more in
/// front, which says what its pCPUs did.
pub fn domain_lines(profile: &Profile) -> Vec<String> {
    let wall = profile.host.map_or(0, |host| host.wall);
    let svm = profile.host.and_then(|host| host.trace).is_some_and(|trace| trace.svm);
    let domains: Vec<&DomainTime> = profile.domains.iter().filter(|time| !is_no_domain(time)).collect();
    let (shown, rest) = domains.split_at(domains.len().min(SHOWN));
    let mut lines: Vec<String> = Books::of(profile).map(|books| books.line()).into_iter().collect();
    lines.extend(shown.iter().map(|time| line(&time.name, &[time], wall, svm)));
    if let Some(trace) = profile.host.and_then(|host| host.trace) {
        lines.push(trace_line(&trace));
    }
    if let Some((told, unknown)) = profile.host.and_then(|host| host.counted) {
        lines.push(format!(
            "Counters: of {told} samples of other domains Xen's trace tells whose they are, of {unknown} ({UNKNOWN_NAME}) it does not"
        ));
    }
    if !rest.is_empty() {
        lines.push(line(&format!("s: {} more", rest.len()), rest, 0, false));
    }
    lines
}

fn line(name: &str, times: &[&DomainTime], wall: u64, svm: bool) -> String {
    let sum = |part: fn(&DomainTime) -> u64| times.iter().map(|time| part(time)).fold(0, u64::saturating_add);
    let whole = sum(|time| time.seen.total());
    let share = |part| percent(sum(part), whole);
    let torn = sum(|time| time.seen.torn);
    let stacks = if torn > 0 { format!("; {torn} stacks may be of two moments") } else { String::new() };
    let space = if name.starts_with("s: ") { "" } else { " " };
    if let ([time], 0) = (times, whole)
        && !time.states.is_empty()
    {
        // Nobody looked at it but the trace.
        return format!("Domain{space}{}{}", Plain(name), exactly(time, svm).replacen(';', ":", 1));
    }
    format!(
        "Domain{space}{}: {:.3} s of vCPU time: {:.1}% seen running, {:.1}% preempted, {:.1}% unseen{stacks}{}",
        Plain(name),
        whole as f64 / 1e9,
        share(|time| time.seen.running),
        share(|time| time.seen.preempted),
        share(|time| time.seen.unseen),
        match times {
            [time] if !time.states.is_empty() => exactly(time, svm),
            _ => waited(times, wall),
        },
    )
}

/// How long its vCPUs waited for a pCPU: an estimate, and called one.
fn waited(times: &[&DomainTime], wall: u64) -> String {
    let [time] = times else { return String::new() };
    if wall == 0 || time.waited.iter().all(|(_, ns)| *ns == 0) {
        return String::new();
    }
    let vcpu = |(vcpu, ns): &(u32, u64)| format!("vCPU {vcpu} {:.1}%", percent(*ns, wall));
    // Of many those that waited most, in the order of their numbers.
    let mut most: Vec<(u32, u64)> = time.waited.clone();
    most.sort_by_key(|(vcpu, ns)| (std::cmp::Reverse(*ns), *vcpu));
    most.truncate(VCPUS_SHOWN);
    most.sort_unstable();
    let mut list: Vec<String> = most.iter().map(vcpu).collect();
    if time.waited.len() > VCPUS_SHOWN {
        list.push("..".into());
    }
    format!("; waited for a pCPU (sampled): {}", list.join(", "))
}

/// How long its vCPUs waited, who got their pCPUs, and why they stopped for Xen: by Xen's trace.
fn exactly(time: &DomainTime, svm: bool) -> String {
    let vcpu = |(vcpu, states): (&u32, &VcpuStates)| {
        format!("vCPU {vcpu} {:.1}%", percent(states.of(RunState::Runnable), states.total()))
    };
    let mut list: Vec<String> = time.states.iter().take(VCPUS_SHOWN).map(vcpu).collect();
    if time.states.len() > VCPUS_SHOWN {
        list.push("..".into());
    }
    let mut taken: BTreeMap<&str, u64> = BTreeMap::new();
    let mut exits: BTreeMap<u32, u64> = BTreeMap::new();
    for states in time.states.values() {
        states.taken.iter().for_each(|((by, _), (_, ns))| *taken.entry(by).or_default() += ns);
        states.exits.iter().for_each(|(reason, count)| *exits.entry(*reason).or_default() += count);
    }
    let mut text = format!("; waited for a pCPU (exact): {}", list.join(", "));
    let mut taken: Vec<_> = taken.into_iter().collect();
    taken.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let taken: Vec<String> =
        taken.into_iter().take(3).map(|(by, ns)| format!("{} {:.3} s", Plain(by), ns as f64 / 1e9)).collect();
    if !taken.is_empty() {
        text += &format!("; after its pCPU went to: {}", taken.join(", "));
    }
    let all = exits.values().fold(0, |sum: u64, count| sum.saturating_add(*count));
    let mut exits: Vec<_> = exits.into_iter().collect();
    exits.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let exits: Vec<String> =
        exits.into_iter().take(3).map(|(reason, count)| format!("{} {count}", reason_text(svm, reason))).collect();
    if !exits.is_empty() {
        text += &format!("; {all} exits: {}", exits.join(", "));
    }
    text
}

/// The reason of an exit.
fn reason_text(svm: bool, reason: u32) -> String {
    match exit_name(svm, reason) {
        "" => format!("{reason:#x}"),
        name => name.to_owned(),
    }
}

/// What the exact numbers are worth.
fn trace_line(trace: &TraceFacts) -> String {
    format!(
        "Xen's trace: times are right by {:.1} us, {} records lost, {:.3} s not known",
        trace.error as f64 / 1e3,
        trace.lost,
        trace.unknown as f64 / 1e9,
    )
}

/// The states of a domain's vCPUs, for JSON.
fn states(time: &DomainTime, svm: bool) -> Json {
    let vcpu = |(vcpu, states): (&u32, &VcpuStates)| {
        let taken = states.taken.iter().map(
            |((domain, vcpu), (waits, ns))| json!({ "domain": domain, "vcpu": vcpu, "waits": waits, "waited_ns": ns }),
        );
        let exits = states
            .exits
            .iter()
            .map(|(reason, count)| json!({ "reason": reason, "name": exit_name(svm, *reason), "count": count }));
        json!({
            "vcpu": vcpu,
            "running_ns": states.of(RunState::Running),
            "waiting_ns": states.of(RunState::Runnable),
            "blocked_ns": states.of(RunState::Blocked),
            "paused_ns": states.of(RunState::Offline),
            "pcpu_went_to": taken.collect::<Vec<_>>(),
            "exits": exits.collect::<Vec<_>>(),
        })
    };
    time.states.iter().map(vcpu).collect()
}

/// What the pCPUs of a whole host did.
struct Books {
    host: HostTime,
    /// ns of pCPUs.
    whole: u64,
    domains: u64,
    idle: u64,
    rest: u64,
}

impl Books {
    /// `None` for a recording of less than a whole host, or of one that was killed.
    fn of(profile: &Profile) -> Option<Books> {
        let host = profile.host?;
        let of = |wanted: &dyn Fn(&DomainTime) -> bool| {
            profile
                .domains
                .iter()
                .filter(|time| wanted(time))
                .map(|time| time.seen.total())
                .fold(0, u64::saturating_add)
        };
        let id = |time: &DomainTime| time.domain.as_ref().map(|domain| domain.id);
        let idle = of(&|time| id(time) == Some(IDLE));
        host.whole.then(|| Books {
            host,
            whole: host.pcpus.saturating_mul(host.wall),
            domains: of(&|time| !is_no_domain(time)),
            idle,
            rest: of(&|time| id(time) == Some(REST)),
        })
    }

    fn line(&self) -> String {
        let share = |part| percent(part, self.whole);
        format!(
            "Host: {} pCPUs x {:.3} s = {:.3} s: domains {:.1}%, idle {:.1}%, not accounted for {:.1}%, together {:.2}%",
            self.host.pcpus,
            self.host.wall as f64 / 1e9,
            self.whole as f64 / 1e9,
            share(self.domains),
            share(self.idle),
            share(self.rest),
            share(self.sum()),
        )
    }

    fn sum(&self) -> u64 {
        self.domains.saturating_add(self.idle).saturating_add(self.rest)
    }
}

/// The host for JSON; `None` where the recording does not know it.
pub(super) fn host(profile: &Profile) -> Option<Json> {
    let host = profile.host?;
    let mut object = json!({ "pcpus": host.pcpus, "wall_ns": host.wall });
    if let (Some(trace), Some(map)) = (host.trace, object.as_object_mut()) {
        let TraceFacts { error, lost, unknown, .. } = trace;
        map.insert("trace".into(), json!({ "error_ns": error, "lost_records": lost, "unknown_ns": unknown }));
    }
    if let (Some((joined, unjoined)), Some(map)) = (host.counted, object.as_object_mut()) {
        map.insert("vpmu".into(), json!({ "joined": joined, "unjoined": unjoined }));
    }
    if let (Some(books), Some(map)) = (Books::of(profile), object.as_object_mut()) {
        map.insert("pcpu_ns".into(), books.whole.into());
        map.insert("domains_ns".into(), books.domains.into());
        map.insert("idle_ns".into(), books.idle.into());
        map.insert("rest_ns".into(), books.rest.into());
        map.insert("sum_ns".into(), books.sum().into());
    }
    Some(object)
}

/// The domains for JSON; `None` where there are none.
pub(super) fn domains(profile: &Profile) -> Option<Json> {
    let svm = profile.host.and_then(|host| host.trace).is_some_and(|trace| trace.svm);
    let list = profile.domains.iter().filter(|time| !is_no_domain(time)).map(|time| {
        let vcpu = |(vcpu, ns): &(u32, u64)| json!({ "vcpu": vcpu, "waited_ns": ns });
        let mut object = json!({
            "domain": time.name,
            "running_ns": time.seen.running,
            "preempted_ns": time.seen.preempted,
            "unseen_ns": time.seen.unseen,
            "torn_samples": time.seen.torn,
            "look_ns_max": time.seen.width,
            "waited_sampled": time.waited.iter().map(vcpu).collect::<Vec<_>>(),
        });
        if let Some(map) = object.as_object_mut().filter(|_| !time.states.is_empty()) {
            map.insert("states".into(), states(time, svm));
        }
        if let (Some(domain), Some(map)) = (&time.domain, object.as_object_mut()) {
            map.insert("id".into(), domain.id.into());
            map.insert("uuid".into(), domain.uuid_text().into());
            map.insert("kind".into(), domain.kind.name().into());
            map.insert("vcpus".into(), domain.vcpus.into());
        }
        object
    });
    (!profile.domains.is_empty()).then(|| list.collect())
}
