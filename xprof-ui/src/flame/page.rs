//! A flame graph as a page: the picture with a search field, a legend and what is to be said of it. It asks nobody for
//! anything, and its policy says so.

use std::fmt::Write as _;

use super::Options;
use super::draw::{self, Xml};
use super::graph::Graph;

const STYLE: &str = include_str!("page.css");

/// Draws the whole page.
pub fn html(graph: &Graph, options: &Options, out: &mut String) {
    let title = Xml(&options.title).to_string();
    let samples = graph.frames.first().map_or(0, |root| root.samples);
    let _ = write!(
        out,
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title><style>{STYLE}{}</style></head><body>
<header><h1>{title}</h1><p>{samples} samples of {}</p>
<label>Search <input id="term" type="search" placeholder="name or pattern" title="/"></label>
<button id="reset" type="button" title="Esc">Reset zoom</button> <output id="matched"></output></header>
<main>"#,
        draw::STYLE,
        Xml(&graph.event)
    );
    if graph.frames.is_empty() {
        out.push_str("<p>No samples.</p>");
    }
    draw::open(graph, options, draw::height(graph).max(1), out);
    draw::frames(graph, options, 0, out);
    out.push_str("</svg></main>\n<footer><p id=\"details\" role=\"status\"></p><ul class=\"legend\">");
    for kind in draw::kinds(graph) {
        let colour = draw::colour(kind, kind.name());
        let _ = write!(out, r#"<li><span style="background:{colour}"></span>{}</li>"#, kind.name());
    }
    out.push_str("</ul>");
    for remark in remarks(graph, options) {
        let _ = write!(out, "<p>{}</p>", Xml(&remark));
    }
    let _ = writeln!(
        out,
        "<p>Click a frame, or move with the arrow keys and press Enter, to zoom; Esc resets; / searches.</p></footer>\n<script>{}</script></body></html>",
        draw::SCRIPT
    );
}

/// What is to be said of a graph, one sentence each.
pub(super) fn remarks(graph: &Graph, options: &Options) -> Vec<String> {
    let mut remarks = Vec::new();
    if graph.small > 0 {
        remarks.push(format!("{} functions are too small to show.", graph.small));
    }
    if graph.frames.iter().any(|frame| frame.change.is_some()) {
        remarks.push("Red: a larger share than before; blue: a smaller one.".into());
    }
    if graph.gone > 0.0 {
        remarks.push(format!("{:.2} % of the time before was in stacks that are gone.", graph.gone * 100.0));
    }
    remarks.extend(options.notes.iter().cloned());
    remarks
}
