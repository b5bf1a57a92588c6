//! One file per sub-command. The comments on options are help texts, which clap shows as they are.
#![allow(rustdoc::broken_intra_doc_links)]

pub(crate) mod annotate;
pub(crate) mod archive;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod domains;
pub(crate) mod export;
pub(crate) mod flamegraph;
pub(crate) mod list;
pub(crate) mod msr;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod script;
pub(crate) mod stat;
pub(crate) mod top;
