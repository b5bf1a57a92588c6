//! How much of the domains' time was seen, and whether the host's books balance: without it, shares of rows say more than is known.

use serde_json::{Value as Json, json};
use xprof_perfdata::domain::{IDLE, REST};
use xprof_profile::profile::{DomainTime, HostTime, Profile};

use super::percent;
use crate::plain::Plain;

/// Domains that have a line of their own below a table; the rest share one.
const SHOWN: usize = 20;
/// vCPUs of a domain whose waiting is said in its line.
const VCPUS_SHOWN: usize = 8;

/// True for what stands among the domains for time that is no domain's.
fn is_no_domain(time: &DomainTime) -> bool {
    time.domain.as_ref().is_some_and(|domain| [IDLE, REST].contains(&domain.id))
}

/// One line for each domain: its time, and how much of it was seen running, preempted, and not at all; of a whole host one more in
/// front, which says what its pCPUs did.
pub fn domain_lines(profile: &Profile) -> Vec<String> {
    let wall = profile.host.map_or(0, |host| host.wall);
    let domains: Vec<&DomainTime> = profile.domains.iter().filter(|time| !is_no_domain(time)).collect();
    let (shown, rest) = domains.split_at(domains.len().min(SHOWN));
    let mut lines: Vec<String> = Books::of(profile).map(|books| books.line()).into_iter().collect();
    lines.extend(shown.iter().map(|time| line(&time.name, &[time], wall)));
    if !rest.is_empty() {
        lines.push(line(&format!("s: {} more", rest.len()), rest, 0));
    }
    lines
}

fn line(name: &str, times: &[&DomainTime], wall: u64) -> String {
    let sum = |part: fn(&DomainTime) -> u64| times.iter().map(|time| part(time)).fold(0, u64::saturating_add);
    let whole = sum(|time| time.seen.total());
    let share = |part| percent(sum(part), whole);
    let torn = sum(|time| time.seen.torn);
    let stacks = if torn > 0 { format!("; {torn} stacks may be of two moments") } else { String::new() };
    let space = if name.starts_with("s: ") { "" } else { " " };
    format!(
        "Domain{space}{}: {:.3} s of vCPU time: {:.1}% seen running, {:.1}% preempted, {:.1}% unseen{stacks}{}",
        Plain(name),
        whole as f64 / 1e9,
        share(|time| time.seen.running),
        share(|time| time.seen.preempted),
        share(|time| time.seen.unseen),
        waited(times, wall),
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
