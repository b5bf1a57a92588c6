//! The arbiter over a machine that writes down every access.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::msr::tables::perfmon;
use crate::msr::{Family, Limits, Row};
use crate::sys::allocations;

/// One access to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Read(u32, u32),
    Write(u32, u32, u64),
    Mask(u32, bool),
}
use Op::{Mask, Read, Write};

#[derive(Debug, Default)]
struct Fake {
    values: BTreeMap<(u32, u32), u64>,
    log: Vec<Op>,
}

impl Fake {
    fn set(&mut self, cpu: u32, msr: u32, value: u64) {
        self.values.insert((cpu, msr), value);
    }

    fn writes(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.log).into_iter().filter(|op| !matches!(op, Read(..))).collect()
    }
}

impl MsrHardware for Fake {
    fn read(&mut self, cpu: u32, msr: u32) -> std::result::Result<u64, Fault> {
        self.log.push(Read(cpu, msr));
        Ok(self.values.get(&(cpu, msr)).copied().unwrap_or(0))
    }

    fn write(&mut self, cpu: u32, msr: u32, value: u64) -> std::result::Result<(), Fault> {
        self.log.push(Write(cpu, msr, value));
        match msr {
            // Write 1 to clear.
            0x390 => *self.values.entry((cpu, 0x38e)).or_default() &= !value,
            _ => self.set(cpu, msr, value),
        }
        Ok(())
    }

    fn mask(&mut self, cpu: u32, masked: bool) {
        self.log.push(Mask(cpu, masked));
    }
}

const fn row(name: &'static str, kind: Kind, first: u32, count: u32, access: Access) -> Row {
    Row {
        name,
        class: Class::Perf,
        kind,
        first,
        stride: 1,
        count,
        counter: 0,
        width: if matches!(kind, Kind::Counter) { 40 } else { 32 },
        reserved: 0,
        reset: 0,
        access,
        source: "test",
    }
}

const P6_ROWS: &[Row] = &[
    row("PERFCTR", Kind::Counter, 0xc1, 2, Access::SignExtended32),
    row("EVNTSEL", Kind::Select, 0x186, 2, Access::ReadWrite),
];
static P6: Family = Family { name: "p6", cpus: "", rearm: Rearm::P6, rows: &[P6_ROWS] };
static PENTIUM_M: Family = Family { name: "pentium-m", cpus: "", rearm: Rearm::PentiumM, rows: &[P6_ROWS] };
static AMD: Family = Family {
    name: "amd",
    cpus: "",
    rearm: Rearm::Amd,
    rows: &[&[
        row("PERF_CTL", Kind::Select, 0xc001_0000, 4, Access::ReadWrite),
        row("PERF_CTR", Kind::Counter, 0xc001_0004, 4, Access::ReadWrite),
    ]],
};
static NETBURST: Family = Family {
    name: "netburst",
    cpus: "",
    rearm: Rearm::NetBurst,
    rows: &[&[
        row("COUNTER", Kind::Counter, 0x300, 18, Access::ReadWrite),
        row("CCCR", Kind::Cccr, 0x360, 18, Access::ReadWrite),
        row("ESCR", Kind::Escr, 0x3a0, 4, Access::ReadWrite),
    ]],
};

const CORE2: Table =
    Table { family: &perfmon::V2, limits: Limits { general: 2, fixed: 3, general_width: 40, fixed_width: 40 } };

const ZERO: Caller = Caller { domain: DomId(0), on: On::Vcpu(0) };
const ONE: Caller = Caller { domain: DomId(1), on: On::Vcpu(0) };
const HOST: Caller = Caller { domain: DomId(0), on: On::Cpu(0) };

fn machine(table: Table) -> Arbiter<Fake> {
    let mut arbiter = Arbiter::new(Fake::default(), table, 2);
    arbiter.create_domain(DomId(0), 2);
    arbiter.create_domain(DomId(1), 2);
    arbiter
}

fn of(family: &'static Family) -> Table {
    Table { family, limits: Limits::NONE }
}

fn write(arbiter: &mut Arbiter<Fake>, caller: Caller, rearm: bool, values: &[(u32, u64)]) -> usize {
    let mut entries: Vec<Entry> = values.iter().map(|&(msr, value)| Entry::with(msr, value)).collect();
    arbiter.write(caller, Class::Perf, rearm, &mut entries).unwrap()
}

fn read(arbiter: &mut Arbiter<Fake>, caller: Caller, msr: u32) -> u64 {
    let mut entry = [Entry::of(msr)];
    assert_eq!(arbiter.read(caller, Class::Perf, &mut entry).unwrap(), 1);
    entry[0].value
}

/// Domain 0 holds the PMU globally; what rearming `values` on CPU 0 writes, in order.
fn rearmed(family: &'static Family, set: &[(u32, u64)], values: &[(u32, u64)]) -> Vec<Op> {
    let mut arbiter = machine(of(family));
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
    write(&mut arbiter, HOST, false, set);
    for &(msr, value) in set {
        arbiter.hardware().set(0, msr, value);
    }
    arbiter.hardware().log.clear();
    write(&mut arbiter, HOST, true, values);
    arbiter.hardware().writes()
}

#[test]
fn netburst_writes_clears_writes_again_and_unmasks() {
    let ovf = CCCR_OVF | 0x1000;
    let order = rearmed(&NETBURST, &[(0x360, ovf), (0x361, ovf)], &[(0x300, 7), (0x301, 8)]);
    let one = |counter: u32, cccr, value| {
        [Write(0, counter, value), Write(0, cccr, 0x1000), Write(0, counter, value)].to_vec()
    };
    assert_eq!(order, [one(0x300, 0x360, 7), one(0x301, 0x361, 8), vec![Mask(0, false)]].concat());
    // What is flagged and not named is acknowledged too, or the interrupt would come for ever.
    let order = rearmed(&NETBURST, &[(0x371, ovf)], &[]);
    assert_eq!(order, [Write(0, 0x371, 0x1000), Mask(0, false)]);
}

#[test]
fn pentium_m_unmasks_and_p6_and_amd_do_not() {
    let values = [(0xc1, 7), (0xc2, 8)];
    let writes = [Write(0, 0xc1, 7), Write(0, 0xc2, 8)];
    assert_eq!(rearmed(&PENTIUM_M, &[], &values), [&writes[..], &[Mask(0, false)]].concat());
    assert_eq!(rearmed(&P6, &[], &values), writes);
    assert_eq!(rearmed(&AMD, &[], &[(0xc001_0004, 9)]), [Write(0, 0xc001_0004, 9)]);
}

#[test]
fn perfmon_clears_the_overflow_before_it_unmasks() {
    let mut arbiter = machine(CORE2);
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
    arbiter.hardware().set(0, 0x38e, 1 | 1 << 33);
    // Counter 0 is rewritten; fixed counter 1 is flagged, reads 0, and would raise the interrupt for ever.
    write(&mut arbiter, HOST, true, &[(0xc1, 0xffff_ff00)]);
    let order = [Write(0, 0xc1, 0xffff_ff00), Write(0, 0x30a, 1), Write(0, 0x390, 1 | 1 << 33), Mask(0, false)];
    assert_eq!(arbiter.hardware().writes(), order);
    // A batch that fails rearms nothing.
    arbiter.hardware().set(0, 0x38e, 1);
    assert_eq!(write(&mut arbiter, HOST, true, &[(0xc1, 5), (0x38e, 0)]), 1);
    assert_eq!(arbiter.hardware().writes(), [Write(0, 0xc1, 5)]);
}

#[test]
fn a_switch_touches_what_was_written_and_allocates_nothing() {
    let mut arbiter = machine(CORE2);
    for domain in [DomId(0), DomId(1)] {
        arbiter.allocate(ZERO, Class::Perf, domain, Scope::Local).unwrap();
    }
    arbiter.switch(0, Some((DomId(0), 0)));
    assert_eq!(arbiter.hardware().log, [], "nobody wrote anything");
    write(&mut arbiter, ZERO, false, &[(0x186, 0x53_003c), (0xc1, 100), (0x38f, 1)]);
    write(&mut arbiter, ONE, false, &[(0xc2, 200)]);
    arbiter.hardware().set(0, 0xc1, 150);
    arbiter.hardware().log = Vec::with_capacity(100);
    let before = allocations::count();
    arbiter.switch(0, Some((DomId(1), 0)));
    assert_eq!(allocations::count(), before);
    // Stopped from the outermost enable inwards; then the other domain's one register.
    let pairs = [(0x38f, 0), (0x186, 0), (0xc1, 0)];
    let mut expected: Vec<Op> = pairs.iter().flat_map(|&(msr, reset)| [Read(0, msr), Write(0, msr, reset)]).collect();
    expected.extend([Read(0, 0x38e), Write(0, 0xc2, 200)]);
    assert_eq!(std::mem::take(&mut arbiter.hardware().log), expected);
    // The values are the caller's own, wherever it is.
    assert_eq!((read(&mut arbiter, ZERO, 0xc1), read(&mut arbiter, ZERO, 0xc2)), (150, 0));
    assert_eq!((read(&mut arbiter, ONE, 0xc1), read(&mut arbiter, ONE, 0xc2)), (0, 200));
    arbiter.hardware().log.clear();
    arbiter.switch(0, Some((DomId(0), 0)));
    // Started from the counter outwards.
    let tail = [Write(0, 0xc1, 150), Write(0, 0x186, 0x53_003c), Write(0, 0x38f, 1)];
    assert_eq!(arbiter.hardware().writes(), [&[Write(0, 0xc2, 0)], &tail[..]].concat());
}

#[test]
fn a_value_that_cannot_be_written_back_reads_right_all_the_same() {
    let mut arbiter = machine(of(&P6));
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Local).unwrap();
    arbiter.switch(0, Some((DomId(0), 0)));
    write(&mut arbiter, ZERO, false, &[(0xc1, 0)]);
    // Counted to 0x12_9000_0000: bit 31 would be extended over the bits above.
    arbiter.hardware().set(0, 0xc1, 0x12_9000_0000);
    arbiter.switch(0, None);
    arbiter.switch(0, Some((DomId(0), 0)));
    assert_eq!(arbiter.hardware().values[&(0, 0xc1)], 0x1000_0000);
    arbiter.hardware().set(0, 0xc1, 0x1000_0005);
    assert_eq!(read(&mut arbiter, ZERO, 0xc1), 0x12_9000_0005);
}

#[test]
fn defaults_leave_the_preserved_set() {
    let mut arbiter = machine(CORE2);
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Local).unwrap();
    arbiter.switch(0, Some((DomId(0), 0)));
    write(&mut arbiter, ZERO, false, &[(0xc1, 100), (0xc2, 100)]);
    let mut entries = [Entry::with(0xc1, 77), Entry::with(0x38e, 77), Entry::with(0xc2, 77)];
    assert_eq!(arbiter.set_default(ZERO, Class::Perf, &mut entries).unwrap(), 1);
    assert_eq!((entries[0].value, entries[1].fault(), entries[2].status), (0, Some(Fault::ReadOnly), 0));
    arbiter.hardware().log.clear();
    arbiter.switch(0, None);
    assert_eq!(arbiter.hardware().writes(), [Write(0, 0xc2, 0)]);
}

#[test]
fn nobody_is_evicted() {
    let mut arbiter = machine(CORE2);
    let busy = |result: Result<()>| match result {
        Err(Error::Busy { class: Class::Perf, holders }) => holders,
        other => panic!("{other:?}"),
    };
    assert!(matches!(arbiter.allocate(ONE, Class::Perf, DomId(1), Scope::Local), Err(Error::NotPrivileged(DomId(1)))));
    assert!(matches!(arbiter.allocate(ZERO, Class::Perf, DomId(9), Scope::Local), Err(Error::NoSuch(_))));
    for domain in [DomId(0), DomId(1)] {
        arbiter.allocate(ZERO, Class::Perf, domain, Scope::Local).unwrap();
    }
    assert_eq!(busy(arbiter.allocate(ZERO, Class::Perf, DomId(1), Scope::Global)), [DomId(0)]);
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Unavailable).unwrap();
    // The last holder may widen its own scope.
    arbiter.allocate(ZERO, Class::Perf, DomId(1), Scope::Global).unwrap();
    for scope in [Scope::Local, Scope::Global] {
        assert_eq!(busy(arbiter.allocate(ZERO, Class::Perf, DomId(0), scope)), [DomId(1)]);
    }
    // The other class is another matter.
    arbiter.allocate(ZERO, Class::Debug, DomId(0), Scope::Global).unwrap();
    // A domain that dies holding GLOBAL gives it back, with its registers at their defaults.
    let global = Caller { domain: DomId(1), on: On::Cpu(1) };
    write(&mut arbiter, global, false, &[(0x186, 0x53_003c)]);
    arbiter.hardware().log.clear();
    arbiter.destroy_domain(DomId(1));
    assert_eq!(arbiter.hardware().writes(), [Write(1, 0x186, 0)]);
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
}

type Told = Arc<Mutex<Vec<(Overflow, u32)>>>;

/// A handler that keeps what it is told and claims or not.
fn keeper(claims: bool) -> (Handler, Told) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let handler = Box::new(move |overflow: &Overflow, cpu: u32| {
        keep.lock().unwrap().push((*overflow, cpu));
        claims
    });
    (handler, told)
}

fn interrupt(arbiter: &mut Arbiter<Fake>, cpu: u32, ip: u64) {
    if let Some(mut delivery) = arbiter.interrupt(cpu, Overflow { ip, ..Overflow::default() }) {
        let claimed = (delivery.handler)(&delivery.overflow, delivery.cpu);
        arbiter.finish(delivery, claimed);
    }
}

#[test]
fn local_interrupts_go_to_the_running_holder_and_global_ones_name_the_interrupted() {
    let mut arbiter = machine(CORE2);
    arbiter.allocate(ZERO, Class::Perf, DomId(1), Scope::Local).unwrap();
    let second = Caller { domain: DomId(1), on: On::Vcpu(1) };
    let (handler, told) = keeper(true);
    arbiter.irq_handler(second, Class::Perf, Some(handler)).unwrap();
    arbiter.switch(0, Some((DomId(1), 1)));
    arbiter.hardware().set(0, 0x38e, 2);
    interrupt(&mut arbiter, 0, 42);
    let expected = Overflow { ip: 42, domain: DomId(1), vcpu: 1, pcpu: 0, overflow: 2, ..Overflow::default() };
    assert_eq!(*told.lock().unwrap(), [(expected, 1)]);
    // Domain 0 runs there now and holds nothing: the interrupt is nobody's.
    arbiter.switch(0, Some((DomId(0), 1)));
    interrupt(&mut arbiter, 0, 43);
    assert_eq!((told.lock().unwrap().len(), arbiter.stray()), (1, 1));

    arbiter.allocate(ZERO, Class::Perf, DomId(1), Scope::Unavailable).unwrap();
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
    let (handler, told) = keeper(true);
    let host = Caller { domain: DomId(0), on: On::Cpu(1) };
    arbiter.irq_handler(host, Class::Perf, Some(handler)).unwrap();
    arbiter.switch(1, Some((DomId(1), 0)));
    interrupt(&mut arbiter, 1, 44);
    let (overflow, cpu) = told.lock().unwrap()[0];
    assert_eq!((overflow.domain, overflow.vcpu, overflow.pcpu, cpu), (DomId(1), 0, 1, 1));
}

#[test]
fn what_no_handler_claims_is_counted_and_masked_until_rearmed() {
    let mut arbiter = machine(of(&AMD));
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
    let (handler, told) = keeper(false);
    arbiter.irq_handler(HOST, Class::Perf, Some(handler)).unwrap();
    write(&mut arbiter, HOST, false, &[(0xc001_0000, 1), (0xc001_0004, (-5i64) as u64)]);
    arbiter.hardware().set(0, 0xc001_0004, 3);
    interrupt(&mut arbiter, 0, 1);
    assert_eq!((told.lock().unwrap()[0].0.overflow, arbiter.unclaimed(HOST, Class::Perf).unwrap()), (1, 1));
    assert_eq!(arbiter.hardware().writes().last(), Some(&Mask(0, true)));
    // AMD's hardware does not mask, so rearming unmasks only after we did.
    write(&mut arbiter, HOST, true, &[]);
    assert_eq!(arbiter.hardware().writes(), [Mask(0, false)]);
    write(&mut arbiter, HOST, true, &[]);
    assert_eq!(arbiter.hardware().writes(), []);
    // No handler at all: the same; and the next one that is told learns how many it missed.
    arbiter.irq_handler(HOST, Class::Perf, None).unwrap();
    interrupt(&mut arbiter, 0, 2);
    let (handler, told) = keeper(true);
    arbiter.irq_handler(HOST, Class::Perf, Some(handler)).unwrap();
    interrupt(&mut arbiter, 0, 3);
    assert_eq!(told.lock().unwrap()[0].0.lost, 2);
}

#[test]
fn history_that_cannot_be_put_back_is_not_shown_under_local() {
    static HISTORY: Family = Family {
        name: "history",
        cpus: "",
        rearm: Rearm::P6,
        rows: &[&[Row { class: Class::Debug, ..row("LASTBRANCHFROMIP", Kind::Other, 0x1db, 1, Access::ReadOnly) }]],
    };
    let mut arbiter = machine(of(&HISTORY));
    arbiter.allocate(ZERO, Class::Debug, DomId(0), Scope::Local).unwrap();
    let mut entry = [Entry::of(0x1db)];
    assert_eq!(arbiter.read(ZERO, Class::Debug, &mut entry).unwrap(), 0);
    assert_eq!(entry[0].fault(), Some(Fault::NotHere));
    arbiter.allocate(ZERO, Class::Debug, DomId(0), Scope::Global).unwrap();
    assert_eq!(arbiter.read(HOST, Class::Debug, &mut entry).unwrap(), 1);
}

/// The PMU's overflows are not acknowledged, and not shown, by what another domain does with the DEBUG class.
#[test]
fn debug_has_nothing_of_the_pmus_status() {
    let mut arbiter = machine(CORE2);
    arbiter.allocate(ZERO, Class::Perf, DomId(0), Scope::Global).unwrap();
    arbiter.allocate(ZERO, Class::Debug, DomId(1), Scope::Local).unwrap();
    arbiter.switch(0, Some((DomId(1), 0)));
    arbiter.irq_handler(ONE, Class::Debug, Some(Box::new(|overflow, _| overflow.overflow == 0))).unwrap();
    arbiter.hardware().set(0, 0x38e, 0b10);
    assert_eq!(arbiter.write(ONE, Class::Debug, true, &mut []).unwrap(), 0);
    assert_eq!(read(&mut arbiter, HOST, 0x38e), 0b10);
    let mut delivery = arbiter.interrupt(0, Overflow { cause: Cause::Debug, ..Overflow::default() }).unwrap();
    assert!((delivery.handler)(&delivery.overflow, delivery.cpu));
    arbiter.finish(delivery, true);
}
