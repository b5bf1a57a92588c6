#![no_main]
//! Rings of Xen's trace, as anybody could have filled them: time is in one stint at most, in order, and none is made up.

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use xprof_backend::xen::trace::reading::Reading;
use xprof_backend::xen::trace::states::{States, Stint};

fuzz_target!(|bytes: &[u8]| {
    let (mut reading, mut states) = (Reading::default(), States::default());
    let mut ends = HashMap::new();
    let mut take = |stint: Stint| {
        assert!(stint.from < stint.to);
        let end = ends.insert(stint.of, stint.to).unwrap_or(0);
        assert!(end <= stint.from);
    };
    let half = bytes.len() / 2;
    reading.ring(0, &bytes[..half], half % 2 == 1);
    let mut last = 0;
    for (until, piece) in [(1 << 40, &bytes[half..]), (u64::MAX, &[][..])] {
        for change in reading.until(until) {
            assert!(last <= change.tsc && change.tsc <= until);
            last = change.tsc;
            states.change(&change, &mut take);
        }
        states.cut(until, &mut take);
        last = until;
        reading.ring(1, piece, false);
        // What comes too late is before what was told already.
        reading.changes.retain(|change| change.tsc > until);
    }
});
