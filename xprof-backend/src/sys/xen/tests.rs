//! Xen as its headers say it answers: versions that refuse each other, lists of two strides, registers in the bytes of
//! the real layouts (`fixtures/context.c`).

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use super::abi::{
    self, AffinityCall, DomainInfoEntry, DomainListCall, Domctl, MulticallEntry, PhysInfo, PmuParams, ResourceCall,
    ResourceEntry, SymbolCall, Sysctl, TraceCall, VcpuContextCall, VcpuMsr, VcpuMsrsCall,
};
use super::abi::{domctl, hypercall, platform, sysctl};
use super::gate::Gate;
use super::memory::{Buffer, Mapping};
use super::{Hypervisor, XenError};

/// What the stand-in knows and was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Id, flags, first byte of the UUID, highest vCPU.
    pub(crate) domains: Vec<(u16, u32, u8, u32)>,
    contexts: HashMap<(u16, u32), &'static [u8]>,
    /// Xen's symbols: address, type, name.
    symbols: Vec<(u64, u8, String)>,
    /// Domains that were unpaused.
    pub(super) unpaused: Vec<u16>,
    pub(crate) pmu: Pmu,
    pub(crate) trace: super::trace::tests::Buffers,
    pub(crate) pcpus: u32,
    /// The pCPUs that each vCPU of dom0 may run on; none: Xen does not say.
    pub(crate) pins: Vec<Vec<u32>>,
}

/// The vPMU and the registers that a stand-in has.
#[derive(Debug, Default)]
pub(crate) struct Pmu {
    /// `None`: Xen was started without it.
    pub(crate) mode: Option<u64>,
    /// vCPUs of guests that have one.
    pub(crate) count: u32,
    pub(crate) command_line: &'static str,
    /// Two pCPUs' cache monitors, where the CPU has them: event selects.
    pub(crate) selects: Option<[u64; 2]>,
    /// By domain, vCPU and register; zero is not kept.
    pub(crate) masks: HashMap<(u16, u32, u32), u64>,
    /// Multicalls of resource ops, and their ops.
    pub(crate) trips: Vec<u64>,
}

impl Pmu {
    /// xen/arch/x86/cpu/vpmu.c, do_xenpmu_op.
    fn op(&mut self, command: u64, params: &mut PmuParams) -> io::Result<i64> {
        let Some(mode) = self.mode else { return refused(libc::EOPNOTSUPP) };
        match command {
            abi::pmu::MODE_GET => params.value = mode,
            abi::pmu::FEATURE_GET => params.value = 0,
            abi::pmu::MODE_SET if params.major != 0 || ![0, 1, 2, 4].contains(&params.value) => {
                return refused(libc::EINVAL);
            }
            abi::pmu::MODE_SET => {
                let is_free = self.count == 0 || mode == params.value || mode | params.value == 3;
                if !is_free {
                    return refused(libc::EBUSY);
                }
                self.mode = Some(params.value);
            }
            other => panic!("xenpmu_op {other}"),
        }
        Ok(0)
    }

    /// xen/arch/x86/platform_hypercall.c: checks first, stops at the first entry that fails, does those before it.
    fn resource(&mut self, cpu: u32, entries: &mut [ResourceEntry]) -> io::Result<i64> {
        if entries.len() > 3 {
            return refused(libc::EINVAL);
        }
        if cpu >= 2 {
            return refused(libc::ENODEV);
        }
        let is_write = |entry: &ResourceEntry| entry.command == platform::WRITE;
        let count = entries.len();
        for (at, entry) in entries.iter_mut().enumerate() {
            let answer = match (entry.index, &mut self.selects) {
                (0x10, _) if is_write(entry) => Err(libc::EPERM),
                (0x10, _) => Ok(1_000_000),
                (0xc8d, Some(selects)) if is_write(entry) => {
                    selects[cpu as usize] = entry.value;
                    Ok(entry.value)
                }
                (0xc8d, Some(selects)) => Ok(selects[cpu as usize]),
                (0xc8e, Some(selects)) => Ok(selects[cpu as usize] * 100),
                _ => Err(libc::EPERM),
            };
            match answer {
                Ok(value) => entry.value = value,
                Err(errno) => {
                    entry.command = -errno as u32;
                    return Ok(at as i64);
                }
            }
        }
        Ok(count as i64)
    }
}

/// A Xen that speaks one version of each interface.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    release: (u64, u64),
    domctl: u32,
    sysctl: u32,
    pub(crate) told: Arc<Mutex<Told>>,
}

fn entry((domain, flags, uuid, max_vcpu): (u16, u32, u8, u32)) -> DomainInfoEntry {
    DomainInfoEntry {
        domain,
        flags,
        total_pages: 0,
        max_pages: 0,
        outstanding: 0,
        shared: 0,
        paged: 0,
        shared_info_frame: 0,
        cpu_time: u64::from(domain) * 1000,
        online_vcpus: max_vcpu.wrapping_add(1),
        max_vcpu,
        ssidref: 0,
        handle: [uuid; 16],
        pool: 0,
    }
}

fn refused(number: i32) -> io::Result<i64> {
    Err(io::Error::from_raw_os_error(number))
}

impl Fake {
    pub(crate) fn new(minor: u64, domctl: u32, sysctl: u32) -> Fake {
        Fake { release: (4, minor), domctl, sysctl, told: Arc::default() }
    }

    /// A way to it.
    pub(crate) fn open(&self) -> Hypervisor {
        Hypervisor::through(Box::new(self.clone())).unwrap()
    }

    /// # Safety
    /// `at` is a platform op of ours.
    unsafe fn platform(&self, at: u64) -> io::Result<i64> {
        // SAFETY: the caller's promise.
        let call = unsafe { &*(at as *const ResourceCall) };
        if call.version != platform::VERSION {
            return refused(libc::EACCES);
        }
        if call.command == platform::SYMBOL {
            // SAFETY: as above.
            return unsafe { self.symbol(at) };
        }
        assert_eq!(call.command, platform::RESOURCE);
        // SAFETY: so many entries are at the address that was given.
        let entries =
            unsafe { std::slice::from_raw_parts_mut(call.entries as *mut ResourceEntry, call.count as usize) };
        self.told.lock().unwrap().pmu.resource(call.cpu, entries)
    }

    /// xen/common/symbols.c, xensyms_read, and what xen/arch/x86/platform_hypercall.c copies out.
    ///
    /// # Safety
    /// `at` is such a call of ours.
    unsafe fn symbol(&self, at: u64) -> io::Result<i64> {
        // SAFETY: the caller's promise.
        let call = unsafe { &mut *(at as *mut SymbolCall) };
        let told = self.told.lock().unwrap();
        let count = told.symbols.len() as u32;
        if call.number > count {
            return refused(libc::ERANGE);
        }
        let (address, kind, name) = told.symbols.get(call.number as usize).cloned().unwrap_or_default();
        let copied = (name.len() + 1).min(call.name_len as usize);
        // SAFETY: the name's place has so many bytes.
        unsafe { std::ptr::copy_nonoverlapping(format!("{name}\0").as_ptr(), call.name as *mut u8, copied) };
        call.name_len = name.len() as u32 + 1;
        if call.number < count {
            (call.address, call.kind) = (address, u64::from(kind));
            call.number += 1;
        }
        Ok(0)
    }

    /// xen/arch/x86/domctl.c: what is zero is left out; set stops at the first register that is refused.
    ///
    /// # Safety
    /// `body` points to where its registers are.
    unsafe fn vcpu_msrs(told: &mut Told, command: u32, domain: u16, body: &mut VcpuMsrsCall) -> io::Result<i64> {
        let Some(&(_, flags, _, highest)) = told.domains.iter().find(|(id, ..)| *id == domain) else {
            return refused(libc::ESRCH);
        };
        if body.vcpu > highest {
            return refused(libc::ESRCH);
        }
        if flags & abi::domain_flag::HVM != 0 || (domain, body.vcpu) == (0, 0) {
            return refused(libc::EINVAL);
        }
        if command == domctl::SET_MSRS && body.count > 6 {
            return refused(libc::EINVAL);
        }
        let at = body.msrs as *mut VcpuMsr;
        if command == domctl::GET_MSRS {
            let mut there: Vec<_> =
                told.pmu.masks.iter().filter(|((d, v, _), _)| (*d, *v) == (domain, body.vcpu)).collect();
            there.sort();
            body.count = there.len() as u32;
            for (index, ((.., msr), value)) in there.into_iter().enumerate() {
                // SAFETY: the caller's promise, and the buffer has room for more than there is.
                unsafe { at.add(index).write(VcpuMsr { index: *msr, reserved: 0, value: *value }) };
            }
            return Ok(0);
        }
        for index in 0..body.count {
            // SAFETY: as above.
            let VcpuMsr { index: msr, value, .. } = unsafe { at.add(index as usize).read() };
            if value >> 32 != 0 || !matches!(msr, 0xc001_1027 | 0xc001_1019..=0xc001_101b) {
                body.count = index;
                return refused(libc::EINVAL);
            }
            told.pmu.masks.insert((domain, body.vcpu, msr), value);
            told.pmu.masks.retain(|_, value| *value != 0);
        }
        Ok(0)
    }

    /// # Safety
    /// `at` is a domctl of ours.
    unsafe fn domctl(&self, at: u64) -> io::Result<i64> {
        // SAFETY: the caller's promise.
        let call = unsafe { &mut *(at as *mut Domctl) };
        if call.version != self.domctl {
            return refused(libc::EACCES);
        }
        let mut told = self.told.lock().unwrap();
        match call.command {
            domctl::INFO => {
                // xen/common/domctl.c: of an id that nobody has the next domain is described.
                let Some(&known) = told.domains.iter().find(|(id, ..)| *id >= call.domain) else {
                    return if told.domains.is_empty() { Ok(0) } else { refused(libc::ESRCH) };
                };
                // SAFETY: the body of this command.
                unsafe { (&raw mut call.body).cast::<DomainInfoEntry>().write(entry(known)) };
                Ok(0)
            }
            domctl::UNPAUSE => {
                told.unpaused.push(call.domain);
                Ok(0)
            }
            domctl::CONTEXT => {
                // SAFETY: the body of this command.
                let body = unsafe { &*(&raw const call.body).cast::<VcpuContextCall>() };
                let Some(context) = told.contexts.get(&(call.domain, body.vcpu)) else { return refused(libc::ESRCH) };
                // SAFETY: the buffer has room for a context at the address that it gave.
                unsafe { std::ptr::copy_nonoverlapping(context.as_ptr(), body.context as *mut u8, context.len()) };
                Ok(0)
            }
            domctl::GET_MSRS | domctl::SET_MSRS => {
                // SAFETY: the body of these commands, whose registers are in our buffer.
                unsafe {
                    let body = &mut *(&raw mut call.body).cast::<VcpuMsrsCall>();
                    Fake::vcpu_msrs(&mut told, call.command, call.domain, body)
                }
            }
            domctl::VCPU => {
                // It is up and blocked.
                call.body[0] |= 1 << 32 | 1 << 40;
                Ok(0)
            }
            domctl::ADDRESS_SIZE => {
                call.body[0] = 64;
                Ok(0)
            }
            domctl::AFFINITY => {
                // SAFETY: the body of this command.
                let body = unsafe { &*(&raw const call.body).cast::<AffinityCall>() };
                let Some(list) = told.pins.get(body.vcpu as usize) else { return refused(libc::EPERM) };
                let bits = list.iter().fold(0u8, |bits, cpu| bits | 1 << cpu);
                // SAFETY: the buffer has room for the bits that it asks for.
                unsafe { (body.hard.bits as *mut u8).write(bits) };
                Ok(0)
            }
            other => panic!("domctl {other}"),
        }
    }

    /// # Safety
    /// `at` is a sysctl of ours.
    unsafe fn sysctl(&self, at: u64) -> io::Result<i64> {
        // SAFETY: the caller's promise.
        let call = unsafe { &mut *(at as *mut Sysctl) };
        if call.version != self.sysctl {
            return refused(libc::EACCES);
        }
        if call.command == sysctl::PHYSINFO {
            // max_cpu; and 1 GHz, so that a tick is a nanosecond.
            call.body[1] |= 1 << 32;
            call.body[3] = 1_000_000;
            // SAFETY: the body of this command.
            unsafe { (*(&raw mut call.body).cast::<PhysInfo>()).cpus = self.told.lock().unwrap().pcpus };
            return Ok(0);
        }
        if call.command == sysctl::TRACE {
            // SAFETY: the body of this command.
            let body = unsafe { &mut *(&raw mut call.body).cast::<TraceCall>() };
            return self.told.lock().unwrap().trace.op(body);
        }
        assert_eq!(call.command, sysctl::DOMAINS);
        // SAFETY: the body of this command.
        let body = unsafe { &mut *(&raw mut call.body).cast::<DomainListCall>() };
        let stride = if self.domctl >= 0x14 { 112 } else { 104 };
        let told = self.told.lock().unwrap();
        let listed = told.domains.iter().filter(|(id, ..)| *id >= body.first).take(body.max as usize);
        body.num = 0;
        for &known in listed {
            // SAFETY: the buffer has room for `max` entries at the address that it gave.
            unsafe {
                ((body.buffer as usize + body.num as usize * stride) as *mut DomainInfoEntry).write(entry(known))
            };
            body.num += 1;
        }
        Ok(0)
    }
}

impl Gate for Fake {
    unsafe fn hypercall(&self, op: u64, args: [u64; 5]) -> io::Result<i64> {
        match op {
            hypercall::VERSION if args[0] == abi::version::VERSION => {
                Ok((self.release.0 << 16 | self.release.1) as i64)
            }
            hypercall::VERSION if args[0] == abi::version::COMMAND_LINE => {
                let line = self.told.lock().unwrap().pmu.command_line;
                // SAFETY: the buffer has room for a command line at the address that it gave.
                unsafe { std::ptr::copy_nonoverlapping(line.as_ptr(), args[1] as *mut u8, line.len()) };
                Ok(0)
            }
            hypercall::SCHED => {
                self.told.lock().unwrap().trace.yielded();
                Ok(0)
            }
            hypercall::XENPMU => {
                // SAFETY: the parameters are passed by their address.
                let params = unsafe { &mut *(args[1] as *mut PmuParams) };
                self.told.lock().unwrap().pmu.op(args[0], params)
            }
            // SAFETY: domctls and sysctls are passed by their address.
            hypercall::DOMCTL => unsafe { self.domctl(args[0]) },
            // SAFETY: as above.
            hypercall::SYSCTL => unsafe { self.sysctl(args[0]) },
            hypercall::MULTICALL => {
                for index in 0..args[1] {
                    // SAFETY: so many entries are passed by their address.
                    let entry = unsafe { &mut *(args[0] as *mut MulticallEntry).add(index as usize) };
                    if entry.op == hypercall::PLATFORM && index == 0 {
                        self.told.lock().unwrap().pmu.trips.push(args[1]);
                    }
                    let answer = match entry.op {
                        // SAFETY: as above.
                        hypercall::DOMCTL => unsafe { self.domctl(entry.args[0]) },
                        // SAFETY: as above.
                        hypercall::PLATFORM => unsafe { self.platform(entry.args[0]) },
                        other => panic!("hypercall {other} in a multicall"),
                    };
                    entry.result = answer.unwrap_or_else(|e| i64::from(-e.raw_os_error().unwrap()));
                }
                Ok(0)
            }
            other => panic!("hypercall {other}"),
        }
    }

    fn buffer(&self, len: usize) -> io::Result<Buffer> {
        Buffer::anonymous(len)
    }

    fn map(&self, domain: u16, frames: &[u64], written: bool) -> io::Result<Mapping> {
        if domain != abi::tbuf::OWNER {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.told.lock().unwrap().trace.map(frames, written)
    }

    fn virq(&self, virq: u32) -> io::Result<OwnedFd> {
        assert_eq!(virq, abi::tbuf::VIRQ);
        self.told.lock().unwrap().trace.bind()
    }
}

#[test]
fn every_release_is_found_by_trying() {
    // Xen 4.13 .. 4.22, as the table of versions in the headers has them.
    let releases = [
        (13, 0x12, 0x12),
        (14, 0x12, 0x13),
        (15, 0x13, 0x13),
        (16, 0x14, 0x14),
        (17, 0x15, 0x15),
        (18, 0x16, 0x15),
        (19, 0x17, 0x15),
        (20, 0x17, 0x15),
        (21, 0x17, 0x16),
        (22, 0x18, 0x16),
    ];
    for (minor, domctl, sysctl) in releases {
        let fake = Fake::new(minor, domctl, sysctl);
        // More than one call's worth, with holes; the last one without vCPUs.
        let mut domains: Vec<_> = (0..3000u16).map(|n| (n * 3, 1 << 5, n as u8, u32::from(n % 128))).collect();
        domains.push((20_000, 0, 9, u32::MAX));
        fake.told.lock().unwrap().domains = domains;
        let mut xen = Hypervisor::through(Box::new(fake)).unwrap();
        assert_eq!((xen.version(), xen.interfaces()), ((4, minor as u16), (domctl, sysctl)));
        let list = xen.domains().unwrap();
        assert_eq!(list.len(), 3001);
        assert!(list[..3000].iter().zip(0..).all(|(info, n)| {
            (info.id, info.vcpus, info.uuid[0], info.cpu_time)
                == (n * 3, u32::from(n % 128) + 1, n as u8, u64::from(n) * 3000)
        }));
        assert_eq!(list[3000].vcpus, 0);
    }
    let unknown = Hypervisor::through(Box::new(Fake::new(30, 0x99, 0x16))).unwrap_err();
    assert!(matches!(unknown, XenError::Version { major: 4, minor: 30, interface: "domctl" }), "{unknown}");
}

#[test]
fn registers_of_hvm_guests_and_of_32_bit_ones() {
    let fake = Fake::new(17, 0x15, 0x15);
    {
        let mut told = fake.told.lock().unwrap();
        told.contexts.insert((5, 0), include_bytes!("fixtures/context64"));
        told.contexts.insert((6, 1), include_bytes!("fixtures/context32"));
    }
    let mut xen = Hypervisor::through(Box::new(fake)).unwrap();
    let (mut answers, mut owners) = (Vec::new(), Vec::new());
    xen.contexts(&[(5, 0, true), (5, 1, true), (6, 1, false)], &mut answers, &mut owners).unwrap();
    assert!(answers[1].is_none());
    let hvm = answers[0].unwrap();
    assert_eq!(
        (hvm.rip, hvm.rsp, hvm.rbp, hvm.cs, hvm.ss),
        (0x40_1234, 0x7ffd_0000_1100, 0x7ffd_0000_1110, 0x33, 0x2b)
    );
    assert_eq!((hvm.cr0, hvm.cr3, hvm.cr4, hvm.in_kernel), (0x8005_0033, 0x1234_5000, 0x35_06f0, false));
    let pv32 = answers[2].unwrap();
    assert_eq!((pv32.rip, pv32.rsp, pv32.rbp, pv32.cs), (0xc010_1234, 0xc100_1100, 0xc100_1110, 0xe019));
    assert_eq!((pv32.cr3, pv32.in_kernel), (0x1_0034_5000, true));
}

#[test]
fn xens_names_are_asked_for_to_the_last_one() {
    for count in [0u64, 1, 127, 128, 129, 6883] {
        let fake = Fake::new(17, 0x15, 0x15);
        let symbol = |n: u64| (0xffff_82d0_4000_0000 + n, b't', format!("symbol_{n}"));
        fake.told.lock().unwrap().symbols = (0..count).map(symbol).collect();
        let lines: String = (0..count).map(|n| format!("ffff82d0{:08x} t symbol_{n}\n", 0x4000_0000 + n)).collect();
        assert_eq!(fake.open().names().unwrap(), lines);
    }
}

#[test]
fn whose_an_id_is_comes_with_the_registers() {
    let fake = Fake::new(17, 0x15, 0x15);
    let mut xen = fake.open();
    {
        let mut told = fake.told.lock().unwrap();
        told.contexts.insert((5, 0), include_bytes!("fixtures/context64"));
        told.domains = vec![(0, 0, 0, 0), (5, 0, 0x55, 127), (9, 0, 0x99, 0)];
    }
    let asked: Vec<(u16, u32, bool)> =
        (0..100).map(|vcpu| (5, vcpu, true)).chain([(7, 0, true), (9, 0, true)]).collect();
    let (mut answers, mut owners) = (Vec::new(), Vec::new());
    xen.contexts(&asked, &mut answers, &mut owners).unwrap();
    assert_eq!((answers.len(), answers.iter().flatten().count()), (102, 1));
    assert!(owners[..100].iter().all(|owner| *owner == Some([0x55; 16])));
    // Nobody has the id 7: Xen describes domain 9.
    assert_eq!(owners[100..], [None, Some([0x99; 16])]);
    fake.told.lock().unwrap().domains[1].2 = 0x66;
    xen.contexts(&asked[..1], &mut answers, &mut owners).unwrap();
    assert_eq!(owners, [Some([0x66; 16])]);
}
