//! A flame graph as a page: the picture with a search field, a legend and what is to be said of it. It asks nobody for
//! anything, and its policy says so.

use std::fmt::Write as _;

use super::Options;
use super::draw::{self, Xml};
use super::graph::Graph;

const STYLE: &str = include_str!("page.css");

/// Draws the whole page.
pub fn html(graph: &Graph, options: &Options, out: &mut String) {
    open_page(&options.title, out);
    let samples = graph.frames.first().map_or(0, |root| root.samples);
    let (title, event) = (Xml(&options.title), Xml(&graph.event));
    let _ = writeln!(out, "<header><h1>{title}</h1><p>{samples} samples of {event}</p>");
    controls(out);
    out.push_str("</header>\n<main>");
    pictures(std::slice::from_ref(graph), options, out);
    out.push_str("</main>\n");
    close_page(out);
}

/// Begins a page: what may run and load in it, and how it looks.
pub(crate) fn open_page(title: &str, out: &mut String) {
    let _ = writeln!(
        out,
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{}</title><style>{STYLE}{}</style></head><body>"#,
        Xml(title),
        draw::STYLE,
    );
}

/// The search field and what else acts on the picture.
pub(crate) fn controls(out: &mut String) {
    out.push_str(concat!(
        r#"<label>Search <input id="term" type="search" placeholder="name or pattern" title="/"></label>"#,
        r#" <button id="reset" type="button" title="Esc">Reset zoom</button> <output id="matched"></output>"#
    ));
}

/// The pictures of the events, with their legends and what is to be said of them. One of several is seen ([`of_event`]).
pub(crate) fn pictures(graphs: &[Graph], options: &Options, out: &mut String) {
    for (event, graph) in graphs.iter().enumerate() {
        let _ = write!(out, "<div{}>", of_event(event, graphs.len()));
        if graph.frames.is_empty() {
            out.push_str("<p>No samples.</p>");
        }
        draw::open(graph, options, draw::height(graph).max(1), out);
        draw::frames(graph, options, 0, out);
        out.push_str("</svg></div>\n");
    }
    out.push_str("<p id=\"details\" role=\"status\"></p>");
    for (event, graph) in graphs.iter().enumerate() {
        let _ = write!(out, "<div{}><ul class=\"legend\">", of_event(event, graphs.len()));
        for kind in draw::kinds(graph) {
            let colour = draw::colour(kind, kind.name());
            let _ = write!(out, r#"<li><span style="background:{colour}"></span>{}</li>"#, kind.name());
        }
        out.push_str("</ul>");
        for remark in remarks(graph, options) {
            let _ = write!(out, "<p>{}</p>", Xml(&remark));
        }
        out.push_str("</div>\n");
    }
    out.push_str(
        "<p>Click a frame, or move with the arrow keys and press Enter, to zoom; Esc resets; / searches.</p>\n",
    );
}

/// The attribute of a part of the page that is seen while this one of so many events is looked at.
pub(crate) fn of_event(event: usize, events: usize) -> String {
    if events < 2 { String::new() } else { format!(r#" data-event="{event}""#) }
}

/// Ends a page.
pub(crate) fn close_page(out: &mut String) {
    let _ = writeln!(out, "<script>{}</script></body></html>", draw::SCRIPT);
}

/// What is to be said of a graph, one sentence each.
pub(super) fn remarks(graph: &Graph, options: &Options) -> Vec<String> {
    let mut remarks = Vec::new();
    if graph.by_time {
        remarks.push("Every thread by itself, from left to right in the order of its samples.".into());
    }
    if graph.small > 0 {
        remarks.push(format!("{} frames are too small to show.", graph.small));
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
