//! One suite for every implementation of the contract. What an implementation cannot do here (no second domain, no
//! counters on this machine) it says by its [`Ability`], and the rest is asked of it all the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::counting::{self, Counted, Program, Setup};
use super::{
    Access, Caller, Class, Contract, DomId, Entry, Error, Fault, Handler, Kind, MAX_ENTRIES, On, Result, Scope, Table,
};

/// What can be asked of an implementation on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ability {
    /// There are domains 1 and 2 with two vCPUs each, beside domain 0, and two CPUs.
    pub(crate) domains: bool,
    /// Registers of the PERF class can be written.
    pub(crate) writes: bool,
    /// Interrupts come while [`Stand::run`] runs.
    pub(crate) interrupts: bool,
}

/// An implementation, freshly made: nobody holds anything.
pub(crate) trait Stand {
    /// What it can do.
    fn ability(&self) -> Ability;
    /// The registers that it has.
    fn table(&self) -> Table;
    /// A handle.
    fn handle(&mut self, caller: Caller) -> Box<dyn Contract + Send>;
    /// A handle for use by a handler: its writes may return before they are done.
    fn rearming(&mut self, caller: Caller) -> Box<dyn Contract + Send> {
        self.handle(caller)
    }
    /// Time passes: programs run everywhere, interrupts come.
    fn run(&mut self) {}
    /// A domain dies.
    fn kill(&mut self, _domain: DomId) {}
}

/// Handles of one program, which share what it holds.
pub(crate) struct Shared<T>(pub(crate) Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(crate) fn of(registers: T) -> Shared<T> {
        Shared(Arc::new(Mutex::new(registers)))
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared(Arc::clone(&self.0))
    }
}

impl<T: Contract> Contract for Shared<T> {
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        self.0.lock().unwrap().allocate(class, domain, scope)
    }
    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> Result<()> {
        self.0.lock().unwrap().irq_handler(class, handler)
    }
    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.0.lock().unwrap().set_default(class, entries)
    }
    fn write(&mut self, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        self.0.lock().unwrap().write(class, rearm, entries)
    }
    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.0.lock().unwrap().read(class, entries)
    }
}

const ZERO: Caller = Caller { domain: DomId(0), on: On::Vcpu(0) };

const fn of(domain: u16, vcpu: u32) -> Caller {
    Caller { domain: DomId(domain), on: On::Vcpu(vcpu) }
}

const fn host(domain: u16, cpu: u32) -> Caller {
    Caller { domain: DomId(domain), on: On::Cpu(cpu) }
}

/// The negative errno of a call that fails.
fn errno<T>(answer: Result<T>) -> i32 {
    match answer {
        Ok(_) => 0,
        Err(error) => error.errno(),
    }
}

/// Runs all that applies.
pub(crate) fn suite(make: &mut dyn FnMut() -> Box<dyn Stand>) {
    classes_that_are_none(make().as_mut());
    what_is_not_held_is_not_reached(make().as_mut());
    batches_are_counted(make().as_mut());
    let ability = make().ability();
    if ability.writes {
        the_first_bad_entry_stops_the_batch(make().as_mut());
        values_stay_and_defaults_return(make().as_mut());
    }
    if ability.domains {
        only_domain_0_allocates(make().as_mut());
        global_excludes_and_nobody_is_evicted(make().as_mut());
        no_domain_sees_another(make().as_mut());
        a_domain_that_dies_gives_everything_back(make().as_mut());
    }
    if ability.interrupts {
        interrupts_come_as_often_as_they_are_rearmed(make().as_mut());
        what_is_not_claimed_comes_once(make().as_mut());
    }
}

fn classes_that_are_none(stand: &mut dyn Stand) {
    let mut handle = stand.handle(ZERO);
    let none = -libc::EINVAL;
    assert_eq!(errno(handle.allocate(Class::Invalid, DomId(0), Scope::Local)), none);
    assert_eq!(errno(handle.irq_handler(Class::Invalid, None)), none);
    assert_eq!(errno(handle.read(Class::Invalid, &mut [])), none);
    assert_eq!(errno(handle.write(Class::Invalid, false, &mut [])), none);
    assert_eq!(errno(handle.set_default(Class::Invalid, &mut [])), none);
}

fn what_is_not_held_is_not_reached(stand: &mut dyn Stand) {
    let mut handle = stand.handle(ZERO);
    for class in [Class::Perf, Class::Debug] {
        assert_eq!(errno(handle.read(class, &mut [])), -libc::EACCES, "{class:?}");
        assert_eq!(errno(handle.write(class, true, &mut [])), -libc::EACCES);
        assert_eq!(errno(handle.set_default(class, &mut [])), -libc::EACCES);
    }
    assert_eq!(errno(handle.allocate(Class::Perf, DomId(999), Scope::Local)), -libc::ESRCH);
    handle.allocate(Class::Perf, DomId(0), Scope::Local).unwrap();
    assert_eq!(errno(handle.read(Class::Perf, &mut [])), 0);
    assert_eq!(errno(handle.read(Class::Debug, &mut [])), -libc::EACCES, "the other class is another matter");
    handle.allocate(Class::Perf, DomId(0), Scope::Unavailable).unwrap();
    assert_eq!(errno(handle.read(Class::Perf, &mut [])), -libc::EACCES);
}

fn batches_are_counted(stand: &mut dyn Stand) {
    let mut handle = stand.handle(ZERO);
    handle.allocate(Class::Perf, DomId(0), Scope::Local).unwrap();
    assert_eq!(handle.read(Class::Perf, &mut []).unwrap(), 0);
    assert_eq!(handle.write(Class::Perf, false, &mut []).unwrap(), 0);
    assert_eq!(handle.set_default(Class::Perf, &mut []).unwrap(), 0);
    // An address that no table has.
    let mut many = vec![Entry { msr: 0xdead_beef, status: 7, value: 9 }; MAX_ENTRIES + 1];
    let before = many.clone();
    assert!(matches!(handle.read(Class::Perf, &mut many), Err(Error::TooMany(129))));
    assert!(matches!(handle.write(Class::Perf, false, &mut many), Err(Error::TooMany(129))));
    assert!(matches!(handle.set_default(Class::Perf, &mut many), Err(Error::TooMany(129))));
    assert_eq!(many, before);
    many.pop();
    assert_eq!(handle.read(Class::Perf, &mut many).unwrap(), 0);
    assert_eq!((many[0].fault(), many[1]), (Some(Fault::Unknown), before[1]));
    // A register that can be read, as often as it is named.
    let table = stand.table();
    let Some((msr, _)) = table.registers(Class::Perf).find(|(_, found)| found.row.access == Access::ReadOnly) else {
        return;
    };
    let mut twice = [Entry::of(msr), Entry::of(msr), Entry::of(0xdead_beef), Entry { status: 7, ..Entry::of(msr) }];
    assert_eq!(handle.read(Class::Perf, &mut twice).unwrap(), 2);
    assert_eq!((twice[2].fault(), twice[3].status), (Some(Fault::Unknown), 7));
    assert_eq!(handle.write(Class::Perf, false, &mut [Entry::of(msr)]).unwrap(), 0);
    let mut one = [Entry::of(msr)];
    assert_eq!(handle.set_default(Class::Perf, &mut one).unwrap(), 0);
    assert_eq!(one[0].fault(), Some(Fault::ReadOnly));
}

/// A select, and a bit of it that is reserved.
fn select(table: &Table) -> (u32, Option<u64>) {
    let msr = table.address(Kind::Select, 0).or_else(|| table.address(Kind::Cccr, 0)).unwrap();
    let reserved = table.find(Class::Perf, msr).unwrap().row.reserved;
    (msr, (reserved != 0).then(|| reserved & reserved.wrapping_neg()))
}

/// A value of a select that counts nothing: an event's number without what enables it.
fn idle(table: &Table, msr: u32, number: u64) -> u64 {
    let row = table.find(Class::Perf, msr).unwrap().row;
    // NetBurst's CCCR has its threshold there.
    let at = if row.kind == Kind::Cccr { number << 20 } else { number };
    (row.reset & row.reserved) | (at & !row.reserved)
}

fn value(handle: &mut dyn Contract, msr: u32) -> u64 {
    let mut entry = [Entry::of(msr)];
    assert_eq!(handle.read(Class::Perf, &mut entry).unwrap(), 1, "{:?}", entry[0].fault());
    entry[0].value
}

fn the_first_bad_entry_stops_the_batch(stand: &mut dyn Stand) {
    let table = stand.table();
    let mut handle = stand.handle(ZERO);
    handle.allocate(Class::Perf, DomId(0), Scope::Local).unwrap();
    let (msr, reserved) = select(&table);
    let good = |number| Entry::with(msr, idle(&table, msr, number));
    let mut bad = vec![(Entry::with(0xdead_beef, 1), Fault::Unknown)];
    bad.extend(reserved.map(|bit| (Entry::with(msr, idle(&table, msr, 3) ^ bit), Fault::Reserved)));
    let only = table.registers(Class::Perf).find(|(_, found)| found.row.access == Access::ReadOnly);
    bad.extend(only.map(|(msr, _)| (Entry::of(msr), Fault::ReadOnly)));
    for (number, (bad, fault)) in bad.into_iter().enumerate() {
        let number = 1 + 2 * number as u64;
        // The same register twice is done twice, in order.
        let mut batch = [good(number), good(number + 1), bad, good(9)];
        assert_eq!(handle.write(Class::Perf, true, &mut batch).unwrap(), 2, "{fault}");
        assert_eq!((batch[2].fault(), batch[3]), (Some(fault), good(9)));
        assert_eq!(value(handle.as_mut(), msr), good(number + 1).value, "{fault}");
    }
    let _ = handle.allocate(Class::Perf, DomId(0), Scope::Unavailable);
}

fn values_stay_and_defaults_return(stand: &mut dyn Stand) {
    let table = stand.table();
    let mut handle = stand.handle(ZERO);
    handle.allocate(Class::Perf, DomId(0), Scope::Local).unwrap();
    let (msr, _) = select(&table);
    let reset = table.find(Class::Perf, msr).unwrap().row.reset;
    assert_eq!(value(handle.as_mut(), msr), reset);
    let mut entry = [Entry::with(msr, idle(&table, msr, 5))];
    assert_eq!(handle.write(Class::Perf, false, &mut entry).unwrap(), 1);
    assert_eq!(value(handle.as_mut(), msr), idle(&table, msr, 5));
    let mut entry = [Entry { msr, status: 7, value: 77 }];
    assert_eq!(handle.set_default(Class::Perf, &mut entry).unwrap(), 1);
    assert_eq!(entry[0], Entry { msr, status: 0, value: reset });
    assert_eq!(value(handle.as_mut(), msr), reset);
    // Giving the class away and taking it again leaves nothing behind.
    assert_eq!(handle.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 6))]).unwrap(), 1);
    handle.allocate(Class::Perf, DomId(0), Scope::Unavailable).unwrap();
    handle.allocate(Class::Perf, DomId(0), Scope::Local).unwrap();
    assert_eq!(value(handle.as_mut(), msr), reset);
    // Two programs at once have one register: the last one to write is right.
    let mut other = stand.handle(ZERO);
    assert_eq!(handle.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 6))]).unwrap(), 1);
    assert_eq!(other.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 7))]).unwrap(), 1);
    assert_eq!(value(handle.as_mut(), msr), idle(&table, msr, 7));
    handle.allocate(Class::Perf, DomId(0), Scope::Unavailable).unwrap();
}

fn only_domain_0_allocates(stand: &mut dyn Stand) {
    for caller in [of(1, 0), of(2, 1), host(1, 0)] {
        let mut handle = stand.handle(caller);
        for scope in [Scope::Unavailable, Scope::Local, Scope::Global] {
            assert_eq!(errno(handle.allocate(Class::Perf, caller.domain, scope)), -libc::EPERM, "{caller:?} {scope:?}");
        }
    }
    assert_eq!(errno(stand.handle(of(1, 99)).read(Class::Perf, &mut [])), -libc::ESRCH);
    assert_eq!(errno(stand.handle(host(0, 99)).read(Class::Perf, &mut [])), -libc::ESRCH);
}

fn global_excludes_and_nobody_is_evicted(stand: &mut dyn Stand) {
    let table = stand.table();
    let (msr, _) = select(&table);
    let mut zero = stand.handle(ZERO);
    for domain in [1, 2] {
        zero.allocate(Class::Perf, DomId(domain), Scope::Local).unwrap();
    }
    let mut one = stand.handle(of(1, 0));
    assert_eq!(one.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 5))]).unwrap(), 1);
    match zero.allocate(Class::Perf, DomId(0), Scope::Global) {
        Err(Error::Busy { class: Class::Perf, mut holders }) => {
            holders.sort();
            assert_eq!(holders, [DomId(1), DomId(2)]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(value(one.as_mut(), msr), idle(&table, msr, 5));
    for domain in [1, 2] {
        zero.allocate(Class::Perf, DomId(domain), Scope::Unavailable).unwrap();
    }
    // GLOBAL may go to any domain; then no other has anything.
    zero.allocate(Class::Perf, DomId(2), Scope::Global).unwrap();
    let mut holder = stand.handle(host(2, 1));
    assert_eq!(holder.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 6))]).unwrap(), 1);
    for scope in [Scope::Local, Scope::Global] {
        match zero.allocate(Class::Perf, DomId(1), scope) {
            Err(Error::Busy { holders, .. }) => assert_eq!(holders, [DomId(2)]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(errno(one.read(Class::Perf, &mut [])), -libc::EACCES);
    assert_eq!(errno(stand.handle(of(2, 0)).read(Class::Perf, &mut [])), -libc::EACCES, "GLOBAL is of CPUs");
    assert_eq!(errno(stand.handle(host(0, 1)).read(Class::Perf, &mut [])), -libc::EACCES);
    assert_eq!(value(holder.as_mut(), msr), idle(&table, msr, 6));
    let reset = table.find(Class::Perf, msr).unwrap().row.reset;
    assert_eq!(value(stand.handle(host(2, 0)).as_mut(), msr), reset, "another CPU");
}

fn no_domain_sees_another(stand: &mut dyn Stand) {
    let table = stand.table();
    let (msr, _) = select(&table);
    let mut zero = stand.handle(ZERO);
    let callers = [of(0, 0), of(0, 1), of(1, 0), of(1, 1), of(2, 0), of(2, 1)];
    for domain in 0..3 {
        zero.allocate(Class::Perf, DomId(domain), Scope::Local).unwrap();
    }
    let mut handles: Vec<_> = callers.iter().map(|&caller| stand.handle(caller)).collect();
    for (number, handle) in handles.iter_mut().enumerate().skip(1) {
        assert_eq!(
            handle.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, number as u64))]).unwrap(),
            1
        );
    }
    for _ in 0..3 {
        // Whoever runs: each reads its own.
        for (number, handle) in handles.iter_mut().enumerate() {
            assert_eq!(value(handle.as_mut(), msr), idle(&table, msr, number as u64), "{:?}", callers[number]);
        }
        stand.run();
    }
}

fn a_domain_that_dies_gives_everything_back(stand: &mut dyn Stand) {
    let table = stand.table();
    let (msr, _) = select(&table);
    let mut zero = stand.handle(ZERO);
    zero.allocate(Class::Perf, DomId(1), Scope::Global).unwrap();
    let mut handle = stand.handle(host(1, 0));
    assert_eq!(handle.write(Class::Perf, false, &mut [Entry::with(msr, idle(&table, msr, 5))]).unwrap(), 1);
    stand.kill(DomId(1));
    assert_eq!(errno(handle.read(Class::Perf, &mut [])), -libc::ESRCH);
    zero.allocate(Class::Perf, DomId(0), Scope::Global).unwrap();
    let reset = table.find(Class::Perf, msr).unwrap().row.reset;
    assert_eq!(value(stand.handle(host(0, 0)).as_mut(), msr), reset);
}

fn cycles(table: &Table, period: u64) -> Program {
    let setup = Setup { event: Counted::Cycles, user: true, kernel: true, period: Some(period) };
    counting::program(table, &[setup]).unwrap()
}

/// Starts counting cycles on CPU 0, GLOBAL, with this handler.
fn armed(stand: &mut dyn Stand, handler: Handler) -> (Box<dyn Contract + Send>, Program) {
    stand.handle(ZERO).allocate(Class::Perf, DomId(0), Scope::Global).unwrap();
    let mut handle = stand.handle(host(0, 0));
    handle.irq_handler(Class::Perf, Some(handler)).unwrap();
    let program = cycles(&stand.table(), 50_000);
    let mut start = program.start.clone();
    assert_eq!(handle.write(Class::Perf, false, &mut start).unwrap(), start.len());
    (handle, program)
}

fn interrupts_come_as_often_as_they_are_rearmed(stand: &mut dyn Stand) {
    let mut rearm = stand.rearming(host(0, 0));
    let reload = cycles(&stand.table(), 50_000).reload;
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let handler: Handler = Box::new(move |overflow, cpu| {
        keep.lock().unwrap().push((overflow.overflow, overflow.pcpu, cpu));
        rearm.write(Class::Perf, true, &mut reload.clone()).is_ok_and(|done| done == 1)
    });
    let (mut handle, program) = armed(stand, handler);
    stand.run();
    let seen = told.lock().unwrap().clone();
    assert!(seen.len() > 10, "{}", seen.len());
    assert!(seen.iter().all(|&told| told == (1 << program.bits[0], 0, 0)), "{seen:?}");
    // Without a handler none is told, and none comes back for it.
    handle.irq_handler(Class::Perf, None).unwrap();
    stand.run();
    assert_eq!(told.lock().unwrap().len(), seen.len());
}

fn what_is_not_claimed_comes_once(stand: &mut dyn Stand) {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let handler: Handler = Box::new(move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        false
    });
    let (mut handle, program) = armed(stand, handler);
    for rounds in 1..4 {
        stand.run();
        stand.run();
        assert_eq!(told.load(Ordering::Relaxed), rounds);
        // Rearmed from outside: once more.
        let mut reload = program.reload.clone();
        assert_eq!(handle.write(Class::Perf, true, &mut reload).unwrap(), 1);
    }
}
