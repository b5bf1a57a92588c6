//! What /proc and /sys say: running processes as records, the machine, the kernel's own maps.
//!
//! All of it is read when a recording starts, so each part costs no more than the few files it needs: `record` of a
//! short command must not notice it. Everything may vanish between two reads; what has vanished is left out.

mod facts;
mod kernel;
mod maps;
mod permissions;
mod synthesis;
mod topology;
mod tracing;

pub use facts::facts;
pub use kernel::{Kernel, Module, build_id_of_notes, build_ids, kernel, modules};
pub use maps::{Mapping, parse_line};
pub use permissions::Permissions;
pub use synthesis::Synthesis;
pub use tracing::tracing_data;
