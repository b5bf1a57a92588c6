//! Round trips of every record over all flag combinations and both byte orders, and what arbitrary bytes do.

use proptest::prelude::*;
use xprof_perfdata::abi::{attr_flag, branch, misc, read_format, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::{Event, Events};
use xprof_perfdata::order::RawRecord;
use xprof_perfdata::record::*;
use xprof_perfdata::sample::*;

/// Numbers without end out of one seed (splitmix64), so that a failing case is five numbers.
struct Numbers(u64);

impl Numbers {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn u32(&mut self) -> u32 {
        self.u64() as u32
    }
    fn u16(&mut self) -> u16 {
        self.u64() as u16
    }
    fn below(&mut self, bound: u64) -> usize {
        (self.u64() % bound) as usize
    }
    fn u64s(&mut self, len: usize) -> Vec<u64> {
        (0..len).map(|_| self.u64()).collect()
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.u64() as u8).collect()
    }
    fn name(&mut self, max: u64) -> Vec<u8> {
        let len = self.below(max + 1);
        (0..len).map(|_| self.u64() as u8 | 1).collect()
    }
    fn task(&mut self) -> TaskId {
        TaskId { pid: self.u32(), tid: self.u32() }
    }
    fn read(&mut self, format: u64) -> ReadValues {
        let has = |bit| u64::from(format & bit != 0);
        let members = if format & read_format::GROUP != 0 { self.below(5) } else { 1 };
        ReadValues {
            time_enabled: self.u64() * has(read_format::TOTAL_TIME_ENABLED),
            time_running: self.u64() * has(read_format::TOTAL_TIME_RUNNING),
            counters: (0..members)
                .map(|_| ReadCounter {
                    value: self.u64(),
                    id: self.u64() * has(read_format::ID),
                    lost: self.u64() * has(read_format::LOST),
                })
                .collect(),
        }
    }
    fn regs(&mut self, mask: u64) -> Regs {
        let abi = self.u64() % 3;
        Regs { abi, values: if abi == 0 { Vec::new() } else { self.u64s(mask.count_ones() as usize) } }
    }
    fn sample_id(&mut self, sample_type: u64) -> SampleId {
        let has = |bit| sample_type & bit != 0;
        let all = sample::TID | sample::TIME | sample::ID | sample::STREAM_ID | sample::CPU | sample::IDENTIFIER;
        SampleId {
            fields: sample_type & all,
            pid: self.u32() * u32::from(has(sample::TID)),
            tid: self.u32() * u32::from(has(sample::TID)),
            time: self.u64() * u64::from(has(sample::TIME)),
            id: self.u64() * u64::from(has(sample::ID) || has(sample::IDENTIFIER)),
            stream_id: self.u64() * u64::from(has(sample::STREAM_ID)),
            cpu: self.u32() * u32::from(has(sample::CPU)),
        }
    }
    fn sample(&mut self, format: &SampleFormat) -> Sample {
        let has = |bit| format.sample_type & bit != 0;
        let id = self.sample_id(format.sample_type);
        let mut s = Sample { id, ..Sample::default() };
        let numbers = [
            (sample::IP, &mut s.ip),
            (sample::ADDR, &mut s.addr),
            (sample::PERIOD, &mut s.period),
            (sample::WEIGHT | sample::WEIGHT_STRUCT, &mut s.weight),
            (sample::DATA_SRC, &mut s.data_src),
            (sample::TRANSACTION, &mut s.transaction),
            (sample::PHYS_ADDR, &mut s.phys_addr),
            (sample::CGROUP, &mut s.cgroup),
            (sample::DATA_PAGE_SIZE, &mut s.data_page_size),
            (sample::CODE_PAGE_SIZE, &mut s.code_page_size),
        ];
        for (bit, number) in numbers {
            if has(bit) {
                *number = self.u64();
            }
        }
        if has(sample::READ) {
            s.read = self.read(format.read_format);
        }
        if has(sample::CALLCHAIN) {
            let len = self.below(40);
            s.callchain = self.u64s(len);
        }
        if has(sample::RAW) {
            let len = self.below(30);
            s.raw = self.bytes(len);
        }
        if has(sample::BRANCH_STACK) {
            let len = self.below(5);
            if format.branch_sample_type & branch::HW_INDEX != 0 {
                s.branch_stack.hw_index = self.u64();
            }
            s.branch_stack.entries =
                (0..len).map(|_| Branch { from: self.u64(), to: self.u64(), flags: self.u64() }).collect();
            if format.branch_sample_type & branch::COUNTERS != 0 {
                s.branch_stack.counters = self.u64s(len);
            }
        }
        if has(sample::REGS_USER) {
            s.regs_user = self.regs(format.sample_regs_user);
        }
        if has(sample::STACK_USER) {
            let len = self.below(3) * 8;
            s.stack_user.bytes = self.bytes(len);
            s.stack_user.dyn_size = if len == 0 { 0 } else { self.u64() };
        }
        if has(sample::REGS_INTR) {
            s.regs_intr = self.regs(format.sample_regs_intr);
        }
        if has(sample::AUX) {
            let len = self.below(3) * 8;
            s.aux = self.bytes(len);
        }
        s
    }

    /// One record of every kind; the numbers beside them are their misc.
    fn records(&mut self, format: &SampleFormat) -> Vec<(Record, u16)> {
        let mut mmap = Mmap {
            v2: false,
            pid: self.u32(),
            tid: self.u32(),
            start: self.u64(),
            len: self.u64(),
            pgoff: self.u64(),
            path: self.name(100),
            ..Mmap::default()
        };
        let mut list = vec![(Record::Mmap(mmap.clone()), misc::USER)];
        (mmap.v2, mmap.prot, mmap.flags) = (true, self.u32(), self.u32());
        mmap.file = MmapFile::Inode { major: self.u32(), minor: self.u32(), inode: self.u64(), generation: self.u64() };
        list.push((Record::Mmap(mmap.clone()), misc::USER));
        let len = 16 + self.below(5);
        mmap.file = MmapFile::BuildId(self.bytes(len));
        list.push((Record::Mmap(mmap), misc::USER | misc::MMAP_BUILD_ID));
        let task = Task { pid: self.u32(), ppid: self.u32(), tid: self.u32(), ptid: self.u32(), time: self.u64() };
        let throttle = Throttle { time: self.u64(), id: self.u64(), stream_id: self.u64() };
        let links = self.below(8);
        let entries = self.below(4);
        let entry = |n: &mut Numbers, guests: u64| IdIndexEntry {
            id: n.u64(),
            idx: n.u64(),
            cpu: n.u64(),
            tid: n.u64(),
            machine_pid: n.u64() * guests,
            vcpu: n.u64() * guests,
        };
        let attr = Attr {
            kind: self.u32(),
            size: 136,
            config: self.u64(),
            flags: self.u64(),
            clockid: self.u32() as i32,
            sample_max_stack: self.u16(),
            aux_action: self.u32(),
            config3: self.u64(),
            ..Attr::default()
        };
        let id_of_20 = self.bytes(20);
        let id_of_8 = self.bytes(8);
        let build_id = |n: &mut Numbers, build_id| {
            Record::HeaderBuildId(HeaderBuildId { pid: n.u32() as i32, build_id, path: n.name(100) })
        };
        let some = self.below(6);
        let maps = [
            CpuMap::Cpus((0..some).map(|_| self.u16()).collect()),
            CpuMap::Mask32((0..some).map(|_| self.u32()).collect()),
            CpuMap::Mask64(self.u64s(some)),
            CpuMap::Range { any: true, first: self.u16(), last: self.u16() },
            CpuMap::Other { kind: 7, bytes: self.bytes(14) },
        ];
        let error = AuxtraceError {
            kind: self.u32(),
            code: self.u32(),
            cpu: self.u32(),
            pid: self.u32(),
            tid: self.u32(),
            ip: self.u64(),
            message: self.name(63),
            ..AuxtraceError::default()
        };
        let timed = AuxtraceError { form: 1, time: self.u64(), ..error.clone() };
        let guest = AuxtraceError { form: 2, machine_pid: self.u32(), vcpu: self.u32(), ..timed.clone() };
        let plain = [
            Record::Sample(Box::new(self.sample(format))),
            Record::Comm(Comm { task: self.task(), comm: self.name(15) }),
            Record::Fork(task),
            Record::Exit(task),
            Record::Lost(Lost { id: self.u64(), lost: self.u64() }),
            Record::LostSamples(self.u64()),
            Record::Throttle(throttle),
            Record::Unthrottle(throttle),
            Record::Read(Read { task: self.task(), values: self.read(format.read_format) }),
            Record::Aux(Aux { offset: self.u64(), size: self.u64(), flags: self.u64() }),
            Record::ItraceStart(self.task()),
            Record::Switch,
            Record::SwitchCpuWide(self.task()),
            Record::Namespaces(Namespaces {
                task: self.task(),
                links: (0..links).map(|_| (self.u64(), self.u64())).collect(),
            }),
            Record::Ksymbol(Ksymbol {
                addr: self.u64(),
                len: self.u32(),
                ksym_type: self.u16(),
                flags: self.u16(),
                name: self.name(50),
            }),
            Record::BpfEvent(BpfEvent {
                event: self.u16(),
                flags: self.u16(),
                prog_id: self.u32(),
                tag: self.u64().to_ne_bytes(),
            }),
            Record::Cgroup(Cgroup { id: self.u64(), path: self.name(100) }),
            Record::TextPoke(TextPoke { addr: self.u64(), old: self.bytes(some), new: self.bytes(links) }),
            Record::AuxOutputHwId(self.u64()),
            Record::CallchainDeferred(CallchainDeferred { cookie: self.u64(), ips: self.u64s(some) }),
            Record::HeaderAttr(HeaderAttr { attr, ids: self.u64s(some) }),
            Record::HeaderEventType(HeaderEventType { event_id: self.u64(), name: self.name(64) }),
            Record::HeaderTracingData(self.u32()),
            build_id(self, id_of_20),
            Record::FinishedRound,
            Record::IdIndex(IdIndex { entries: (0..entries).map(|_| entry(self, 0)).collect(), guests: false }),
            Record::IdIndex(IdIndex { entries: (0..=entries).map(|_| entry(self, 1)).collect(), guests: true }),
            Record::AuxtraceInfo(AuxtraceInfo { kind: self.u32(), private: self.u64s(some) }),
            Record::Auxtrace(Auxtrace {
                size: self.u64(),
                offset: self.u64(),
                reference: self.u64(),
                idx: self.u32(),
                tid: self.u32(),
                cpu: self.u32(),
            }),
            Record::AuxtraceError(error),
            Record::AuxtraceError(timed),
            Record::AuxtraceError(guest),
            Record::ThreadMap((0..some).map(|_| (self.u64(), self.name(16))).collect()),
            Record::StatConfig((0..some).map(|_| (self.u64(), self.u64())).collect()),
            Record::Stat(Stat {
                id: self.u64(),
                cpu: self.u32(),
                thread: self.u32(),
                value: self.u64(),
                enabled: self.u64(),
                running: self.u64(),
            }),
            Record::StatRound(StatRound { kind: self.u64(), time: self.u64() }),
            Record::EventUpdate(EventUpdate { id: self.u64(), update: Update::Unit(self.name(10)) }),
            Record::EventUpdate(EventUpdate { id: self.u64(), update: Update::Scale(self.u64()) }),
            Record::EventUpdate(EventUpdate { id: self.u64(), update: Update::Name(self.name(40)) }),
            Record::EventUpdate(EventUpdate { id: self.u64(), update: Update::Cpus(maps[1].clone()) }),
            Record::EventUpdate(EventUpdate {
                id: self.u64(),
                update: Update::Other { kind: 9, bytes: self.bytes(some) },
            }),
            Record::TimeConv(TimeConv {
                time_shift: self.u64(),
                time_mult: self.u64(),
                time_zero: self.u64(),
                time_cycles: self.u64(),
                time_mask: self.u64(),
                caps: self.u16() & 3,
            }),
            Record::HeaderFeature(HeaderFeature { feature: self.u64(), section: self.bytes(some) }),
            Record::Compressed(self.bytes(some)),
            Record::Compressed2(self.bytes(some)),
            Record::FinishedInit,
            Record::Other { kind: 200, body: self.bytes(some) },
            Record::Other { kind: 40, body: self.bytes(16) },
        ];
        list.extend(plain.into_iter().chain(maps.map(Record::CpuMap)).map(|record| (record, 0)));
        list.push((build_id(self, id_of_8), misc::EXT_RESERVED));
        list
    }
}

fn raw(bytes: &[u8], order: ByteOrder) -> RawRecord<'_> {
    let kind = order.u32(*bytes.first_chunk().unwrap());
    let misc = order.u16([bytes[4], bytes[5]]);
    assert_eq!(order.u16([bytes[6], bytes[7]]) as usize, bytes.len());
    RawRecord { kind, misc, body: &bytes[8..], time: 0, event: 0, offset: 0 }
}

fn events(attr: &Attr, order: ByteOrder) -> Events {
    let mut events = Events::new(order);
    events.push(attr.clone(), String::new(), Vec::new());
    events
}

fn check_all(attr: &Attr, seed: u64) {
    let numbers = &mut Numbers(seed);
    let both = [ByteOrder::Little, ByteOrder::Big].map(|order| events(attr, order));
    let list = numbers.records(&both[0].list()[0].format);
    for (record, misc) in list {
        let mut encoded = Vec::new();
        for events in &both {
            let format = &events.list()[0].format;
            let kernels = record.kind() < 23 && !matches!(record, Record::Sample(_));
            let id = match &record {
                Record::Sample(sample) => sample.id,
                _ if kernels && format.sample_id_all => numbers.sample_id(format.sample_type),
                _ => SampleId::default(),
            };
            let bytes = record.encode(&id, misc, format).unwrap();
            let (back, id_back) = Record::decode(&raw(&bytes, events.order), events).unwrap();
            assert_eq!((&back, id_back), (&record, id));
            assert_eq!(back.encode(&id, misc, format).unwrap(), bytes);
            cut(&record, &bytes, events);
            if let Record::Sample(sample) = &record {
                check_views(sample, &bytes[8..], events);
            }
            if kernels {
                let layout = &events.list()[0].layout;
                let has = |bits| format.sample_id_all && format.sample_type & bits != 0;
                assert_eq!(layout.trailer_time_of(&bytes[8..]), has(sample::TIME).then_some(id.time));
                let id_there = has(sample::ID | sample::IDENTIFIER);
                assert_eq!(layout.trailer_id_of(&bytes[8..]), id_there.then_some(id.id));
            }
            encoded.push((bytes, id));
        }
        // The twin: little to big is what was encoded as big in the first place.
        let (little, id) = &encoded[0];
        let (decoded, _) = Record::decode(&raw(little, ByteOrder::Little), &both[0]).unwrap();
        let twin = decoded.encode(id, misc, &both[1].list()[0].format).unwrap();
        let (back, id_back) = Record::decode(&raw(&twin, ByteOrder::Big), &both[1]).unwrap();
        assert_eq!((back, id_back), (record, *id));
    }
}

/// No beginning of a record decodes, but for those whose last part is optional or of any length.
fn cut(record: &Record, bytes: &[u8], events: &Events) {
    let open = matches!(
        record,
        Record::HeaderAttr(_)
            | Record::HeaderBuildId(_)
            | Record::HeaderFeature(_)
            | Record::AuxtraceInfo(_)
            | Record::AuxtraceError(_)
            | Record::IdIndex(_)
            | Record::TimeConv(_)
            | Record::EventUpdate(_)
            | Record::CpuMap(_)
            | Record::Compressed(_)
            | Record::Compressed2(_)
            | Record::Other { .. }
    );
    for len in (8..bytes.len()).rev().step_by(5) {
        // A branch stack without branches has an index or, from a software event, has none.
        let no_branches = |sample: &Sample| sample.branch_stack == BranchStack::default();
        let format = &events.list()[0].format;
        let open = open
            || len.is_multiple_of(8)
                && format.branch_sample_type & branch::HW_INDEX != 0
                && matches!(Record::decode(&RawRecord { body: &bytes[8..len], ..raw(bytes, events.order) }, events),
                    Ok((Record::Sample(sample), _)) if no_branches(&sample));
        let kind = record.kind();
        let short = RawRecord { body: &bytes[8..len], ..raw(bytes, events.order) };
        let decoded = Record::decode(&short, events);
        assert!(open || decoded.is_err(), "{kind}: {len} of {} bytes: {decoded:?}", bytes.len());
    }
}

fn check_views(sample: &Sample, body: &[u8], events: &Events) {
    let Event { format, layout, .. } = &events.list()[0];
    let has = |bits| format.sample_type & bits != 0;
    let view = layout.view(body).unwrap();
    assert_eq!((view.ip(), view.addr(), view.id()), (sample.ip, sample.addr, sample.id.id));
    assert_eq!((view.pid(), view.tid(), view.time(), view.cpu()), {
        let id = &sample.id;
        (id.pid, id.tid, id.time, id.cpu)
    });
    assert_eq!(view.period(), has(sample::PERIOD).then_some(sample.period));
    assert_eq!(view.callchain().iter().collect::<Vec<_>>(), sample.callchain);
    assert_eq!(layout.time_of(body), has(sample::TIME).then_some(sample.id.time));
    assert_eq!(layout.id_of(body), has(sample::ID | sample::IDENTIFIER).then_some(sample.id.id));
}

fn attr_of(sample_type: u64, read_format: u64, branch: u64, regs: (u64, u64), id_all: bool) -> Attr {
    Attr {
        sample_type,
        read_format,
        branch_sample_type: branch,
        sample_regs_user: regs.0,
        sample_regs_intr: regs.1,
        flags: if id_all { attr_flag::SAMPLE_ID_ALL } else { 0 },
        ..Attr::default()
    }
}

#[test]
fn every_flag_alone_and_all_together() {
    for bit in 0..25 {
        for (read, branch) in (0..32).zip((0..4).cycle()) {
            let branch = branch << 17 | (branch & 1) << 19;
            check_all(&attr_of(1 << bit, read, branch, (0xff0f, 0x3), true), bit ^ read << 8);
            check_all(&attr_of(0x1ff_ffff ^ 1 << bit, read, branch, (0xff0f, 0x3), bit % 2 == 0), bit);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn records_round_trip(
        sample_type in 0..1u64 << 25,
        read_format in 0..32u64,
        branch in 0..1u64 << 20,
        regs in any::<(u64, u64)>(),
        id_all: bool,
        seed: u64,
    ) {
        check_all(&attr_of(sample_type, read_format, branch, regs, id_all), seed);
    }

    #[test]
    fn attrs_round_trip(seed: u64, words in 8u32..=18, big: bool) {
        let size = words * 8;
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let mut bytes = Numbers(seed).bytes(size as usize);
        bytes[4..8].copy_from_slice(&if big { size.to_be_bytes() } else { size.to_le_bytes() });
        if size > 110 {
            // __reserved_2, the only bytes that nobody keeps.
            bytes[110..112.min(size as usize)].fill(0);
        }
        let attr = Attr::decode(&bytes, order).unwrap();
        prop_assert_eq!(attr.encode(order, size), bytes);
        let twin = Attr::decode(&attr.encode(order.other(), size), order.other()).unwrap();
        prop_assert_eq!(twin, attr);
    }

    #[test]
    fn arbitrary_bytes_are_a_record_or_an_error(
        kind in 0u32..90,
        misc: u16,
        small in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 0..200),
        sample_type in 0..1u64 << 26,
        read_format in 0..32u64,
        branch: u64,
        regs in any::<(u64, u64)>(),
        big: bool,
    ) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let events = events(&attr_of(sample_type, read_format, branch, regs, branch & 1 == 0), order);
        for kind in [kind, 9] {
            let raw = RawRecord { kind, misc, body: &small, time: 0, event: 0, offset: 0 };
            if let Ok((record, id)) = Record::decode(&raw, &events) {
                let format = &events.list()[0].format;
                let bytes = record.encode(&id, misc, format).unwrap();
                let again = RawRecord { body: &bytes[8..], ..raw };
                prop_assert_eq!(Record::decode(&again, &events).unwrap(), (record, id));
            }
            events.event_of(kind, &small);
            events.time_of(kind, &small);
            let view = events.list()[0].layout.view(&small);
            let _ = view.map(|view| view.callchain().len());
        }
        let _ = Attr::decode(&small, order);
    }
}
