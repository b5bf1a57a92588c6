//! objdump is the witness: boundaries of instructions, mnemonics and targets.

use std::process::Command;

use proptest::prelude::*;

use super::*;

/// One line of `objdump -d`.
#[derive(Debug)]
struct Line {
    address: u64,
    len: usize,
    mnemonic: String,
    operands: String,
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
        .args(["-D", "-b", "binary", "-w", &format!("--adjust-vma={address:#x}")])
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
        let code = parts.next()?.split(['#', '/']).next()?.trim().to_owned();
        let (mnemonic, operands) = code.split_once(char::is_whitespace).unwrap_or((&code, ""));
        Some(Line { address, len: bytes, mnemonic: mnemonic.into(), operands: operands.trim().into() })
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

#[test]
fn x86_code_is_cut_where_objdump_cuts_it() {
    let (bytes, address) = text_section("/bin/bash", 400_000);
    let expected = witness("objdump", &["-m", "i386:x86-64"], &bytes, address);
    let found = disassemble(Machine::X86_64, &bytes, address).unwrap();
    assert!(expected.len() > 50_000, "{}", expected.len());
    let mut names = 0;
    for (line, ours) in expected.iter().zip(&found) {
        assert_eq!((line.address, line.len), (ours.address, usize::from(ours.len)), "{line:?} {ours:?}");
        let mnemonic = ours.text.split(' ').next().unwrap();
        // Both take or leave the letter of the operands' size, and write prefixes with a space.
        if !(mnemonic.starts_with(&line.mnemonic) || line.mnemonic.starts_with(mnemonic)) {
            names += 1;
        }
        let direct = line.operands.strip_prefix("0x").and_then(hex);
        match ours.flow {
            Flow::Jump { target } | Flow::Call { target } => assert_eq!(target, direct, "{line:?} {ours:?}"),
            Flow::Return => assert!(line.mnemonic.contains("ret") || line.operands.contains("ret"), "{line:?}"),
            Flow::Next => assert_eq!(direct, None, "{line:?} {ours:?}"),
        }
    }
    assert_eq!(expected.len(), found.len());
    // Other words for the same: cwtl and movslq, nopw written as a prefixed nop, ..
    assert!(names * 100 < expected.len(), "{names} of {} mnemonics differ", expected.len());
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
            "stp x29, x30, [sp, #-0x10]!",
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
