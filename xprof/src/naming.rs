//! The options that say where names come from, the same for every view.

use std::path::PathBuf;
use std::sync::Arc;

use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::header::Description;
use xprof_profile::supply::BuildId;
use xprof_profile::symbols::Symbolizer;

use crate::supply::{FileSupplier, process_of_map};

/// Where names come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Naming {
    /// Look for programs and debug files below this directory
    #[arg(long, value_name = "DIR")]
    symfs: Option<PathBuf>,
    /// The recorded kernel's file with symbols
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,
    /// The recorded kernel's kallsyms
    #[arg(long, value_name = "FILE")]
    kallsyms: Option<PathBuf>,
}

impl Naming {
    /// The files of a recording.
    pub(crate) fn supplier(&self, description: &Description) -> Arc<FileSupplier> {
        let mut supplier = FileSupplier::new(self.symfs.clone(), self.kallsyms.clone(), self.vmlinux.clone());
        let id = |entry: &BuildIdEntry| BuildId(entry.build_id.iter().copied().take(20).collect());
        let maps = description.features.build_ids.iter();
        supplier.perf_maps = maps.filter_map(|e| Some((process_of_map(&e.path)?, id(e)))).collect();
        Arc::new(supplier)
    }

    /// Names for a recording.
    pub(crate) fn symbolizer(&self, description: &Description) -> Symbolizer {
        let id = |entry: &BuildIdEntry| BuildId(entry.build_id.iter().copied().take(20).collect());
        let kernel = description.features.build_ids.iter().find(|e| e.path.starts_with(b"[kernel.kallsyms]"));
        let build_id = kernel.map(id);
        Symbolizer::new(self.supplier(description)).with_kernel(build_id)
    }
}
