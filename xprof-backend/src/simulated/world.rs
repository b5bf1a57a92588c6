//! What runs on the simulated machine: domains, processes, functions, call chains, and how much of the time each takes.
//!
//! A process is a set of paths. It takes one by weight, stays in it for a stretch of cycles, and takes the next: so the
//! share of each function is known ([`World::truth`]), and two samples of different stretches are independent. The stack
//! of a path lies in the process's memory with real frames (saved frame pointer, return address), to be walked.

use rustc_hash::FxHashMap;

use super::image::Image;
use super::pmu::{EVENTS, PER, Rates};
use crate::msr::{DomId, Mode};

/// Bytes of code of every function.
pub(super) const FUNCTION: u64 = 256;
/// Where programs are mapped.
const USER_BASE: u64 = 0x5555_5555_4000;
const USER_STACK: u64 = 0x7ffd_0000_0000;
const KERNEL_BASE: u64 = 0xffff_ffff_8100_0000;
const KERNEL_STACK: u64 = 0xffff_c900_0000_0000;
/// perf's name of the kernel among mappings.
const KERNEL: &str = "[kernel.kallsyms]";
/// Cycles in a path with interrupts on, before the next is taken.
pub(super) const STRETCH: u64 = 1000;

/// A path as it is written here: `"main work square"`, kernel functions after `|`.
struct Written {
    chain: &'static str,
    weight: u32,
    /// Instructions, misses, branches per [`PER`] cycles.
    rates: [u32; EVENTS - 1],
    /// The share of the stretch, in percent, that its leaf spends with interrupts off, and the function that puts them
    /// on again for the rest.
    off: Option<(u64, &'static str)>,
}

const fn path(chain: &'static str, weight: u32, rates: [u32; EVENTS - 1]) -> Written {
    Written { chain, weight, rates, off: None }
}

struct Program {
    domain: u16,
    comm: &'static str,
    paths: &'static [Written],
}

const PROGRAMS: &[Program] = &[
    Program {
        domain: 0,
        comm: "spin",
        paths: &[
            path("main work square", 500, [2048, 1, 200]),
            path("main work cube", 250, [1536, 2, 150]),
            path("main work remainder", 150, [512, 1, 100]),
            path("main load | do_syscall_64 vfs_read copy_page", 60, [800, 40, 60]),
            Written {
                off: Some((75, "irq_restore")),
                ..path("main load | do_syscall_64 vfs_read fill_batch", 40, [700, 30, 80])
            },
        ],
    },
    Program {
        domain: 0,
        comm: "logger",
        paths: &[path("main flush crc32", 700, [2500, 3, 120]), path("main flush memcpy", 300, [900, 60, 90])],
    },
    Program {
        domain: 1,
        comm: "httpd",
        paths: &[
            path("main serve parse", 400, [1800, 4, 350]),
            path("main serve send | do_syscall_64 tcp_sendmsg checksum", 600, [1300, 20, 110]),
        ],
    },
    Program {
        domain: 2,
        comm: "db",
        paths: &[
            path("main query scan scan scan compare", 800, [1000, 35, 240]),
            path("main query hash", 200, [2200, 2, 90]),
        ],
    },
];

/// One path, placed.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// First address of the leaf's code.
    pub(super) leaf: u64,
    pub(super) mode: Mode,
    pub(super) bp: u64,
    pub(super) cycles: u64,
    pub(super) rates: Rates,
    pub(super) interrupts_off: bool,
    /// The path that follows always; else one is taken by weight.
    pub(super) then: Option<usize>,
    weight: u32,
    pub(super) function: String,
    image: String,
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) domain: DomId,
    pub(super) pid: u32,
    pub(super) comm: &'static str,
    /// Place of its program in [`World::images`].
    pub(super) image: usize,
    pub(super) paths: Vec<Path>,
    total: u32,
}

impl Process {
    /// The root of its address space.
    pub(super) fn space(&self) -> u64 {
        u64::from(self.pid) << 12
    }

    /// The path that `random` takes.
    pub(super) fn take(&self, random: u32) -> usize {
        let mut left = ((u64::from(random) * u64::from(self.total)) >> 32) as u32;
        for (at, path) in self.paths.iter().enumerate() {
            if left < path.weight {
                return at;
            }
            left -= path.weight;
        }
        0
    }
}

/// The process of an address space.
pub(super) fn process_of(space: u64) -> u32 {
    (space >> 12) as u32
}

/// One row of what is true.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Domain.
    pub domain: DomId,
    /// Process.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Path of the program or kernel.
    pub dso: String,
    /// Function.
    pub symbol: String,
    /// Share of all cycles, 0 to 1.
    pub cycles: f64,
    /// Share of the cycles' samples: what runs with interrupts off is seen where they come on again.
    pub samples: f64,
}

/// Everything that is fixed.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) processes: Vec<Process>,
    pub(super) images: Vec<Image>,
    /// (address space, frame pointer) -> (saved frame pointer, return address).
    frames: FxHashMap<(u64, u64), (u64, u64)>,
}

impl World {
    pub(super) fn new() -> World {
        let mut world = World { processes: Vec::new(), images: Vec::new(), frames: FxHashMap::default() };
        for program in PROGRAMS {
            world.add(program);
        }
        world
    }

    /// The domains, by number.
    pub(super) fn domains(&self) -> Vec<DomId> {
        let mut list: Vec<DomId> = self.processes.iter().map(|process| process.domain).collect();
        list.dedup();
        list
    }

    fn add(&mut self, program: &Program) {
        let domain = DomId(program.domain);
        let before = self.processes.iter().filter(|process| process.domain == domain).count() as u32;
        // Thread n of a process is its vCPU n's.
        let pid = 1000 * (1 + u32::from(program.domain)) + 100 * (1 + before);
        // One image holds every domain's kernel: a recording in host form has one.
        let kernel_path = KERNEL.to_owned();
        let kernel = self.images.iter().position(|image| image.path == kernel_path).unwrap_or_else(|| {
            self.images.push(Image::new(kernel_path.clone(), KERNEL_BASE, true));
            self.images.len() - 1
        });
        let path = format!("/simulated/domain{}/{}", domain.0, program.comm);
        self.images.push(Image::new(path, USER_BASE, false));
        let image = self.images.len() - 1;
        let mut process = Process { domain, pid, comm: program.comm, image, paths: Vec::new(), total: 0 };
        for written in program.paths {
            let mut path = self.place(&process, kernel, written);
            process.total += path.weight;
            if let Some((percent, restore)) = written.off {
                let mut after = path.clone();
                let (caller, _) = written.chain.rsplit_once(' ').unwrap_or_default();
                // The same callers, another leaf, and never taken but after this one.
                let chain = format!("{caller} {restore}");
                after =
                    Path { then: None, weight: 0, ..self.place_chain(&process, kernel, &chain, written, after.rates) };
                path.cycles = STRETCH * percent / 100;
                after.cycles = STRETCH - path.cycles;
                (path.interrupts_off, path.then) = (true, Some(process.paths.len() + 1));
                process.paths.extend([path, after]);
            } else {
                process.paths.push(path);
            }
        }
        self.processes.push(process);
    }

    fn place(&mut self, process: &Process, kernel: usize, written: &Written) -> Path {
        let mut rates = [PER as u32; EVENTS];
        rates[1..].copy_from_slice(&written.rates);
        self.place_chain(process, kernel, written.chain, written, rates)
    }

    /// Lays the stack of a chain into the process's memory.
    fn place_chain(&mut self, process: &Process, kernel: usize, chain: &str, written: &Written, rates: Rates) -> Path {
        let (user, inside) = chain.split_once('|').map_or((chain, None), |(user, kernel)| (user, Some(kernel)));
        let number = (process.paths.len() + 16 * self.processes.len()) as u64;
        let (mut bp, mut place) = (0, (0, String::new(), process.image));
        let halves = [(Some(user), process.image, USER_STACK), (inside, kernel, KERNEL_STACK)];
        for (half, image, stack) in halves {
            for (depth, name) in half.into_iter().flat_map(str::split_whitespace).enumerate() {
                // The frame of this function, below its caller's; the caller goes on in the middle of its code.
                let frame = stack + number * 0x1000 + 0xf00 - 0x40 * depth as u64;
                let back = if place.0 == 0 { 0 } else { place.0 + 0x80 + 4 * depth as u64 };
                self.frames.insert((process.space(), frame), (bp, back));
                bp = frame;
                place = (self.images[image].function(name), name.to_owned(), image);
            }
        }
        Path {
            leaf: place.0,
            mode: if place.2 == kernel { Mode::Kernel } else { Mode::User },
            bp,
            cycles: STRETCH,
            rates,
            interrupts_off: false,
            then: None,
            weight: written.weight,
            function: place.1,
            image: self.images[place.2].path.clone(),
        }
    }

    /// A frame of a stack: the caller's frame pointer, and the return address.
    pub(super) fn frame(&self, space: u64, bp: u64) -> Option<(u64, u64)> {
        self.frames.get(&(space, bp)).copied()
    }

    /// What is true when every domain has an equal share of every CPU, and every process of its domain's.
    pub(super) fn truth(&self) -> Vec<Truth> {
        let domains = self.domains().len() as f64;
        let mut rows: Vec<Truth> = Vec::new();
        for process in &self.processes {
            let peers = self.processes.iter().filter(|peer| peer.domain == process.domain).count() as f64;
            let own = 1.0 / domains / peers;
            for path in &process.paths {
                let mut add = |path: &Path, cycles: f64, samples: f64| {
                    let same = |row: &&mut Truth| row.pid == process.pid && row.symbol == path.function;
                    if let Some(row) = rows.iter_mut().find(same) {
                        row.cycles += cycles;
                        row.samples += samples;
                        return;
                    }
                    rows.push(Truth {
                        domain: process.domain,
                        pid: process.pid,
                        comm: process.comm.to_owned(),
                        dso: path.image.clone(),
                        symbol: path.function.clone(),
                        cycles,
                        samples,
                    });
                };
                let share = own * f64::from(path.weight) / f64::from(process.total);
                match path.then {
                    Some(then) => {
                        let part = share * path.cycles as f64 / STRETCH as f64;
                        add(path, part, 0.0);
                        add(&process.paths[then], share - part, share);
                    }
                    None if path.weight > 0 => add(path, share, share),
                    None => {}
                }
            }
        }
        rows
    }
}
