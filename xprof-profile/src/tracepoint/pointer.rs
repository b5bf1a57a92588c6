//! `%p` and its letters: functions, hardware and internet addresses, UUIDs, raw bytes.

use xprof_perfdata::codec::ByteOrder;

use super::conversion::{dec, hex, hex_byte};
use super::eval::Eval;
use super::tree::Expr;

/// `AF_INET` and `AF_INET6` of Linux.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

impl Eval<'_> {
    /// Writes the argument of `%p` followed by `letters`; `length` is that of `%*ph`.
    pub(super) fn pointer(&mut self, letters: &[u8], length: i32, expr: &Expr, out: &mut Vec<u8>) {
        let bare = uncast(expr);
        match letters {
            [form @ (b'F' | b'f' | b'S' | b's'), ..] => {
                let address = self.number(expr);
                match self.functions.function(address) {
                    Some((name, start)) => {
                        out.extend_from_slice(name.as_bytes());
                        if matches!(form, b'F' | b'S') {
                            out.extend_from_slice(b"+0x");
                            hex(address.wrapping_sub(start), out);
                        }
                    }
                    None => {
                        out.extend_from_slice(b"0x");
                        hex(address, out);
                    }
                }
            }
            [form @ (b'M' | b'm'), rest @ ..] => {
                let Some(bytes) = self.fixed(bare, 6, b"INVALIDMAC", out) else { return };
                let separator: &[u8] = match (form, rest) {
                    (b'm', _) => b"",
                    (_, [b'F', ..]) => b"-",
                    _ => b":",
                };
                let mut bytes: [u8; 6] = bytes.try_into().unwrap_or_default();
                if rest == b"R" {
                    bytes.reverse();
                }
                for (i, byte) in bytes.into_iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(separator);
                    }
                    hex_byte(byte, false, out);
                }
            }
            [form, b'4', rest @ ..] => {
                let Some(bytes) = self.fixed(bare, 4, b"INVALIDIPv4", out) else { return };
                let bytes: [u8; 4] = bytes.try_into().unwrap_or_default();
                ipv4(bytes, *form == b'i', self.reversed(rest), out);
            }
            [form, b'6', rest @ ..] => {
                let Some(bytes) = self.fixed(bare, 16, b"INVALIDIPv6", out) else { return };
                let bytes: [u8; 16] = bytes.try_into().unwrap_or_default();
                ipv6(bytes, *form == b'I', rest == b"c", out);
            }
            [form, b'S', rest @ ..] => self.socket_address(*form, rest, bare, out),
            [b'U', rest @ ..] => {
                const GUID: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
                let Some(bytes) = self.fixed(bare, 16, b"INVALIDUUID", out) else { return };
                let upper = matches!(rest, b"L" | b"B");
                for (i, guid) in GUID.into_iter().enumerate() {
                    let at = if matches!(rest, b"L" | b"l") { guid } else { i };
                    hex_byte(bytes.get(at).copied().unwrap_or(0), upper, out);
                    if matches!(i, 3 | 5 | 7 | 9) {
                        out.push(b'-');
                    }
                }
            }
            [b'h', rest @ ..] => {
                let Expr::Dynamic(index) = expr else { return not_a_field(b"ARG TYPE NOT FIELD BUT ", expr, out) };
                let Some(field) = self.field(*index) else { return };
                let (offset, there) = self.dynamic(field);
                let length = usize::try_from(length).unwrap_or(0).min(there);
                let separator: &[u8] = match rest {
                    b"C" => b":",
                    b"D" => b"-",
                    b"N" => b"",
                    _ => b" ",
                };
                for (i, &byte) in self.bytes(offset, length).unwrap_or_default().iter().enumerate() {
                    if i > 0 {
                        out.extend_from_slice(separator);
                    }
                    hex_byte(byte, false, out);
                }
            }
            _ => match self.number(expr) {
                0 => out.extend_from_slice(b"(nil)"),
                value => {
                    out.extend_from_slice(b"0x");
                    hex(value, out);
                }
            },
        }
    }

    /// The bytes of a field that must have `size` of them; says so in the text when it has not.
    fn fixed(&self, expr: &Expr, size: usize, complaint: &[u8], out: &mut Vec<u8>) -> Option<&[u8]> {
        let Expr::Field(index) = expr else {
            not_a_field(b"ARG TYPE NOT FIELD BUT ", expr, out);
            return None;
        };
        let field = self.field(*index)?;
        if field.size != size {
            out.extend_from_slice(complaint);
            return None;
        }
        self.bytes(field.offset, size)
    }

    /// The letter `h`, `n`, `l` or `b` behind an IPv4 form: whether its bytes are in reverse order.
    fn reversed(&self, letters: &[u8]) -> bool {
        match letters.first() {
            Some(b'h') => self.order == ByteOrder::Little,
            Some(b'l') => true,
            _ => false,
        }
    }

    /// `%pIS..`: a `struct sockaddr`.
    fn socket_address(&mut self, form: u8, letters: &[u8], expr: &Expr, out: &mut Vec<u8>) {
        let (offset, length) = match expr {
            Expr::Field(index) => match self.field(*index) {
                Some(field) => (field.offset, field.size),
                None => return,
            },
            Expr::Dynamic(index) => match self.field(*index) {
                Some(field) => self.dynamic(field),
                None => return,
            },
            _ => return not_a_field(b"ARG NOT FIELD NOR DYNAMIC ARRAY BUT TYPE ", expr, out),
        };
        // Read in this order and no other: a port, a compressed form, the order of bytes.
        let (port, letters) = match letters {
            [b'p', rest @ ..] if form == b'I' => (true, rest),
            other => (false, other),
        };
        let (compressed, letters) = match letters {
            [b'c', rest @ ..] if form == b'I' => (true, rest),
            other => (false, other),
        };
        let Some([a, b, p, q, rest @ ..]) = self.bytes(offset, length) else { return };
        let family = match self.order {
            ByteOrder::Little => u16::from_le_bytes([*a, *b]),
            ByteOrder::Big => u16::from_be_bytes([*a, *b]),
        };
        match (family, rest) {
            (AF_INET, [address @ .., _, _, _, _, _, _, _, _]) if address.len() >= 4 => {
                let address = [address[0], address[1], address[2], address[3]];
                ipv4(address, form == b'i', self.reversed(letters), out);
            }
            (AF_INET, _) => return out.extend_from_slice(b"INVALIDIPv4"),
            (AF_INET6, [_, _, _, _, address @ ..]) if rest.len() >= 24 => {
                let mut bytes = [0; 16];
                bytes.copy_from_slice(address.get(..16).unwrap_or(&[0; 16]));
                if port {
                    out.push(b'[');
                }
                ipv6(bytes, form == b'I', compressed, out);
                if port {
                    out.push(b']');
                }
            }
            (AF_INET6, _) => return out.extend_from_slice(b"INVALIDIPv6"),
            _ => return,
        }
        if port {
            out.push(b':');
            dec(u64::from(u16::from_be_bytes([*p, *q])), out);
        }
    }
}

fn uncast(mut expr: &Expr) -> &Expr {
    while let Expr::Cast(_, inner) = expr {
        expr = inner;
    }
    expr
}

/// The complaint of libtraceevent, with its number for the kind of argument.
fn not_a_field(complaint: &[u8], expr: &Expr, out: &mut Vec<u8>) {
    out.extend_from_slice(complaint);
    let kind = match expr {
        Expr::Null => 0,
        Expr::Atom(..) => 1,
        Expr::Field(_) => 2,
        Expr::Flags(..) => 3,
        Expr::Symbolic(..) => 4,
        Expr::Hex(_, _, true) => 5,
        Expr::Array(..) => 6,
        Expr::Cast(..) => 7,
        Expr::Str(_) => 8,
        Expr::Dynamic(_) => 10,
        Expr::Op(_) => 11,
        Expr::Bitmask(_) => 13,
        Expr::DynamicLen(_) => 14,
        Expr::Hex(_, _, false) => 15,
        Expr::Cpumask(_) => 16,
    };
    dec(kind, out);
}

fn ipv4(mut bytes: [u8; 4], padded: bool, reversed: bool, out: &mut Vec<u8>) {
    if reversed {
        bytes.reverse();
    }
    for (i, byte) in bytes.into_iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        if padded && byte < 100 {
            out.push(b'0');
        }
        if padded && byte < 10 {
            out.push(b'0');
        }
        dec(u64::from(byte), out);
    }
}

fn ipv6(bytes: [u8; 16], colons: bool, compressed: bool, out: &mut Vec<u8>) {
    if !compressed {
        for (i, byte) in bytes.into_iter().enumerate() {
            if colons && i > 0 && i % 2 == 0 {
                out.push(b':');
            }
            hex_byte(byte, false, out);
        }
        return;
    }
    let mut words = [0u16; 8];
    for (word, pair) in words.iter_mut().zip(bytes.chunks_exact(2)) {
        *word = u16::from_be_bytes([pair[0], pair[1]]);
    }
    let mapped = words[..5].iter().all(|&w| w == 0) && words[5] == 0xffff;
    let isatap = words[4] | 0x0200 == 0x0200 && words[5] == 0x5efe;
    let count = if mapped || isatap { 6 } else { 8 };
    let words = &words[..count];
    // The longest run of at least two zeros is left out; of equal ones the first.
    let mut gap = (0, 1);
    for start in 0..count {
        let length = words[start..].iter().take_while(|&&w| w == 0).count();
        if length > gap.1 {
            gap = (start, length);
        }
    }
    let mut colon = false;
    let mut at = 0;
    while at < count {
        if gap.1 > 1 && at == gap.0 {
            out.extend_from_slice(if colon || at == 0 { b"::" } else { b":" });
            colon = false;
            at += gap.1;
            continue;
        }
        if colon {
            out.push(b':');
        }
        hex(u64::from(words[at]), out);
        colon = true;
        at += 1;
    }
    if count == 6 {
        if colon {
            out.push(b':');
        }
        ipv4([bytes[12], bytes[13], bytes[14], bytes[15]], false, false, out);
    }
}
