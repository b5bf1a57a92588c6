//! Threads and their names.

use rustc_hash::FxHashMap;
use xprof_perfdata::record::Task;

/// The idle task's pid on every CPU; perf calls it `swapper`.
pub(super) const IDLE: u32 = 0;

/// A thread under one name: changes when the thread calls itself something else. Dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId(pub u32);

/// What a [`ThreadId`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskKey {
    /// Process.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name, an index for [`Tasks::comm`].
    pub comm: ThreadName,
}

/// An interned comm. Dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadName(pub u32);

#[derive(Clone, Copy, Debug)]
struct Thread {
    pid: u32,
    comm: ThreadName,
    /// A record said the name; else it is made of the number, and children get one of their own.
    named: bool,
    id: Option<ThreadId>,
}

/// All threads, living and dead, by their number (`Numbers`: of the host the tid).
#[derive(Debug, Default)]
pub struct Tasks {
    by_tid: FxHashMap<u32, Thread>,
    ids: FxHashMap<TaskKey, ThreadId>,
    keys: Vec<TaskKey>,
    comm_ids: FxHashMap<Vec<u8>, ThreadName>,
    comms: Vec<Vec<u8>>,
}

impl Tasks {
    /// Only the idle task is known.
    pub fn new() -> Tasks {
        let mut tasks = Tasks::default();
        tasks.set_comm(IDLE, (IDLE, IDLE), b"swapper");
        tasks
    }

    fn name(&mut self, comm: &[u8]) -> ThreadName {
        if let Some(&name) = self.comm_ids.get(comm) {
            return name;
        }
        let name = ThreadName(self.comms.len() as u32);
        self.comms.push(comm.to_vec());
        self.comm_ids.insert(comm.to_vec(), name);
        name
    }

    fn found(&mut self, number: u32, (pid, tid): (u32, u32)) -> &mut Thread {
        if !self.by_tid.contains_key(&number) {
            let comm = self.name(format!(":{}", tid as i32).as_bytes());
            self.by_tid.insert(number, Thread { pid, comm, named: false, id: None });
        }
        let nobody = Thread { pid, comm: ThreadName(0), named: false, id: None };
        let thread = self.by_tid.entry(number).or_insert(nobody);
        if thread.pid == u32::MAX && pid != u32::MAX {
            thread.pid = pid;
            thread.id = None;
        }
        thread
    }

    pub(super) fn seen(&mut self, number: u32, ids: (u32, u32)) {
        self.found(number, ids);
    }

    pub(super) fn set_comm(&mut self, number: u32, ids: (u32, u32), comm: &[u8]) {
        let comm = self.name(comm);
        let thread = self.found(number, ids);
        let unnamed = if thread.named { None } else { thread.id };
        thread.comm = comm;
        thread.named = true;
        thread.id = None;
        // The first name is also that of the time before.
        if let Some(key) = unnamed.and_then(|id| self.keys.get_mut(id.0 as usize)) {
            self.ids.remove(key);
            key.comm = comm;
        }
    }

    pub(super) fn fork(&mut self, number: u32, parent: u32, task: &Task) {
        let parent = *self.found(parent, (task.ppid, task.ptid));
        self.by_tid.remove(&number);
        let child = self.found(number, (task.pid, task.tid));
        if parent.named {
            child.comm = parent.comm;
            child.named = true;
        }
    }

    pub(super) fn thread(&mut self, number: u32, (pid, tid): (u32, u32)) -> ThreadId {
        if let Some(Thread { id: Some(id), .. }) = self.by_tid.get(&number) {
            return *id;
        }
        let thread = self.found(number, (pid, tid));
        let key = TaskKey { pid: thread.pid, tid, comm: thread.comm };
        let next = ThreadId(self.keys.len() as u32);
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            self.keys.push(key);
        }
        if let Some(thread) = self.by_tid.get_mut(&number) {
            thread.id = Some(id);
        }
        id
    }

    /// What a thread id stands for.
    pub fn key(&self, id: ThreadId) -> TaskKey {
        self.keys.get(id.0 as usize).copied().unwrap_or(TaskKey { pid: 0, tid: 0, comm: ThreadName(0) })
    }

    /// Number of thread ids given out.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True when no thread id was given out.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes of a comm.
    pub fn comm(&self, name: ThreadName) -> &[u8] {
        self.comms.get(name.0 as usize).map_or(b"", Vec::as_slice)
    }

    /// The name that a thread has now.
    pub(super) fn comm_of(&self, number: u32) -> Option<&[u8]> {
        self.by_tid.get(&number).map(|thread| self.comm(thread.comm))
    }
}
