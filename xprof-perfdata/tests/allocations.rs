//! Decoding allocates nothing once it is warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use xprof_perfdata::abi::{branch, read_format, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::sample::*;

/// The system's allocator, counting.
struct Counting;

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_warm_sample_decodes_without_allocation() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let attr = Attr {
            sample_type: 0x1ff_ffff & !sample::WEIGHT,
            read_format: read_format::GROUP | read_format::ID | read_format::LOST,
            branch_sample_type: branch::HW_INDEX | branch::COUNTERS,
            sample_regs_user: 0xff,
            sample_regs_intr: 0xff,
            ..Attr::default()
        };
        let format = attr.sample_format(order);
        let mut full = Sample {
            read: ReadValues { counters: vec![ReadCounter::default(); 3], ..ReadValues::default() },
            callchain: vec![1; 35],
            raw: vec![2; 60],
            branch_stack: BranchStack { hw_index: 1, entries: vec![Branch::default(); 32], counters: vec![3; 32] },
            regs_user: Regs { abi: 2, values: vec![4; 8] },
            regs_intr: Regs { abi: 2, values: vec![4; 8] },
            stack_user: StackUser { bytes: vec![5; 8192], dyn_size: 100 },
            aux: vec![6; 64],
            ..Sample::default()
        };
        let mut body = Vec::new();
        format.encode_sample(&mut full, &mut body).unwrap();
        let mut sample = Sample::default();
        format.decode_sample(&body, &mut sample).unwrap();
        let layout = SampleLayout::of(&format);

        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            format.decode_sample(&body, &mut sample).unwrap();
            assert_eq!(layout.view(&body).unwrap().callchain().iter().sum::<u64>(), 35);
        }
        assert_eq!(ALLOCATIONS.get() - before, 0);
        assert_eq!((sample.callchain.len(), sample.stack_user.bytes.len()), (35, 8192));
    }
}
