//! A report as one page that holds everything it needs: summary, warnings, flame graph, samples over time, table, environment.
//!
//! The flame graph is the one of [`crate::flame`], with its script and style: the page's search field marks frames and leaves
//! those rows of the tables whose names match.

mod activity;
mod lanes;
mod rows;

use std::fmt::Write as _;

use xprof_perfdata::domain::STATES_EVENT;
use xprof_profile::profile::{EventStacks, Key, Profile, Stacks};

use crate::flame::{self, Graph, Xml};
use crate::table;

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// The tables.
    pub profile: &'a Profile,
    /// What they show; the notes are the page's warnings.
    pub table: &'a table::Options,
    /// Stacks, told apart by CPU and domain, with the times of their samples.
    pub stacks: &'a Stacks,
    /// The events whose stacks are drawn, those that have some; one of several is chosen on the page.
    pub events: &'a [&'a EventStacks],
    /// Name of the recording.
    pub title: &'a str,
    /// What is known of the recording and of the machine: names and values.
    pub environment: &'a [(&'static str, String)],
}

/// Draws the whole page.
pub fn html(page: &Page<'_>, out: &mut String) {
    let mut graphs: Vec<Graph> = page.events.iter().map(|event| Graph::new(page.stacks, event, None)).collect();
    if graphs.is_empty() {
        graphs.push(Graph::default());
    }
    let options = flame::Options { title: page.title.to_owned(), ..flame::Options::default() };
    flame::open_page(page.title, out);
    out.push_str("<header><h1>");
    let _ = writeln!(out, "{}</h1>", Xml(page.title));
    flame::controls(out);
    chooser(page.events, out);
    out.push_str(concat!(
        r##"<nav><a href="#summary">Summary</a> <a href="#flame">Flame graph</a> "##,
        r##"<a href="#activity">Samples over time</a> <a href="#table">Table</a> <a href="#environment">Environment</a></nav>"##,
        "</header>\n<main>\n"
    ));
    summary(page, out);
    warnings(page, out);
    out.push_str("<section id=\"flame\" aria-label=\"Flame graph\"><h2>Flame graph");
    if let [event] = page.events {
        let _ = write!(out, " of {}", Xml(&event.name));
    }
    out.push_str("</h2>\n");
    flame::pictures(&graphs, &options, out);
    out.push_str("</section>\n<section id=\"activity\" aria-label=\"Samples over time\"><h2>Samples over time</h2>\n");
    for (nth, event) in page.events.iter().enumerate() {
        let _ = writeln!(out, "<div{}>", flame::of_event(nth, page.events.len()));
        // States are drawn as what they are: how many there were says little.
        if event.name == STATES_EVENT {
            lanes::table(page.stacks, event, out);
        } else {
            activity::table(page.stacks, event, Key::Cpu, "CPU ", out);
            activity::table(page.stacks, event, Key::Domain, "", out);
        }
        out.push_str("</div>\n");
    }
    out.push_str("</section>\n<section id=\"table\" aria-label=\"Table\">\n");
    for event in page.profile.events.iter().filter(|event| event.samples > 0) {
        rows::table(page.profile, event, page.table, out);
    }
    out.push_str("</section>\n<section id=\"environment\" aria-label=\"Environment\"><h2>Environment</h2>\n<dl>");
    for (name, value) in page.environment {
        let _ = write!(out, "<dt>{}</dt><dd>{}</dd>", Xml(name), Xml(value));
    }
    out.push_str("</dl></section>\n</main>\n");
    flame::close_page(out);
}

/// Chooses among several events.
fn chooser(events: &[&EventStacks], out: &mut String) {
    if events.len() < 2 {
        return;
    }
    out.push_str(r#" <label>Event <select id="event">"#);
    for (nth, event) in events.iter().enumerate() {
        let _ = write!(out, r#"<option value="{nth}">{}</option>"#, Xml(&event.name));
    }
    out.push_str("</select></label>\n");
}

fn summary(page: &Page<'_>, out: &mut String) {
    out.push_str(concat!(
        "<section id=\"summary\" aria-label=\"Summary\"><h2>Summary</h2>\n<table><thead><tr><th>Event</th>",
        "<th class=\"n\">Samples</th><th class=\"n\">Event count</th><th class=\"n\">Lost</th></tr></thead><tbody>"
    ));
    for event in &page.profile.events {
        let _ = write!(
            out,
            r#"<tr><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>"#,
            Xml(&event.name),
            event.samples,
            event.period,
            event.lost
        );
    }
    out.push_str("</tbody></table>\n");
    if page.profile.events.iter().all(|event| event.samples == 0) {
        out.push_str("<p>No samples.</p>\n");
    }
    for line in table::domain_lines(page.profile) {
        let _ = write!(out, "<p>{}</p>", Xml(&line));
    }
    out.push_str("</section>\n");
}

/// What makes the result partial.
fn warnings(page: &Page<'_>, out: &mut String) {
    let lost: u64 = page.profile.events.iter().map(|event| event.lost).sum();
    let lost = (lost > 0).then(|| format!("{lost} samples were lost: they are in no table."));
    let unnamed = page.profile.unnamed.iter().map(|u| format!("{} samples without names: {}", u.samples, u.advice));
    let cut = page.profile.events.iter().filter(|event| event.truncated > 0).map(|event| {
        let (cut, whole, name) = (event.truncated, event.samples, &event.name);
        format!("{cut} of {whole} stacks of {name} are larger than what was copied of them and end in [truncated].")
    });
    let all: Vec<String> = lost.into_iter().chain(cut).chain(page.table.notes.iter().cloned()).chain(unnamed).collect();
    if all.is_empty() {
        return;
    }
    out.push_str("<section id=\"warnings\" aria-label=\"Warnings\"><h2>Warnings</h2>\n<ul>");
    for warning in &all {
        let _ = write!(out, "<li>{}</li>", Xml(warning));
    }
    out.push_str("</ul></section>\n");
}

#[cfg(test)]
mod tests;
