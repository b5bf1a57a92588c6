//! The options that say where names come from, the same for every view.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::feature::BuildIdEntry;
use xprof_perfdata::header::Description;
use xprof_profile::supply::BuildId;
use xprof_profile::symbols::Symbolizer;

use crate::debuginfod::Debuginfod;
use crate::guest_files::GuestOptions;
use crate::supply::{FileSupplier, HYPERVISOR, process_of_map};

/// Where names come from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Naming {
    /// Look for programs and debug files below this directory
    #[arg(long, value_name = "DIR", value_parser = there)]
    symfs: Option<PathBuf>,
    /// The recorded kernel's file with symbols
    #[arg(long, value_name = "FILE", value_parser = there)]
    vmlinux: Option<PathBuf>,
    /// The recorded kernel's kallsyms
    #[arg(long, value_name = "FILE", value_parser = there)]
    kallsyms: Option<PathBuf>,
    /// Xen's symbols: a copy of its /proc/xen/xensyms
    #[arg(long, value_name = "FILE", value_parser = there)]
    xensyms: Option<PathBuf>,
    /// Look for source files below this directory first, by the longest end of their path that is there
    #[arg(long, value_name = "DIR,..", value_delimiter = ',')]
    source_path: Vec<PathBuf>,
    #[command(flatten)]
    guests: GuestOptions,
    /// Servers of debug information: for views of recordings, which can wait. What is live cannot.
    #[arg(skip)]
    downloads: Option<Arc<Debuginfod>>,
}

/// A path that names something: names would be missing in silence if it did not.
fn there(path: &str) -> Result<PathBuf, String> {
    std::fs::metadata(path).map(|_| path.into()).map_err(|error| error.to_string())
}

impl Naming {
    /// For a recording: with the names that a directory has beside its data, and with those from servers.
    pub(crate) fn beside(&self, recording: &Path) -> Naming {
        let mut naming = self.clone();
        naming.guests.add_beside(recording);
        naming.downloads = Debuginfod::of_environment().map(Arc::new);
        naming
    }

    /// Refuses files of domains that the recording does not have.
    ///
    /// # Errors
    /// With the option that names one.
    pub(crate) fn check(&self, description: &Description) -> anyhow::Result<()> {
        self.guests.check(description)
    }

    /// Guests that run one program each: its path by the guest's machine.
    pub(crate) fn guest_programs(&self, description: &Description) -> FxHashMap<u32, Vec<u8>> {
        self.guests.programs(description)
    }

    /// The files of a recording.
    pub(crate) fn supplier(&self, description: &Description) -> Arc<FileSupplier> {
        let mut supplier = FileSupplier::new(self.symfs.clone(), self.kallsyms.clone(), self.vmlinux.clone());
        let entries = &description.features.build_ids;
        supplier.sources.clone_from(&self.source_path);
        supplier.perf_maps = entries.iter().filter_map(|e| Some((process_of_map(&e.path)?, id(e)))).collect();
        supplier.guests = self.guests.files(description);
        supplier.xensyms = self.xensyms.clone();
        supplier.xen = entries.iter().find(|e| e.path == HYPERVISOR).map(id);
        supplier.downloads.clone_from(&self.downloads);
        Arc::new(supplier)
    }

    /// Names for a recording.
    pub(crate) fn symbolizer(&self, description: &Description) -> Symbolizer {
        let kernel = description.features.build_ids.iter().find(|e| e.path.starts_with(b"[kernel.kallsyms]"));
        Symbolizer::new(self.supplier(description)).with_kernel(kernel.map(id))
    }
}

fn id(entry: &BuildIdEntry) -> BuildId {
    BuildId(entry.build_id.iter().copied().take(20).collect())
}
