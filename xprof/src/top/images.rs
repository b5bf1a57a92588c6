//! Programs and kernels that only a session has (a simulated machine's): their symbols come from memory.

use std::io;
use std::sync::Arc;

use xprof_backend::Image;
use xprof_perfdata::source::Source;
use xprof_profile::supply::{Need, Supplier};

use crate::supply::FileSupplier;

/// Images before files.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) images: Vec<Image>,
    pub(super) files: Arc<FileSupplier>,
}

impl Supplier for Images {
    fn supply(&self, need: &Need) -> io::Result<Arc<dyn Source>> {
        let image = self.images.iter().find(|image| match need {
            Need::Cached { build_id, .. } => build_id.0 == image.build_id,
            Need::Kallsyms { build_id } => image.kernel && build_id.as_ref().is_none_or(|id| id.0 == image.build_id),
            Need::Path { path, .. } => !image.kernel && **path == *image.path,
            _ => false,
        });
        match image {
            Some(image) => Ok(Arc::new(image.file.clone())),
            // Nothing that such a session tells of is this machine's.
            None if !self.images.is_empty() => Err(io::ErrorKind::NotFound.into()),
            None => self.files.supply(need),
        }
    }
}
