//! Tokens of a tracepoint's format text. Spaces and line ends separate tokens and mean nothing else here; adjacent
//! string literals are one token, as in C.

use std::borrow::Cow;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A word: letters, digits, underscores.
    Item(&'a [u8]),
    /// An operator, one to three characters; brackets, braces and colons too.
    Op(&'a [u8]),
    /// `(`, `)` or `,`.
    Delim(u8),
    /// A string literal without its quotes, escapes left as they are.
    Text(Cow<'a, [u8]>),
    /// A character literal without its quotes.
    Char(&'a [u8]),
    /// Nothing is left, or what is left cannot be read.
    End,
}

/// The tokens of a text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Starts at the beginning of `text`.
    pub(super) fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn slice(&self, from: usize) -> &'a [u8] {
        self.text.get(from..self.at).unwrap_or_default()
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Token<'a> {
        while self.peek().is_ascii_whitespace() || self.peek() == 0x0b {
            self.at += 1;
        }
        let start = self.at;
        let c = self.peek();
        self.at += 1;
        match c {
            b'(' | b')' | b',' => Token::Delim(c),
            b'"' => self.string(),
            b'\'' => {
                let (from, to) = self.quoted(b'\'');
                Token::Char(self.text.get(from..to).unwrap_or_default())
            }
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                while self.peek() == b'_' || self.peek().is_ascii_alphanumeric() {
                    self.at += 1;
                }
                Token::Item(self.slice(start))
            }
            b'!'..=b'~' => {
                match (c, self.peek()) {
                    (b'-', b'>') => self.at += 1,
                    (b'<' | b'>', next) if next == c => {
                        self.at += 1;
                        self.equals();
                    }
                    (b'+' | b'-' | b'|' | b'&', next) if next == c => self.at += 1,
                    (b'+' | b'-' | b'|' | b'&' | b'<' | b'>' | b'!' | b'=', _) => self.equals(),
                    _ => {}
                }
                Token::Op(self.slice(start))
            }
            _ => {
                self.at = self.text.len();
                Token::End
            }
        }
    }

    fn equals(&mut self) {
        if self.peek() == b'=' {
            self.at += 1;
        }
    }

    /// The range of a literal whose opening quote has been read; stops behind its closing quote.
    fn quoted(&mut self, quote: u8) -> (usize, usize) {
        let from = self.at;
        while let Some(&c) = self.text.get(self.at) {
            if c == quote {
                self.at += 1;
                return (from, self.at - 1);
            }
            self.at += if c == b'\\' { 2 } else { 1 };
        }
        self.at = self.text.len();
        (from, self.at)
    }

    fn string(&mut self) -> Token<'a> {
        let (from, to) = self.quoted(b'"');
        let mut text = Cow::Borrowed(self.text.get(from..to).unwrap_or_default());
        loop {
            let before = self.at;
            while self.peek().is_ascii_whitespace() {
                self.at += 1;
            }
            if self.peek() != b'"' {
                self.at = before;
                return Token::Text(text);
            }
            self.at += 1;
            let (from, to) = self.quoted(b'"');
            text.to_mut().extend_from_slice(self.text.get(from..to).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let mut lexer = Lexer::new(b"REC->a>>=2 , \"x\\\"y\" \"z\"!='c'\n");
        let expected = [
            Token::Item(b"REC"),
            Token::Op(b"->"),
            Token::Item(b"a"),
            Token::Op(b">>="),
            Token::Item(b"2"),
            Token::Delim(b','),
            Token::Text(Cow::Borrowed(b"x\\\"yz")),
            Token::Op(b"!="),
            Token::Char(b"c"),
            Token::End,
            Token::End,
        ];
        for token in expected {
            assert_eq!(lexer.next(), token);
        }
    }
}
