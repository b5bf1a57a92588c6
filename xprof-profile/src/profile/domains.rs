//! Which domain a sample is of, what it is called, and how much of its time was seen.
//!
//! A domain's id changes with every reboot, and its name may; its UUID stays. So rows are made by what
//! [`DomainNames::name`] says: the last name that a UUID had, told apart by the id where two domains share one.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::{
    Domain, Domains, EXITS_FACT, GOES_ON, Guest, IDLE, JOINED_FACT, PCPUS_FACT, RunState, SERVES_FACT, STUB_FACT,
    SVM_FACT, State, TORN, TRACE_ERROR_FACT, TRACE_LOST_FACT, TRACE_UNKNOWN_FACT, UNJOINED_FACT, WAITED_FACT,
    WALL_FACT, served_by, width,
};

use crate::timeline::DEFAULT_GUEST;

/// Who a sample is of. Dense from 0; 0 stands for every sample when nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) machine: u32,
    /// -1 where it is not known.
    pub(super) vcpu: i64,
    /// Index in the list of domains; `u32::MAX` for a machine that the recording does not tell of.
    pub(super) domain: u32,
}

/// The nanoseconds that vCPUs of a domain ran, by how they were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Found running.
    pub running: u64,
    /// Found preempted: where it was when it lost its pCPU is known.
    pub preempted: u64,
    /// Ran between two ticks, nobody saw where.
    pub unseen: u64,
    /// Samples whose stack may be of two moments.
    pub torn: u64,
    /// The longest time that a look at registers took: times of samples are right by half of it, ns.
    pub width: u64,
}

/// A whole host, or what was looked at of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTime {
    /// pCPUs.
    pub pcpus: u64,
    /// How long it was looked at, ns.
    pub wall: u64,
    /// All of it was: [`IDLE`] stands among its domains.
    pub whole: bool,
    /// What Xen's trace says of itself, where it was recorded.
    pub trace: Option<TraceFacts>,
    /// Samples of counters in other domains: of how many Xen's trace tells whose they are, and of how many it does not.
    pub counted: Option<(u64, u64)>,
}

/// A domain in a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainTime {
    /// As the rows call it.
    pub name: String,
    /// What the recording says of it; the last one where it was rebooted.
    pub domain: Option<Domain>,
    /// Its time.
    pub seen: Seen,
    /// How long its vCPUs waited for a pCPU, as far as looks at them tell: vCPU and ns.
    pub waited: Vec<(u32, u64)>,
    /// What its vCPUs did, by Xen's trace, by their number; nothing without it.
    pub states: BTreeMap<u32, VcpuStates>,
}

/// What a vCPU did, by Xen's trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuStates {
    /// ns in each state, by [`RunState::number`].
    pub ns: [u64; 4],
    /// Whose vCPUs got the pCPUs that this one was taken from: how many waits began so and are over, and ns of waiting.
    pub taken: BTreeMap<(String, u32), (u64, u64)>,
    /// How often it stopped for Xen, by reason as the CPU's vendor numbers it.
    pub exits: BTreeMap<u32, u64>,
}

impl VcpuStates {
    /// ns in all states.
    pub fn total(&self) -> u64 {
        self.ns.iter().fold(0, |sum, ns| sum.saturating_add(*ns))
    }

    /// ns in one.
    pub fn of(&self, state: RunState) -> u64 {
        self.ns[state as usize]
    }
}

/// What Xen's trace says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceFacts {
    /// Times are right by this, ns.
    pub error: u64,
    /// Records that were lost.
    pub lost: u64,
    /// For so long it is not known what vCPUs did, ns.
    pub unknown: u64,
    /// Reasons of exits are SVM's.
    pub svm: bool,
}

/// The states of one vCPU while they are added up.
#[derive(Clone, Debug, Default)]
struct States {
    ns: [u64; 4],
    taken: FxHashMap<Guest, (u64, u64)>,
}

/// The domains of a recording.
#[derive(Debug)]
pub(super) struct Origins {
    domains: Domains,
    by_id: FxHashMap<u32, Vec<u32>>,
    list: Vec<Origin>,
    index: FxHashMap<Origin, u32>,
    seen: FxHashMap<u32, Seen>,
    /// By origin and vCPU.
    states: FxHashMap<(u32, u32), States>,
}

impl Origins {
    pub(super) fn new(domains: Option<&Domains>) -> Origins {
        let domains = domains.cloned().unwrap_or_default();
        let mut by_id: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        for (at, domain) in domains.list.iter().enumerate() {
            by_id.entry(domain.id).or_default().push(at as u32);
        }
        let mut origins = Origins {
            domains,
            by_id,
            list: Vec::new(),
            index: FxHashMap::default(),
            seen: FxHashMap::default(),
            states: FxHashMap::default(),
        };
        origins.intern(Origin { machine: 0, vcpu: -1, domain: u32::MAX });
        origins
    }

    /// A domain appeared, was renamed, or is gone.
    pub(super) fn learn(&mut self, domain: Domain) {
        let (id, known) = (domain.id, self.domains.list.len());
        self.domains.learn(domain);
        if self.domains.list.len() > known {
            self.by_id.entry(id).or_default().push(known as u32);
        }
    }

    /// The times so far; they begin anew.
    pub(super) fn take_seen(&mut self) -> FxHashMap<u32, Seen> {
        std::mem::take(&mut self.seen)
    }

    /// The times so far, by origin.
    pub(super) fn seen(&self) -> &FxHashMap<u32, Seen> {
        &self.seen
    }

    fn intern(&mut self, origin: Origin) -> u32 {
        let next = self.list.len() as u32;
        let index = *self.index.entry(origin).or_insert(next);
        if index == next {
            self.list.push(origin);
        }
        index
    }

    /// The origin of a sample: its guest, as far as its id tells, and the machine that it is of.
    pub(super) fn of(&mut self, guest: Option<Guest>, machine: u32, time: u64, vcpu: bool) -> u32 {
        let machine = guest.map_or(machine, |guest| guest.machine_pid);
        let vcpu = guest.filter(|_| vcpu).map_or(-1, |guest| i64::from(guest.vcpu));
        let domain = self.domain_at(machine, time).unwrap_or(u32::MAX);
        self.intern(Origin { machine, vcpu, domain })
    }

    fn domain_at(&self, machine: u32, time: u64) -> Option<u32> {
        let of_id = self.by_id.get(&machine)?;
        let there = |at: &&u32| {
            self.domains.list.get(**at as usize).is_some_and(|domain| (domain.since..=domain.until).contains(&time))
        };
        of_id.iter().find(there).or(of_id.last()).copied()
    }

    pub(super) fn get(&self, index: u32) -> Origin {
        self.list.get(index as usize).copied().unwrap_or(Origin { machine: 0, vcpu: -1, domain: u32::MAX })
    }

    fn domain(&self, origin: Origin) -> Option<&Domain> {
        self.domains.list.get(origin.domain as usize)
    }

    /// Adds the time of a sample of the event that says how vCPUs were found.
    pub(super) fn add_time(&mut self, origin: u32, state: u64, period: u64) {
        let seen = self.seen.entry(origin).or_default();
        let of_state = match State::of(state) {
            Some(State::Running) => &mut seen.running,
            Some(State::Preempted) => &mut seen.preempted,
            // What is not said was not seen.
            Some(State::Blocked) | None => &mut seen.unseen,
        };
        *of_state = of_state.saturating_add(period);
        seen.torn += u64::from(state & TORN != 0);
        seen.width = seen.width.max(width(state));
    }

    /// Adds a stint that Xen's trace tells of.
    pub(super) fn add_state(&mut self, origin: u32, vcpu: u32, addr: u64, period: u64) {
        let Some((state, by)) = RunState::of_address(addr) else { return };
        let states = self.states.entry((origin, vcpu)).or_default();
        let ns = &mut states.ns[state as usize];
        *ns = ns.saturating_add(period);
        if let Some(by) = by {
            let taken = states.taken.entry(by).or_default();
            *taken = (taken.0 + u64::from(addr & GOES_ON == 0), taken.1.saturating_add(period));
        }
    }

    /// What the trace says of itself; `None` where there was none.
    pub(super) fn trace(&self) -> Option<TraceFacts> {
        let fact = |key| self.domains.fact(key)?.parse().ok();
        let svm = self.domains.fact(SVM_FACT).is_some();
        let (lost, unknown) = (fact(TRACE_LOST_FACT).unwrap_or(0), fact(TRACE_UNKNOWN_FACT).unwrap_or(0));
        Some(TraceFacts { error: fact(TRACE_ERROR_FACT)?, lost, unknown, svm })
    }

    /// How often vCPUs stopped for Xen: domain's id, vCPU, reason, count.
    fn exits(&self) -> impl Iterator<Item = (u32, u32, u32, u64)> {
        self.domains.facts.iter().filter_map(|(key, count)| {
            let mut parts = key.strip_prefix(EXITS_FACT)?.splitn(3, '.');
            let (domain, vcpu) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            Some((domain, vcpu, u32::from_str_radix(parts.next()?, 16).ok()?, count.parse().ok()?))
        })
    }

    /// True when one of `wanted` (ids, names, UUIDs) means this origin.
    pub(super) fn is_one_of(&self, origin: u32, wanted: &[String]) -> bool {
        let origin = self.get(origin);
        let domain = self.domain(origin);
        wanted.iter().any(|text| {
            text.parse() == Ok(origin.machine)
                || domain.is_some_and(|d| d.name == *text || d.uuid_text().eq_ignore_ascii_case(text))
                || domain.is_none() && origin.machine == 0 && text == HOST
        })
    }

    /// The host, where its facts are there.
    pub(super) fn host(&self) -> Option<HostTime> {
        let fact = |key| self.domains.fact(key)?.parse().ok();
        let whole = self.domains.list.iter().any(|domain| domain.id == IDLE);
        let counted = fact(JOINED_FACT).zip(fact(UNJOINED_FACT));
        Some(HostTime { pcpus: fact(PCPUS_FACT)?, wall: fact(WALL_FACT)?, whole, trace: self.trace(), counted })
    }

    /// How long vCPUs waited: domain's id, vCPU, ns.
    fn waited(&self) -> impl Iterator<Item = (u32, u32, u64)> {
        self.domains.facts.iter().filter_map(|(key, value)| {
            let (domain, vcpu) = key.strip_prefix(WAITED_FACT)?.split_once('.')?;
            Some((domain.parse().ok()?, vcpu.parse().ok()?, value.parse().ok()?))
        })
    }

    /// What the domains are called. `comm`: the name that a machine's processes without number have.
    pub(super) fn names(&self, comm: impl Fn(u32) -> Option<String>) -> DomainNames {
        let list = &self.domains.list;
        let has_uuid = |domain: &Domain| domain.uuid != [0; 16];
        let mut last_of_uuid: FxHashMap<[u8; 16], usize> = FxHashMap::default();
        list.iter().enumerate().filter(|(_, d)| has_uuid(d)).for_each(|(at, d)| {
            last_of_uuid.insert(d.uuid, at);
        });
        // The index of the domain whose name and id stand for it.
        let stands: Vec<usize> =
            list.iter().enumerate().map(|(at, d)| last_of_uuid.get(&d.uuid).copied().unwrap_or(at)).collect();
        let mut sharing: FxHashMap<&str, Vec<usize>> = FxHashMap::default();
        for at in &stands {
            let same = sharing.entry(&list[*at].name).or_default();
            if !same.contains(at) {
                same.push(*at);
            }
        }
        let domains = stands
            .iter()
            .map(|&at| {
                let Domain { name, id, .. } = &list[at];
                let shared = sharing.get(name.as_str()).is_some_and(|same| same.len() > 1);
                match (name.is_empty(), shared) {
                    (true, _) => format!("domain {id}"),
                    (false, true) => format!("{name} (id {id})"),
                    (false, false) => name.clone(),
                }
                .into()
            })
            .collect();
        let mut ids = FxHashMap::default();
        let domains: Vec<Arc<str>> = domains;
        for (domain, name) in list.iter().zip(&domains) {
            ids.insert(domain.id, name.clone());
        }
        let of = |beginning: &str| -> FxHashMap<u32, u32> {
            let fact = |(key, value): &(String, String)| {
                Some((key.strip_prefix(beginning)?.parse().ok()?, value.parse().ok()?))
            };
            self.domains.facts.iter().filter_map(fact).collect()
        };
        let (serves, stubs) = (of(SERVES_FACT), of(STUB_FACT));
        let names = DomainNames { domains, machines: FxHashMap::default(), ids, serves, stubs };
        let others = self.list.iter().filter(|origin| origin.domain == u32::MAX).map(|origin| {
            let name = match (origin.machine, comm(origin.machine)) {
                (_, Some(comm)) => comm,
                (0, None) if list.is_empty() => HOST.to_owned(),
                (0, None) => "Domain-0".to_owned(),
                (DEFAULT_GUEST, None) => "guest".to_owned(),
                (machine, None) => format!("guest {machine}"),
            };
            (origin.machine, Arc::from(name))
        });
        DomainNames { machines: others.collect(), ..names }
    }

    /// The domains' time, the most first.
    pub(super) fn times<'a>(
        &self,
        names: &DomainNames,
        seen: impl IntoIterator<Item = &'a FxHashMap<u32, Seen>>,
    ) -> Vec<DomainTime> {
        let mut times: FxHashMap<Arc<str>, DomainTime> = FxHashMap::default();
        for (&index, seen) in seen.into_iter().flatten() {
            let origin = self.get(index);
            let name = names.name(origin);
            let new = || DomainTime { name: name.to_string(), ..DomainTime::default() };
            let time = times.entry(name.clone()).or_insert_with(new);
            let newer = |domain: &&Domain| time.domain.as_ref().is_none_or(|known| known.since <= domain.since);
            if let Some(domain) = self.domain(origin).filter(newer) {
                time.domain = Some(domain.clone());
            }
            let sum = &mut time.seen;
            sum.running = sum.running.saturating_add(seen.running);
            sum.preempted = sum.preempted.saturating_add(seen.preempted);
            sum.unseen = sum.unseen.saturating_add(seen.unseen);
            sum.torn += seen.torn;
            sum.width = sum.width.max(seen.width);
        }
        for (id, vcpu, ns) in self.waited() {
            let Some(at) = self.domain_at(id, u64::MAX) else { continue };
            let name = names.name(Origin { machine: id, vcpu: -1, domain: at });
            let Some(time) = times.get_mut(&name) else { continue };
            match time.waited.iter_mut().find(|(known, _)| *known == vcpu) {
                Some((_, known)) => *known = known.saturating_add(ns),
                None => time.waited.push((vcpu, ns)),
            }
        }
        for (&(origin, vcpu), states) in &self.states {
            let name = names.name(self.get(origin));
            let new = || DomainTime { name: name.to_string(), ..DomainTime::default() };
            let time = times.entry(name.clone()).or_insert_with(new);
            if time.domain.is_none() {
                time.domain = self.domain(self.get(origin)).cloned();
            }
            let sum = time.states.entry(vcpu).or_default();
            sum.ns.iter_mut().zip(states.ns).for_each(|(sum, ns)| *sum = sum.saturating_add(ns));
            for (by, (times, ns)) in &states.taken {
                let by_name = names
                    .ids
                    .get(&by.machine_pid)
                    .map_or_else(|| format!("domain {}", by.machine_pid), |name| name.to_string());
                let taken = sum.taken.entry((by_name, by.vcpu)).or_default();
                *taken = (taken.0 + times, taken.1.saturating_add(*ns));
            }
        }
        for (id, vcpu, reason, count) in self.exits() {
            let Some(at) = self.domain_at(id, u64::MAX) else { continue };
            let name = names.name(Origin { machine: id, vcpu: -1, domain: at });
            if let Some(time) = times.get_mut(&name).filter(|time| !time.states.is_empty()) {
                *time.states.entry(vcpu).or_default().exits.entry(reason).or_default() += count;
            }
        }
        let mut list: Vec<DomainTime> = times.into_values().collect();
        list.sort_by(|a, b| b.seen.total().cmp(&a.seen.total()).then_with(|| a.name.cmp(&b.name)));
        list
    }
}

/// What the machine that recorded is called where there are no domains.
pub const HOST: &str = "host";

impl Seen {
    /// All of it, ns.
    pub fn total(&self) -> u64 {
        self.running.saturating_add(self.preempted).saturating_add(self.unseen)
    }
}

/// What domains are called in rows.
#[derive(Debug)]
pub(super) struct DomainNames {
    domains: Vec<Arc<str>>,
    machines: FxHashMap<u32, Arc<str>>,
    /// By id, the last that had it.
    ids: FxHashMap<u32, Arc<str>>,
    /// Whom processes of dom0, and device models in domains of their own, work for.
    serves: FxHashMap<u32, u32>,
    stubs: FxHashMap<u32, u32>,
}

impl DomainNames {
    pub(super) fn name(&self, origin: Origin) -> Arc<str> {
        let name = self.domains.get(origin.domain as usize).or_else(|| self.machines.get(&origin.machine));
        name.cloned().unwrap_or_else(|| "".into())
    }

    /// The domain that work was done for: the one it was done in, but for device models in a domain of their own, and for what
    /// threads (by name) and processes of dom0 do for others.
    pub(super) fn served(&self, origin: Origin, thread: &[u8], pid: u32) -> Arc<str> {
        let id = match origin.machine {
            0 => served_by(thread).or_else(|| self.serves.get(&pid).copied()),
            machine => self.stubs.get(&machine).copied(),
        };
        match id.filter(|id| *id != origin.machine) {
            Some(id) => self.ids.get(&id).cloned().unwrap_or_else(|| format!("domain {id}").into()),
            None => self.name(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_charged_to_whom_it_was_done_for_and_the_host_is_known_by_its_facts() {
        let domain = |id, name: &str| Domain { id, name: name.into(), until: u64::MAX, ..Domain::default() };
        let fact = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut domains = Domains {
            facts: vec![fact("serves.77", "3"), fact("stub.5", "3"), fact("pcpus", "2"), fact("wall_ns", "9")],
            list: vec![domain(0, "Domain-0"), domain(3, "web"), domain(5, "web-dm")],
        };
        let mut origins = Origins::new(Some(&domains));
        let of = |machine| Guest { machine_pid: machine, vcpu: 0 };
        let [dom0, web, stub] = [0, 3, 5].map(|id| origins.of(Some(of(id)), id, 1, false));
        let names = origins.names(|_| None);
        let served = |origin, thread: &[u8], pid| names.served(origins.get(origin), thread, pid).to_string();
        assert_eq!(served(dom0, b"vif3.0-q0-guest", 1), "web");
        assert_eq!(served(dom0, b"9.xvda-0", 1), "domain 9");
        assert_eq!(served(dom0, b"qemu-system-i38", 77), "web");
        assert_eq!(served(dom0, b"dd", 1), "Domain-0");
        // Names and numbers of a guest's own processes mean nothing.
        assert_eq!(served(web, b"vif5.0-q0-guest", 77), "web");
        assert_eq!(served(stub, b"", 1), "web");
        assert_eq!(origins.host(), Some(HostTime { pcpus: 2, wall: 9, ..HostTime::default() }));
        domains.list.push(domain(IDLE, "[idle]"));
        assert!(Origins::new(Some(&domains)).host().unwrap().whole);
    }
}
