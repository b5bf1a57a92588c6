//! The machine code of a function, as it stands in its file: the module's, the kernel's that the user gave, or a compiler's dump;
//! that of the running kernel as it stands in its memory.

use std::sync::Arc;

use object::elf;
use xprof_perfdata::source::Source;

use crate::disassembly::Machine;
use crate::supply::Supplier;
use crate::symbols::elf::Elf;
use crate::symbols::{GuestPart, Module, ModuleKind, Symbol, jitdump, load};

/// Longest function that is read, bytes: the largest known are generated parsers of a few MB.
const LONGEST: u64 = 16 << 20;

/// Code of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// For which machine it is.
    pub machine: Machine,
    /// Address of the first byte, in the module's space (file offset).
    pub start: u64,
    /// Address of the first byte as the file's own symbols number it, and objdump with them.
    pub linked: u64,
    /// The bytes, fewer than the function's size where the file is cut short.
    pub bytes: Vec<u8>,
}

/// Reads functions of one module; its file is opened once.
pub struct Reader(Holds);

/// What holds the code.
enum Holds {
    /// A file, by its offsets.
    File(Elf),
    /// The kernel's, by run-time addresses, which are this much higher than the file's.
    Kernel(Elf, u64),
    /// What a compiler tells, by run-time addresses.
    Jit(Arc<dyn Source>),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader {
    /// Opens the file that a module was mapped from.
    ///
    /// # Errors
    /// Why there is no code, and what would supply it, one sentence.
    pub(crate) fn open(supplier: &dyn Supplier, module: &Module) -> Result<Reader, String> {
        let path = String::from_utf8_lossy(&module.path);
        let holds = match &module.kind {
            ModuleKind::User => Holds::File(load::file_of(supplier, module)?),
            ModuleKind::Vdso => Holds::File(load::vdso_of(supplier, module)?),
            ModuleKind::Kernel { reference } => {
                let (elf, moved) = load::kernel_file(supplier, module, reference.as_ref())?;
                Holds::Kernel(elf, moved)
            }
            ModuleKind::KernelModule => {
                return Err(format!(
                    "{path}: code of kernel modules cannot be shown, because it is moved when it is loaded; try: perf annotate"
                ));
            }
            ModuleKind::Jit { pid, dump } => Holds::Jit(load::jit_dump(supplier, *pid, dump.as_deref())?),
            ModuleKind::Guest { machine, part: part @ (GuestPart::Program | GuestPart::Kernel) } => {
                let elf = load::guest::linked(supplier, *machine, *part).map_err(|why| format!("{path}: {why}"))?;
                Holds::Kernel(elf, 0)
            }
            ModuleKind::Ksymbol { .. } | ModuleKind::Pseudo | ModuleKind::Guest { .. } | ModuleKind::Hypervisor => {
                return Err(format!("{path}: has no file that its code could be read from"));
            }
        };
        Ok(Reader(holds))
    }

    /// The code of a function of this module.
    ///
    /// # Errors
    /// What reading said.
    pub fn read(&self, symbol: &Symbol) -> Result<Code, String> {
        let (start, size) = (symbol.start, symbol.size.min(LONGEST));
        let failed = |e: std::io::Error| format!("{}: cannot be read: {e}", symbol.name);
        let absent = || format!("{}: its code is not in the file", symbol.name);
        let (machine, linked, bytes) = match &self.0 {
            Holds::File(elf) => {
                (elf.machine, elf.address_of(start).unwrap_or(start), elf.code(start, size).map_err(failed)?)
            }
            Holds::Kernel(elf, moved) => {
                let linked = start.wrapping_sub(*moved);
                let offset = elf.offset_of(linked).ok_or_else(absent)?;
                (elf.machine, linked, elf.code(offset, size).map_err(failed)?)
            }
            Holds::Jit(dump) => {
                let (machine, bytes) = jitdump::code(&**dump, start, size).map_err(failed)?.ok_or_else(absent)?;
                (elf::Machine(machine), start, bytes)
            }
        };
        Ok(Code { machine: machine.into(), start, linked, bytes })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

    use super::*;
    use crate::supply::Need;
    use crate::symbols::Reference;

    /// Supplies this very program as the kernel's file.
    struct Own;

    impl Supplier for Own {
        fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
            match need {
                Need::Vmlinux => Ok(Arc::new(std::fs::read(std::env::current_exe()?)?)),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    struct Nothing;

    impl Supplier for Nothing {
        fn supply(&self, _: &Need) -> io::Result<Arc<dyn Source>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn module(kind: ModuleKind) -> Module {
        Module { path: b"[kernel.kallsyms]".into(), kind, build_id: None, pid: None }
    }

    #[test]
    fn a_kernel_lies_elsewhere_than_its_file_says() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let of = |name: &str| file.symbols().find(|symbol| symbol.name() == Ok(name)).unwrap();
        let (main, start) = (of("main"), of("_start"));
        let expected = file.section_by_name(".text").unwrap().data_range(main.address(), main.size()).unwrap().unwrap();
        let run_time = 0xffff_ffff_8100_0000;
        let reference = Some(Reference { name: b"_start".into(), address: run_time });
        let reader = Reader::open(&Own, &module(ModuleKind::Kernel { reference })).unwrap();
        let at = run_time.wrapping_add(main.address()).wrapping_sub(start.address());
        let code = reader.read(&Symbol { name: "main".into(), start: at, size: main.size() }).unwrap();
        assert_eq!((code.start, code.linked, &*code.bytes), (at, main.address(), expected));
        assert!(!code.bytes.is_empty());
    }

    /// Supplies this very program as the memory of a kernel, and a list of its symbols.
    struct Running(&'static str);

    impl Supplier for Running {
        fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
            match need {
                Need::KernelMemory { .. } => Ok(Arc::new(std::fs::read(std::env::current_exe()?)?)),
                Need::Kallsyms { .. } => Ok(Arc::new(self.0.as_bytes().to_vec())),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    #[test]
    fn a_running_kernel_shows_its_memory_where_it_was_recorded() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let main = file.symbols().find(|symbol| symbol.name() == Ok("main")).unwrap();
        let expected = file.section_by_name(".text").unwrap().data_range(main.address(), main.size()).unwrap().unwrap();
        let reference = Some(Reference { name: b"_text".into(), address: 0xffff_ffff_8100_0000 });
        let here = module(ModuleKind::Kernel { reference });
        let reader = Reader::open(&Running("ffffffff81000000 T _text\nffffffff81000200 T f\n"), &here).unwrap();
        let code = reader.read(&Symbol { name: "main".into(), start: main.address(), size: main.size() }).unwrap();
        assert_eq!((code.start, code.linked, &*code.bytes), (main.address(), main.address(), expected));
        // Addresses that its memory does not have are no code, whatever the size.
        let far = Symbol { name: "far".into(), start: u64::MAX - 4, size: u64::MAX };
        assert_eq!(reader.read(&far).unwrap_err(), "far: its code is not in the file");
        let why = Reader::open(&Running("ffffffff82000000 T _text\nffffffff82000200 T f\n"), &here).unwrap_err();
        assert!(why.contains("was booted again") && why.contains("--vmlinux FILE"), "{why}");
    }

    #[test]
    fn without_code_the_next_command_is_said() {
        let why = |kind| Reader::open(&Nothing, &module(kind)).unwrap_err();
        assert!(why(ModuleKind::Kernel { reference: None }).contains("--vmlinux FILE"));
        assert!(why(ModuleKind::KernelModule).contains("perf annotate"));
        assert!(why(ModuleKind::Jit { pid: 7, dump: None }).contains("node --perf-prof"));
        let gone = why(ModuleKind::Jit { pid: 7, dump: Some(Arc::from(&b"/tmp/jit-7.dump"[..])) });
        assert_eq!(gone, "/tmp/jit-7.dump: is not here; it has the code that process 7 made at run time");
    }
}
