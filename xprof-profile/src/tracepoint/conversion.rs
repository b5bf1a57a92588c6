//! The pieces of a print format's string: text, and printf conversions with the arguments they take.

use super::parse::NotUnderstood;
use super::tree::Expr;

/// Widest field and longest precision that is obeyed: formats come from the recording.
const MAX_WIDTH: usize = 4096;

/// A piece of the format string.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// Text as it is.
    Literal(Box<[u8]>),
    /// `%d`, `%x`, ..: the conversion character and the bits of the argument that count.
    Number(Spec, u8, u32, Expr),
    /// `%s`.
    Text(Spec, Expr),
    /// `%p` and the letters behind it.
    Pointer(Spec, Box<[u8]>, Expr),
}

/// Flags, width and precision of a conversion.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spec {
    minus: bool,
    zero: bool,
    alternate: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
    /// `*`: the argument that gives the width (or, true, the precision).
    pub(super) star: Option<(bool, Box<Expr>)>,
}

/// Cuts a format string into pieces and gives each its argument.
pub(super) fn pieces(format: &[u8], arguments: Vec<Expr>) -> Result<Vec<Piece>, NotUnderstood> {
    let mut arguments = arguments.into_iter();
    let mut list = Vec::new();
    let mut literal = Vec::new();
    let mut rest = format;
    while let Some((&c, behind)) = rest.split_first() {
        rest = behind;
        match (c, behind.first()) {
            (b'\\', Some(&escaped)) => {
                literal.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => other,
                });
                rest = behind.get(1..).unwrap_or_default();
            }
            (b'%', Some(b'%')) => {
                literal.push(b'%');
                rest = behind.get(1..).unwrap_or_default();
            }
            (b'%', _) => {
                if !literal.is_empty() {
                    list.push(Piece::Literal(std::mem::take(&mut literal).into()));
                }
                let (piece, length) = conversion(behind, &mut arguments)?;
                list.extend(piece);
                rest = behind.get(length..).unwrap_or_default();
            }
            _ => literal.push(c),
        }
    }
    if !literal.is_empty() {
        list.push(Piece::Literal(literal.into()));
    }
    Ok(list)
}

/// One conversion, behind its `%`, and its length.
fn conversion(
    text: &[u8],
    arguments: &mut impl Iterator<Item = Expr>,
) -> Result<(Option<Piece>, usize), NotUnderstood> {
    let mut spec = Spec::default();
    let mut longs = 0i32;
    let mut in_precision = false;
    for (at, &c) in text.iter().enumerate() {
        match c {
            b'#' => spec.alternate = true,
            b'h' => longs -= 1,
            b'l' => longs += 1,
            b'L' => longs = 2,
            b'z' | b'Z' => longs = 1,
            b'.' => {
                in_precision = true;
                spec.precision = Some(0);
            }
            b'0' if !in_precision && spec.width == 0 => spec.zero = true,
            b'0'..=b'9' => {
                let number = if in_precision { spec.precision.get_or_insert(0) } else { &mut spec.width };
                *number = (*number * 10 + usize::from(c - b'0')).min(MAX_WIDTH);
            }
            b'-' => spec.minus = true,
            b'+' => spec.plus = true,
            b'*' => {
                if spec.star.is_some() {
                    return Err(NotUnderstood);
                }
                spec.star = Some((in_precision, Box::new(arguments.next().ok_or(NotUnderstood)?)));
            }
            b'p' => {
                let argument = arguments.next().ok_or(NotUnderstood)?;
                let behind = text.get(at + 1..).unwrap_or_default();
                let letters = behind.get(..pointer_letters(behind)).unwrap_or_default();
                return Ok((Some(Piece::Pointer(spec, letters.into(), argument)), at + 1 + letters.len()));
            }
            b'c' | b'd' | b'i' | b'u' | b'x' | b'X' | b'o' => {
                let argument = arguments.next().ok_or(NotUnderstood)?;
                let bits = match longs {
                    -2 => 8,
                    -1 => 16,
                    0 => 32,
                    1 | 2 => 64,
                    _ => return Err(NotUnderstood),
                };
                return Ok((Some(Piece::Number(spec, c, bits, argument)), at + 1));
            }
            b's' => {
                let argument = arguments.next().ok_or(NotUnderstood)?;
                return Ok((Some(Piece::Text(spec, argument)), at + 1));
            }
            other => return Ok((Some(Piece::Literal([b'>', other, b'<'].into())), at + 1)),
        }
    }
    Ok((None, text.len()))
}

/// How many letters behind `%p` belong to it.
fn pointer_letters(text: &[u8]) -> usize {
    let at = |i: usize| text.get(i).copied().unwrap_or(0);
    match at(0) {
        b'F' | b'f' | b'S' | b's' => 1,
        b'M' | b'm' => 1 + usize::from(matches!(at(1), b'R' | b'F')),
        b'U' => 1 + usize::from(matches!(at(1), b'L' | b'l' | b'B' | b'b')),
        b'h' => 1 + usize::from(matches!(at(1), b'C' | b'D' | b'N')),
        b'I' | b'i' => match at(1) {
            b'4' => 2 + usize::from(matches!(at(2), b'h' | b'n' | b'l' | b'b')),
            b'6' => 2 + usize::from(at(2) == b'c'),
            b'S' => {
                let mut end = 2;
                while end < 8 && matches!(at(end), b'p' | b'f' | b's') {
                    end += 1;
                }
                end += usize::from(matches!(at(end), b'h' | b'n' | b'l' | b'b'));
                end + usize::from(at(end) == b'c')
            }
            _ => 1,
        },
        _ => 0,
    }
}

impl Spec {
    /// With the value of its `*` filled in; negative values count as not given.
    pub(super) fn filled(&self, star: Option<u64>) -> Spec {
        let mut spec = Spec { star: None, ..self.clone() };
        if let (Some((precision, _)), Some(value)) = (&self.star, star.and_then(|v| usize::try_from(v as i32).ok())) {
            if *precision {
                spec.precision = Some(value.min(MAX_WIDTH));
            } else {
                spec.width = value.min(MAX_WIDTH);
            }
        }
        spec
    }

    /// Writes text, cut at its first zero.
    pub(super) fn text(&self, text: &[u8], out: &mut Vec<u8>) {
        let end = text.iter().position(|&c| c == 0).unwrap_or(text.len());
        let end = self.precision.map_or(end, |precision| precision.min(end));
        let text = text.get(..end).unwrap_or_default();
        let pad = self.width.saturating_sub(text.len());
        if !self.minus {
            out.resize(out.len() + pad, b' ');
        }
        out.extend_from_slice(text);
        if self.minus {
            out.resize(out.len() + pad, b' ');
        }
    }

    /// Writes the low `bits` of a number.
    pub(super) fn number(&self, conversion: u8, bits: u32, value: u64, out: &mut Vec<u8>) {
        let unused = 64 - bits;
        let unsigned = value << unused >> unused;
        let signed = (value << unused) as i64 >> unused;
        let mut room = ROOM;
        let (sign, at): (&[u8], usize) = match conversion {
            b'c' => return self.character(value as u8, out),
            b'd' | b'i' if signed < 0 => (b"-", decimal(signed.unsigned_abs(), &mut room)),
            b'd' | b'i' => (if self.plus { b"+" } else { b"" }, decimal(unsigned, &mut room)),
            b'x' if self.alternate && unsigned != 0 => (b"0x", radix(unsigned, 4, false, &mut room)),
            b'X' if self.alternate && unsigned != 0 => (b"0X", radix(unsigned, 4, true, &mut room)),
            b'x' | b'X' => (b"", radix(unsigned, 4, conversion == b'X', &mut room)),
            b'o' if self.alternate && unsigned != 0 => (b"0", radix(unsigned, 3, false, &mut room)),
            b'o' => (b"", radix(unsigned, 3, false, &mut room)),
            _ => (b"", decimal(unsigned, &mut room)),
        };
        if self.width == 0 && self.precision.is_none() {
            out.extend_from_slice(sign);
            return append(&room, at, out);
        }
        let digits = &room[at..DIGITS];
        let digits = if self.precision == Some(0) && unsigned == 0 { &[][..] } else { digits };
        let mut zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        let pad = self.width.saturating_sub(sign.len() + zeros + digits.len());
        let spaces = if self.zero && !self.minus && self.precision.is_none() {
            zeros += pad;
            0
        } else {
            pad
        };
        if !self.minus {
            out.resize(out.len() + spaces, b' ');
        }
        out.extend_from_slice(sign);
        out.resize(out.len() + zeros, b'0');
        out.extend_from_slice(digits);
        if self.minus {
            out.resize(out.len() + spaces, b' ');
        }
    }

    fn character(&self, c: u8, out: &mut Vec<u8>) {
        let pad = self.width.saturating_sub(1);
        if !self.minus {
            out.resize(out.len() + pad, b' ');
        }
        // A zero ends perf's text there and then; it is left out.
        if c != 0 {
            out.push(c);
        }
        if self.minus {
            out.resize(out.len() + pad, b' ');
        }
    }
}

/// Most digits of a number in any base, and as many bytes behind them.
const DIGITS: usize = 24;
type Room = [u8; 2 * DIGITS];
const ROOM: Room = [0; 2 * DIGITS];

/// Writes the digits from `at` on: a copy of constant length, cut to what is meant, costs a fraction of a short one.
fn append(room: &Room, at: usize, out: &mut Vec<u8>) {
    let end = out.len() + DIGITS.saturating_sub(at);
    if let Some(digits) = room.get(at..).and_then(|rest| rest.first_chunk::<DIGITS>()) {
        out.extend_from_slice(digits);
        out.truncate(end);
    }
}

/// Digits of `value`, up to [`DIGITS`]; where they begin.
fn decimal(mut value: u64, room: &mut Room) -> usize {
    let mut at = DIGITS;
    loop {
        at -= 1;
        room[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return at;
        }
    }
}

fn radix(mut value: u64, bits: u32, upper: bool, room: &mut Room) -> usize {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut at = DIGITS;
    loop {
        at -= 1;
        room[at] = digits[(value & ((1 << bits) - 1)) as usize];
        value >>= bits;
        if value == 0 {
            return at;
        }
    }
}

/// Writes `value` in hexadecimal, without a prefix.
pub(super) fn hex(value: u64, out: &mut Vec<u8>) {
    let mut room = ROOM;
    let at = radix(value, 4, false, &mut room);
    append(&room, at, out);
}

/// Writes a byte as two hexadecimal digits.
pub(super) fn hex_byte(byte: u8, upper: bool, out: &mut Vec<u8>) {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    out.push(digits[usize::from(byte >> 4)]);
    out.push(digits[usize::from(byte & 15)]);
}

/// Writes `value` in decimal.
pub(super) fn dec(value: u64, out: &mut Vec<u8>) {
    let mut room = ROOM;
    let at = decimal(value, &mut room);
    append(&room, at, out);
}

impl Spec {
    /// A plain conversion of this width.
    pub(super) fn with_width(self, width: usize) -> Spec {
        Spec { width, ..self }
    }
}
