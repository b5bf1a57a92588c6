//! Reads the arguments of a print format.
//!
//! The grammar is C's, read as libtraceevent reads it (`src/event-parse.c`), because the text must be perf's. Its
//! reading differs from C's where an operator follows one of the same or of a higher rank: what follows
//! belongs to the right operand, and a parenthesis on the right is opened when its operator ranks lower.

use super::field::Field;
use super::lex::{Lexer, Token};
use super::tree::{Binary, Expr, Named, Op, Type, constant, evaluated, number};

/// Nesting that is followed; deeper formats count as not understood.
const MAX_DEPTH: u32 = 160;
/// Nodes of one format.
const MAX_NODES: u32 = 50_000;

/// Not understood: the event's fields are printed raw.
#[derive(Debug)]
pub(super) struct NotUnderstood;

type Result<T> = std::result::Result<T, NotUnderstood>;

/// Reads the arguments of a print format.
pub(super) struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token after what has been read.
    next: Token<'a>,
    fields: &'a [Field],
    long_size: usize,
    depth: u32,
    nodes: u32,
    /// `REC` was followed by `)`: `(REC)->field`.
    bare_rec: bool,
}

impl<'a> Parser<'a> {
    /// `lexer` stands behind the format string.
    pub(super) fn new(lexer: Lexer<'a>, fields: &'a [Field], long_size: usize) -> Parser<'a> {
        Parser { lexer, next: Token::End, fields, long_size, depth: 0, nodes: 0, bare_rec: false }
    }

    /// All arguments, after the comma behind the format string.
    pub(super) fn arguments(&mut self) -> Result<Vec<Expr>> {
        let mut list = Vec::new();
        loop {
            self.advance();
            list.push(self.argument()?);
            if self.next != Token::Delim(b',') {
                return Ok(list);
            }
        }
    }

    fn advance(&mut self) {
        self.next = self.lexer.next();
    }

    fn expect(&mut self, token: &Token<'_>) -> Result<()> {
        if self.next == *token { Ok(()) } else { Err(NotUnderstood) }
    }

    /// The field named by the next token, which must be a word followed by `)`; reads on behind it.
    fn field_name(&mut self) -> Result<Option<usize>> {
        let Token::Item(name) = self.lexer.next() else { return Err(NotUnderstood) };
        self.advance();
        self.expect(&Token::Delim(b')'))?;
        self.advance();
        Ok(self.find(name))
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// An operand and the operators behind it; starts at `next`.
    fn argument(&mut self) -> Result<Expr> {
        let operand = self.operand()?;
        if let Token::Op(_) = self.next { self.operation(operand) } else { Ok(operand) }
    }

    /// An operand that ends in `end`; reads on behind it.
    fn until(&mut self, end: u8) -> Result<Box<Expr>> {
        self.advance();
        let value = self.argument()?;
        self.expect(&Token::Delim(end))?;
        Ok(Box::new(value))
    }

    /// One operand; starts at `next`, ends with `next` behind it.
    fn operand(&mut self) -> Result<Expr> {
        self.depth += 1;
        self.nodes += 1;
        if self.depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(NotUnderstood);
        }
        let value = self.bounded_operand();
        self.depth -= 1;
        value
    }

    fn bounded_operand(&mut self) -> Result<Expr> {
        match std::mem::replace(&mut self.next, Token::End) {
            Token::Item(b"REC") => self.entry(),
            Token::Item(word) => {
                self.advance();
                if self.next == Token::Delim(b'(') {
                    return self.function(word);
                }
                let value = number(word);
                let mut text = word.to_vec();
                while let Token::Item(more) = self.next {
                    text.push(b' ');
                    text.extend_from_slice(more);
                    self.advance();
                }
                Ok(Expr::Atom(text.into(), value))
            }
            Token::Char(text) => {
                let value = text.first().copied().unwrap_or(0);
                self.advance();
                Ok(Expr::Atom(value.to_string().into_bytes().into(), u64::from(value)))
            }
            Token::Text(text) => {
                self.advance();
                let value = number(&text);
                Ok(Expr::Atom(text.into_owned().into(), value))
            }
            Token::Delim(b'(') => self.paren(),
            Token::Op(op) => self.unary(op),
            Token::Delim(_) | Token::End => Err(NotUnderstood),
        }
    }

    /// Behind `REC`.
    fn entry(&mut self) -> Result<Expr> {
        self.advance();
        if self.next == Token::Delim(b')') {
            self.bare_rec = true;
            return Ok(Expr::Null);
        }
        self.expect(&Token::Op(b"->"))?;
        let Token::Item(name) = self.lexer.next() else { return Err(NotUnderstood) };
        self.advance();
        self.find(name).map(Expr::Field).ok_or(NotUnderstood)
    }

    /// Behind `(`: a parenthesis or a cast.
    fn paren(&mut self) -> Result<Expr> {
        self.advance();
        let inner = self.argument()?;
        if std::mem::take(&mut self.bare_rec) {
            return self.entry();
        }
        self.expect(&Token::Delim(b')'))?;
        self.advance();
        match self.next {
            Token::Item(_) | Token::Text(_) | Token::Char(_) | Token::Delim(b'(') => {
                let Expr::Atom(name, _) = inner else { return Err(NotUnderstood) };
                Ok(Expr::Cast(Type::new(&name), Box::new(self.operand()?)))
            }
            _ => Ok(inner),
        }
    }

    fn unary(&mut self, op: &[u8]) -> Result<Expr> {
        let op = match op {
            b"~" => Op::Complement,
            b"!" => Op::Not,
            b"+" => Op::Add,
            b"-" => Op::Sub,
            _ => return Err(NotUnderstood),
        };
        self.advance();
        let right = self.operand()?;
        self.continued(Binary { op, rank: 0, left: Expr::Null, right }, false)
    }

    /// The operation that starts with the operator `next` behind `left`.
    fn operation(&mut self, left: Expr) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(NotUnderstood);
        }
        let value = self.bounded_operation(left);
        self.depth -= 1;
        value
    }

    fn bounded_operation(&mut self, left: Expr) -> Result<Expr> {
        let Token::Op(token) = self.next else { return Err(NotUnderstood) };
        let op = Op::parse(token).filter(|op| !matches!(op, Op::Not | Op::Complement)).ok_or(NotUnderstood)?;
        self.advance();
        match op {
            Op::Cond => {
                let mut yes = self.operand()?;
                while matches!(self.next, Token::Op(op) if op != b":") {
                    yes = self.operation(yes)?;
                }
                self.expect(&Token::Op(b":"))?;
                self.advance();
                let no = self.operand()?;
                let right = Expr::Op(Box::new(Binary { op: Op::Colon, rank: 0, left: yes, right: no }));
                self.continued(Binary { op, rank: 0, left, right }, false)
            }
            Op::Index => {
                let right = self.operand()?;
                self.expect(&Token::Op(b"]"))?;
                self.advance();
                self.continued(Binary { op, rank: 0, left, right }, false)
            }
            _ => {
                // `(void *)`: the type's star, not a product.
                if op == Op::Mul && self.next == Token::Delim(b')') {
                    let Expr::Atom(text, value) = left else { return Err(NotUnderstood) };
                    return Ok(Expr::Atom([&text, &b" *"[..]].concat().into(), value));
                }
                let right = self.operand()?;
                let rank = op.rank();
                match right {
                    Expr::Op(inner) if rank < inner.op.rank() => {
                        let Binary { op: outer, rank: outer_rank, left: first, right: second } = *inner;
                        let moved = Expr::Op(Box::new(Binary { op, rank, left, right: first }));
                        self.continued(Binary { op: outer, rank: outer_rank, left: moved, right: second }, true)
                    }
                    right => self.continued(Binary { op, rank, left, right }, false),
                }
            }
        }
    }

    /// Reads on when another operator follows: around `binary` when that binds more loosely, else into its right
    /// operand (into its left one when it was turned round).
    fn continued(&mut self, mut binary: Binary, turned: bool) -> Result<Expr> {
        match self.next {
            Token::Op(op) if op != b":" => {
                let rank = Op::parse(op).map_or(-1, Op::rank);
                if rank > binary.rank {
                    return self.operation(Expr::Op(Box::new(binary)));
                }
                let inner = if turned { &mut binary.left } else { &mut binary.right };
                if binary.op == Op::Cond {
                    return Err(NotUnderstood);
                }
                *inner = self.operation(std::mem::replace(inner, Expr::Null))?;
                Ok(Expr::Op(Box::new(binary)))
            }
            _ => Ok(Expr::Op(Box::new(binary))),
        }
    }

    /// Behind `name(`.
    fn function(&mut self, name: &[u8]) -> Result<Expr> {
        Ok(match name {
            b"__print_flags" => {
                let value = self.until(b',')?;
                self.advance();
                let delimiter = match std::mem::replace(&mut self.next, Token::End) {
                    Token::Text(text) => text.into_owned(),
                    Token::Item(text) | Token::Char(text) => text.to_vec(),
                    _ => return Err(NotUnderstood),
                };
                self.advance();
                Expr::Flags(value, delimiter.into(), self.named()?)
            }
            b"__print_symbolic" => {
                let value = self.until(b',')?;
                Expr::Symbolic(value, self.named()?)
            }
            b"__print_hex" | b"__print_hex_str" => {
                let array = self.array(b',')?;
                let length = self.until(b')')?;
                self.advance();
                Expr::Hex(array, length, name == b"__print_hex")
            }
            b"__print_array" => {
                let array = self.array(b',')?;
                let count = self.until(b',')?;
                let element = self.until(b')')?;
                self.advance();
                Expr::Array(array, count, element)
            }
            b"__print_dynamic_array" => {
                let Token::Item(field) = self.lexer.next() else { return Err(NotUnderstood) };
                let field = self.find(field).ok_or(NotUnderstood)?;
                self.advance();
                self.expect(&Token::Delim(b','))?;
                let element = self.until(b')')?;
                self.advance();
                let count = Binary { op: Op::Div, rank: 0, left: Expr::DynamicLen(field), right: (*element).clone() };
                Expr::Array(Box::new(Expr::Dynamic(field)), Box::new(Expr::Op(Box::new(count))), element)
            }
            b"__get_str" | b"__get_rel_str" => Expr::Str(self.field_name()?),
            b"__get_bitmask" | b"__get_rel_bitmask" => Expr::Bitmask(self.field_name()?),
            b"__get_cpumask" | b"__get_rel_cpumask" => Expr::Cpumask(self.field_name()?),
            b"__get_dynamic_array"
            | b"__get_rel_dynamic_array"
            | b"__get_sockaddr"
            | b"__get_rel_sockaddr"
            | b"__get_sockaddr_rel" => {
                let field = self.field_name()?.ok_or(NotUnderstood)?;
                if self.next == Token::Op(b"[") {
                    return Err(NotUnderstood);
                }
                Expr::Dynamic(field)
            }
            b"__get_dynamic_array_len" | b"__get_rel_dynamic_array_len" => {
                Expr::DynamicLen(self.field_name()?.ok_or(NotUnderstood)?)
            }
            b"__builtin_expect" => {
                self.advance();
                let value = self.operand()?;
                self.expect(&Token::Delim(b','))?;
                let Token::Item(_) = self.lexer.next() else { return Err(NotUnderstood) };
                self.advance();
                self.expect(&Token::Delim(b')'))?;
                self.advance();
                value
            }
            b"sizeof" => self.size_of()?,
            _ => return Err(NotUnderstood),
        })
    }

    /// A first argument that must be an array field.
    fn array(&mut self, end: u8) -> Result<Box<Expr>> {
        let array = self.until(end)?;
        if matches!(*array, Expr::Field(_) | Expr::Dynamic(_)) { Ok(array) } else { Err(NotUnderstood) }
    }

    /// `, {value, "name"}, ..)`; starts at the comma.
    fn named(&mut self) -> Result<Vec<Named>> {
        let mut rows = Vec::new();
        while self.next == Token::Delim(b',') {
            self.advance();
            if self.next != Token::Op(b"{") {
                break;
            }
            self.advance();
            let value = self.argument()?;
            self.expect(&Token::Delim(b','))?;
            self.advance();
            let name = self.operand()?;
            self.expect(&Token::Op(b"}"))?;
            rows.push(Named { value: constant(&value).ok_or(NotUnderstood)?, name: label(name)? });
            self.advance();
        }
        self.expect(&Token::Delim(b')'))?;
        self.advance();
        Ok(rows)
    }

    /// Behind `sizeof(`.
    fn size_of(&mut self) -> Result<Expr> {
        let mut words = Vec::new();
        loop {
            self.advance();
            match self.next {
                Token::Item(b"REC") => {
                    let Expr::Field(field) = self.entry()? else { return Err(NotUnderstood) };
                    self.expect(&Token::Delim(b')'))?;
                    self.advance();
                    let size = self.fields.get(field).map_or(0, |f| f.size) as u64;
                    return Ok(Expr::Atom(size.to_string().into_bytes().into(), size));
                }
                Token::Item(word) if words.len() < 8 => words.push(word),
                Token::Delim(b')') => break,
                _ => return Err(NotUnderstood),
            }
        }
        self.advance();
        let size = match words.iter().filter(|w| !matches!(**w, b"unsigned" | b"signed")).copied().last() {
            None | Some(b"int" | b"__u32" | b"u32" | b"__s32" | b"s32") => 4,
            Some(b"long") if words.iter().filter(|w| **w == b"long").count() > 1 => 8,
            Some(b"long") => self.long_size as u64,
            Some(b"__u64" | b"u64" | b"__s64" | b"s64") => 8,
            Some(b"__u16" | b"u16" | b"__s16" | b"s16" | b"short") => 2,
            Some(b"__u8" | b"u8" | b"__s8" | b"s8" | b"char") => 1,
            Some(_) => return Err(NotUnderstood),
        };
        Ok(Expr::Atom(size.to_string().into_bytes().into(), size))
    }
}

/// The text of a row's name.
fn label(name: Expr) -> Result<Box<[u8]>> {
    match name {
        Expr::Atom(text, _) => Ok(text),
        Expr::Cast(_, inner) => label(*inner),
        value => Ok(evaluated(&value).ok_or(NotUnderstood)?.to_string().into_bytes().into()),
    }
}
