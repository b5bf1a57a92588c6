//! How much of the domains' time was seen: without it, shares of rows say more than is known.

use serde_json::{Value as Json, json};
use xprof_profile::profile::{DomainTime, Profile};

use super::percent;
use crate::plain::Plain;

/// Domains that have a line of their own below a table; the rest share one.
const SHOWN: usize = 20;

/// One line for each domain: its time, and how much of it was seen running, preempted, and not at all.
pub fn domain_lines(profile: &Profile) -> Vec<String> {
    let mut lines: Vec<String> = profile.domains.iter().take(SHOWN).map(|time| line(&time.name, &[time])).collect();
    let rest: Vec<&DomainTime> = profile.domains.iter().skip(SHOWN).collect();
    if !rest.is_empty() {
        lines.push(line(&format!("s: {} more", rest.len()), &rest));
    }
    lines
}

fn line(name: &str, times: &[&DomainTime]) -> String {
    let sum = |part: fn(&DomainTime) -> u64| times.iter().map(|time| part(time)).fold(0, u64::saturating_add);
    let whole = sum(|time| time.seen.total());
    let share = |part| percent(sum(part), whole);
    let torn = sum(|time| time.seen.torn);
    let stacks = if torn > 0 { format!("; {torn} stacks may be of two moments") } else { String::new() };
    let space = if name.starts_with("s: ") { "" } else { " " };
    format!(
        "Domain{space}{}: {:.3} s of vCPU time: {:.1}% seen running, {:.1}% preempted, {:.1}% unseen{stacks}",
        Plain(name),
        whole as f64 / 1e9,
        share(|time| time.seen.running),
        share(|time| time.seen.preempted),
        share(|time| time.seen.unseen),
    )
}

/// The domains for JSON; `None` where there are none.
pub(super) fn domains(profile: &Profile) -> Option<Json> {
    let list = profile.domains.iter().map(|time| {
        let mut object = json!({
            "domain": time.name,
            "running_ns": time.seen.running,
            "preempted_ns": time.seen.preempted,
            "unseen_ns": time.seen.unseen,
            "torn_samples": time.seen.torn,
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
