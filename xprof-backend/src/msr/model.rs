//! The contract held against a second, obviously correct model: any bytes are a sequence of calls by several domains,
//! with domain switches, counting, interrupts, births and deaths between, and after each the arbiter must have answered as
//! the model does. For property tests and the fuzz target; the feature `model` makes it public.
//!
//! The model keeps one value for each register of each vCPU and CPU in one map, and knows nothing of hardware, saving
//! or order. The hardware below the arbiter asserts that no register outside the class tables is ever touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::arbiter::{Arbiter, Handle, MsrHardware};
use super::wire::encoded::{self, Encoded};
use super::{
    Access, Caller, Class, Contract, DomId, Entry, Error, Fault, Handler, Kind, Limits, On, Overflow, Rearm, Scope,
    Table, tables,
};

const CPUS: u32 = 2;
const DOMAINS: u16 = 3;
const VCPUS: u32 = 2;
const CCCR_OVF: u64 = 1 << 31;

/// Plain registers.
#[derive(Debug)]
struct Registers {
    table: Table,
    values: BTreeMap<(u32, u32), u64>,
}

impl Registers {
    fn known(&self, msr: u32) -> Option<super::table::Found> {
        [Class::Perf, Class::Debug].into_iter().find_map(|class| self.table.find(class, msr))
    }

    /// The address that holds the value of another.
    fn first(&self, msr: u32) -> u32 {
        self.known(msr).map_or(msr, |found| first(&self.table, msr, &found))
    }
}

/// Second addresses of counters and selects lead to their first.
fn first(table: &Table, msr: u32, found: &super::table::Found) -> u32 {
    let kind = match found.row.kind {
        Kind::CounterAlias => Kind::Counter,
        Kind::Select => Kind::Select,
        _ => return msr,
    };
    table.address(kind, found.counter()).unwrap_or(msr)
}

impl MsrHardware for Registers {
    fn read(&mut self, cpu: u32, msr: u32) -> Result<u64, Fault> {
        let found = self.known(msr);
        assert!(cpu < CPUS && found.is_some(), "read of {msr:#x} on CPU {cpu}");
        let reset = found.map_or(0, |found| found.row.reset);
        Ok(self.values.get(&(cpu, self.first(msr))).copied().unwrap_or(reset))
    }

    fn write(&mut self, cpu: u32, msr: u32, value: u64) -> Result<(), Fault> {
        let found = self.known(msr);
        assert!(cpu < CPUS && found.is_some(), "write of {msr:#x} on CPU {cpu}");
        let Some(found) = found else { return Err(Fault::Refused) };
        let kept = found.accept(value);
        assert!(kept.is_ok(), "{value:#x} to {msr:#x} is not allowed");
        let status = self.table.address(Kind::Status, 0);
        match found.row.kind {
            Kind::StatusClear => *self.values.entry((cpu, status.unwrap_or(msr))).or_default() &= !value,
            Kind::StatusSet => *self.values.entry((cpu, status.unwrap_or(msr))).or_default() |= value,
            _ => {
                self.values.insert((cpu, self.first(msr)), kept.unwrap_or(value));
            }
        }
        Ok(())
    }

    fn mask(&mut self, cpu: u32, _masked: bool) {
        assert!(cpu < CPUS);
    }
}

/// What must be true.
#[derive(Debug, Default)]
struct Model {
    /// vCPUs of each domain that lives.
    domains: BTreeMap<DomId, u32>,
    /// (class, domain) -> scope.
    held: BTreeMap<(Class, DomId), Scope>,
    running: BTreeMap<u32, (DomId, u32)>,
    values: BTreeMap<(Class, Caller, u32), u64>,
    status: BTreeMap<Caller, u64>,
    /// Handlers: do they claim?
    handlers: BTreeMap<(Class, Caller), bool>,
    unclaimed: BTreeMap<Caller, u64>,
    stray: u64,
    /// Over the wire: handlers that did not claim, and have not rearmed since.
    refusing: BTreeSet<Caller>,
}

impl Model {
    fn caller_exists(&self, caller: Caller) -> bool {
        match (self.domains.get(&caller.domain), caller.on) {
            (Some(vcpus), On::Vcpu(vcpu)) => vcpu < *vcpus,
            (Some(_), On::Cpu(cpu)) => cpu < CPUS,
            (None, _) => false,
        }
    }

    /// The errno of a call that cannot begin.
    fn refusal(&self, caller: Caller, class: Class, entries: usize) -> Option<i32> {
        if class == Class::Invalid {
            return Some(libc::EINVAL);
        }
        if !self.caller_exists(caller) {
            return Some(libc::ESRCH);
        }
        let wanted = match caller.on {
            On::Vcpu(_) => Scope::Local,
            On::Cpu(_) => Scope::Global,
        };
        if self.held.get(&(class, caller.domain)) != Some(&wanted) {
            return Some(libc::EACCES);
        }
        (entries > super::MAX_ENTRIES).then_some(libc::E2BIG)
    }

    fn release(&mut self, class: Class, domain: DomId) {
        self.held.remove(&(class, domain));
        self.values.retain(|(of, caller, _), _| *of != class || caller.domain != domain);
        self.handlers.retain(|(of, caller), _| *of != class || caller.domain != domain);
        if class == Class::Perf {
            self.status.retain(|caller, _| caller.domain != domain);
            self.unclaimed.retain(|caller, _| caller.domain != domain);
        }
    }

    fn allocate(&mut self, caller: Caller, class: Class, domain: DomId, scope: Scope) -> Result<(), (i32, Vec<DomId>)> {
        if caller.domain != DomId::ZERO {
            return Err((libc::EPERM, Vec::new()));
        }
        if class == Class::Invalid {
            return Err((libc::EINVAL, Vec::new()));
        }
        if !self.domains.contains_key(&domain) {
            return Err((libc::ESRCH, Vec::new()));
        }
        let others = self.held.iter().filter(|((of, holder), _)| *of == class && *holder != domain);
        let others: Vec<DomId> = others
            .filter(|(_, held)| scope == Scope::Global || (scope == Scope::Local && **held == Scope::Global))
            .map(|((_, holder), _)| *holder)
            .collect();
        if !others.is_empty() {
            return Err((libc::EBUSY, others));
        }
        let before = self.held.get(&(class, domain)).copied().unwrap_or(Scope::Unavailable);
        if before != scope {
            self.release(class, domain);
            if scope != Scope::Unavailable {
                self.held.insert((class, domain), scope);
            }
        }
        Ok(())
    }

    fn get(&self, table: &Table, class: Class, caller: Caller, msr: u32) -> Result<u64, Fault> {
        let found = table.find(class, msr).ok_or(Fault::Unknown)?;
        if found.row.kind == Kind::Status {
            return Ok(self.status.get(&caller).copied().unwrap_or(0));
        }
        if found.row.access == Access::ReadOnly && class == Class::Debug && matches!(caller.on, On::Vcpu(_)) {
            return Err(Fault::NotHere);
        }
        let at = first(table, msr, &found);
        Ok(self.values.get(&(class, caller, at)).copied().unwrap_or(found.row.reset))
    }

    fn set(&mut self, table: &Table, class: Class, caller: Caller, msr: u32, value: u64) -> Result<(), Fault> {
        let found = table.find(class, msr).ok_or(Fault::Unknown)?;
        let kept = found.accept(value)?;
        let status = self.status.entry(caller).or_default();
        match found.row.kind {
            Kind::StatusClear => *status &= !value,
            Kind::StatusSet => *status |= value,
            _ => {
                self.values.insert((class, caller, first(table, msr, &found)), kept);
            }
        }
        Ok(())
    }

    fn rearm(&mut self, table: &Table, class: Class, caller: Caller) {
        let status = self.status.get(&caller).copied().unwrap_or(0);
        match table.family.rearm {
            Rearm::Perfmon if class == Class::Perf => {
                for msr in (0..64).filter(|bit| status >> bit & 1 != 0).filter_map(|bit| table.overflowed(bit)) {
                    if self.get(table, class, caller, msr) == Ok(0) {
                        let _ = self.set(table, class, caller, msr, 1);
                    }
                }
            }
            Rearm::NetBurst => {
                for ((of, at, msr), value) in &mut self.values {
                    let cccr = table.find(*of, *msr).is_some_and(|found| found.row.kind == Kind::Cccr);
                    if *of == class && *at == caller && cccr {
                        *value &= !CCCR_OVF;
                    }
                }
            }
            _ => {}
        }
        if class == Class::Perf {
            self.status.remove(&caller);
        }
    }

    /// Whose the registers of a class on a CPU are now.
    fn on_hardware(&self, class: Class, cpu: u32) -> Option<Caller> {
        if let Some(((_, domain), _)) =
            self.held.iter().find(|((of, _), scope)| *of == class && **scope == Scope::Global)
        {
            return Some(Caller { domain: *domain, on: On::Cpu(cpu) });
        }
        let (domain, vcpu) = self.running.get(&cpu).copied()?;
        self.held.contains_key(&(class, domain)).then_some(Caller { domain, on: On::Vcpu(vcpu) })
    }
}

/// Bytes, taken one after the other; 0 when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::from(self.next()) % end
    }

    fn word(&mut self) -> u64 {
        // Values that matter: small ones, ones near the top, single bits, anything.
        let kind = self.next();
        let byte = u64::from(self.next());
        match kind % 5 {
            0 => byte,
            1 => byte.wrapping_neg(),
            2 => 1 << (byte % 64),
            3 => byte << 24 | 0x8000_0000,
            _ => (0..8).fold(0, |word, _| word << 8 | u64::from(self.next())),
        }
    }

    fn class(&mut self) -> Class {
        match self.next() % 16 {
            0 => Class::Invalid,
            1..5 => Class::Debug,
            _ => Class::Perf,
        }
    }

    fn domain(&mut self) -> DomId {
        // One that never lives among them.
        DomId(self.below(u32::from(DOMAINS) + 1) as u16)
    }

    fn caller(&mut self) -> Caller {
        let domain = self.domain();
        let number = self.below(VCPUS + 1);
        let on = if self.next().is_multiple_of(2) { On::Vcpu(number) } else { On::Cpu(number) };
        Caller { domain, on }
    }
}

/// What a handler saw.
type Seen = Arc<Mutex<Vec<(Class, Caller, Overflow)>>>;

struct World {
    table: Table,
    arbiter: Arc<Mutex<Arbiter<Registers>>>,
    model: Model,
    seen: Seen,
    /// Handles through the wire form, where that is tried.
    encoded: Option<BTreeMap<Caller, Encoded>>,
}

/// The table that the model is run on.
fn table(which: u8) -> Table {
    let names = ["perfmon-v2", "p6", "netburst", "amd-17h", "perfmon-v4", "amd-perfmon-v2", "pentium-m", "amd-k8"];
    let name = names[usize::from(which) % names.len()];
    let family = tables::named(name).unwrap_or(&tables::NO_PMU);
    let general = if family.rearm == Rearm::NetBurst { 18 } else { 4 };
    let general = if matches!(family.rearm, Rearm::P6 | Rearm::PentiumM) { 2 } else { general };
    Table { family, limits: Limits { general, fixed: 3, general_width: 40, fixed_width: 40 } }
}

/// Runs the calls that `bytes` stand for, through calls or through the wire form.
///
/// # Panics
/// When the arbiter and the model disagree.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let table = table(bytes.next());
    let wire = bytes.next().is_multiple_of(2);
    let registers = Registers { table, values: BTreeMap::new() };
    let mut world = World {
        table,
        arbiter: Arc::new(Mutex::new(Arbiter::new(registers, table, CPUS))),
        model: Model::default(),
        seen: Seen::default(),
        encoded: wire.then(BTreeMap::new),
    };
    for domain in 0..DOMAINS {
        world.create(DomId(domain));
    }
    while !bytes.0.is_empty() {
        world.step(&mut bytes);
    }
    world.compare_all();
    world.end();
}

impl World {
    fn arbiter(&self) -> std::sync::MutexGuard<'_, Arbiter<Registers>> {
        self.arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&mut self, domain: DomId) {
        self.arbiter().create_domain(domain, VCPUS);
        self.model.domains.insert(domain, VCPUS);
    }

    fn handle(&mut self, caller: Caller) -> Box<dyn Contract> {
        let handle = Handle::new(&self.arbiter, caller);
        let number = match caller.on {
            On::Vcpu(number) | On::Cpu(number) => number,
        };
        match &mut self.encoded {
            None => Box::new(handle),
            Some(map) => {
                Box::new(map.entry(caller).or_insert_with(|| encoded::inline(Box::new(handle), number).0).clone())
            }
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.next() % 16 {
            0 | 1 => self.allocate(bytes),
            2..6 => self.batch(bytes, 0),
            6 | 7 => self.batch(bytes, 1),
            8 => self.batch(bytes, 2),
            9 => self.handler(bytes),
            10 | 11 => self.switch(bytes),
            12 | 13 => self.count(bytes),
            14 => self.interrupt(bytes),
            _ => match bytes.next() % 8 {
                0 => self.kill(bytes),
                1 => {
                    let domain = DomId(bytes.below(u32::from(DOMAINS)) as u16);
                    self.create(domain);
                }
                _ => self.compare_all(),
            },
        }
    }

    fn allocate(&mut self, bytes: &mut Bytes<'_>) {
        // Mostly domain 0, or nothing would ever be held.
        let caller =
            if bytes.next().is_multiple_of(8) { bytes.caller() } else { Caller { domain: DomId(0), on: On::Vcpu(0) } };
        let (class, domain) = (bytes.class(), bytes.domain());
        let scope = [Scope::Unavailable, Scope::Local, Scope::Global][bytes.below(3) as usize];
        let answer = self.handle(caller).allocate(class, domain, scope);
        let expected = self.model.allocate(caller, class, domain, scope);
        match (answer, expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err((errno, holders))) => {
                assert_eq!(error.errno(), -errno, "{caller:?} {class:?} {domain} {scope:?}");
                if let Error::Busy { holders: mut named, .. } = error {
                    named.sort();
                    assert_eq!(named, holders);
                }
            }
            other => panic!("{caller:?} {class:?} {domain} {scope:?}: {other:?}"),
        }
    }

    fn register(&self, class: Class, bytes: &mut Bytes<'_>) -> u32 {
        let list: Vec<u32> = self.table.registers(class).map(|(msr, _)| msr).collect();
        let pick = bytes.next();
        match (list.is_empty(), pick) {
            (true, _) | (_, 0..4) => 0xdead_0000 | u32::from(pick),
            _ => list[usize::from(pick) % list.len()],
        }
    }

    /// write (0), read (1), set_default (2).
    fn batch(&mut self, bytes: &mut Bytes<'_>, call: u8) {
        let (caller, class, rearm) = (bytes.caller(), bytes.class(), bytes.next().is_multiple_of(4));
        let length = match bytes.next() {
            255 => super::MAX_ENTRIES + 1,
            other => usize::from(other % 5),
        };
        let entry = |bytes: &mut Bytes<'_>| Entry { msr: self.register(class, bytes), status: 99, value: bytes.word() };
        let mut entries: Vec<Entry> = (0..length).map(|_| entry(bytes)).collect();
        let before = entries.clone();
        let mut handle = self.handle(caller);
        let answer = match call {
            0 => handle.write(class, rearm, &mut entries),
            1 => handle.read(class, &mut entries),
            _ => handle.set_default(class, &mut entries),
        };
        if let Some(errno) = self.model.refusal(caller, class, length) {
            // Through the wire form a batch that is too long is refused before anybody asks who calls.
            let too_long = length > super::MAX_ENTRIES && self.encoded.is_some();
            let errno = if too_long { libc::E2BIG } else { errno };
            assert_eq!(answer.map_err(|error| error.errno()), Err(-errno), "{caller:?} {class:?} {length}");
            assert_eq!(entries, before);
            return;
        }
        let table = self.table;
        let mut expected = before.clone();
        let mut done = 0;
        for entry in &mut expected {
            let msr = entry.msr;
            let one = match call {
                0 => {
                    let one = self.model.set(&table, class, caller, msr, entry.value);
                    self.netburst_clears(class, caller, msr, rearm && one.is_ok());
                    one
                }
                1 => self.model.get(&table, class, caller, msr).map(|value| entry.value = value),
                _ => match table.find(class, msr) {
                    None => Err(Fault::Unknown),
                    Some(found) if found.row.access == Access::ReadOnly => Err(Fault::ReadOnly),
                    Some(found) => {
                        self.model.values.remove(&(class, caller, first(&table, msr, &found)));
                        entry.value = found.row.reset;
                        Ok(())
                    }
                },
            };
            entry.status = one.err().map_or(0, Fault::status);
            if one.is_err() {
                break;
            }
            done += 1;
        }
        if call == 0 && rearm && done == length {
            self.model.rearm(&table, class, caller);
            if class == Class::Perf {
                self.model.refusing.remove(&caller);
            }
        }
        assert_eq!(answer.map_err(|error| error.errno()), Ok(done), "{caller:?} {class:?} {before:x?}");
        assert_eq!(entries, expected, "{caller:?} {class:?} {before:x?}");
    }

    /// NetBurst: a counter that is rearmed has the flag of its CCCR cleared, even when a later entry fails.
    fn netburst_clears(&mut self, class: Class, caller: Caller, msr: u32, rearmed: bool) {
        let Some(found) = self.table.find(class, msr) else { return };
        if !rearmed || self.table.family.rearm != Rearm::NetBurst || found.row.kind != Kind::Counter {
            return;
        }
        let cccr = self.table.address(Kind::Cccr, found.counter());
        if let Some(value) = cccr.and_then(|cccr| self.model.values.get_mut(&(class, caller, cccr))) {
            *value &= !CCCR_OVF;
        }
    }

    fn handler(&mut self, bytes: &mut Bytes<'_>) {
        let (caller, class, what) = (bytes.caller(), bytes.class(), bytes.next() % 3);
        let claims = what == 1;
        let seen = Arc::clone(&self.seen);
        let handler: Option<Handler> = (what != 0).then(|| -> Handler {
            Box::new(move |overflow, _| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push((class, caller, *overflow));
                claims
            })
        });
        let answer = self.handle(caller).irq_handler(class, handler);
        match self.model.refusal(caller, class, 0) {
            Some(errno) => assert_eq!(answer.map_err(|error| error.errno()), Err(-errno)),
            None => {
                assert!(answer.is_ok());
                if class == Class::Perf {
                    self.model.refusing.remove(&caller);
                }
                match what {
                    0 => self.model.handlers.remove(&(class, caller)),
                    _ => self.model.handlers.insert((class, caller), claims),
                };
            }
        }
    }

    fn switch(&mut self, bytes: &mut Bytes<'_>) {
        let cpu = bytes.below(CPUS);
        let next = (!bytes.next().is_multiple_of(4))
            .then(|| (DomId(bytes.below(u32::from(DOMAINS)) as u16), bytes.below(VCPUS)));
        self.arbiter().switch(cpu, next);
        let alive = next.filter(|(domain, _)| self.model.domains.contains_key(domain));
        let elsewhere = self.model.running.iter().any(|(other, who)| *other != cpu && Some(*who) == alive);
        match alive.filter(|_| !elsewhere) {
            Some(who) => self.model.running.insert(cpu, who),
            None => self.model.running.remove(&cpu),
        };
    }

    /// Counters that are on the hardware count.
    fn count(&mut self, bytes: &mut Bytes<'_>) {
        let (cpu, by) = (bytes.below(CPUS), bytes.word() >> bytes.below(64));
        // A counter that could not be put back whole may count 2^31 before the next switch.
        let by = by % (1 << 30);
        let Some(caller) = self.model.on_hardware(Class::Perf, cpu) else { return };
        let table = self.table;
        for ((class, at, msr), value) in &mut self.model.values {
            let Some(found) = table.find(*class, *msr).filter(|_| *class == Class::Perf && *at == caller) else {
                continue;
            };
            if matches!(found.row.kind, Kind::Counter | Kind::Fixed) {
                *value = value.wrapping_add(by) & found.mask();
                let mut arbiter = self.arbiter.lock().unwrap_or_else(PoisonError::into_inner);
                let raw = arbiter.hardware().values.entry((cpu, *msr)).or_default();
                *raw = raw.wrapping_add(by) & found.mask();
            }
        }
    }

    fn interrupt(&mut self, bytes: &mut Bytes<'_>) {
        let (cpu, bit) = (bytes.below(CPUS), bytes.below(4));
        let target = self.model.on_hardware(Class::Perf, cpu);
        let status = self.table.address(Kind::Status, 0);
        // Nothing overflows that was not set up.
        let wrote =
            |caller: &Caller| self.model.values.keys().any(|(class, at, _)| *class == Class::Perf && at == caller);
        let holder = target.filter(|caller| status.is_some() && wrote(caller));
        if let (Some(caller), Some(status)) = (holder, status) {
            *self.model.status.entry(caller).or_default() |= 1 << bit;
            *self.arbiter().hardware().values.entry((cpu, status)).or_default() |= 1 << bit;
        }
        let state = Overflow { ip: u64::from(bytes.next()), ..Overflow::default() };
        let delivery = self.arbiter().interrupt(cpu, state);
        if let Some(mut delivery) = delivery {
            let claimed = (delivery.handler)(&delivery.overflow, delivery.cpu);
            self.arbiter().finish(delivery, claimed);
        }
        if let Some(map) = &self.encoded {
            map.values().for_each(|encoded| {
                encoded.poll();
            });
        }
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(caller) = target else {
            assert_eq!(seen, [], "nobody holds CPU {cpu}");
            self.model.stray += 1;
            assert_eq!(self.arbiter().stray(), self.model.stray);
            return;
        };
        match self.model.handlers.get(&(Class::Perf, caller)) {
            Some(_) if self.model.refusing.contains(&caller) => {
                assert_eq!(seen, [], "it was told already");
                *self.model.unclaimed.entry(caller).or_default() += 1;
            }
            Some(claims) => {
                let who: Vec<_> = seen.iter().map(|(class, caller, _)| (*class, *caller)).collect();
                assert_eq!(who, [(Class::Perf, caller)]);
                let overflow = seen[0].2;
                assert_eq!((overflow.ip, overflow.pcpu), (state.ip, cpu));
                if let Some((domain, vcpu)) = self.model.running.get(&cpu) {
                    assert_eq!((overflow.domain, overflow.vcpu), (*domain, *vcpu));
                }
                if !claims && self.encoded.is_some() {
                    self.model.refusing.insert(caller);
                } else if !claims {
                    *self.model.unclaimed.entry(caller).or_default() += 1;
                }
            }
            None => {
                assert_eq!(seen, []);
                *self.model.unclaimed.entry(caller).or_default() += 1;
            }
        }
        let unclaimed = self.arbiter().unclaimed(caller, Class::Perf).unwrap_or(0);
        assert_eq!(unclaimed, self.model.unclaimed.get(&caller).copied().unwrap_or(0));
    }

    fn kill(&mut self, bytes: &mut Bytes<'_>) {
        // Domain 0 does not die.
        let domain = DomId(1 + bytes.below(u32::from(DOMAINS) - 1) as u16);
        self.arbiter().destroy_domain(domain);
        for class in [Class::Perf, Class::Debug] {
            self.model.release(class, domain);
        }
        self.model.domains.remove(&domain);
        self.model.running.retain(|_, (running, _)| *running != domain);
    }

    /// Every holder reads every register.
    fn compare_all(&mut self) {
        for ((class, domain), scope) in self.model.held.clone() {
            let places: Vec<On> = match scope {
                Scope::Global => (0..CPUS).map(On::Cpu).collect(),
                _ => (0..VCPUS).map(On::Vcpu).collect(),
            };
            for on in places {
                let caller = Caller { domain, on };
                let mut handle = self.handle(caller);
                for (msr, _) in self.table.registers(class) {
                    let mut entry = [Entry::of(msr)];
                    let done = handle.read(class, &mut entry);
                    let value = done.map(|_| entry[0].fault().map_or(Ok(entry[0].value), Err));
                    let expected = self.model.get(&self.table, class, caller, msr);
                    assert_eq!(value.map_err(|error| error.errno()), Ok(expected), "{caller:?} {class:?} {msr:#x}");
                }
            }
        }
    }

    /// When everything is released, everything has its default.
    fn end(&mut self) {
        for class in [Class::Perf, Class::Debug] {
            for domain in 0..DOMAINS {
                let zero = Caller { domain: DomId(0), on: On::Vcpu(0) };
                let _ = self.arbiter().allocate(zero, class, DomId(domain), Scope::Unavailable);
            }
        }
        let mut arbiter = self.arbiter();
        for (&(cpu, msr), &value) in &arbiter.hardware().values {
            let reset = self.table.registers(Class::Perf).chain(self.table.registers(Class::Debug));
            let reset = reset.into_iter().find(|(at, _)| *at == msr).map_or(0, |(_, found)| found.row.reset);
            assert_eq!(value, reset, "CPU {cpu} keeps {value:#x} in {msr:#x}");
        }
    }
}

/// Feeds a server whatever bytes there are, as cells of its request ring and as positions: it must answer or not, and
/// touch nothing outside the tables.
pub fn forge(bytes: &[u8]) {
    use super::wire::encoded::Server;
    use super::wire::ring::ring;
    use super::wire::{CELL, Cell, LONGEST, OVERFLOW_CELLS, response_cells};
    use std::sync::atomic::Ordering;

    let (which, bytes) = bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest));
    let table = table(which);
    let registers = Registers { table, values: BTreeMap::new() };
    let arbiter = Arc::new(Mutex::new(Arbiter::new(registers, table, CPUS)));
    let caller = Caller { domain: DomId(0), on: On::Cpu(0) };
    let (mut requests, take_requests) = ring(2 * LONGEST);
    let (give_responses, mut responses) = ring(2 * LONGEST);
    let (give_overflows, _overflows) = ring(4 * OVERFLOW_CELLS);
    let handle = Box::new(Handle::new(&arbiter, caller));
    let mut server = Server::new(handle, take_requests, give_responses, give_overflows);
    let mut lock = arbiter.lock().unwrap_or_else(PoisonError::into_inner);
    lock.create_domain(DomId(0), VCPUS);
    lock.create_domain(DomId(1), VCPUS);
    let _ = lock.allocate(caller, Class::Perf, DomId(0), Scope::Global);
    drop(lock);
    let mut record = Vec::new();
    for chunk in bytes.chunks(7 * CELL) {
        let (cells, rest) = chunk.as_chunks::<CELL>();
        let cells: Vec<Cell> = cells.to_vec();
        if rest.is_empty() {
            requests.push(&cells);
        } else if let Some(bytes) = rest.first_chunk::<8>() {
            requests.words()[usize::from(rest[0]) % 4].store(u64::from_le_bytes(*bytes), Ordering::Release);
        }
        server.serve();
        while responses.next(&mut record, response_cells) == Ok(true) {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_arbiter_is_the_model(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            super::run(&bytes);
        }

        #[test]
        fn forged_requests_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            super::forge(&bytes);
        }
    }
}
