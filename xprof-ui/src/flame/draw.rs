//! A flame graph as SVG: a picture for viewers, with search and zoom where scripts run.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::hash::Hasher;

use rustc_hash::FxHasher;

use super::graph::{Frame, Graph, LONGEST_NAME};
use super::{Kind, Options, page};
use crate::plain::Plain;

/// Width of the drawing and of what its frames share, pixels; flame.js knows the same numbers.
const WIDTH: f64 = 1200.0;
const LEFT: f64 = 10.0;
const ACROSS: f64 = 1180.0;
/// Height of a frame with the gap above it, pixels.
const STEP: usize = 17;
/// Width of a character, pixels.
const CHARACTER: f64 = 6.6;
/// Height of what stands above and below the frames, pixels.
const HEAD: usize = 60;
const FOOT: usize = 46;

pub(super) const STYLE: &str = include_str!("flame.css");
pub(super) const SCRIPT: &str = include_str!("flame.js");

/// Draws the whole picture.
pub fn svg(graph: &Graph, options: &Options, out: &mut String) {
    let height = HEAD + rows(graph) * STEP + FOOT;
    open(graph, options, height, out);
    let _ = write!(out, "<style>{STYLE}</style>");
    let middle = WIDTH / 2.0;
    let title = format!("{} ({})", options.title, graph.event);
    let _ = write!(
        out,
        r#"<text class="say" x="{middle}" y="20" text-anchor="middle" font-size="15">{}</text><text id="reset" class="button" role="button" x="{LEFT}" y="40">Reset zoom (Esc)</text><text id="search" class="button" role="button" x="{}" y="40" text-anchor="end">Search (/)</text><text id="matched" class="say" role="status" x="{}" y="54" text-anchor="end"></text>"#,
        Xml(&title),
        WIDTH - LEFT,
        WIDTH - LEFT
    );
    frames(graph, options, HEAD, out);
    let mut x = LEFT;
    for kind in kinds(graph) {
        let _ = write!(
            out,
            r#"<rect x="{x}" y="{}" width="11" height="11" fill="{}"/><text class="say" x="{}" y="{}">{}</text>"#,
            height - 36,
            colour(kind, kind.name()),
            x + 15.0,
            height - 27,
            kind.name()
        );
        x += 30.0 + CHARACTER * kind.name().len() as f64;
    }
    let notes = page::remarks(graph, options).join(" ");
    let _ = write!(
        out,
        r#"<text class="say" x="{x}" y="{}">{}</text><text id="details" class="say" role="status" x="{LEFT}" y="{}"></text><script><![CDATA[{SCRIPT}]]></script></svg>"#,
        height - 27,
        Xml(&notes),
        height - 8
    );
    out.push('\n');
}

/// Opens the element, with what assistive programs are told.
pub(super) fn open(graph: &Graph, options: &Options, height: usize, out: &mut String) {
    let class = if options.inverted { "flame inverted" } else { "flame" };
    let label = format!("Flame graph of {}, event {}", options.title, graph.event);
    let _ = write!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="{class}" viewBox="0 0 {WIDTH} {height}" width="100%" role="tree" aria-label="{}">"#,
        Xml(&label)
    );
}

/// Rows of frames.
pub(super) fn rows(graph: &Graph) -> usize {
    graph.frames.iter().map(|frame| frame.depth + 1).max().unwrap_or(0)
}

/// Height of the frames, pixels.
pub(super) fn height(graph: &Graph) -> usize {
    rows(graph) * STEP
}

/// The kinds of code that there are.
pub(super) fn kinds(graph: &Graph) -> impl Iterator<Item = Kind> {
    let compares = graph.frames.iter().any(|frame| frame.change.is_some());
    Kind::ALL.into_iter().filter(move |kind| !compares && graph.frames.iter().any(|frame| frame.kind == *kind))
}

/// Draws the frames, `top` pixels below the upper edge.
pub(super) fn frames(graph: &Graph, options: &Options, top: usize, out: &mut String) {
    let rows = rows(graph);
    let largest = graph.frames.iter().filter_map(|f| f.change).fold(0.0, |a: f64, b| a.max(b.abs()));
    for (index, frame) in graph.frames.iter().enumerate() {
        let row = if options.inverted { frame.depth } else { rows - 1 - frame.depth };
        let (x, y, width) = (LEFT + frame.start * ACROSS, top + row * STEP, frame.share * ACROSS);
        let fill = match frame.change {
            Some(change) => difference(change, largest),
            None => colour(frame.kind, &frame.name),
        };
        let _ = write!(
            out,
            r#"<g class="f" role="treeitem" aria-level="{}"{}><title>{}</title><rect x="{x:.2}" y="{y}" width="{:.2}" height="{}" rx="1" fill="{fill}"/>"#,
            frame.depth + 1,
            if index == 0 { r#" tabindex="0""# } else { "" },
            Xml(&label(frame)),
            width.max(0.1),
            STEP - 1,
        );
        let text = fitting(&frame.name, width);
        if !text.is_empty() {
            let _ = write!(out, r#"<text x="{:.2}" y="{}">{}</text>"#, x + 3.0, y + 12, Xml(&text));
        }
        out.push_str("</g>");
    }
}

/// What is said of a frame: its name, and on a second line its samples and share. The name's own line ends are escaped.
fn label(frame: &Frame) -> String {
    let (name, kind) = (shortened(&frame.name), frame.kind.name());
    let mut label = format!("{}\n{} samples, {:.2} %, {kind}", Plain(&name), frame.samples, frame.share * 100.0);
    if let Some(change) = frame.change {
        let _ = write!(label, ", {:+.2} points", change * 100.0);
    }
    label
}

/// A name, its middle left out where it is very long.
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    if name.len() <= LONGEST_NAME {
        return Cow::Borrowed(name);
    }
    let (head, tail) =
        (name.floor_char_boundary(LONGEST_NAME * 3 / 4), name.ceil_char_boundary(name.len() - LONGEST_NAME / 5));
    Cow::Owned(format!("{} .. {}", &name[..head], &name[tail..]))
}

/// As much of a name as there is room for.
fn fitting(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / CHARACTER).floor();
    if room < 3.0 {
        return String::new();
    }
    let room = room as usize;
    let name = Plain(&shortened(name)).to_string();
    if name.chars().count() <= room { name } else { name.chars().take(room - 2).chain("..".chars()).collect() }
}

/// A colour of the kind, a little different for every name.
pub(super) fn colour(kind: Kind, name: &str) -> String {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    let spread = |bits: u32, by: u64| (hasher.finish() >> bits) % by;
    let (hue, saturation) = match kind {
        Kind::Domain => (330, 30),
        Kind::Thread => (210, 25),
        Kind::User => (20 + spread(48, 35), 80),
        Kind::Inline => (165 + spread(48, 20), 55),
        Kind::Jit => (95 + spread(48, 30), 55),
        Kind::Kernel => (205 + spread(48, 20), 65),
        Kind::Hypervisor => (270 + spread(48, 25), 55),
        Kind::Small => (0, 0),
    };
    format!("hsl({hue},{saturation}%,{}%)", 66 + spread(40, 12))
}

/// Red for what grew, blue for what shrank, the stronger the more.
fn difference(change: f64, largest: f64) -> String {
    let strength = if largest > 0.0 { change.abs() / largest } else { 0.0 };
    let hue = if change > 0.0 { 0 } else { 220 };
    format!("hsl({hue},{:.0}%,{:.0}%)", strength * 90.0, 90.0 - strength * 30.0)
}

/// Text of an XML element or attribute. Control characters, which XML does not allow, are escaped; the line end that
/// parts a label is kept.
pub(crate) struct Xml<'a>(pub(crate) &'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.split('\n').enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            for c in Plain(line).to_string().chars() {
                match c {
                    '&' => f.write_str("&amp;")?,
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '"' => f.write_str("&quot;")?,
                    // Not characters of XML 1.0 (section 2.2).
                    '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                    c => f.write_char(c)?,
                }
            }
        }
        Ok(())
    }
}
