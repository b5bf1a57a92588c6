//! What each vCPU did when: a lane for each, cut into steps, with the time that it spent in each state in a step.

use std::collections::BTreeMap;

use xprof_perfdata::domain::RunState;

use super::key::{Key, Value};
use super::stacks::{EventStacks, Stacks};

/// The lanes of a recording's [`xprof_perfdata::domain::STATES_EVENT`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// When the first stint began, ns on the recording's clock.
    pub from: u64,
    /// Length of a step, ns.
    pub step: u64,
    /// By domain and vCPU.
    pub rows: Vec<Lane>,
}

/// The lane of a vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Its domain.
    pub domain: Value,
    /// Its number.
    pub vcpu: Value,
    /// ns in each state ([`RunState::number`]) in each step.
    pub steps: Vec<[u64; 4]>,
}

impl Stacks {
    /// The lanes of an event, in `steps`; none where stacks were not told apart by domain, vCPU and symbol, or times not kept.
    pub fn lanes(&self, event: &EventStacks, steps: usize) -> Lanes {
        let place = |key| self.keys.iter().position(|&known| known == key);
        let (Some(domain), Some(vcpu), Some(symbol)) = (place(Key::Domain), place(Key::Vcpu), place(Key::Symbol))
        else {
            return Lanes::default();
        };
        let spans = || event.samples.iter().map(|sample| (sample.time.saturating_sub(sample.period), sample.time));
        let (Some(from), Some(to)) = (spans().map(|(from, _)| from).min(), spans().map(|(_, to)| to).max()) else {
            return Lanes::default();
        };
        let steps = steps.max(1);
        let step = (to - from) / steps as u64 + 1;
        let mut rows: BTreeMap<(&Value, &Value), Vec<[u64; 4]>> = BTreeMap::new();
        for (sample, (start, end)) in event.samples.iter().zip(spans()) {
            let Some(values) = event.stacks.get(sample.stack as usize).map(|stack| &stack.values) else { continue };
            let (Some(domain), Some(vcpu), Some(Value::Text(state))) =
                (values.get(domain), values.get(vcpu), values.get(symbol))
            else {
                continue;
            };
            let Some(state) = RunState::ALL.into_iter().find(|known| known.name() == &**state) else { continue };
            let row = rows.entry((domain, vcpu)).or_insert_with(|| vec![[0; 4]; steps]);
            let mut at = start;
            while at < end {
                let nth = (at - from) / step;
                let until = end.min(from.saturating_add((nth + 1).saturating_mul(step)));
                if until <= at {
                    break;
                }
                if let Some(cell) = row.get_mut(nth as usize) {
                    cell[state as usize] += until - at;
                }
                at = until;
            }
        }
        let lane =
            |((domain, vcpu), steps): ((&Value, &Value), _)| Lane { domain: domain.clone(), vcpu: vcpu.clone(), steps };
        let rows = rows.into_iter().map(lane).collect();
        Lanes { from, step, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FunctionId, Stack, Timed};
    use super::*;

    #[test]
    fn a_stint_lies_in_the_steps_that_it_lasts() {
        let stack = |vcpu, state: RunState| Stack {
            values: vec![Value::Text("web".into()), Value::Number(vcpu), Value::Text(state.name().into())],
            functions: vec![FunctionId(0)],
            samples: 1,
            period: 1,
        };
        let sample = |time, period, stack| Timed { time, period, stack };
        let event = EventStacks {
            name: "vcpu-states".into(),
            stacks: vec![stack(0, RunState::Running), stack(0, RunState::Runnable), stack(1, RunState::Blocked)],
            samples: vec![sample(125, 25, 0), sample(139, 14, 1), sample(139, 39, 2)],
        };
        let keys = vec![Key::Domain, Key::Vcpu, Key::Symbol];
        let stacks =
            Stacks { keys, functions: Vec::new(), events: vec![event], unnamed: Vec::new(), damaged: 0, untimed: 0 };
        let lanes = stacks.lanes(&stacks.events[0], 4);
        assert_eq!((lanes.from, lanes.step), (100, 10));
        let [first, second] = &lanes.rows[..] else { panic!("{lanes:?}") };
        assert_eq!((&first.domain, &first.vcpu), (&Value::Text("web".into()), &Value::Number(0)));
        assert_eq!(first.steps, [[10, 0, 0, 0], [10, 0, 0, 0], [5, 5, 0, 0], [0, 9, 0, 0]]);
        assert_eq!(second.steps, [[0, 0, 10, 0], [0, 0, 10, 0], [0, 0, 10, 0], [0, 0, 9, 0]]);
        // Of other keys, and of times that cannot be, nothing is made up.
        let other = Stacks { keys: vec![Key::Domain], ..stacks.clone() };
        assert_eq!(other.lanes(&stacks.events[0], 4), Lanes::default());
        let odd =
            EventStacks { samples: vec![sample(u64::MAX, 1, 0), sample(0, u64::MAX, 1)], ..stacks.events[0].clone() };
        assert_eq!(stacks.lanes(&odd, 3).rows[0].steps[2], [1, 0, 0, 0]);
    }
}
