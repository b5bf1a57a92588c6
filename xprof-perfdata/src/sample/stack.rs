//! A sample's user registers and stack copy where they lie, for whoever turns them into a call chain.
//!
//! A stack copy has up to 64 KiB, of which an unwinder looks at some hundred bytes: it is borrowed, never copied.

use std::ops::Range;

use super::{Callchain, Sample, SampleFormat};
use crate::abi::sample;
use crate::codec::{Codec, Decoder, Short};

/// The parts of a SAMPLE's body that matter to an unwinder, and the ranges of the body that they take up.
#[derive(Clone, Debug)]
pub struct UserStack<'a> {
    /// The call chain with its count; empty, at its place, when the format has none.
    pub chain_at: Range<usize>,
    /// The call chain as recorded.
    pub chain: Callchain<'a>,
    /// The user registers with their ABI word.
    pub regs_at: Range<usize>,
    /// `PERF_SAMPLE_REGS_ABI_*`: 0 none (a kernel thread), 1 of a 32-bit task, 2 of a 64-bit one.
    pub abi: u64,
    /// The registers of the format's mask, by rising number.
    pub regs: Callchain<'a>,
    /// The stack copy with its sizes.
    pub stack_at: Range<usize>,
    /// The bytes that were really copied, from the stack pointer upward.
    pub stack: &'a [u8],
    /// Bytes that were asked for; more than `stack` has where the stack's memory ended before.
    pub asked: usize,
}

impl SampleFormat {
    /// The user registers and the stack copy in the body of a SAMPLE record; `None` when the body ends inside a field.
    pub fn user_stack<'a>(&self, body: &'a [u8]) -> Option<UserStack<'a>> {
        self.parts(body).ok()
    }

    /// Where the stack copy of a SAMPLE's body begins, with its size; of the body only what lies before it is needed. `None` when that
    /// ends inside a field, and when the format has no copy.
    pub fn user_stack_at(&self, body: &[u8]) -> Option<usize> {
        if self.sample_type & sample::STACK_USER == 0 {
            return None;
        }
        self.before_stack(body).ok().map(|(parts, _)| parts.regs_at.end)
    }

    fn parts<'a>(&self, body: &'a [u8]) -> Result<UserStack<'a>, Short> {
        let (mut parts, mut skim) = self.before_stack(body)?;
        if self.sample_type & sample::STACK_USER != 0 {
            let mut len = 0;
            skim.u64(&mut len)?;
            let whole = skim.take(len)?;
            let mut copied = 0;
            skim.u64_if(len != 0, &mut copied)?;
            parts.asked = whole.len();
            parts.stack = whole.get(..usize::try_from(copied).map_err(|_| Short)?).unwrap_or(whole);
        }
        parts.stack_at.end = skim.position();
        Ok(parts)
    }

    /// All but the stack copy, and what is left to decode.
    fn before_stack<'a>(&self, body: &'a [u8]) -> Result<(UserStack<'a>, Decoder<'a, true>), Short> {
        let mut skim = Decoder::<true>::new(body, 0, self.order);
        let mut sample = Sample::default();
        let words = |bytes| Callchain::of_bytes(bytes, self.order);
        sample.head(&mut skim, self.sample_type)?;
        sample.counters(&mut skim, self)?;
        let chain_at = skim.position();
        let mut chain: &[u8] = &[];
        if self.sample_type & sample::CALLCHAIN != 0 {
            let mut len = 0;
            skim.u64(&mut len)?;
            chain = skim.take(len.checked_mul(8).ok_or(Short)?)?;
        }
        let chain_at = chain_at..skim.position();
        sample.between(&mut skim, self)?;
        let regs_at = skim.position();
        let mut abi = 0;
        let mut regs: &[u8] = &[];
        if self.sample_type & sample::REGS_USER != 0 {
            skim.u64(&mut abi)?;
            if abi != 0 {
                regs = skim.take(8 * u64::from(self.sample_regs_user.count_ones()))?;
            }
        }
        let regs_at = regs_at..skim.position();
        let stack_at = regs_at.end..regs_at.end;
        let (chain, regs) = (words(chain), words(regs));
        Ok((UserStack { chain_at, chain, regs_at, abi, regs, stack_at, stack: &[], asked: 0 }, skim))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Regs, StackUser};
    use super::*;
    use crate::codec::ByteOrder;

    #[test]
    fn the_parts_are_those_that_decoding_gives() {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let format = SampleFormat {
                order,
                sample_type: sample::IP
                    | sample::TID
                    | sample::READ
                    | sample::CALLCHAIN
                    | sample::RAW
                    | sample::REGS_USER
                    | sample::STACK_USER
                    | sample::WEIGHT,
                read_format: 0,
                branch_sample_type: 0,
                sample_regs_user: 0b1011,
                sample_regs_intr: 0,
                sample_id_all: true,
            };
            let mut sample = Sample {
                ip: 7,
                callchain: vec![1, 2, 3],
                raw: vec![9; 12],
                regs_user: Regs { abi: 2, values: vec![10, 11, 13] },
                stack_user: StackUser { bytes: (0..64).collect(), dyn_size: 40 },
                weight: 0x77,
                ..Sample::default()
            };
            sample.read.counters.push(Default::default());
            let mut body = Vec::new();
            format.encode_sample(&mut sample, &mut body).unwrap();
            let parts = format.user_stack(&body).unwrap();
            assert_eq!(parts.chain.iter().collect::<Vec<_>>(), [1, 2, 3]);
            assert_eq!((parts.abi, parts.regs.iter().collect::<Vec<_>>()), (2, vec![10, 11, 13]));
            assert_eq!((parts.stack, parts.asked), (&(0..40).collect::<Vec<u8>>()[..], 64));
            assert_eq!(parts.chain_at.len(), 32);
            assert_eq!(parts.regs_at, parts.stack_at.start - 32..parts.stack_at.start);
            assert_eq!(parts.stack_at.len(), 80);
            assert_eq!(body.len() - parts.stack_at.end, 8, "the weight");
            let start = parts.stack_at.start;
            assert_eq!((format.user_stack_at(&body), format.user_stack_at(&body[..start])), (Some(start), Some(start)));
            assert_eq!(format.user_stack_at(&body[..start - 1]), None);
            let without = SampleFormat { sample_type: format.sample_type & !sample::STACK_USER, ..format.clone() };
            assert_eq!(without.user_stack_at(&body), None);
            for cut in 0..parts.stack_at.end {
                assert!(format.user_stack(&body[..cut]).is_none(), "{cut}");
            }
        }
    }
}
