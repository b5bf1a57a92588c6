//! The hypercalls that xprof makes, as safe functions of bounded cost.
//!
//! One buffer serves all calls: entries of a multicall, the domctls they point to, and the contexts that Xen copies out.
//! A call that sees many vCPUs is one trip through privcmd, whose price under Xen is that of the trip.

use std::io;
use std::mem::offset_of;
use std::os::fd::BorrowedFd;

use super::abi::{
    self, AffinityCall, Bitmap, CpuInfoCall, DomainInfoEntry, DomainListCall, Domctl, MulticallEntry, PhysInfo,
    PoolCall, SchedulerCall, Sysctl, VcpuContextCall, VcpuInfoCall, context32, context64, domctl, hypercall, sysctl,
};
use super::error::XenError;
use super::gate::{BATCH_MAX, Gate, Privcmd};
use super::memory::{Buffer, Mapping};

/// Result of a hypercall.
pub type Result<T> = std::result::Result<T, XenError>;

/// Calls of one multicall, at most.
pub const CALLS_MAX: usize = 128;
/// Contexts of one multicall, at most.
pub const CONTEXTS_MAX: usize = 32;
/// Where the domctls of a multicall begin, behind its entries.
pub(super) const CALLS_AT: usize = CALLS_MAX * size_of::<MulticallEntry>();
/// Where bulk data begin.
pub(super) const BULK_AT: usize = CALLS_AT + CALLS_MAX * size_of::<Domctl>() + 512;
const BULK_LEN: usize = CONTEXTS_MAX * context64::SIZE;
const _: () = assert!(CPUS_MAX * 8 <= BULK_LEN);
const BUFFER_LEN: usize = (BULK_AT + BULK_LEN).next_multiple_of(4096);
/// Offset of the union in a domctl, and in a sysctl.
const DOMCTL_BODY: usize = offset_of!(Domctl, body);
pub(super) const SYSCTL_BODY: usize = offset_of!(Sysctl, body);
/// Domain ids end below this (`DOMID_FIRST_RESERVED`).
const DOMAINS_MAX: usize = 0x7ff0;
/// pCPUs of a bitmap.
pub(super) const CPUS_MAX: usize = 4096;

/// What Xen says of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its id.
    pub id: u16,
    /// [`abi::domain_flag`].
    pub flags: u32,
    /// Frames of 4096 bytes that it has.
    pub pages: u64,
    /// Frames that it may have.
    pub max_pages: u64,
    /// ns that its vCPUs ran.
    pub cpu_time: u64,
    /// vCPUs that are online.
    pub online_vcpus: u32,
    /// vCPUs that it can have.
    pub vcpus: u32,
    /// UUID.
    pub uuid: [u8; 16],
    /// cpupool; `None` for a domain that is in none.
    pub pool: Option<u32>,
    /// Devices that Xen emulates for it (`XEN_X86_EMU_*`); 0 where Xen does not say.
    pub emulation: u32,
}

impl DomainInfo {
    /// True for a flag of [`abi::domain_flag`].
    pub fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// What Xen says of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuInfo {
    /// It is up.
    pub online: bool,
    /// It waits for an event.
    pub blocked: bool,
    /// It is on a pCPU.
    pub running: bool,
    /// ns that it ran, up to now.
    pub cpu_time: u64,
    /// The pCPU it is or was last on.
    pub cpu: u32,
}

/// The registers of a vCPU that a profiler looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer.
    pub rbp: u64,
    /// Selectors of code and stack.
    pub cs: u16,
    /// See [`Context::cs`].
    pub ss: u16,
    /// PV: it is in its kernel.
    pub in_kernel: bool,
    /// CR0.
    pub cr0: u64,
    /// PV: CR3 of user space, as [`Context::cr3`]; 0 when there is none.
    pub user_cr3: u64,
    /// CR3; of a PV domain the address of a machine frame.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// PV: top of the kernel's stack.
    pub kernel_sp: u64,
}

/// A cpupool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its number.
    pub id: u32,
    /// `XEN_SCHEDULER_*`: [`abi::scheduler_name`].
    pub scheduler: u32,
}

/// Xen, with the versions of its interfaces.
#[derive(Debug)]
pub struct Hypervisor {
    pub(super) gate: Box<dyn Gate>,
    pub(super) buffer: Buffer,
    version: (u16, u16),
    domctl: u32,
    sysctl: u32,
    /// Where a multicall asks whose a domain's id is.
    whose: Vec<(u16, usize)>,
}

/// UUID of the domain that had an id at the end of a call; `None`: there was none.
pub type Owner = Option<[u8; 16]>;

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

impl Hypervisor {
    /// Opens privcmd and finds out what this Xen speaks.
    ///
    /// # Errors
    /// Why dom0's doors are closed, see [`XenError`].
    pub fn open() -> Result<Hypervisor> {
        Hypervisor::through(Box::new(Privcmd::open()?))
    }

    pub(super) fn through(gate: Box<dyn Gate>) -> Result<Hypervisor> {
        let mut buffer = gate.buffer(BUFFER_LEN).map_err(|e| XenError::call("take memory for hypercalls", e))?;
        // On arm64 a page that was never written to is read-only to Xen (EFAULT): Linux waits for the first write.
        buffer.clear(0, BUFFER_LEN);
        let mut xen = Hypervisor { gate, buffer, version: (0, 0), domctl: 0, sysctl: 0, whose: Vec::new() };
        let version = xen
            .simple(hypercall::VERSION, abi::version::VERSION)
            .map_err(|error| XenError::refused(&crate::machine::Machine::here(), error))?;
        xen.version = ((version >> 16) as u16, version as u16);
        xen.domctl = xen.probe("domctl", &domctl::VERSIONS, |xen, version| {
            xen.domctl = version;
            xen.domctl(domctl::INFO, 0)
        })?;
        xen.sysctl = xen.probe("sysctl", &sysctl::VERSIONS, |xen, version| {
            xen.sysctl = version;
            xen.sysctl_call(sysctl::PHYSINFO, |_| {})
        })?;
        Ok(xen)
    }

    /// The version that is not refused with EACCES: Xen looks at it before everything else.
    fn probe(
        &mut self,
        interface: &'static str,
        versions: &[u32],
        mut call: impl FnMut(&mut Hypervisor, u32) -> io::Result<i64>,
    ) -> Result<u32> {
        for &version in versions {
            match call(self, version) {
                Err(error) if is(&error, libc::EACCES) => {}
                Err(error) if is(&error, libc::EPERM) => {
                    return Err(XenError::refused(&crate::machine::Machine::here(), error));
                }
                Err(error) => return Err(XenError::call(format!("answer a first {interface}"), error)),
                Ok(_) => return Ok(version),
            }
        }
        let (major, minor) = self.version;
        Err(XenError::Version { major, minor, interface })
    }

    /// Xen's version, major and minor.
    pub fn version(&self) -> (u16, u16) {
        self.version
    }

    /// Versions of domctl and sysctl.
    pub fn interfaces(&self) -> (u32, u32) {
        (self.domctl, self.sysctl)
    }

    pub(super) fn privcmd(&self) -> Option<BorrowedFd<'_>> {
        self.gate.privcmd()
    }

    /// One trip through privcmd that does nothing: what other calls are compared with.
    pub fn null_call(&self) -> Result<()> {
        self.simple(hypercall::VERSION, abi::version::VERSION)
            .map(|_| ())
            .map_err(|e| XenError::call("say its version", e))
    }

    pub(super) fn simple(&self, op: u64, command: u64) -> io::Result<i64> {
        // SAFETY: of these calls Xen writes nothing, or to our own buffer, whose address is the second argument.
        unsafe { self.gate.hypercall(op, [command, self.buffer.address(BULK_AT), 0, 0, 0]) }
    }

    /// What follows the number of the version, e.g. `.7`.
    pub fn extra_version(&mut self) -> Option<String> {
        self.buffer.clear(BULK_AT, abi::version::EXTRA_LEN);
        self.simple(hypercall::VERSION, abi::version::EXTRA).ok()?;
        Some(self.buffer.text(BULK_AT, abi::version::EXTRA_LEN))
    }

    /// Xen's own command line.
    pub fn command_line(&mut self) -> Option<String> {
        self.buffer.clear(BULK_AT, abi::version::COMMAND_LINE_LEN);
        self.simple(hypercall::VERSION, abi::version::COMMAND_LINE).ok()?;
        Some(self.buffer.text(BULK_AT, abi::version::COMMAND_LINE_LEN))
    }

    /// Xen's build id.
    pub fn build_id(&mut self) -> Option<Vec<u8>> {
        self.buffer.put(BULK_AT, 64u32);
        let len = usize::try_from(self.simple(hypercall::VERSION, abi::version::BUILD_ID).ok()?).ok()?;
        Some((0..len.min(64)).map(|at| self.buffer.u8(BULK_AT + 4 + at)).collect())
    }

    /// pCPUs that are online, and their speed in kHz.
    pub fn cpus(&mut self) -> Result<(u32, u32)> {
        self.sysctl_call(sysctl::PHYSINFO, |_| {}).map_err(|e| XenError::call("describe the machine", e))?;
        let body = CALLS_AT + SYSCTL_BODY;
        Ok((self.buffer.u32(body + offset_of!(PhysInfo, cpus)), self.buffer.u32(body + offset_of!(PhysInfo, khz))))
    }

    /// How long every pCPU has been idle, ns, by its number.
    ///
    /// # Errors
    /// When Xen does not answer.
    pub fn idle(&mut self, times: &mut Vec<u64>) -> Result<()> {
        let body = CALLS_AT + SYSCTL_BODY;
        let bulk = self.buffer.address(BULK_AT);
        self.sysctl_call(sysctl::CPUS, |buffer| {
            buffer.put(body + offset_of!(CpuInfoCall, max), CPUS_MAX as u32);
            buffer.put(body + offset_of!(CpuInfoCall, info), bulk);
        })
        .map_err(|e| XenError::call("tell how long CPUs were idle", e))?;
        let num = self.buffer.u32(body + offset_of!(CpuInfoCall, num)).min(CPUS_MAX as u32);
        times.clear();
        times.extend((0..num as usize).map(|cpu| self.buffer.u64(BULK_AT + cpu * 8)));
        Ok(())
    }

    /// Fills in the call number `slot`: a domctl with an empty body.
    pub(super) fn prepare(&mut self, slot: usize, command: u32, domain: u16) -> usize {
        let at = CALLS_AT + slot * size_of::<Domctl>();
        self.buffer.clear(at, size_of::<Domctl>());
        self.buffer.put(at, command);
        self.buffer.put(at + offset_of!(Domctl, version), self.domctl);
        self.buffer.put(at + offset_of!(Domctl, domain), domain);
        at + DOMCTL_BODY
    }

    /// Makes the prepared call of slot 0.
    pub(super) fn prepared(&self) -> io::Result<i64> {
        // SAFETY: Xen writes to the domctl, which lies in our buffer, and through handles in it, which all functions here
        // point into the buffer's bulk part, with its length.
        unsafe { self.gate.hypercall(hypercall::DOMCTL, [self.buffer.address(CALLS_AT), 0, 0, 0, 0]) }
    }

    fn domctl(&mut self, command: u32, domain: u16) -> io::Result<i64> {
        self.prepare(0, command, domain);
        self.prepared()
    }

    pub(super) fn sysctl_call(&mut self, command: u32, fill: impl FnOnce(&mut Buffer)) -> io::Result<i64> {
        self.buffer.clear(CALLS_AT, size_of::<Sysctl>());
        self.buffer.put(CALLS_AT, command);
        self.buffer.put(CALLS_AT + offset_of!(Sysctl, version), self.sysctl);
        fill(&mut self.buffer);
        // SAFETY: as in `prepared`.
        unsafe { self.gate.hypercall(hypercall::SYSCTL, [self.buffer.address(CALLS_AT), 0, 0, 0, 0]) }
    }

    /// All domains, by id.
    pub fn domains(&mut self) -> Result<Vec<DomainInfo>> {
        let stride = abi::domain_stride(self.domctl);
        let room = (BULK_LEN / stride) as u32;
        let mut list: Vec<DomainInfo> = Vec::new();
        let body = CALLS_AT + SYSCTL_BODY;
        loop {
            let first = list.last().map_or(0, |last| last.id + 1);
            let bulk = self.buffer.address(BULK_AT);
            self.sysctl_call(sysctl::DOMAINS, |buffer| {
                buffer.put(body + offset_of!(DomainListCall, first), first);
                buffer.put(body + offset_of!(DomainListCall, max), room);
                buffer.put(body + offset_of!(DomainListCall, buffer), bulk);
            })
            .map_err(|e| XenError::call("list the domains", e))?;
            let num = self.buffer.u32(body + offset_of!(DomainListCall, num)).min(room);
            for index in 0..num as usize {
                let info = self.info(BULK_AT + index * stride);
                if list.last().is_none_or(|last| last.id < info.id) {
                    list.push(info);
                }
            }
            if num < room || list.len() >= DOMAINS_MAX || list.last().is_none_or(|last| last.id < first) {
                return Ok(list);
            }
        }
    }

    fn info(&self, at: usize) -> DomainInfo {
        let b = &self.buffer;
        let pool = b.u32(at + offset_of!(DomainInfoEntry, pool));
        DomainInfo {
            id: b.u16(at),
            flags: b.u32(at + offset_of!(DomainInfoEntry, flags)),
            pages: b.u64(at + offset_of!(DomainInfoEntry, total_pages)),
            max_pages: b.u64(at + offset_of!(DomainInfoEntry, max_pages)),
            cpu_time: b.u64(at + offset_of!(DomainInfoEntry, cpu_time)),
            online_vcpus: b.u32(at + offset_of!(DomainInfoEntry, online_vcpus)),
            // XEN_INVALID_MAX_VCPU_ID is ~0: none.
            vcpus: b.u32(at + offset_of!(DomainInfoEntry, max_vcpu)).wrapping_add(1).min(8192),
            uuid: b.bytes(at + offset_of!(DomainInfoEntry, handle)),
            pool: (pool != u32::MAX).then_some(pool),
            emulation: if cfg!(target_arch = "x86_64") { b.u32(at + abi::emulation_flags_at(self.domctl)) } else { 0 },
        }
    }

    /// Asks about vCPUs, `CALLS_MAX` in one trip; `answers` gets one for each: `None` when the vCPU is not there.
    pub fn vcpus(&mut self, asked: &[(u16, u32)], answers: &mut Vec<Option<VcpuInfo>>) -> Result<()> {
        answers.clear();
        for batch in asked.chunks(CALLS_MAX) {
            self.prepare_vcpus(batch);
            self.multicall(hypercall::DOMCTL, batch.len())?;
            answers.extend((0..batch.len()).map(|slot| self.vcpu(slot)));
        }
        Ok(())
    }

    /// [`Self::vcpus`], and whose their domains' ids were when all of a trip had been asked.
    pub fn vcpus_owned(
        &mut self,
        asked: &[(u16, u32)],
        answers: &mut Vec<Option<VcpuInfo>>,
        owners: &mut Vec<Owner>,
    ) -> Result<()> {
        answers.clear();
        owners.clear();
        for batch in asked.chunks(CALLS_MAX / 2) {
            self.prepare_vcpus(batch);
            let calls = self.prepare_owners(batch.len(), batch.iter().map(|(domain, _)| *domain));
            self.multicall(hypercall::DOMCTL, calls)?;
            answers.extend((0..batch.len()).map(|slot| self.vcpu(slot)));
            owners.extend(batch.iter().map(|(domain, _)| self.owner(*domain)));
        }
        Ok(())
    }

    fn prepare_vcpus(&mut self, batch: &[(u16, u32)]) {
        for (slot, &(domain, vcpu)) in batch.iter().enumerate() {
            let body = self.prepare(slot, domctl::VCPU, domain);
            self.buffer.put(body, vcpu);
        }
    }

    fn vcpu(&self, slot: usize) -> Option<VcpuInfo> {
        let body = CALLS_AT + slot * size_of::<Domctl>() + DOMCTL_BODY;
        let b = &self.buffer;
        (self.result(slot) == 0).then(|| VcpuInfo {
            online: b.u8(body + offset_of!(VcpuInfoCall, online)) != 0,
            blocked: b.u8(body + offset_of!(VcpuInfoCall, blocked)) != 0,
            running: b.u8(body + offset_of!(VcpuInfoCall, running)) != 0,
            cpu_time: b.u64(body + offset_of!(VcpuInfoCall, cpu_time)),
            cpu: b.u32(body + offset_of!(VcpuInfoCall, cpu)),
        })
    }

    /// Asks behind `calls` calls whose every domain's id is; how many calls there are now.
    fn prepare_owners(&mut self, calls: usize, domains: impl Iterator<Item = u16>) -> usize {
        self.whose.clear();
        for domain in domains {
            if !self.whose.iter().any(|(known, _)| *known == domain) {
                let slot = calls + self.whose.len();
                self.prepare(slot, domctl::INFO, domain);
                self.whose.push((domain, slot));
            }
        }
        calls + self.whose.len()
    }

    fn owner(&self, domain: u16) -> Owner {
        let slot = self.whose.iter().find(|(known, _)| *known == domain)?.1;
        let body = CALLS_AT + slot * size_of::<Domctl>() + DOMCTL_BODY;
        // Of an id that nobody has Xen describes the next domain.
        let is_it = self.result(slot) == 0 && self.buffer.u16(body) == domain;
        is_it.then(|| self.buffer.bytes(body + offset_of!(DomainInfoEntry, handle)))
    }

    /// The registers of vCPUs, 32 in one trip; `wide` says for each whether its domain has 64-bit registers. Xen stops a
    /// vCPU for the moment in which it copies them. `owners`: whose the domains' ids were when all of a trip had been copied.
    pub fn contexts(
        &mut self,
        asked: &[(u16, u32, bool)],
        answers: &mut Vec<Option<Context>>,
        owners: &mut Vec<Owner>,
    ) -> Result<()> {
        answers.clear();
        owners.clear();
        for batch in asked.chunks(CONTEXTS_MAX) {
            for (slot, &(domain, vcpu, _)) in batch.iter().enumerate() {
                let body = self.prepare(slot, domctl::CONTEXT, domain);
                let context = self.buffer.address(BULK_AT + slot * context64::SIZE);
                self.buffer.put(body, vcpu);
                self.buffer.put(body + offset_of!(VcpuContextCall, context), context);
            }
            let calls = self.prepare_owners(batch.len(), batch.iter().map(|(domain, ..)| *domain));
            self.multicall(hypercall::DOMCTL, calls)?;
            answers.extend(batch.iter().enumerate().map(|(slot, &(.., wide))| {
                let at = BULK_AT + slot * context64::SIZE;
                (self.result(slot) == 0).then(|| if wide { self.context64(at) } else { self.context32(at) })
            }));
            owners.extend(batch.iter().map(|(domain, ..)| self.owner(*domain)));
        }
        Ok(())
    }

    fn context64(&self, at: usize) -> Context {
        let b = &self.buffer;
        Context {
            rip: b.u64(at + context64::RIP),
            rsp: b.u64(at + context64::RSP),
            rbp: b.u64(at + context64::RBP),
            cs: b.u16(at + context64::CS),
            ss: b.u16(at + context64::SS),
            in_kernel: b.u32(at + context64::FLAGS) & abi::IN_KERNEL != 0,
            cr0: b.u64(at + context64::CR),
            user_cr3: b.u64(at + context64::CR + 8),
            cr3: b.u64(at + context64::CR + 3 * 8),
            cr4: b.u64(at + context64::CR + 4 * 8),
            kernel_sp: b.u64(at + context64::KERNEL_SP),
        }
    }

    fn context32(&self, at: usize) -> Context {
        let b = &self.buffer;
        Context {
            rip: b.u32(at + context32::EIP).into(),
            rsp: b.u32(at + context32::ESP).into(),
            rbp: b.u32(at + context32::EBP).into(),
            cs: b.u16(at + context32::CS),
            ss: 0,
            in_kernel: b.u32(at + context32::FLAGS) & abi::IN_KERNEL != 0,
            cr0: b.u32(at + context32::CR).into(),
            user_cr3: 0,
            // xen_cr3_to_pfn of arch-x86/xen-x86_32.h: the upper bits of the frame stand in the lower ones of CR3.
            cr3: u64::from(b.u32(at + context32::CR + 3 * 4).rotate_right(12)) << 12,
            cr4: b.u32(at + context32::CR + 4 * 4).into(),
            kernel_sp: 0,
        }
    }

    /// Makes `count` prepared domctls, or other calls that are given their slot's address, in one hypercall.
    pub(super) fn multicall(&mut self, op: u64, count: usize) -> Result<()> {
        for slot in 0..count {
            let at = slot * size_of::<MulticallEntry>();
            let call = self.buffer.address(CALLS_AT + slot * size_of::<Domctl>());
            self.buffer.clear(at, size_of::<MulticallEntry>());
            self.buffer.put(at, op);
            self.buffer.put(at + offset_of!(MulticallEntry, args), call);
        }
        // SAFETY: as in `prepared`, for each of the entries.
        unsafe { self.gate.hypercall(hypercall::MULTICALL, [self.buffer.address(0), count as u64, 0, 0, 0]) }
            .map_err(|e| XenError::call(format!("answer {count} calls at once"), e))?;
        Ok(())
    }

    pub(super) fn result(&self, slot: usize) -> i64 {
        self.buffer.u64(slot * size_of::<MulticallEntry>() + offset_of!(MulticallEntry, result)) as i64
    }

    fn of_domain(domain: u16, attempt: &str, error: io::Error) -> XenError {
        if is(&error, libc::ESRCH) {
            XenError::DomainGone(domain)
        } else {
            XenError::call(format!("{attempt} domain {domain}"), error)
        }
    }

    /// Stops all vCPUs of a domain, when Xen has them stopped. Counted: each call wants an [`Hypervisor::unpause`].
    pub fn pause(&mut self, domain: u16) -> Result<()> {
        self.domctl(domctl::PAUSE, domain).map(|_| ()).map_err(|e| Self::of_domain(domain, "pause", e))
    }

    /// Takes one [`Hypervisor::pause`] back.
    pub fn unpause(&mut self, domain: u16) -> Result<()> {
        self.domctl(domctl::UNPAUSE, domain).map(|_| ()).map_err(|e| Self::of_domain(domain, "unpause", e))
    }

    /// Bits of a PV guest's registers: 32 or 64.
    pub fn address_size(&mut self, domain: u16) -> Result<u32> {
        self.domctl(domctl::ADDRESS_SIZE, domain).map_err(|e| Self::of_domain(domain, "tell the word size of", e))?;
        Ok(self.buffer.u32(CALLS_AT + DOMCTL_BODY))
    }

    /// The highest guest frame of a domain.
    pub fn maximum_frame(&mut self, domain: u16) -> Result<u64> {
        self.buffer.clear(BULK_AT, 8);
        self.buffer.put(BULK_AT, domain);
        let answer = self.simple(hypercall::MEMORY, abi::MEMORY_MAXIMUM_GPFN);
        answer.map(|highest| highest as u64).map_err(|e| Self::of_domain(domain, "tell the memory size of", e))
    }

    /// Weight and cap of a domain under credit or credit2.
    pub fn weight(&mut self, domain: u16, scheduler: u32) -> Option<(u16, u16)> {
        if !matches!(abi::scheduler_name(scheduler), "credit" | "credit2") {
            return None;
        }
        let body = self.prepare(0, domctl::SCHEDULER, domain);
        self.buffer.put(body, scheduler);
        self.buffer.put(body + offset_of!(SchedulerCall, command), domctl::SCHEDULER_GET);
        self.prepared().ok()?;
        let at = |offset| self.buffer.u16(body + offset);
        Some((at(offset_of!(SchedulerCall, weight)), at(offset_of!(SchedulerCall, cap))))
    }

    /// The pCPUs a vCPU may run on (hard affinity), below `cpus`.
    pub fn affinity(&mut self, domain: u16, vcpu: u32, cpus: u32) -> Option<Vec<u32>> {
        let cpus = cpus.min(CPUS_MAX as u32);
        let body = self.prepare(0, domctl::AFFINITY, domain);
        self.buffer.clear(BULK_AT, CPUS_MAX / 8);
        let bits = self.buffer.address(BULK_AT);
        self.buffer.put(body, vcpu);
        self.buffer.put(body + offset_of!(AffinityCall, flags), domctl::AFFINITY_HARD);
        self.buffer.put(body + offset_of!(AffinityCall, hard) + offset_of!(Bitmap, bits), bits);
        self.buffer.put(body + offset_of!(AffinityCall, hard) + offset_of!(Bitmap, len), cpus);
        self.prepared().ok()?;
        Some(self.bitmap(cpus))
    }

    fn bitmap(&self, len: u32) -> Vec<u32> {
        (0..len).filter(|bit| self.buffer.u8(BULK_AT + (bit / 8) as usize) >> (bit % 8) & 1 == 1).collect()
    }

    /// The cpupools.
    pub fn pools(&mut self) -> Vec<PoolInfo> {
        let mut list: Vec<PoolInfo> = Vec::new();
        let body = CALLS_AT + SYSCTL_BODY;
        while list.len() < CPUS_MAX {
            let next = list.last().map_or(0, |pool| pool.id + 1);
            let bits = self.buffer.address(BULK_AT);
            let answer = self.sysctl_call(sysctl::POOL, |buffer| {
                buffer.put(body, sysctl::POOL_INFO);
                buffer.put(body + offset_of!(PoolCall, pool), next);
                buffer.put(body + offset_of!(PoolCall, cpus) + offset_of!(Bitmap, bits), bits);
                buffer.put(body + offset_of!(PoolCall, cpus) + offset_of!(Bitmap, len), CPUS_MAX as u32);
            });
            let id = self.buffer.u32(body + offset_of!(PoolCall, pool));
            if answer.is_err() || id < next {
                break;
            }
            list.push(PoolInfo { id, scheduler: self.buffer.u32(body + offset_of!(PoolCall, scheduler)) });
        }
        list
    }

    /// Maps frames of a domain read-only (guest frames; of a PV domain machine frames), at most 512. Frames that Xen refuses
    /// are not there in the mapping.
    pub fn map(&self, domain: u16, frames: &[u64]) -> Result<Mapping> {
        debug_assert!(frames.len() <= BATCH_MAX);
        self.gate.map(domain, frames, false).map_err(|e| Self::of_domain(domain, "give memory of", e))
    }
}
