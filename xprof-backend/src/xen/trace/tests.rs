//! A recording of xentrace's, read by a second reader too (`fixtures/witness.py`); and what a real one seldom has.

use std::collections::BTreeMap;

use super::reading::{Change, NOBODY, Reading, What};
use super::records::{Event, Records, RunState, TABLE, Vcpu};
use super::states::{States, Stint};

const XENTRACE: &[u8] = include_bytes!("fixtures/xentrace");

fn vcpu(domain: u16, vcpu: u16) -> Vcpu {
    Vcpu { domain, vcpu }
}

#[test]
fn records_states_and_exits_are_those_of_the_second_reader() {
    let mut got = String::new();
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    Records::new(XENTRACE).for_each(|record| *numbers.entry(record.number).or_default() += 1);
    numbers.iter().for_each(|(number, count)| got += &format!("number {number:x} {count}\n"));

    let mut reading = Reading::default();
    reading.read(0, XENTRACE);
    let mut states = States::default();
    let mut ticks: BTreeMap<(Vcpu, u32), u64> = BTreeMap::new();
    for change in reading.until(u64::MAX) {
        states.change(&change, &mut |stint: Stint| {
            *ticks.entry((stint.of, stint.state as u32)).or_default() += stint.to - stint.from;
        });
    }
    ticks.iter().for_each(|((of, state), sum)| got += &format!("ticks {}.{} {state} {sum}\n", of.domain, of.vcpu));
    let mut exits: Vec<_> = reading.exits.iter().collect();
    exits.sort();
    exits.iter().for_each(|((of, why), n)| got += &format!("exits {}.{} {why:x} {n}\n", of.domain, of.vcpu));
    assert_eq!(got, include_str!("fixtures/xentrace.expected"));
    // The cut has left the last records of pCPU 1 out.
    assert_eq!((states.contradictions, reading.cut, reading.lost), (1, 0, 0));
}

/// A record with its time.
fn record(number: u32, tsc: u64, words: &[u32]) -> Vec<u8> {
    let mut all = vec![number | (words.len() as u32) << 28 | 1 << 31, tsc as u32, (tsc >> 32) as u32];
    all.extend(words);
    all.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn state(tsc: u64, of: Vcpu, old: u32, new: u32) -> Vec<u8> {
    record(0x2_1001 | old << 8 | new << 4, tsc, &[u32::from(of.domain) << 16 | u32::from(of.vcpu)])
}

fn stints(reading: &mut Reading, states: &mut States, until: u64) -> Vec<Stint> {
    let mut all = Vec::new();
    for change in reading.until(until) {
        states.change(&change, &mut |stint| all.push(stint));
    }
    states.cut(until, &mut |stint| all.push(stint));
    all.sort_by_key(|stint| (stint.of, stint.from));
    all
}

#[test]
fn who_takes_whose_pcpu_and_what_nobody_saw() {
    use RunState::{Blocked, Runnable, Running};
    let (mut reading, mut states) = (Reading::default(), States::default());
    let (a, b) = (vcpu(1, 0), vcpu(2, 3));
    states.expect(a, 0);
    states.expect(vcpu(3, 0), 0);
    // On pCPU 4 b takes a's place; a is woken nowhere, and goes on when b sleeps. Rings come in any order.
    reading.ring(
        4,
        &[state(100, a, 0, 1), state(100, b, 1, 0), state(300, b, 0, 2), state(300, a, 1, 0)].concat(),
        false,
    );
    reading.ring(1, &state(50, b, 2, 1), false);
    assert_eq!(states.silent().collect::<Vec<_>>().len(), 2);
    let all = stints(&mut reading, &mut states, 400);
    let stint = |of, state, from, to, by| Stint { of, state, from, to, cpu: 4, by, goes_on: to == 400 };
    let expected = [
        // The first record tells what was before, of a vCPU that was there; b was not.
        stint(a, Running, 0, 100, None),
        stint(a, Runnable, 100, 300, Some(b)),
        stint(a, Running, 300, 400, None),
        Stint { cpu: 0, ..stint(b, Runnable, 50, 100, None) },
        stint(b, Running, 100, 300, None),
        stint(b, Blocked, 300, 400, None),
    ];
    assert_eq!(all, expected);
    // Of domain 3 no record came: what Xen says of it holds since the beginning.
    assert_eq!(states.silent().collect::<Vec<_>>(), [(vcpu(3, 0), 0)]);
    states.told(vcpu(3, 0), 1, Running, 9);
    assert!(states.silent().next().is_some());
    states.told(vcpu(3, 0), 0, Blocked, 9);
    let all = stints(&mut reading, &mut states, 500);
    assert_eq!(all[2], Stint { of: vcpu(3, 0), state: Blocked, from: 0, to: 500, cpu: 9, by: None, goes_on: true });
}

#[test]
fn time_in_which_records_are_lost_is_in_no_stint() {
    let (mut reading, mut states) = (Reading::default(), States::default());
    let a = vcpu(1, 0);
    states.expect(a, 0);
    // Xen says that three were lost between 200 and 400: who ran then, on any pCPU, is not known.
    let lost = record(0x1_f001, 400, &[3, 0, 200, 0]);
    reading.ring(0, &[state(100, a, 2, 1), lost, state(450, a, 0, 2)].concat(), false);
    let all = stints(&mut reading, &mut states, 500);
    let spans: Vec<_> = all.iter().map(|stint| (stint.state, stint.from, stint.to)).collect();
    use RunState::{Blocked, Runnable, Running};
    let expected = [(Blocked, 0, 100), (Runnable, 100, 200), (Running, 400, 450), (Blocked, 450, 500)];
    assert_eq!(spans, expected);
    assert_eq!((reading.lost, states.unknown), (3, 200));
    // A ring that was full may have lost something, from its last record on until it was emptied; Xen tells of that later.
    reading.ring(0, &state(600, a, 2, 1), true);
    let all = stints(&mut reading, &mut states, 700);
    assert_eq!(all.iter().map(|s| (s.state, s.from, s.to)).collect::<Vec<_>>(), [(Blocked, 500, 600)]);
    let lost = record(0x1_f001, 900, &[2, 0, 650, 0]);
    reading.ring(0, &[lost, state(950, a, 0, 2)].concat(), false);
    let all = stints(&mut reading, &mut states, 1000);
    assert_eq!(
        all.iter().map(|s| (s.state, s.from, s.to)).collect::<Vec<_>>(),
        [(Running, 700, 950), (Blocked, 950, 1000)]
    );
    assert_eq!((reading.lost, states.unknown, states.contradictions), (5, 300, 0));
    // A record that contradicts the one before ends what is not known.
    reading.ring(0, &state(1100, a, 0, 1), false);
    let all = stints(&mut reading, &mut states, 1200);
    assert_eq!(all.iter().map(|s| (s.state, s.from, s.to)).collect::<Vec<_>>(), [(Runnable, 1100, 1200)]);
    assert_eq!(states.contradictions, 1);
}

#[test]
fn rings_that_lie_end_early() {
    let whole = state(100, vcpu(1, 0), 0, 1);
    for len in 1..whole.len() {
        let mut reading = Reading::default();
        reading.ring(u32::MAX, &whole[..len], true);
        assert_eq!((reading.records, reading.cut), (0, 1));
    }
    // Too short for what it says to be.
    let mut reading = Reading::default();
    reading.ring(
        0,
        &[record(0x2_1011, 1, &[]), record(0x1_f001, 2, &[7]), record(0x8_1102, 3, &[0x60, 0, 0])].concat(),
        false,
    );
    assert_eq!((reading.changes.len(), reading.lost, reading.records), (0, 0, 3));
    assert_eq!(reading.exits[&(NOBODY, 0x60)], 1);
    // A loss from the future or from long ago.
    let lost = |first: u64| record(0x1_f001, 50, &[1, 0, first as u32, (first >> 32) as u32]);
    reading.ring(0, &[lost(u64::MAX), lost(0)].concat(), false);
    assert_eq!(reading.changes, []);
    // Two gaps that are as long as time itself: their sum is not more.
    let mut states = States::default();
    for tsc in [0, u64::MAX, 0, u64::MAX] {
        let what = if tsc == 0 { What::Gap } else { What::Whole };
        states.change(&Change { tsc, cpu: 0, what }, &mut |_| {});
    }
    assert_eq!(states.unknown, u64::MAX);
    // Time that runs backwards makes no stint of negative length.
    let mut states = States::default();
    let of = vcpu(1, 0);
    states.expect(of, 0);
    for tsc in [500, 100] {
        let what = What::State { of, old: RunState::Running, new: RunState::Running };
        states.change(&Change { tsc, cpu: 0, what }, &mut |stint| assert!(stint.from < stint.to));
    }
}

#[test]
fn the_table_has_each_number_once() {
    for (at, row) in TABLE.iter().enumerate() {
        assert_eq!(row.number & row.variable, 0, "{}", row.name);
        let twice = TABLE[..at].iter().find(|other| {
            let both = row.variable | other.variable;
            row.number & !both == other.number & !both
        });
        assert!(twice.is_none(), "{} and {}", row.name, twice.unwrap().name);
    }
    let bytes = record(0x2_8005, 9, &[0, 3]);
    let yields = Records::new(&bytes).next().unwrap();
    assert_eq!((yields.event(), yields.tsc), (Event::Yields(vcpu(0, 3)), Some(9)));
}
