#![forbid(unsafe_code)]
//! How people see a profile: tables as text, JSON and CSV, flame graphs, pages, and the lines of `script`. Draws into buffers, never opens.

pub mod annotate;
pub mod diff;
pub mod export;
pub mod flame;
pub mod folded;
pub mod header;
pub mod page;
pub mod plain;
pub mod screen;
pub mod script;
pub mod table;

pub use plain::{Plain, csv_field};

/// The forms in which every view can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One document, `"schema": 1`.
    Json,
    /// A heading line, then one line a row.
    Csv,
}
