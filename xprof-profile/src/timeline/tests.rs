use xprof_perfdata::abi::misc;
use xprof_perfdata::record::{Comm, Ksymbol, Mmap, MmapFile, Record, Task, TaskId};

use super::*;
use crate::symbols::Reference;

fn mmap(pid: u32, start: u64, len: u64, pgoff: u64, path: &str) -> Record {
    Record::Mmap(Mmap {
        v2: true,
        pid,
        tid: pid,
        start,
        len,
        pgoff,
        file: MmapFile::Unknown,
        prot: 5,
        flags: 2,
        path: path.into(),
    })
}

fn name(t: &Timeline, place: Place) -> String {
    String::from_utf8_lossy(t.modules().short_name(place.module)).into_owned()
}

fn comm(t: &mut Timeline, pid: u32, tid: u32) -> String {
    let id = t.thread(0, pid, tid);
    String::from_utf8_lossy(t.tasks().comm(t.tasks().key(id).comm)).into_owned()
}

#[test]
fn a_newer_map_cuts_the_older_one() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(7, 0x1000, 0x4000, 0, "/lib/old.so"), misc::USER, (0, 0));
    t.apply(&mmap(7, 0x2000, 0x1000, 0x9000, "/lib/new.so"), misc::USER, (0, 0));
    let at = |addr| t.place(7, Mode::User, addr);
    assert_eq!((name(&t, at(0x1fff)), at(0x1fff).addr), ("old.so".into(), 0xfff));
    assert_eq!((name(&t, at(0x2000)), at(0x2000).addr), ("new.so".into(), 0x9000));
    assert_eq!((name(&t, at(0x2fff)), at(0x2fff).addr), ("new.so".into(), 0x9fff));
    assert_eq!((name(&t, at(0x3000)), at(0x3000).addr), ("old.so".into(), 0x2000));
    assert_eq!(name(&t, at(0x5000)), "[unknown]");
}

#[test]
fn a_child_inherits_and_diverges() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(1, 0x1000, 0x1000, 0, "/bin/parent"), misc::USER, (0, 0));
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 1, tid: 1 }, comm: b"parent".to_vec() }), misc::COMM_EXEC, (0, 0));
    t.apply(&mmap(1, 0x1000, 0x1000, 0, "/bin/parent"), misc::USER, (0, 0));
    t.apply(&Record::Fork(Task { pid: 2, ppid: 1, tid: 2, ptid: 1, time: 5 }), 0, (0, 0));
    assert_eq!(comm(&mut t, 2, 2), "parent");
    assert_eq!(name(&t, t.place(2, Mode::User, 0x1800)), "parent");
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 2, tid: 2 }, comm: b"child".to_vec() }), misc::COMM_EXEC, (0, 0));
    // As perf: the new image lies over the old one.
    assert_eq!(name(&t, t.place(2, Mode::User, 0x1800)), "parent");
    assert_eq!(name(&t, t.place(1, Mode::User, 0x1800)), "parent");
    assert_eq!((comm(&mut t, 1, 1), comm(&mut t, 2, 2)), ("parent".into(), "child".into()));
}

#[test]
fn threads_share_their_process() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(1, 0x1000, 0x1000, 0, "/bin/p"), misc::USER, (0, 0));
    t.apply(&Record::Fork(Task { pid: 1, ppid: 1, tid: 9, ptid: 1, time: 5 }), 0, (0, 0));
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 1, tid: 9 }, comm: b"worker".to_vec() }), 0, (0, 0));
    assert_eq!(comm(&mut t, 1, 9), "worker");
    assert_eq!(comm(&mut t, 1, 1), ":1");
    assert_eq!(comm(&mut t, 0, 0), "swapper");
    assert_eq!(name(&t, t.place(1, Mode::User, 0x1000)), "p");
}

#[test]
fn a_thread_without_a_name_gives_none_and_takes_its_first_for_always() {
    let mut t = Timeline::new(&[]);
    t.apply(&Record::Fork(Task { pid: 7, ppid: 6, tid: 7, ptid: 6, time: 5 }), 0, (0, 0));
    let before = t.thread(0, 7, 7);
    assert_eq!(comm(&mut t, 7, 7), ":7");
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 7, tid: 7 }, comm: b"ls".to_vec() }), misc::COMM_EXEC, (0, 0));
    assert_eq!(t.tasks().comm(t.tasks().key(before).comm), b"ls");
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 7, tid: 7 }, comm: b"cat".to_vec() }), misc::COMM_EXEC, (0, 0));
    assert_eq!(comm(&mut t, 7, 7), "cat");
    assert_eq!(t.tasks().comm(t.tasks().key(before).comm), b"ls");
}

#[test]
fn a_thread_id_changes_with_the_name_only() {
    let mut t = Timeline::new(&[]);
    let before = t.thread(0, 4, 4);
    assert_eq!(t.thread(0, 4, 4), before);
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 4, tid: 4 }, comm: b"x".to_vec() }), 0, (0, 0));
    let x = t.thread(0, 4, 4);
    assert_ne!(x, before);
    t.apply(&Record::Comm(Comm { task: TaskId { pid: 4, tid: 4 }, comm: b"x".to_vec() }), 0, (0, 0));
    assert_eq!(t.thread(0, 4, 4), x);
}

#[test]
fn kernel_maps() {
    let mut t = Timeline::new(&[]);
    let kernel = 0xffff_ffff_8100_0000;
    t.apply(&mmap(u32::MAX, kernel, 0x100_0000, kernel, "[kernel.kallsyms]_text"), misc::KERNEL, (0, 0));
    t.apply(
        &mmap(u32::MAX, kernel + 0x2000_0000, 0x1000, 0, "/lib/modules/6.1/kernel/nf-nat.ko.xz"),
        misc::KERNEL,
        (0, 0),
    );
    let bpf = Ksymbol { addr: kernel + 0x3000_0000, len: 16, ksym_type: 1, flags: 0, name: b"bpf_prog_x".to_vec() };
    t.apply(&Record::Ksymbol(bpf.clone()), 0, (0, 0));
    let at = |t: &Timeline, addr| (name(t, t.place(1, Mode::Kernel, addr)), t.place(1, Mode::Kernel, addr).addr);
    assert_eq!(at(&t, kernel + 5), ("[kernel.kallsyms]".into(), kernel + 5));
    assert_eq!(at(&t, kernel + 0x2000_0000), ("[nf_nat]".into(), kernel + 0x2000_0000));
    assert_eq!(at(&t, kernel + 0x3000_000f).0, "bpf_prog_x");
    t.apply(&Record::Ksymbol(Ksymbol { flags: 1, ..bpf }), 0, (0, 0));
    assert_eq!(at(&t, kernel + 0x3000_000f).0, "[unknown]");
    assert_eq!(name(&t, t.place(1, Mode::User, kernel)), "[unknown]");
}

#[test]
fn the_kernel_is_one_module_with_its_reference() {
    let mut t = Timeline::new(&[]);
    let kernel = 0xffff_ffff_9a00_0000;
    // As the first of these, where the recorder was not shown the address.
    t.apply(&mmap(u32::MAX, kernel, 0x10_0000, 0, "[kernel.kallsyms]_text"), misc::KERNEL, (0, 0));
    t.apply(
        &mmap(u32::MAX, kernel + 0x10_0000, 0x10_0000, kernel + 0x40, "[kernel.kallsyms]_stext"),
        misc::KERNEL,
        (0, 0),
    );
    t.apply(&mmap(u32::MAX, kernel + 0x20_0000, 0x10_0000, 7, "[kernel.kallsyms]_text"), misc::KERNEL, (0, 0));
    let places = [0x5, 0x10_0000, 0x20_0000].map(|at| t.place(1, Mode::Kernel, kernel + at).module);
    assert_eq!(places, [places[0]; 3]);
    let reference = Some(Reference { name: b"_stext".to_vec(), address: kernel + 0x40 });
    let module = t.modules().get(places[0]).unwrap();
    assert_eq!((&module.path[..], &module.kind), (&b"[kernel.kallsyms]"[..], &ModuleKind::Kernel { reference }));
}

#[test]
fn code_without_a_file_is_jit_code_of_its_process() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(3, 0x1000, 0x1000, 0x77, "//anon"), misc::USER, (0, 0));
    let place = t.place(3, Mode::User, 0x1010);
    assert_eq!((name(&t, place), place.addr), ("[JIT] tid 3".into(), 0x1010));
    assert_eq!(t.modules().get(place.module).map(|m| m.kind.clone()), Some(ModuleKind::Jit { pid: 3, dump: None }));
}

#[test]
fn every_change_of_maps_changes_the_epoch() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(3, 0x1000, 0x1000, 0, "/a"), misc::USER, (0, 0));
    let first = t.epoch(3, Mode::User);
    t.apply(&mmap(3, 0x1000, 0x1000, 0, "/a"), misc::USER, (0, 0));
    assert_eq!(t.epoch(3, Mode::User), first);
    t.apply(&mmap(3, 0x1000, 0x1000, 0, "/b"), misc::USER, (0, 0));
    assert_ne!(t.epoch(3, Mode::User), first);
}

#[test]
fn hostile_maps_are_left_out() {
    let mut t = Timeline::new(&[]);
    t.apply(&mmap(3, u64::MAX, 2, 0, "/a"), misc::USER, (0, 0));
    t.apply(&mmap(3, 5, 0, 0, "/a"), misc::USER, (0, 0));
    assert_eq!(name(&t, t.place(3, Mode::User, u64::MAX)), "[unknown]");
    assert_eq!(name(&t, t.place(3, Mode::User, 5)), "[unknown]");
}
