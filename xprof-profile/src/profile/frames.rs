//! Code addresses and stacks, each once.

use std::hash::{BuildHasherDefault, Hasher};

use rustc_hash::FxHashMap;
use xprof_perfdata::sample::Callchain;

use super::chain::{FrameAddr, is_completed, is_of_calls, leaf_of, walk};
use crate::timeline::{Mode, ModuleId, Modules, Place, Timeline};

/// Most entries that a cache of resolved addresses or chains keeps; past it the cache starts anew.
const CACHE_MAX: usize = 1 << 20;

/// A code address of a module. Dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// A stack, leaf first. Dense from 0; 0 is the empty stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

/// The frames of a stack but for the leaf. Dense from 0; 0 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CallersId(u32);

/// A stack's frames, leaf first, as they stand in the list of frames, and the number of its callers.
#[derive(Clone, Copy, Debug)]
struct Whole {
    from: u32,
    to: u32,
    callers: CallersId,
}

/// A key that is already a good hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ChainHash(pub(super) u64, pub(super) u64);

impl std::hash::Hash for ChainHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A map by such keys.
pub(super) type ByHash<V> = std::collections::HashMap<ChainHash, V, BuildHasherDefault<Identity>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// All frames and stacks of a profile, and the caches in front of them.
#[derive(Debug, Default)]
pub struct Frames {
    places: Vec<Place>,
    by_place: FxHashMap<Place, FrameId>,
    resolved: FxHashMap<(u32, u64), FrameId>,
    frames: Vec<FrameId>,
    stacks: Vec<Whole>,
    by_leaf: FxHashMap<(FrameId, CallersId), StackId>,
    /// By callers: where they stand in `frames`.
    callers: Vec<(u32, u32)>,
    by_frames: ByHash<CallersId>,
    /// The callers of chains without their leaf, of which there are many more; and whether the stack is one that was completed.
    chains: ByHash<(CallersId, bool)>,
    was_completed: bool,
    scratch: Vec<FrameId>,
    numbers: Vec<u32>,
}

impl Frames {
    /// Only the empty stack.
    pub fn new() -> Frames {
        let mut frames = Frames::default();
        let callers = frames.callers_of_frames(&[]);
        frames.stacks.push(Whole { from: 0, to: 0, callers });
        frames
    }

    /// The frame of an address in a process.
    pub fn frame(&mut self, timeline: &Timeline, pid: u32, mode: Mode, addr: FrameAddr) -> FrameId {
        let addr = addr.for_lookup();
        let epoch = timeline.epoch(pid, mode);
        if epoch != 0
            && let Some(&id) = self.resolved.get(&(epoch, addr))
        {
            return id;
        }
        let id = self.frame_of(timeline.place(pid, mode, addr));
        if epoch != 0 {
            if self.resolved.len() >= CACHE_MAX {
                self.resolved.clear();
            }
            self.resolved.insert((epoch, addr), id);
        }
        id
    }

    fn frame_of(&mut self, place: Place) -> FrameId {
        let next = FrameId(self.places.len() as u32);
        let id = *self.by_place.entry(place).or_insert(next);
        if id == next {
            self.places.push(place);
        }
        id
    }

    fn stack_of(&mut self, frames: &[FrameId]) -> StackId {
        match frames.split_first() {
            Some((&leaf, callers)) => {
                let callers = self.callers_of_frames(callers);
                self.with_leaf(leaf, callers)
            }
            None => StackId(0),
        }
    }

    fn callers_of_frames(&mut self, frames: &[FrameId]) -> CallersId {
        let next = CallersId(self.callers.len() as u32);
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        numbers.extend(frames.iter().map(|frame| frame.0));
        let id = *self.by_frames.entry(hash_of(&numbers, ChainHash::default())).or_insert(next);
        self.numbers = numbers;
        if id == next {
            let from = self.frames.len() as u32;
            self.frames.extend_from_slice(frames);
            self.callers.push((from, self.frames.len() as u32));
        }
        id
    }

    fn with_leaf(&mut self, leaf: FrameId, callers: CallersId) -> StackId {
        let next = StackId(self.stacks.len() as u32);
        let id = *self.by_leaf.entry((leaf, callers)).or_insert(next);
        if id == next {
            let (start, end) = self.callers.get(callers.0 as usize).copied().unwrap_or((0, 0));
            let from = self.frames.len() as u32;
            self.frames.push(leaf);
            self.frames.extend_from_within(start as usize..end as usize);
            self.stacks.push(Whole { from, to: self.frames.len() as u32, callers });
        }
        id
    }

    /// The stack of a sample: its chain with the context markers taken out, the leaf being the sample's own frame, at `ip`.
    ///
    /// `link` is arm64's link register ([`walk`]). Where it is stale the stack gets a second frame of the leaf's function,
    /// never a wrong one.
    pub fn stack(
        &mut self,
        timeline: &Timeline,
        (pid, mode): (u32, Mode),
        (leaf, ip): (FrameId, u64),
        chain: Callchain<'_>,
        link: Option<u64>,
    ) -> StackId {
        /// Above all modes, below all markers.
        const OF_A_LEAF: u32 = 16;
        let epochs = [timeline.epoch(pid, Mode::User), timeline.epoch(pid, Mode::Kernel)];
        // Nearly every chain begins with the leaf. What stands behind it has the same meaning behind any other leaf of the mode.
        let begin = leaf_of(mode, ip, chain);
        let (bytes, begun) = match begin {
            Some((entries, begun)) => (chain.as_bytes().get(entries * 8..).unwrap_or_default(), begun),
            None => (chain.as_bytes(), OF_A_LEAF + leaf.0),
        };
        let (first, second) = chain_hash(bytes, link, [begun, epochs[0], epochs[1]]);
        let key = ChainHash(first, second);
        if let Some(&(callers, completed)) = self.chains.get(&key) {
            self.was_completed = completed;
            return self.with_leaf(leaf, callers);
        }
        let mut frames = std::mem::take(&mut self.scratch);
        frames.clear();
        for (mode, addr) in walk(mode, chain, link).filter_map(Result::ok) {
            frames.push(self.frame(timeline, pid, mode, addr));
        }
        let has_leaf = frames.first() == Some(&leaf) || is_of_calls(mode, chain) && !frames.is_empty();
        let callers = if has_leaf { &frames[1..] } else { &frames };
        let callers = self.callers_of_frames(callers);
        self.scratch = frames;
        if self.chains.len() >= CACHE_MAX {
            self.chains.clear();
        }
        self.was_completed = is_completed(chain);
        self.chains.insert(key, (callers, self.was_completed));
        self.with_leaf(leaf, callers)
    }

    /// Whether the chain of the last stack was larger than its copy, and was completed.
    pub(super) fn was_completed(&self) -> bool {
        self.was_completed
    }

    /// Where a frame is.
    pub fn place(&self, id: FrameId) -> Place {
        self.places.get(id.0 as usize).copied().unwrap_or(Place { module: ModuleId(0), addr: 0 })
    }

    /// Frames of all stacks together.
    pub(super) fn size(&self) -> usize {
        self.frames.len()
    }

    /// Drops all stacks but these, and gives them their new numbers.
    pub(super) fn keep_stacks<'a>(&mut self, used: impl Iterator<Item = &'a mut u32>) {
        let mut old = std::mem::take(self);
        let take = std::mem::take::<FxHashMap<_, _>>;
        let (places, by_place) = (std::mem::take(&mut old.places), std::mem::take(&mut old.by_place));
        *self = Frames { places, by_place, resolved: take(&mut old.resolved), ..Frames::new() };
        let mut moved: FxHashMap<u32, u32> = FxHashMap::default();
        for stack in used {
            let new = *moved.entry(*stack).or_insert_with(|| self.stack_of(old.frames_of(StackId(*stack))).0);
            *stack = new;
        }
    }

    /// Moves the kernel's frames without a module, of these addresses, to another module.
    pub(super) fn adopt(&mut self, addresses: &std::ops::Range<u64>, module: ModuleId) {
        let orphans = Modules::unknown(Mode::Kernel);
        for place in self.places.iter_mut().filter(|p| p.module == orphans && addresses.contains(&p.addr)) {
            place.module = module;
        }
    }

    /// All frames, by id.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The frames of a stack, leaf first.
    pub fn frames_of(&self, id: StackId) -> &[FrameId] {
        let Some(whole) = self.stacks.get(id.0 as usize) else { return &[] };
        self.frames.get(whole.from as usize..whole.to as usize).unwrap_or(&[])
    }

    /// What the frames of a stack but for its leaf are known as.
    pub(super) fn callers_of(&self, id: StackId) -> CallersId {
        self.stacks.get(id.0 as usize).map_or(CallersId(0), |whole| whole.callers)
    }
}

/// The hash of a chain (its bytes as they lie in the record, and the link register beside it) and of three numbers, for
/// those who keep things by chain: 128 bits, so that equal hashes mean equal chains.
pub fn chain_hash(chain: &[u8], link: Option<u64>, state: [u32; 3]) -> (u64, u64) {
    let seed = ChainHash(u64::from(state[0]) << 32 | u64::from(state[1]), u64::from(state[2]));
    let ChainHash(first, second) = hash(chain, seed);
    let Some(link) = link else { return (first, second) };
    let ChainHash(first, second) = hash(&link.to_ne_bytes(), ChainHash(first, second));
    (first, second)
}

/// 128 bits over words, four of them at a time. Two lists of one recording with the same 128 bits are taken for the same; by
/// chance that does not happen.
pub(super) struct Mix([u64; 4]);

impl Mix {
    /// Odd numbers with well spread bits (fractions of the golden ratio and of the square root of 3).
    const K: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xbb67_ae85_84ca_a73b];

    /// For a list of this length; `seed` is what its meaning depends on.
    #[inline]
    pub(super) fn new(len: usize, seed: ChainHash) -> Mix {
        // A seed fills its lane: the length would be taken for a part of it there.
        let (first, second) = (Mix::K[0] ^ seed.0, Mix::K[1] ^ seed.1.rotate_left(32));
        Mix([first, second, !first ^ Mix::fold(len as u64 ^ Mix::K[1], Mix::K[0]), !second])
    }

    #[inline]
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// Two words.
    #[inline]
    pub(super) fn pair(&mut self, low: u64, high: u64) {
        let Mix(lanes) = self;
        lanes[0] = Mix::fold(lanes[0] ^ low, Mix::K[0]).wrapping_add(high);
        lanes[1] = Mix::fold(lanes[1] ^ high, Mix::K[1]).wrapping_add(low);
    }

    /// Four words: each lane waits for the one before it in time only, so that two pairs cost what one does.
    #[inline]
    fn pairs(&mut self, words: [u64; 4]) {
        self.pair(words[0], words[1]);
        let Mix(lanes) = self;
        lanes[2] = Mix::fold(lanes[2] ^ words[2], Mix::K[1]).wrapping_add(words[3]);
        lanes[3] = Mix::fold(lanes[3] ^ words[3], Mix::K[0]).wrapping_add(words[2]);
    }

    /// The words of a chain; odd bytes at its end are none.
    #[inline]
    pub(super) fn bytes(&mut self, chain: &[u8]) {
        let word = |word: [u8; 8]| u64::from_ne_bytes(word);
        let (fours, rest) = chain.as_chunks::<8>().0.as_chunks::<4>();
        for &[a, b, c, d] in fours {
            self.pairs([word(a), word(b), word(c), word(d)]);
        }
        let (pairs, last) = rest.as_chunks::<2>();
        for &[a, b] in pairs {
            self.pair(word(a), word(b));
        }
        for &last in last {
            self.pair(word(last), 0);
        }
    }

    /// The hash.
    #[inline]
    pub(super) fn end(self) -> ChainHash {
        let Mix([a, b, c, d]) = self;
        let (first, second) = (Mix::fold(a ^ c, Mix::K[0] ^ b), Mix::fold(b ^ d.rotate_left(32), Mix::K[1] ^ a));
        ChainHash(
            Mix::fold(first ^ second, Mix::K[0]).wrapping_add(c),
            Mix::fold(second, Mix::K[1] ^ first).wrapping_add(d),
        )
    }
}

/// Over the bytes of a chain and what its meaning depends on.
fn hash(chain: &[u8], seed: ChainHash) -> ChainHash {
    let mut mix = Mix::new(chain.len(), seed);
    mix.bytes(chain);
    mix.end()
}

/// Over numbers.
pub(super) fn hash_of(numbers: &[u32], seed: ChainHash) -> ChainHash {
    let mut mix = Mix::new(numbers.len(), seed);
    let both = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let (fours, rest) = numbers.as_chunks::<4>();
    for &[a, b, c, d] in fours {
        mix.pair(both(a, b), both(c, d));
    }
    for &number in rest {
        mix.pair(u64::from(number), 0);
    }
    mix.end()
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::abi::context;
    use xprof_perfdata::codec::ByteOrder;

    use super::*;

    fn chain(entries: &[u64]) -> Vec<u8> {
        entries.iter().flat_map(|e| e.to_ne_bytes()).collect()
    }

    fn of(bytes: &[u8]) -> Callchain<'_> {
        Callchain::of_bytes(bytes, ByteOrder::NATIVE)
    }

    #[test]
    fn a_length_is_never_taken_for_a_part_of_the_seed() {
        let mut seen = std::collections::BTreeSet::new();
        for thread in 0..64u64 {
            for words in 0..12 {
                let mut entries = vec![7; words.min(5)];
                entries.resize(words, 0);
                let ChainHash(first, second) = hash(&chain(&entries), ChainHash(3, thread << 32));
                assert!(seen.insert((first, second)), "{thread} {words}");
                let numbers = vec![0; words];
                let ChainHash(first, second) = hash_of(&numbers, ChainHash(1, thread << 32));
                assert!(seen.insert((first, second)), "{thread} {words}");
            }
        }
    }

    #[test]
    fn markers_switch_the_mode_and_are_no_frames() {
        let timeline = Timeline::new(&[]);
        let mut frames = Frames::new();
        let kernel = 0xffff_ffff_8100_0000;
        let leaf = frames.frame(&timeline, 1, Mode::Kernel, FrameAddr::Ip(kernel));
        let chain = chain(&[context::KERNEL, kernel, kernel + 9, context::USER, 0x1000, 0x2000]);
        let stack = frames.stack(&timeline, (1, Mode::Kernel), (leaf, kernel), of(&chain), None);
        let places: Vec<_> = frames.frames_of(stack).iter().map(|&f| frames.place(f)).collect();
        let at = |mode, addr| Place { module: crate::timeline::Modules::unknown(mode), addr };
        assert_eq!(
            places,
            [at(Mode::Kernel, kernel), at(Mode::Kernel, kernel + 8), at(Mode::User, 0x1000), at(Mode::User, 0x1fff)]
        );
        assert_eq!(frames.stack(&timeline, (1, Mode::Kernel), (leaf, kernel), of(&chain), None), stack);
    }

    #[test]
    fn the_link_register_names_a_leafs_caller_once() {
        let (mut frames, timeline) = (Frames::new(), Timeline::new(&[]));
        let leaf = frames.frame(&timeline, 1, Mode::User, FrameAddr::Ip(0x1000));
        let chain = chain(&[context::USER, 0x1000, 0x3000]);
        let mut addresses = |link| {
            let stack = frames.stack(&timeline, (1, Mode::User), (leaf, 0x1000), of(&chain), link);
            frames.frames_of(stack).iter().map(|&f| frames.place(f).addr).collect::<Vec<_>>()
        };
        assert_eq!(addresses(None), [0x1000, 0x2fff]);
        assert_eq!(addresses(Some(0x3000)), [0x1000, 0x2fff]);
        assert_eq!(addresses(Some(0x2000)), [0x1000, 0x1fff, 0x2fff]);
    }

    #[test]
    fn stacks_that_nobody_has_are_dropped() {
        let (mut frames, timeline) = (Frames::new(), Timeline::new(&[]));
        let leaf = frames.frame(&timeline, 1, Mode::User, FrameAddr::Ip(0x1000));
        let chains = [0x2000, 0x3000, 0x4000].map(|caller| chain(&[context::USER, 0x1000, caller]));
        let stack = |frames: &mut Frames, at: usize| {
            frames.stack(&timeline, (1, Mode::User), (leaf, 0x1000), of(&chains[at]), None)
        };
        let ids = [0, 1, 2].map(|at| stack(&mut frames, at));
        let of_third = frames.frames_of(ids[2]).to_vec();
        let mut used = [ids[2].0, 0, ids[2].0];
        frames.keep_stacks(used.iter_mut());
        assert_eq!(used, [1, 0, 1]);
        // Its two frames, and its one caller as those of stacks to come.
        assert_eq!((frames.frames_of(StackId(1)), frames.size()), (&of_third[..], 3));
        // Frames keep their numbers, and chains are found again.
        assert_eq!(frames.frame(&timeline, 1, Mode::User, FrameAddr::Ip(0x1000)), leaf);
        assert_eq!((stack(&mut frames, 2), stack(&mut frames, 0)), (StackId(1), StackId(2)));
    }

    #[test]
    fn stacks_that_differ_in_their_leaves_have_the_same_callers() {
        let (mut frames, timeline) = (Frames::new(), Timeline::new(&[]));
        let mut stack = |ip: u64, entries: &[u64]| {
            let leaf = frames.frame(&timeline, 1, Mode::User, FrameAddr::Ip(ip));
            let id = frames.stack(&timeline, (1, Mode::User), (leaf, ip), of(&chain(entries)), None);
            let addresses: Vec<u64> = frames.frames_of(id).iter().map(|&frame| frames.place(frame).addr).collect();
            (id, frames.callers_of(id), addresses)
        };
        let first = stack(0x1000, &[context::USER, 0x1000, 0x3000]);
        let second = stack(0x1008, &[context::USER, 0x1008, 0x3000]);
        assert_eq!((&first.2[..], &second.2[..]), (&[0x1000, 0x2fff][..], &[0x1008, 0x2fff][..]));
        assert_eq!(first.1, second.1);
        assert_ne!(first.0, second.0);
        // Without the leaf in front an address is a leaf's in one chain and a return address in the other.
        let bare = stack(0x3000, &[context::USER, 0x3000]);
        let with = stack(0x1000, &[context::USER, 0x3000]);
        assert_eq!((&bare.2[..], &with.2[..]), (&[0x3000][..], &[0x1000, 0x3000][..]));
        assert_eq!(stack(0x1000, &[context::USER, 0x1000, 0x3000]), first);
    }

    #[test]
    fn a_chain_without_the_leaf_gets_it() {
        let timeline = Timeline::new(&[]);
        let mut frames = Frames::new();
        let leaf = frames.frame(&timeline, 1, Mode::Kernel, FrameAddr::Ip(77));
        let stack = frames.stack(&timeline, (1, Mode::Kernel), (leaf, 77), of(&chain(&[context::USER, 0x1000])), None);
        assert_eq!(frames.frames_of(stack)[0], leaf);
        assert_eq!(frames.frames_of(stack).len(), 2);
    }
}
