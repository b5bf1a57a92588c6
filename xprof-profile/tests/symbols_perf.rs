//! Names against perf's own: programs are recorded with `perf record`, and every address that `perf script` names is looked
//! up. What differs must have one of the causes listed here.

mod symbols_support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use symbols_support::{Files, compile, folder, run, user};
use xprof_profile::symbols::{Module, ModuleKind, Symbol, Symbolizer};

/// One address as perf names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    dso: String,
    /// File offset; for the kernel the address.
    address: u64,
    /// Name and distance from its start.
    perf: Option<(String, u64)>,
}

/// Where a file is mapped in a process: start, end, offset, path.
type Map = (u64, u64, u64, String);

/// All addresses of a recording.
fn by_perf(recording: &Path) -> BTreeSet<Named> {
    let text = run(
        "perf",
        &[
            "script",
            "-i",
            recording.to_str().unwrap(),
            "--no-inline",
            "--show-mmap-events",
            "--show-task-events",
            "-F",
            "pid,ip,sym,symoff,dso",
        ],
    );
    let mut maps: HashMap<String, Vec<Map>> = HashMap::new();
    let mut named = BTreeSet::new();
    let hex = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
    for line in text.lines() {
        if let Some((_, map)) = line.split_once("PERF_RECORD_MMAP") {
            // `2 12/12: [0x55(0x10) @ 0x20 fd:00 123 0]: r-xp /path`
            let (who, rest) = map.split_once(": [").unwrap();
            let pid = who.trim_start_matches('2').trim().split('/').next().unwrap();
            let (place, file) = rest.split_once("]: ").unwrap();
            let (start, place) = place.split_once('(').unwrap();
            let (len, place) = place.split_once(')').unwrap();
            let offset = place.trim_start().trim_start_matches("@ ").split_whitespace().next().unwrap();
            let path = file.split_once(' ').unwrap().1;
            let offset = if offset == "0" { 0 } else { hex(offset) };
            let start = hex(start);
            maps.entry(pid.to_owned()).or_default().push((
                start,
                start.wrapping_add(hex(len)),
                offset,
                path.to_owned(),
            ));
        } else if let Some((_, fork)) = line.split_once("PERF_RECORD_FORK(") {
            let (child, parent) = fork.split_once("):(").unwrap();
            let pid = |s: &str| s.split(':').next().unwrap().to_owned();
            let (child, parent) = (pid(child), pid(parent));
            if child != parent {
                let inherited = maps.get(&parent).cloned().unwrap_or_default();
                maps.insert(child, inherited);
            }
        } else if !line.contains("PERF_RECORD_") {
            // `  12  7f00 name+0x10 (/path)`
            let Some((pid, rest)) = line.trim().split_once(char::is_whitespace) else { continue };
            let (ip, rest) = rest.trim().split_once(' ').unwrap();
            let ip = u64::from_str_radix(ip, 16).unwrap();
            let (symbol, dso) = rest.rsplit_once(" (").unwrap();
            let dso = dso.trim_end_matches(')').to_owned();
            let perf = symbol.trim().rsplit_once("+0x").map(|(name, off)| (name.to_owned(), hex(off)));
            let perf = perf.filter(|(name, _)| name != "[unknown]");
            let address = if dso.starts_with('/') {
                let map = maps[pid].iter().rev().find(|m| m.0 <= ip && ip < m.1);
                let Some(map) = map.filter(|m| m.3 == dso) else { continue };
                ip - map.0 + map.2
            } else {
                ip
            };
            named.insert(Named { dso, address, perf });
        }
    }
    named
}

/// Sized symbols of a file that cover a file offset, by readelf: how many start at different places.
struct Covers {
    spans: Vec<(u64, u64)>,
}

impl Covers {
    fn new(path: &str) -> Covers {
        let hex = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
        let loads: Vec<(u64, u64, u64)> = run("readelf", &["-lW", path])
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .filter(|f| f.first() == Some(&"LOAD"))
            .map(|f| (hex(f[2]), hex(f[1]), hex(f[5])))
            .collect();
        let mut spans = BTreeSet::new();
        let mut text = run("readelf", &["-sW", path]);
        let debug = symbols_support::build_id(Path::new(path)).map(|id| symbols_support::installed_debug(&id));
        if let Some(debug) = debug.filter(|d| d.exists()) {
            text += &run("readelf", &["-sW", debug.to_str().unwrap()]);
        }
        for line in text.lines() {
            let f: Vec<&str> = line.split_whitespace().collect();
            if f.len() < 8 || !f[0].ends_with(':') || !matches!(f[3], "FUNC" | "IFUNC" | "OBJECT" | "NOTYPE") {
                continue;
            }
            if matches!(f[6], "UND" | "ABS") {
                continue;
            }
            let value = hex(f[1]);
            let size = f[2].strip_prefix("0x").map_or_else(|| f[2].parse().unwrap(), hex);
            if let Some(l) = loads.iter().find(|l| value >= l.0 && value - l.0 < l.2) {
                spans.insert((value - l.0 + l.1, value - l.0 + l.1 + size));
            }
        }
        Covers { spans: spans.into_iter().collect() }
    }

    fn count(&self, address: u64) -> usize {
        self.spans.iter().filter(|&&(s, e)| s <= address && address < e).count()
    }
}

/// Files of whose symbols perf says that it could not read all.
fn given_up(recording: &Path) -> BTreeSet<String> {
    let out = std::process::Command::new("perf")
        .args(["script", "-v", "-i", recording.to_str().unwrap(), "-F", "ip,sym"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let name =
        |l: &str| Some(l.strip_prefix("Failed to open ")?.strip_suffix(", continuing without symbols")?.to_owned());
    text.lines().filter_map(name).collect()
}

/// The causes, all there are.
fn cause(named: &Named, ours: &Option<Symbol>, covers: &Covers, given_up: bool) -> Option<&'static str> {
    match (&named.perf, ours) {
        (None, None) => Some("same"),
        (Some((name, off)), Some(ours)) if *name == *ours.name && named.address.wrapping_sub(ours.start) == *off => {
            Some("same")
        }
        // The same symbol: of two spellings of a C++ or Rust name.
        (Some((_, off)), Some(ours)) if named.address.wrapping_sub(ours.start) == *off => Some("spelling"),
        // perf 6.1 names the first linkage table only, and finds the label before it as often.
        (_, Some(ours)) if ours.name.ends_with("@plt") => Some("linkage table"),
        // Several sized symbols, or one that has no size in the file: perf takes what its tree leads to.
        (_, Some(_)) if covers.count(named.address) != 1 => Some("overlap"),
        (Some(_), None) if covers.count(named.address) == 0 => Some("no size"),
        // perf leaves a file at the first symbol that it does not understand, with its table half made.
        (None, Some(_)) if given_up => Some("perf gave up"),
        _ => None,
    }
}

/// Compares all of a recording; the number of addresses by cause.
fn compare(recording: &Path, symbolizer: &Symbolizer) -> BTreeMap<&'static str, usize> {
    let mut by_dso: BTreeMap<String, Vec<Named>> = BTreeMap::new();
    for named in by_perf(recording) {
        by_dso.entry(named.dso.clone()).or_default().push(named);
    }
    let given_up = given_up(recording);
    let mut causes = BTreeMap::new();
    for (dso, all) in by_dso {
        let module = match &dso[..] {
            "[kernel.kallsyms]" => Module {
                path: dso.clone().into(),
                kind: ModuleKind::Kernel { reference: None },
                build_id: None,
                pid: None,
            },
            path if path.starts_with('/') => user(Path::new(path)),
            _ => continue,
        };
        let covers = if dso.starts_with('/') { Covers::new(&dso) } else { Covers { spans: Vec::new() } };
        let addresses: Vec<u64> = all.iter().map(|n| n.address).collect();
        let (found, _) = symbolizer.lookup(&module, &addresses);
        for (named, ours) in all.iter().zip(&found) {
            let cause = cause(named, ours, &covers, given_up.contains(&dso)).unwrap_or_else(|| {
                panic!("{} {:#x}: perf says {:?}, we {ours:?}", named.dso, named.address, named.perf)
            });
            if cause != "same" {
                eprintln!("{cause}: {} {:#x}: perf {:?}, we {ours:?}", named.dso, named.address, named.perf);
            }
            *causes.entry(cause).or_default() += 1;
        }
    }
    causes
}

fn check(causes: &BTreeMap<&str, usize>, at_least: usize) {
    let all: usize = causes.values().sum();
    let same = causes.get("same").copied().unwrap_or(0);
    eprintln!("{causes:?}");
    assert!(all >= at_least, "only {all} addresses");
    assert!((all - same) * 100 < all, "more than 1 % differ: {causes:?}");
}

#[test]
fn a_compiler_run() {
    let folder = folder("perf-rustc");
    std::fs::write(folder.join("t.rs"), "fn main() { println!(\"{:?}\", std::env::args().collect::<Vec<_>>()); }")
        .unwrap();
    let (data, out) = (folder.join("perf.data"), folder.join("t"));
    let source = folder.join("t.rs");
    let [data_path, out, source] = [&data, &out, &source].map(|p| p.to_str().unwrap());
    run("perf", &["record", "-q", "-N", "-e", "page-faults:u", "-c", "1", "-o", data_path, "rustc", source, "-o", out]);
    let mut files = Files::empty();
    files.installed = true;
    check(&compare(&data, &Symbolizer::new(std::sync::Arc::new(files))), 1500);
}

#[test]
fn a_cpp_program_and_the_kernel() {
    let program = compile(
        "perf-cpp",
        "cc",
        r#"
#include <algorithm>
#include <map>
#include <string>
#include <vector>
namespace shop {
struct Order { std::string what; long price; };
template <typename T, int N> struct Heap { std::vector<T> all; void add(T t) __attribute__((noinline)); };
template <typename T, int N> void Heap<T, N>::add(T t) { all.push_back(t); std::push_heap(all.begin(), all.end()); }
__attribute__((noinline)) long sum(const std::map<std::string, Order> &orders) {
  long s = 0; for (auto &o : orders) s += o.second.price; return s; }
}
int main() {
  long total = 0;
  for (int round = 0; round < 60; round++) {
    std::map<std::string, shop::Order> orders; shop::Heap<long, 3> heap;
    for (long i = 0; i < 3000; i++) { auto name = std::to_string(i * 7919 % 3001); orders[name] = {name, i}; heap.add(i ^ 55); }
    std::sort(heap.all.begin(), heap.all.end(), [](long a, long b) { return a % 97 < b % 97; });
    total += shop::sum(orders) + heap.all[7];
  }
  return total == 42;
}
"#,
        &["g++", "-O1", "-g0"],
    );
    let data = folder("perf-cpp").join("perf.data");
    let program = program.to_str().unwrap();
    run("perf", &["record", "-q", "-N", "-e", "cpu-clock", "-F", "15000", "-o", data.to_str().unwrap(), program]);
    let mut files = Files::empty();
    files.installed = true;
    files.kallsyms = Some(std::fs::read("/proc/kallsyms").unwrap());
    check(&compare(&data, &Symbolizer::new(std::sync::Arc::new(files))), 200);
}
