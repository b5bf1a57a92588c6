//! How many samples fell when: a row for each CPU, domain, or whatever a key tells apart.

use std::collections::BTreeMap;

use super::key::{Key, Value};
use super::stacks::{EventStacks, Stacks};

/// Samples over time, in steps of equal length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Time of the first sample, ns on the recording's clock.
    pub from: u64,
    /// Length of a step, ns.
    pub step: u64,
    /// By value of the key: samples in each step.
    pub rows: Vec<(Value, Vec<u64>)>,
}

impl Stacks {
    /// The activity of one event by `key`, in `steps`; without rows where stacks were not told apart by the key, or their
    /// times were not kept ([`super::Builder::keep_times`]).
    pub fn activity(&self, event: &EventStacks, key: Key, steps: usize) -> Activity {
        let times = || event.samples.iter().map(|sample| sample.time);
        let (Some(at), Some(from), Some(to)) =
            (self.keys.iter().position(|&known| known == key), times().min(), times().max())
        else {
            return Activity::default();
        };
        // One more than the difference, so that the last sample is in the last step.
        let step = (to - from) / steps.max(1) as u64 + 1;
        let mut rows: BTreeMap<&Value, Vec<u64>> = BTreeMap::new();
        for sample in &event.samples {
            let value = event.stacks.get(sample.stack as usize).and_then(|stack| stack.values.get(at));
            let Some(value) = value else { continue };
            let row = rows.entry(value).or_insert_with(|| vec![0; steps.max(1)]);
            if let Some(count) = row.get_mut(((sample.time - from) / step) as usize) {
                *count += 1;
            }
        }
        let rows = rows.into_iter().map(|(value, steps)| (value.clone(), steps)).collect();
        Activity { from, step, rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FunctionId, Stack, Timed};
    use super::*;

    #[test]
    fn every_sample_is_in_one_step_of_one_row() {
        let stack =
            |cpu| Stack { values: vec![Value::Number(cpu)], functions: vec![FunctionId(0)], samples: 1, period: 1 };
        let sample = |time, stack| Timed { time, period: 1, stack };
        let event = EventStacks {
            name: "cycles".into(),
            stacks: vec![stack(1), stack(0), stack(1)],
            samples: vec![sample(100, 0), sample(101, 1), sample(104, 2), sample(109, 0)],
        };
        let events = vec![event];
        let stacks =
            Stacks { keys: vec![Key::Cpu], functions: Vec::new(), events, unnamed: Vec::new(), damaged: 0, untimed: 0 };
        let activity = stacks.activity(&stacks.events[0], Key::Cpu, 5);
        assert_eq!((activity.from, activity.step), (100, 2));
        let rows = vec![(Value::Number(0), vec![1, 0, 0, 0, 0]), (Value::Number(1), vec![1, 0, 1, 0, 1])];
        assert_eq!(activity.rows, rows);
        assert_eq!(stacks.activity(&stacks.events[0], Key::Domain, 5), Activity::default());
        let all_of_time = stacks.activity(
            &EventStacks { samples: vec![sample(0, 0), sample(u64::MAX, 0)], ..stacks.events[0].clone() },
            Key::Cpu,
            3,
        );
        assert_eq!(all_of_time.rows[0].1, [1, 0, 1]);
    }
}
