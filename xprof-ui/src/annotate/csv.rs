//! Annotated functions as CSV: one line an instruction, or one a source line.

use std::fmt::Write as _;

use xprof_profile::annotation::Source;
use xprof_profile::profile::Heat;
use xprof_profile::symbols;

use super::source::{Texts, origin};
use super::{Annotated, Named, View, percent};
use crate::plain::csv_field;

/// Draws `event,symbol,dso,addr,text,samples,period,percent,file,line,inlined`: where there is no code, the addresses of
/// samples. Of source lines `event,symbol,dso,file,line,text,samples,period,percent,inlined`, those that have code.
pub fn csv(annotated: &Annotated, view: View, out: &mut String) {
    out.push_str(match view {
        View::Source => "event,symbol,dso,file,line,text,samples,period,percent,inlined\n",
        View::Assembly | View::Both => "event,symbol,dso,addr,text,samples,period,percent,file,line,inlined\n",
    });
    for named in &annotated.functions {
        let function = &named.annotation.function;
        let event = annotated.events.get(function.event).map_or("", |(name, _)| name);
        let head = [event, &function.symbol.name, &function.dso].map(csv_field).join(",");
        match view {
            View::Source => {
                let mut way = Vec::new();
                source(&head, &named.annotation.source().0, function.heat, &annotated.texts, &mut way, out);
            }
            View::Assembly | View::Both => assembly(&head, named, out),
        }
    }
}

fn assembly(head: &str, named: &Named, out: &mut String) {
    let annotation = &named.annotation;
    let function = &annotation.function;
    let mut row = |address: u64, text: &str, heat: &Heat, places: &[symbols::Line]| {
        let share = percent(heat.period, function.heat.period);
        let Heat { samples, period } = heat;
        let (file, line) = places.first().map_or(("", 0), |place| (place.file.as_deref().unwrap_or(""), place.line));
        let line = if line == 0 { String::new() } else { line.to_string() };
        let [text, file, inlined] = [text, file, &origin(places)].map(csv_field);
        let _ = writeln!(out, "{head},{address:#x},{text},{samples},{period},{share:.4},{file},{line},{inlined}");
    };
    for line in &annotation.lines {
        row(line.instruction.address, &named.code(line), &line.heat, &line.places);
    }
    if annotation.missing.is_some() {
        function.spots.iter().for_each(|(&address, heat)| row(address, "", heat, &[]));
    }
}

/// `way`: where the functions were called that these were compiled into, innermost first.
fn source(head: &str, sources: &[Source], whole: Heat, texts: &Texts, way: &mut Vec<symbols::Line>, out: &mut String) {
    for Source { name, file, lines } in sources {
        for (&number, line) in lines {
            way.insert(0, symbols::Line { name: name.clone(), file: file.clone(), line: number });
            let text = file.as_ref().and_then(|file| texts.get(file)?.line(number)).unwrap_or_default();
            let Heat { samples, period } = line.heat;
            let share = percent(period, whole.period);
            let [file, text, inlined] = [file.as_deref().unwrap_or(""), text, &origin(way)].map(csv_field);
            let _ = writeln!(out, "{head},{file},{number},{text},{samples},{period},{share:.4},{inlined}");
            source(head, &line.inlined, whole, texts, way, out);
            way.remove(0);
        }
    }
}
