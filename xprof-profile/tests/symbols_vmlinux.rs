//! Names of the kernel from its own file, where it lies elsewhere than it was linked for.

mod symbols_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use symbols_support::{Files, build_id, bytes_of, compile, run};
use xprof_profile::symbols::{Module, ModuleKind, Reference, Symbolizer};

/// Where kernels of this processor are linked.
const LINKED: u64 = 0xffff_ffff_8100_0000;
/// As far as this one was moved.
const MOVED: u64 = 0x1a60_0000;

/// A program at the kernel's address: a border without size, functions, one of them with a name that the end of another's
/// could be stored in, data, and a variable for each processor, linked at 0.
fn kernel(name: &str, id: &str) -> PathBuf {
    let source = "
        .section .head.text, \"ax\"
        .globl _text, _stext
        _text: .skip 64
        .text
        _stext:
        .macro function name
        .globl \\name
        .type \\name, @function
        \\name: .skip 48
        .size \\name, 48
        .endm
        function do_one
        function not_text
        .skip 16
        function _RNvC6kernel7do_rust
        .data
        .globl jiffies
        .type jiffies, @object
        .size jiffies, 8
        jiffies: .quad 1
    ";
    let base = format!("-Wl,--section-start=.head.text={LINKED:#x}");
    let text = format!("-Wl,-Ttext={:#x}", LINKED + 0x1000);
    let data = format!("-Wl,-Tdata={:#x}", LINKED + 0x20_0000);
    let id = format!("-Wl,--build-id={id}");
    compile(name, "s", source, &["gcc", "-nostdlib", "-static", "-no-pie", &base, &text, &data, "-Wl,-e0", &id])
}

/// Address and size (0: none) of each symbol, by nm.
fn symbols(vmlinux: &Path) -> Vec<(u64, u64, String)> {
    let text = run("nm", &["-n", "-f", "posix", vmlinux.to_str().unwrap()]);
    let number = |s: &str| if s.is_empty() { 0 } else { u64::from_str_radix(s, 16).unwrap() };
    let fields = text.lines().map(|l| l.split(' ').collect::<Vec<_>>());
    fields.map(|f| (number(f[2]), f.get(3).map_or(0, |s| number(s)), f[0].to_owned())).collect()
}

fn module(reference: Option<(&str, u64)>, build_id: Option<&str>) -> Module {
    let reference = reference.map(|(name, address)| Reference { name: name.into(), address });
    Module {
        path: b"[kernel.kallsyms]".into(),
        kind: ModuleKind::Kernel { reference },
        build_id: build_id.map(bytes_of),
        pid: None,
    }
}

fn with(vmlinux: &Path) -> Symbolizer {
    let kallsyms = format!("{:x} T of_kallsyms\nffffffffc0000000 t of_module\t[ext4]\n", LINKED + MOVED);
    Symbolizer::new(Arc::new(Files {
        vmlinux: Some(vmlinux.to_path_buf()),
        kallsyms: Some(kallsyms.into()),
        ..Files::empty()
    }))
}

fn names(symbolizer: &Symbolizer, module: &Module, addresses: &[u64]) -> (Vec<String>, Option<String>) {
    let (found, missing) = symbolizer.lookup(module, addresses);
    (found.iter().map(|s| s.as_ref().map_or("-".into(), |s| s.name.to_string())).collect(), missing.map(|m| m.advice))
}

#[test]
fn names_at_the_addresses_of_the_recording() {
    let vmlinux = kernel("vmlinux-moved", "sha1");
    let id = build_id(&vmlinux).unwrap();
    let symbols = symbols(&vmlinux);
    let address = |name: &str| symbols.iter().find(|s| s.2 == name).unwrap().0;
    assert_eq!((address("_text"), address("_stext")), (LINKED, LINKED + 0x1000));
    let references = [
        (Some(("_text", LINKED + MOVED)), MOVED),
        (Some(("_stext", address("_stext") + MOVED)), MOVED),
        // Moved down.
        (Some(("_text", LINKED - 0x100_0000)), 0u64.wrapping_sub(0x100_0000)),
        (Some(("_text", LINKED)), 0),
        (None, 0),
    ];
    for (reference, moved) in references {
        let module = module(reference, Some(&id));
        let symbolizer = with(&vmlinux);
        for (start, size, name) in symbols.iter().filter(|s| s.1 > 0) {
            let at = start.wrapping_add(moved);
            let (found, missing) = symbolizer.lookup(&module, &[at, at + 1, at + size - 1]);
            for found in found {
                let found = found.unwrap_or_else(|| panic!("{name}: {missing:?}"));
                assert_eq!((&*found.name, found.start, found.size), (&name[..], at, *size));
            }
        }
        // Between functions, and far away, there is nothing.
        let hole = address("not_text").wrapping_add(moved) + 48;
        assert_eq!(names(&symbolizer, &module, &[hole, u64::MAX]), (vec!["-".into(), "-".into()], None));
    }
}

#[test]
fn modules_of_the_kernel_stay_with_kallsyms() {
    let vmlinux = kernel("vmlinux-modules", "sha1");
    let ext4 = Module { path: b"[ext4]".into(), kind: ModuleKind::KernelModule, build_id: None, pid: None };
    let kernel = module(Some(("_text", LINKED + MOVED)), None);
    let start = LINKED + MOVED;
    let both = with(&vmlinux);
    assert_eq!(names(&both, &ext4, &[0xffff_ffff_c000_0004]).0, ["of_module"]);
    assert_eq!(names(&both, &kernel, &[start + 4]).0, ["_text"]);
    assert_eq!(names(&both, &ext4, &[0xffff_ffff_c000_0004]).0, ["of_module"]);
    // No file was given: both from kallsyms.
    let kallsyms = format!("{start:x} T of_kallsyms\nffffffffc0000000 t of_module\t[ext4]\n");
    let one = Symbolizer::new(Arc::new(Files { kallsyms: Some(kallsyms.into()), ..Files::empty() }));
    assert_eq!(names(&one, &kernel, &[start + 4, 0xffff_ffff_c000_0004]).0, ["of_kallsyms", "of_module"]);
    assert_eq!(names(&one, &ext4, &[0xffff_ffff_c000_0004]).0, ["of_module"]);
}

/// The machine was booted again: the list says where the same kernel lies now.
#[test]
fn the_list_of_a_kernel_that_lies_elsewhere_now() {
    let kernel = module(Some(("_text", LINKED + MOVED)), None);
    let list = |text: u64| {
        let text = format!(
            "0000000000001000 D of_each_cpu\n{text:x} T _text\n{text:x} T startup\n{:x} t do_one\nffffffffc0000000 t of_module\t[ext4]\n",
            text + 0x1000
        );
        Symbolizer::new(Arc::new(Files { kallsyms: Some(text.into()), ..Files::empty() }))
    };
    let start = LINKED + MOVED;
    let asked = [0x1004, start + 0x1004, start + 0x20_1004, 0xffff_ffff_c000_0004];
    // Where it was, also if another name at the same address is shown.
    assert_eq!(names(&list(start), &kernel, &asked).0, ["of_each_cpu", "do_one", "-", "of_module"]);
    // Moved up: what is recorded is moved down. Modules were loaded anew, wherever there was room.
    assert_eq!(names(&list(start + 0x20_0000), &kernel, &asked).0, ["-", "do_one", "-", "-"]);
    let found = list(LINKED).lookup(&kernel, &[start + 0x1004]).0;
    assert_eq!(found[0].as_ref().map(|symbol| symbol.start), Some(start + 0x1000));
}

#[test]
fn files_that_are_refused() {
    let vmlinux = kernel("vmlinux-refused", "sha1");
    let id = build_id(&vmlinux).unwrap();
    let reference = Some(("_text", LINKED + MOVED));
    let start = [LINKED + MOVED];
    let refused = |vmlinux: &Path, module: &Module| {
        let (found, advice) = names(&with(vmlinux), module, &start);
        assert_eq!(found, ["-"], "{advice:?}");
        advice.unwrap()
    };
    let other = "00112233445566778899aabbccddeeff00112233";
    let advice = refused(&vmlinux, &module(reference, Some(other)));
    assert!(advice.contains(&id) && advice.contains(&format!("give the one with build id {other}")), "{advice}");
    // The recording's own word comes before what the module says.
    let symbolizer = with(&vmlinux).with_kernel(Some(bytes_of(other)));
    assert_eq!(names(&symbolizer, &module(reference, Some(&id)), &start).0, ["-"]);
    // Without a build id nothing speaks against it; recorders of old kernels fill one up with zeros.
    let without = kernel("vmlinux-without-id", "none");
    assert_eq!(names(&with(&without), &module(reference, Some(other)), &start).0, ["_text"]);
    let short = kernel("vmlinux-short-id", "md5");
    let padded = build_id(&short).unwrap() + "00000000";
    assert_eq!(names(&with(&short), &module(reference, Some(&padded)), &start).0, ["_text"]);

    let advice = refused(&vmlinux, &module(Some(("_head", LINKED)), None));
    assert!(advice.contains("_head is not among them"), "{advice}");
    let stripped = vmlinux.with_file_name("stripped");
    run("strip", &["-o", stripped.to_str().unwrap(), vmlinux.to_str().unwrap()]);
    assert!(refused(&stripped, &module(reference, None)).contains("has no symbols"));
    assert!(refused(&vmlinux.with_file_name("program.s"), &module(reference, None)).contains("not an ELF file"));
}
