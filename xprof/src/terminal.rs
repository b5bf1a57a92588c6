//! What the terminal can do: colour, width, whether there is one.

use std::env;

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
