#![no_main]
//! ELF files, kallsyms, perf maps and jitdumps that are cut short or lie; mangled names.

use std::io;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};
use xprof_profile::symbols::{Module, ModuleKind, Reference, Symbolizer};

struct Always(Arc<Vec<u8>>);

impl Supplier for Always {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        // A kernel's names are also to come from kallsyms, which is asked for when there is no vmlinux.
        if *need == Need::Vmlinux && !self.0.starts_with(b"\x7fELF") {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Arc::clone(&self.0) as Arc<dyn Source>)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let kind = match choice % 6 {
        0 => ModuleKind::User,
        1 => ModuleKind::Kernel { reference: Some(Reference { name: b"main".to_vec(), address: 1 << 63 }) },
        2 => ModuleKind::KernelModule,
        3 => ModuleKind::Vdso,
        4 => ModuleKind::Jit { pid: 1, dump: None },
        _ => ModuleKind::Jit { pid: 1, dump: Some(b"/tmp/jit-1.dump"[..].into()) },
    };
    let module = Module { path: b"/bin/x".to_vec(), kind, build_id: None, pid: Some(1) };
    let mut addresses: Vec<u64> = (0..64).map(|i| i * 64).collect();
    // Addresses that the input itself names.
    addresses.extend(rest.chunks_exact(8).take(64).map(|c| u64::from_le_bytes(c.try_into().unwrap_or_default())));
    addresses.sort_unstable();
    addresses.dedup();
    let symbolizer = Symbolizer::new(Arc::new(Always(Arc::new(rest.to_vec()))));
    let (names, _) = symbolizer.lookup(&module, &addresses);
    assert_eq!(names.len(), addresses.len());
});
