//! What frames are: their names, and the kind of code that gives them their colour.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;
use xprof_profile::profile::{FunctionName, Key, Stack, Value};

/// What kind of code a frame is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A domain of a Xen host.
    Domain,
    /// A thread's name, or all of them.
    Thread,
    /// A program or library.
    User,
    /// A function that was compiled into the one below it.
    Inline,
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
    pub const ALL: [Kind; 8] =
        [Kind::Domain, Kind::Thread, Kind::User, Kind::Inline, Kind::Jit, Kind::Kernel, Kind::Hypervisor, Kind::Small];

    /// Its word in the legend.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Domain => "domain",
            Kind::Thread => "thread",
            Kind::User => "user",
            Kind::Inline => "inlined",
            Kind::Jit => "JIT",
            Kind::Kernel => "kernel",
            Kind::Hypervisor => "hypervisor",
            Kind::Small => "too small to show",
        }
    }

    fn of(function: &FunctionName) -> Kind {
        match function.letter {
            _ if function.inlined => Kind::Inline,
            'k' | 'g' => Kind::Kernel,
            'H' => Kind::Hypervisor,
            _ if function.path.starts_with("//anon") || function.path.contains("/memfd:") => Kind::Jit,
            _ if function.path.starts_with("[heap]") || function.path.starts_with("[JIT]") => Kind::Jit,
            _ => Kind::User,
        }
    }
}

/// The names of frames, each once.
#[derive(Debug, Default)]
pub(super) struct Names {
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

    /// The frame of a function.
    pub(super) fn function(&mut self, function: &FunctionName) -> usize {
        let name = match &function.symbol {
            Value::Text(name) => name.to_string(),
            address => format!("{address} [{}]", function.dso),
        };
        self.id(name, Kind::of(function))
    }

    /// The frames below the functions of a stack, the outermost first: its domain and its thread.
    pub(super) fn outermost(&mut self, keys: &[Key], stack: &Stack) -> Vec<usize> {
        let mut frames: Vec<(String, Kind)> = Vec::new();
        for (key, value) in keys.iter().zip(&stack.values) {
            match (key, frames.last_mut()) {
                (Key::Domain, _) => frames.push((value.to_string(), Kind::Domain)),
                (Key::Comm, _) => frames.push((value.to_string(), Kind::Thread)),
                (Key::Tid, Some((name, _))) => {
                    let _ = write!(name, " {value}");
                }
                _ => {}
            }
        }
        frames.into_iter().map(|(name, kind)| self.id(name, kind)).collect()
    }

    /// Name and kind of a frame.
    pub(super) fn get(&self, id: usize) -> (String, Kind) {
        self.list[id].clone()
    }

    /// Length of a name, bytes.
    pub(super) fn len_of(&self, id: usize) -> usize {
        self.list[id].0.len()
    }

    /// The rank of every name.
    pub(super) fn alphabetical(&self) -> Vec<usize> {
        let names = &self.list;
        let mut sorted: Vec<usize> = (0..names.len()).collect();
        sorted.sort_by(|&a, &b| names[a].cmp(&names[b]));
        let mut order = vec![0; names.len()];
        for (rank, id) in sorted.into_iter().enumerate() {
            order[id] = rank;
        }
        order
    }
}
