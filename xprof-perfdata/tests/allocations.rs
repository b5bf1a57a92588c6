//! Decoding allocates nothing once it is warm.

use xprof_perfdata::abi::{branch, read_format, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::sample::*;

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

        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                format.decode_sample(&body, &mut sample).unwrap();
                assert_eq!(layout.view(&body).unwrap().callchain().iter().sum::<u64>(), 35);
            }
        });
        assert_eq!(counted.count_total, 0);
        assert_ne!(allocation_counter::measure(|| drop(sample.clone())).count_total, 0, "it counts");
        assert_eq!((sample.callchain.len(), sample.stack_user.bytes.len()), (35, 8192));
    }
}
