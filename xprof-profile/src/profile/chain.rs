//! Call chains as samples hold them: addresses between markers of modes, and on arm64 the link register beside them.
//!
//! A chain made of frame records misses the caller of a leaf that has none: its return address is in the link register
//! alone. A leaf with a record has the same address in both places, and then once is enough. [`walk`] puts the two
//! together, for everyone who shows or counts chains.

use xprof_perfdata::abi::{attr_flag, context};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::sample::{Callchain, Sample};

use crate::timeline::Mode;

/// Marker of a user half that is made of the calls that the CPU kept: what follows are call instructions themselves, behind
/// the function that was called last. No kernel writes it; it stands in chains made here.
pub(crate) const CALLS: u64 = -513i64 as u64;

/// An address of a stack: an instruction that was running, or the one a call returns to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameAddr {
    /// The instruction pointer itself.
    Ip(u64),
    /// A return address: the call is the instruction before it.
    Return(u64),
    /// A return address that only the link register holds. In a function that has made calls the register is stale and
    /// points into that function itself; whoever has names can tell, and leave it out.
    Link(u64),
}

impl FrameAddr {
    /// The address as it was recorded.
    pub fn recorded(self) -> u64 {
        match self {
            FrameAddr::Ip(addr) | FrameAddr::Return(addr) | FrameAddr::Link(addr) => addr,
        }
    }

    /// The address whose function and line are meant: for a return address one byte less, which lies in the call, so that
    /// a call at the very end of a function is not taken for the next one.
    pub fn for_lookup(self) -> u64 {
        match self {
            FrameAddr::Ip(addr) => addr,
            FrameAddr::Return(addr) | FrameAddr::Link(addr) => addr.saturating_sub(1),
        }
    }
}

/// A value that is no address and no marker known here. Garbage in place of a frame pointer looks like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMarker;

/// The frames of a chain, leaf first, with the mode each is in; markers are taken out. `mode` is the sample's own,
/// `link` its [`LinkRegister`].
pub fn walk(
    mut mode: Mode,
    chain: Callchain<'_>,
    mut link: Option<u64>,
) -> impl Iterator<Item = Result<(Mode, FrameAddr), UnknownMarker>> {
    let mut entries = chain.iter().peekable();
    let (mut is_ip, mut in_user, mut are_calls) = (true, false, false);
    let mut caller = None;
    std::iter::from_fn(move || {
        if let Some(caller) = caller.take() {
            return Some(Ok((mode, FrameAddr::Link(caller))));
        }
        loop {
            let entry = entries.next()?;
            if entry >= context::MAX {
                // A second marker of the user half says how its outer frames are known: they are return addresses.
                is_ip = !(entry == context::USER && in_user);
                in_user = entry == context::USER;
                are_calls = entry == CALLS;
                let Some(marked) = marked(entry) else { return Some(Err(UnknownMarker)) };
                mode = marked;
                continue;
            }
            if !std::mem::take(&mut is_ip) && !are_calls {
                return Some(Ok((mode, FrameAddr::Return(entry))));
            }
            if mode == Mode::User {
                caller = link.take().filter(|caller| entries.peek() != Some(caller));
            }
            return Some(Ok((mode, FrameAddr::Ip(entry))));
        }
    })
}

/// The mode that a marker begins.
fn marked(marker: u64) -> Option<Mode> {
    Some(match marker {
        context::HV => Mode::Hypervisor,
        context::KERNEL => Mode::Kernel,
        context::USER | CALLS => Mode::User,
        context::GUEST_KERNEL => Mode::GuestKernel,
        context::GUEST_USER => Mode::GuestUser,
        // What follows is a cookie, for a record that comes later.
        context::USER_DEFERRED => Mode::Unknown,
        _ => return None,
    })
}

/// How many entries of a chain say nothing but that a sample of this mode is at `ip`, and a number for what else [`walk`] has
/// learnt from them: a mode, or the lower half of a marker. `None` where a chain begins with something else.
pub(super) fn leaf_of(mode: Mode, ip: u64, chain: Callchain<'_>) -> Option<(usize, u32)> {
    let mut entries = chain.iter();
    let first = entries.next().filter(|_| ip < context::MAX)?;
    if first == ip {
        return Some((1, mode as u32));
    }
    let is_leaf = marked(first) == Some(mode) && entries.next() == Some(ip);
    is_leaf.then_some((2, first as u32))
}

/// Whether the user half of a chain is the calls that the CPU kept, of a sample in user space: its first entry stands for the
/// function that was called last, and the sample itself says more of that.
pub(super) fn is_of_calls(mode: Mode, chain: Callchain<'_>) -> bool {
    mode == Mode::User && chain.iter().next() == Some(CALLS)
}

/// Whether a chain is of a stack that was larger than its copy and was completed: its user half has a second marker, where
/// the frames begin that were not in the copy.
pub(super) fn is_completed(chain: Callchain<'_>) -> bool {
    chain.iter().filter(|&entry| entry == context::USER).nth(1).is_some()
}

/// Where the link register stands in the user registers of an event's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkRegister(usize);

impl LinkRegister {
    /// For samples of an event of a machine `arch` (`uname -m`); `None` where the machine or the samples have no link
    /// register, and where their chains were not made of frame records.
    pub fn of(arch: Option<&str>, attr: &Attr) -> Option<LinkRegister> {
        /// `PERF_REG_ARM64_LR`, arch/arm64/include/uapi/asm/perf_regs.h.
        const ARM64_LR: u32 = 30;
        let mask = attr.sample_regs_user;
        let has = mask >> ARM64_LR & 1 != 0 && !attr.has(attr_flag::EXCLUDE_CALLCHAIN_USER);
        let has = has && arch.is_some_and(|arch| arch.starts_with("aarch64"));
        has.then(|| LinkRegister((mask & ((1 << ARM64_LR) - 1)).count_ones() as usize))
    }

    /// What it holds: `None` in a 32-bit task and where it is 0.
    pub fn read(self, sample: &Sample) -> Option<u64> {
        /// `PERF_SAMPLE_REGS_ABI_64`.
        const ABI_64: u64 = 2;
        /// Bits of a user-space address: those above may hold a pointer authentication code.
        const USER_BITS: u64 = (1 << 48) - 1;
        let value = sample.regs_user.values.get(self.0).filter(|_| sample.regs_user.abi == ABI_64)? & USER_BITS;
        (value != 0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::codec::ByteOrder;
    use xprof_perfdata::sample::Regs;

    use super::*;

    fn walked(mode: Mode, entries: &[u64], link: Option<u64>) -> Vec<Result<(Mode, FrameAddr), UnknownMarker>> {
        let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_ne_bytes()).collect();
        walk(mode, Callchain::of_bytes(&bytes, ByteOrder::NATIVE), link).collect()
    }

    #[test]
    fn only_a_return_address_is_looked_up_one_byte_before() {
        assert_eq!(FrameAddr::Ip(16).for_lookup(), 16);
        assert_eq!(FrameAddr::Return(16).for_lookup(), 15);
        assert_eq!(FrameAddr::Link(16).for_lookup(), 15);
        assert_eq!(FrameAddr::Return(0).for_lookup(), 0);
    }

    #[test]
    fn markers_switch_the_mode_and_are_no_frames() {
        use FrameAddr::{Ip, Return};
        assert_eq!(
            walked(Mode::Kernel, &[context::KERNEL, 9, 8, context::USER, 7, 6, context::MAX + 5, 5], None),
            [
                Ok((Mode::Kernel, Ip(9))),
                Ok((Mode::Kernel, Return(8))),
                Ok((Mode::User, Ip(7))),
                Ok((Mode::User, Return(6))),
                Err(UnknownMarker),
                Ok((Mode::User, Ip(5))),
            ]
        );
    }

    #[test]
    fn a_chain_begins_with_its_leaf_or_with_something_else() {
        let of = |mode, ip, entries: &[u64]| {
            let bytes: Vec<u8> = entries.iter().flat_map(|e| e.to_ne_bytes()).collect();
            leaf_of(mode, ip, Callchain::of_bytes(&bytes, ByteOrder::NATIVE))
        };
        let kernel = context::KERNEL as u32;
        assert_eq!(of(Mode::Kernel, 9, &[context::KERNEL, 9, 8]), Some((2, kernel)));
        assert_eq!(of(Mode::User, 9, &[9, 8]), Some((1, Mode::User as u32)));
        assert_eq!(of(Mode::User, 9, &[context::KERNEL, 9, 8]), None, "another mode");
        assert_eq!(of(Mode::Kernel, 9, &[context::KERNEL, 8]), None, "another address");
        assert_eq!(of(Mode::Kernel, 9, &[context::KERNEL]), None);
        assert_eq!(of(Mode::Kernel, 9, &[]), None);
        assert_eq!(of(Mode::Kernel, context::KERNEL, &[context::KERNEL, 8]), None, "a marker is no address");
    }

    #[test]
    fn a_second_marker_of_the_user_half_is_where_it_was_completed() {
        use FrameAddr::{Ip, Return};
        let chain = [context::KERNEL, 9, context::USER, 7, 6, context::USER, 5, 4];
        let user = [Ip(7), Return(6), Return(5), Return(4)].map(|frame| Ok((Mode::User, frame)));
        assert_eq!(walked(Mode::Kernel, &chain, None)[1..], user);
        let completed = |chain: &[u64]| {
            let bytes: Vec<u8> = chain.iter().flat_map(|e| e.to_ne_bytes()).collect();
            is_completed(Callchain::of_bytes(&bytes, ByteOrder::NATIVE))
        };
        assert!(completed(&chain) && !completed(&chain[..5]));
    }

    #[test]
    fn the_link_register_stands_behind_the_user_leaf_once() {
        use FrameAddr::{Ip, Link, Return};
        let (kernel, user) = (|addr| Ok((Mode::Kernel, addr)), |addr| Ok((Mode::User, addr)));
        assert_eq!(walked(Mode::User, &[7, 3], Some(3)), [user(Ip(7)), user(Return(3))]);
        assert_eq!(walked(Mode::User, &[7, 3], Some(4)), [user(Ip(7)), user(Link(4)), user(Return(3))]);
        assert_eq!(walked(Mode::User, &[7], Some(4)), [user(Ip(7)), user(Link(4))]);
        assert_eq!(
            walked(Mode::Kernel, &[9, context::USER, 7, 3], Some(4)),
            [kernel(Ip(9)), user(Ip(7)), user(Link(4)), user(Return(3))]
        );
        assert_eq!(walked(Mode::Kernel, &[9, 8], Some(4)), [kernel(Ip(9)), kernel(Return(8))]);
    }

    #[test]
    fn the_link_register_is_that_of_a_64_bit_task_on_arm64() {
        let (lr, mask) = (0xab00_4000_0123_4567, 1 << 30 | 1 << 29 | 1 << 32);
        let sample = |abi| Sample { regs_user: Regs { abi, values: vec![29, lr, 32] }, ..Sample::default() };
        let of = |arch, sample_regs_user, flags| {
            LinkRegister::of(arch, &Attr { sample_regs_user, flags, ..Attr::default() })
        };
        let register = of(Some("aarch64"), mask, 0).unwrap();
        assert_eq!(register.read(&sample(2)), Some(lr & 0xffff_ffff_ffff));
        assert_eq!(register.read(&sample(1)), None);
        assert_eq!(register.read(&Sample::default()), None);
        assert_eq!(of(Some("x86_64"), mask, 0), None);
        assert_eq!(of(None, mask, 0), None);
        assert_eq!(of(Some("aarch64"), 1 << 29, 0), None);
        assert_eq!(
            of(Some("aarch64"), mask, attr_flag::EXCLUDE_CALLCHAIN_USER),
            None,
            "an unwound chain has it already"
        );
    }
}
