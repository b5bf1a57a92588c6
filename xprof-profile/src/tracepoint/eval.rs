//! Prints one record of a tracepoint.
//!
//! The values are libtraceevent's: numbers are unsigned and 64 bits wide until a conversion cuts them, both sides of
//! `&&` and `||` are computed, a field that the record is too short for is 0.

use xprof_perfdata::codec::ByteOrder;

use super::conversion::{Piece, Spec, dec, hex, hex_byte};
use super::field::Field;
use super::tree::{Binary, Expr, Op};
use super::{Format, Functions, Strings};

/// One record, and what is needed to print it.
pub(super) struct Eval<'a> {
    pub(super) data: &'a [u8],
    pub(super) fields: &'a [Field],
    pub(super) strings: &'a Strings,
    pub(super) functions: &'a mut dyn Functions,
    pub(super) long_size: usize,
    pub(super) order: ByteOrder,
}

impl Format {
    /// Appends the text of one record (its raw bytes) to `out`, without a line end.
    pub fn print(&self, data: &[u8], functions: &mut dyn Functions, out: &mut Vec<u8>) {
        let mut eval = Eval {
            data,
            fields: &self.fields,
            strings: &self.strings,
            functions,
            long_size: self.long_size,
            order: self.order,
        };
        let Some(pieces) = &self.pieces else {
            out.extend_from_slice(b"[FAILED TO PARSE]");
            for field in self.own_fields() {
                out.push(b' ');
                out.extend_from_slice(&field.name);
                out.push(b'=');
                eval.raw(field, out);
            }
            return;
        };
        for piece in pieces {
            eval.piece(piece, out);
        }
    }
}

impl<'a> Eval<'a> {
    fn piece(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text),
            Piece::Number(spec, conversion, bits, argument) => {
                if spec.star.is_some() {
                    let spec = self.filled(spec);
                    let value = self.number(argument);
                    return spec.number(*conversion, *bits, value, out);
                }
                let value = self.number(argument);
                spec.number(*conversion, *bits, value, out);
            }
            Piece::Text(spec, argument) => {
                if spec.star.is_some() {
                    let spec = self.filled(spec);
                    return self.text(&spec, argument, out);
                }
                self.text(spec, argument, out);
            }
            Piece::Pointer(spec, letters, argument) => {
                let length = spec.star.as_ref().map_or(1, |(_, star)| self.number(star) as i32);
                self.pointer(letters, length, argument, out);
            }
        }
    }

    fn filled(&mut self, spec: &Spec) -> Spec {
        let star = spec.star.as_ref().map(|(_, argument)| self.number(argument));
        spec.filled(star)
    }

    pub(super) fn field(&self, index: usize) -> Option<&'a Field> {
        self.fields.get(index)
    }

    /// `size` bytes at `offset`; nothing when the record is too short.
    pub(super) fn bytes(&self, offset: usize, size: usize) -> Option<&'a [u8]> {
        self.data.get(offset..offset.checked_add(size)?)
    }

    fn read(&self, offset: usize, size: usize) -> u64 {
        let Some(bytes) = self.bytes(offset, size) else { return 0 };
        let mut wide = [0; 8];
        match (self.order, size) {
            (ByteOrder::Little, 1 | 2 | 4 | 8) => {
                wide[..size].copy_from_slice(bytes);
                u64::from_le_bytes(wide)
            }
            (ByteOrder::Big, 1 | 2 | 4 | 8) => {
                wide[8 - size..].copy_from_slice(bytes);
                u64::from_be_bytes(wide)
            }
            _ => 0,
        }
    }

    /// Offset and length of the bytes that a dynamic field points to; both 0 when they are outside the record.
    pub(super) fn dynamic(&self, field: &Field) -> (usize, usize) {
        if self.bytes(field.offset, field.size).is_none() {
            return (0, 0);
        }
        let place = self.read(field.offset, field.size);
        let mut offset = (place & 0xffff) as usize;
        if field.shape.relative {
            offset = offset.saturating_add(field.offset).saturating_add(field.size);
        }
        let length =
            if field.size == 2 { self.data.len().saturating_sub(offset) } else { (place >> 16 & 0xffff) as usize };
        if offset > self.data.len() {
            (0, 0)
        } else if offset + length > self.data.len() {
            (offset, 0)
        } else {
            (offset, length)
        }
    }

    /// The number that an argument stands for.
    pub(super) fn number(&mut self, expr: &Expr) -> u64 {
        match expr {
            Expr::Atom(_, value) => *value,
            Expr::Field(index) => self.field(*index).map_or(0, |f| self.read(f.offset, f.size)),
            Expr::Cast(kind, inner) => self.number(inner) & kind.mask,
            Expr::DynamicLen(index) => self.field(*index).map_or(0, |f| self.dynamic(f).1 as u64),
            Expr::Dynamic(index) => self.field(*index).map_or(0, |f| self.dynamic(f).0 as u64),
            Expr::Op(binary) => self.operation(binary),
            _ => 0,
        }
    }

    fn operation(&mut self, binary: &Binary) -> u64 {
        match (binary.op, &binary.right) {
            (Op::Cond, Expr::Op(arms)) => {
                let arm = if self.number(&binary.left) != 0 { &arms.left } else { &arms.right };
                self.number(arm)
            }
            (Op::Index, _) => self.element(binary),
            (op, right) => {
                let left = self.number(&binary.left);
                let right = self.number(right);
                op.apply(left, right)
            }
        }
    }

    /// `array[index]`, the array perhaps in casts, of which the outermost says what an element is.
    fn element(&mut self, binary: &Binary) -> u64 {
        let index = self.number(&binary.right) as usize;
        let mut array = &binary.left;
        let mut mask = u64::MAX;
        let mut outermost = true;
        while let Expr::Cast(kind, inner) = array {
            if std::mem::take(&mut outermost) {
                mask = kind.pointee;
            }
            array = inner;
        }
        let (offset, size) = match array {
            Expr::Dynamic(field) => {
                let Some(field) = self.field(*field) else { return 0 };
                let size = if field.element > 0 { field.element } else { self.long_size };
                (self.dynamic(field).0.saturating_add(index), size)
            }
            Expr::Field(field) => {
                let Some(field) = self.field(*field) else { return 0 };
                (field.offset.saturating_add(index.saturating_mul(field.element)), field.element)
            }
            _ => return 0,
        };
        self.read(offset, size) & mask
    }

    /// `%s`.
    fn text(&mut self, spec: &Spec, expr: &Expr, out: &mut Vec<u8>) {
        match expr {
            Expr::Atom(text, _) => spec.text(text, out),
            Expr::Field(index) => {
                let Some(field) = self.field(*index) else { return };
                if !field.shape.array && field.size == self.long_size {
                    let address = self.read(field.offset, field.size);
                    match self.strings.get(&address) {
                        Some(text) => out.extend_from_slice(text),
                        None => hex(address, out),
                    }
                    return;
                }
                let size = if field.size > 0 { field.size } else { self.data.len().saturating_sub(field.offset) };
                spec.text(self.bytes(field.offset, size).unwrap_or_default(), out);
            }
            Expr::Flags(value, delimiter, rows) => {
                let mut value = self.number(value);
                let mut printed = false;
                for row in rows {
                    let bits = row.value as u64;
                    if value == 0 && row.value < 0 {
                        spec.text(&row.name, out);
                        break;
                    }
                    if row.value > 0 && value & bits == bits {
                        if printed {
                            out.extend_from_slice(delimiter);
                        }
                        spec.text(&row.name, out);
                        printed = true;
                        value &= !bits;
                    }
                }
                if value != 0 {
                    if printed {
                        out.extend_from_slice(delimiter);
                    }
                    out.extend_from_slice(b"0x");
                    hex(value, out);
                }
            }
            Expr::Symbolic(value, rows) => {
                let value = self.number(value);
                match rows.iter().find(|row| row.value as u64 == value) {
                    Some(row) => spec.text(&row.name, out),
                    None => {
                        out.extend_from_slice(b"0x");
                        hex(value, out);
                    }
                }
            }
            Expr::Hex(array, length, spaced) => {
                let length = self.number(length) as usize;
                let bytes = self.array(array);
                for (i, &byte) in bytes.iter().take(length).enumerate() {
                    if i > 0 && *spaced {
                        out.push(b' ');
                    }
                    hex_byte(byte, false, out);
                }
            }
            Expr::Array(array, count, element) => {
                let count = self.number(count) as usize;
                let size = self.number(element) as usize;
                let start = self.data.len() - self.array(array).len();
                self.elements(start, count, size, out);
            }
            Expr::Str(Some(index)) => {
                let Some(field) = self.field(*index) else { return };
                let (offset, length) = self.dynamic(field);
                spec.text(self.bytes(offset, length).unwrap_or_default(), out);
            }
            Expr::Bitmask(Some(index)) => {
                let Some(field) = self.field(*index) else { return };
                let (offset, length) = self.dynamic(field);
                let mut text = Vec::new();
                self.bitmask(self.bytes(offset, length).unwrap_or_default(), &mut text);
                spec.text(&text, out);
            }
            Expr::Cpumask(Some(index)) => {
                let Some(field) = self.field(*index) else { return };
                let (offset, length) = self.dynamic(field);
                let mut text = Vec::new();
                self.cpumask(self.bytes(offset, length).unwrap_or_default(), &mut text);
                spec.text(&text, out);
            }
            Expr::Op(binary) => {
                if let (Op::Cond, Expr::Op(arms)) = (binary.op, &binary.right) {
                    let arm = if self.number(&binary.left) != 0 { &arms.left } else { &arms.right };
                    self.text(spec, arm, out);
                }
            }
            _ => {}
        }
    }

    /// The record from an array's first byte on.
    fn array(&self, array: &Expr) -> &'a [u8] {
        let offset = match array {
            Expr::Dynamic(index) => self.field(*index).map(|f| self.dynamic(f).0),
            Expr::Field(index) => self.field(*index).map(|f| f.offset),
            _ => None,
        };
        offset.and_then(|offset| self.data.get(offset..)).unwrap_or_default()
    }

    /// `{0x1,0x2}`.
    fn elements(&self, start: usize, count: usize, size: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        let step = if matches!(size, 1 | 2 | 4 | 8) { size } else { 1 };
        let there = self.data.len().saturating_sub(start) / step;
        for i in 0..count.min(there) {
            if i > 0 {
                out.push(b',');
            }
            if step != size {
                out.extend_from_slice(b"BAD SIZE:");
                dec(size as u64, out);
                out.push(b' ');
            }
            out.extend_from_slice(b"0x");
            hex(self.read(start + i * step, step), out);
        }
        out.push(b'}');
    }

    /// Bytes of a mask, the most significant one first.
    fn mask_bytes<'b>(&self, mask: &'b [u8]) -> impl Iterator<Item = u8> + use<'b> {
        let big = self.order == ByteOrder::Big;
        (0..mask.len()).rev().map(move |i| mask[if big { mask.len() - 1 - i } else { i }])
    }

    /// Hexadecimal, with a comma every 32 bits.
    fn bitmask(&self, mask: &[u8], out: &mut Vec<u8>) {
        for (i, byte) in self.mask_bytes(mask).enumerate() {
            if i > 0 && (mask.len() - i).is_multiple_of(4) {
                out.push(b',');
            }
            hex_byte(byte, false, out);
        }
    }

    /// `0-3,7`.
    fn cpumask(&self, mask: &[u8], out: &mut Vec<u8>) {
        let mut bytes: Vec<u8> = self.mask_bytes(mask).collect();
        bytes.reverse();
        let set = |bit: usize| bytes.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
        let mut bit = 0;
        let mut first = true;
        while bit < bytes.len() * 8 {
            if !set(bit) {
                bit += 1;
                continue;
            }
            let start = bit;
            while set(bit) {
                bit += 1;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            dec(start as u64, out);
            if bit > start + 1 {
                out.push(b'-');
                dec(bit as u64 - 1, out);
            }
        }
    }

    /// A field as it is printed when the print format is not understood.
    fn raw(&self, field: &Field, out: &mut Vec<u8>) {
        let shape = field.shape;
        if shape.array {
            let (offset, length) = if shape.dynamic { self.dynamic(field) } else { (field.offset, field.size) };
            let bytes = self.bytes(offset, length).unwrap_or_default();
            let end = bytes.iter().position(|&c| c == 0).unwrap_or(bytes.len());
            let text = bytes.get(..end).unwrap_or_default();
            if shape.string && text.iter().all(|c| matches!(c, b' '..=b'~' | b'\t'..=b'\r')) {
                out.extend_from_slice(text);
                return;
            }
            out.extend_from_slice(b"ARRAY[");
            for (i, &byte) in bytes.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                hex_byte(byte, false, out);
            }
            out.push(b']');
            return;
        }
        let value = self.read(field.offset, field.size);
        let plain = Spec::default();
        match (shape.signed && !shape.pointer, field.size) {
            (true, 4) if !shape.long => plain.number(b'd', 32, value, out),
            (true, 2) => Spec::default().with_width(2).number(b'd', 16, value, out),
            (true, 1) => plain.number(b'd', 8, value, out),
            (true, size) if size != 4 => plain.number(b'd', 64, value, out),
            (false, _) if !shape.pointer && !shape.long => dec(value, out),
            _ => {
                out.extend_from_slice(b"0x");
                hex(value, out);
            }
        }
    }
}
