//! Flame graphs: a page or a picture that holds everything it needs.
//!
//! Widths are shares of the whole, so a frame's place is a number from 0 to 1 in [`Graph`], and only the drawing knows
//! pixels. What would be too narrow to be seen is drawn as one frame that says so: a picture's size follows from its
//! width and not from the recording's length.

mod chart;
mod draw;
mod frames;
mod graph;
mod kind;
mod page;

pub use draw::svg;
pub(crate) use draw::{Xml, shortened};
pub use frames::{csv, json};
pub use graph::{Frame, Graph};
pub use kind::Kind;
pub use page::html;
pub(crate) use page::{close_page, controls, of_event, open_page, pictures};

/// How a graph is drawn.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it is a graph of: the recording's name.
    pub title: String,
    /// Roots on top ("icicles").
    pub inverted: bool,
    /// Sentences below: what makes the result partial, and what would help.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests;
