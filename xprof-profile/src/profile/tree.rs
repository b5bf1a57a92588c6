//! Call trees: the stacks of one row, folded into a tree.
//!
//! Recursion is folded: where a function is on the way to a node already, the way goes on from there, so that a function
//! calls itself through as many others as it likes and stands once. Every step from a node to one below it is a call that
//! was seen, and a node's weight is that of the stacks that pass it, each counted once: what ends in a node and the nodes
//! below it together are the node.

use rustc_hash::FxHashMap;

use super::cells::Sum;
use super::names::FunctionId;

/// Which way call trees grow, in perf's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From callers to callees.
    Caller,
    /// From callees to callers.
    Callee,
    /// No tree: every stack by itself.
    Flat,
}

/// How call trees are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trees {
    /// Which way.
    pub order: Order,
    /// Nodes below this share of the event's period are put together, percent.
    pub limit: f64,
    /// Functions that were compiled into others are nodes of their own.
    pub inline: bool,
}

/// A node of a call tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The function; `None` in the node of all that the limit leaves out.
    pub function: Option<FunctionId>,
    /// Samples whose stacks pass here.
    pub samples: u64,
    /// Their periods.
    pub period: u64,
    /// Periods of those that end here.
    pub own: u64,
    /// What comes next, by falling period.
    pub nodes: Vec<Node>,
}

/// Levels of a tree; of a deeper stack the rest counts for the last node.
const MOST_LEVELS: usize = 255;

/// Node of nothing.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    function: u32,
    /// First node below, and the next one beside it.
    below: u32,
    beside: u32,
    sum: Sum,
    own: u64,
}

/// Trees while they are added up, all in one place.
#[derive(Debug, Default)]
pub(super) struct Arena {
    entries: Vec<Entry>,
    index: FxHashMap<(u32, u32), u32>,
    way: Vec<u32>,
}

impl Arena {
    /// A new tree; its root.
    pub(super) fn root(&mut self) -> u32 {
        self.push(NONE)
    }

    fn push(&mut self, function: u32) -> u32 {
        self.entries.push(Entry { function, below: NONE, beside: NONE, sum: Sum::default(), own: 0 });
        (self.entries.len() - 1) as u32
    }

    fn next(&mut self, node: u32, function: u32) -> u32 {
        let fresh = self.entries.len() as u32;
        let next = *self.index.entry((node, function)).or_insert(fresh);
        if next == fresh {
            self.push(function);
            if let Some(parent) = self.entries.get_mut(node as usize) {
                let beside = std::mem::replace(&mut parent.below, next);
                self.entries[next as usize].beside = beside;
            }
        }
        next
    }

    /// Adds a stack below a root. `anchor` is the function that the root stands for, if it stands for one. A function that was
    /// compiled into another is known by its name alone, so only where it follows itself is it taken for recursion: the flag
    /// says so.
    pub(super) fn add(
        &mut self,
        root: u32,
        anchor: Option<FunctionId>,
        stack: impl Iterator<Item = (FunctionId, bool)>,
        sum: Sum,
    ) {
        let mut way = std::mem::take(&mut self.way);
        way.clear();
        way.push(anchor.map_or(NONE, |f| f.0));
        for (FunctionId(function), inlined) in stack {
            let seen = if inlined { way.len().saturating_sub(1) } else { 0 };
            if let Some(at) = way[seen..].iter().rposition(|&f| f == function).map(|at| at + seen) {
                way.truncate(at + 1);
            } else if way.len() <= MOST_LEVELS {
                way.push(function);
            }
        }
        let mut node = root;
        self.count(node, sum);
        for &function in &way[1..] {
            node = self.next(node, function);
            self.count(node, sum);
        }
        if let Some(entry) = self.entries.get_mut(node as usize) {
            entry.own = entry.own.saturating_add(sum.period);
        }
        self.way = way;
    }

    fn count(&mut self, node: u32, sum: Sum) {
        if let Some(entry) = self.entries.get_mut(node as usize) {
            entry.sum.samples += sum.samples;
            entry.sum.period = entry.sum.period.saturating_add(sum.period);
        }
    }

    /// Periods of the stacks that pass a node.
    pub(super) fn period(&self, node: u32) -> u64 {
        self.entries.get(node as usize).map_or(0, |entry| entry.sum.period)
    }

    /// The nodes below one, those of less than `least` put together.
    pub(super) fn below(&self, node: u32, least: u64) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut rest = Node { function: None, samples: 0, period: 0, own: 0, nodes: Vec::new() };
        let mut next = self.entries.get(node as usize).map_or(NONE, |e| e.below);
        while let Some(entry) = self.entries.get(next as usize) {
            let Sum { samples, period } = entry.sum;
            if period < least {
                rest.samples += samples;
                rest.period = rest.period.saturating_add(period);
                rest.own = rest.period;
            } else {
                let function = Some(FunctionId(entry.function));
                nodes.push(Node { function, samples, period, own: entry.own, nodes: self.below(next, least) });
            }
            next = entry.beside;
        }
        nodes.sort_by_key(|n| (std::cmp::Reverse(n.period), n.function));
        if rest.samples > 0 {
            nodes.push(rest);
        }
        nodes
    }

    /// The stacks below a root, each from its first node to where it ends; those of less than `least` put together.
    pub(super) fn chains(&self, root: u32, least: u64) -> Vec<Chain> {
        let mut chains = Vec::new();
        let mut rest = Chain { functions: Vec::new(), period: 0 };
        let mut way = Vec::new();
        self.gather(root, least, &mut way, &mut chains, &mut rest);
        chains.sort_by(|a, b| (b.period, &a.functions).cmp(&(a.period, &b.functions)));
        if rest.period > 0 {
            chains.push(rest);
        }
        chains
    }

    fn gather(&self, node: u32, least: u64, way: &mut Vec<FunctionId>, chains: &mut Vec<Chain>, rest: &mut Chain) {
        let Some(entry) = self.entries.get(node as usize) else { return };
        if entry.own > 0 && entry.own < least {
            rest.period = rest.period.saturating_add(entry.own);
        } else if entry.own > 0 {
            chains.push(Chain { functions: way.clone(), period: entry.own });
        }
        let mut next = entry.below;
        while let Some(entry) = self.entries.get(next as usize) {
            way.push(FunctionId(entry.function));
            self.gather(next, least, way, chains, rest);
            way.pop();
            next = entry.beside;
        }
    }
}

/// A stack by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its functions, leaf first; empty in the one of all that the limit leaves out.
    pub functions: Vec<FunctionId>,
    /// Periods of its samples.
    pub period: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(stacks: &[(&[u32], u64)], least: u64) -> Vec<Node> {
        let mut arena = Arena::default();
        let root = arena.root();
        for &(stack, period) in stacks {
            let stack = stack.iter().map(|&f| (FunctionId(f), f >= 1 << 20));
            arena.add(root, None, stack, Sum { samples: 1, period });
        }
        arena.below(root, least)
    }

    fn shape(nodes: &[Node]) -> String {
        let one = |n: &Node| {
            let name = n.function.map_or("..".into(), |f| f.0.to_string());
            let below = shape(&n.nodes);
            format!("{name}={}{}", n.period, if below.is_empty() { below } else { format!("({below})") })
        };
        nodes.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn stacks_share_the_nodes_they_have_in_common() {
        assert_eq!(
            shape(&tree(&[(&[1, 2, 3], 5), (&[1, 2], 2), (&[1, 4], 9), (&[5], 1)], 0)),
            "1=16(4=9 2=7(3=5)) 5=1"
        );
    }

    #[test]
    fn recursion_is_folded() {
        // main, even, odd, even, odd, leaf; main, even, even, leaf; the function between two calls of one is left out.
        assert_eq!(shape(&tree(&[(&[0, 1, 2, 1, 2, 9], 1)], 0)), "0=1(1=1(2=1(9=1)))");
        assert_eq!(shape(&tree(&[(&[0, 1, 1, 1, 9], 1), (&[0, 1, 9], 1)], 0)), "0=2(1=2(9=2))");
        assert_eq!(shape(&tree(&[(&[0, 1, 2, 1, 9], 1)], 0)), "0=1(1=1(9=1))");
        // One that was compiled into others stays where it comes again, but for once behind itself.
        let inlined = 1 << 20;
        let ways = shape(&tree(&[(&[0, inlined, inlined, 1, inlined], 1)], 0));
        assert_eq!(ways, "0=1(1048576=1(1=1(1048576=1)))");
        let deep: Vec<u32> = (0..200_000).map(|i| i % 1000).collect();
        assert_eq!(shape(&tree(&[(&deep, 1)], 0)).matches('=').count(), MOST_LEVELS);
    }

    #[test]
    fn a_node_is_what_ends_in_it_and_the_nodes_below() {
        fn check(node: &Node) {
            let below: u64 = node.nodes.iter().map(|n| n.period).sum();
            assert_eq!(node.period, node.own + below, "{node:?}");
            node.nodes.iter().for_each(check);
        }
        let stacks: &[(&[u32], u64)] =
            &[(&[1, 2, 3], 5), (&[1, 2], 2), (&[1, 3, 1, 4], 9), (&[1, 1, 1], 1), (&[1, 7], 1)];
        for least in [0, 2, 6, 100] {
            let nodes = tree(stacks, least);
            nodes.iter().for_each(check);
            assert_eq!(nodes.iter().map(|n| n.period).sum::<u64>(), 18);
        }
        assert_eq!(shape(&tree(stacks, 6)), "1=18(4=9 2=7(..=5) ..=1)");
    }

    #[test]
    fn flat_is_every_stack_by_itself() {
        let mut arena = Arena::default();
        let root = arena.root();
        for (stack, period) in [(&[3, 2, 1][..], 5), (&[2, 1], 7), (&[4], 1)] {
            arena.add(root, None, stack.iter().map(|&f| (FunctionId(f), false)), Sum { samples: 1, period });
        }
        let chains = |least| {
            let chains = arena.chains(root, least);
            chains
                .iter()
                .map(|c| (c.functions.iter().map(|f| f.0).collect(), c.period))
                .collect::<Vec<(Vec<u32>, u64)>>()
        };
        assert_eq!(chains(0), [(vec![2, 1], 7), (vec![3, 2, 1], 5), (vec![4], 1)]);
        assert_eq!(chains(6), [(vec![2, 1], 7), (vec![], 6)]);
    }
}
