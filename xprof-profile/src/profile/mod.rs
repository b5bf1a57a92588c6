//! Samples added up into rows.
//!
//! A [`Builder`] is fed records in time order. It adds samples up in cells (event, thread, code address, stack, ..), whose
//! number depends on the program and not on the length of the recording. [`Builder::finish`] names every code address
//! once and folds the cells into the rows of a [`Profile`], by the [`Key`]s asked for.
//!
//! Sums are perf's, but for what follows from other meanings of words: samples with branch stacks are counted once (perf:
//! `--no-branch-stack`; otherwise it counts branches); a sample taken while a task dies, for which the kernel has no pid
//! left (-1), belongs to the process of its thread; symbols differ for the causes listed in [`crate::symbols`].

mod books;
mod builder;
mod cells;
mod chain;
mod domains;
mod event_table;
mod filter;
mod fold;
mod frames;
mod functions;
mod key;
mod lanes;
mod live;
mod located;
mod names;
mod reads;
mod rows;
mod stacks;
mod times;
mod tree;
mod view;
mod waits;

pub use builder::{Builder, has_domains};
pub(crate) use chain::CALLS;
pub use chain::{FrameAddr, LinkRegister, UnknownMarker, walk};
pub use domains::{DomainTime, HOST, HostTime, Seen, TraceFacts, VcpuStates};
pub use filter::{Filter, TimeRange};
pub use frames::{FrameId, Frames, StackId, chain_hash};
pub use functions::{Function, Functions, Heat};
pub use key::{Key, UnknownKey, Value};
pub use lanes::{Cut, Lane, Lanes, Steps};
pub use live::{Live, SLICES, Snapshot};
pub use located::{Located, LocatedFrame, Mapping};
pub use names::{FunctionAt, FunctionId, FunctionName, Read, Unread};
pub use reads::Reads;
pub use rows::{EventProfile, Profile, Row, Unnamed};
pub use stacks::{EventStacks, Stack, Stacks, Timed};
pub use tree::{Chain, Node, Order, Trees};
pub use view::{Calls, Named, RowOf, View};
