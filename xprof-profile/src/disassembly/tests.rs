//! objdump is the witness: boundaries of instructions, every word of their text, and targets.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// One line of `objdump -d`.
#[derive(Debug)]
struct Line {
    address: u64,
    len: usize,
    text: String,
}

impl Line {
    /// The address that it leads to.
    fn direct(&self) -> Option<u64> {
        let last = self.text.rsplit([' ', ',']).next()?;
        hex(last.strip_prefix("0x")?)
    }
}

/// Single spaces, and none around commas.
fn normal(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(", ", ",")
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// What objdump says of `bytes`, taken as raw code at `address`.
fn witness(program: &str, machine: &[&str], bytes: &[u8], address: u64) -> Vec<Line> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("code");
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new(program)
        .args(["-D", "-z", "-b", "binary", "-w", &format!("--adjust-vma={address:#x}")])
        .args(machine)
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let address = hex(parts.next()?.trim().strip_suffix(':')?)?;
        let bytes = parts.next()?.split_whitespace().map(str::len).sum::<usize>() / 2;
        let code = parts.next()?;
        // Comments: what an address is, in decimal or as a place.
        let code = code.split(["  # ", "//", " ;"].iter().find(|c| code.contains(**c)).unwrap_or(&"//")).next()?;
        Some(Line { address, len: bytes, text: normal(code) })
    };
    text.lines().filter_map(line).collect()
}

/// The code of a program that is there on every machine, in one piece.
fn text_section(path: &str, limit: usize) -> (Vec<u8>, u64) {
    let headers = Command::new("readelf").args(["-SW", path]).output().unwrap();
    let headers = String::from_utf8(headers.stdout).unwrap();
    let fields: Vec<u64> = headers
        .lines()
        .find_map(|l| l.split_once(" .text "))
        .map(|(_, rest)| rest.split_whitespace().skip(1).take(3).filter_map(hex).collect())
        .unwrap();
    let (address, offset, size) = (fields[0], fields[1] as usize, fields[2] as usize);
    let file = std::fs::read(path).unwrap();
    (file[offset..offset + size.min(limit)].to_vec(), address)
}

/// Holds what is made of a program against objdump's; `other`: whether a line's text may be another one.
fn compare(machine: Machine, program: &str, names: &[&str], path: &str, other: fn(&Line) -> bool) {
    let (bytes, address) = text_section(path, 500_000);
    let expected = witness(program, names, &bytes, address);
    let found = disassemble(machine, &bytes, address).unwrap();
    assert!(expected.len() > 100_000, "{}", expected.len());
    // The piece may end within an instruction, which is 15 bytes at most.
    let whole = |line: &&Line| line.address + 15 <= address + bytes.len() as u64;
    for (line, ours) in expected.iter().take_while(whole).zip(&found) {
        assert_eq!((line.address, line.len), (ours.address, usize::from(ours.len)), "{path}: {line:?} {ours:?}");
        if other(line) {
            continue;
        }
        assert_eq!(line.text, normal(&ours.text), "{path}: {:#x}", line.address);
        match ours.flow {
            Flow::Jump { target } | Flow::Call { target } => assert_eq!(target, line.direct(), "{line:?} {ours:?}"),
            Flow::Return => assert!(line.text.contains("ret"), "{line:?}"),
            Flow::Next => {}
        }
    }
}

#[test]
fn x86_code_is_spelled_as_objdump_spells_it() {
    for path in ["/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6"] {
        compare(Machine::X86_64, "objdump", &["-m", "i386:x86-64"], path, |_| false);
    }
}

#[test]
fn arm64_code_is_spelled_as_objdump_spells_it() {
    // The closed list of what differs: instructions of SVE, which the decoder does not know, ..
    let scalable = |line: &Line| {
        let register = |word: &str| {
            let word = word.trim_start_matches('{');
            word.strip_prefix(['z', 'p']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        // .. and data between functions that is no instruction, or one of those.
        line.text.split([' ', ',']).any(register) || line.text.starts_with("cntb") || line.text.starts_with(".inst")
    };
    compare(
        Machine::Arm64,
        "aarch64-linux-gnu-objdump",
        &["-m", "aarch64"],
        "/usr/aarch64-linux-gnu/lib/libc.so.6",
        scalable,
    );
}

/// What compilers rarely write and kernels do, and the two classes that differ.
#[test]
fn rare_instructions_are_spelled_as_objdump_spells_them() {
    let code: &[&[u8]] = &[
        b"\x0f\x01\xc8",
        b"\x0f\x01\xc9",
        b"\x0f\x01\xfa",
        b"\x0f\x01\xfb",
        b"\x0f\x21\xf8",
        b"\x48\x8d\x74\x26\x00",
        b"\x48\xcf",
        b"\xcf",
        b"\xcb",
        b"\x48\x0f\x07",
        b"\xec",
        b"\xee",
        b"\x6e",
        b"\xd7",
        b"\xf2\xe9\x00\x00\x00\x00",
        b"\x3e\xff\xe0",
        b"\xf3\xc3",
        b"\x67\xe8\x00\x00\x00\x00",
        b"\x66\x48\x8d\x3d\x00\x00\x00\x00",
        b"\x66\x66\x48\xe8\x00\x00\x00\x00",
        b"\xd1\x27",
        b"\xd3\x37",
        b"\xde\xc9",
        b"\xd9\xc9",
        b"\x48\x6b\xc0\x64",
        b"\x2e\x74\x00",
        b"\x3e\x75\x00",
        b"\x66\x66\x2e\x0f\x1f\x84\x00\x00\x00\x00\x00",
        b"\x65\x48\x8b\x04\x25\x28\x00\x00\x00",
        b"\xf3\xa6",
        b"\xf2\xae",
        b"\xf3\xa4",
        b"\xf0\x48\x0f\xb1\x0f",
        b"\xff\x94\xd8\x08\x00\x00\x00",
        b"\x40\x55",
        b"\x48\xff\xe0",
        b"\x0f\x0b",
        b"\xf3\x0f\x1e\xfa",
        b"\x62\xf1\x74\xd9\x58\x10",
    ];
    let bytes: Vec<u8> = code.concat();
    let expected = witness("objdump", &["-m", "i386:x86-64"], &bytes, 0x1000);
    let found = disassemble(Machine::X86_64, &bytes, 0x1000).unwrap();
    assert_eq!(expected.len(), code.len());
    for (line, ours) in expected.iter().zip(&found) {
        assert_eq!((line.address, line.text.clone()), (ours.address, normal(&ours.text)));
    }
    // `fstcw` is two instructions to the CPU, and samples fall on the second one too.
    let texts = |code: &[u8]| -> Vec<String> {
        disassemble(Machine::X86_64, code, 0).unwrap().into_iter().map(|i| normal(&i.text)).collect()
    };
    assert_eq!(texts(b"\x9b\xd9\x7c\x24\x06"), ["fwait", "fnstcw 0x6(%rsp)"]);
    // The decoder takes a REX.W that does nothing for the size of the register.
    assert_eq!(texts(b"\x66\x49\x0f\xc5\xc0\x00"), ["pextrw $0x0,%xmm8,%rax"]);
}

/// Every number of a system register and of a system instruction.
#[test]
fn names_of_the_system_are_objdumps() {
    let mrs = (0..1 << 15).map(|number| 0xd530_0000 | number << 5);
    let msr = (0..1 << 15).map(|number| 0xd510_0001 | number << 5);
    let sys = (0..1 << 14).map(|number| 0xd508_0001 | number << 5);
    let hints = (0..1 << 7).map(|number| 0xd503_201f | number << 5);
    let bytes: Vec<u8> = mrs.chain(msr).chain(sys).chain(hints).flat_map(u32::to_le_bytes).collect();
    let expected = witness("aarch64-linux-gnu-objdump", &["-m", "aarch64"], &bytes, 0);
    let found = disassemble(Machine::Arm64, &bytes, 0).unwrap();
    assert_eq!(expected.len(), found.len());
    let mut named = 0;
    for (line, ours) in expected.iter().zip(&found) {
        named += usize::from(!line.text.contains("_c"));
        assert_eq!(line.text, normal(&ours.text), "{:x?}", &bytes[line.address as usize..][..4]);
    }
    assert!(named > 1_000, "{named}");
}

#[test]
fn known_instructions() {
    let code = [0x55, 0x48, 0x89, 0xe5, 0xe8, 0x10, 0, 0, 0, 0x75, 0xfe, 0xff, 0xd0, 0xc3, 0x06];
    let list = disassemble(Machine::X86_64, &code, 0x1000).unwrap();
    let texts: Vec<&str> = list.iter().map(|i| i.text.as_str()).collect();
    assert_eq!(
        texts,
        ["push   %rbp", "mov    %rsp,%rbp", "call   0x1019", "jne    0x1009", "call   *%rax", "ret", "(bad)"]
    );
    let flows: Vec<Flow> = list.iter().map(|i| i.flow).collect();
    let call = |target| Flow::Call { target };
    assert_eq!(flows[2..6], [call(Some(0x1019)), Flow::Jump { target: Some(0x1009) }, call(None), Flow::Return]);

    let words: [u32; 7] = [0xa9bf7bfd, 0x910003fd, 0x94000004, 0x54000041, 0xb0000000, 0xd65f03c0, 0xffffffff];
    let code: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let list = disassemble(Machine::Arm64, &code, 0x400000).unwrap();
    let texts: Vec<&str> = list.iter().map(|i| i.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "stp x29, x30, [sp, #-16]!",
            "mov x29, sp",
            "bl 0x400018",
            "b.ne 0x400014",
            "adrp x0, 0x401000",
            "ret",
            "(bad)"
        ]
    );
    assert_eq!(list[2].flow, call(Some(0x400018)));
    assert_eq!(list[3].flow, Flow::Jump { target: Some(0x400014) });
    assert_eq!((list[4].flow, list[5].flow), (Flow::Next, Flow::Return));
    assert_eq!(disassemble(Machine::Other, &code, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_are_passed_over_once(code in prop::collection::vec(any::<u8>(), 0..200), address in any::<u64>()) {
        for (machine, smallest) in [(Machine::X86_64, 1), (Machine::X86, 1), (Machine::Arm64, 4)] {
            let list = disassemble(machine, &code, address).unwrap();
            let mut next = address;
            for instruction in &list {
                prop_assert_eq!(instruction.address, next);
                next = next.wrapping_add(u64::from(instruction.len));
            }
            prop_assert_eq!(next.wrapping_sub(address), (code.len() / smallest * smallest) as u64);
        }
    }
}
