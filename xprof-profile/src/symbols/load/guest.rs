//! Names of what runs in a guest. None of its files is one of this machine's: the user gives them, or the supplier has
//! them from the guest itself.

use std::io;
use std::sync::Arc;

use xprof_perfdata::source::Source;

use super::{Loaded, Names, accept, of_elf, shown};
use crate::supply::{Need, OfGuest, Supplier};
use crate::symbols::elf::Elf;
use crate::symbols::kallsyms::{self, Kallsyms};
use crate::symbols::{GuestPart, Module, symtab};

/// Loads the names of a part of a guest.
pub(super) fn load(supplier: &dyn Supplier, module: &Module, machine: u32, part: GuestPart) -> Loaded {
    let ask = |what| match supplier.supply(&Need::Guest { machine, what }) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    let loaded = match part {
        GuestPart::Kernel | GuestPart::KernelModule => kernel(&ask, part),
        GuestPart::File => file(supplier, &ask, module),
        GuestPart::Program => program(supplier, machine),
    };
    loaded.unwrap_or_else(|why| Loaded::none(format!("{}: {why}", shown(&module.path))))
}

/// Loads the names of the hypervisor.
pub(super) fn hypervisor(supplier: &dyn Supplier) -> Loaded {
    let names = supplier.supply(&Need::Hypervisor).and_then(|source| kallsyms::read(&*source));
    let advice = match names {
        Ok(Kallsyms::Table(table)) if !table.is_empty() => return Loaded { names: Names::Table(table), advice: None },
        Ok(_) => "its list of symbols is empty".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            "its symbols are not here; copy the host's /proc/xen/xensyms and give it with --xensyms FILE".to_owned()
        }
        Err(error) => format!("its symbols cannot be read: {error}"),
    };
    Loaded::none(format!("[hypervisor]: {advice}"))
}

type Asked<'a> = &'a dyn Fn(OfGuest) -> io::Result<Option<Arc<dyn Source>>>;

fn kernel(ask: Asked<'_>, part: GuestPart) -> Result<Loaded, String> {
    let unusable = |option: &str, why: &dyn std::fmt::Display| format!("the file of {option} cannot be used: {why}");
    if part == GuestPart::Kernel
        && let Some(source) = ask(OfGuest::Vmlinux).map_err(|e| unusable("--guest-vmlinux", &e))?
    {
        let table = Elf::open(source).and_then(|elf| symtab::kernel_table(&elf, None)).map(|(table, _)| table);
        return match table {
            Ok(table) if table.is_empty() => Err(unusable("--guest-vmlinux", &"it has no symbols")),
            Ok(table) => Ok(Loaded { names: Names::Table(table), advice: None }),
            Err(error) => Err(unusable("--guest-vmlinux", &error)),
        };
    }
    let Some(source) = ask(OfGuest::Kallsyms).map_err(|e| unusable("--guest-kallsyms", &e))? else {
        return Err("the kernel of a guest; copy the guest's /proc/kallsyms (as its root) and give it with --guest-kallsyms DOM=FILE".into());
    };
    match kallsyms::read(&*source).map_err(|e| unusable("--guest-kallsyms", &e))? {
        Kallsyms::Table(table) if !table.is_empty() => Ok(Loaded { names: Names::Table(table), advice: None }),
        Kallsyms::Table(_) => Err(unusable("--guest-kallsyms", &"it has no symbols")),
        Kallsyms::Hidden => Err(unusable("--guest-kallsyms", &"its addresses are zeros; copy it as the guest's root")),
    }
}

/// The file of the one program of a guest, which is loaded where it was linked for; or, with its symbols, of its kernel.
///
/// # Errors
/// Why it is not there, and what would supply it.
pub(crate) fn linked(supplier: &dyn Supplier, machine: u32, part: GuestPart) -> Result<Elf, String> {
    let (what, option) = match part {
        GuestPart::Program => (OfGuest::Program, "--guest-exe"),
        _ => (OfGuest::Vmlinux, "--guest-vmlinux"),
    };
    let unusable = |why: &dyn std::fmt::Display| format!("the file of {option} cannot be used: {why}");
    match supplier.supply(&Need::Guest { machine, what }) {
        Ok(source) => Elf::open(source).map_err(|e| unusable(&e)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("give it with {option} DOM=FILE")),
        Err(error) => Err(unusable(&error)),
    }
}

fn program(supplier: &dyn Supplier, machine: u32) -> Result<Loaded, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("the file of --guest-exe cannot be used: {why}");
    match symtab::program_table(&linked(supplier, machine, GuestPart::Program)?) {
        Ok(table) if table.is_empty() => Err(unusable(&"it has no symbols; give one that is not stripped")),
        Ok(table) => Ok(Loaded { names: Names::Table(table), advice: None }),
        Err(error) => Err(unusable(&error)),
    }
}

fn file(supplier: &dyn Supplier, ask: Asked<'_>, module: &Module) -> Result<Loaded, String> {
    let mut why = String::from("is a file of a guest, which is not here");
    let source = ask(OfGuest::File(module.path.clone())).map_err(|e| format!("cannot be read ({e})"))?;
    let elf = source.and_then(|source| accept(source, module.build_id.as_ref(), &mut why));
    let cached = || {
        let build_id = module.build_id.clone()?;
        let source = supplier.supply(&Need::Cached { build_id, kind: "elf" }).ok()?;
        accept(source, module.build_id.as_ref(), &mut String::new())
    };
    let elf = elf.or_else(cached).ok_or(why)?;
    Ok(of_elf(supplier, &elf, &module.path, None))
}
