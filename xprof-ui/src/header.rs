//! What a recording says of itself, as the `#` lines of `perf script --header`.
//!
//! The rules are those of `perf_header__fprintf_info` (`tools/perf/util/header.c`) and `perf_event_attr__fprintf`
//! (`tools/perf/util/perf_event_attr_fprintf.c`) of Linux 6.1. Sections that perf shows only with `-I` (the topology of
//! the machine) are named and not shown.

use std::fmt::Write;

use xprof_perfdata::abi::{attr_flag, branch, feature, read_format, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::feature::{ClockData, EventDescEntry, Features};
use xprof_perfdata::header::Description;

use crate::Plain;

/// What the file itself shows.
#[derive(Clone, Debug, Default)]
pub struct FileFacts {
    /// When the file was last changed, as `ctime(3)` writes it.
    pub captured: String,
    /// When the recording's clock was read beside the time of day, in local time (`2026-11-27 01:27:27.454879`).
    pub clock_read: String,
    /// Offset and size of the data section, bytes; `None` for perf's pipe format.
    pub data: Option<(u64, u64)>,
}

/// perf's names of feature sections, by number.
const NAMES: [&str; 31] = [
    "TRACING_DATA",
    "BUILD_ID",
    "HOSTNAME",
    "OSRELEASE",
    "VERSION",
    "ARCH",
    "NRCPUS",
    "CPUDESC",
    "CPUID",
    "TOTAL_MEM",
    "CMDLINE",
    "EVENT_DESC",
    "CPU_TOPOLOGY",
    "NUMA_TOPOLOGY",
    "BRANCH_STACK",
    "PMU_MAPPINGS",
    "GROUP_DESC",
    "AUXTRACE",
    "STAT",
    "CACHE",
    "SAMPLE_TIME",
    "MEM_TOPOLOGY",
    "CLOCKID",
    "DIR_FORMAT",
    "BPF_PROG_INFO",
    "BPF_BTF",
    "COMPRESSED",
    "CPU_PMU_CAPS",
    "CLOCK_DATA",
    "HYBRID_TOPOLOGY",
    "PMU_CAPS",
];

/// Sections that perf shows only with `-I`.
const MACHINE: [u32; 5] =
    [feature::CPU_TOPOLOGY, feature::NUMA_TOPOLOGY, feature::CACHE, feature::MEM_TOPOLOGY, feature::HYBRID_TOPOLOGY];

/// Appends the header of a recording.
pub fn text(description: &Description, file: &FileFacts, out: &mut String) {
    let features = &description.features;
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string has nothing to fail at.
        let _ = writeln!(out, "# {text}");
    };
    line(format_args!("========"));
    line(format_args!("captured on    : {}", file.captured));
    line(format_args!("header version : 1"));
    if let Some((offset, size)) = file.data {
        line(format_args!("data offset    : {offset}"));
        line(format_args!("data size      : {size}"));
        line(format_args!("feat offset    : {}", offset.saturating_add(size)));
    }
    for (number, name) in (1..).zip(NAMES) {
        if !features.has(number) {
            continue;
        }
        if MACHINE.contains(&number) {
            line(format_args!("{name} info available, perf report --header-only -I displays it"));
        }
        for text in section(description, file, number) {
            line(format_args!("{text}"));
        }
    }
    if file.data.is_some() {
        let missing = (1..).zip(NAMES).filter(|(number, _)| !features.has(*number));
        line(format_args!("missing features: {}", missing.fold(String::new(), |list, (_, name)| list + name + " ")));
    }
    line(format_args!("========"));
    out.push_str("#\n");
}

/// The lines of a section.
fn section(description: &Description, file: &FileFacts, number: u32) -> Vec<String> {
    let features = &description.features;
    let said = |title: &str, text: &Option<String>| {
        text.iter().map(|text| format!("{title} : {}", Plain(text))).collect::<Vec<_>>()
    };
    match number {
        feature::HOSTNAME => said("hostname", &features.hostname),
        feature::OSRELEASE => said("os release", &features.os_release),
        feature::VERSION => said("perf version", &features.version),
        feature::ARCH => said("arch", &features.arch),
        feature::CPUDESC => said("cpudesc", &features.cpu_desc),
        feature::CPUID => said("cpuid", &features.cpuid),
        feature::NRCPUS => features
            .nr_cpus
            .iter()
            .flat_map(|(available, online)| {
                [format!("nrcpus online : {online}"), format!("nrcpus avail : {available}")]
            })
            .collect(),
        feature::TOTAL_MEM => features.total_mem.iter().map(|kib| format!("total memory : {kib} kB")).collect(),
        feature::CMDLINE => {
            let words = features.cmdline.iter().map(|word| Plain(word).to_string().replace('\'', "\\'"));
            vec![words.fold("cmdline : ".into(), |line, word| line + &word + " ")]
        }
        feature::EVENT_DESC => {
            features.event_desc.iter().map(|event| event_line(event, description.events.order)).collect()
        }
        feature::BRANCH_STACK => vec!["contains samples with branch stack".into()],
        feature::PMU_MAPPINGS => {
            let pmus = features.pmu_mappings.iter().map(|(number, name)| format!("{} = {number}", Plain(name)));
            vec![format!("pmu mappings: {}", pmus.collect::<Vec<_>>().join(", "))]
        }
        feature::GROUP_DESC => groups(description),
        feature::AUXTRACE => vec!["contains AUX area data (e.g. instruction trace)".into()],
        feature::STAT => vec!["contains stat data".into()],
        feature::SAMPLE_TIME => times(features),
        feature::CLOCKID => {
            let frequency = |ns: &u64| format!("clockid frequency: {} MHz", ns.saturating_mul(1000));
            features.clockid_res_ns.iter().map(frequency).collect()
        }
        feature::DIR_FORMAT => {
            features.dir_format.iter().map(|version| format!("directory data version : {version}")).collect()
        }
        feature::COMPRESSED => features
            .compressed
            .iter()
            .map(|by| {
                // `PERF_COMP_ZSTD`.
                let kind = if by.kind == 1 { "Zstd" } else { "Unknown" };
                format!("compressed : {kind}, level = {}, ratio = {}", by.level, by.ratio)
            })
            .collect(),
        feature::CLOCK_DATA => features.clock_data.iter().flat_map(|clock| clocks(clock, file)).collect(),
        _ => Vec::new(),
    }
}

/// Names of clocks: `CLOCK_*` of `include/uapi/linux/time.h`, as `perf record -k` takes them.
const CLOCKS: [(u32, &str); 5] =
    [(0, "realtime"), (1, "monotonic"), (4, "monotonic_raw"), (7, "boottime"), (11, "tai")];

/// Which clock, and what it showed at a time of day.
fn clocks(clock: &ClockData, file: &FileFacts) -> [String; 2] {
    let name = CLOCKS.iter().find(|(number, _)| *number == clock.clockid).map_or("(not found)", |(_, name)| name);
    let (seconds, ns) = (1_000_000_000, clock.clock_ns % 1_000_000_000);
    [
        format!("clockid: {name} ({})", clock.clockid),
        format!(
            "reference time: {} = {}.{:06} (TOD) = {}.{ns:09} ({name})",
            file.clock_read,
            clock.wall_ns / seconds,
            clock.wall_ns % seconds / 1000,
            clock.clock_ns / seconds,
        ),
    ]
}

/// Time of the first and of the last sample.
fn times(features: &Features) -> Vec<String> {
    let Some((first, last)) = features.sample_time else { return Vec::new() };
    let seconds = |ns: u64| format!("{}.{:06}", ns / 1_000_000_000, ns % 1_000_000_000 / 1000);
    vec![
        format!("time of first sample : {}", seconds(first)),
        format!("time of last sample : {}", seconds(last)),
        format!("sample duration : {:10.3} ms", last.saturating_sub(first) as f64 / 1e6),
    ]
}

/// `group: {cpu-clock,page-faults}`.
fn groups(description: &Description) -> Vec<String> {
    let events = description.events.list();
    description
        .features
        .group_desc
        .iter()
        .map(|group| {
            let from = group.leader as usize;
            let members = events.get(from..from.saturating_add(group.members as usize)).unwrap_or_default();
            let names: Vec<_> = members.iter().map(|event| event.name.as_str()).collect();
            // perf's name for a group without one.
            let name = if group.name == "{anon_group}" { "" } else { &group.name };
            format!("group: {}{{{}}}", Plain(name), Plain(&names.join(",")))
        })
        .collect()
}

/// Names of bits.
type Bits = &'static [(&'static str, u64)];

macro_rules! bits {
    ($from:ident: $($name:ident),* $(,)?) => { &[$((stringify!($name), $from::$name)),*] };
}

const SAMPLE: Bits = bits!(sample: IP, TID, TIME, ADDR, READ, CALLCHAIN, ID, CPU, PERIOD, STREAM_ID, RAW, BRANCH_STACK,
    REGS_USER, STACK_USER, IDENTIFIER, REGS_INTR, DATA_SRC, WEIGHT, PHYS_ADDR, AUX, CGROUP, DATA_PAGE_SIZE,
    CODE_PAGE_SIZE, WEIGHT_STRUCT);
const READ: Bits = bits!(read_format: TOTAL_TIME_ENABLED, TOTAL_TIME_RUNNING, ID, GROUP, LOST);
const BRANCH: Bits = bits!(branch: USER, KERNEL, HV, ANY, ANY_CALL, ANY_RETURN, IND_CALL, ABORT_TX, IN_TX, NO_TX, COND,
    CALL_STACK, IND_JUMP, CALL, NO_FLAGS, NO_CYCLES, TYPE_SAVE, HW_INDEX, PRIV_SAVE);
/// In the order in which perf shows them; `precise_ip`, which is a number, has its place before `mmap_data`.
const FLAGS: Bits = bits!(attr_flag: DISABLED, INHERIT, PINNED, EXCLUSIVE, EXCLUDE_USER, EXCLUDE_KERNEL, EXCLUDE_HV,
    EXCLUDE_IDLE, MMAP, COMM, FREQ, INHERIT_STAT, ENABLE_ON_EXEC, TASK, WATERMARK, PRECISE_IP, MMAP_DATA, SAMPLE_ID_ALL,
    EXCLUDE_HOST, EXCLUDE_GUEST, EXCLUDE_CALLCHAIN_KERNEL, EXCLUDE_CALLCHAIN_USER, MMAP2, COMM_EXEC, USE_CLOCKID,
    CONTEXT_SWITCH, WRITE_BACKWARD, NAMESPACES, KSYMBOL, BPF_EVENT, AUX_OUTPUT, CGROUP, TEXT_POKE, BUILD_ID,
    INHERIT_THREAD, REMOVE_ON_EXEC, SIGTRAP);

/// The names of the bits that are set.
fn named(value: u64, bits: Bits) -> String {
    let set: Vec<_> = bits.iter().filter(|(_, bit)| value & bit != 0).map(|(name, _)| *name).collect();
    set.join("|")
}

/// `event : name = cpu-clock, , id = { 1, 2 }, type = 1, ..`: what is 0 is left out.
fn event_line(event: &EventDescEntry, order: ByteOrder) -> String {
    let mut line = format!("event : name = {}, ", Plain(&event.name));
    if !event.ids.is_empty() {
        let ids: Vec<_> = event.ids.iter().map(u64::to_string).collect();
        let _ = write!(line, ", id = {{ {} }}", ids.join(", "));
    }
    let Ok(attr) = Attr::decode(&event.attr, order) else { return line };
    let mut field = |name: &str, is_set: bool, value: String| {
        if is_set {
            let _ = write!(line, ", {name} = {value}");
        }
    };
    let number = |value: u64| (value != 0, value.to_string());
    let address = |value: u64| (value != 0, format!("{value:#x}"));
    let list = |value: u64, bits| (value != 0, named(value, bits));
    let mut fields = vec![
        ("type", number(attr.kind.into())),
        ("size", number(attr.size.into())),
        ("config", address(attr.config)),
        ("{ sample_period, sample_freq }", number(attr.sample_period)),
        ("sample_type", list(attr.sample_type, SAMPLE)),
        ("read_format", list(attr.read_format, READ)),
    ];
    let names: Vec<_> = FLAGS.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    fields.extend(names.iter().zip(FLAGS).map(|(name, (_, bit))| {
        let shift = bit.trailing_zeros();
        (name.as_str(), number((attr.flags & bit) >> shift))
    }));
    fields.extend([
        ("{ wakeup_events, wakeup_watermark }", number(attr.wakeup_events.into())),
        ("bp_type", number(attr.bp_type.into())),
        ("{ bp_addr, config1 }", address(attr.config1)),
        ("{ bp_len, config2 }", address(attr.config2)),
        ("branch_sample_type", list(attr.branch_sample_type, BRANCH)),
        ("sample_regs_user", address(attr.sample_regs_user)),
        ("sample_stack_user", number(attr.sample_stack_user.into())),
        ("clockid", (attr.clockid != 0, attr.clockid.to_string())),
        ("sample_regs_intr", address(attr.sample_regs_intr)),
        ("aux_watermark", number(attr.aux_watermark.into())),
        ("sample_max_stack", number(attr.sample_max_stack.into())),
        ("aux_sample_size", number(attr.aux_sample_size.into())),
        ("sig_data", number(attr.sig_data)),
    ]);
    for (name, (is_set, value)) in fields {
        field(name, is_set, value);
    }
    line
}
