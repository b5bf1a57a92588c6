//! From stacks to the frames of a flame graph.

use rustc_hash::FxHashMap;
use xprof_profile::profile::{EventStacks, FunctionName, Stacks, Value};

/// Most frames that are drawn: as many as a browser draws and searches without a pause.
const MOST_FRAMES: usize = 8000;
/// Deepest frame that is drawn. What is called from there is said to be deeper.
const DEEPEST: usize = 1000;
/// The narrowest frame that is drawn, as a share of the whole: a tenth of a pixel of 1,200.
const NARROWEST: f64 = 0.1 / 1200.0;

/// What kind of code a frame is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A thread's name, or all of them.
    Thread,
    /// A program or library.
    User,
    /// Code made at run time.
    Jit,
    /// The kernel.
    Kernel,
    /// The hypervisor.
    Hypervisor,
    /// Several frames that are too narrow to be drawn.
    Small,
}

impl Kind {
    /// All kinds, in the order of the legend.
    pub const ALL: [Kind; 6] = [Kind::Thread, Kind::User, Kind::Jit, Kind::Kernel, Kind::Hypervisor, Kind::Small];

    /// Its word in the legend.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Thread => "thread",
            Kind::User => "user",
            Kind::Jit => "JIT",
            Kind::Kernel => "kernel",
            Kind::Hypervisor => "hypervisor",
            Kind::Small => "too small to show",
        }
    }

    fn of(function: &FunctionName) -> Kind {
        match function.letter {
            'k' | 'g' => Kind::Kernel,
            'H' => Kind::Hypervisor,
            _ if function.path.starts_with("//anon") || function.path.contains("/memfd:") => Kind::Jit,
            _ if function.path.starts_with("[heap]") || function.path.starts_with("[JIT]") => Kind::Jit,
            _ => Kind::User,
        }
    }
}

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
    /// Frames, from the root upwards, from left to right. The first is the root; empty without samples.
    pub frames: Vec<Frame>,
    /// Frames that are not drawn for themselves.
    pub small: usize,
    /// Share of what is only in the recording that is compared, 0 to 1.
    pub gone: f64,
}

/// What is summed up at a node of the tree.
#[derive(Clone, Copy, Debug, Default)]
struct Weight {
    samples: u64,
    period: u64,
    /// Period in the recording that is compared.
    before: u64,
}

#[derive(Debug, Default)]
struct Node {
    weight: Weight,
    /// By name.
    children: FxHashMap<usize, usize>,
}

/// The names of frames, each once.
#[derive(Debug, Default)]
struct Names {
    ids: FxHashMap<(String, Kind), usize>,
    list: Vec<(String, Kind)>,
}

impl Names {
    fn id(&mut self, name: String, kind: Kind) -> usize {
        let key = (name, kind);
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        self.list.push(key.clone());
        self.ids.insert(key, self.list.len() - 1);
        self.list.len() - 1
    }
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
        let ids: Vec<usize> = stacks.functions.iter().map(|f| self.names.id(name(f), Kind::of(f))).collect();
        for stack in &event.stacks {
            let weight = match is_before {
                true => Weight { samples: 0, period: 0, before: stack.period },
                false => Weight { samples: stack.samples, period: stack.period, before: 0 },
            };
            let thread = stack.values.first().map(|value| self.names.id(value.to_string(), Kind::Thread));
            let functions = stack.functions.iter().rev().filter_map(|f| ids.get(f.0 as usize).copied());
            let mut at = 0;
            self.grow(at, weight);
            for name in thread.into_iter().chain(functions).take(DEEPEST) {
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
        let mut graph = Graph { event: event.name.clone(), frames: Vec::new(), small: 0, gone: 0.0 };
        if root.period == 0 {
            return graph;
        }
        let order = alphabetical(&tree.names.list);
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
                Some(id) => tree.names.list[id].clone(),
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

/// The rank of every name.
fn alphabetical(names: &[(String, Kind)]) -> Vec<usize> {
    let mut sorted: Vec<usize> = (0..names.len()).collect();
    sorted.sort_by(|&a, &b| names[a].cmp(&names[b]));
    let mut order = vec![0; names.len()];
    for (rank, id) in sorted.into_iter().enumerate() {
        order[id] = rank;
    }
    order
}

/// The smallest period of a frame that is drawn: so large that no more than [`MOST_FRAMES`] are.
fn narrowest(tree: &Tree) -> u64 {
    let visible = (tree.total as f64 * NARROWEST).ceil() as u64;
    let mut periods: Vec<u64> = tree.nodes.iter().map(|node| node.weight.period).collect();
    if periods.len() <= MOST_FRAMES {
        return visible.max(1);
    }
    periods.sort_unstable_by_key(|&period| std::cmp::Reverse(period));
    visible.max(periods[MOST_FRAMES].saturating_add(1)).max(1)
}

fn name(function: &FunctionName) -> String {
    match &function.symbol {
        Value::Text(name) => name.to_string(),
        address => format!("{address} [{}]", function.dso),
    }
}
