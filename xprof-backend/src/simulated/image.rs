//! A program of the simulated machine as a small ELF file: symbols and a build id, no instructions; its kernel as a list
//! of symbols. Readers of a recording find both as they find any other's: by build id.

/// One image, growing while functions are named.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) path: String,
    /// Where file offset 0 is mapped.
    pub(super) base: u64,
    pub(super) kernel: bool,
    functions: Vec<String>,
}

/// File offset, and address in the file, of the code.
const TEXT: u64 = 0x1000;
use super::world::FUNCTION;

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_NOTE: u32 = 7;
const NT_GNU_BUILD_ID: u32 = 3;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// A section, as it is laid out.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    address: u64,
    bytes: Vec<u8>,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
}

impl Image {
    pub(super) fn new(path: String, base: u64, kernel: bool) -> Image {
        Image { path, base, kernel, functions: Vec::new() }
    }

    /// The address of a function, which is made when it is new.
    pub(super) fn function(&mut self, name: &str) -> u64 {
        let at = self.functions.iter().position(|have| have == name).unwrap_or_else(|| {
            self.functions.push(name.to_owned());
            self.functions.len() - 1
        });
        self.base + TEXT + at as u64 * FUNCTION
    }

    /// The function at an address.
    #[cfg(test)]
    pub(super) fn name(&self, address: u64) -> Option<&str> {
        let at = address.checked_sub(self.base + TEXT)? / FUNCTION;
        self.functions.get(usize::try_from(at).ok()?).map(String::as_str)
    }

    /// Bytes from `base` on that are mapped.
    pub(super) fn mapped(&self) -> u64 {
        (TEXT + self.functions.len() as u64 * FUNCTION).next_multiple_of(0x1000)
    }

    /// 20 bytes that stand for the path and the functions.
    pub(super) fn build_id(&self) -> Vec<u8> {
        let mut id = Vec::new();
        for seed in [0xcbf2_9ce4_8422_2325u64, 0x9ae1_6a3b_2f90_404f, 0x6c62_272e_07bb_0142] {
            let names = self.functions.iter().flat_map(|name| name.bytes().chain([0]));
            let bytes = self.path.bytes().chain([0]).chain(names);
            let hash = bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            id.extend(hash.to_be_bytes());
        }
        id.truncate(20);
        id
    }

    /// What a reader finds its symbols in: the kernel's list, or the ELF file.
    pub(super) fn file(&self) -> Vec<u8> {
        if !self.kernel {
            return self.elf();
        }
        let mut list = format!("{:016x} T _text\n", self.base);
        for (at, name) in self.functions.iter().enumerate() {
            list.push_str(&format!("{:016x} T {name}\n", self.base + TEXT + at as u64 * FUNCTION));
        }
        list.push_str(&format!("{:016x} T _etext\n", self.base + TEXT + self.functions.len() as u64 * FUNCTION));
        list.into_bytes()
    }

    fn elf(&self) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [4, 20, NT_GNU_BUILD_ID] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"GNU\0");
        note.extend(self.build_id());
        let mut names = vec![0];
        let mut symbols = vec![0; 24];
        for (at, name) in self.functions.iter().enumerate() {
            symbols.extend((names.len() as u32).to_le_bytes());
            // STB_GLOBAL, STT_FUNC; section 2.
            symbols.extend([0x12, 0, 2, 0]);
            symbols.extend((TEXT + at as u64 * FUNCTION).to_le_bytes());
            symbols.extend(FUNCTION.to_le_bytes());
            names.extend(name.bytes().chain([0]));
        }
        let section = |name, kind, flags, address, bytes, align| Section {
            name,
            kind,
            flags,
            address,
            bytes,
            link: 0,
            info: 0,
            align,
            entry: 0,
        };
        // int3, so that what runs into it says so.
        let code = vec![0xcc; self.functions.len() * FUNCTION as usize];
        let sections = [
            section(".note.gnu.build-id", SHT_NOTE, 2, 0x200, note, 4),
            section(".text", SHT_PROGBITS, 6, TEXT, code, 16),
            Section { link: 4, info: 1, entry: 24, ..section(".symtab", SHT_SYMTAB, 0, 0, symbols, 8) },
            section(".strtab", SHT_STRTAB, 0, 0, names, 1),
            section(".shstrtab", SHT_STRTAB, 0, 0, Vec::new(), 1),
        ];
        lay_out(sections)
    }
}

/// Sections where their addresses say, the others behind; then the section headers.
fn lay_out(mut sections: [Section; 5]) -> Vec<u8> {
    let mut names = vec![0];
    let starts: Vec<u32> = sections
        .iter()
        .map(|section| {
            let start = names.len() as u32;
            names.extend(section.name.bytes().chain([0]));
            start
        })
        .collect();
    if let Some(last) = sections.last_mut() {
        last.bytes = names;
    }
    let mut file = vec![0; 64 + 2 * 56];
    let mut headers = vec![0u8; 64];
    let mut programs = Vec::new();
    for (section, start) in sections.iter().zip(starts) {
        let offset = if section.address == 0 { file.len().next_multiple_of(8) } else { section.address as usize };
        file.resize(offset, 0);
        file.extend(&section.bytes);
        for word in [start, section.kind] {
            headers.extend(word.to_le_bytes());
        }
        for word in [section.flags, section.address, offset as u64, section.bytes.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        for word in [section.link, section.info] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(section.align.to_le_bytes());
        headers.extend(section.entry.to_le_bytes());
        let (kind, flags) = match section.kind {
            SHT_PROGBITS => (1u32, 5u32),
            SHT_NOTE => (4, 4),
            _ => continue,
        };
        for word in [kind, flags] {
            programs.extend(word.to_le_bytes());
        }
        let size = section.bytes.len() as u64;
        let align = if kind == 1 { 0x1000 } else { 4 };
        for word in [offset as u64, section.address, section.address, size, size, align] {
            programs.extend(word.to_le_bytes());
        }
    }
    let table = file.len().next_multiple_of(8);
    file.resize(table, 0);
    file.extend(&headers);
    // The text's program header first, as linkers order them: PT_LOAD, then PT_NOTE.
    programs.rotate_left(56);
    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    head.extend(ET_DYN.to_le_bytes());
    head.extend(EM_X86_64.to_le_bytes());
    head.extend(1u32.to_le_bytes());
    for word in [TEXT, 64, table as u64] {
        head.extend(word.to_le_bytes());
    }
    head.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 2, 64, 6, 5] {
        head.extend(half.to_le_bytes());
    }
    head.extend(programs);
    file[..head.len()].copy_from_slice(&head);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn readelf_finds_symbols_and_build_id() {
        let mut image = Image::new("/simulated/x".into(), 0x10000, false);
        assert_eq!(
            (image.function("main"), image.function("work"), image.function("main")),
            (0x11000, 0x11100, 0x11000)
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, image.elf()).unwrap();
        let out = Command::new("readelf").args(["-W", "-s", "-n", "-l"]).arg(&path).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(text.contains("0000000000001100   256 FUNC    GLOBAL DEFAULT    2 work"), "{text}");
        let hex: String = image.build_id().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(text.contains(&format!("Build ID: {hex}")), "{text}");
        assert!(text.contains("LOAD           0x001000 0x0000000000001000"), "{text}");
    }
}
