use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::msr::tables::{amd, perfmon};
use crate::msr::{Access, Caller, Kind, Limits, conformance};

/// Registers that hold what is written to them; every access is noted. Others fault.
#[derive(Clone, Debug, Default)]
struct Fake {
    values: Arc<Mutex<BTreeMap<u32, u64>>>,
    writes: Arc<Mutex<Vec<(u32, u64)>>>,
    refuses: Arc<Mutex<BTreeMap<u32, i32>>>,
}

impl Fake {
    fn of(table: &Table, set: &[(u32, u64)]) -> Fake {
        let fake = Fake::default();
        for class in [Class::Perf, Class::Debug] {
            fake.values.lock().unwrap().extend(table.registers(class).map(|(msr, _)| (msr, 0)));
        }
        fake.values.lock().unwrap().extend(set.iter().copied());
        fake
    }

    fn get(&self, msr: u32) -> u64 {
        self.values.lock().unwrap()[&msr]
    }
}

impl std::fmt::Display for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the fake")
    }
}

impl Msrs for Fake {
    fn read(&self, msr: u32) -> io::Result<u64> {
        self.values.lock().unwrap().get(&msr).copied().ok_or_else(|| io::Error::from_raw_os_error(libc::EIO))
    }

    fn write(&self, msr: u32, value: u64) -> io::Result<()> {
        if let Some(&errno) = self.refuses.lock().unwrap().get(&msr) {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.values.lock().unwrap().insert(msr, value);
        self.writes.lock().unwrap().push((msr, value));
        Ok(())
    }
}

const CORE_2: Table =
    Table { family: &perfmon::V2, limits: Limits { general: 2, fixed: 3, general_width: 40, fixed_width: 40 } };
const ZEN: Table =
    Table { family: &amd::PERFMON_V2, limits: Limits { general: 6, fixed: 0, general_width: 48, fixed_width: 0 } };
const EN: u64 = 1 << 22;

struct Lab {
    dir: tempfile::TempDir,
    fake: Fake,
    registers: Registers<Fake>,
}

fn lab(table: Table, set: &[(u32, u64)]) -> Lab {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::of(&table, set);
    let mut registers = Registers::over(fake.clone(), 0, table, dir.path());
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    Lab { dir, fake, registers }
}

/// What happened to a batch of writes: how many, and the status of the one that failed.
fn write(lab: &mut Lab, entries: &[(u32, u64)]) -> (usize, Option<Fault>) {
    let mut entries: Vec<Entry> = entries.iter().map(|&(msr, value)| Entry::with(msr, value)).collect();
    let count = lab.registers.write(Class::Perf, false, &mut entries).unwrap();
    (count, entries.get(count).and_then(Entry::fault))
}

#[test]
fn a_batch_stops_at_its_first_bad_entry() {
    let mut lab = lab(CORE_2, &[]);
    assert_eq!(write(&mut lab, &[]), (0, None));
    assert_eq!(write(&mut lab, &[(0xc1, 5), (0xc1, 7), (0x186, EN | 0x3c)]), (3, None));
    assert_eq!(*lab.fake.writes.lock().unwrap(), [(0xc1, 5), (0xc1, 7), (0x186, EN | 0x3c)]);
    // Unknown (the third counter, a register of no class), reserved (bit 21), read-only (TSC).
    for (bad, fault) in [
        ((0xc3, 0), Fault::Unknown),
        ((0x1a0, 0), Fault::Unknown),
        ((0x187, 1 << 21), Fault::Reserved),
        ((0x10, 0), Fault::ReadOnly),
    ] {
        lab.fake.writes.lock().unwrap().clear();
        assert_eq!(write(&mut lab, &[(0xc2, 1), bad, (0xc1, 9)]), (1, Some(fault)));
        assert_eq!(*lab.fake.writes.lock().unwrap(), [(0xc2, 1)]);
    }
    let mut many = vec![Entry::of(0x10); MAX_ENTRIES + 1];
    assert!(matches!(lab.registers.read(Class::Perf, &mut many), Err(Error::TooMany(129))));
    assert!(matches!(lab.registers.read(Class::Debug, &mut []), Err(Error::NotHeld { .. })));
    assert!(matches!(lab.registers.read(Class::Invalid, &mut []), Err(Error::NoClass)));
    assert!(matches!(lab.registers.irq_handler(Class::Perf, None), Err(Error::Unsupported(_))));
    assert_eq!(lab.registers.write(Class::Perf, true, &mut [Entry::with(0xc1, 8)]).unwrap(), 1);
}

#[test]
fn a_register_that_faults_is_refused_and_the_prefix_done() {
    let mut lab = lab(CORE_2, &[]);
    lab.fake.refuses.lock().unwrap().insert(0x187, libc::EIO);
    assert_eq!(write(&mut lab, &[(0xc1, 1), (0x187, EN), (0xc2, 2)]), (1, Some(Fault::Refused)));
    assert_eq!((lab.fake.get(0xc1), lab.fake.get(0xc2)), (1, 0));
    lab.fake.values.lock().unwrap().remove(&0x38e);
    let mut entries = [Entry::of(0xc1), Entry::of(0x38e), Entry::of(0xc2)];
    assert_eq!(lab.registers.read(Class::Perf, &mut entries).unwrap(), 1);
    assert_eq!((entries[0].value, entries[1].fault()), (1, Some(Fault::Refused)));
    // Rights are the whole call's.
    lab.fake.refuses.lock().unwrap().insert(0xc2, libc::EPERM);
    let refused = lab.registers.write(Class::Perf, false, &mut [Entry::with(0xc2, 1)]).unwrap_err();
    assert_eq!((refused.errno(), refused.to_string().contains("the fake")), (-libc::EPERM, true));
}

/// The kernel counts cycles on general counter 0 and on fixed counter 1, as its perf and the NMI watchdog do.
#[test]
fn what_the_kernel_counts_with_is_refused() {
    let kernel = [(0x186, EN | 1 << 16 | 0x3c), (0x38d, 0xb0), (0x38f, 0x7_0000_0003)];
    let mut lab = lab(CORE_2, &kernel);
    for taken in [(0xc1, 0), (0x186, 0), (0x30a, 0), (0x38d, 0), (0x38d, 0xbb0 & !0x10), (0x390, 1), (0x390, 1 << 33)] {
        assert_eq!(write(&mut lab, &[taken]), (0, Some(Fault::InUse)), "{taken:x?}");
    }
    assert!(lab.fake.writes.lock().unwrap().is_empty());
    // Clearing their bit of the common switch stops them; changing one's own does not.
    assert_eq!(write(&mut lab, &[(0x38f, 0x7_0000_0002)]), (0, Some(Fault::InUse)));
    let own = [(0xc2, 1), (0x187, EN | 0xc0), (0x309, 0), (0x38d, 0xb3), (0x390, 2), (0x38f, 0x3_0000_0003)];
    assert_eq!(write(&mut lab, &own), (6, None));
    // Our own enable bits do not lock us out.
    assert_eq!(write(&mut lab, &[(0xc2, 4), (0x187, 0), (0x309, 9)]), (3, None));
    assert_eq!(write(&mut lab, &[(0x38d, 0xb0)]), (1, None));
    drop(lab.registers);
    for (msr, value) in kernel {
        assert_eq!(lab.fake.get(msr), value);
    }
    assert_eq!((lab.fake.get(0x187), lab.fake.get(0xc2), lab.fake.get(0x309)), (0, 0, 0));
}

#[test]
fn zens_counters_and_ibs_in_use_are_refused() {
    let mut lab = lab(ZEN, &[(0xc001_0202, EN | 0x76), (0xc001_1033, 1 << 17 | 0x100), (0xc000_0301, 0x3f)]);
    let one = |i: u32, value| (0xc001_0200 + 2 * i, value);
    assert_eq!(write(&mut lab, &[one(1, 0)]), (0, Some(Fault::InUse)));
    assert_eq!(write(&mut lab, &[(0xc001_0203, 0)]), (0, Some(Fault::InUse)));
    // Its old address.
    assert_eq!(write(&mut lab, &[(0xc001_0005, 0)]), (0, Some(Fault::InUse)));
    assert_eq!(write(&mut lab, &[(0xc001_1033, 0)]), (0, Some(Fault::InUse)));
    assert_eq!(write(&mut lab, &[(0xc000_0301, 0x3d)]), (0, Some(Fault::InUse)));
    assert_eq!(write(&mut lab, &[one(0, EN | 0xc0), (0xc001_0201, 0), (0xc000_0301, 0x3e)]), (3, None));
}

#[test]
fn branch_records_in_use_are_refused() {
    let mut lab = lab(CORE_2, &[(0x1d9, 1)]);
    lab.registers.allocate(Class::Debug, DomId::ZERO, Scope::Local).unwrap();
    let mut entries = [Entry::with(0x1d9, 0)];
    assert_eq!(lab.registers.write(Class::Debug, false, &mut entries).unwrap(), 0);
    assert_eq!(entries[0].fault(), Some(Fault::InUse));
    lab.fake.values.lock().unwrap().insert(0x1d9, 0);
    assert_eq!(lab.registers.write(Class::Debug, false, &mut [Entry::with(0x1d9, 1)]).unwrap(), 1);
    assert_eq!(lab.registers.set_default(Class::Debug, &mut [Entry::of(0x1d9)]).unwrap(), 1);
}

#[test]
fn what_was_found_is_put_back() {
    for end in ["drop", "unavailable", "panic"] {
        let mut lab = lab(CORE_2, &[(0x186, 0x3c), (0xc1, 77)]);
        assert_eq!(write(&mut lab, &[(0xc1, 5), (0x186, EN | 0xc0), (0x38f, 1), (0x186, EN | 0xc4)]), (4, None));
        assert_eq!(lab.registers.set_default(Class::Perf, &mut [Entry::of(0x38f)]).unwrap(), 1);
        let journal = lab.dir.path().join("0-Perf");
        assert_eq!(std::fs::read_to_string(&journal).unwrap().lines().last(), Some("0 38f 1 0"));
        match end {
            "drop" => drop(lab.registers),
            "unavailable" => lab.registers.allocate(Class::Perf, DomId::ZERO, Scope::Unavailable).unwrap(),
            _ => {
                let registers = std::panic::AssertUnwindSafe(lab.registers);
                let unwound = std::panic::catch_unwind(|| {
                    let _held = registers;
                    std::panic::resume_unwind(Box::new("as a panic does"));
                });
                assert!(unwound.is_err());
            }
        }
        assert_eq!((lab.fake.get(0x186), lab.fake.get(0xc1), lab.fake.get(0x38f)), (0x3c, 77, 0), "{end}");
        assert!(!journal.exists());
    }
}

#[test]
fn two_programs_do_not_hold_a_class_at_once() {
    let lab = lab(CORE_2, &[]);
    let mut other = Registers::over(lab.fake.clone(), 0, CORE_2, lab.dir.path());
    let refused = other.allocate(Class::Perf, DomId::ZERO, Scope::Global).unwrap_err();
    assert_eq!(refused.errno(), -libc::EBUSY);
    other.allocate(Class::Debug, DomId::ZERO, Scope::Local).unwrap();
    let mut third = Registers::over(lab.fake.clone(), 1, CORE_2, lab.dir.path());
    third.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    assert_eq!(other.allocate(Class::Perf, DomId(3), Scope::Local).unwrap_err().errno(), -libc::ESRCH);
    drop(lab.registers);
    other.allocate(Class::Perf, DomId::ZERO, Scope::Global).unwrap();
}

/// A kill -9 leaves the journal; the next program is told, and what it says is undone.
#[test]
fn what_a_killed_program_left_is_found() {
    let mut lab = lab(CORE_2, &[(0x186, 0x3c)]);
    write(&mut lab, &[(0x186, EN | 0xc0), (0x38f, 1)]);
    let places = Places { devices: "/nonexistent".into(), journals: lab.dir.path().into() };
    // It lives: nothing is left.
    assert!(journal::left(&places).unwrap().is_empty());
    let text = std::fs::read(lab.dir.path().join("0-Perf")).unwrap();
    drop(lab.registers);
    std::fs::write(lab.dir.path().join("0-Perf"), [&text[..], b"0 186 torn"].concat()).unwrap();
    let mut next = Registers::over(lab.fake.clone(), 0, CORE_2, lab.dir.path());
    assert_eq!(next.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap_err().errno(), -libc::EUCLEAN);
    let left = journal::left(&places).unwrap();
    let change = |msr, old, new| journal::Change { cpu: 0, msr, old, new };
    assert_eq!(left[0].changes, [change(0x186, 0x3c, EN | 0xc0), change(0x38f, 0, 1)]);
}

#[test]
fn lines_of_a_journal_are_read_or_dropped() {
    let parse = journal::Change::parse;
    let change = journal::Change { cpu: 3, msr: 0xc001_0200, old: u64::MAX, new: 0 };
    assert_eq!(parse(&change.to_string()), Some(change));
    for bad in
        ["", "0", "0 1 2", "0 1 2 3 4", "0 1 2 3 ", "-1 1 2 3", "100000000 1 2 3", "0 1 2 g", "0 1 2 10000000000000000"]
    {
        assert_eq!(parse(bad), None, "{bad:?}");
    }
}

/// Every kind that can be written is covered by what the enable bits say or is nobody's.
#[test]
fn no_row_can_be_written_while_its_counter_is_the_kernels() {
    for table in [CORE_2, ZEN] {
        let select: Vec<(u32, u64)> = table
            .registers(Class::Perf)
            .filter(|(_, found)| found.row.kind == Kind::Select && !found.row.name.contains("LEGACY"))
            .map(|(msr, found)| (msr, if found.row.access == Access::ReadWrite { EN } else { 0 }))
            .collect();
        let mut lab = lab(table, &select);
        let counters: Vec<u32> = table
            .registers(Class::Perf)
            .filter(|(_, found)| matches!(found.row.kind, Kind::Counter | Kind::CounterAlias | Kind::Select))
            .map(|(msr, _)| msr)
            .collect();
        for msr in counters {
            assert_eq!(write(&mut lab, &[(msr, 0)]), (0, Some(Fault::InUse)), "{msr:#x}");
        }
    }
}

#[test]
fn a_missing_device_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let places = Places { devices: dir.path().into(), journals: dir.path().into() };
    let missing = Registers::open_at(&places, 0, None).unwrap_err();
    assert_eq!(missing.errno(), -libc::ENOENT);
    assert!(missing.to_string().contains("0/msr"), "{missing}");
    assert_eq!(Registers::open_at(&places, 100_000, None).unwrap_err().errno(), -libc::ESRCH);
    assert_eq!(cpus(&places).unwrap_err().errno(), -libc::ENOENT);
    // Reads at low addresses of a process's memory fail as a faulting register does: EIO.
    std::fs::create_dir(dir.path().join("0")).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", dir.path().join("0/msr")).unwrap();
    assert_eq!(cpus(&places).unwrap(), [0]);
    let mut registers = Registers::open_at(&places, 0, Some(CORE_2)).unwrap();
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    let mut entries = [Entry::of(0x186)];
    assert_eq!(registers.read(Class::Perf, &mut entries).unwrap(), 0);
    assert_eq!(entries[0].fault(), Some(Fault::Refused));
}

struct Stand(
    Table,
    conformance::Shared<Registers<Fake>>,
    #[allow(dead_code, reason = "the journals are in it")] tempfile::TempDir,
);

impl conformance::Stand for Stand {
    fn ability(&self) -> conformance::Ability {
        conformance::Ability { domains: false, writes: true, interrupts: false }
    }
    fn table(&self) -> Table {
        self.0
    }
    fn handle(&mut self, _caller: Caller) -> Box<dyn Contract + Send> {
        Box::new(self.1.clone())
    }
}

#[test]
fn the_contract_is_kept() {
    for table in [CORE_2, ZEN] {
        conformance::suite(&mut || {
            let dir = tempfile::tempdir().unwrap();
            let registers = Registers::over(Fake::of(&table, &[]), 0, table, dir.path());
            Box::new(Stand(table, conformance::Shared::of(registers), dir))
        });
    }
}
