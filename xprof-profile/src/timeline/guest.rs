//! Guests: machines with processes and a kernel of their own.
//!
//! A process of a guest may have the number of a process of the host, and they must never be taken for each other. So
//! whoever asks for a place or a thread gives a number that [`Numbers`] made of machine and process: for the host it is
//! the pid itself.

use rustc_hash::FxHashMap;

use super::space::{Map, Space};

/// The machine of guest samples that no ID_INDEX and no process tells apart.
pub const DEFAULT_GUEST: u32 = u32::MAX;
/// Numbers from here on are of guests: Linux gives pids up to 4,194,304.
const FIRST: u32 = 1 << 31;
/// Where the kernel half of an address space begins.
const KERNEL_START: u64 = 1 << 63;
/// No program of a guest is mapped from here on.
const PROGRAM_END: u64 = 1 << 56;

/// Numbers for the processes of guests.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    by_pid: FxHashMap<(u32, u32), u32>,
    machines: Vec<u32>,
}

impl Numbers {
    /// The number of a process (or thread) of a machine; 0 is the host.
    #[inline]
    pub(super) fn of(&mut self, machine: u32, pid: u32) -> u32 {
        if machine == 0 && pid < FIRST { pid } else { self.made(machine, pid) }
    }

    fn made(&mut self, machine: u32, pid: u32) -> u32 {
        let next = FIRST.saturating_add(self.machines.len() as u32);
        let number = *self.by_pid.entry((machine, pid)).or_insert(next);
        if number == next {
            self.machines.push(machine);
        }
        number
    }

    /// The number, if one was made.
    pub(super) fn known(&self, machine: u32, pid: u32) -> Option<u32> {
        if machine == 0 && pid < FIRST { Some(pid) } else { self.by_pid.get(&(machine, pid)).copied() }
    }

    /// The machine of a number.
    #[inline]
    pub(super) fn machine(&self, number: u32) -> u32 {
        match number.checked_sub(FIRST) {
            Some(at) => self.machines.get(at as usize).copied().unwrap_or(0),
            None => 0,
        }
    }
}

/// One guest: what is the same for all its processes.
#[derive(Debug)]
pub(super) struct Machine {
    /// Its kernel; all of it is one module until a recording says more.
    pub(super) kernel: Space,
    /// Its one program, where the user gave it.
    program: Option<Map>,
}

impl Machine {
    /// `kernel` and `program` are what lies in the kernel's half of every address space, and in the other.
    pub(super) fn new(kernel: super::ModuleId, program: Option<super::ModuleId>, epoch: u32) -> Machine {
        let map = |start, end, module| Map { start, end, pgoff: 0, module, identity: true };
        let mut space = Space::new(epoch);
        space.insert(map(KERNEL_START, u64::MAX, kernel), epoch);
        Machine { kernel: space, program: program.map(|module| map(0, PROGRAM_END, module)) }
    }

    /// The address space of a new process.
    pub(super) fn space(&self, epoch: u32) -> Space {
        let mut space = Space::new(epoch);
        if let Some(program) = self.program {
            space.insert(program, epoch);
        }
        space
    }
}
