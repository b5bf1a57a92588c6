//! The fields of a tracepoint: the `field:` lines of its `format` file.

/// One field of a tracepoint's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: Vec<u8>,
    /// Offset in the record, bytes.
    pub offset: usize,
    /// Bytes; 0 means "the rest of the record".
    pub size: usize,
    /// Bytes of one element of an array; the field's own size for others; 0 when not known.
    pub element: usize,
    /// What its declaration says.
    pub shape: Shape,
}

/// What a field's declaration says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Has brackets.
    pub array: bool,
    /// An array of characters.
    pub string: bool,
    /// `__data_loc` or `__rel_loc`: the field says where its bytes are and how many.
    pub dynamic: bool,
    /// `__rel_loc`: that place is counted from the field's own end.
    pub relative: bool,
    /// A pointer.
    pub pointer: bool,
    /// Its type contains `long`.
    pub long: bool,
    /// Signed.
    pub signed: bool,
}

impl Field {
    /// Reads one line, e.g. `\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;`. `long_size` is that of the
    /// recorded machine, bytes.
    pub(super) fn parse(line: &[u8], long_size: usize) -> Option<Field> {
        let line =
            line.trim_ascii().strip_prefix(b"field:").or_else(|| line.trim_ascii().strip_prefix(b"field special:"))?;
        let mut parts = line.split(|&c| c == b';').map(<[u8]>::trim_ascii);
        let declaration = parts.next()?;
        let (mut offset, mut size, mut signed) = (None, None, false);
        for part in parts {
            if let Some(number) = part.strip_prefix(b"offset:") {
                offset = decimal(number);
            } else if let Some(number) = part.strip_prefix(b"size:") {
                size = decimal(number);
            } else if let Some(number) = part.strip_prefix(b"signed:") {
                signed = decimal(number).is_some_and(|n| n != 0);
            }
        }
        let (offset, size) = (offset?, size?);
        let declared = Declaration::parse(declaration)?;
        let contains = |what: &[u8]| declared.kind.windows(what.len()).any(|w| w == what);
        let array = declared.length.is_some();
        let relative = declared.kind.starts_with(b"__rel_loc");
        let dynamic = relative || declared.kind.starts_with(b"__data_loc");
        let mut shape = Shape {
            array,
            string: array && (contains(b"char") || contains(b"u8") || contains(b"s8")),
            dynamic,
            relative,
            pointer: contains(b"*"),
            long: contains(b"long"),
            signed,
        };
        // Before dynamic arrays had lengths they were strings, with an offset of 2 bytes.
        if dynamic && size == 2 {
            shape.string = true;
            shape.array = true;
        }
        let element = match declared.length {
            _ if !array && !dynamic => size,
            Some(length) if length > 0 => size / length,
            _ if dynamic => declared.element,
            _ if shape.string => 1,
            _ if shape.long => long_size,
            _ => 0,
        };
        Some(Field { name: declared.name.to_vec(), offset, size, element, shape })
    }
}

/// `TYPE NAME`, `TYPE NAME[LENGTH]` or `TYPE[] NAME`.
struct Declaration<'a> {
    kind: &'a [u8],
    name: &'a [u8],
    /// What stands in the brackets, 0 when it is no number.
    length: Option<usize>,
    /// Size of the type in front of `[] NAME`, 0 when not known.
    element: usize,
}

impl<'a> Declaration<'a> {
    fn parse(text: &'a [u8]) -> Option<Declaration<'a>> {
        let word = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
        let Some(open) = text.iter().position(|&c| c == b'[') else {
            let start = text.iter().rposition(|c| !word(c))? + 1;
            let (kind, name) = text.split_at(start);
            return (!name.is_empty()).then_some(Declaration { kind, name, length: None, element: 0 });
        };
        let close = text.iter().rposition(|&c| c == b']').filter(|&close| close > open)?;
        let inside = text.get(open + 1..close)?;
        let last = inside.rsplit(|c| !word(c)).next().unwrap_or_default();
        let length = Some(decimal(last).unwrap_or(0));
        let before = text.get(..open)?.trim_ascii_end();
        let after = text.get(close + 1..)?.trim_ascii();
        let start = before.iter().rposition(|c| !word(c)).map_or(0, |at| at + 1);
        let (kind, last_word) = before.split_at(start);
        if after.is_empty() {
            return (!last_word.is_empty()).then_some(Declaration { kind, name: last_word, length, element: 0 });
        }
        let element = match last_word {
            b"u8" | b"s8" | b"char" => 1,
            b"u16" | b"s16" => 2,
            b"u32" | b"s32" => 4,
            b"u64" | b"s64" => 8,
            _ => 0,
        };
        Some(Declaration { kind: before, name: after, length, element })
    }
}

/// The number that `text` starts with.
fn decimal(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    std::str::from_utf8(text.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let field = |line: &str| Field::parse(line.as_bytes(), 8).expect("a field");
        let comm = field("\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;");
        assert_eq!((comm.name.as_slice(), comm.offset, comm.size, comm.element), (&b"comm"[..], 8, 16, 1));
        assert!(comm.shape.array && comm.shape.string && !comm.shape.dynamic);
        let name = field("\tfield:__data_loc char[] name;\toffset:12;\tsize:4;\tsigned:0;");
        assert_eq!((name.name.as_slice(), name.element), (&b"name"[..], 1));
        assert!(name.shape.string && name.shape.dynamic && !name.shape.relative);
        let ptr = field("\tfield:const void * ptr;\toffset:16;\tsize:8;\tsigned:0;");
        assert!(ptr.shape.pointer && !ptr.shape.array);
        assert_eq!(ptr.name, b"ptr");
        let args = field("\tfield:unsigned long args[6];\toffset:16;\tsize:48;\tsigned:0;");
        assert_eq!((args.element, args.shape.long, args.shape.string), (8, true, false));
        let old = field("\tfield:__data_loc name;\toffset:8;\tsize:2;\tsigned:0;");
        assert!(old.shape.array && old.shape.string);
        assert!(Field::parse(b"field:;offset:1;size:2", 8).is_none());
        assert!(Field::parse(b"field:int x;offset:99999999999999999999999;size:4", 8).is_none());
    }
}
