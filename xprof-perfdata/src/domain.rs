//! Guests of a recording: which machine and vCPU a sample id stands for, and what a Xen host says of its domains.
//!
//! perf tells guests apart by the second part of ID_INDEX records ([`Guests`]): `machine_pid` is the process of a KVM
//! guest, or the id of a Xen domain. Names, UUIDs and the host's own facts have no place in perf's format; they stand
//! in a feature section of a number that perf does not know and passes over ([`Domains`]).

use rustc_hash::FxHashMap;

use crate::codec::{Codec, Coded};
use crate::feature::{list, string};
use crate::record::IdIndex;

/// Which guest, and which of its vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guest {
    /// Process of a KVM guest, id of a Xen domain; 0 is the host.
    pub machine_pid: u32,
    /// vCPU.
    pub vcpu: u32,
}

/// The guests that sample ids stand for.
#[derive(Clone, Debug, Default)]
pub struct Guests {
    by_id: FxHashMap<u64, Guest>,
}

impl Guests {
    /// Takes in an ID_INDEX record; one without the second part says nothing of guests. Numbers that do not fit are
    /// left out.
    pub fn learn(&mut self, index: &IdIndex) {
        for entry in index.entries.iter().filter(|_| index.guests) {
            if let (Ok(machine_pid), Ok(vcpu)) = (u32::try_from(entry.machine_pid), u32::try_from(entry.vcpu)) {
                self.by_id.insert(entry.id, Guest { machine_pid, vcpu });
            }
        }
    }

    /// What a sample id stands for; `None` for one that no ID_INDEX has named.
    #[inline]
    pub fn of(&self, id: u64) -> Option<Guest> {
        if self.by_id.is_empty() { None } else { self.by_id.get(&id).copied() }
    }

    /// True while no guest is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// The process of a sample whose process is not known: no process of a guest has this number.
pub const NO_TASK: u32 = u32::MAX;
/// Name of the event that samples the time in which vCPUs had a pCPU; periods are ns of it. The `ADDR` of its samples is a
/// [`State`].
pub const RUNNING_EVENT: &str = "domain-clock";
/// Name of the event that samples the time in which vCPUs waited for a pCPU; otherwise as [`RUNNING_EVENT`].
pub const WAITING_EVENT: &str = "domain-wait";

/// Name of the event that tells in which state each vCPU was, by Xen's own trace: a sample at the end of each stint, whose period is the
/// stint's length, ns. Its place is a mapping with the name of a [`RunState`], its `ADDR` is [`RunState::address`].
pub const STATES_EVENT: &str = "vcpu-states";

/// The state of a vCPU, as Xen's scheduler has it (`RUNSTATE_*` of vcpu.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It has a pCPU.
    Running,
    /// It wants one.
    Runnable,
    /// It wants none.
    Blocked,
    /// It is paused, or down.
    Offline,
}

impl RunState {
    /// All of them, by the number that Xen has for each.
    pub const ALL: [RunState; 4] = [RunState::Running, RunState::Runnable, RunState::Blocked, RunState::Offline];

    /// Xen's number.
    pub fn number(self) -> u64 {
        self as u64
    }

    /// What its time is called.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Running => "[running]",
            RunState::Runnable => "[waiting for a pCPU]",
            RunState::Blocked => "[blocked]",
            RunState::Offline => "[paused]",
        }
    }

    /// The `ADDR` of its samples: the state in the lowest byte, with [`GOES_ON`] what is not over, and in the upper half whose vCPU got the pCPU that this one was taken
    /// from: the domain's id in the upper 16 bits, vCPU in the lower; all bits are set where nobody did.
    pub fn address(self, by: Option<Guest>) -> u64 {
        let by =
            by.map_or(u64::from(u32::MAX), |by| u64::from(by.machine_pid & 0xffff) << 16 | u64::from(by.vcpu & 0xffff));
        self.number() | by << 32
    }

    /// Reads an `ADDR` ([`RunState::address`]); `None` for one that means no state.
    pub fn of_address(addr: u64) -> Option<(RunState, Option<Guest>)> {
        let state = RunState::ALL.into_iter().find(|state| state.number() == addr & 0xff)?;
        let by = Guest { machine_pid: (addr >> 48) as u32, vcpu: (addr >> 32) as u32 & 0xffff };
        Some((state, Some(by).filter(|_| addr >> 32 != u64::from(u32::MAX))))
    }
}

/// Bit of `ADDR`: the vCPU stays in this state, and the next sample goes on with it.
pub const GOES_ON: u64 = 1 << 8;

/// How a CPU's vendor calls the reason of a guest's exit: the frequent ones (AMD's manual, volume 2, appendix C; Intel's, volume 3, appendix C).
pub fn exit_name(svm: bool, code: u32) -> &'static str {
    match (svm, code) {
        (true, 0x60) | (false, 1) => "interrupt",
        (true, 0x61) | (false, 0) => "exception or NMI",
        (true, 0x64) | (false, 7) => "interrupt window",
        (true, 0x6e) | (false, 16) => "RDTSC",
        (true, 0x72) | (false, 10) => "CPUID",
        (true, 0x78) | (false, 12) => "HLT",
        (true, 0x77) | (false, 40) => "PAUSE",
        (true, 0x7b) | (false, 30) => "I/O port",
        (true, 0x7c) => "MSR",
        (false, 31) => "MSR read",
        (false, 32) => "MSR write",
        (true, 0x81) | (false, 18) => "hypercall",
        (true, 0x87) => "RDTSCP",
        (true, 0x400) => "nested page fault",
        (false, 48) => "EPT violation",
        (false, 49) => "EPT misconfiguration",
        (false, 52) => "preemption timer",
        (true, 0..=0x1f) | (false, 28) => "control register",
        (true, 0x40..=0x5f) => "exception",
        _ => "",
    }
}

/// Beginning of the keys of facts that count how often a vCPU stopped for Xen: domain, vCPU and the reason, hexadecimal, as the CPU's vendor
/// numbers it (`exits.3.0.7b`).
pub const EXITS_FACT: &str = "exits.";
/// Key of the fact that is there when those reasons are SVM's; otherwise they are VMX's.
pub const SVM_FACT: &str = "exits_svm";
/// Key of the fact that says how far times of [`STATES_EVENT`] may be off, ns.
pub const TRACE_ERROR_FACT: &str = "trace_error_ns";
/// Key of the fact that counts the trace's records that Xen had no space for.
pub const TRACE_LOST_FACT: &str = "trace_lost";
/// Key of the fact that says for how long the states of vCPUs are not known, because records were lost or the clocks did not agree, ns.
pub const TRACE_UNKNOWN_FACT: &str = "trace_unknown_ns";

/// What stands among the domains of a whole host for time that no domain had a pCPU: `DOMID_IDLE` of xen.h. Its vCPUs are the pCPUs.
pub const IDLE: u32 = 0x7fff;
/// The same for time that nobody accounts for, of domains that died for example: `DOMID_INVALID` of xen.h.
pub const REST: u32 = 0x7ff4;
/// What samples of counters stand under that fell into Xen itself (`--source vpmu`): `DOMID_XEN` of xen.h. Xen does not say whom it worked for.
pub const HYPERVISOR: u32 = 0x7ff2;
/// What samples of counters stand under of which nobody knows the domain; xen.h has no such number.
pub const UNKNOWN: u32 = 0x7ff5;
/// Name of [`HYPERVISOR`].
pub const HYPERVISOR_NAME: &str = "[Xen]";
/// Name of [`UNKNOWN`].
pub const UNKNOWN_NAME: &str = "[domain not known]";
/// Key of the fact that counts the samples of counters whose domain Xen's trace tells.
pub const JOINED_FACT: &str = "vpmu_joined";
/// Key of the fact that counts those that are [`UNKNOWN`]'s.
pub const UNJOINED_FACT: &str = "vpmu_unjoined";
/// Name of [`IDLE`].
pub const IDLE_NAME: &str = "[idle]";
/// Name of [`REST`].
pub const REST_NAME: &str = "[not accounted for]";
/// Key of the fact that says how long the books of a whole host were kept, ns.
pub const WALL_FACT: &str = "wall_ns";
/// Key of the fact that says how many pCPUs there are.
pub const PCPUS_FACT: &str = "pcpus";
/// Beginning of the keys of facts that say how long a vCPU waited for a pCPU, as far as looks at it tell, ns: domain and vCPU
/// follow (`waited_ns.3.0`).
pub const WAITED_FACT: &str = "waited_ns.";

/// Beginning of the keys of facts that say which domain a process of dom0 works for (`serves.1234`, `3`).
pub const SERVES_FACT: &str = "serves.";
/// Beginning of the keys of facts that say which domain a domain works for, as its device model (`stub.5`, `3`).
pub const STUB_FACT: &str = "stub.";

/// The domain that a kernel thread of dom0 works for, by its name: of a network back end (`vif3.0-q0-guest`, `vif3.0-q0-deall`), or of a
/// disk's (`3.xvda-0`; before Linux 4.10 `blkback.3.xvda`).
pub fn served_by(thread: &[u8]) -> Option<u32> {
    let (rest, network) = match thread.strip_prefix(b"vif") {
        Some(rest) => (rest, true),
        None => (thread.strip_prefix(b"blkback.").unwrap_or(thread), false),
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = rest.split_at(digits);
    // What follows is a number of a network device, and a name of a disk.
    let follows = match rest {
        [b'.', next, ..] if network => next.is_ascii_digit(),
        [b'.', next, ..] => next.is_ascii_lowercase(),
        _ => false,
    };
    if follows { std::str::from_utf8(number).ok()?.parse().ok() } else { None }
}

/// What time in a domain that nobody saw is called.
pub fn unseen_name(domain: u32) -> &'static str {
    match domain {
        IDLE => IDLE_NAME,
        REST => REST_NAME,
        _ => BETWEEN_TICKS,
    }
}

/// True for the name of a mapping that stands for time ([`unseen_name`]).
pub fn is_unseen(path: &[u8]) -> bool {
    let states = RunState::ALL.map(RunState::name);
    [BETWEEN_TICKS, IDLE_NAME, REST_NAME].iter().chain(&states).any(|name| name.as_bytes() == path)
}

/// How a vCPU was found; the `ADDR` of its sample, with [`TORN`] where its stack may be of two moments, and in the upper half how long
/// it took to look, ns ([`width`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// It was running.
    #[default]
    Running,
    /// It was runnable and had no pCPU: ip is where it was preempted.
    Preempted,
    /// It had run since the tick before and was not any more: nobody saw where. The sample's ip is a place that is called
    /// [`BETWEEN_TICKS`].
    Blocked,
}

/// Bit of `ADDR`: the vCPU ran while its stack was read.
pub const TORN: u64 = 1 << 8;
/// What stands for time in which nobody saw where the vCPU was: a mapping of this name.
pub const BETWEEN_TICKS: &str = "[ran between ticks]";
impl State {
    /// The number in `ADDR`.
    pub fn number(self) -> u64 {
        match self {
            State::Running => 1,
            State::Preempted => 2,
            State::Blocked => 3,
        }
    }

    /// The state of a number ([`State::number`] in the lowest byte); `None` for one that means none.
    pub fn of(number: u64) -> Option<State> {
        [State::Running, State::Preempted, State::Blocked].into_iter().find(|state| state.number() == number & 0xff)
    }
}

/// How long it took to read the registers of a sample, ns, of its `ADDR`: the sample's time is the middle of it, so that
/// it is right by half of this. 0: not said.
pub fn width(addr: u64) -> u64 {
    addr >> 32
}

/// How a domain is virtualised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DomainKind {
    /// Not known.
    #[default]
    Unknown,
    /// Paravirtual.
    Pv,
    /// Hardware virtualisation without device model (on Arm every domain).
    Pvh,
    /// Hardware virtualisation with device model.
    Hvm,
}

impl DomainKind {
    const ALL: [DomainKind; 4] = [DomainKind::Unknown, DomainKind::Pv, DomainKind::Pvh, DomainKind::Hvm];

    /// Name as tables and JSON show it.
    pub fn name(self) -> &'static str {
        match self {
            DomainKind::Unknown => "unknown",
            DomainKind::Pv => "pv",
            DomainKind::Pvh => "pvh",
            DomainKind::Hvm => "hvm",
        }
    }

    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let mut number = *self as u32;
        c.u32(&mut number)?;
        *self = Self::ALL.get(number as usize).copied().unwrap_or_default();
        Ok(())
    }
}

/// A domain. Its UUID is what stays when it is rebooted and gets another id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domain {
    /// Its id (`domid`), for as long as it lives.
    pub id: u32,
    /// Its last name.
    pub name: String,
    /// Its UUID; zeros where it has none (Domain-0).
    pub uuid: [u8; 16],
    /// Kind.
    pub kind: DomainKind,
    /// vCPUs that it can have.
    pub vcpus: u32,
    /// When it appeared, ns on the recording's clock; 0: it was there at the start.
    pub since: u64,
    /// When it was gone, ns; `u64::MAX`: it was there at the end.
    pub until: u64,
}

impl Domain {
    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.id)?;
        string(c, &mut self.name)?;
        c.array(&mut self.uuid)?;
        self.kind.fields(c)?;
        c.u32(&mut self.vcpus)?;
        c.u64(&mut self.since)?;
        c.u64(&mut self.until)
    }

    /// The UUID as tools print it: `8-4-4-4-12` hexadecimal digits.
    pub fn uuid_text(&self) -> String {
        let hex: String = self.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// What a recording of a Xen host says of it and its domains: the section [`crate::abi::feature::DOMAINS`].
///
/// Layout: version (u32, 1); a list of facts, each two strings; a list of domains (id u32, name, 16 bytes of UUID, kind
/// u32, vCPUs u32, since u64, until u64). Lists have their length in front (u32), strings are as in every other section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    /// Facts of the host: key and value, e.g. `xen_version`, `4.17.5`.
    pub facts: Vec<(String, String)>,
    /// The domains that were seen, those that are gone too.
    pub list: Vec<Domain>,
}

impl Domains {
    /// The version of the layout.
    const VERSION: u32 = 1;

    pub(crate) fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        let mut version = Self::VERSION;
        c.u32(&mut version)?;
        if version != Self::VERSION {
            // Of a later xprof: nothing of it is understood here.
            return c.rest(&mut Vec::new());
        }
        list(c, &mut self.facts, |c, (key, value)| {
            string(c, key)?;
            string(c, value)
        })?;
        list(c, &mut self.list, |c, domain| domain.fields(c))
    }

    /// Takes in a domain: what is said of one that is known (by id and UUID) replaces what was said before.
    pub fn learn(&mut self, domain: Domain) {
        match self.list.iter_mut().find(|known| known.id == domain.id && known.uuid == domain.uuid) {
            Some(known) => *known = Domain { since: known.since.min(domain.since), ..domain },
            None => self.list.push(domain),
        }
    }

    /// The domain of this id that was there at `time` (ns); else the last of that id.
    pub fn at(&self, id: u32, time: u64) -> Option<&Domain> {
        let mut of_id = self.list.iter().filter(|domain| domain.id == id);
        let there = of_id.clone().find(|domain| (domain.since..=domain.until).contains(&time));
        there.or_else(|| of_id.next_back())
    }

    /// Facts that replace those of the same keys.
    pub fn learn_facts(&mut self, facts: Vec<(String, String)>) {
        for (key, value) in facts {
            match self.facts.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = value,
                None => self.facts.push((key, value)),
            }
        }
    }

    /// A fact of the host.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ByteOrder;
    use crate::feature::Features;
    use crate::record::IdIndexEntry;

    fn domain(id: u32, name: &str, until: u64) -> Domain {
        let uuid = std::array::from_fn(|at| at as u8);
        Domain { id, name: name.into(), uuid, kind: DomainKind::Pvh, vcpus: 2, since: 5, until }
    }

    #[test]
    fn the_section_comes_back_in_both_byte_orders_and_damage_is_named() {
        let facts = vec![("xen_version".to_owned(), "4.17.5".to_owned())];
        let domains = Domains { facts, list: vec![domain(1, "web", 90), domain(7, "web", u64::MAX)] };
        let features = Features { domains: Some(domains), ..Features::default() };
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let sections = features.encode(order);
            let [(number, bytes)] = &sections[..] else { panic!("{sections:?}") };
            let mut back = Features::default();
            back.decode(*number, bytes, order);
            assert_eq!(back, features);
            for len in 0..bytes.len() {
                let mut cut = Features::default();
                cut.decode(*number, &bytes[..len], order);
                assert_eq!((cut.domains, cut.damaged.len()), (None, 1), "{len}");
            }
        }
        assert_eq!(domain(1, "", 0).uuid_text(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn threads_of_back_ends_say_whom_they_serve() {
        for (name, id) in [("vif3.0-q0-guest", 3), ("vif12.1-q1-deal", 12), ("7.xvda-0", 7), ("blkback.4.hda", 4)] {
            assert_eq!(served_by(name.as_bytes()), Some(id), "{name}");
        }
        for name in ["vif.0", "vif3", "vif3.x", "3.0", "xvda", "kworker/0:1", "99999999999.xvda", "", "3."] {
            assert_eq!(served_by(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_section_of_a_later_version_is_passed_over() {
        let mut features = Features::default();
        features.decode(crate::abi::feature::DOMAINS, &[2, 0, 0, 0, 9, 9], ByteOrder::Little);
        assert_eq!((features.domains, features.damaged.len()), (Some(Domains::default()), 0));
    }

    #[test]
    fn an_id_that_is_used_again_is_told_by_time() {
        let mut domains = Domains::default();
        domains.learn(domain(3, "old", u64::MAX));
        domains.learn(domain(3, "renamed", 100));
        domains.learn(Domain { uuid: [9; 16], since: 200, ..domain(3, "new", u64::MAX) });
        let name = |time| domains.at(3, time).map(|domain| domain.name.as_str());
        assert_eq!([name(50), name(150), name(250)], [Some("renamed"), Some("new"), Some("new")]);
        assert_eq!((domains.list.len(), domains.at(4, 1)), (2, None));
    }

    #[test]
    fn ids_stand_for_guests_only_where_the_second_part_says_so() {
        let entry = |id, machine_pid, vcpu| IdIndexEntry { id, machine_pid, vcpu, ..IdIndexEntry::default() };
        let mut guests = Guests::default();
        guests.learn(&IdIndex { entries: vec![entry(1, 5, 0)], guests: false });
        assert!(guests.is_empty() && guests.of(1).is_none());
        guests.learn(&IdIndex { entries: vec![entry(1, 5, 1), entry(2, u64::MAX, 0), entry(3, 0, 2)], guests: true });
        let found = [1, 2, 3].map(|id| guests.of(id).map(|guest| (guest.machine_pid, guest.vcpu)));
        assert_eq!(found, [Some((5, 1)), None, Some((0, 2))]);
    }
}
