//! Xen as its headers say it answers: versions that refuse each other, lists of two strides, registers in the bytes of
//! the real layouts (`fixtures/context.c`).

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::abi::{self, DomainInfoEntry, DomainListCall, Domctl, MulticallEntry, Sysctl, VcpuContextCall};
use super::abi::{domctl, hypercall, sysctl};
use super::gate::Gate;
use super::memory::{Buffer, Mapping};
use super::{Hypervisor, XenError};

/// What the stand-in knows and was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Id, flags, first byte of the UUID, highest vCPU.
    pub(super) domains: Vec<(u16, u32, u8, u32)>,
    contexts: HashMap<(u16, u32), &'static [u8]>,
    /// Domains that were unpaused.
    pub(super) unpaused: Vec<u16>,
}

/// A Xen that speaks one version of each interface.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    release: (u64, u64),
    domctl: u32,
    sysctl: u32,
    pub(super) told: Arc<Mutex<Told>>,
}

fn refused(number: i32) -> io::Result<i64> {
    Err(io::Error::from_raw_os_error(number))
}

impl Fake {
    pub(super) fn new(minor: u64, domctl: u32, sysctl: u32) -> Fake {
        Fake { release: (4, minor), domctl, sysctl, told: Arc::default() }
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
            domctl::INFO => Ok(0),
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
            return Ok(0);
        }
        assert_eq!(call.command, sysctl::DOMAINS);
        // SAFETY: the body of this command.
        let body = unsafe { &mut *(&raw mut call.body).cast::<DomainListCall>() };
        let stride = if self.domctl >= 0x14 { 112 } else { 104 };
        let told = self.told.lock().unwrap();
        let listed = told.domains.iter().filter(|(id, ..)| *id >= body.first).take(body.max as usize);
        body.num = 0;
        for &(domain, flags, uuid, max_vcpu) in listed {
            let entry = DomainInfoEntry {
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
            };
            // SAFETY: the buffer has room for `max` entries at the address that it gave.
            unsafe { ((body.buffer as usize + body.num as usize * stride) as *mut DomainInfoEntry).write(entry) };
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
            // SAFETY: domctls and sysctls are passed by their address.
            hypercall::DOMCTL => unsafe { self.domctl(args[0]) },
            // SAFETY: as above.
            hypercall::SYSCTL => unsafe { self.sysctl(args[0]) },
            hypercall::MULTICALL => {
                for entry in 0..args[1] {
                    // SAFETY: so many entries are passed by their address.
                    let entry = unsafe { &mut *(args[0] as *mut MulticallEntry).add(entry as usize) };
                    assert_eq!(entry.op, hypercall::DOMCTL);
                    // SAFETY: as above.
                    let answer = unsafe { self.domctl(entry.args[0]) };
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

    fn map(&self, _: u16, _: &[u64]) -> io::Result<Mapping> {
        Err(io::ErrorKind::Unsupported.into())
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
    let mut answers = Vec::new();
    xen.contexts(&[(5, 0, true), (5, 1, true), (6, 1, false)], &mut answers).unwrap();
    assert!(answers[1].is_none());
    let hvm = answers[0].unwrap();
    assert_eq!(
        (hvm.rip, hvm.rsp, hvm.rbp, hvm.cs, hvm.ss),
        (0x40_1234, 0x7ffd_0000_1100, 0x7ffd_0000_1110, 0x33, 0x2b)
    );
    assert_eq!((hvm.cr0, hvm.cr3, hvm.cr4, hvm.in_kernel), (0x8005_0033, 0x1234_5000, 0x35_06f0, false));
    let pv32 = answers[2].unwrap();
    assert_eq!((pv32.rip, pv32.rsp, pv32.rbp, pv32.cs), (0xc010_1234, 0xc100_1100, 0xc100_1110, 0xe019));
    assert_eq!((pv32.cr3, pv32.in_kernel), (0x34_5001, true));
}
