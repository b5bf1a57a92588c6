//! Stacks as folded lines, `comm;outermost;..;leaf WEIGHT` (in recordings of domains `domain;vCPU_N;comm;..`), as flame graph programs
//! read them.
//!
//! The lines are those that `perf script | inferno-collapse-perf` gives, in the same order: names without their parameter
//! lists, what has no name under the name of its module in brackets, the weight the sum of periods. Where they differ, it
//! is for one of these causes:
//!
//! * *end of a function*: perf looks a return address up as it is, so that a call at the very end of a function is in the
//!   next one; here it is in the function that calls.
//! * *exec*: perf names the frames of a program that an exec has just ended; here they are unknown.
//! * *tracepoints*: perf does not print their period, and inferno counts 1; here it is the period (1, if recorded with `-c 1`).
//! * *arrows*: inferno takes `->` in a name (Rust's `fn() -> T`) for Java's way of writing inlined functions.
//! * *depth*: perf shows 127 frames; here all are.
//! * *names*: those of the symbols themselves (see `xprof_profile::symbols`).

use std::borrow::Cow;
use std::ops::Range;

use xprof_profile::profile::{EventStacks, FunctionName, Key, Stacks, Value};

/// Draws the stacks of one event.
pub fn folded(stacks: &Stacks, event: &EventStacks, out: &mut Vec<u8>) {
    let names: Vec<String> = stacks.functions.iter().map(name).collect();
    // All lines in one piece, and where each lies in it.
    let mut text: Vec<u8> = Vec::new();
    let mut lines: Vec<(Range<usize>, u64)> = Vec::with_capacity(event.stacks.len());
    for stack in &event.stacks {
        let from = text.len();
        // Domain and vCPU, where there are any, and the thread.
        for (key, value) in stacks.keys.iter().zip(&stack.values) {
            let outer = match (key, value) {
                (Key::Domain | Key::Comm, Value::Text(name)) => Cow::Borrowed(&**name),
                (Key::Vcpu, Value::Number(vcpu @ 0..)) => Cow::Owned(format!("vCPU {vcpu}")),
                _ => continue,
            };
            if text.len() > from {
                text.push(b';');
            }
            text.extend(outer.bytes().map(|b| if matches!(b, b' ' | b';' | 0..0x20 | 0x7f) { b'_' } else { b }));
        }
        for function in stack.functions.iter().rev() {
            text.push(b';');
            text.extend_from_slice(names.get(function.0 as usize).map_or(b"[unknown]", |name| name.as_bytes()));
        }
        lines.push((from..text.len(), stack.period));
    }
    lines.sort_unstable_by(|a, b| text[a.0.clone()].cmp(&text[b.0.clone()]));
    out.reserve(text.len() + lines.len() * 8);
    for same in lines.chunk_by(|a, b| text[a.0.clone()] == text[b.0.clone()]) {
        let Some((line, _)) = same.first() else { continue };
        let weight = same.iter().fold(0u64, |sum, (_, period)| sum.saturating_add(*period));
        out.extend_from_slice(&text[line.clone()]);
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(weight).as_bytes());
        out.push(b'\n');
    }
}

fn name(function: &FunctionName) -> String {
    match &function.symbol {
        Value::Text(name) => without_parameters(name),
        _ if &*function.path == "[unknown]" => "[unknown]".into(),
        _ => format!("[{}]", function.path.rsplit('/').next().unwrap_or_default()).replace([';', '\n'], ":"),
    }
}

/// The name without a parameter list behind it, and without what separates frames and lines. Parentheses inside of
/// brackets belong to the name, as do those of `(anonymous namespace)` and of Go's methods, `.(*T)`.
fn without_parameters(name: &str) -> String {
    let (mut depth, mut end, mut before) = (0i32, name.len(), ' ');
    for (at, c) in name.char_indices() {
        match c {
            '(' if depth == 0 && before != '.' && !name[at..].starts_with("(anonymous namespace)") => {
                end = at;
                break;
            }
            '<' | '{' | '[' | '(' => depth += 1,
            '>' | '}' | ']' | ')' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    name[..end].replace(';', ":").replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use xprof_profile::profile::{FunctionId, Stack};

    use super::*;

    #[test]
    fn parameters_are_left_out() {
        for (name, wanted) in [
            ("main", "main"),
            ("std::sort<int*, bool (*)(int, int)>(int*, int*)", "std::sort<int*, bool (*)(int, int)>"),
            ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
            ("net/http.(*Client).Do", "net/http.(*Client).Do"),
            ("a::{lambda(int)#1}::operator()(int) const", "a::{lambda(int)#1}::operator"),
            ("Lx;.call(I)V", "Lx:.call"),
        ] {
            assert_eq!(without_parameters(name), wanted);
        }
    }

    #[test]
    fn lines_are_sorted_and_equal_ones_added() {
        let function = |symbol, path: &str| FunctionName {
            symbol,
            dso: "".into(),
            path: path.into(),
            letter: '.',
            inlined: false,
        };
        let stack = |comm: &str, functions: &[u32], period| Stack {
            values: vec![Value::Text(comm.into())],
            functions: functions.iter().copied().map(FunctionId).collect(),
            samples: 1,
            period,
        };
        let stacks = Stacks {
            keys: vec![Key::Comm],
            functions: vec![
                function(Value::Text("main".into()), "/bin/a"),
                function(Value::Text("f(int)".into()), "/bin/a"),
                function(Value::Address(16), "/lib/libc.so.6"),
                function(Value::Address(17), "[unknown]"),
            ],
            events: vec![EventStacks {
                name: "cycles".into(),
                samples: Vec::new(),
                stacks: vec![stack("b c", &[1, 0], 5), stack("a", &[3, 2, 0], 1), stack("b c", &[1, 0], 2)],
            }],
            unnamed: Vec::new(),
            damaged: 0,
            untimed: 0,
        };
        let mut out = Vec::new();
        folded(&stacks, &stacks.events[0], &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a;main;[libc.so.6];[unknown] 1\nb_c;main;f 7\n");
    }
}
