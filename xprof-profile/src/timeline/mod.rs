//! Who was mapped where, when: tasks and address spaces, advanced by records in time order.
//!
//! The state is that of the last record applied, as in the kernel itself; samples are placed while it holds. The
//! rules are perf's (`tools/perf/util/{machine,thread,map}.c`), so that sums by comm and DSO are equal: an exec leaves the
//! old image's maps behind the new ones, and the stack of a sample inside of it its names.

mod guest;
mod module;
mod space;
mod task;

pub use guest::DEFAULT_GUEST;
pub use module::{ModuleId, Modules};
pub use space::{Map, Place, Space};
pub use task::{TaskKey, Tasks, ThreadId, ThreadName};

use rustc_hash::FxHashMap;
use xprof_perfdata::abi::misc;
use xprof_perfdata::domain::{Guest, Guests};
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::record::{Ksymbol, Mmap, Record};

use guest::{Machine, Numbers};

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

    /// The mode as seen from the host.
    fn in_guest(self) -> Mode {
        match self {
            Mode::Kernel => Mode::GuestKernel,
            Mode::User => Mode::GuestUser,
            other => other,
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
    /// Which guest a sample id stands for.
    guests: Guests,
    numbers: Numbers,
    machines: FxHashMap<u32, Machine>,
    /// The one program of a guest, by its machine.
    programs: FxHashMap<u32, Vec<u8>>,
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
            guests: Guests::default(),
            numbers: Numbers::default(),
            machines: FxHashMap::default(),
            programs: FxHashMap::default(),
        }
    }

    /// Guests that run one program each: its path by the guest's machine. To be said before the first record.
    pub fn set_guest_programs(&mut self, programs: FxHashMap<u32, Vec<u8>>) {
        self.programs = programs;
    }

    /// The guest that a sample id stands for, and the machine that a record with this misc, id and pid is of: 0 for the
    /// host. As perf finds it: guests that no ID_INDEX names are told apart by their process on the host.
    #[inline]
    pub fn machine(&self, record_misc: u16, id: u64, pid: u32) -> (Option<Guest>, u32) {
        let guest = self.guests.of(id);
        if !matches!(Mode::of(record_misc), Mode::GuestKernel | Mode::GuestUser) {
            return (guest, 0);
        }
        let named = guest.map(|guest| guest.machine_pid).filter(|machine| *machine != 0);
        (guest, named.unwrap_or(if pid == 0 { DEFAULT_GUEST } else { pid }))
    }

    /// The number that stands for a process of a machine in everything that is asked here ([`Timeline::place`],
    /// [`Timeline::epoch`], [`Timeline::map`]): of the host the pid itself.
    #[inline]
    pub fn process(&mut self, machine: u32, pid: u32) -> u32 {
        let number = self.numbers.of(machine, pid);
        if machine != 0 && !self.spaces.contains_key(&number) {
            self.new_space(machine, number);
        }
        number
    }

    fn new_space(&mut self, machine: u32, number: u32) {
        let epoch = self.next_epoch();
        let space = self.guest(machine).space(epoch);
        self.spaces.insert(number, space);
    }

    fn guest(&mut self, machine: u32) -> &mut Machine {
        if !self.machines.contains_key(&machine) {
            let epoch = self.next_epoch();
            let kernel = self.modules.guest_kernel(machine);
            let program = self.programs.get(&machine).map(|path| self.modules.guest_program(machine, path));
            self.machines.insert(machine, Machine::new(kernel, program, epoch));
        }
        let nothing = || Machine::new(Modules::unknown(Mode::GuestKernel), None, 0);
        self.machines.entry(machine).or_insert_with(nothing)
    }

    /// The address space of a process that begins anew.
    fn fresh(&mut self, machine: u32, epoch: u32) -> Space {
        if machine == 0 { Space::new(epoch) } else { self.guest(machine).space(epoch) }
    }

    /// Applies a side-band record; records that change nothing here are ignored. `record_misc` is the header's misc, `id`
    /// the sample id that the record ends in (0 without), and `pid` its process.
    pub fn apply(&mut self, record: &Record, record_misc: u16, (id, pid): (u64, u32)) {
        let pid = match record {
            Record::Mmap(mmap) => mmap.pid,
            _ => pid,
        };
        let (_, machine) = self.machine(record_misc, id, pid);
        match record {
            Record::IdIndex(index) => self.guests.learn(index),
            Record::Mmap(mmap) if machine != 0 => self.guest_mmap(mmap, record_misc, machine),
            Record::Mmap(mmap) => self.mmap(mmap, record_misc),
            Record::Comm(comm) => {
                let (pid, tid) = (comm.task.pid, comm.task.tid);
                self.tasks.set_comm(self.numbers.of(machine, tid), (pid, tid), &comm.comm);
            }
            Record::Fork(task) => {
                let number = self.numbers.of(machine, task.tid);
                self.tasks.fork(number, self.numbers.of(machine, task.ptid), task);
                if task.pid != task.ppid {
                    // A FORK that perf made for a process that was already running is followed by its own maps.
                    let made_up = record_misc & misc::FORK_EXEC != 0;
                    let epoch = self.next_epoch();
                    let parent = self.numbers.of(machine, task.ppid);
                    let space = match self.spaces.get(&parent) {
                        Some(parent) if !made_up => parent.fork(epoch),
                        _ => self.fresh(machine, epoch),
                    };
                    self.spaces.insert(self.numbers.of(machine, task.pid), space);
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
        // Of what a process is that has no number, the mode says that it is none of the kernel.
        if mode == Mode::Kernel || mmap.pid == u32::MAX && mode != Mode::User {
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
        self.user_map(mmap, end, 0, epoch);
    }

    fn user_map(&mut self, mmap: &Mmap, end: u64, machine: u32, epoch: u32) {
        let (module, identity) = self.modules.user(mmap, machine);
        let number = self.process(machine, mmap.pid);
        self.tasks.seen(number, (mmap.pid, mmap.pid));
        // The vdso is a file of its own: its offset in the record means nothing.
        let is_vdso = self.modules.get(module).is_some_and(|m| m.kind == ModuleKind::Vdso);
        let pgoff = if is_vdso { 0 } else { mmap.pgoff };
        let map = Map { start: mmap.start, end, pgoff, module, identity };
        self.spaces.entry(number).or_insert_with(|| Space::new(epoch)).insert(map, epoch);
    }

    fn guest_mmap(&mut self, mmap: &Mmap, record_misc: u16, machine: u32) {
        let Some(end) = mmap.start.checked_add(mmap.len).filter(|end| *end > mmap.start) else { return };
        let epoch = self.next_epoch();
        if Mode::of(record_misc) == Mode::GuestUser {
            return self.user_map(mmap, end, machine, epoch);
        }
        let module = self.modules.guest_mapping(mmap, machine);
        let map = Map { start: mmap.start, end, pgoff: 0, module, identity: true };
        self.guest(machine).kernel.insert(map, epoch);
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
    pub fn thread(&mut self, machine: u32, pid: u32, tid: u32) -> ThreadId {
        self.tasks.thread(self.numbers.of(machine, tid), (pid, tid))
    }

    /// The name that a thread of a machine has now.
    pub fn comm(&self, machine: u32, tid: u32) -> Option<&[u8]> {
        self.tasks.comm_of(self.numbers.known(machine, tid)?)
    }

    /// The kernel that a process runs on: the host's, or that of its guest.
    fn kernel_of(&self, process: u32) -> Option<&Space> {
        match self.numbers.machine(process) {
            0 => Some(&self.kernel),
            machine => self.machines.get(&machine).map(|machine| &machine.kernel),
        }
    }

    /// The space of a mode. A chain of a guest speaks of its own kernel and user space.
    fn space(&self, process: u32, mode: Mode) -> Option<&Space> {
        let is_guest = self.numbers.machine(process) != 0;
        match mode {
            Mode::Kernel => self.kernel_of(process),
            Mode::User => self.spaces.get(&process),
            Mode::GuestKernel if is_guest => self.kernel_of(process),
            Mode::GuestUser if is_guest => self.spaces.get(&process),
            _ => None,
        }
    }

    /// Number that changes with every change of what [`Timeline::place`] would answer for this process and mode.
    pub fn epoch(&self, pid: u32, mode: Mode) -> u32 {
        self.space(pid, mode).map_or(0, Space::epoch)
    }

    /// What is mapped at an address of a process (or of the kernel).
    pub fn place(&self, pid: u32, mode: Mode, addr: u64) -> Place {
        match self.space(pid, mode).and_then(|s| s.find(addr)) {
            Some(map) => Place { module: map.module, addr: map.to_module(addr) },
            None if self.numbers.machine(pid) != 0 => Place { module: Modules::unknown(mode.in_guest()), addr },
            None => Place { module: Modules::unknown(mode), addr },
        }
    }

    /// The map that covers an address, for views that show it.
    pub fn map(&self, pid: u32, mode: Mode, addr: u64) -> Option<&Map> {
        self.space(pid, mode)?.find(addr)
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
