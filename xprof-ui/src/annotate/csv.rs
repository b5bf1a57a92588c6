//! Annotated functions as CSV: one line an instruction.

use std::fmt::Write as _;

use xprof_profile::profile::Heat;

use super::{Annotated, percent};
use crate::plain::csv_field;

/// Draws `event,symbol,dso,addr,text,samples,period,percent`: where there is no code, the addresses of samples.
pub fn csv(annotated: &Annotated, out: &mut String) {
    out.push_str("event,symbol,dso,addr,text,samples,period,percent\n");
    for named in &annotated.functions {
        let annotation = &named.annotation;
        let function = &annotation.function;
        let event = annotated.events.get(function.event).map_or("", |(name, _)| name);
        let head = [event, &function.symbol.name, &function.dso].map(csv_field).join(",");
        let mut row = |address: u64, text: &str, heat: &Heat| {
            let share = percent(heat.period, function.heat.period);
            let Heat { samples, period } = heat;
            let _ = writeln!(out, "{head},{address:#x},{},{samples},{period},{share:.4}", csv_field(text));
        };
        for line in &annotation.lines {
            row(line.instruction.address, &named.code(line), &line.heat);
        }
        if annotation.missing.is_some() {
            function.spots.iter().for_each(|(&address, heat)| row(address, "", heat));
        }
    }
}
