//! Tracepoint formats and their print formats.
//!
//! A recording of tracepoints carries its kernel's `format` files ([`Formats`]). Each event's is read once into a
//! [`Format`], a list of pieces with their arguments as trees, and then prints records without allocating. What is
//! printed is what perf 6.1 prints, through its libtraceevent; a print format that is not understood makes the
//! fields be printed raw, as there. Understood here and not by perf 6.1: `__get_cpumask`, `__get_sockaddr`,
//! `__print_dynamic_array`, `sizeof`.
//!
//! Everything comes from the recording and is untrusted: nesting, nodes, widths and offsets are bounded.

mod blob;
mod conversion;
mod eval;
mod field;
mod lex;
mod parse;
mod pointer;
mod tree;

use std::sync::Arc;

use rustc_hash::FxHashMap;
use xprof_perfdata::codec::ByteOrder;

pub use blob::Formats;
pub use field::{Field, Shape};

use conversion::{Piece, pieces};
use lex::{Lexer, Token};
use parse::{NotUnderstood, Parser};

/// Strings of the kernel that records point to, by address (`printk_formats`).
type Strings = FxHashMap<u64, Box<[u8]>>;

/// Names the kernel functions that `%pS`, `%ps`, `%pF` and `%pf` print.
pub trait Functions {
    /// Name and first address of the function that covers `address`.
    fn function(&mut self, address: u64) -> Option<(Arc<str>, u64)>;
}

/// Names nothing.
impl Functions for () {
    fn function(&mut self, _: u64) -> Option<(Arc<str>, u64)> {
        None
    }
}

/// One tracepoint.
#[derive(Clone, Debug)]
pub struct Format {
    /// Number in its kernel: `attr.config` of the event, and `common_type` of its records.
    pub id: u32,
    /// Name, without its system.
    pub name: String,
    /// All fields, those common to all tracepoints first.
    pub fields: Vec<Field>,
    /// How many of them are common.
    pub common: usize,
    /// `None` when the print format is not understood.
    pieces: Option<Vec<Piece>>,
    strings: Arc<Strings>,
    long_size: usize,
    order: ByteOrder,
}

impl Format {
    /// Reads a `format` file; `None` when it has no name, number or fields.
    fn parse(text: &[u8], strings: Arc<Strings>, long_size: usize, order: ByteOrder) -> Option<Format> {
        let mut name = None;
        let mut id = None;
        let mut fields = Vec::new();
        let mut common = None;
        let mut rest = text;
        let print = loop {
            let end = rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len());
            let line = rest.get(..end).unwrap_or_default().trim_ascii();
            if line.starts_with(b"print fmt:") {
                break rest.get(b"print fmt:".len()..).unwrap_or_default();
            } else if let Some(text) = line.strip_prefix(b"name:") {
                name = Some(String::from_utf8_lossy(text.trim_ascii()).into_owned());
            } else if let Some(text) = line.strip_prefix(b"ID:") {
                id = std::str::from_utf8(text.trim_ascii()).ok()?.parse().ok();
            } else if line.starts_with(b"field") {
                fields.push(Field::parse(line, long_size)?);
            } else if line.is_empty() && !fields.is_empty() {
                common.get_or_insert(fields.len());
            }
            rest = match rest.get(end + 1..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => break &[],
            };
        };
        let pieces = print_format(print, &fields, long_size).ok();
        let common = common.unwrap_or(0);
        Some(Format { id: id?, name: name?, fields, common, pieces, strings, long_size, order })
    }

    /// The fields that are this tracepoint's own.
    pub fn own_fields(&self) -> &[Field] {
        self.fields.get(self.common..).unwrap_or_default()
    }

    /// False when records of it are printed as raw fields.
    pub fn is_understood(&self) -> bool {
        self.pieces.is_some()
    }
}

/// Reads what stands behind `print fmt:`.
fn print_format(text: &[u8], fields: &[Field], long_size: usize) -> Result<Vec<Piece>, NotUnderstood> {
    let mut lexer = Lexer::new(text);
    let Token::Text(format) = lexer.next() else { return Err(NotUnderstood) };
    let arguments = match lexer.next() {
        Token::End => Vec::new(),
        Token::Delim(b',') => Parser::new(lexer, fields, long_size).arguments()?,
        _ => return Err(NotUnderstood),
    };
    pieces(&format, arguments)
}

#[cfg(test)]
mod tests;
