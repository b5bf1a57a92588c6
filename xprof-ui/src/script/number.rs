//! Numbers as text, without going through the formatting machinery.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends `value` in hexadecimal.
pub(super) fn hex(value: u64, out: &mut Vec<u8>) {
    let digits = (64 - (value | 1).leading_zeros()).div_ceil(4);
    for i in (0..digits).rev() {
        out.push(DIGITS[(value >> (i * 4) & 15) as usize]);
    }
}

/// Appends `value` in hexadecimal, right-aligned in 16 columns.
pub(super) fn hex_padded(value: u64, out: &mut Vec<u8>) {
    let digits = (64 - (value | 1).leading_zeros()).div_ceil(4) as usize;
    let mut room = [b' '; 16];
    for (i, place) in room.iter_mut().rev().take(digits).enumerate() {
        *place = DIGITS[(value >> (i * 4) & 15) as usize];
    }
    out.extend_from_slice(&room);
}

/// Appends `value` in decimal.
pub(super) fn dec(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `value` in decimal, right-aligned in `width` columns filled with `fill`.
pub(super) fn dec_padded(value: u64, width: usize, fill: u8, out: &mut Vec<u8>) {
    let mut room = itoa::Buffer::new();
    let digits = room.format(value).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), fill);
    out.extend_from_slice(digits);
}

/// Appends `value` as a signed number, right-aligned in `width` columns.
pub(super) fn signed_padded(value: i32, width: usize, out: &mut Vec<u8>) {
    let mut room = itoa::Buffer::new();
    let digits = room.format(value).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), b' ');
    out.extend_from_slice(digits);
}

/// Nine decimal digits.
pub(super) fn nine_digits(mut value: u32) -> [u8; 9] {
    let mut digits = [b'0'; 9];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    digits
}
