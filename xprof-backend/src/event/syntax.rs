//! The syntax of `-e`, without a look at the machine: events and groups, terms between slashes, modifiers.
//!
//! Every piece keeps its place in the whole text, so that an error can point at it.

use crate::{Error, Result};

/// A piece of the text and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Span<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Span { text, at: 0 }
    }

    /// From byte `from` up to byte `to`; both on character borders, which they are when found by ASCII characters.
    fn part(self, from: usize, to: usize) -> Self {
        Span { text: self.text.get(from..to).unwrap_or(""), at: self.at + from }
    }

    pub(super) fn split_at_first(self, c: char) -> Option<(Span<'a>, Span<'a>)> {
        let i = self.text.find(c)?;
        Some((self.part(0, i), self.part(i + c.len_utf8(), self.text.len())))
    }

    fn trim(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        self.part(start, start + self.text.trim().len())
    }

    /// An error that points at this piece. The whole text is filled in at the top.
    pub(super) fn error(self, problem: impl Into<String>) -> Error {
        Error::Event { text: String::new(), at: self.at, problem: problem.into() }
    }
}

/// `key`, `key=value`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term<'a> {
    pub(super) key: Span<'a>,
    pub(super) value: Option<Span<'a>>,
}

/// One event as written.
#[derive(Clone, Debug)]
pub(super) struct Written<'a> {
    /// All of it.
    pub(super) whole: Span<'a>,
    /// What stands before the slashes; without slashes everything, modifiers included.
    pub(super) base: Span<'a>,
    /// The terms between the slashes, and the modifiers after them.
    pub(super) slashes: Option<(Vec<Term<'a>>, Span<'a>)>,
}

/// One element of the list.
#[derive(Clone, Debug)]
pub(super) struct Group<'a> {
    /// As written; empty for a lone event.
    pub(super) name: &'a str,
    pub(super) events: Vec<Written<'a>>,
    pub(super) modifiers: Span<'a>,
}

/// Splits a `-e` argument.
pub(super) fn read(text: &str) -> Result<Vec<Group<'_>>> {
    let mut rest = Span::new(text);
    let mut groups = Vec::new();
    loop {
        let (piece, next) = until_comma(rest)?;
        let trimmed = piece.trim();
        if trimmed.text.is_empty() {
            return Err(trimmed.error("an event name is missing here"));
        }
        groups.push(group(trimmed)?);
        match next {
            Some(n) => rest = n,
            None => return Ok(groups),
        }
    }
}

/// The text up to the next comma that stands outside braces, slashes and quotes, and what follows the comma.
fn until_comma(span: Span<'_>) -> Result<(Span<'_>, Option<Span<'_>>)> {
    let (mut brace, mut slash, mut quote) = (None, None, None);
    let mut start = 0;
    for (i, c) in span.text.char_indices() {
        let breakpoint = span.text[start..].trim_start().starts_with("mem:");
        match c {
            '\'' if slash.is_some() => quote = if quote.is_some() { None } else { Some(i) },
            _ if quote.is_some() => {}
            '/' if !breakpoint => slash = if slash.is_some() { None } else { Some(i) },
            _ if slash.is_some() => {}
            '{' if brace.is_some() => return Err(span.part(i, i + 1).error("a group inside a group")),
            '{' => (brace, start) = (Some(i), i + 1),
            '}' if brace.is_none() => return Err(span.part(i, i + 1).error("this brace closes no group")),
            '}' => brace = None,
            ',' if brace.is_none() => return Ok((span.part(0, i), Some(span.part(i + 1, span.text.len())))),
            ',' => start = i + 1,
            _ => {}
        }
    }
    for (open, what) in [(quote, "quote"), (slash, "slash"), (brace, "brace")] {
        if let Some(i) = open {
            return Err(span.part(i, i + 1).error(format!("this {what} is not closed")));
        }
    }
    Ok((span, None))
}

/// `{a,b}:mods`, `name{a,b}`, or one event.
fn group(span: Span<'_>) -> Result<Group<'_>> {
    let slash = span.text.find('/').unwrap_or(usize::MAX);
    let Some(open) = span.text.find('{').filter(|&i| i < slash) else {
        return Ok(Group { name: "", events: vec![written(span)?], modifiers: span.part(0, 0) });
    };
    // A slash inside the braces may hide a closing brace: count from the end, where only modifiers follow.
    let close = span.text.rfind('}').filter(|&i| i > open).ok_or_else(|| span.error("this group is not closed"))?;
    let name = span.part(0, open);
    if !name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(name.error("a group's name has only letters, digits, _ and -"));
    }
    let after = span.part(close + 1, span.text.len());
    let modifiers = match after.text.strip_prefix(':') {
        Some(_) => after.part(1, after.text.len()),
        None if after.text.is_empty() => after,
        None => return Err(after.error("expected : and modifiers, or a comma")),
    };
    let mut events = Vec::new();
    let mut rest = span.part(open + 1, close);
    loop {
        let (piece, next) = until_comma(rest)?;
        let trimmed = piece.trim();
        if trimmed.text.is_empty() {
            return Err(trimmed.error("an event name is missing here"));
        }
        events.push(written(trimmed)?);
        match next {
            Some(n) => rest = n,
            None => return Ok(Group { name: span.text, events, modifiers }),
        }
    }
}

fn written(whole: Span<'_>) -> Result<Written<'_>> {
    let plain = Written { whole, base: whole, slashes: None };
    if whole.text.starts_with("mem:") {
        return Ok(plain);
    }
    let Some((base, rest)) = whole.split_at_first('/') else { return Ok(plain) };
    let mut quoted = false;
    let close = rest.text.char_indices().find(|&(_, c)| {
        quoted ^= c == '\'';
        c == '/' && !quoted
    });
    let Some((close, _)) = close else { return Err(rest.error("the closing slash is missing")) };
    let mut modifiers = rest.part(close + 1, rest.text.len());
    if modifiers.text.starts_with(':') {
        modifiers = modifiers.part(1, modifiers.text.len());
    }
    Ok(Written { whole, base, slashes: Some((terms(rest.part(0, close))?, modifiers)) })
}

/// `key=value,key,..`; a value may stand in single quotes.
pub(super) fn terms(text: Span<'_>) -> Result<Vec<Term<'_>>> {
    let mut list = Vec::new();
    let mut quoted = false;
    let mut start = 0;
    let ends = text.text.char_indices().filter(|&(_, c)| {
        quoted ^= c == '\'';
        c == ',' && !quoted
    });
    for end in ends.map(|(i, _)| i).chain([text.text.len()]) {
        let term = text.part(start, end).trim();
        start = end + 1;
        if term.text.is_empty() {
            continue;
        }
        list.push(match term.split_at_first('=') {
            None => Term { key: term, value: None },
            Some((key, value)) => {
                let inner = value.text.strip_prefix('\'').and_then(|v| v.strip_suffix('\''));
                let value = if inner.is_some() { value.part(1, value.text.len() - 1) } else { value };
                if key.text.is_empty() || value.text.is_empty() {
                    return Err(term.error("a term is written name=value"));
                }
                Term { key, value: Some(value) }
            }
        });
    }
    Ok(list)
}

/// A number as C writes it: decimal or 0x.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')),
        None => text.parse().ok().filter(|_| !text.starts_with('+')),
    }
}
