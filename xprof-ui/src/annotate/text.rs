//! Annotated functions for people.

use std::fmt::Write as _;

use xprof_profile::annotation::Line;
use xprof_profile::profile::Heat;

use super::source::{Row, origin, rows, short};
use super::{Annotated, Named, Options, View, arrows, percent};
use crate::plain::Plain;

/// Addresses that are listed where there is no code to show.
const SPOTS_SHOWN: usize = 20;
/// Functions compiled into one another that are indented by themselves.
const INDENTED: usize = 8;

/// Draws every function: a heading, then one line an instruction or source line with its share of the function's period.
pub fn text(annotated: &Annotated, options: &Options, out: &mut String) {
    if annotated.functions.is_empty() {
        out.push_str("# No function here has samples of its own.\n");
    }
    for function in &annotated.functions {
        heading(annotated, function, out);
        match options.view {
            View::Source => source(annotated, function, options, out),
            View::Assembly | View::Both => assembly(annotated, function, options, out),
        }
        out.push('\n');
    }
    for note in &options.notes {
        let _ = writeln!(out, "# {}", Plain(note));
    }
}

fn heading(annotated: &Annotated, named: &Named, out: &mut String) {
    let function = &named.annotation.function;
    let none = (String::new(), Default::default());
    let (event, total) = annotated.events.get(function.event).unwrap_or(&none);
    let (name, dso) = (Plain(&function.symbol.name), Plain(&function.dso));
    let share = percent(function.heat.period, total.period);
    let _ = writeln!(out, "# {name} in {dso}");
    let _ = writeln!(out, "# {} samples of event '{}', {share:.2} % of all", function.heat.samples, Plain(event));
}

fn assembly(annotated: &Annotated, named: &Named, options: &Options, out: &mut String) {
    out.push_str("#\n#  Percent    Samples  Address\n");
    let annotation = &named.annotation;
    let whole = annotation.function.heat.period;
    // Rows of source stand before the instruction of this index; arrows pass beside them.
    let mut before: Vec<(usize, String)> = Vec::new();
    if options.view == View::Both {
        let mut last: &[_] = &[];
        for (at, line) in annotation.lines.iter().enumerate() {
            if line.places != last {
                source_of(annotated, line, last, |row| before.push((at, row)));
                last = &line.places;
            }
        }
    }
    let row_of: Vec<usize> = {
        let mut rows = before.iter().map(|&(at, _)| at).peekable();
        let mut above = 0;
        let mut place = |at| {
            while rows.next_if(|&row| row <= at).is_some() {
                above += 1;
            }
            at + above
        };
        (0..annotation.lines.len()).map(&mut place).collect()
    };
    let jumps: Vec<(usize, usize)> = annotation.jumps().iter().map(|&(from, to)| (row_of[from], row_of[to])).collect();
    let mut margins = arrows::margins(annotation.lines.len() + before.len(), &jumps, options.unicode).into_iter();
    let mut before = before.into_iter().peekable();
    for (at, line) in annotation.lines.iter().enumerate() {
        while let Some((_, row)) = before.next_if(|&(row, _)| row <= at) {
            let margin = margins.next().unwrap_or_default();
            let (on, off) = if options.color { ("\x1b[36m", "\x1b[m") } else { ("", "") };
            let _ = writeln!(out, "{:33}{margin} {on}{row}{off}", "");
        }
        share(line.heat, whole, options.color, out);
        let margin = margins.next().unwrap_or_default();
        let _ = writeln!(out, "  {:>8x}  {margin} {}", line.instruction.address, Plain(&named.code(line)));
    }
    if annotation.missing.is_some() {
        missing(named, options, out);
    } else if annotation.elsewhere.samples > 0 {
        let _ = writeln!(out, "# {} samples fell behind the code that the file has", annotation.elsewhere.samples);
    }
}

/// The rows of source that say where an instruction was written, when it was not where the one before it, `last`, was.
fn source_of(annotated: &Annotated, line: &Line, last: &[xprof_profile::symbols::Line], mut row: impl FnMut(String)) {
    let Some(place) = line.places.first() else { return row("; no line".into()) };
    let from = origin(&line.places);
    if !from.is_empty() && from != origin(last) {
        row(format!("; inlined: {}", Plain(&from)));
    }
    let text = place.file.as_ref().and_then(|file| annotated.texts.get(file)?.line(place.line)).unwrap_or_default();
    let text = text.replace('\t', "    ");
    let number = if place.line == 0 { "?".into() } else { place.line.to_string() };
    let written = format!("; {}:{number}  {}", Plain(short(place.file.as_deref())), Plain(&text));
    row(written.trim_end().into());
}

fn source(annotated: &Annotated, named: &Named, options: &Options, out: &mut String) {
    let (sources, nowhere) = named.annotation.source();
    if sources.is_empty() {
        return match named.annotation.missing {
            Some(_) => missing(named, options, out),
            None => {
                let dso = Plain(&named.annotation.function.dso);
                let _ = writeln!(
                    out,
                    "# {dso} has no lines of it: install its debug package, or compile with -g; its instructions: --asm"
                );
            }
        };
    }
    out.push_str("#\n#  Percent    Samples   Line\n");
    let whole = named.annotation.function.heat.period;
    let bars = |depth: usize| if options.unicode { "│ " } else { "| " }.repeat(depth.min(INDENTED));
    let blank = " ".repeat(29);
    for row in rows(&sources, &annotated.texts) {
        let _ = match row {
            Row::Head { depth: 0, source } => {
                writeln!(out, "# {}", Plain(source.file.as_deref().unwrap_or("a file that is not known")))
            }
            Row::Head { depth, source } => {
                let corner = if options.unicode { '┌' } else { '+' };
                let name = source.name.as_deref().unwrap_or("??");
                let file = short(source.file.as_deref());
                writeln!(out, "{blank}  {}{corner} {}, inlined from {}", bars(depth - 1), Plain(name), Plain(file))
            }
            Row::Line { depth, number, heat, text } => {
                share(heat.unwrap_or_default(), whole, options.color, out);
                let number = if number == 0 { "?".into() } else { number.to_string() };
                let text = text.replace('\t', "    ");
                writeln!(out, "{}", format!("  {number:>6}  {}{}", bars(depth), Plain(&text)).trim_end())
            }
            Row::Gap { depth } => writeln!(out, "{blank}  {}..", bars(depth)),
        };
    }
    if nowhere.samples > 0 {
        let _ = writeln!(out, "# {} samples fell on code without a line", nowhere.samples);
    }
}

/// The addresses of samples, where there is no code, and why there is none.
fn missing(named: &Named, options: &Options, out: &mut String) {
    let annotation = &named.annotation;
    let whole = annotation.function.heat.period;
    let mut spots: Vec<_> = annotation.function.spots.iter().collect();
    spots.sort_by_key(|(address, heat)| (std::cmp::Reverse(heat.period), **address));
    for &(address, heat) in spots.iter().take(SPOTS_SHOWN) {
        share(*heat, whole, options.color, out);
        let _ = writeln!(out, "  {address:>8x}");
    }
    if spots.len() > SPOTS_SHOWN {
        let _ = writeln!(out, "# and {} more addresses", spots.len() - SPOTS_SHOWN);
    }
    let _ = writeln!(out, "# {}", Plain(annotation.missing.as_deref().unwrap_or_default()));
}

fn share(heat: Heat, whole: u64, color: bool, out: &mut String) {
    if heat.samples == 0 {
        out.push_str("                     ");
        return;
    }
    let percent = percent(heat.period, whole);
    // perf's colours: 5 % and more is hot, 0.5 % and more is warm.
    let code = match percent {
        _ if !color => "",
        p if p >= 5.0 => "\x1b[31m",
        p if p >= 0.5 => "\x1b[32m",
        _ => "",
    };
    let reset = if code.is_empty() { "" } else { "\x1b[m" };
    let _ = write!(out, "  {code}{percent:>8.2}{reset} {:>10}", heat.samples);
}
