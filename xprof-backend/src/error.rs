//! Library errors: what was attempted, on which CPU, process or event, and the system's answer. The command adds the remedy.

use std::io;

/// An error of a backend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {attempt}: {source}")]
    Os {
        /// What was attempted, with its object: "open event cpu-clock for thread 42 on CPU 3".
        attempt: String,
        /// The answer.
        source: io::Error,
    },
    /// `perf_event_open` failed after all fallbacks.
    #[error("cannot open event {event}{}: {source}", place(.pid, .cpu))]
    Open {
        /// The event's name.
        event: String,
        /// Thread, if any.
        pid: Option<i32>,
        /// CPU, if any.
        cpu: Option<u32>,
        /// How many descriptors were open by then.
        opened: usize,
        /// The answer.
        source: io::Error,
    },
    /// An event expression is wrong.
    #[error("event {text:?}: {problem}")]
    Event {
        /// The whole expression.
        text: String,
        /// Byte offset of the problem in it.
        at: usize,
        /// What is wrong, and what it might have been.
        problem: String,
    },
    /// More descriptors are needed than this user may open.
    #[error(
        "{needed} open files are needed for {threads} threads on {cpus} CPUs with {events} events, the limit is {limit}"
    )]
    TooManyFiles {
        /// Descriptors needed in all.
        needed: u64,
        /// The limit, after it was raised as far as allowed.
        limit: u64,
        /// Threads to be opened.
        threads: usize,
        /// CPUs each is opened on.
        cpus: usize,
        /// Events each is opened with (the side-band dummy not counted).
        events: usize,
    },
    /// A target does not exist (any more).
    #[error("{what} does not exist")]
    NoTarget {
        /// "process 4242", "CPU 99", "cgroup foo".
        what: String,
    },
    /// The perf_event controller's hierarchy is mounted nowhere.
    #[error("no cgroup file system with the perf_event controller is mounted")]
    NoCgroups,
    /// A recording that `replay` was to read is unusable.
    #[error(transparent)]
    Recording(#[from] xprof_perfdata::Error),
    /// Xen does not answer, or refuses.
    #[error(transparent)]
    Xen(#[from] crate::sys::xen::XenError),
    /// The contract on registers failed.
    #[error(transparent)]
    Registers(#[from] crate::msr::Error),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn place(pid: &Option<i32>, cpu: &Option<u32>) -> String {
    match (pid, cpu) {
        (Some(p), Some(c)) => format!(" for thread {p} on CPU {c}"),
        (Some(p), None) => format!(" for thread {p}"),
        (None, Some(c)) => format!(" on CPU {c}"),
        (None, None) => String::new(),
    }
}

impl Error {
    /// Shorthand for [`Error::Os`].
    pub fn os(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { attempt: attempt.into(), source: source.into() }
    }
}
