use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

/// A stint of a vCPU on pCPU 0.
fn stint((domain, vcpu): (u32, u32), state: RunState, from: u64, to: u64) -> StateSample {
    let of = Guest { machine_pid: domain, vcpu };
    StateSample { time: to, period: to - from, of, pcpu: 0, state, by: None, goes_on: false }
}

fn turns(stints: &[StateSample]) -> Turns {
    let mut turns = Turns::new(0);
    stints.iter().for_each(|stint| turns.stint(stint));
    turns
}

const OWN: (u32, u32) = (0, 0);
const WEB: (u32, u32) = (3, 1);
const DB: (u32, u32) = (4, 0);

fn guest((machine_pid, vcpu): (u32, u32)) -> Option<Guest> {
    Some(Guest { machine_pid, vcpu })
}

use RunState::{Blocked, Runnable, Running};

#[test]
fn a_sample_is_whose_the_pcpu_was_while_domain_0_waited_for_it() {
    let list = [
        stint(OWN, Blocked, 0, 100),
        stint(OWN, Running, 100, 200),
        stint(DB, Running, 200, 300),
        // web has the pCPU from 300; something wakes Domain-0 at 400, which gets it at 410.
        stint(OWN, Blocked, 200, 400),
        stint(OWN, Runnable, 400, 410),
        stint(WEB, Running, 300, 410),
        stint(OWN, Running, 410, 500),
    ];
    let turns = turns(&list);
    assert_eq!(turns.at(412, 0), guest(WEB));
    assert_eq!((turns.at(410, 0), turns.at(499, 0)), (guest(WEB), guest(WEB)));
    // Domain-0 did not have the pCPU: the clocks are apart, and nothing is said.
    assert_eq!((turns.at(405, 0), turns.at(300, 0), turns.at(600, 0)), (None, None, None));
    assert_eq!(turns.at(405, 10), guest(WEB));
    // Too inexact to tell two turns apart: before the first one nobody had the pCPU.
    assert_eq!(turns.at(410, 300), None);
}

#[test]
fn several_nobody_and_what_is_not_known_are_nobodys() {
    let after = |waiting: &[StateSample]| {
        let mut list = vec![stint(OWN, Running, 0, 100), stint(OWN, Blocked, 100, 200)];
        list.extend_from_slice(waiting);
        list.push(stint(OWN, Running, 300, 400));
        turns(&list).at(301, 0)
    };
    let wait = stint(OWN, Runnable, 200, 300);
    assert_eq!(after(&[stint(WEB, Running, 150, 300), wait]), guest(WEB));
    assert_eq!(after(&[stint(WEB, Running, 150, 250), wait, stint(DB, Running, 250, 300)]), None);
    assert_eq!(after(&[wait]), None, "the pCPU was idle");
    // Of the wait's beginning nothing is known: somebody else may have had the pCPU then.
    assert_eq!(after(&[stint(OWN, Runnable, 250, 300), stint(WEB, Running, 250, 300)]), None);
    assert_eq!(after(&[]), None);
    // On another pCPU, and a vCPU of Domain-0 that is not where it should be.
    let elsewhere = StateSample { pcpu: 1, ..stint(WEB, Running, 150, 300) };
    assert_eq!(after(&[elsewhere, wait]), None);
    let mut moved = turns(&[stint(OWN, Blocked, 0, 200), wait, stint(WEB, Running, 150, 300)]);
    moved.stint(&StateSample { pcpu: 1, ..stint(OWN, Running, 300, 400) });
    assert_eq!(moved.at(301, 0), None);
}

#[test]
fn what_an_anchor_cuts_is_one() {
    let cut = |stint: StateSample| StateSample { goes_on: true, ..stint };
    let mut turns = turns(&[
        stint(OWN, Running, 0, 50),
        cut(stint(OWN, Blocked, 50, 100)),
        cut(stint(WEB, Running, 60, 100)),
        stint(OWN, Blocked, 100, 150),
        cut(stint(OWN, Runnable, 150, 200)),
        cut(stint(WEB, Running, 100, 200)),
        stint(OWN, Runnable, 200, 210),
        stint(WEB, Running, 200, 210),
        cut(stint(OWN, Running, 210, 300)),
    ]);
    turns.passed(250);
    turns.stint(&cut(stint(OWN, Running, 300, 400)));
    turns.passed(350);
    turns.stint(&stint(OWN, Running, 400, 420));
    assert_eq!((turns.at(415, 0), turns.at(305, 0)), (guest(WEB), guest(WEB)));
    assert_eq!(turns.kept(), (1, 0));
    // A cut that is not gone on with was a gap.
    turns.stint(&cut(stint(OWN, Runnable, 420, 500)));
    turns.stint(&stint(WEB, Running, 500, 550));
    turns.stint(&stint(OWN, Running, 550, 560));
    assert_eq!(turns.at(555, 0), None);
}

/// What one pCPU does, one thing after the other.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A vCPU of this number gets the pCPU for so long; 0 is nobody.
    Runs(u32, u64),
    /// A counter overflows meanwhile: Domain-0 is woken, has to wait so long, and takes the sample.
    Overflows(u64),
    /// Domain-0 is woken by something else; it waits for so long, while its pCPU goes to another vCPU, and the counter may overflow before
    /// or after that.
    Contended(u32, u64, bool),
    /// Records are missing.
    Gap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u32..4, 1u64..50).prop_map(|(of, ns)| Step::Runs(of, ns)),
        4 => (1u64..20).prop_map(Step::Overflows),
        1 => (1u32..4, 2u64..20, any::<bool>()).prop_map(|(of, ns, after)| Step::Contended(of, ns, after)),
        1 => Just(Step::Gap),
    ];
    prop::collection::vec(step, 1..80)
}

/// Plays the steps: stints in order of their ends; samples, with who they are of, and whether nothing hides that.
#[derive(Default)]
struct Play {
    now: u64,
    stints: Vec<StateSample>,
    samples: Vec<(u64, u32, bool)>,
    /// Since when the vCPU that has the pCPU has it; who that is.
    running: (u32, u64),
    /// Since when Domain-0 sleeps.
    asleep: u64,
    is_known: bool,
}

impl Play {
    fn end_run(&mut self) {
        let (of, since) = self.running;
        if of != 0 && since < self.now {
            self.stints.push(stint((of, 0), Running, since, self.now));
        }
        self.running = (0, self.now);
    }

    fn sleeps_until_now(&mut self) {
        if self.asleep < self.now {
            self.stints.push(stint(OWN, Blocked, self.asleep, self.now));
        }
    }

    /// Domain-0 has waited since `wait`, runs for 10 ns, and takes a sample in the middle, of `of`.
    fn takes(&mut self, wait: u64, of: u32, certain: bool) {
        if wait < self.now {
            self.stints.push(stint(OWN, Runnable, wait, self.now));
        }
        self.end_run();
        // What overflows while nobody has the pCPU is Xen's own.
        if of != 0 {
            self.samples.push((self.now + 5, of, certain && self.is_known));
        }
        self.stints.push(stint(OWN, Running, self.now, self.now + 10));
        self.now += 10;
        (self.asleep, self.is_known) = (self.now, true);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Runs(of, ns) => {
                self.end_run();
                self.running = (of, self.now);
                self.now += ns;
            }
            Step::Overflows(ns) => {
                let (of, _) = self.running;
                self.now += 1;
                self.sleeps_until_now();
                let wait = self.now;
                self.now += ns;
                self.takes(wait, of, true);
                self.running = (of, self.now);
            }
            Step::Contended(other, ns, after) => {
                let (of, _) = self.running;
                self.now += 1;
                self.sleeps_until_now();
                let wait = self.now;
                self.now += ns / 2;
                self.end_run();
                self.running = (other, self.now);
                self.now += ns - ns / 2;
                self.takes(wait, if after { other } else { of }, of == other);
            }
            Step::Gap => {
                self.end_run();
                self.now += 100;
                self.running = (0, self.now);
                (self.asleep, self.is_known) = (self.now, false);
            }
        }
    }
}

fn play(steps: &[Step]) -> Play {
    let mut play = Play { is_known: true, ..Play::default() };
    // Domain-0 is known from the start.
    play.takes(0, 0, false);
    steps.iter().for_each(|step| play.step(*step));
    play.stints.sort_by_key(|stint| (stint.time, stint.of));
    play
}

proptest! {
    /// Whatever happens, a sample is its own vCPU's or nobody's; where one vCPU had the pCPU and nothing is missing it is its own vCPU's; and
    /// what samples have passed is let go.
    #[test]
    fn a_sample_is_never_anothers(steps in steps(), error in 0u64..4) {
        let play = play(&steps);
        let mut turns = Turns::new(0);
        let mut stints = play.stints.iter().peekable();
        for &(time, of, certain) in &play.samples {
            while let Some(stint) = stints.next_if(|stint| stint.time <= time + 10) {
                turns.stint(stint);
            }
            let found = turns.at(time, error);
            let truth = Guest { machine_pid: of, vcpu: 0 };
            if found.is_some_and(|found| found != truth) || (certain && found.is_none()) {
                return Err(TestCaseError::fail(format!("{time}: {found:?}, is {of}, certain {certain}")));
            }
            turns.passed(time);
            let (kept, runs) = turns.kept();
            prop_assert!(kept <= 2 && runs <= RUNS_MAX, "{kept} {runs}");
        }
    }

    /// Stints that cannot be: no panic, no growth.
    #[test]
    fn nonsense_is_survived(list in prop::collection::vec((0u32..3, 0u32..2, 0u64..4, any::<u64>(), any::<u64>(), 0u32..3, any::<bool>()), 0..600), at in any::<u64>()) {
        let mut turns = Turns::new(0);
        for (machine_pid, vcpu, state, time, period, pcpu, goes_on) in list {
            let (of, state) = (Guest { machine_pid, vcpu }, RunState::ALL[state as usize]);
            turns.stint(&StateSample { time, period, of, pcpu, state, by: None, goes_on });
        }
        turns.at(at, at);
        turns.passed(at);
        prop_assert!(turns.kept().1 <= RUNS_MAX);
    }
}
