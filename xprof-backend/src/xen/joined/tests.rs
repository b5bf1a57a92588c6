use xprof_perfdata::abi::{event_type, software};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;

use super::*;
use crate::sys::xen::tests::Fake;
use crate::xen::guest_form::{GuestForm, Options};

const SAMPLE: u64 = sample::IDENTIFIER | sample::IP | sample::TID | sample::TIME | sample::CPU | sample::PERIOD;
const ID: u64 = 77;

/// A host of Domain-0 and a domain 3 of two vCPUs, on two pCPUs, with its trace and a counter.
struct Host {
    form: GuestForm,
    events: Events,
    joining: Joining,
    given: Vec<Drained>,
}

impl Host {
    fn new(chains: bool) -> Host {
        let options = Options { frequency: 97, call_graph: false, clockid: 1, waiting: false };
        let of = |id| Domain { id, vcpus: 2, ..Domain::default() };
        let list = [of(0), of(3)];
        let mut form = GuestForm::new(&options, &list).with_states();
        let mut head = Vec::new();
        form.domains(&list, 0, &mut head).unwrap();
        let mut events = form.events();
        let chain = if chains { sample::CALLCHAIN } else { 0 };
        let attr = Attr { kind: event_type::HARDWARE, sample_type: SAMPLE | chain, ..Attr::default() };
        events.push(attr.clone(), "cycles".into(), vec![ID]);
        events.push(
            Attr { kind: event_type::SOFTWARE, config: software::CPU_CLOCK, ..attr },
            "cpu-clock".into(),
            vec![78],
        );
        // Two rings of the kernel, the sampler's, the trace's.
        let (mut joining, events) = Joining::of(&events, 4, 3).unwrap();
        joining.look(&head);
        Host { form, events, joining, given: Vec::new() }
    }

    /// What vCPUs did on pCPU 0, up to `until`: domain, vCPU, state, from, to.
    fn states(&mut self, list: &[(u32, u32, RunState, u64, u64)], until: u64) {
        let mut bytes = Vec::new();
        for &(machine_pid, vcpu, state, from, time) in list {
            let of = Guest { machine_pid, vcpu };
            let stint = StateSample { time, period: time - from, of, pcpu: 0, state, by: None, goes_on: false };
            assert!(self.form.state(&stint, &mut bytes));
        }
        self.drained(3, bytes, until);
    }

    fn drained(&mut self, ring: u32, bytes: Vec<u8>, until: u64) {
        self.joining.drained(Drained { ring, bytes, until }, &mut |drained| self.given.push(drained));
    }

    /// The bytes of a sample, on CPU 0.
    fn sample(&self, id: u64, mode: u16, ip: u64, time: u64) -> Vec<u8> {
        let event = self.events.by_id(id).unwrap();
        let mut sample = Sample { ip, period: 9, ..Sample::default() };
        sample.id = SampleId { pid: 5, tid: 6, time, id, cpu: 0, ..SampleId::default() };
        let mut out = [record::SAMPLE.to_ne_bytes().to_vec(), mode.to_ne_bytes().to_vec(), vec![0, 0]].concat();
        self.events.list()[event].format.encode_sample(&mut sample, &mut out).unwrap();
        let size = out.len() as u16;
        out[6..8].copy_from_slice(&size.to_ne_bytes());
        out
    }

    /// What came of a ring: (domain of its id if it has one, misc, sample).
    fn got(&mut self, ring: u32) -> Vec<(Option<Guest>, u16, Sample)> {
        let mut guests = Guests::default();
        let mut list = Vec::new();
        for drained in self.given.iter().filter(|drained| drained.ring == ring) {
            for whole in records(&drained.bytes) {
                let body = &whole[8..];
                if kind(whole) == record::ID_INDEX {
                    let raw = RawRecord { kind: kind(whole), misc: 0, body, time: 0, event: u32::MAX, offset: 0 };
                    let (Record::IdIndex(index), _) = Record::decode(&raw, &self.events).unwrap() else { panic!() };
                    assert!(index.entries.iter().all(|entry| self.events.by_id(entry.id) == Some(entry.idx as usize)));
                    guests.learn(&index);
                    continue;
                }
                let event = self.events.event_of(record::SAMPLE, body).unwrap() as usize;
                let mut sample = Sample::default();
                self.events.list()[event].format.decode_sample(body, &mut sample).unwrap();
                list.push((guests.of(sample.id.id), misc_of(whole), sample));
            }
        }
        list
    }
}

use RunState::{Blocked, Runnable, Running};

/// Domain-0 sleeps, and takes the pCPU from vCPU 1 of domain 3 at 1,010, for 90 ns.
const WOKEN: [(u32, u32, RunState, u64, u64); 5] = [
    (0, 0, Running, 0, 100),
    (0, 0, Blocked, 100, 1000),
    (0, 0, Runnable, 1000, 1010),
    (3, 1, Running, 200, 1010),
    (0, 0, Running, 1010, 1100),
];

#[test]
fn samples_wait_for_the_trace_and_say_then_whose_they_are() {
    let mut host = Host::new(true);
    let of_guest = host.sample(ID, misc::GUEST_USER, 0x40_1000, 1015);
    let own = host.sample(ID, misc::USER, 0x55_0000, 1050);
    let clock = host.sample(78, misc::GUEST_KERNEL, 0xffff_ffff_8100_0000, 1060);
    let of_xen = host.sample(ID, misc::KERNEL, 0xffff_82d0_4020_0000, 1070);
    host.drained(0, [of_guest.clone(), own, clock, of_xen].concat(), 1200);
    assert!(host.given.is_empty(), "nothing is known yet");
    host.states(&WOKEN, 1100);
    let got = host.got(0);
    let [first, second, third, last] = &got[..] else { panic!("{got:?}") };
    assert_eq!((first.0, first.1), (Some(Guest { machine_pid: 3, vcpu: 1 }), misc::GUEST_USER));
    let (sample, id) = (&first.2, first.2.id);
    assert_eq!((sample.ip, id.time, sample.period, id.cpu), (0x40_1000, 1015, 9, 0));
    assert_eq!((id.pid, id.tid, &sample.callchain[..]), (NO_TASK, NO_TASK, &[context::USER, 0x40_1000][..]));
    // Dom0's own, and an event of its kernel's clock, are as they were.
    assert_eq!((second.0, second.1, second.2.id.pid, second.2.id.id), (None, misc::USER, 5, ID));
    assert_eq!((third.0, third.1, third.2.id.id), (None, misc::GUEST_KERNEL, 78));
    assert_eq!((last.0, last.1), (Some(XENS), misc::KERNEL));
    assert_eq!((host.joining.joined, host.joining.unjoined), (1, 0));
    // The ring is known as far as it was, and what has no samples waits for nobody.
    assert_eq!(
        host.given.iter().map(|drained| (drained.ring, drained.until)).collect::<Vec<_>>(),
        [(3, 1100), (0, 1200)]
    );
    host.drained(1, Vec::new(), 1300);
    assert_eq!(host.given.last().map(|drained| drained.until), Some(1300));
}

#[test]
fn what_cannot_be_joined_is_counted_and_nobodys() {
    let mut host = Host::new(false);
    let at = |host: &Host, time| host.sample(ID, misc::GUEST_KERNEL, 1, time);
    // Before the trace's first record, in it, in a gap, and behind the last that is known.
    let bytes: Vec<u8> = [5, 1015, 2000, 9000].iter().flat_map(|time| at(&host, *time)).collect();
    host.drained(0, bytes, 9100);
    host.states(&WOKEN, 1100);
    host.states(&[(3, 1, Running, 3000, 4000)], 5000);
    assert!(host.got(0).is_empty());
    let mut last = Vec::new();
    let mut messages = Vec::new();
    host.joining.finish(&mut |message| match message {
        Message::Drained(drained) => last.push(drained),
        other => messages.push(other),
    });
    host.given.extend(last);
    let whose: Vec<_> = host.got(0).into_iter().map(|(of, ..)| of.unwrap()).collect();
    assert_eq!(whose, [NOBODYS, Guest { machine_pid: 3, vcpu: 1 }, NOBODYS, NOBODYS]);
    let [Message::Facts(facts), Message::Note(note)] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(facts[..], [(JOINED_FACT.into(), "1".into()), (UNJOINED_FACT.into(), "3".into())]);
    assert!(note.starts_with("of 4 samples of other domains") && note.contains("whose 3 are"), "{note}");
}

#[test]
fn an_inexact_clock_and_a_full_house_say_less_and_nothing_wrong() {
    let mut host = Host::new(false);
    host.joining.told(&Message::Facts(vec![(TRACE_ERROR_FACT.into(), "20".into())]));
    // 995 is 15 ns before Domain-0 had the pCPU: within what the clocks may be apart.
    let bytes = host.sample(ID, misc::GUEST_USER, 1, 995);
    host.drained(0, bytes, 1000);
    host.states(&WOKEN, 1010);
    assert!(host.got(0).is_empty(), "20 ns more have to be known");
    host.states(&[], 1100);
    assert_eq!(host.got(0)[0].0, Some(Guest { machine_pid: 3, vcpu: 1 }));
    // All ids are somebody's: what comes then is nobody's.
    for vcpu in 0..IDS as u32 {
        host.joining.id(2, Guest { machine_pid: 9, vcpu }, &mut Vec::new());
    }
    assert!(host.joining.id(2, Guest { machine_pid: 8, vcpu: 0 }, &mut Vec::new()).is_none());
    assert!(
        host.joining.id(2, NOBODYS, &mut Vec::new()).is_some() && host.joining.id(2, XENS, &mut Vec::new()).is_some()
    );
}

#[test]
fn a_trace_that_says_nothing_costs_no_memory_without_end() {
    let mut host = Host::new(false);
    let megabyte: Vec<u8> = (0..1 << 14).flat_map(|at| host.sample(ID, misc::GUEST_USER, 1, 1_000 + at)).collect();
    for _ in 0..WAITING_MAX / megabyte.len() + 2 {
        host.drained(0, megabyte.clone(), 2000);
        assert!(host.joining.bytes <= WAITING_MAX);
    }
    assert!(host.joining.unjoined > 0 && host.got(0).iter().all(|(of, ..)| *of == Some(NOBODYS)));
}

#[test]
fn damaged_records_pass_as_they_are() {
    let mut host = Host::new(false);
    let mut cut = host.sample(ID, misc::GUEST_USER, 1, 1015);
    cut.truncate(24);
    cut[6..8].copy_from_slice(&24u16.to_ne_bytes());
    let bytes = [cut.clone(), vec![9, 0, 0, 0, 0, 0, 3, 0], vec![1, 2, 3]].concat();
    host.drained(0, bytes, 1100);
    host.drained(3, cut, 1100);
    host.states(&[(3, 1, Running, 1, 2)], 1200);
}

#[test]
fn a_host_whose_counters_do_not_count_everybody_is_refused_by_name() {
    let refused = |mode, pcpus, pins: &[&[u32]]| {
        let fake = Fake::new(17, 0x15, 0x15);
        {
            let mut told = fake.told.lock().unwrap();
            told.domains = vec![(0, 0, 1, pins.len() as u32 - 1), (3, 0, 30, 0)];
            (told.pmu.mode, told.pcpus) = (mode, pcpus);
            told.pins = pins.iter().map(|list| list.to_vec()).collect();
        }
        possible(&mut fake.open()).map_err(|error| error.to_string())
    };
    assert_eq!(refused(Some(4), 2, &[&[0], &[1]]), Ok(()));
    let says = |answer: Result<(), String>, what: &str| {
        let error = answer.unwrap_err();
        assert!(error.contains(what), "{error}");
    };
    use std::result::Result;
    says(refused(None, 2, &[&[0], &[1]]), "there is no vPMU");
    for (mode, name) in [(0, "off"), (1, "self"), (2, "hv")] {
        says(
            refused(Some(mode), 2, &[&[0], &[1]]),
            &format!("mode is {name}: dom0's counters do not count other domains"),
        );
    }
    says(
        refused(Some(4), 2, &[&[0, 1], &[1]]),
        "vCPU 0 of dom0, which has the interrupts of pCPU 0, is not pinned to it",
    );
    says(refused(Some(4), 2, &[&[1], &[0]]), "vCPU 0 of dom0");
    says(refused(Some(4), 2, &[&[0]]), "dom0 has 1 vCPUs on 2 pCPUs");
    let clock = Attr { kind: event_type::SOFTWARE, ..Attr::default() };
    let mut events = Events::new(ByteOrder::NATIVE);
    events.push(clock, "cpu-clock".into(), vec![1]);
    assert!(counted(&events).unwrap_err().to_string().contains("counted by the CPU: cpu-clock"));
}
