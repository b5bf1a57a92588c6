//! What the terminal can do: colour, width, whether there is one.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

/// `--color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR or TERM=dumb says no or CLICOLOR_FORCE says yes anyway.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether to colour what goes to a place that is a terminal or not.
    pub(crate) fn on(self, is_terminal: bool) -> bool {
        self.decide(is_terminal, |name| env::var_os(name).map(|v| v.to_string_lossy().into_owned()))
    }

    fn decide(self, is_terminal: bool, var: impl Fn(&str) -> Option<String>) -> bool {
        let set = |name| var(name).is_some_and(|v| !v.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR") => false,
            Color::Auto if var("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
            Color::Auto => is_terminal && var("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

/// True when Ctrl-C reaches the command as well: we are in the foreground of a terminal.
pub(crate) fn on_terminal() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Whether the locale's characters are UTF-8 (`LC_ALL`, else `LC_CTYPE`, else `LANG`; POSIX, chapter 8.2).
pub(crate) fn shows_unicode() -> bool {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
    let locale = locale.to_ascii_lowercase();
    locale.ends_with("utf-8") || locale.ends_with("utf8")
}

/// Where a view goes: standard output, or through a pager when that is a terminal.
pub(crate) struct Output {
    pager: Option<Child>,
}

impl Output {
    /// Starts the pager that `PERF_PAGER` or `PAGER` names, else `less`, when standard output is a terminal.
    pub(crate) fn new() -> Output {
        let wanted = io::stdout().is_terminal() && env::var("TERM").is_ok_and(|term| term != "dumb");
        let name = ["PERF_PAGER", "PAGER"].iter().find_map(|n| env::var(n).ok()).unwrap_or_else(|| "less".into());
        if !wanted || name.is_empty() || name == "cat" {
            return Output { pager: None };
        }
        // F: end when all fits; R: colours; X: leave the screen as it is.
        let less = env::var_os("LESS").unwrap_or_else(|| "FRX".into());
        let pager = Command::new("sh").arg("-c").arg(&name).env("LESS", less).stdin(Stdio::piped()).spawn().ok();
        Output { pager }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pager.as_mut().and_then(|p| p.stdin.as_mut()) {
            Some(pipe) => pipe.write(bytes),
            None => io::stdout().lock().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.pager.as_mut().and_then(|p| p.stdin.as_mut()) {
            Some(pipe) => pipe.flush(),
            None => io::stdout().lock().flush(),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(mut pager) = self.pager.take() {
            drop(pager.stdin.take());
            let _ = pager.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(is_terminal: bool, set: &[(&str, &str)]) -> bool {
        let var = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Color::Auto.decide(is_terminal, var)
    }

    #[test]
    fn the_environment_decides_only_when_asked() {
        assert!(auto(true, &[]) && !auto(false, &[]));
        assert!(!auto(true, &[("NO_COLOR", "1")]) && auto(true, &[("NO_COLOR", "")]));
        assert!(!auto(true, &[("TERM", "dumb")]));
        assert!(auto(false, &[("CLICOLOR_FORCE", "1")]) && !auto(false, &[("CLICOLOR_FORCE", "0")]));
        assert!(Color::Always.decide(false, |_| Some("1".into())) && !Color::Never.decide(true, |_| None));
    }
}
