//! Who was mapped where, when: tasks and address spaces, advanced by records in time order.
//!
//! The state is that of the last record applied, as in the kernel itself; samples are placed while it holds. The
//! rules are perf's (`tools/perf/util/{machine,thread,map}.c`), so that sums by comm and DSO are equal, but for one:
//! an exec empties the address space, where perf leaves the old image's maps behind the new ones.

mod module;
mod space;
mod task;

pub use module::{ModuleId, Modules};
pub use space::{Map, Place, Space};
pub use task::{TaskKey, Tasks, ThreadId, ThreadName};

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::misc;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::record::{Ksymbol, Mmap, Record};

use crate::supply::BuildId;
use crate::symbols::ModuleKind;

/// Where the CPU was: the cpumode of a sample's misc, or of a context marker in its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mode {
    /// Not said.
    Unknown,
    /// Host kernel.
    Kernel,
    /// Host user space.
    User,
    /// Hypervisor.
    Hypervisor,
    /// Guest kernel.
    GuestKernel,
    /// Guest user space.
    GuestUser,
}

impl Mode {
    /// The cpumode of a record's misc ([`misc::CPUMODE_MASK`]).
    pub fn of(record_misc: u16) -> Mode {
        match record_misc & misc::CPUMODE_MASK {
            misc::KERNEL => Mode::Kernel,
            misc::USER => Mode::User,
            misc::HYPERVISOR => Mode::Hypervisor,
            misc::GUEST_KERNEL => Mode::GuestKernel,
            misc::GUEST_USER => Mode::GuestUser,
            _ => Mode::Unknown,
        }
    }

    /// perf's letter for it, printed before a symbol: `k`, `.`, `g`, `u`, `H`.
    pub fn letter(self) -> char {
        match self {
            Mode::Kernel => 'k',
            Mode::User => '.',
            Mode::GuestKernel => 'g',
            Mode::GuestUser => 'u',
            Mode::Hypervisor | Mode::Unknown => 'H',
        }
    }

    /// Name of the key `mode`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Unknown => "unknown",
            Mode::Kernel => "kernel",
            Mode::User => "user",
            Mode::Hypervisor => "hypervisor",
            Mode::GuestKernel => "guest-kernel",
            Mode::GuestUser => "guest-user",
        }
    }
}

/// The state of the host's tasks and address spaces.
#[derive(Debug)]
pub struct Timeline {
    tasks: Tasks,
    spaces: FxHashMap<u32, Space>,
    kernel: Space,
    modules: Modules,
    cgroups: FxHashMap<u64, Vec<u8>>,
    epochs: u32,
}

impl Timeline {
    /// Nothing is known yet. `build_ids` is the table of the recording's header: it gives a build id to modules whose
    /// MMAP2 records carry none.
    pub fn new(build_ids: &[BuildIdEntry]) -> Timeline {
        Timeline {
            tasks: Tasks::new(),
            spaces: FxHashMap::default(),
            kernel: Space::new(0),
            modules: Modules::new(build_ids),
            cgroups: FxHashMap::default(),
            epochs: 1,
        }
    }

    /// Applies a side-band record; records that change nothing here are ignored. `record_misc` is the header's misc.
    pub fn apply(&mut self, record: &Record, record_misc: u16) {
        match record {
            Record::Mmap(mmap) => self.mmap(mmap, record_misc),
            Record::Comm(comm) => {
                let by_exec = record_misc & misc::COMM_EXEC != 0;
                self.tasks.set_comm(comm.task.pid, comm.task.tid, &comm.comm);
                if by_exec {
                    let epoch = self.next_epoch();
                    self.spaces.insert(comm.task.pid, Space::new(epoch));
                }
            }
            Record::Fork(task) => {
                self.tasks.fork(task);
                if task.pid != task.ppid {
                    // A FORK that perf made for a process that was already running is followed by its own maps.
                    let made_up = record_misc & misc::FORK_EXEC != 0;
                    let epoch = self.next_epoch();
                    let space = match self.spaces.get(&task.ppid) {
                        Some(parent) if !made_up => parent.fork(epoch),
                        _ => Space::new(epoch),
                    };
                    self.spaces.insert(task.pid, space);
                }
            }
            Record::Ksymbol(ksymbol) => self.ksymbol(ksymbol),
            Record::Cgroup(cgroup) => {
                self.cgroups.insert(cgroup.id, cgroup.path.clone());
            }
            _ => {}
        }
    }

    fn next_epoch(&mut self) -> u32 {
        self.epochs += 1;
        self.epochs
    }

    fn mmap(&mut self, mmap: &Mmap, record_misc: u16) {
        let Some(end) = mmap.start.checked_add(mmap.len) else { return };
        let epoch = self.next_epoch();
        let mode = Mode::of(record_misc);
        if mode == Mode::Kernel || mmap.pid == u32::MAX {
            let image = Modules::is_kernel_image(&mmap.path);
            // Recordings exist in which the kernel's own map is empty: then it is everything above user space.
            let end = if image && mmap.start == 0 && mmap.len == 0 { u64::MAX } else { end };
            if end <= mmap.start {
                return;
            }
            let module = if image { self.modules.kernel(mmap) } else { self.modules.kernel_module(mmap) };
            self.kernel.insert(Map { start: mmap.start, end, pgoff: 0, module, identity: true }, epoch);
            return;
        }
        if end <= mmap.start || !matches!(mode, Mode::User | Mode::Unknown) {
            return;
        }
        let (module, identity) = self.modules.user(mmap);
        self.tasks.seen(mmap.pid, mmap.pid);
        // The vdso is a file of its own: its offset in the record means nothing.
        let is_vdso = self.modules.get(module).is_some_and(|m| m.kind == ModuleKind::Vdso);
        let pgoff = if is_vdso { 0 } else { mmap.pgoff };
        let map = Map { start: mmap.start, end, pgoff, module, identity };
        self.spaces.entry(mmap.pid).or_insert_with(|| Space::new(epoch)).insert(map, epoch);
    }

    fn ksymbol(&mut self, ksymbol: &Ksymbol) {
        /// `PERF_RECORD_KSYMBOL_FLAGS_UNREGISTER`.
        const UNREGISTER: u16 = 1;
        let epoch = self.next_epoch();
        let Some(end) = ksymbol.addr.checked_add(u64::from(ksymbol.len)).filter(|&end| end > ksymbol.addr) else {
            return;
        };
        if ksymbol.flags & UNREGISTER != 0 {
            self.kernel.remove(ksymbol.addr, epoch);
        } else if self.kernel.find(ksymbol.addr).is_none() {
            let module = self.modules.ksymbol(ksymbol);
            self.kernel.insert(Map { start: ksymbol.addr, end, pgoff: 0, module, identity: true }, epoch);
        }
    }

    /// The thread of a sample, with the name it has now. Unknown threads are called `:TID`, as perf does.
    pub fn thread(&mut self, pid: u32, tid: u32) -> ThreadId {
        self.tasks.thread(pid, tid)
    }

    /// Number that changes with every change of what [`Timeline::place`] would answer for this process and mode.
    pub fn epoch(&self, pid: u32, mode: Mode) -> u32 {
        match mode {
            Mode::Kernel => self.kernel.epoch(),
            Mode::User => self.spaces.get(&pid).map_or(0, Space::epoch),
            _ => 0,
        }
    }

    /// What is mapped at an address of a process (or of the kernel).
    pub fn place(&self, pid: u32, mode: Mode, addr: u64) -> Place {
        let space = match mode {
            Mode::Kernel => Some(&self.kernel),
            Mode::User => self.spaces.get(&pid),
            _ => None,
        };
        match space.and_then(|s| s.find(addr)) {
            Some(map) => Place { module: map.module, addr: map.to_module(addr) },
            None => Place { module: Modules::unknown(mode), addr },
        }
    }

    /// The map that covers an address, for views that show it.
    pub fn map(&self, pid: u32, mode: Mode, addr: u64) -> Option<&Map> {
        match mode {
            Mode::Kernel => self.kernel.find(addr),
            Mode::User => self.spaces.get(&pid)?.find(addr),
            _ => None,
        }
    }

    /// The modules seen so far.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// The threads seen so far.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Path of a cgroup by its id.
    pub fn cgroup(&self, id: u64) -> Option<&[u8]> {
        self.cgroups.get(&id).map(Vec::as_slice)
    }

    /// A build id learnt late (pipe mode).
    pub fn add_build_ids(&mut self, entries: &[BuildIdEntry]) {
        self.modules.add_build_ids(entries);
    }
}

/// A build id of the table, without the zeros it may be padded with.
fn build_id(bytes: &[u8]) -> Option<BuildId> {
    let bytes = bytes.get(..20).unwrap_or(bytes);
    bytes.iter().any(|&b| b != 0).then(|| BuildId(bytes.to_vec()))
}

#[cfg(test)]
mod tests;
