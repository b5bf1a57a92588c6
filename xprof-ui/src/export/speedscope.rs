//! speedscope's own form (www.speedscope.app/file-format-schema.json): one sampled profile for each event.

use std::io::{self, Write};

use serde_json::json;
use xprof_profile::profile::{EventStacks, Key, Stacks};

use super::{Outer, Source, name, unit, ways};
use crate::plain::Plain;

/// Writes the document.
pub fn speedscope(stacks: &Stacks, events: &[&EventStacks], source: &Source, out: &mut dyn Write) -> io::Result<()> {
    let mut outer = Outer::default();
    let ways: Vec<Vec<Vec<u32>>> = events.iter().map(|event| ways(stacks, event, &mut outer)).collect();
    out.write_all(br#"{"$schema":"https://www.speedscope.app/file-format-schema.json","exporter":"xprof","activeProfileIndex":0,"name":"#)?;
    serde_json::to_writer(&mut *out, &Plain(&source.title).to_string())?;
    out.write_all(br#","shared":{"frames":["#)?;
    let mut comma: &[u8] = b"";
    for function in &stacks.functions {
        out.write_all(comma)?;
        let frame = json!({"name": name(function), "file": Plain(&function.path).to_string()});
        serde_json::to_writer(&mut *out, &frame)?;
        comma = b",\n";
    }
    for (key, text) in &outer.list {
        out.write_all(comma)?;
        let kind = if *key == Key::Comm { "thread" } else { key.name() };
        serde_json::to_writer(&mut *out, &json!({"name": text, "file": format!("[{kind}]")}))?;
        comma = b",\n";
    }
    out.write_all(b"]},\"profiles\":[")?;
    comma = b"";
    for (event, ways) in events.iter().zip(&ways) {
        out.write_all(comma)?;
        profile(event, ways, out)?;
        comma = b",\n";
    }
    out.write_all(b"]}\n")
}

fn profile(event: &EventStacks, ways: &[Vec<u32>], out: &mut dyn Write) -> io::Result<()> {
    let unit = if unit(&event.name) == "nanoseconds" { "nanoseconds" } else { "none" };
    let total = event.stacks.iter().fold(0u64, |sum, stack| sum.saturating_add(stack.period));
    out.write_all(br#"{"type":"sampled","name":"#)?;
    serde_json::to_writer(&mut *out, &Plain(&event.name).to_string())?;
    write!(out, r#","unit":"{unit}","startValue":0,"endValue":{total},"samples":["#)?;
    let mut number = itoa::Buffer::new();
    let mut line = Vec::new();
    for (index, way) in ways.iter().enumerate() {
        line.clear();
        line.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        for (at, frame) in way.iter().enumerate() {
            if at > 0 {
                line.push(b',');
            }
            line.extend_from_slice(number.format(*frame).as_bytes());
        }
        line.push(b']');
        out.write_all(&line)?;
    }
    out.write_all(br#"],"weights":["#)?;
    for (index, stack) in event.stacks.iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(number.format(stack.period).as_bytes())?;
    }
    out.write_all(b"]}")
}
