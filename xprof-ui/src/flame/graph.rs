//! From stacks to the frames of a flame graph.

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, Stacks, Value};

use super::kind::{Kind, Names};

/// Most frames that are drawn: as many as a browser draws and searches without a pause.
pub(super) const MOST_FRAMES: usize = 8000;
/// Bytes of a picture, about; and of what a frame takes besides its name, a short one's text included.
pub(super) const MOST_BYTES: usize = 1_800_000;
const AROUND_A_NAME: usize = 215;
/// Longest name that is drawn, bytes; of a longer one the middle is left out.
pub(super) const LONGEST_NAME: usize = 400;
/// Deepest frame that is drawn. What is called from there is said to be deeper.
pub(super) const DEEPEST: usize = 1000;
/// The narrowest frame that is drawn, as a share of the whole: a tenth of a pixel of 1,200.
pub(super) const NARROWEST: f64 = 0.1 / 1200.0;

/// One frame: some code, called by the frame below it.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Name of the function, the thread, or the code's address and module.
    pub name: String,
    /// Kind of code.
    pub kind: Kind,
    /// Frames below it.
    pub depth: usize,
    /// Where it begins, 0 to 1.
    pub start: f64,
    /// Its share of the whole, 0 to 1.
    pub share: f64,
    /// Samples in it and in what it calls.
    pub samples: u64,
    /// Their periods (events).
    pub period: u64,
    /// How its share changed against the recording that is compared, -1 to 1; `None` without one.
    pub change: Option<f64>,
}

/// The frames of a flame graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Name of the event.
    pub event: String,
    /// From left to right is the order in time, thread beside thread, and nothing is added up ([`Graph::chart`]).
    pub by_time: bool,
    /// Frames, from the root upwards, from left to right. The first is the root; empty without samples.
    pub frames: Vec<Frame>,
    /// Frames that are not drawn for themselves.
    pub small: usize,
    /// Share of what is only in the recording that is compared, 0 to 1.
    pub gone: f64,
}

/// What is summed up at a node of the tree.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) samples: u64,
    pub(super) period: u64,
    /// Period in the recording that is compared.
    before: u64,
}

#[derive(Debug, Default)]
struct Node {
    weight: Weight,
    /// By name.
    children: FxHashMap<usize, usize>,
}

/// A tree of stacks under way.
#[derive(Debug)]
struct Tree {
    names: Names,
    nodes: Vec<Node>,
    total: u64,
    total_before: u64,
}

impl Tree {
    fn add(&mut self, stacks: &Stacks, event: &EventStacks, is_before: bool) {
        let ids: Vec<usize> = stacks.functions.iter().map(|function| self.names.function(function)).collect();
        let mut outer: FxHashMap<&[Value], Vec<usize>> = FxHashMap::default();
        // The last value is the leaf's.
        for stack in &event.stacks {
            let weight = match is_before {
                true => Weight { samples: 0, period: 0, before: stack.period },
                false => Weight { samples: stack.samples, period: stack.period, before: 0 },
            };
            let whose = &stack.values[..stack.values.len().saturating_sub(1)];
            let outer = outer.entry(whose).or_insert_with(|| self.names.outermost(&stacks.keys, stack));
            let functions = stack.functions.iter().rev().filter_map(|f| ids.get(f.0 as usize).copied());
            let mut at = 0;
            self.grow(at, weight);
            for name in outer.iter().copied().chain(functions).take(DEEPEST) {
                let next = self.nodes.len();
                let child = *self.nodes[at].children.entry(name).or_insert(next);
                if child == next {
                    self.nodes.push(Node::default());
                }
                at = child;
                self.grow(at, weight);
            }
        }
    }

    fn grow(&mut self, at: usize, weight: Weight) {
        let sum = &mut self.nodes[at].weight;
        sum.samples += weight.samples;
        sum.period = sum.period.saturating_add(weight.period);
        sum.before = sum.before.saturating_add(weight.before);
    }
}

impl Graph {
    /// The graph of one event's stacks; with `before`, each frame says how its share changed since then.
    pub fn new(stacks: &Stacks, event: &EventStacks, before: Option<(&Stacks, &EventStacks)>) -> Graph {
        let mut tree = Tree { names: Names::default(), nodes: vec![Node::default()], total: 0, total_before: 0 };
        tree.add(stacks, event, false);
        if let Some((stacks, event)) = before {
            tree.add(stacks, event, true);
        }
        let root = tree.nodes[0].weight;
        (tree.total, tree.total_before) = (root.period, root.before);
        let mut graph = Graph { event: event.name.clone(), ..Graph::default() };
        if root.period == 0 {
            return graph;
        }
        let order = tree.names.alphabetical();
        let narrowest = narrowest(&tree);
        graph.place(&tree, &order, narrowest, before.is_some());
        graph
    }

    fn place(&mut self, tree: &Tree, order: &[usize], narrowest: u64, compares: bool) {
        let share = |period: u64| period as f64 / tree.total as f64;
        let change = |weight: Weight| {
            let before = if tree.total_before == 0 { 0.0 } else { weight.before as f64 / tree.total_before as f64 };
            compares.then(|| share(weight.period) - before)
        };
        // (node, name, depth, start): the next to be drawn is the last.
        let mut waiting: Vec<(usize, Option<usize>, usize, u64)> = vec![(0, None, 0, 0)];
        while let Some((at, name, depth, start)) = waiting.pop() {
            let node = &tree.nodes[at];
            let (name, kind) = match name {
                Some(id) => tree.names.get(id),
                None => ("all".to_owned(), Kind::Thread),
            };
            let Weight { samples, period, .. } = node.weight;
            let start_share = share(start);
            self.frames.push(Frame {
                name,
                kind,
                depth,
                start: start_share,
                share: share(period),
                samples,
                period,
                change: change(node.weight),
            });
            let mut children: Vec<(usize, usize)> = node.children.iter().map(|(&name, &child)| (name, child)).collect();
            children.sort_by_key(|&(name, _)| order[name]);
            let (mut next, mut small) = (start, Weight::default());
            let mut count = 0;
            let mut shown = Vec::new();
            for (name, child) in children {
                let weight = tree.nodes[child].weight;
                if weight.period == 0 {
                    let before = if tree.total_before == 0 { 0 } else { weight.before };
                    self.gone += before as f64 / tree.total_before.max(1) as f64;
                } else if weight.period < narrowest {
                    count += 1;
                    small.samples += weight.samples;
                    small.period = small.period.saturating_add(weight.period);
                    small.before = small.before.saturating_add(weight.before);
                } else {
                    shown.push((child, Some(name), depth + 1, next));
                    next = next.saturating_add(weight.period);
                }
            }
            self.small += count;
            if small.period >= narrowest {
                self.frames.push(Frame {
                    name: format!("{count} functions too small to show"),
                    kind: Kind::Small,
                    depth: depth + 1,
                    start: share(next),
                    share: share(small.period),
                    samples: small.samples,
                    period: small.period,
                    change: change(small),
                });
            }
            waiting.extend(shown.into_iter().rev());
        }
    }
}

/// The smallest period of a frame that is drawn: so large that no more are than a browser draws and a file should hold.
fn narrowest(tree: &Tree) -> u64 {
    let visible = ((tree.total as f64 * NARROWEST).ceil() as u64).max(1);
    let children = tree.nodes.iter().flat_map(|node| &node.children);
    let mut frames: Vec<(u64, usize)> = children
        .map(|(&name, &child)| (tree.nodes[child].weight.period, size(tree.names.len_of(name))))
        .filter(|&(period, _)| period >= visible)
        .collect();
    frames.sort_unstable_by_key(|&(period, _)| std::cmp::Reverse(period));
    let mut bytes = 0;
    let full = frames.iter().take(MOST_FRAMES).position(|&(_, size)| {
        bytes += size;
        bytes > MOST_BYTES
    });
    let first_left_out = frames.get(full.unwrap_or(MOST_FRAMES));
    first_left_out.map_or(visible, |&(period, _)| period.saturating_add(1))
}

/// About how many bytes a frame takes that has a name of this length.
pub(super) fn size(name: usize) -> usize {
    AROUND_A_NAME + name.min(LONGEST_NAME) * 5 / 4
}
