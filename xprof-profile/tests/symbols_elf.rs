//! Symbol tables against nm and readelf: every sized function resolves to a name at its address, from its first to its last
//! byte; what no symbol covers has no name.

mod symbols_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use symbols_support::{Files, build_id, compile, run, user};
use xprof_perfdata::source::Source;
use xprof_profile::symbols::{Symbolizer, build_id_of};

/// One line of `readelf -sW`.
#[derive(Debug)]
struct Line {
    value: u64,
    size: u64,
    kind: String,
    section: String,
    name: String,
}

/// Symbols of both tables, without versions.
fn readelf_symbols(path: &Path) -> Vec<Line> {
    let text = run("readelf", &["-sW", path.to_str().unwrap()]);
    let mut lines = Vec::new();
    for line in text.lines() {
        let f: Vec<&str> = line.split_whitespace().collect();
        if f.len() < 8 || !f[0].ends_with(':') || f[0] == "Num:" {
            continue;
        }
        let size =
            f[2].strip_prefix("0x").map_or_else(|| f[2].parse().unwrap(), |h| u64::from_str_radix(h, 16).unwrap());
        lines.push(Line {
            value: u64::from_str_radix(f[1], 16).unwrap(),
            size,
            kind: f[3].into(),
            section: f[6].into(),
            name: f[7].into(),
        });
    }
    lines
}

/// Loaded segments of `readelf -lW`: address, file offset, length in memory.
fn readelf_loads(path: &Path) -> Vec<(u64, u64, u64)> {
    let hex = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16).unwrap();
    run("readelf", &["-lW", path.to_str().unwrap()])
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>())
        .filter(|f| f.first() == Some(&"LOAD"))
        .map(|f| (hex(f[2]), hex(f[1]), hex(f[5])))
        .collect()
}

fn offset(loads: &[(u64, u64, u64)], value: u64) -> u64 {
    let load = loads.iter().find(|l| value >= l.0 && value - l.0 < l.2).expect("address in no segment");
    value - load.0 + load.1
}

/// Checks every sized function, and every gap between sized symbols that no label can reach into.
fn check(path: &Path, at_least: usize) {
    let symbols = readelf_symbols(path);
    let loads = readelf_loads(path);
    // Address -> names, raw. Several functions can stand at one address.
    let mut names: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut spans = Vec::new();
    let mut labels = BTreeSet::new();
    for s in symbols.iter().filter(|s| s.section != "UND" && s.section != "ABS") {
        match s.kind.as_str() {
            "FUNC" | "IFUNC" if s.size > 0 => {
                names.entry(s.value).or_default().insert(without_version(&s.name));
                spans.push((s.value, s.value + s.size));
            }
            "FUNC" | "IFUNC" | "NOTYPE" | "OBJECT" => drop(labels.insert(s.value)),
            _ => {}
        }
    }
    spans.sort_unstable();
    spans.dedup();
    // Only functions that no other symbol reaches into or starts in.
    let alone: Vec<(u64, u64)> = spans
        .iter()
        .filter(|&&(start, end)| {
            let overlaps = spans.iter().filter(|&&(s, e)| s < end && start < e).count() > 1;
            !overlaps && labels.range(start..end).next().is_none()
        })
        .copied()
        .collect();
    assert!(alone.len() >= at_least, "{}: only {} functions to check", path.display(), alone.len());
    let mut wanted = BTreeMap::new();
    for &(start, end) in &alone {
        for address in [start, start + (end - start) / 2, end - 1] {
            wanted.insert(offset(&loads, address), (start, end, true));
        }
    }
    // Gaps: the byte behind a function, when nothing starts there and no label comes before it without a size.
    for &(start, end) in &alone {
        let covered = spans.iter().any(|&(s, e)| s <= end && end < e);
        let label = labels.range(..=end).next_back().is_some_and(|&l| l > start)
            || labels.iter().next_back().is_none()
            || labels.range(..start).next_back() > spans.iter().map(|s| &s.0).filter(|&&s| s < start).max();
        let loaded = loads.iter().any(|l| end >= l.0 && end - l.0 < l.2);
        if !covered && !label && loaded {
            wanted.entry(offset(&loads, end)).or_insert((start, end, false));
        }
    }
    let addresses: Vec<u64> = wanted.keys().copied().collect();
    let symbolizer = Symbolizer::new(Files::new());
    let (found, _) = symbolizer.lookup(&user(path), &addresses);
    for ((address, (start, end, named)), symbol) in wanted.iter().zip(&found) {
        let at = format!("{} at {address:#x} ({start:#x}..{end:#x})", path.display());
        if !named {
            assert_eq!(symbol, &None, "{at}: nothing is there");
            continue;
        }
        let symbol = symbol.as_ref().unwrap_or_else(|| panic!("{at}: no name"));
        assert_eq!((symbol.start, symbol.size), (offset(&loads, *start), end - start), "{at}");
        let shown: BTreeSet<String> = symbols_support::filt(names[start].iter());
        assert!(
            shown.contains(&*symbol.name) || names[start].iter().any(|n| *symbol.name == **n),
            "{at}: {} is none of {shown:?}",
            symbol.name
        );
    }
}

#[test]
fn functions_of_a_c_program() {
    let program = compile(
        "c-elf",
        "c",
        "static int __attribute__((noinline)) inner(int a) { return a * 3; }\nint outer(int a) { return inner(a) + 1; }\nint main(int n, char **v) { return outer(n); }\n",
        &["gcc", "-O1"],
    );
    check(&program, 3);
}

/// Code that needs nothing of a library but one function that is not there.
const ALONE: &str = "int outside(int);\n\
    static int __attribute__((noinline)) one(int a) { return outside(a * 3) + 1; }\n\
    int __attribute__((noinline)) two(int a) { return one(a) + 2; }\n\
    int __attribute__((noinline)) three(int a) { return one(a) + two(a); }\n";

#[test]
fn functions_of_a_32_bit_library() {
    let compiler = ["gcc", "-m32", "-O1", "-fPIC", "-shared", "-nostdlib", "-Wl,--build-id=sha1", "-Wl,-z,lazy"];
    let library = compile("elf-32", "c", ALONE, &compiler);
    check(&library, 3);
    let bytes: Arc<dyn Source> = Arc::new(std::fs::read(&library).unwrap());
    assert_eq!(build_id_of(bytes).map(|id| id.to_string()), build_id(&library));
    // objdump's name of the linkage table's entry: `00001010 <outside@plt>:`. GNU ld says that entries have 4 bytes.
    let text = run("objdump", &["-d", "-j", ".plt", library.to_str().unwrap()]);
    let line = text.lines().find(|l| l.ends_with(" <outside@plt>:")).unwrap();
    let start = offset(&readelf_loads(&library), u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap());
    let (found, _) = Symbolizer::new(Files::new()).lookup(&user(&library), &[start, start + 15]);
    for found in found {
        assert_eq!(found.map(|f| (f.name.to_string(), f.start, f.size)), Some(("outside@plt".into(), start, 16)));
    }
}

/// Turns the bytes of fields of these widths.
fn turn(bytes: &mut [u8], widths: &[usize]) {
    let mut at = 0;
    for width in widths {
        bytes[at..at + width].reverse();
        at += width;
    }
}

/// The big-endian twin of a 64-bit program: its headers, symbols, relocations and build id.
fn turned(program: &[u8]) -> Vec<u8> {
    let number = |at: usize, width: usize| {
        program[at..at + width].iter().rev().fold(0usize, |number, &b| number << 8 | usize::from(b))
    };
    let mut twin = program.to_vec();
    twin[5] = 2;
    turn(&mut twin[16..], &[2, 2, 4, 8, 8, 8, 4, 2, 2, 2, 2, 2, 2]);
    for i in 0..number(56, 2) {
        turn(&mut twin[number(32, 8) + i * 56..], &[4, 4, 8, 8, 8, 8, 8, 8]);
    }
    for i in 0..number(60, 2) {
        let header = number(40, 8) + i * 64;
        let (kind, flags, offset, size) =
            (number(header + 4, 4), number(header + 8, 8), number(header + 24, 8), number(header + 32, 8));
        let (len, widths): (usize, &[usize]) = match kind {
            // SHT_SYMTAB, SHT_DYNSYM
            2 | 11 => (24, &[4, 1, 1, 2, 8, 8]),
            // SHT_RELA
            4 => (24, &[8, 8, 8]),
            // SHT_NOTE: the first of a section
            7 if flags != 0 => (size, &[4, 4, 4]),
            _ => (usize::MAX, &[]),
        };
        for entry in twin[offset.min(program.len())..].chunks_exact_mut(len).take(size / len) {
            turn(entry, widths);
        }
        turn(&mut twin[header..], &[4, 4, 8, 8, 8, 8, 4, 4, 8, 8]);
    }
    twin
}

#[test]
fn the_other_byte_order() {
    let compiler = ["gcc", "-O1", "-fPIC", "-shared", "-nostdlib", "-Wl,--build-id=sha1", "-Wl,-z,lazy"];
    let library = compile("elf-turned", "c", ALONE, &compiler);
    let twin = library.with_file_name("twin");
    std::fs::write(&twin, turned(&std::fs::read(&library).unwrap())).unwrap();
    check(&twin, 3);
    assert!(readelf_symbols(&twin).iter().any(|s| s.name == "three"));
    let bytes: Arc<dyn Source> = Arc::new(std::fs::read(&twin).unwrap());
    assert_eq!(build_id_of(bytes).map(|id| id.to_string()), build_id(&library));
    // All of it, linkage table included, is named as in the program it is the twin of.
    let addresses: Vec<u64> = (0..std::fs::metadata(&twin).unwrap().len()).collect();
    let [ours, theirs] = [&library, &twin].map(|f| Symbolizer::new(Files::new()).lookup(&user(f), &addresses).0);
    assert!(ours.iter().flatten().any(|s| &*s.name == "outside@plt"));
    assert_eq!(ours, theirs);
}

#[test]
fn functions_of_system_libraries() {
    check(Path::new("/lib/x86_64-linux-gnu/libc.so.6"), 1500);
    check(Path::new("/lib/x86_64-linux-gnu/libm.so.6"), 400);
}

/// readelf shows the versions of dynamic symbols behind their names; the file has them elsewhere.
fn without_version(name: &str) -> String {
    name.split('@').next().unwrap().to_owned()
}
