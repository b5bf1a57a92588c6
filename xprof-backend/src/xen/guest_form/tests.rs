use xprof_perfdata::order::RawRecord;
use xprof_perfdata::sample::Sample;

use super::*;

const OPTIONS: Options = Options { frequency: 97, call_graph: true, clockid: 1, waiting: true };

fn domain(id: u32, vcpus: u32) -> Domain {
    Domain { id, name: format!("d{id}"), vcpus, ..Domain::default() }
}

fn decoded(form: &GuestForm, bytes: &[u8]) -> (u16, Sample) {
    let mut sample = Sample::default();
    form.format.decode_sample(&bytes[8..], &mut sample).unwrap();
    assert_eq!(usize::from(u16::from_ne_bytes([bytes[6], bytes[7]])), bytes.len());
    let mut again = Vec::new();
    form.format.encode_sample(&mut sample, &mut again).unwrap();
    assert_eq!(again, &bytes[8..], "the one description of a sample agrees");
    (u16::from_ne_bytes([bytes[4], bytes[5]]), sample)
}

#[test]
fn a_sample_is_what_the_description_of_samples_says() {
    let mut form = GuestForm::new(&OPTIONS, &[domain(4, 2)]);
    form.domain(&domain(4, 2), 0, &mut Vec::new()).unwrap();
    let sample = DomainSample {
        time: 11,
        width: 9,
        domain: 4,
        vcpu: 1,
        pcpu: 3,
        ip: 0x1000,
        mode: Mode::Kernel,
        period: 12,
        state: State::Preempted,
        task: Some((21, 22)),
        registers: Some(Registers { rbp: 0x7000, rsp: 0x6ff0, cr3: 0x1_2345_6000, wide: true }),
        callers: Callers { kernel: &[0x2000], user: &[0x3000, 0x4000], torn: true },
    };
    let mut out = Vec::with_capacity(4096);
    let room = out.as_ptr();
    assert!(form.sample(Kind::Waiting, &sample, &mut out));
    assert_eq!(out.as_ptr(), room);
    let (mode, got) = decoded(&form, &out);
    assert_eq!((mode, got.ip, got.addr, got.period), (misc::GUEST_KERNEL, 0x1000, 2 | TORN | 9 << 32, 12));
    assert_eq!((got.id.pid, got.id.tid, got.id.time, got.id.cpu), (21, 22, 11, 3));
    assert_eq!(
        (got.regs_intr.abi, &got.regs_intr.values[..], got.phys_addr),
        (2, &[0x7000, 0x6ff0][..], 0x1_2345_6000)
    );
    assert_eq!(got.callchain, [context::KERNEL, 0x1000, 0x2000, context::USER, 0x3000, 0x4000]);
    let ids: Vec<Vec<u64>> = form.events().list().iter().map(|event| event.ids.clone()).collect();
    assert_eq!((got.id.id, ids[0].len(), ids[1].len()), (ids[1][1], 2 + SPARE_IDS, 2 + SPARE_IDS));
    assert_eq!((State::of(got.addr), xprof_perfdata::domain::width(got.addr)), (Some(State::Preempted), 9));
}

#[test]
fn of_a_blocked_vcpu_nothing_is_believed_and_long_stacks_are_cut() {
    let mut form = GuestForm::new(&OPTIONS, &[domain(4, 1)]);
    form.domain(&domain(4, 1), 0, &mut Vec::new()).unwrap();
    let long = vec![7; 100_000];
    let callers = Callers { kernel: &long, user: &long, torn: true };
    let registers = Some(Registers { rbp: 1, rsp: 2, cr3: 3, wide: false });
    let sample =
        DomainSample { domain: 4, ip: 0x666, mode: Mode::Kernel, registers, callers, ..DomainSample::default() };
    let mut out = Vec::new();
    assert!(form.sample(
        Kind::Running,
        &DomainSample { state: State::Blocked, task: Some((1, 1)), ..sample },
        &mut out
    ));
    let (mode, got) = decoded(&form, &out);
    assert_eq!((mode, got.ip, got.addr, got.id.pid), (misc::GUEST_USER, BETWEEN_TICKS_AT, 3, NO_TASK));
    assert_eq!(got.callchain, [context::USER, BETWEEN_TICKS_AT]);
    assert_eq!((got.regs_intr.abi, got.regs_intr.values.len(), got.phys_addr), (0, 0, 0));
    out.clear();
    assert!(form.sample(Kind::Running, &sample, &mut out));
    let (_, got) = decoded(&form, &out);
    assert_eq!(got.callchain.len(), 3 + 2 * FRAMES_MAX);
    assert_eq!((got.regs_intr.abi, &got.regs_intr.values[..], got.phys_addr), (1, &[1, 2][..], 3));
}

#[test]
fn domains_get_ids_until_there_are_none() {
    let mut form = GuestForm::new(&OPTIONS, &[]);
    let sample = |id| DomainSample { domain: id, ..DomainSample::default() };
    assert!(!form.sample(Kind::Running, &sample(1), &mut Vec::new()), "not told yet");
    let many: Vec<Domain> = (1..=SPARE_IDS as u32).map(|id| domain(id, 1)).collect();
    let mut out = Vec::new();
    form.domains(&many, 0, &mut out).unwrap();
    // Every id of every event is in the index, ahead of the first name.
    let (mut indexed, mut named) = (Vec::new(), 0);
    let events = form.events();
    let mut rest = out.as_slice();
    while !rest.is_empty() {
        let (kind, size) = (rest[0], usize::from(u16::from_ne_bytes([rest[6], rest[7]])));
        let raw = RawRecord { kind: kind.into(), misc: 0, body: &rest[8..size], time: 0, event: 0, offset: 0 };
        match Record::decode(&raw, &events).unwrap().0 {
            Record::IdIndex(index) => {
                assert!(index.guests && named == 0);
                indexed.extend(index.entries.iter().map(|entry| (entry.id, entry.machine_pid)));
            }
            _ => named += 1,
        }
        rest = &rest[size..];
    }
    let ids: Vec<u64> = events.list().iter().flat_map(|event| event.ids.iter().copied()).collect();
    assert_eq!((indexed.len(), named), (ids.len(), 2 * SPARE_IDS));
    assert!(indexed.iter().all(|(id, machine)| ids.contains(id) && *machine != 0));
    let last = SPARE_IDS as u32;
    assert!(form.sample(Kind::Waiting, &sample(last), &mut Vec::new()));
    let refused = form.domain(&domain(last + 1, 1), 5, &mut Vec::new()).unwrap_err().to_string();
    assert!(refused.starts_with("domain d2049 (2049) appeared when all 2048 sample ids"), "{refused}");
    assert!(!form.sample(Kind::Running, &sample(last + 1), &mut Vec::new()));
    // A new name for one that has ids takes none.
    form.domain(&Domain { name: "renamed".into(), ..domain(3, 1) }, 9, &mut Vec::new()).unwrap();
}

#[test]
fn a_state_is_a_sample_of_its_own_event_without_a_stack() {
    let mut form = GuestForm::new(&OPTIONS, &[domain(4, 2)]).with_states();
    let mut names = Vec::new();
    form.domain(&domain(4, 2), 0, &mut names).unwrap();
    let text = String::from_utf8_lossy(&names);
    assert!(RunState::ALL.iter().all(|state| text.contains(state.name())));
    let of = Guest { machine_pid: 4, vcpu: 1 };
    let by = Some(Guest { machine_pid: 0x7f00, vcpu: 300 });
    let sample = StateSample { time: 90, period: 40, of, pcpu: 3, state: RunState::Runnable, by, goes_on: true };
    let mut out = Vec::new();
    assert!(form.state(&sample, &mut out));
    let events = form.events();
    let event = &events.list()[2];
    assert_eq!(event.name, "vcpu-states");
    let mut got = Sample::default();
    event.format.decode_sample(&out[8..], &mut got).unwrap();
    assert_eq!((got.id.id, got.id.time, got.id.cpu, got.period), (event.ids[1], 90, 3, 40));
    assert_eq!(RunState::of_address(got.addr), Some((RunState::Runnable, by)));
    assert_eq!(got.addr & GOES_ON, GOES_ON);
    assert_eq!(RunState::of_address(RunState::Blocked.address(None)), Some((RunState::Blocked, None)));
    assert_eq!(RunState::of_address(9), None);
    let ids: Vec<u64> = events.list().iter().flat_map(|event| event.ids.clone()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::HashSet<_>>().len(), "each id is one event's");
    assert!(!form.state(&StateSample { of: Guest { machine_pid: 5, vcpu: 0 }, ..sample }, &mut out));
}
