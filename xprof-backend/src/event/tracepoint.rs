//! Tracepoints as tracefs lists them.

use std::io;
use std::path::PathBuf;

use crate::machine::{self, Machine};
use crate::{Error, Result};

/// The directory of the tracepoints.
pub(crate) fn events_dir(machine: &Machine) -> Result<PathBuf> {
    machine.tracing.as_ref().map(|t| t.join("events")).ok_or_else(|| {
        let dir = machine.sys.join("kernel/tracing");
        Error::os(format!("find tracepoints below {}", dir.display()), io::Error::from(io::ErrorKind::NotFound))
    })
}

/// Subsystems and events that match two globs, as `(subsystem, event)`, sorted.
pub(crate) fn matching(machine: &Machine, system: &str, event: &str) -> Result<Vec<(String, String)>> {
    let dir = events_dir(machine)?;
    let systems = machine::names(&dir).map_err(|e| Error::os(format!("read {}", dir.display()), e))?;
    let mut found = Vec::new();
    for sys in systems.into_iter().filter(|s| glob(system, s)) {
        // Files (`enable`, `header_page`) stand beside the subsystems: they list nothing.
        let Ok(events) = machine::names(&dir.join(&sys)) else { continue };
        for name in events {
            if glob(event, &name) && name != "enable" && name != "filter" {
                found.push((sys.clone(), name));
            }
        }
    }
    Ok(found)
}

/// The number of a tracepoint; `None` when it has none (ftrace's own events have no number of use here).
pub(crate) fn id(machine: &Machine, system: &str, event: &str) -> Result<Option<u64>> {
    if [system, event].iter().any(|n| n.is_empty() || n.contains('/') || n.starts_with('.')) {
        return Ok(None);
    }
    let file = events_dir(machine)?.join(system).join(event).join("id");
    match machine::text(&file) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::os(format!("read {}", file.display()), e)),
    }
}

/// Shell-like matching: `*`, `?`, `[a-z]`, `[!a-z]`. Linear memory, no recursion.
pub fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(&c) => (c == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => (p, n) = (p + step, n + 1),
            (None, Some((after, from))) => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p.min(pattern.len())..].iter().all(|&c| c == b'*')
}

/// Length of the class at the start of `pattern` when it holds `c`.
fn class(pattern: &[u8], c: u8) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|&b| b == b']')? + 2;
    let (negated, set) = match &pattern[1..end] {
        [b'!' | b'^', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut i = 0;
    let mut inside = false;
    while i < set.len() {
        if let [a, b'-', b, ..] = set[i..] {
            inside |= (a..=b).contains(&c);
            i += 3;
        } else {
            inside |= set[i] == c;
            i += 1;
        }
    }
    (inside != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, want) in [
            ("sched_*", "sched_switch", true),
            ("*switch*", "sched_switch", true),
            ("sched_*x", "sched_switch", false),
            ("sys_enter_[a-c]*", "sys_enter_brk", true),
            ("sys_enter_[!a-c]*", "sys_enter_brk", false),
            ("a?c", "abc", true),
            ("[", "[", false),
            ("", "", true),
            ("***a", "ba", true),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} {name}");
        }
    }
}
