//! The machine code of a function, as it stands in its file.

use crate::disassembly::Machine;
use crate::supply::Supplier;
use crate::symbols::elf::Elf;
use crate::symbols::{Module, ModuleKind, Symbol, load};

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
pub struct Reader {
    elf: Elf,
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
        let elf = match &module.kind {
            ModuleKind::User => load::file_of(supplier, module)?,
            ModuleKind::Vdso => load::vdso_of(supplier, module)?,
            ModuleKind::Kernel { .. } | ModuleKind::KernelModule => {
                return Err(format!("{path}: code of the kernel cannot be shown: the recording holds none"));
            }
            ModuleKind::Jit { pid, .. } => {
                return Err(format!("code that process {pid} made at run time is not kept in the recording"));
            }
            ModuleKind::Ksymbol { .. } | ModuleKind::Pseudo | ModuleKind::Guest { .. } | ModuleKind::Hypervisor => {
                return Err(format!("{path}: has no file that its code could be read from"));
            }
        };
        Ok(Reader { elf })
    }

    /// The code of a function of this module.
    ///
    /// # Errors
    /// What reading said.
    pub fn read(&self, symbol: &Symbol) -> Result<Code, String> {
        let size = symbol.size.min(LONGEST);
        let bytes = self.elf.code(symbol.start, size).map_err(|e| format!("{}: cannot be read: {e}", symbol.name))?;
        let linked = self.elf.address_of(symbol.start).unwrap_or(symbol.start);
        Ok(Code { machine: self.elf.machine.into(), start: symbol.start, linked, bytes })
    }
}
