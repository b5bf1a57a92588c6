//! One file per sub-command.

pub(crate) mod archive;
pub(crate) mod doctor;
pub(crate) mod list;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod script;
pub(crate) mod stat;
