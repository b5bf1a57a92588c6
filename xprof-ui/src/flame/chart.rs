//! Flame charts: from left to right the order in time, thread beside thread.
//!
//! Samples come in order of time, so at any moment one stack is open. A frame is decided on when it closes: what is too narrow
//! goes to its caller as a part of one frame that says so. So memory follows what is drawn, not the length of the recording.

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, Stacks};

use super::graph::{DEEPEST, Frame, Graph, MOST_BYTES, MOST_FRAMES, NARROWEST, Weight, size};
use super::kind::{Kind, Names};

/// A frame whose end has not come yet.
#[derive(Debug)]
struct Open {
    name: usize,
    start: u64,
    weight: Weight,
    /// What is drawn above it, in depth-first order.
    above: Vec<Frame>,
    small: Small,
}

/// Neighbours that are too narrow, so far.
#[derive(Clone, Copy, Debug, Default)]
struct Small {
    count: usize,
    start: u64,
    weight: Weight,
}

impl Graph {
    /// The chart of one event's samples. The stacks must be known by thread and have kept their times
    /// (`Builder::keep_times`).
    pub fn chart(stacks: &Stacks, event: &EventStacks) -> Graph {
        let mut names = Names::default();
        let ids: Vec<usize> = stacks.functions.iter().map(|function| names.function(function)).collect();
        // Frames of a stack from the root; threads in the order of their first samples.
        let outer: Vec<Vec<usize>> = event.stacks.iter().map(|stack| names.outermost(&stacks.keys, stack)).collect();
        let mut ranks: FxHashMap<&[usize], usize> = FxHashMap::default();
        let mut samples: Vec<(usize, u32, u64)> = Vec::with_capacity(event.samples.len());
        for sample in &event.samples {
            let Some(outer) = outer.get(sample.stack as usize) else { continue };
            let next = ranks.len();
            samples.push((*ranks.entry(outer).or_insert(next), sample.stack, sample.period));
        }
        samples.sort_by_key(|&(rank, ..)| rank);
        let ways: Vec<Vec<usize>> = event
            .stacks
            .iter()
            .zip(&outer)
            .map(|(stack, outer)| {
                let functions = stack.functions.iter().rev().filter_map(|f| ids.get(f.0 as usize));
                outer.iter().chain(functions).take(DEEPEST).copied().collect()
            })
            .collect();
        let total = samples.iter().fold(0u64, |sum, &(.., period)| sum.saturating_add(period));
        let mut narrowest = ((total as f64 * NARROWEST).ceil() as u64).max(1);
        loop {
            let graph = Chart { names: &names, narrowest, total, small: 0 }.draw(event, &samples, &ways);
            let bytes: usize = graph.frames.iter().map(|frame| size(frame.name.len())).sum();
            if (graph.frames.len() <= MOST_FRAMES && bytes <= MOST_BYTES) || narrowest >= total {
                return graph;
            }
            narrowest = narrowest.saturating_mul(2);
        }
    }
}

struct Chart<'a> {
    names: &'a Names,
    narrowest: u64,
    total: u64,
    small: usize,
}

impl Chart<'_> {
    fn draw(mut self, event: &EventStacks, samples: &[(usize, u32, u64)], ways: &[Vec<usize>]) -> Graph {
        let mut graph = Graph { event: event.name.clone(), by_time: true, ..Graph::default() };
        if self.total == 0 {
            return graph;
        }
        let open =
            |name, start| Open { name, start, weight: Weight::default(), above: Vec::new(), small: Small::default() };
        // The root has no name in the list.
        let mut stack = vec![open(usize::MAX, 0)];
        let mut now = 0u64;
        for &(_, way, period) in samples {
            let way = &ways[way as usize];
            let same = stack[1..].iter().zip(way).take_while(|(open, name)| open.name == **name).count();
            self.close(&mut stack, same + 1);
            stack.extend(way[same..].iter().map(|&name| open(name, now)));
            for frame in &mut stack {
                frame.weight.samples += 1;
                frame.weight.period = frame.weight.period.saturating_add(period);
            }
            now = now.saturating_add(period);
        }
        self.close(&mut stack, 1);
        if let Some(mut root) = stack.pop() {
            self.flush(&mut root, 0);
            graph.frames.push(self.frame("all".into(), Kind::Thread, 0, root.start, root.weight));
            graph.frames.append(&mut root.above);
        }
        graph.small = self.small;
        graph
    }

    /// Closes the frames beyond the first `left`.
    fn close(&mut self, stack: &mut Vec<Open>, left: usize) {
        while stack.len() > left {
            let depth = stack.len() - 1;
            let (Some(mut closed), Some(caller)) = (stack.pop(), stack.last_mut()) else { return };
            if closed.weight.period < self.narrowest {
                let small = &mut caller.small;
                if small.count == 0 {
                    small.start = closed.start;
                }
                small.count += 1;
                small.weight.samples += closed.weight.samples;
                small.weight.period = small.weight.period.saturating_add(closed.weight.period);
                continue;
            }
            self.flush(caller, depth - 1);
            self.flush(&mut closed, depth);
            let (name, kind) = self.names.get(closed.name);
            caller.above.push(self.frame(name, kind, depth, closed.start, closed.weight));
            caller.above.append(&mut closed.above);
        }
    }

    /// Ends a run of narrow frames above one at `depth`.
    fn flush(&mut self, frame: &mut Open, depth: usize) {
        let Small { count, start, weight } = std::mem::take(&mut frame.small);
        self.small += count;
        if count > 0 && weight.period >= self.narrowest {
            let name = format!("{count} calls too small to show");
            frame.above.push(self.frame(name, Kind::Small, depth + 1, start, weight));
        }
    }

    fn frame(&self, name: String, kind: Kind, depth: usize, start: u64, weight: Weight) -> Frame {
        let share = |period: u64| period as f64 / self.total as f64;
        let Weight { samples, period, .. } = weight;
        Frame { name, kind, depth, start: share(start), share: share(period), samples, period, change: None }
    }
}
