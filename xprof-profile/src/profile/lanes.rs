//! What was done when: a lane for each vCPU, CPU, domain, or whatever keys tell apart, cut into steps of equal length. Of Xen's trace
//! a step has the time that a vCPU spent in each state, of every other event the samples that fell into it.

use std::collections::BTreeMap;

use xprof_perfdata::domain::{RunState, STATES_EVENT};

use super::key::{Key, Value};
use super::stacks::{EventStacks, Stacks};

/// How lanes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Into so many steps.
    pub steps: usize,
    /// Only this part, from and to, ns on the recording's clock; `None`: all of it.
    pub window: Option<(u64, u64)>,
}

/// The lanes of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// When they begin, ns on the recording's clock.
    pub from: u64,
    /// Length of a step, ns.
    pub step: u64,
    /// When all of the event begins and ends.
    pub whole: (u64, u64),
    /// By the values of the keys.
    pub rows: Vec<Lane>,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Of what: a value for each key.
    pub of: Vec<Value>,
    /// What is in each step.
    pub steps: Steps,
}

/// What is in the steps of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steps {
    /// ns in each state, by [`RunState::number`].
    States(Vec<[u64; 4]>),
    /// Samples (of a profile that goes on: their weight).
    Samples(Vec<u64>),
}

impl Steps {
    /// ns in each state, in all steps; of samples their number stands first.
    pub fn sums(&self) -> [u64; 4] {
        match self {
            Steps::States(steps) => steps.iter().fold([0; 4], |mut sums, step| {
                sums.iter_mut().zip(step).for_each(|(sum, ns)| *sum = sum.saturating_add(*ns));
                sums
            }),
            Steps::Samples(steps) => [steps.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)), 0, 0, 0],
        }
    }
}

impl Lanes {
    /// When they end, ns.
    pub fn end(&self) -> u64 {
        let steps = self.rows.first().map_or(0, |lane| match &lane.steps {
            Steps::States(steps) => steps.len(),
            Steps::Samples(steps) => steps.len(),
        });
        self.from.saturating_add(self.step.saturating_mul(steps as u64))
    }
}

impl Stacks {
    /// The lanes of an event; none where stacks were not told apart by the keys (of [`STATES_EVENT`] by symbol as well), or their times not kept
    /// ([`super::Builder::keep_times`]).
    pub fn lanes(&self, event: &EventStacks, by: &[Key], cut: Cut) -> Lanes {
        let place = |key: &Key| self.keys.iter().position(|known| known == key);
        let Some(places) = by.iter().map(place).collect::<Option<Vec<usize>>>() else { return Lanes::default() };
        let symbol = match (event.name == STATES_EVENT, place(&Key::Symbol)) {
            (true, None) => return Lanes::default(),
            (is_states, symbol) => symbol.filter(|_| is_states),
        };
        // A state ends when its sample is taken.
        let length = |period: u64| if symbol.is_some() { period } else { 0 };
        let spans = || event.samples.iter().map(|of| (of.time.saturating_sub(length(of.period)), of.time));
        let (Some(first), Some(last)) = (spans().map(|(from, _)| from).min(), spans().map(|(_, to)| to).max()) else {
            return Lanes::default();
        };
        let (from, to) = cut.window.unwrap_or((first, last));
        let steps = cut.steps.max(1);
        // One more than the difference, so that the last sample is in the last step.
        let step = to.saturating_sub(from) / steps as u64 + 1;
        let mut numbers: BTreeMap<Vec<&Value>, usize> = BTreeMap::new();
        let mut rows: Vec<Steps> = Vec::new();
        // By stack: its row, and the state that it stands for.
        let of_stack: Vec<Option<(usize, usize)>> = event
            .stacks
            .iter()
            .map(|stack| {
                let of: Vec<&Value> = places.iter().map(|&at| stack.values.get(at)).collect::<Option<_>>()?;
                let state = match symbol.map(|at| stack.values.get(at)) {
                    None => 0,
                    Some(Some(Value::Text(name))) => {
                        RunState::ALL.into_iter().position(|known| known.name() == &**name)?
                    }
                    Some(_) => return None,
                };
                let row = *numbers.entry(of).or_insert_with(|| {
                    rows.push(match symbol {
                        Some(_) => Steps::States(vec![[0; 4]; steps]),
                        None => Steps::Samples(vec![0; steps]),
                    });
                    rows.len() - 1
                });
                Some((row, state))
            })
            .collect();
        for (sample, (start, end)) in event.samples.iter().zip(spans()) {
            let Some((row, state)) = of_stack.get(sample.stack as usize).copied().flatten() else { continue };
            match &mut rows[row] {
                Steps::Samples(row) if end >= from => {
                    if let Some(count) = row.get_mut(usize::try_from((end - from) / step).unwrap_or(usize::MAX)) {
                        *count += 1;
                    }
                }
                Steps::Samples(_) => {}
                Steps::States(row) => {
                    let mut at = start.max(from);
                    while at < end {
                        let nth = (at - from) / step;
                        let Some(cell) = usize::try_from(nth).ok().and_then(|nth| row.get_mut(nth)) else { break };
                        let until = end.min(from.saturating_add((nth + 1).saturating_mul(step)));
                        if until <= at {
                            break;
                        }
                        cell[state] += until - at;
                        at = until;
                    }
                }
            }
        }
        let row = |(of, row): (Vec<&Value>, usize)| Lane {
            of: of.into_iter().cloned().collect(),
            steps: std::mem::replace(&mut rows[row], Steps::Samples(Vec::new())),
        };
        Lanes { from, step, whole: (first, last), rows: numbers.into_iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FunctionId, Stack, Timed};
    use super::*;

    const ALL: fn(usize) -> Cut = |steps| Cut { steps, window: None };

    fn sample(time: u64, period: u64, stack: u32) -> Timed {
        Timed { time, period, stack }
    }

    fn stacks(keys: &[Key], event: EventStacks) -> Stacks {
        let keys = keys.to_vec();
        Stacks { keys, functions: Vec::new(), events: vec![event], unnamed: Vec::new(), damaged: 0, untimed: 0 }
    }

    #[test]
    fn a_stint_lies_in_the_steps_that_it_lasts() {
        let stack = |vcpu, state: RunState| Stack {
            values: vec![Value::Text("web".into()), Value::Number(vcpu), Value::Text(state.name().into())],
            functions: vec![FunctionId(0)],
            samples: 1,
            period: 1,
        };
        let event = EventStacks {
            name: STATES_EVENT.into(),
            stacks: vec![stack(0, RunState::Running), stack(0, RunState::Runnable), stack(1, RunState::Blocked)],
            samples: vec![sample(125, 25, 0), sample(139, 14, 1), sample(139, 39, 2)],
        };
        let stacks = stacks(&[Key::Domain, Key::Vcpu, Key::Symbol], event);
        let of = |cut| stacks.lanes(&stacks.events[0], &[Key::Domain, Key::Vcpu], cut);
        let lanes = of(ALL(4));
        assert_eq!((lanes.from, lanes.step, lanes.whole, lanes.end()), (100, 10, (100, 139), 140));
        let [first, second] = &lanes.rows[..] else { panic!("{lanes:?}") };
        assert_eq!(first.of, [Value::Text("web".into()), Value::Number(0)]);
        assert_eq!(first.steps, Steps::States(vec![[10, 0, 0, 0], [10, 0, 0, 0], [5, 5, 0, 0], [0, 9, 0, 0]]));
        assert_eq!(second.steps, Steps::States(vec![[0, 0, 10, 0], [0, 0, 10, 0], [0, 0, 10, 0], [0, 0, 9, 0]]));
        assert_eq!(first.steps.sums(), [25, 14, 0, 0]);
        // A part of it, and beyond its ends.
        let part = of(Cut { steps: 3, window: Some((118, 129)) });
        assert_eq!((part.from, part.step, part.whole), (118, 4, (100, 139)));
        assert_eq!(part.rows[0].steps, Steps::States(vec![[4, 0, 0, 0], [3, 1, 0, 0], [0, 4, 0, 0]]));
        let wide = of(Cut { steps: 2, window: Some((0, 199)) });
        assert_eq!(wide.rows[0].steps, Steps::States(vec![[0; 4], [25, 14, 0, 0]]));
        // By domain its vCPUs' times are added up.
        let domain = stacks.lanes(&stacks.events[0], &[Key::Domain], ALL(1));
        assert_eq!(domain.rows[0].steps, Steps::States(vec![[25, 14, 39, 0]]));
        // Of other keys, and of times that cannot be, nothing is made up.
        let other = Stacks { keys: vec![Key::Domain], ..stacks.clone() };
        assert_eq!(other.lanes(&stacks.events[0], &[Key::Domain], ALL(4)), Lanes::default());
        let odd =
            EventStacks { samples: vec![sample(u64::MAX, 1, 0), sample(0, u64::MAX, 1)], ..stacks.events[0].clone() };
        let Steps::States(steps) = &stacks.lanes(&odd, &[Key::Domain, Key::Vcpu], ALL(3)).rows[0].steps else {
            panic!()
        };
        assert_eq!(steps[2], [1, 0, 0, 0]);
    }

    #[test]
    fn every_sample_is_in_one_step_of_one_row() {
        let stack =
            |cpu| Stack { values: vec![Value::Number(cpu)], functions: vec![FunctionId(0)], samples: 1, period: 1 };
        let event = EventStacks {
            name: "cycles".into(),
            stacks: vec![stack(1), stack(0), stack(1)],
            samples: vec![sample(100, 9, 0), sample(101, 1, 1), sample(104, 1, 2), sample(109, 1, 0)],
        };
        let stacks = stacks(&[Key::Cpu], event);
        let of = |cut| stacks.lanes(&stacks.events[0], &[Key::Cpu], cut);
        let lanes = of(ALL(5));
        assert_eq!((lanes.from, lanes.step, lanes.whole), (100, 2, (100, 109)));
        let rows: Vec<_> = lanes.rows.into_iter().map(|lane| (lane.of, lane.steps)).collect();
        let lane = |cpu, steps: [u64; 5]| (vec![Value::Number(cpu)], Steps::Samples(steps.into()));
        assert_eq!(rows, [lane(0, [1, 0, 0, 0, 0]), lane(1, [1, 0, 1, 0, 1])]);
        let part = of(Cut { steps: 2, window: Some((102, 105)) });
        assert_eq!(part.rows[1].steps, Steps::Samples(vec![0, 1]));
        assert_eq!(stacks.lanes(&stacks.events[0], &[Key::Domain], ALL(5)), Lanes::default());
        let all_of_time =
            EventStacks { samples: vec![sample(0, 1, 0), sample(u64::MAX, 1, 0)], ..stacks.events[0].clone() };
        assert_eq!(stacks.lanes(&all_of_time, &[Key::Cpu], ALL(3)).rows[1].steps, Steps::Samples(vec![1, 0, 1]));
    }
}
