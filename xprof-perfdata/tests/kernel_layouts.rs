//! Known answers: records put together by hand, word by word, from the kernel's `perf_output_sample()`,
//! `perf_output_read()` and the comments of `enum perf_event_type`.

use xprof_perfdata::abi::{attr_flag, branch, misc, read_format, record, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::{Comm, Mmap, MmapFile, Read, Record, TaskId};
use xprof_perfdata::sample::{Branch, ReadCounter, Sample, SampleFormat, SampleId};

const BOTH: [ByteOrder; 2] = [ByteOrder::Little, ByteOrder::Big];

/// Bytes of a body, field by field.
struct Body {
    order: ByteOrder,
    bytes: Vec<u8>,
}

impl Body {
    fn new(order: ByteOrder) -> Self {
        Body { order, bytes: Vec::new() }
    }
    fn put<const N: usize>(mut self, little: [u8; N]) -> Self {
        let mut bytes = little;
        if self.order == ByteOrder::Big {
            bytes.reverse();
        }
        self.bytes.extend_from_slice(&bytes);
        self
    }
    fn u64s(self, values: &[u64]) -> Self {
        values.iter().fold(self, |body, value| body.put(value.to_le_bytes()))
    }
    fn u32s(self, values: &[u32]) -> Self {
        values.iter().fold(self, |body, value| body.put(value.to_le_bytes()))
    }
    fn u16s(self, values: &[u16]) -> Self {
        values.iter().fold(self, |body, value| body.put(value.to_le_bytes()))
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }
}

fn format(order: ByteOrder, sample_type: u64) -> SampleFormat {
    Attr { sample_type, ..Attr::default() }.sample_format(order)
}

fn decode(format: &SampleFormat, body: &Body) -> Sample {
    let mut sample = Sample::default();
    format.decode_sample(&body.bytes, &mut sample).unwrap();
    let mut again = Vec::new();
    format.encode_sample(&mut sample, &mut again).unwrap();
    assert_eq!(again, body.bytes);
    for len in 0..body.bytes.len() {
        format.decode_sample(&body.bytes[..len], &mut Sample::default()).expect_err("a prefix is not a sample");
    }
    sample
}

#[test]
fn the_head_of_a_sample() {
    for order in BOTH {
        let format = format(
            order,
            sample::IDENTIFIER
                | sample::IP
                | sample::TID
                | sample::TIME
                | sample::ADDR
                | sample::STREAM_ID
                | sample::CPU
                | sample::PERIOD,
        );
        let body = Body::new(order).u64s(&[77, 0xffff_ffff_8100_0000]).u32s(&[10, 11]).u64s(&[5_000, 0xabc, 99]);
        let body = body.u32s(&[3, 0]).u64s(&[250]);
        let sample = decode(&format, &body);
        assert_eq!((sample.id.id, sample.ip), (77, 0xffff_ffff_8100_0000));
        assert_eq!((sample.id.pid, sample.id.tid, sample.id.time), (10, 11, 5_000));
        assert_eq!((sample.addr, sample.id.stream_id, sample.id.cpu, sample.period), (0xabc, 99, 3, 250));
    }
}

#[test]
fn a_group_read_has_times_before_its_members() {
    for order in BOTH {
        let mut format = format(order, sample::READ | sample::CALLCHAIN);
        format.read_format = read_format::GROUP
            | read_format::TOTAL_TIME_ENABLED
            | read_format::TOTAL_TIME_RUNNING
            | read_format::ID
            | read_format::LOST;
        let body = Body::new(order).u64s(&[2, 100, 90, 7, 1, 0, 8, 2, 5]).u64s(&[2, 0xa, 0xb]);
        let sample = decode(&format, &body);
        assert_eq!((sample.read.time_enabled, sample.read.time_running), (100, 90));
        let members = [ReadCounter { value: 7, id: 1, lost: 0 }, ReadCounter { value: 8, id: 2, lost: 5 }];
        assert_eq!(sample.read.counters, members);
        assert_eq!(sample.callchain, [0xa, 0xb]);
    }
}

#[test]
fn a_single_read_has_its_value_first_and_no_count() {
    for order in BOTH {
        let mut format = format(order, sample::READ | sample::PHYS_ADDR);
        format.read_format = read_format::TOTAL_TIME_RUNNING | read_format::ID | read_format::LOST;
        let sample = decode(&format, &Body::new(order).u64s(&[1_000, 90, 12, 4, 0x1234]));
        assert_eq!((sample.read.time_enabled, sample.read.time_running), (0, 90));
        assert_eq!(sample.read.counters, [ReadCounter { value: 1_000, id: 12, lost: 4 }]);
        assert_eq!(sample.phys_addr, 0x1234);
    }
}

#[test]
fn weight_struct_is_a_field_of_its_own_and_the_same_number_in_both_orders() {
    let struct_type = sample::WEIGHT_STRUCT | sample::PHYS_ADDR;
    let little = Body::new(ByteOrder::Little).u32s(&[30]).u16s(&[20, 10]).u64s(&[0x5000]);
    let big = Body::new(ByteOrder::Big).u16s(&[10, 20]).u32s(&[30]).u64s(&[0x5000]);
    for (order, body) in [(ByteOrder::Little, little), (ByteOrder::Big, big)] {
        let sample = decode(&format(order, struct_type), &body);
        assert_eq!(sample.weight, 30 | 20 << 32 | 10 << 48);
        assert_eq!(sample.phys_addr, 0x5000);
    }
}

#[test]
fn cgroup_page_sizes_and_aux_follow_in_the_kernels_order() {
    for order in BOTH {
        let sample_type = sample::CGROUP | sample::DATA_PAGE_SIZE | sample::CODE_PAGE_SIZE | sample::AUX;
        let body = Body::new(order).u64s(&[42, 4096, 2 << 20, 8]).raw(b"auxbytes");
        let sample = decode(&format(order, sample_type), &body);
        assert_eq!((sample.cgroup, sample.data_page_size, sample.code_page_size), (42, 4096, 2 << 20));
        assert_eq!(sample.aux, b"auxbytes");
    }
}

#[test]
fn raw_stays_as_recorded_and_fills_up() {
    for order in BOTH {
        let sample_type = sample::RAW | sample::TRANSACTION;
        let body = Body::new(order).u32s(&[4]).raw(&[1, 2, 3, 4]).u64s(&[6]);
        let sample = decode(&format(order, sample_type), &body);
        assert_eq!((&sample.raw[..], sample.transaction), (&[1, 2, 3, 4][..], 6));
    }
}

#[test]
fn branch_flags_mirror_in_a_big_endian_recording() {
    // mispred:1 predicted:1 in_tx:1 abort:1 cycles:16 type:4, from the low end and from the high end.
    let little = 1u64 << 1 | 0x1234 << 4 | 3 << 20;
    let big = 1u64 << 62 | 0x1234 << 44 | 3 << 40;
    for (order, flags) in [(ByteOrder::Little, little), (ByteOrder::Big, big)] {
        let mut format = format(order, sample::BRANCH_STACK | sample::REGS_USER);
        format.branch_sample_type = branch::HW_INDEX | branch::COUNTERS;
        format.sample_regs_user = 0b1001;
        let body = Body::new(order).u64s(&[1, 5, 0x10, 0x20, flags, 77]).u64s(&[2, 0xaa, 0xbb]);
        let sample = decode(&format, &body);
        assert_eq!(sample.branch_stack.hw_index, 5);
        assert_eq!(sample.branch_stack.entries, [Branch { from: 0x10, to: 0x20, flags: little }]);
        assert_eq!(sample.branch_stack.counters, [77]);
        assert_eq!((sample.regs_user.abi, &sample.regs_user.values[..]), (2, &[0xaa, 0xbb][..]));
    }
}

/// `perf_output_sample()` writes the index only beside branches, and a software event never has them.
#[test]
fn a_software_event_has_no_branch_index() {
    for order in BOTH {
        let mut format = format(order, sample::BRANCH_STACK | sample::DATA_SRC | sample::PHYS_ADDR);
        format.branch_sample_type = branch::HW_INDEX;
        let mut sample = Sample::default();
        format.decode_sample(&Body::new(order).u64s(&[0, 7, 8]).bytes, &mut sample).unwrap();
        assert_eq!((sample.branch_stack.hw_index, sample.data_src, sample.phys_addr), (0, 7, 8));
        format.decode_sample(&Body::new(order).u64s(&[0, 6, 7, 8]).bytes, &mut sample).unwrap();
        assert_eq!((sample.branch_stack.hw_index, sample.data_src, sample.phys_addr), (6, 7, 8));
    }
}

#[test]
fn registers_and_stack_of_a_kernel_thread_are_one_zero_each() {
    for order in BOTH {
        let mut format = format(order, sample::REGS_USER | sample::STACK_USER | sample::WEIGHT);
        format.sample_regs_user = 0xff;
        let sample = decode(&format, &Body::new(order).u64s(&[0, 0, 9]));
        assert_eq!((sample.regs_user.values.len(), sample.stack_user.bytes.len(), sample.weight), (0, 0, 9));
        let body = Body::new(order).u64s(&[0, 16]).raw(&[7; 16]).u64s(&[8, 9]);
        let sample = decode(&format, &body);
        assert_eq!((&sample.stack_user.bytes[..], sample.stack_user.dyn_size), (&[7; 16][..], 8));
    }
}

/// Events of which the first has every field of a sample id.
fn events(order: ByteOrder) -> Events {
    let sample_type =
        sample::TID | sample::TIME | sample::ID | sample::STREAM_ID | sample::CPU | sample::IDENTIFIER | sample::IP;
    let attr = Attr {
        sample_type,
        read_format: read_format::LOST | read_format::TOTAL_TIME_ENABLED,
        flags: attr_flag::SAMPLE_ID_ALL,
        ..Attr::default()
    };
    let mut events = Events::new(order);
    events.push(attr.clone(), "cycles".into(), vec![1, 2]);
    events.push(attr, "faults".into(), vec![3, 4]);
    events
}

fn trailer(body: Body, id: u64) -> Body {
    body.u32s(&[10, 11]).u64s(&[5_000, id, 9]).u32s(&[3, 0]).u64s(&[id])
}

/// Decodes a record of the second event, and checks that it encodes to the same bytes and that no prefix decodes.
fn decode_record(kind: u32, misc: u16, body: Body) -> Record {
    let events = events(body.order);
    let body = trailer(body, 4);
    let raw = |bytes| RawRecord { kind, misc, body: bytes, time: 0, event: 1, offset: 0 };
    let (record, id) = Record::decode(&raw(&body.bytes), &events).unwrap();
    let fields = events.list()[1].format.sample_type & !sample::IP;
    assert_eq!(id, SampleId { fields, pid: 10, tid: 11, time: 5_000, id: 4, stream_id: 9, cpu: 3 });
    assert_eq!(events.event_of(kind, &body.bytes), Some(1));
    assert_eq!(events.time_of(kind, &body.bytes), Some(5_000));
    let encoded = record.encode(&id, misc, &events.list()[1].format).unwrap();
    let size = (body.bytes.len() + 8) as u16;
    assert_eq!(encoded[..8], Body::new(body.order).u32s(&[kind]).u16s(&[misc, size]).bytes);
    assert_eq!(encoded[8..], body.bytes);
    for len in 0..body.bytes.len() {
        Record::decode(&raw(&body.bytes[..len]), &events).expect_err("a prefix is not a record");
    }
    record
}

#[test]
fn mmap2_with_inode_and_with_build_id() {
    for order in BOTH {
        let head = || Body::new(order).u32s(&[1, 2]).u64s(&[0x1000, 0x2000, 0x3000]);
        let body = head().u32s(&[8, 1]).u64s(&[123, 4]).u32s(&[5, 2]).raw(b"/bin/true\0\0\0\0\0\0\0");
        let mut expected = Mmap {
            v2: true,
            pid: 1,
            tid: 2,
            start: 0x1000,
            len: 0x2000,
            pgoff: 0x3000,
            file: MmapFile::Inode { major: 8, minor: 1, inode: 123, generation: 4 },
            prot: 5,
            flags: 2,
            path: b"/bin/true".to_vec(),
        };
        assert_eq!(decode_record(record::MMAP2, misc::USER, body), Record::Mmap(expected.clone()));
        let id: Vec<u8> = (1..=16).collect();
        let body = head().raw(&[16, 0, 0, 0]).raw(&id).raw(&[0; 4]).u32s(&[5, 2]).raw(b"1234567\0");
        expected.file = MmapFile::BuildId(id);
        expected.path = b"1234567".to_vec();
        assert_eq!(decode_record(record::MMAP2, misc::USER | misc::MMAP_BUILD_ID, body), Record::Mmap(expected));
    }
}

/// The kernel leaves the bit of build ids set for events that asked for none when another event's did.
#[test]
fn mmap2_with_a_stray_build_id_bit_keeps_its_inode() {
    for order in BOTH {
        let body = Body::new(order).u32s(&[1, 2]).u64s(&[0x1000, 0x2000, 0x3000]).u32s(&[254, 0]).u64s(&[247_497, 0]);
        let body = body.u32s(&[5, 2]).raw(b"1234567\0");
        let Record::Mmap(mmap) = decode_record(record::MMAP2, misc::USER | misc::MMAP_BUILD_ID, body) else {
            panic!("not a mapping");
        };
        assert_eq!(mmap.file, MmapFile::Inode { major: 254, minor: 0, inode: 247_497, generation: 0 });
    }
}

#[test]
fn comm_and_read() {
    for order in BOTH {
        let body = Body::new(order).u32s(&[1, 2]).raw(b"12345678\0\0\0\0\0\0\0\0");
        let task = TaskId { pid: 1, tid: 2 };
        assert_eq!(
            decode_record(record::COMM, misc::COMM_EXEC, body),
            Record::Comm(Comm { task, comm: b"12345678".to_vec() })
        );
        let body = Body::new(order).u32s(&[1, 2]).u64s(&[500, 60, 3]);
        let mut read = Read { task, ..Read::default() };
        read.values.time_enabled = 60;
        read.values.counters.push(ReadCounter { value: 500, id: 0, lost: 3 });
        assert_eq!(decode_record(record::READ, 0, body), Record::Read(read));
    }
}

#[test]
fn attrs_of_every_size() {
    let attr = Attr {
        kind: 2,
        size: 136,
        config: 0x1122_3344_5566_7788,
        flags: 1 << attr_flag::PRECISE_SHIFT | attr_flag::DISABLED | attr_flag::DEFER_OUTPUT,
        clockid: -5,
        sample_max_stack: 127,
        aux_action: 2,
        config3: 9,
        ..Attr::default()
    };
    for order in BOTH {
        let bytes = attr.encode(order, 136);
        assert_eq!(bytes.len(), 136);
        assert_eq!(Attr::decode(&bytes, order).unwrap(), attr);
        let longer = attr.encode(order, 200);
        assert_eq!(Attr::decode(&longer, order).unwrap(), Attr { size: 200, ..attr.clone() });
        assert_eq!(Attr::decode(&longer[..150], order).unwrap(), Attr { size: 200, ..attr.clone() });
        let oldest = Attr::decode(&attr.encode(order, 64), order).unwrap();
        assert_eq!((oldest.size, oldest.config3, oldest.clockid, oldest.flags), (64, 0, 0, attr.flags));
        Attr::decode(&bytes[..63], order).expect_err("less than the oldest version");
    }
    // disabled is the first flag: the lowest bit of the first byte, or the highest. precise_ip is 1 in both.
    assert_eq!(attr.encode(ByteOrder::Little, 64)[40..48], [0x01, 0x80, 0, 0, 0x80, 0, 0, 0]);
    assert_eq!(attr.encode(ByteOrder::Big, 64)[40..48], [0x80, 0x00, 0x80, 0, 0x01, 0, 0, 0]);
}
