//! Untrusted names on their way to a terminal or a file: nothing in a name may act on what shows it.

use std::fmt;

/// Shows a name with its control characters (escapes, new lines, bidirectional overrides) as `\u{..}`.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a>(pub &'a str);

fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(acts) {
            return f.pad(self.0);
        }
        let escaped: String =
            self.0.chars().flat_map(|c| if acts(c) { c.escape_unicode().collect() } else { vec![c] }).collect();
        f.pad(&escaped)
    }
}

/// A field of a CSV line (RFC 4180), [`Plain`]: quoted when it holds a comma or a quote.
pub fn csv_field(text: &str) -> String {
    let text = Plain(text).to_string();
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_do_not_reach_the_terminal() {
        assert_eq!(Plain("a\x1b[31mb\n").to_string(), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(format!("[{:<6}]", Plain("é x")), "[é x   ]");
    }

    #[test]
    fn csv_quotes_only_what_needs_it() {
        assert_eq!(csv_field("a b"), "a b");
        assert_eq!(csv_field("\x1b]0;x\x07,\n"), "\"\\u{1b}]0;x\\u{7},\\u{a}\"");
        assert_eq!(csv_field("f(a, \"b\")"), "\"f(a, \"\"b\"\")\"");
    }
}
