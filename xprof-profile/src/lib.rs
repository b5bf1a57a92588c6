#![forbid(unsafe_code)]
//! What samples mean: processes and their address spaces over time, symbols, and the aggregated profile.
//! Opens nothing: bytes come from a [`supply::Supplier`].
//!
//! * [`annotation`]: samples laid over instructions.
//! * [`comparison`]: recordings against each other.
//! * [`code`]: the machine code of functions.
//! * [`disassembly`]: machine code as text.
//! * [`supply`]: what is needed, and who gives it.
//! * [`symbols`]: names of addresses.
//! * [`timeline`]: who was mapped where, when.
//! * [`tracepoint`]: tracepoint formats and their print formats.
//! * [`unwind`]: call chains out of registers and stack copies.
//! * [`profile`]: samples added up into rows.

pub mod annotation;
pub mod code;
pub mod comparison;
pub mod disassembly;
pub mod profile;
pub mod supply;
pub mod symbols;
pub mod timeline;
pub mod tracepoint;
pub mod unwind;
