//! Byte order, and the directions over one description of a record.
//!
//! A record is described by one function that lists its fields in order, generic over [`Codec`]. Run over a
//! [`Decoder`] the function fills the fields from bytes, over an [`Encoder`] it appends them to bytes, over a
//! [`Ruler`] it stores in each field where the field lies. So a layout stands in one place, and decoding and encoding
//! cannot disagree. The fields are taken as `&mut` in every direction; an encoder leaves them as they are.

/// The byte order of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The order of the machine this runs on.
    pub const NATIVE: ByteOrder = if cfg!(target_endian = "little") { ByteOrder::Little } else { ByteOrder::Big };

    /// The other order.
    pub fn other(self) -> ByteOrder {
        match self {
            ByteOrder::Little => ByteOrder::Big,
            ByteOrder::Big => ByteOrder::Little,
        }
    }

    /// The number in the first two bytes.
    #[inline]
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        if self == Self::NATIVE { u16::from_ne_bytes(bytes) } else { u16::from_ne_bytes(bytes).swap_bytes() }
    }

    /// The number in four bytes.
    #[inline]
    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        if self == Self::NATIVE { u32::from_ne_bytes(bytes) } else { u32::from_ne_bytes(bytes).swap_bytes() }
    }

    /// The eight bytes of a number.
    #[inline]
    pub fn bytes64(self, number: u64) -> [u8; 8] {
        match self {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        }
    }

    /// The number in eight bytes.
    #[inline]
    pub fn u64(self, bytes: [u8; 8]) -> u64 {
        if self == Self::NATIVE { u64::from_ne_bytes(bytes) } else { u64::from_ne_bytes(bytes).swap_bytes() }
    }
}

/// The bytes end inside a field. Holds nothing, so that a [`Coded`] fits a register; who knows the record makes an
/// [`crate::Error`] of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

/// What coding a field returns.
pub type Coded = Result<(), Short>;

/// A structure that can lose its content and keep its memory.
pub trait Clear {
    /// Back to the default, without giving memory back.
    fn clear(&mut self);
}

impl<T> Clear for Vec<T> {
    fn clear(&mut self) {
        Vec::clear(self);
    }
}

/// One direction over a description. Lengths that a decoder is given come from the file: it believes none of them.
pub trait Codec {
    /// Order of the bytes.
    fn order(&self) -> ByteOrder;
    /// Bytes from the start of the structure to the next field.
    fn position(&self) -> usize;
    /// Whether a last part follows that writers may leave out: a decoder looks whether it has bytes left, an encoder
    /// returns `wanted`.
    fn more(&self, wanted: bool) -> bool;

    /// One byte.
    fn u8(&mut self, value: &mut u8) -> Coded;
    /// Two bytes.
    fn u16(&mut self, value: &mut u16) -> Coded;
    /// Four bytes.
    fn u32(&mut self, value: &mut u32) -> Coded;
    /// Eight bytes.
    fn u64(&mut self, value: &mut u64) -> Coded;
    /// A field that may be absent: a decoder sets it to 0 then.
    fn u64_if(&mut self, there: bool, value: &mut u64) -> Coded;
    /// See [`Codec::u64_if`].
    fn u32_if(&mut self, there: bool, value: &mut u32) -> Coded;
    /// A part that may be absent: a decoder clears it then.
    fn part_if<T: Clear>(
        &mut self,
        there: bool,
        part: &mut T,
        fields: impl FnOnce(&mut Self, &mut T) -> Coded,
    ) -> Coded;

    /// `len` bytes as they are.
    fn bytes(&mut self, bytes: &mut Vec<u8>, len: u64) -> Coded;
    /// All bytes to the end of the structure.
    fn rest(&mut self, bytes: &mut Vec<u8>) -> Coded;
    /// Bytes of a fixed number.
    fn array(&mut self, bytes: &mut [u8]) -> Coded;
    /// A string that ends in a zero byte and is filled up with zeros to a multiple of `align`, counted from the start
    /// of the structure.
    fn name(&mut self, name: &mut Vec<u8>, align: usize) -> Coded;
    /// A string in a field of `size` bytes, the rest zeros.
    fn name_in(&mut self, name: &mut Vec<u8>, size: usize) -> Coded;
    /// `len` numbers.
    fn u64s(&mut self, values: &mut Vec<u64>, len: u64) -> Coded;
    /// All numbers to the end of the structure.
    fn u64s_to_end(&mut self, values: &mut Vec<u64>) -> Coded;
    /// `len` structures. `each` must consume at least a byte.
    fn each<T: Default>(&mut self, items: &mut Vec<T>, len: u64, each: impl FnMut(&mut Self, &mut T) -> Coded)
    -> Coded;
    /// Reserved bytes: skipped, or written as zeros.
    fn zeros(&mut self, len: usize) -> Coded;
    /// Fills up to a multiple of `to`, counted from the start of the structure.
    fn align(&mut self, to: usize) -> Coded;

    /// Four bytes, signed.
    fn i32(&mut self, value: &mut i32) -> Coded {
        let mut bits = *value as u32;
        self.u32(&mut bits)?;
        *value = bits as i32;
        Ok(())
    }

    /// A C bit field in eight bytes, whose members have these widths in order (64 together). In memory here the first
    /// member has the lowest bits. Compilers for big-endian machines give the first member the highest bits, so that
    /// such a field is not one number in another byte order: its members change places, each keeping its own bits.
    fn bits64(&mut self, value: &mut u64, widths: &[u32]) -> Coded {
        if self.order() == ByteOrder::Little {
            return self.u64(value);
        }
        let mut there = mirror(*value, 64, widths, false);
        self.u64(&mut there)?;
        *value = mirror(there, 64, widths, true);
        Ok(())
    }

    /// A C bit field in four bytes of which every member has one bit. See [`Codec::bits64`].
    fn flags32(&mut self, value: &mut u32) -> Coded {
        if self.order() == ByteOrder::Little {
            return self.u32(value);
        }
        let mut there = value.reverse_bits();
        self.u32(&mut there)?;
        *value = there.reverse_bits();
        Ok(())
    }
}

/// Moves each member of a bit field from its place counted from one end to the same place counted from the other.
fn mirror(value: u64, size: u32, widths: &[u32], from_top: bool) -> u64 {
    let mut low = 0;
    let mut out = 0;
    for &width in widths {
        let high = size - low - width;
        let mask = u64::MAX >> (64 - width);
        let (from, to) = if from_top { (high, low) } else { (low, high) };
        out |= (value >> from & mask) << to;
        low += width;
    }
    out
}

/// Reads fields from bytes. With `SKIM` it reads numbers, which decide what follows, and passes over arrays.
#[derive(Debug)]
pub struct Decoder<'a, const SKIM: bool = false> {
    bytes: &'a [u8],
    at: usize,
    order: ByteOrder,
}

impl<'a, const SKIM: bool> Decoder<'a, SKIM> {
    /// A decoder at byte `at` of a structure.
    #[inline]
    pub fn new(bytes: &'a [u8], at: usize, order: ByteOrder) -> Self {
        Decoder { bytes, at, order }
    }

    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], Short> {
        let rest = self.left();
        if len > rest.len() as u64 {
            return Err(Short);
        }
        self.at += len as usize;
        Ok(&rest[..len as usize])
    }

    #[inline]
    fn left(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let chunk = self.left().first_chunk::<N>().ok_or(Short)?;
        self.at += N;
        Ok(*chunk)
    }
}

impl<const SKIM: bool> Codec for Decoder<'_, SKIM> {
    fn order(&self) -> ByteOrder {
        self.order
    }
    fn position(&self) -> usize {
        self.at
    }
    #[inline]
    fn more(&self, _: bool) -> bool {
        !self.left().is_empty()
    }
    #[inline]
    fn u8(&mut self, value: &mut u8) -> Coded {
        [*value] = self.chunk::<1>()?;
        Ok(())
    }
    #[inline]
    fn u16(&mut self, value: &mut u16) -> Coded {
        *value = self.order.u16(self.chunk()?);
        Ok(())
    }
    #[inline]
    fn u32(&mut self, value: &mut u32) -> Coded {
        *value = self.order.u32(self.chunk()?);
        Ok(())
    }
    #[inline]
    fn u64(&mut self, value: &mut u64) -> Coded {
        *value = self.order.u64(self.chunk()?);
        Ok(())
    }
    #[inline]
    fn u64_if(&mut self, there: bool, value: &mut u64) -> Coded {
        if there {
            return self.u64(value);
        }
        *value = 0;
        Ok(())
    }
    #[inline]
    fn u32_if(&mut self, there: bool, value: &mut u32) -> Coded {
        if there {
            return self.u32(value);
        }
        *value = 0;
        Ok(())
    }
    #[inline]
    fn part_if<T: Clear>(
        &mut self,
        there: bool,
        part: &mut T,
        fields: impl FnOnce(&mut Self, &mut T) -> Coded,
    ) -> Coded {
        if there {
            return fields(self, part);
        }
        part.clear();
        Ok(())
    }
    fn bytes(&mut self, bytes: &mut Vec<u8>, len: u64) -> Coded {
        bytes.clear();
        let taken = self.take(len)?;
        if !SKIM {
            bytes.extend_from_slice(taken);
        }
        Ok(())
    }
    fn rest(&mut self, bytes: &mut Vec<u8>) -> Coded {
        let len = self.left().len() as u64;
        self.bytes(bytes, len)
    }
    fn array(&mut self, bytes: &mut [u8]) -> Coded {
        let taken = self.take(bytes.len() as u64)?;
        bytes.copy_from_slice(taken);
        Ok(())
    }
    fn name(&mut self, name: &mut Vec<u8>, align: usize) -> Coded {
        let len = self.left().iter().position(|&b| b == 0).ok_or(Short)?;
        self.bytes(name, len as u64)?;
        self.at += 1;
        self.align(align)
    }
    fn name_in(&mut self, name: &mut Vec<u8>, size: usize) -> Coded {
        let field = self.take(size as u64)?;
        let len = field.iter().position(|&b| b == 0).unwrap_or(size);
        name.clear();
        if !SKIM {
            name.extend_from_slice(&field[..len]);
        }
        Ok(())
    }
    #[inline]
    fn u64s(&mut self, values: &mut Vec<u64>, len: u64) -> Coded {
        values.clear();
        let order = self.order;
        let (words, _) = self.take(len.checked_mul(8).ok_or(Short)?)?.as_chunks::<8>();
        if SKIM {
        } else if order == ByteOrder::NATIVE {
            values.extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
        } else {
            values.extend(words.iter().map(|word| u64::from_ne_bytes(*word).swap_bytes()));
        }
        Ok(())
    }
    fn u64s_to_end(&mut self, values: &mut Vec<u64>) -> Coded {
        let len = self.left().len() as u64 / 8;
        self.u64s(values, len)
    }
    fn each<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        len: u64,
        mut each: impl FnMut(&mut Self, &mut T) -> Coded,
    ) -> Coded {
        items.clear();
        // Every item consumes bytes, so the bytes that are there bound the loop and the memory.
        for _ in 0..len {
            let mut item = T::default();
            each(self, &mut item)?;
            if !SKIM {
                items.push(item);
            }
        }
        Ok(())
    }
    fn zeros(&mut self, len: usize) -> Coded {
        self.take(len as u64).map(|_| ())
    }
    fn align(&mut self, to: usize) -> Coded {
        self.at = self.at.next_multiple_of(to).min(self.bytes.len());
        Ok(())
    }
}

/// Appends fields to bytes.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    order: ByteOrder,
}

impl<'a> Encoder<'a> {
    /// An encoder of a structure that starts at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, order: ByteOrder) -> Self {
        let start = out.len();
        Encoder { out, start, order }
    }

    #[inline]
    fn put<const N: usize>(&mut self, little: [u8; N]) -> Coded {
        let mut bytes = little;
        if self.order == ByteOrder::Big {
            bytes.reverse();
        }
        self.out.extend_from_slice(&bytes);
        Ok(())
    }
}

impl Codec for Encoder<'_> {
    fn order(&self) -> ByteOrder {
        self.order
    }
    fn position(&self) -> usize {
        self.out.len() - self.start
    }
    fn more(&self, wanted: bool) -> bool {
        wanted
    }
    fn u8(&mut self, value: &mut u8) -> Coded {
        self.put([*value])
    }
    fn u16(&mut self, value: &mut u16) -> Coded {
        self.put(value.to_le_bytes())
    }
    fn u32(&mut self, value: &mut u32) -> Coded {
        self.put(value.to_le_bytes())
    }
    fn u64(&mut self, value: &mut u64) -> Coded {
        self.put(value.to_le_bytes())
    }
    fn u64_if(&mut self, there: bool, value: &mut u64) -> Coded {
        if there { self.u64(value) } else { Ok(()) }
    }
    fn u32_if(&mut self, there: bool, value: &mut u32) -> Coded {
        if there { self.u32(value) } else { Ok(()) }
    }
    fn part_if<T: Clear>(
        &mut self,
        there: bool,
        part: &mut T,
        fields: impl FnOnce(&mut Self, &mut T) -> Coded,
    ) -> Coded {
        if there { fields(self, part) } else { Ok(()) }
    }
    fn bytes(&mut self, bytes: &mut Vec<u8>, len: u64) -> Coded {
        let len = usize::try_from(len).map_err(|_| Short)?;
        self.out.extend_from_slice(bytes.get(..len).ok_or(Short)?);
        Ok(())
    }
    fn rest(&mut self, bytes: &mut Vec<u8>) -> Coded {
        self.array(bytes)
    }
    fn array(&mut self, bytes: &mut [u8]) -> Coded {
        self.out.extend_from_slice(bytes);
        Ok(())
    }
    fn name(&mut self, name: &mut Vec<u8>, align: usize) -> Coded {
        // A zero inside would end the name for every reader.
        let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        self.out.extend_from_slice(&name[..len]);
        self.zeros(1)?;
        self.align(align)
    }
    fn name_in(&mut self, name: &mut Vec<u8>, size: usize) -> Coded {
        let len = name.len().min(size);
        self.out.extend_from_slice(&name[..len]);
        self.zeros(size - len)
    }
    fn u64s(&mut self, values: &mut Vec<u64>, len: u64) -> Coded {
        if values.len() as u64 != len {
            return Err(Short);
        }
        values.iter_mut().try_for_each(|value| self.u64(value))
    }
    fn u64s_to_end(&mut self, values: &mut Vec<u64>) -> Coded {
        self.u64s(values, values.len() as u64)
    }
    fn each<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        len: u64,
        mut each: impl FnMut(&mut Self, &mut T) -> Coded,
    ) -> Coded {
        if items.len() as u64 != len {
            return Err(Short);
        }
        items.iter_mut().try_for_each(|item| each(self, item))
    }
    fn zeros(&mut self, len: usize) -> Coded {
        self.out.resize(self.out.len() + len, 0);
        Ok(())
    }
    fn align(&mut self, to: usize) -> Coded {
        let position = self.position();
        self.zeros(position.next_multiple_of(to) - position)
    }
}

/// Measures: stores in each number where it lies, and [`Ruler::ABSENT`] in those that are not there. Arrays have no
/// place that a description alone knows, so a ruler ends at the first with [`Short`].
#[derive(Debug, Default)]
pub struct Ruler {
    at: usize,
}

impl Ruler {
    /// The place of a field that is not there: past the end of any record.
    pub const ABSENT: u32 = u32::MAX;

    fn place(&mut self, size: usize) -> u32 {
        let at = self.at as u32;
        self.at += size;
        at
    }
}

impl Codec for Ruler {
    fn order(&self) -> ByteOrder {
        ByteOrder::Little
    }
    fn position(&self) -> usize {
        self.at
    }
    fn more(&self, wanted: bool) -> bool {
        wanted
    }
    fn u8(&mut self, _: &mut u8) -> Coded {
        self.zeros(1)
    }
    fn u16(&mut self, _: &mut u16) -> Coded {
        self.zeros(2)
    }
    fn u32(&mut self, value: &mut u32) -> Coded {
        *value = self.place(4);
        Ok(())
    }
    fn u64(&mut self, value: &mut u64) -> Coded {
        *value = self.place(8).into();
        Ok(())
    }
    fn u64_if(&mut self, there: bool, value: &mut u64) -> Coded {
        if there {
            return self.u64(value);
        }
        *value = Self::ABSENT.into();
        Ok(())
    }
    fn u32_if(&mut self, there: bool, value: &mut u32) -> Coded {
        if there {
            return self.u32(value);
        }
        *value = Self::ABSENT;
        Ok(())
    }
    fn part_if<T: Clear>(
        &mut self,
        there: bool,
        part: &mut T,
        fields: impl FnOnce(&mut Self, &mut T) -> Coded,
    ) -> Coded {
        if there { fields(self, part) } else { Ok(()) }
    }
    fn bytes(&mut self, _: &mut Vec<u8>, _: u64) -> Coded {
        Err(Short)
    }
    fn rest(&mut self, _: &mut Vec<u8>) -> Coded {
        Err(Short)
    }
    fn array(&mut self, bytes: &mut [u8]) -> Coded {
        self.zeros(bytes.len())
    }
    fn name(&mut self, _: &mut Vec<u8>, _: usize) -> Coded {
        Err(Short)
    }
    fn name_in(&mut self, _: &mut Vec<u8>, size: usize) -> Coded {
        self.zeros(size)
    }
    fn u64s(&mut self, _: &mut Vec<u64>, _: u64) -> Coded {
        Err(Short)
    }
    fn u64s_to_end(&mut self, _: &mut Vec<u64>) -> Coded {
        Err(Short)
    }
    fn each<T: Default>(&mut self, _: &mut Vec<T>, _: u64, _: impl FnMut(&mut Self, &mut T) -> Coded) -> Coded {
        Err(Short)
    }
    fn zeros(&mut self, len: usize) -> Coded {
        self.at += len;
        Ok(())
    }
    fn align(&mut self, to: usize) -> Coded {
        self.at = self.at.next_multiple_of(to);
        Ok(())
    }
}
