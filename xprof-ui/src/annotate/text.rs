//! Annotated functions for people.

use std::fmt::Write as _;

use super::{Annotated, Named, Options, arrows, percent};
use crate::plain::Plain;

/// Addresses that are listed where there is no code to show.
const SPOTS_SHOWN: usize = 20;

/// Draws every function: a heading, then one line an instruction with its share of the function's period.
pub fn text(annotated: &Annotated, options: &Options, out: &mut String) {
    if annotated.functions.is_empty() {
        out.push_str("# No samples in any function.\n");
    }
    for function in &annotated.functions {
        heading(annotated, function, out);
        lines(function, options, out);
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
    let _ = writeln!(out, "#\n#  Percent    Samples  Address");
}

fn lines(named: &Named, options: &Options, out: &mut String) {
    let annotation = &named.annotation;
    let whole = annotation.function.heat.period;
    let margins = arrows::margins(annotation.lines.len(), &annotation.jumps(), options.unicode);
    for (line, margin) in annotation.lines.iter().zip(margins) {
        share(line.heat.samples, percent(line.heat.period, whole), options.color, out);
        let _ = writeln!(out, "  {:>8x}  {margin} {}", line.instruction.address, Plain(&named.code(line)));
    }
    if let Some(why) = &annotation.missing {
        let mut spots: Vec<_> = annotation.function.spots.iter().collect();
        spots.sort_by_key(|(address, heat)| (std::cmp::Reverse(heat.period), **address));
        for (address, heat) in spots.iter().take(SPOTS_SHOWN) {
            share(heat.samples, percent(heat.period, whole), options.color, out);
            let _ = writeln!(out, "  {address:>8x}");
        }
        if spots.len() > SPOTS_SHOWN {
            let _ = writeln!(out, "# and {} more addresses", spots.len() - SPOTS_SHOWN);
        }
        let _ = writeln!(out, "# {}", Plain(why));
    } else if annotation.elsewhere.samples > 0 {
        let _ = writeln!(out, "# {} samples fell behind the code that the file has", annotation.elsewhere.samples);
    }
}

fn share(samples: u64, percent: f64, color: bool, out: &mut String) {
    if samples == 0 {
        out.push_str("                     ");
        return;
    }
    // perf's colours: 5 % and more is hot, 0.5 % and more is warm.
    let code = match percent {
        _ if !color => "",
        p if p >= 5.0 => "\x1b[31m",
        p if p >= 0.5 => "\x1b[32m",
        _ => "",
    };
    let reset = if code.is_empty() { "" } else { "\x1b[m" };
    let _ = write!(out, "  {code}{percent:>8.2}{reset} {samples:>10}");
}
