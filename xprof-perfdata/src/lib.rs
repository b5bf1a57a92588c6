#![forbid(unsafe_code)]
//! The record vocabulary of xprof: every kernel record and every perf.data section described once,
//! decoded and encoded from that one description, and the order of records in time.
//!
//! All bytes that come in are untrusted: a length is checked before it is used, an allocation is
//! bounded by bytes that are really there, nothing panics.
//!
//! * [`abi`]: the numbers of the kernel's ABI and of perf's file format, each with its source.
//! * [`codec`]: byte order, and the two directions (decode, encode) over one description.
//! * [`attr`], [`sample`], [`record`]: what the kernel writes.
//! * [`events`]: the events of a recording: attrs, ids, and which record belongs to which.
//! * [`domain`]: guests, and the domains of a Xen host.
//! * [`header`], [`feature`], [`name`], [`read`], [`mod@write`]: the file around the records.
//! * [`order`]: the one order of records in time, live and from files.

pub mod abi;
pub mod attr;
pub mod codec;
pub mod domain;
mod error;
pub mod events;
pub mod feature;
pub mod header;
pub mod name;
pub mod order;
pub mod read;
pub mod record;
pub mod sample;
pub mod source;
pub mod write;

pub use error::{Error, Result};
