//! The contract on a stand-in that answers as Xen's source does (`sys::xen::tests`), and, in dom0 of the Xen lab, on Xen.

use std::sync::{Arc, Mutex};

use super::vpmu::Trap;
use super::*;
use crate::msr::{Caller, conformance};
use crate::sys::xen::abi::domain_flag;
use crate::sys::xen::tests::{Fake, Told};

const MASK0: u32 = 0xc001_1027;
const MASK1: u32 = 0xc001_1019;
const SELECT: u32 = 0xc8d;
const COUNTER: u32 = 0xc8e;
const TIME: u32 = 0x10;

struct Lab {
    dir: tempfile::TempDir,
    told: Arc<Mutex<Told>>,
    fake: Fake,
}

/// dom0 with two vCPUs; 3 and 4: PV and PVH with one.
fn lab(mode: Option<u64>) -> Lab {
    let fake = Fake::new(17, 0x15, 0x15);
    let told = Arc::clone(&fake.told);
    told.lock().unwrap().domains = vec![(0, 0, 1, 1), (3, 0, 30, 0), (4, domain_flag::HVM, 40, 0)];
    told.lock().unwrap().pmu.mode = mode;
    Lab { dir: tempfile::tempdir().unwrap(), told, fake }
}

impl Lab {
    fn handle(&self, domain: u16, vcpu: u32, local: Option<Mode>) -> Registers {
        let place = Place { cpu: 1, domain: DomId(domain), vcpu };
        let mut registers = Registers::through(self.fake.open(), place, self.dir.path().into(), true);
        registers.local = local;
        registers
    }
    fn mode(&self) -> Option<u64> {
        self.told.lock().unwrap().pmu.mode
    }
    fn left(&self) -> Vec<journal::Left> {
        journal::left(self.dir.path()).unwrap()
    }
    /// A journal as a killed program leaves it.
    fn leave(&self, text: &str) -> Vec<(Change, Outcome)> {
        std::fs::write(self.dir.path().join("left"), text).unwrap();
        let mut xen = self.fake.open();
        self.left().into_iter().flat_map(|left| left.restore(&mut xen).unwrap()).collect()
    }
}

fn refusal(answer: Result<()>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.errno(), -libc::EOPNOTSUPP);
    error.to_string()
}

struct Stand {
    registers: conformance::Shared<Registers>,
    // Lives as long as its journals.
    _dir: Option<tempfile::TempDir>,
}

impl Stand {
    fn of(registers: Registers, dir: Option<tempfile::TempDir>) -> Box<Stand> {
        Box::new(Stand { registers: conformance::Shared::of(registers), _dir: dir })
    }
}

impl conformance::Stand for Stand {
    fn ability(&self) -> conformance::Ability {
        conformance::Ability { domains: false, writes: false, interrupts: false }
    }
    fn table(&self) -> Table {
        Registers::table()
    }
    fn handle(&mut self, _caller: Caller) -> Box<dyn Contract + Send> {
        Box::new(self.registers.clone())
    }
}

#[test]
fn the_contract_is_kept() {
    for (mode, local) in [(None, None), (Some(1), None), (Some(0), Some(Mode::Own)), (Some(1), Some(Mode::Hypervisor))]
    {
        conformance::suite(&mut || {
            let lab = lab(mode);
            let registers = lab.handle(0, 0, local);
            Stand::of(registers, Some(lab.dir))
        });
    }
}

/// Run by tests/labs/xen/tests/contract.
#[test]
#[ignore = "needs dom0 of a Xen host"]
fn the_contract_is_kept_by_xen() {
    let place = Place::default();
    let before = Registers::open(place).unwrap().xen.vpmu().ok();
    conformance::suite(&mut || Stand::of(Registers::open(place).unwrap(), None));
    match before {
        // Where there is a vPMU, setting its mode keeps the contract too, and leaves nothing behind.
        Some(before) => {
            for local in [Mode::Own, Mode::Hypervisor] {
                conformance::suite(&mut || Stand::of(Registers::setting_modes(place, local).unwrap(), None));
            }
            assert_eq!(Registers::open(place).unwrap().xen.vpmu().unwrap(), before);
        }
        None => {
            let mut registers = Registers::setting_modes(place, Mode::Own).unwrap();
            assert!(refusal(registers.allocate(Class::Perf, DomId::ZERO, Scope::Local)).contains("no vPMU"));
        }
    }
}

#[test]
fn modes_are_the_hosts_and_go_back() {
    let lab = lab(Some(1));
    let mut registers = lab.handle(0, 0, Some(Mode::Own));
    let setting = registers.setting(Scope::Global).unwrap().unwrap();
    assert_eq!((setting.old, setting.new), (Mode::Own, Mode::All));
    let pinning = Trap::Pinning { vcpus: 2, cpus: 0, pinned: false };
    assert_eq!(setting.traps, [Trap::Unsafe, Trap::WholeHost(Mode::Own, Mode::All), Trap::LeavesSelf, pinning]);
    assert_eq!(lab.mode(), Some(1), "looking changes nothing");
    for (scope, mode) in [(Scope::Global, 4), (Scope::Local, 1), (Scope::Unavailable, 0), (Scope::Global, 4)] {
        registers.allocate(Class::Perf, DomId::ZERO, scope).unwrap();
        assert_eq!(lab.mode(), Some(mode), "{scope:?}");
    }
    // Held: nobody else may change the mode meanwhile, and the journal is no left one.
    let busy = lab.handle(0, 0, Some(Mode::Own)).allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap_err();
    assert!(matches!(busy, Error::Busy { ref holders, .. } if *holders == [DomId::ZERO]), "{busy}");
    assert!(lab.left().is_empty());
    drop(registers);
    assert_eq!((lab.mode(), lab.left().len()), (Some(1), 0));
    // hv on request; the same mode again changes nothing and says so.
    let mut registers = lab.handle(0, 0, Some(Mode::Hypervisor));
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    assert_eq!(lab.mode(), Some(2));
    assert_eq!(registers.setting(Scope::Local).unwrap().unwrap().traps, []);
    let answers = registers.restore();
    assert!(matches!(answers[..], [(Change { of: Subject::Vpmu, old: 1, new: 2 }, Outcome::Restored)]), "{answers:?}");
    // A handle that was not opened for it never changes the mode.
    let mut reader = lab.handle(0, 0, None);
    for scope in [Scope::Local, Scope::Global, Scope::Unavailable] {
        reader.allocate(Class::Perf, DomId::ZERO, scope).unwrap();
        assert_eq!(lab.mode(), Some(1));
    }
    assert_eq!(reader.setting(Scope::Global).unwrap(), None);
}

#[test]
fn what_xen_cannot_confine_is_refused() {
    let lab = lab(Some(1));
    let mut registers = lab.handle(0, 0, Some(Mode::Own));
    for scope in [Scope::Unavailable, Scope::Local, Scope::Global] {
        assert!(refusal(registers.allocate(Class::Perf, DomId(3), scope)).starts_with("host-wide on Xen"));
    }
    assert_eq!(registers.allocate(Class::Perf, DomId(9), Scope::Local).unwrap_err().errno(), -libc::ESRCH);
    assert!(refusal(registers.allocate(Class::Debug, DomId(3), Scope::Global)).starts_with("host-wide on Xen"));
    assert!(refusal(registers.allocate(Class::Debug, DomId(4), Scope::Local)).contains("domain 4 is pvh"));
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    assert!(refusal(registers.irq_handler(Class::Perf, None)).contains("native"));
    // Guests that have a vPMU are in the way of any other mode than self and hv; all that could be are named.
    lab.told.lock().unwrap().pmu.count = 1;
    let busy = registers.allocate(Class::Perf, DomId::ZERO, Scope::Global).unwrap_err();
    assert!(matches!(busy, Error::Busy { ref holders, .. } if *holders == [DomId(3), DomId(4)]), "{busy}");
    assert_eq!(lab.mode(), Some(1));
    drop(registers);
    assert!(lab.left().is_empty());
}

#[test]
fn why_there_is_no_vpmu() {
    let why = |line: &'static str, dom0: u32| {
        let lab = lab(None);
        lab.told.lock().unwrap().pmu.command_line = line;
        lab.told.lock().unwrap().domains[0].1 = dom0;
        refusal(lab.handle(0, 0, Some(Mode::Own)).allocate(Class::Perf, DomId::ZERO, Scope::Local))
    };
    let of = |absent: vpmu::Absent| format!("there is no vPMU: {absent}");
    assert_eq!(why("console=com1", 0), of(vpmu::Absent::NotStarted));
    assert_eq!(why("vpmu=on", 0), of(vpmu::Absent::UnknownCpu));
    assert_eq!(why("vpmu=on watchdog", 0), of(vpmu::Absent::Watchdog));
    assert_eq!(why("vpmu=on watchdog=0", 0), of(vpmu::Absent::UnknownCpu));
    assert_eq!(why("vpmu=on", domain_flag::HVM), of(vpmu::Absent::Pvh));
}

#[test]
fn batches_go_to_xen_in_ops_of_three() {
    let lab = lab(None);
    let mut registers = lab.handle(0, 0, None);
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    let mut entries = [Entry::of(TIME); 7];
    assert_eq!(registers.read(Class::Perf, &mut entries).unwrap(), 7);
    assert!(entries.iter().all(|entry| (entry.value, entry.status) == (1_000_000, 0)));
    assert_eq!(lab.told.lock().unwrap().pmu.trips, [3], "three ops in one trip");
    // Without a cache monitor Xen lets its registers not through: the fourth is the first of the second op.
    let mut entries = [TIME, TIME, TIME, SELECT, TIME].map(Entry::of);
    entries[4].status = 7;
    assert_eq!(registers.read(Class::Perf, &mut entries).unwrap(), 3);
    assert_eq!((entries[3].fault(), entries[4].status), (Some(Fault::NotHere), 7));
    assert_eq!(registers.write(Class::Perf, false, &mut [Entry::with(SELECT, 1)]).unwrap(), 0);
    lab.told.lock().unwrap().pmu.selects = Some([0, 0]);
    // What the table refuses ends the batch before.
    let mut entries = [(SELECT, 1), (SELECT, 1 << 32 | 2), (COUNTER, 0), (SELECT, 3)].map(|(m, v)| Entry::with(m, v));
    assert_eq!(registers.write(Class::Perf, true, &mut entries).unwrap(), 2);
    assert_eq!(entries[2].fault(), Some(Fault::ReadOnly));
    assert_eq!(lab.told.lock().unwrap().pmu.selects, Some([0, 1 << 32 | 2]), "of pCPU 1");
    let mut entries = [Entry::of(COUNTER)];
    assert_eq!(registers.read(Class::Perf, &mut entries).unwrap(), 1);
    assert_eq!(entries[0].value, (1 << 32 | 2) * 100);
    // Somebody who is killed here leaves it in the journal; this one puts it back.
    registers.allocate(Class::Perf, DomId::ZERO, Scope::Unavailable).unwrap();
    assert_eq!((lab.told.lock().unwrap().pmu.selects, lab.left().len()), (Some([0, 0]), 0));
    // Of a pCPU that there is not.
    let mut nowhere =
        Registers::through(lab.fake.open(), Place { cpu: 9, ..Place::default() }, lab.dir.path().into(), false);
    nowhere.allocate(Class::Perf, DomId::ZERO, Scope::Local).unwrap();
    let error = nowhere.read(Class::Perf, &mut [Entry::of(TIME)]).unwrap_err();
    assert_eq!((error.errno(), error.to_string().as_str()), (-libc::ESRCH, "CPU 9 does not exist"));
}

#[test]
fn address_masks_of_pv_vcpus() {
    let lab = lab(None);
    let masks = || lab.told.lock().unwrap().pmu.masks.clone();
    let mut registers = lab.handle(3, 0, None);
    registers.allocate(Class::Debug, DomId(3), Scope::Local).unwrap();
    assert_eq!(registers.read(Class::Debug, &mut [MASK0, MASK1].map(Entry::of)).unwrap(), 2);
    let mut entries = [Entry::with(MASK0, 0xff), Entry::with(MASK1, 7), Entry::with(MASK0, 1 << 32), Entry::of(MASK1)];
    assert_eq!(registers.write(Class::Debug, false, &mut entries).unwrap(), 2);
    assert_eq!(entries[2].fault(), Some(Fault::Reserved));
    assert_eq!(masks(), [((3, 0, MASK0), 0xff), ((3, 0, MASK1), 7)].into());
    let mut entries = [Entry::of(MASK0)];
    assert_eq!(registers.set_default(Class::Debug, &mut entries).unwrap(), 1);
    assert_eq!(masks(), [((3, 0, MASK1), 7)].into());
    drop(registers);
    assert_eq!((masks(), lab.left().len()), ([].into(), 0));
    // dom0's other vCPU can be had, the one that asks not.
    let mut other = lab.handle(0, 1, None);
    other.allocate(Class::Debug, DomId::ZERO, Scope::Local).unwrap();
    assert_eq!(other.read(Class::Debug, &mut [Entry::of(MASK0)]).unwrap(), 1);
    let mut own = lab.handle(0, 0, None);
    own.allocate(Class::Debug, DomId::ZERO, Scope::Local).unwrap();
    assert_eq!(own.read(Class::Debug, &mut [Entry::of(MASK0)]).unwrap_err().errno(), -libc::EOPNOTSUPP);
    // A CPU that has none: zero would be invented.
    let place = Place { domain: DomId(3), ..Place::default() };
    let mut none = Registers::through(lab.fake.open(), place, lab.dir.path().into(), false);
    none.allocate(Class::Debug, DomId(3), Scope::Local).unwrap();
    let mut entries = [Entry::of(MASK0)];
    assert_eq!(none.read(Class::Debug, &mut entries).unwrap(), 0);
    assert_eq!(entries[0].fault(), Some(Fault::NotHere));
}

#[test]
fn what_a_killed_program_left_is_taken_back() {
    let lab = lab(Some(4));
    lab.told.lock().unwrap().pmu.selects = Some([5, 6]);
    lab.told.lock().unwrap().pmu.masks.insert((3, 0, MASK0), 0xff);
    let uuid = "1e".repeat(16);
    let text = format!("vpmu 1 2\nvpmu 2 4\ncpu 1 c8d 9 6\nvcpu 3 {uuid} 0 c0011027 0 ff\nvpmu 4");
    let answers = lab.leave(&text);
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|(_, outcome)| matches!(outcome, Outcome::Restored)), "{answers:?}");
    {
        let told = lab.told.lock().unwrap();
        assert_eq!((told.pmu.mode, told.pmu.selects, told.pmu.masks.len()), (Some(1), Some([5, 9]), 0));
    }
    assert!(lab.left().is_empty());
    // Another domain with that number; a register of no class; a mode that somebody has set since; nothing at all.
    let other = "ff".repeat(16);
    let text = format!("vcpu 3 {other} 0 c0011027 0 ff\ncpu 0 1b 0 1\nvpmu 4 0\ngarbage\n\n");
    let answers = lab.leave(&text);
    assert!(
        matches!(answers[..], [(_, Outcome::Left { now: 1 }), (_, Outcome::Unknown), (_, Outcome::Gone)]),
        "{answers:?}"
    );
    // What Xen refuses stays written down.
    lab.told.lock().unwrap().pmu.count = 1;
    let answers = lab.leave("vpmu 4 1\n");
    assert!(matches!(&answers[..], [(_, Outcome::Failed(error))] if error.raw_os_error() == Some(libc::EBUSY)));
    assert_eq!(lab.left()[0].changes, [Change { of: Subject::Vpmu, old: 4, new: 1 }]);
    let again = lab.handle(0, 0, Some(Mode::Own)).allocate(Class::Perf, DomId::ZERO, Scope::Local);
    assert!(again.is_ok(), "another journal's name");
}
