//! Events on machines that are not here: fixture trees of sysfs and tracefs, and the configs that their kernels'
//! documentation (`Documentation/ABI/testing/sysfs-bus-event_source-devices-*`) makes of them.

use std::fs;
use std::path::Path;

use xprof_backend::event::{self, EventSpec};
use xprof_backend::machine::Machine;
use xprof_backend::proc;
use xprof_backend::{Error, event::catalog};
use xprof_perfdata::abi::{attr_flag as flag, event_type};

const DEVICES: &str = "sys/bus/event_source/devices";

/// A tree of files below a directory that is removed at the end.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new(files: &[(&str, &str)]) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Fixture(dir)
    }

    /// PMUs, each with the files of its directory.
    fn pmus(list: &[(&str, &[(&str, &str)])]) -> Fixture {
        let files: Vec<(String, &str)> = list
            .iter()
            .flat_map(|(pmu, files)| files.iter().map(move |(f, text)| (format!("{DEVICES}/{pmu}/{f}"), *text)))
            .collect();
        Fixture::new(&files.iter().map(|(f, t)| (f.as_str(), *t)).collect::<Vec<_>>())
    }

    fn machine(&self) -> Machine {
        Machine::below(self.0.path())
    }

    fn parse(&self, text: &str) -> Vec<EventSpec> {
        let groups = event::parse_on(text, &self.machine()).unwrap_or_else(|e| panic!("{text}: {e}"));
        groups.into_iter().flat_map(|g| g.events).collect()
    }

    fn problem(&self, text: &str) -> (usize, String) {
        match event::parse_on(text, &self.machine()) {
            Err(Error::Event { at, problem, text: whole }) => {
                assert_eq!(whole, text);
                (at, problem)
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

const CPU_FORMAT: [(&str, &str); 7] = [
    ("type", "4\n"),
    ("format/event", "config:0-7\n"),
    ("format/umask", "config:8-15\n"),
    ("format/edge", "config:18\n"),
    ("format/inv", "config:23\n"),
    ("format/cmask", "config:24-31\n"),
    ("format/ldlat", "config1:0-15\n"),
];

fn intel() -> Fixture {
    let events = [
        ("events/cpu-cycles", "event=0x3c\n"),
        ("events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n"),
        ("events/slots", "event=0x00,umask=0x4\n"),
    ];
    let cpu: Vec<_> = CPU_FORMAT.into_iter().chain(events).collect();
    let imc = |kind| {
        vec![
            ("type", kind),
            ("cpumask", "0,18\n"),
            ("format/event", "config:0-7\n"),
            ("format/umask", "config:8-15\n"),
            ("events/cas_count_read", "event=0x04,umask=0x03\n"),
            ("events/cas_count_read.scale", "6.103515625e-5\n"),
            ("events/cas_count_read.unit", "MiB\n"),
        ]
    };
    Fixture::pmus(&[
        ("cpu", &cpu),
        ("uncore_imc_0", &imc("12\n")),
        ("uncore_imc_1", &imc("13\n")),
        (
            "power",
            &[
                ("type", "20\n"),
                ("cpumask", "0\n"),
                ("format/event", "config:0-7\n"),
                ("events/energy-pkg", "event=0x02\n"),
                ("events/energy-pkg.unit", "Joules\n"),
                ("events/energy-pkg.scale", "2.3283064365386962890625e-10\n"),
            ],
        ),
    ])
}

#[test]
fn intel_core_events() {
    let f = intel();
    let one = |text: &str| {
        let list = f.parse(text);
        assert_eq!(list.len(), 1, "{text}");
        list.into_iter().next().unwrap()
    };
    let e = one("cpu/event=0xa8,umask=0x1,cmask=2,edge,inv=1/u");
    assert_eq!((e.attr.kind, e.attr.config), (4, 0xa8 | 1 << 8 | 1 << 18 | 1 << 23 | 2 << 24));
    assert!(e.attr.has(flag::EXCLUDE_KERNEL | flag::EXCLUDE_HV) && !e.attr.has(flag::EXCLUDE_USER));
    assert_eq!(e.name, "cpu/event=0xa8,umask=0x1,cmask=2,edge,inv=1/u");
    let e = one("cpu/mem-loads,ldlat=30/P");
    assert_eq!((e.attr.config, e.attr.config1), (0x1cd, 30));
    assert_eq!((e.attr.flags & flag::PRECISE_IP, e.precise_is_fixed), (flag::PRECISE_IP, false));
    // perf's other spelling of an event that sysfs has, and an event of sysfs without its PMU.
    assert_eq!(one("cpu/cycles/").attr.config, 0x3c);
    assert_eq!((one("slots").attr.kind, one("slots:u").attr.config), (4, 0x400));
    assert_eq!(one("cpu/r1a8/").attr.config, 0x1a8);
    // A single core PMU: plain hardware events.
    assert_eq!((one("cycles").attr.kind, one("cycles").attr.config, one("cycles").cpus), (0, 0, None));
    assert_eq!(one("cpu/event=0x3c,name=Unhalted,period=2000003/pp").name, "Unhalted");
    let e = one("cpu/event=0x3c,period=2000003/pp");
    assert_eq!((e.attr.sample_period, e.rate_is_fixed, e.precise_is_fixed), (2_000_003, true, true));
}

#[test]
fn intel_uncore_events() {
    let f = intel();
    for text in ["uncore_imc/cas_count_read/", "imc/cas_count_read/", "uncore_imc_*/event=4,umask=3/"] {
        let list = f.parse(text);
        let seen: Vec<_> = list.iter().map(|e| (e.attr.kind, e.attr.config, e.cpus.clone())).collect();
        assert_eq!(seen, [(12, 0x304, Some(vec![0, 18])), (13, 0x304, Some(vec![0, 18]))], "{text}");
    }
    assert_eq!(f.parse("uncore_imc_1/cas_count_read/")[0].attr.kind, 13);
    assert_eq!(f.parse("power/energy-pkg/")[0].cpus, Some(vec![0]));
    let known = catalog::known(&f.machine());
    let unit = |name: &str| known.iter().find(|k| k.name == name).unwrap_or_else(|| panic!("{name}")).unit.clone();
    assert_eq!(unit("power/energy-pkg/").as_deref(), Some("Joules"));
    assert_eq!(unit("uncore_imc_0/cas_count_read/").as_deref(), Some("MiB"));
    assert!(!known.iter().any(|k| k.name.contains(".unit") || k.name.contains(".scale")));
}

#[test]
fn errors_point_at_the_word() {
    let f = intel();
    for (text, at, words) in [
        ("cpu/event=0x100/", 10, "at most 0xff"),
        ("cpu/umsk=1/", 4, "did you mean umask?"),
        ("cpu/mem-load/", 4, "did you mean mem-loads?"),
        ("cpu/event=zz/", 10, "a number is needed"),
        ("cpu/call-graph=fp/", 4, "use --call-graph"),
        ("cpux/event=1/", 0, "did you mean cpu"),
        ("cycles,cpu/event=1", 10, "slash is not closed"),
        ("cpu", 0, "write cpu/EVENT/"),
        ("cylces:u", 0, "did you mean cycles?"),
        ("{cycles,{cs}}", 8, "a group inside a group"),
        ("cycles}", 6, "closes no group"),
        ("cpu/config=/", 4, "name=value"),
        ("L1-icache-stores", 0, "no such operation"),
        ("cycles/period=0/", 14, "must not be 0"),
    ] {
        let (place, problem) = f.problem(text);
        assert!(problem.contains(words), "{text}: {problem}");
        assert_eq!(place, at, "{text}: {problem}");
    }
}

/// On a hybrid machine an event opens on every core PMU, with the PMU's number above the event's.
#[test]
fn hybrid() {
    let core: Vec<_> =
        CPU_FORMAT.into_iter().chain([("cpus", "0-7\n"), ("events/cpu-cycles", "event=0x3c\n")]).collect();
    let mut atom: Vec<_> = core.clone();
    atom[0] = ("type", "10\n");
    atom[7] = ("cpus", "8-15\n");
    let f = Fixture::pmus(&[("cpu_core", &core), ("cpu_atom", &atom)]);
    let (little, big) = (Some((8..16).collect::<Vec<u32>>()), Some((0..8).collect::<Vec<u32>>()));
    let seen = |text: &str| -> Vec<_> {
        f.parse(text).into_iter().map(|e| (e.name, e.attr.kind, e.attr.config, e.cpus)).collect()
    };
    assert_eq!(
        seen("instructions:u"),
        [
            ("cpu_atom/instructions/u".into(), event_type::HARDWARE, 10 << 32 | 1, little.clone()),
            ("cpu_core/instructions/u".into(), event_type::HARDWARE, 4 << 32 | 1, big.clone()),
        ]
    );
    assert_eq!(
        seen("LLC-load-misses"),
        [
            ("cpu_atom/LLC-load-misses/".into(), event_type::HW_CACHE, 10 << 32 | 0x1_0002, little.clone()),
            ("cpu_core/LLC-load-misses/".into(), event_type::HW_CACHE, 4 << 32 | 0x1_0002, big.clone()),
        ]
    );
    assert_eq!(
        seen("r1a8"),
        [("cpu_atom/r1a8/".into(), 10, 0x1a8, little), ("cpu_core/r1a8/".into(), 4, 0x1a8, big.clone())]
    );
    assert_eq!(seen("cpu_core/cycles/"), [("cpu_core/cycles/".into(), 4, 0x3c, big)]);
    // Software events open once; each event of a glob or of a hybrid machine stands alone, unless it is in a group.
    assert_eq!(seen("cpu-clock").len(), 1);
    assert_eq!(event::parse_on("cycles", &f.machine()).unwrap().len(), 2);
    assert_eq!(event::parse_on("{cpu_core/cycles/,cs}:S", &f.machine()).unwrap()[0].events.len(), 2);
}

#[test]
fn amd_ibs() {
    let f = Fixture::pmus(&[
        ("cpu", &CPU_FORMAT),
        ("ibs_op", &[("type", "11\n"), ("format/cnt_ctl", "config:19\n"), ("format/l3missonly", "config:16\n")]),
        ("ibs_fetch", &[("type", "10\n"), ("format/rand_en", "config:57\n")]),
    ]);
    let e = &f.parse("ibs_op/cnt_ctl=1,l3missonly/pp")[0];
    assert_eq!((e.attr.kind, e.attr.config, e.precise_is_fixed), (11, 1 << 19 | 1 << 16, true));
    assert_eq!(f.parse("ibs_fetch/rand_en=1/")[0].attr.config, 1 << 57);
    assert_eq!(f.parse("ibs_op//")[0].attr.config, 0);
}

#[test]
fn arm() {
    let f = Fixture::pmus(&[(
        "armv8_pmuv3",
        &[
            ("type", "8\n"),
            ("cpus", "0-3\n"),
            ("format/event", "config:0-15\n"),
            ("format/long", "config1:0\n"),
            ("events/cpu_cycles", "event=0x0011\n"),
            ("events/br_mis_pred", "event=0x010\n"),
        ],
    )]);
    let e = &f.parse("armv8_pmuv3/event=0x11,long/")[0];
    assert_eq!((e.attr.kind, e.attr.config, e.attr.config1), (8, 0x11, 1));
    assert_eq!(f.parse("br_mis_pred:k")[0].attr.config, 0x10);
    assert_eq!((f.parse("cycles")[0].attr.kind, f.parse("cycles").len()), (0, 1));
}

#[test]
fn tracepoints_of_a_tree() {
    let dir = "sys/kernel/tracing/events";
    let files: Vec<(String, String)> =
        [("sched", "sched_switch", 316), ("sched", "sched_wakeup", 318), ("irq", "softirq_entry", 40)]
            .iter()
            .map(|(s, e, id)| (format!("{dir}/{s}/{e}/id"), format!("{id}\n")))
            .collect();
    let f = Fixture::new(&files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect::<Vec<_>>());
    let seen: Vec<_> = f.parse("sched:*").into_iter().map(|e| (e.name, e.attr.config, e.attr.sample_period)).collect();
    assert_eq!(seen, [("sched:sched_switch".into(), 316, 1), ("sched:sched_wakeup".into(), 318, 1)]);
    assert_eq!(f.parse("*:softirq_*:u")[0].attr.config, 40);
    assert!(!f.parse("sched:sched_switch/period=100/")[0].attr.has(flag::FREQ));
    assert!(f.problem("sched:sched_swich").1.contains("did you mean sched:sched_switch?"));
    assert!(f.problem("sched_wakeup").1.contains("did you mean sched:sched_wakeup?"));
}

/// Arm's kernel and cpuinfo: the text's end from kallsyms itself, MIDR for the CPU.
#[test]
fn kernel_and_cpu_of_another_machine() {
    let f = Fixture::new(&[
        (
            "proc/kallsyms",
            "ffff800080000000 T _text\nffff800080010000 T _stext\nffff800081200000 T _etext\nffff800081300000 T x\n",
        ),
        ("proc/modules", "nvme 65536 3 - Live 0xffff80007a000000\nhid 8192 0 - Live 0x0000000000000000\n"),
        ("proc/sys/kernel/osrelease", "6.1.0-test\n"),
        ("proc/sys/kernel/arch", "aarch64\n"),
        ("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\n"),
        ("sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "0x00000000414fd0c1\n"),
        ("lib/modules/6.1.0-test/modules.dep", "kernel/drivers/nvme/host/nvme.ko.xz: kernel/x.ko\n"),
    ]);
    let machine = f.machine();
    let kernel = proc::kernel(&machine).unwrap();
    assert_eq!((kernel.start, kernel.len, kernel.symbol), (0xffff_8000_8000_0000, 0x120_0000, "_text"));
    let modules = proc::modules(&machine);
    assert_eq!(modules.len(), 1, "a module at zero is hidden");
    assert_eq!(modules[0].path, b"/lib/modules/6.1.0-test/kernel/drivers/nvme/host/nvme.ko.xz");
    let facts = proc::facts(&machine);
    assert_eq!(facts.cpuid.as_deref(), Some("0x00000000410fd0c0"));
    assert_eq!((facts.arch.as_deref(), facts.cpu_desc), (Some("aarch64"), None));

    let hidden =
        Fixture::new(&[("proc/kallsyms", "0000000000000000 T _text\n"), ("proc/sys/kernel/kptr_restrict", "2\n")]);
    let error = proc::kernel(&hidden.machine()).unwrap_err().to_string();
    assert!(error.contains("kptr_restrict is 2"), "{error}");
}

/// A container is one that cannot change the settings, not one that has a marker file.
#[test]
fn containers() {
    let status = ("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000004000000000\nSeccomp:\t2\n");
    let mount = "31 28 0:5 /sys /proc/sys ro,nosuid - proc proc rw\n";
    let map = ("proc/self/uid_map", "         0          0 4294967295\n");
    let docker = Fixture::new(&[status, map, (".dockerenv", ""), ("proc/self/mountinfo", mount)]);
    let facts = proc::Permissions::read(&docker.machine());
    assert_eq!((facts.container, facts.uid, facts.seccomp), (Some("Docker"), 1000, 2));
    // CAP_PERFMON counts in the first user namespace alone.
    assert!(facts.is_perfmon() && !facts.is_ipc_lock());
    let rootless = Fixture::new(&[status, ("proc/self/uid_map", "0 1000 1\n"), (".dockerenv", "")]);
    let facts = proc::Permissions::read(&rootless.machine());
    assert_eq!((facts.container, facts.is_perfmon(), facts.in_user_namespace), (None, false, true));
}

/// Trees that lie: no panic, and an error or nothing.
#[test]
fn hostile_trees() {
    let f = Fixture::new(&[
        ("sys/bus/event_source/devices/cpu/type", "99999999999999\n"),
        ("sys/bus/event_source/devices/a/type", "7\n"),
        ("sys/bus/event_source/devices/a/format/f", "config:60-70\n"),
        ("sys/bus/event_source/devices/a/events/e", "f=1,,=,x=?'\n"),
        ("sys/bus/event_source/devices/a/cpumask", "0-4294967295\n"),
        ("proc/kallsyms", "zz\nffffffffffffffff T _text\n0000000000000001 T _etext\n"),
        ("proc/modules", "\n\n a b c\n"),
        ("proc/1/stat", "1 (a"),
    ]);
    for text in ["a/f=1/", "a/e/", "cpu/e/", "e"] {
        let (_, problem) = f.problem(text);
        assert!(!problem.is_empty());
    }
    assert!(proc::kernel(&f.machine()).is_err());
    assert!(proc::modules(&f.machine()).is_empty());
    proc::facts(&f.machine());
    assert!(Path::new(&f.machine().proc).exists());
    catalog::known(&f.machine());
}
