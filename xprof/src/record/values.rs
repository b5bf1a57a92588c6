//! Values of single options: sizes, times, lists, clocks, WHEN of `--switch-output`, descriptors of `--control`.
//!
//! Each parser gives an error that says what would be right; clap puts the option's name before it.

use std::path::PathBuf;
use std::time::Duration;

use super::unwinding::SIZE_MAX;

use xprof_backend::plan::Sources;
use xprof_backend::simulated::Simulated;

/// Bytes of a stack copy when nothing is said.
pub(crate) const STACK_SIZE: u32 = 32 << 10;

/// CPU numbers above this are typing errors (the kernel's NR_CPUS ends far below).
const CPU_MAX: u32 = 1 << 20;

/// `-F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frequency {
    /// Samples per second.
    Hz(u64),
    /// As many as the kernel allows.
    Max,
}

/// `--call-graph`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallGraphMode {
    /// Frame pointers.
    Fp,
    /// Copies of the stack, of this many bytes, unwound by call frame information.
    Dwarf(u32),
    /// The calls that the CPU keeps.
    Lbr,
}

/// `-m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingSize {
    /// Pages of the data area.
    Pages(u64),
    /// Bytes of the data area.
    Bytes(u64),
}

/// `--switch-output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// On SIGUSR2.
    Signal,
    /// When the file has reached this many bytes.
    Bytes(u64),
    /// After this time.
    Time(Duration),
}

/// `--control`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Inherited descriptors: commands, answers.
    Fds(i32, Option<i32>),
    /// FIFOs: commands, answers.
    Fifos(PathBuf, Option<PathBuf>),
}

/// `--backend`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BackendChoice {
    /// The best one here.
    Auto,
    /// `perf_event_open`.
    Native,
    /// Domains of a Xen host.
    Xen,
    /// A recording.
    Replay(PathBuf),
    /// A machine that is not there.
    Simulated(Simulated),
}

/// Numbers separated by commas, ascending, each once (CPUs, pids, tids).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers(pub(crate) Vec<u32>);

/// `HZ` or `max`.
pub(crate) fn frequency(text: &str) -> Result<Frequency, String> {
    if text == "max" {
        return Ok(Frequency::Max);
    }
    match text.parse() {
        Ok(0) => Err("a rate of 0 Hz takes no samples; -c N takes one each N events".into()),
        Ok(hz) => Ok(Frequency::Hz(hz)),
        Err(_) => Err("a number of samples per second, or max".into()),
    }
}

/// A period, one or more events.
pub(crate) fn period(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number of events between two samples, 1 or more".into()),
        Ok(n) => Ok(n),
    }
}

/// How call stacks are taken.
pub(crate) fn call_graph(text: &str) -> Result<CallGraphMode, String> {
    let (mode, size) = text.split_once(',').map_or((text, None), |(mode, size)| (mode, Some(size)));
    match (mode, size) {
        // perf's other parts (print types, limits) say how to report.
        ("fp", _) => Ok(CallGraphMode::Fp),
        ("lbr", _) => Ok(CallGraphMode::Lbr),
        ("dwarf", None) => Ok(CallGraphMode::Dwarf(STACK_SIZE)),
        ("dwarf", Some(size)) => match size.parse::<u32>().ok().map(|bytes| bytes.next_multiple_of(8)) {
            Some(bytes @ 8..=SIZE_MAX) => Ok(CallGraphMode::Dwarf(bytes)),
            _ => Err(format!("{size}: a stack copy has 8 to {SIZE_MAX} bytes")),
        },
        _ => Err("fp, dwarf[,BYTES] or lbr".into()),
    }
}

/// Pages, or bytes with one of the suffixes B, K, M, G.
pub(crate) fn ring_size(text: &str) -> Result<RingSize, String> {
    if let Ok(pages) = text.parse::<u64>() {
        return if pages == 0 { Err("0 pages hold nothing".into()) } else { Ok(RingSize::Pages(pages)) };
    }
    bytes(text).map(RingSize::Bytes).ok_or_else(|| "pages, or bytes with a suffix: 512, 4M".into())
}

/// Seconds, with a fraction if need be.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let answer = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    answer.filter(|d| !d.is_zero()).ok_or_else(|| "seconds, more than 0".into())
}

/// Milliseconds, or -1.
pub(crate) fn delay(text: &str) -> Result<i64, String> {
    text.parse()
        .ok()
        .filter(|ms| *ms >= -1)
        .ok_or_else(|| "milliseconds, or -1 to start with events off until --control enables them".into())
}

/// `signal`, a size or a time, as perf writes them.
pub(crate) fn switch(text: &str) -> Result<Switch, String> {
    if text == "signal" {
        return Ok(Switch::Signal);
    }
    if let Some(size) = bytes(text) {
        return Ok(Switch::Bytes(size));
    }
    let unit = |suffix: &str, seconds: u64| {
        let count = text.strip_suffix(suffix)?.parse::<u64>().ok()?;
        count.checked_mul(seconds).filter(|s| *s > 0).map(Duration::from_secs)
    };
    let time = unit("s", 1).or_else(|| unit("m", 60)).or_else(|| unit("h", 3600)).or_else(|| unit("d", 86_400));
    time.map(Switch::Time).ok_or_else(|| "signal, a size (B, K, M, G) or a time (s, m, h, d): 100M, 30s".into())
}

/// `fd:N[,M]` or `fifo:PATH[,ACK]`.
pub(crate) fn control(text: &str) -> Result<Control, String> {
    let expected = || "fd:COMMANDS[,ACK] or fifo:COMMANDS[,ACK]".to_string();
    let (kind, rest) = text.split_once(':').ok_or_else(expected)?;
    let (first, second) = match rest.split_once(',') {
        Some((first, second)) => (first, Some(second)),
        None => (rest, None),
    };
    if first.is_empty() || second == Some("") {
        return Err(expected());
    }
    match kind {
        "fd" => {
            let number = |text: &str| text.parse::<i32>().ok().filter(|n| *n >= 0).ok_or_else(expected);
            Ok(Control::Fds(number(first)?, second.map(number).transpose()?))
        }
        "fifo" => Ok(Control::Fifos(first.into(), second.map(PathBuf::from))),
        _ => Err(expected()),
    }
}

/// `auto`, `native`, `replay:FILE`, `simulated[:OPTION=VALUE,..]`.
pub(crate) fn backend(text: &str) -> Result<BackendChoice, String> {
    match text {
        "auto" => Ok(BackendChoice::Auto),
        "native" => Ok(BackendChoice::Native),
        "xen" => Ok(BackendChoice::Xen),
        "simulated" => Ok(BackendChoice::Simulated(Simulated::default())),
        _ => match text.split_once(':') {
            Some(("replay", file)) if !file.is_empty() => Ok(BackendChoice::Replay(file.into())),
            Some(("simulated", options)) => options.parse().map(BackendChoice::Simulated),
            _ => Err("auto, native, xen, simulated[:OPTION=VALUE,..] or replay:FILE".into()),
        },
    }
}

/// Sources of what is known of domains, separated by commas.
pub(crate) fn sources(text: &str) -> Result<Sources, String> {
    let mut sources = Sources { context: false, trace: false, vpmu: false };
    for name in text.split(',') {
        match name {
            "context" => sources.context = true,
            "trace" => sources.trace = true,
            "vpmu" => (sources.trace, sources.vpmu) = (true, true),
            _ => return Err("context, trace or vpmu, or several: context,trace".into()),
        }
    }
    Ok(sources)
}

/// perf's names of clocks, as `CLOCK_*` of `include/uapi/linux/time.h`.
pub(crate) fn clock(text: &str) -> Result<i32, String> {
    let name = text.to_ascii_lowercase();
    match name.strip_prefix("clock_").unwrap_or(&name) {
        "realtime" | "real" => Ok(0),
        "monotonic" | "mono" => Ok(1),
        "monotonic_raw" | "raw" | "mono_raw" => Ok(4),
        "boottime" | "boot" => Ok(7),
        "tai" => Ok(11),
        _ => Err("one of monotonic, monotonic_raw, boottime, realtime, tai".into()),
    }
}

/// CPUs as `0,2-5`, ascending, each once.
pub(crate) fn cpus(text: &str) -> Result<Numbers, String> {
    let expected = || "CPU numbers and ranges: 0,2-5".to_string();
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < CPU_MAX).ok_or_else(expected);
    let mut list = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(expected());
                }
                list.extend(first..=last);
            }
            None => list.push(number(part)?),
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(Numbers(list))
}

/// Process or thread ids separated by commas, ascending, each once.
pub(crate) fn ids(text: &str) -> Result<Numbers, String> {
    let id = |part: &str| part.trim().parse().ok().filter(|id| (1..=i32::MAX as u32).contains(id));
    let list: Option<Vec<u32>> = text.split(',').map(id).collect();
    let mut list = list.ok_or_else(|| "ids separated by commas".to_string())?;
    list.sort_unstable();
    list.dedup();
    Ok(Numbers(list))
}

/// A size with a suffix, in bytes; more than 0.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'B' | b'b' => (text.get(..text.len() - 1)?, 0),
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!(frequency("max"), Ok(Frequency::Max));
        assert_eq!(frequency("997"), Ok(Frequency::Hz(997)));
        assert!(frequency("0").is_err() && frequency("-1").is_err() && frequency("fast").is_err());
        assert_eq!(period("1"), Ok(1));
        assert!(period("0").is_err());
    }

    #[test]
    fn call_graph_modes() {
        assert_eq!(call_graph("fp"), Ok(CallGraphMode::Fp));
        assert_eq!(call_graph("dwarf"), Ok(CallGraphMode::Dwarf(32_768)));
        assert_eq!(call_graph("dwarf,8190"), Ok(CallGraphMode::Dwarf(8192)));
        assert_eq!(call_graph("dwarf,65528"), Ok(CallGraphMode::Dwarf(65_528)));
        assert_eq!(call_graph("lbr"), Ok(CallGraphMode::Lbr));
        for wrong in ["magic", "dwarf,0", "dwarf,65529", "dwarf,x", "dwarf,"] {
            assert!(call_graph(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ring_sizes() {
        assert_eq!(ring_size("128"), Ok(RingSize::Pages(128)));
        assert_eq!(ring_size("4M"), Ok(RingSize::Bytes(4 << 20)));
        assert_eq!(ring_size("16K"), Ok(RingSize::Bytes(16 << 10)));
        assert!(ring_size("0").is_err() && ring_size("4X").is_err() && ring_size("99999999999G").is_err());
    }

    #[test]
    fn times() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("nan").is_err());
        assert_eq!(delay("-1"), Ok(-1));
        assert_eq!(delay("250"), Ok(250));
        assert!(delay("-2").is_err());
    }

    #[test]
    fn switches() {
        assert_eq!(switch("signal"), Ok(Switch::Signal));
        assert_eq!(switch("100M"), Ok(Switch::Bytes(100 << 20)));
        assert_eq!(switch("30s"), Ok(Switch::Time(Duration::from_secs(30))));
        assert_eq!(switch("2m"), Ok(Switch::Time(Duration::from_secs(120))));
        assert_eq!(switch("1d"), Ok(Switch::Time(Duration::from_secs(86_400))));
        assert!(switch("0s").is_err() && switch("soon").is_err() && switch("").is_err());
    }

    #[test]
    fn controls() {
        assert_eq!(control("fd:3"), Ok(Control::Fds(3, None)));
        assert_eq!(control("fd:3,4"), Ok(Control::Fds(3, Some(4))));
        assert_eq!(control("fifo:/a,/b"), Ok(Control::Fifos("/a".into(), Some("/b".into()))));
        assert!(control("fd:").is_err() && control("fd:-1").is_err() && control("file:x").is_err());
        assert!(control("fifo:/a,").is_err() && control("3").is_err());
    }

    #[test]
    fn backends() {
        assert_eq!(backend("auto"), Ok(BackendChoice::Auto));
        assert_eq!(backend("replay:a.data"), Ok(BackendChoice::Replay("a.data".into())));
        let seven = Simulated { seed: 7, ..Simulated::default() };
        assert_eq!(backend("simulated:seed=7"), Ok(BackendChoice::Simulated(seven)));
        assert!(backend("simulated:seed").is_err() && backend("replay:").is_err());
        assert_eq!(backend("xen"), Ok(BackendChoice::Xen));
        assert!(backend("replay:").is_err());
    }

    #[test]
    fn sources_of_domains() {
        assert_eq!(sources("context"), Ok(Sources::default()));
        let of = |context, vpmu| Ok(Sources { context, trace: true, vpmu });
        assert_eq!(sources("trace,context"), of(true, false));
        assert_eq!(sources("trace"), of(false, false));
        assert_eq!(sources("vpmu"), of(false, true));
        assert_eq!(sources("context,vpmu"), sources("context,trace,vpmu"));
        assert!(sources("").is_err() && sources("context,").is_err() && sources("vpmi").is_err());
    }

    #[test]
    fn clocks() {
        let known =
            [("mono", 1), ("monotonic", 1), ("CLOCK_BOOTTIME", 7), ("realtime", 0), ("tai", 11), ("mono_raw", 4)];
        for (name, id) in known {
            assert_eq!(clock(name), Ok(id), "{name}");
        }
        assert!(clock("sundial").is_err());
    }

    #[test]
    fn lists() {
        assert_eq!(cpus("3,0-1,1"), Ok(Numbers(vec![0, 1, 3])));
        assert!(cpus("3-1").is_err() && cpus("").is_err() && cpus("0-4294967295").is_err());
        assert_eq!(ids("7,3,7"), Ok(Numbers(vec![3, 7])));
        assert!(ids("0").is_err() && ids("self").is_err() && ids("1,,2").is_err());
    }
}
