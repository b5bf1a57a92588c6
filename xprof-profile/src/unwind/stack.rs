//! A copy of the upper end of a user stack.

use super::beyond::Pages;

/// Why a word cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It lies above the copy, whose size is all that was asked for.
    Cut,
    /// It lies where no larger copy of this stack would reach.
    Elsewhere,
}

/// A stack is no larger than this, bytes: what lies further above is not of it.
const STACK_MAX: u64 = 1 << 30;

/// Bytes from a stack pointer upward.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    start: u64,
    bytes: &'a [u8],
    /// The memory above the copy was not asked for.
    full: bool,
    /// What is known of it all the same.
    beyond: Option<&'a Pages>,
}

impl<'a> Stack<'a> {
    /// The copy that starts at `start`. `full`: as many bytes as were asked for, so that the stack may go on.
    pub fn new(start: u64, bytes: &'a [u8], full: bool) -> Stack<'a> {
        Stack { start, bytes, full, beyond: None }
    }

    /// The same, with the process's own memory above the copy.
    pub(crate) fn with(self, beyond: &'a Pages) -> Stack<'a> {
        Stack { beyond: Some(beyond), ..self }
    }

    /// The address behind the copy.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// The little-endian word at an address.
    #[inline]
    pub fn word(&self, addr: u64) -> Result<u64, Gap> {
        let word = addr
            .checked_sub(self.start)
            .and_then(|at| usize::try_from(at).ok())
            .and_then(|at| self.bytes.get(at..))
            .and_then(|bytes| bytes.first_chunk());
        match word {
            Some(word) => Ok(u64::from_le_bytes(*word)),
            None => match self.beyond.filter(|_| self.gap(addr) == Gap::Cut).and_then(|pages| pages.word(addr)) {
                Some(word) => Ok(word),
                None => Err(self.gap(addr)),
            },
        }
    }

    fn gap(&self, addr: u64) -> Gap {
        let above = addr.checked_sub(self.start).is_some_and(|distance| distance < STACK_MAX);
        if above && self.full { Gap::Cut } else { Gap::Elsewhere }
    }

    /// The address that the copy starts at.
    pub fn start(&self) -> u64 {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_what_lies_beyond() {
        let bytes: Vec<u8> = (1u64..=4).flat_map(u64::to_le_bytes).collect();
        let stack = Stack::new(0x1000, &bytes, true);
        assert_eq!((stack.word(0x1000), stack.word(0x1018)), (Ok(1), Ok(4)));
        assert_eq!((stack.word(0x1019), stack.word(0x1020)), (Err(Gap::Cut), Err(Gap::Cut)));
        assert_eq!((stack.word(0xfff), stack.word(u64::MAX)), (Err(Gap::Elsewhere), Err(Gap::Elsewhere)));
        assert_eq!(Stack::new(0x1000, &bytes, false).word(0x1020), Err(Gap::Elsewhere));
    }
}
