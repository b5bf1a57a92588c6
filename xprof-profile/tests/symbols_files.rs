//! Where names come from when a program is stripped, changed, cut short or gone.

mod symbols_support;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use symbols_support::{Files, build_id, bytes_of, compile, folder, run, user};
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::symbols::{Module, ModuleKind, Reference, Symbolizer};

const PROGRAM: &str = "static int __attribute__((noinline)) hidden_one(int a) { return a * 3; }\n\
    int __attribute__((noinline)) hidden_two(int a) { return hidden_one(a) + 1; }\n\
    int main(int n, char **v) { return hidden_two(n); }\n";

/// File offset of a function, by nm: the program is linked so that text lies at its file offset.
fn offset(program: &Path, function: &str) -> u64 {
    let nm = run("nm", &[program.to_str().unwrap()]);
    let line = nm.lines().find(|l| l.ends_with(&format!(" {function}"))).unwrap();
    u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
}

/// A program with debug information and, beside it, a stripped copy; with or without build id.
fn programs(name: &str, with_id: bool) -> (PathBuf, PathBuf) {
    let id = if with_id { "-Wl,--build-id=sha1" } else { "-Wl,--build-id=none" };
    let whole = compile(name, "c", PROGRAM, &["gcc", "-O1", "-g", "-pie", "-fPIE", id]);
    let stripped = whole.with_file_name("stripped");
    run("strip", &["-o", stripped.to_str().unwrap(), whole.to_str().unwrap()]);
    (whole, stripped)
}

/// What two functions of the program are called, and the advice.
fn names(files: Files, module: &Module, whole: &Path) -> (Vec<Option<String>>, Option<String>) {
    let addresses = [offset(whole, "hidden_one") + 1, offset(whole, "hidden_two") + 1];
    let (found, missing) = Symbolizer::new(Arc::new(files)).lookup(module, &addresses);
    (found.into_iter().map(|s| s.map(|s| s.name.to_string())).collect(), missing.map(|m| m.advice))
}

fn both() -> Vec<Option<String>> {
    vec![Some("hidden_one".into()), Some("hidden_two".into())]
}

#[test]
fn a_stripped_program_says_what_would_help() {
    let (whole, stripped) = programs("files-stripped", true);
    let (found, advice) = names(Files::empty(), &user(&stripped), &whole);
    assert_eq!(found, [None, None]);
    let advice = advice.unwrap();
    assert!(advice.starts_with(stripped.to_str().unwrap()) && advice.contains("-dbgsym"), "{advice}");
}

#[test]
fn debuglink_by_its_checksum() {
    for compress in [None, Some("zlib"), Some("zstd")] {
        let name = format!("files-link-{}", compress.unwrap_or("plain"));
        let (whole, stripped) = programs(&name, false);
        let debug = whole.with_file_name("program.debug");
        let (whole_path, debug_path) = (whole.to_str().unwrap(), debug.to_str().unwrap());
        run("objcopy", &["--only-keep-debug", whole_path, debug_path]);
        if let Some(how) = compress {
            run("objcopy", &[&format!("--compress-debug-sections={how}"), debug_path]);
        }
        run("objcopy", &[&format!("--add-gnu-debuglink={debug_path}"), stripped.to_str().unwrap()]);
        assert_eq!(names(Files::empty(), &user(&stripped), &whole), (both(), None), "{name}");
        // In the folder `.debug` as well.
        let inner = whole.with_file_name(".debug");
        fs::create_dir_all(&inner).unwrap();
        fs::rename(&debug, inner.join("program.debug")).unwrap();
        assert_eq!(names(Files::empty(), &user(&stripped), &whole), (both(), None), "{name}");
        // One byte more: another checksum.
        let mut bytes = fs::read(inner.join("program.debug")).unwrap();
        bytes.push(0);
        fs::write(inner.join("program.debug"), bytes).unwrap();
        assert_eq!(names(Files::empty(), &user(&stripped), &whole).0, [None, None], "{name}");
    }
}

#[test]
fn debug_file_by_build_id() {
    let (whole, stripped) = programs("files-id", true);
    let debug = whole.with_file_name("elsewhere");
    run("objcopy", &["--only-keep-debug", whole.to_str().unwrap(), debug.to_str().unwrap()]);
    let id = build_id(&whole).unwrap();
    let mut files = Files::empty();
    files.debug.push((id.clone(), debug.clone()));
    assert_eq!(names(files, &user(&stripped), &whole), (both(), None));
    // A debug file of another build in its place is refused.
    let other = compile("files-id-other", "c", &PROGRAM.replace('3', "4"), &["gcc", "-g", "-Wl,--build-id=sha1"]);
    let mut files = Files::empty();
    files.debug.push((id.clone(), other));
    assert_eq!(names(files, &user(&stripped), &whole).0, [None, None]);
    // The program is gone: the debug file alone does not say where in the program its functions are, and is not guessed from.
    let mut files = Files::empty();
    files.debug.push((id.clone(), debug));
    let gone = Module { path: b"/gone/program".into(), build_id: Some(bytes_of(&id)), ..user(&stripped) };
    let (found, advice) = names(files, &gone, &whole);
    assert_eq!(found, [None, None]);
    assert!(advice.unwrap().starts_with("/gone/program: is not here"));
}

#[test]
fn a_program_that_was_changed_is_refused() {
    let (whole, _) = programs("files-changed", true);
    let id = build_id(&whole).unwrap();
    let module = |id: &str, path: &Path| Module { build_id: Some(bytes_of(id)), ..user(path) };
    assert_eq!(names(Files::empty(), &module(&id, &whole), &whole), (both(), None));
    // Recorders of old kernels fill a build id up with zeros.
    let short = compile("files-short-id", "c", PROGRAM, &["gcc", "-O1", "-pie", "-fPIE", "-Wl,--build-id=md5"]);
    let padded = build_id(&short).unwrap() + "00000000";
    assert_eq!(names(Files::empty(), &module(&padded, &short), &short), (both(), None));
    let other = "00112233445566778899aabbccddeeff00112233";
    let (found, advice) = names(Files::empty(), &module(other, &whole), &whole);
    assert_eq!(found, [None, None]);
    let advice = advice.unwrap();
    assert!(advice.contains(&format!("its build id is {id} now")) && advice.contains(other), "{advice}");
    // The cache still has the one that was recorded.
    let mut files = Files::empty();
    files.cached.push((id.clone(), "elf", whole.clone()));
    let deleted = PathBuf::from(format!("{} (deleted)", folder("files-changed").join("gone").display()));
    assert_eq!(names(files, &module(&id, &deleted), &whole), (both(), None));
    // Deleted, and nothing to know it by: what has its path now is not believed.
    let deleted = PathBuf::from(format!("{} (deleted)", whole.display()));
    let (found, advice) = names(Files::empty(), &user(&deleted), &whole);
    assert_eq!(found, [None, None]);
    assert!(advice.unwrap().contains("was deleted"));
}

#[test]
fn names_in_gnu_debugdata() {
    let (whole, stripped) = programs("files-mini", true);
    let mini = whole.with_file_name("mini");
    let [whole_path, stripped_path, mini_path] = [&whole, &stripped, &mini].map(|p| p.to_str().unwrap());
    run("objcopy", &["--only-keep-debug", whole_path, mini_path]);
    run("objcopy", &["--strip-debug", "--remove-section=.comment", mini_path]);
    run("xz", &["-f", mini_path]);
    run("objcopy", &["--add-section", &format!(".gnu_debugdata={mini_path}.xz"), stripped_path]);
    assert_eq!(names(Files::empty(), &user(&stripped), &whole).0, both());
}

#[test]
fn object_files_such_as_kernel_modules() {
    // Nothing is placed yet in an object file: a symbol's value counts from its section, whose offset readelf knows.
    let object = compile("files-object", "c", PROGRAM, &["gcc", "-O1", "-c", "-ffunction-sections"]);
    let sections = run("readelf", &["-SW", object.to_str().unwrap()]);
    let offset_of = |function: &str| {
        let line = sections.lines().find(|l| l.contains(&format!(" .text.{function} "))).unwrap();
        let fields: Vec<&str> = line.split(']').nth(1).unwrap().split_whitespace().collect();
        u64::from_str_radix(fields[3], 16).unwrap() + offset(&object, function)
    };
    let wanted = ["hidden_one", "hidden_two"].map(|name| (name, offset_of(name)));
    let (found, _) = Symbolizer::new(Files::new()).lookup(&user(&object), &wanted.map(|w| w.1));
    let found: Vec<_> = found.iter().flatten().map(|s| (&*s.name, s.start)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn linkage_table() {
    let program = compile(
        "files-plt",
        "c",
        "#include <stdlib.h>\n#include <unistd.h>\nint main(int n, char **v) { return getpid() + abs(getppid()); }\n",
        &["gcc", "-O1", "-no-pie", "-Wl,-z,lazy"],
    );
    // objdump's own names of the entries: `0000000000401030 <getpid@plt>:`
    let text = run("objdump", &["-d", "-j", ".plt", program.to_str().unwrap()]);
    let wanted: Vec<(u64, String)> = text
        .lines()
        .filter_map(|l| l.strip_suffix(">:")?.split_once(" <"))
        .filter(|(_, name)| !name.starts_with('.') && !name.contains("-0x"))
        .map(|(a, name)| (u64::from_str_radix(a, 16).unwrap() - 0x40_0000, name.to_owned()))
        .collect();
    assert!(wanted.iter().any(|w| w.1 == "getpid@plt") && wanted.iter().any(|w| w.1 == "getppid@plt"), "{wanted:?}");
    let addresses: Vec<u64> = wanted.iter().flat_map(|w| [w.0, w.0 + 15]).collect();
    let (found, _) = Symbolizer::new(Files::new()).lookup(&user(&program), &addresses);
    for (found, wanted) in found.chunks(2).zip(&wanted) {
        for found in found {
            assert_eq!(found.as_ref().map(|f| (&*f.name, f.start, f.size)), Some((&*wanted.1, wanted.0, 16)));
        }
    }
}

#[test]
fn run_time_code_kernel_and_one_symbol() {
    let mut files = Files::empty();
    files.perf_map = Some(b"7f0000001000 20 Interpreter\n".to_vec());
    files.kallsyms = Some(b"0000000000000000 T _stext\n".to_vec());
    let symbolizer = Symbolizer::new(Arc::new(files));
    let module = |kind| Module { path: b"x".into(), kind, build_id: None, pid: None };
    let (found, missing) = symbolizer.lookup(&module(ModuleKind::Jit { pid: 7, dump: None }), &[0x7f00_0000_1000]);
    assert_eq!((found[0].as_ref().map(|f| &*f.name), missing), (Some("Interpreter"), None));
    let (_, missing) = symbolizer.lookup(&module(ModuleKind::Kernel { reference: None }), &[0xffff_ffff_8100_0000]);
    assert!(missing.unwrap().advice.contains("kptr_restrict"));
    let (found, _) =
        symbolizer.lookup(&module(ModuleKind::Ksymbol { start: 0x1000, len: 16 }), &[0xfff, 0x1000, 0x1010]);
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    let none = Symbolizer::new(Files::new());
    let (found, missing) = none.lookup(&module(ModuleKind::Jit { pid: 7, dump: None }), &[0x1000]);
    assert!(found[0].is_none() && missing.unwrap().advice.contains("/tmp/perf-7.map"));
    assert!(
        none.lookup(&module(ModuleKind::Kernel { reference: None }), &[1]).1.unwrap().advice.contains("--kallsyms")
    );
    assert_eq!(none.lookup(&module(ModuleKind::Pseudo), &[1]), (vec![None], None));
}

/// Answers every need with the same bytes.
struct Same(Vec<u8>);

impl Supplier for Same {
    fn supply(&self, _: &Need) -> io::Result<Arc<dyn Source>> {
        Ok(Arc::new(self.0.clone()))
    }
}

fn any_answer(bytes: Vec<u8>) {
    let addresses: Vec<u64> = (0..0x3000).step_by(97).chain([u64::MAX - 1, u64::MAX]).collect();
    let symbolizer = Symbolizer::new(Arc::new(Same(bytes)));
    let kernel = ModuleKind::Kernel { reference: Some(Reference { name: b"main".into(), address: 0x2000 }) };
    for kind in
        [ModuleKind::User, kernel, ModuleKind::KernelModule, ModuleKind::Vdso, ModuleKind::Jit { pid: 1, dump: None }]
    {
        let module = Module { path: b"/x".into(), kind, build_id: None, pid: None };
        assert_eq!(symbolizer.lookup(&module, &addresses).0.len(), addresses.len());
    }
}

/// A small program with all that is read: symbols, a link, a linkage table, packed names.
fn specimen() -> Vec<u8> {
    use std::sync::OnceLock;
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let make = || {
        let program = compile("files-specimen", "c", PROGRAM, &["gcc", "-O1", "-Wl,--build-id=sha1"]);
        let path = program.to_str().unwrap();
        fs::write(program.with_file_name("p.debug"), b"").unwrap();
        let link = program.with_file_name("p.debug");
        run("objcopy", &[&format!("--add-gnu-debuglink={}", link.to_str().unwrap()), path]);
        fs::read(program).unwrap()
    };
    BYTES.get_or_init(make).clone()
}

#[test]
fn a_file_cut_anywhere() {
    let whole = specimen();
    for len in (0..whole.len()).step_by(211) {
        any_answer(whole[..len].to_vec());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_file_that_lies(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12), headers in any::<bool>()) {
        let mut bytes = specimen();
        // The section headers stand at the end.
        let (from, len) = if headers { (bytes.len() - 2000, 2000) } else { (0, bytes.len()) };
        for (at, value) in flips {
            bytes[from + at.index(len)] = value;
        }
        any_answer(bytes);
    }

    #[test]
    fn a_header_that_lies(fields in prop::collection::vec((0usize..64, any::<u8>()), 1..20)) {
        let mut bytes = specimen();
        for (at, value) in fields {
            bytes[at.max(4)] = value;
        }
        any_answer(bytes);
    }
}
