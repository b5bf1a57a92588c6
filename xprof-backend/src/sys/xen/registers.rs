//! The hypercalls on performance and debug registers: the vPMU's mode, registers of pCPUs (`XENPF_resource_op`), registers of
//! vCPUs (`XEN_DOMCTL_get/set_vcpu_msrs`). What may be written is decided by who calls: nothing here looks at values.

use std::io;
use std::mem::offset_of;

use super::abi::{self, PmuParams, ResourceCall, ResourceEntry, VcpuMsr, VcpuMsrsCall, domctl, hypercall, platform};
use super::error::XenError;
use super::hypervisor::{BULK_AT, CALLS_AT, CALLS_MAX, Hypervisor};
use crate::msr::{Entry, MAX_ENTRIES};

/// Registers of a vCPU that are asked for at once; Xen 4.22 has twelve at most.
const VCPU_MSRS: usize = 64;
/// Bytes from one op of a multicall to the next.
const SLOT: usize = size_of::<abi::Domctl>();
const _: () = assert!(size_of::<ResourceCall>() <= SLOT && MAX_ENTRIES.div_ceil(platform::ENTRIES) <= CALLS_MAX);

impl Hypervisor {
    fn pmu(&mut self, command: u64, value: u64) -> io::Result<u64> {
        let params = PmuParams { major: 0, minor: abi::pmu::MINOR, value, vcpu: 0, pad: 0 };
        self.buffer.put(BULK_AT, params);
        self.simple(hypercall::XENPMU, command)?;
        Ok(self.buffer.u64(BULK_AT + offset_of!(PmuParams, value)))
    }

    /// The vPMU's mode (`XENPMU_MODE_*`: 0 off, 1 self, 2 hv, 4 all) and features.
    ///
    /// # Errors
    /// EOPNOTSUPP where Xen was started without `vpmu`, and in a PVH dom0 always.
    pub fn vpmu(&mut self) -> io::Result<(u64, u64)> {
        Ok((self.pmu(abi::pmu::MODE_GET, 0)?, self.pmu(abi::pmu::FEATURE_GET, 0)?))
    }

    /// Sets the vPMU's mode, of the whole host.
    ///
    /// # Errors
    /// As [`Self::vpmu`]; EBUSY when guests have a vPMU and the change is another one than between self and hv.
    pub fn set_vpmu(&mut self, mode: u64) -> io::Result<()> {
        self.pmu(abi::pmu::MODE_SET, mode).map(|_| ())
    }

    /// Reads or writes registers of a pCPU, three in an op, all ops in one hypercall: how many were done, in order. The first
    /// that was not has Xen's own negative errno as its status.
    ///
    /// Xen stops an op at its first bad entry, not a multicall at its first bad op: after a write that failed, entries
    /// of later ops may have been written.
    ///
    /// # Errors
    /// When nothing was done; ENODEV: the pCPU is offline or does not exist.
    pub fn cpu_registers(&mut self, cpu: u32, write: bool, entries: &mut [Entry]) -> io::Result<usize> {
        let mut done = 0;
        for batch in entries.chunks_mut(MAX_ENTRIES) {
            let count = self.resource_ops(cpu, write, batch)?;
            done += count;
            if count < batch.len() {
                break;
            }
        }
        Ok(done)
    }

    fn resource_ops(&mut self, cpu: u32, write: bool, batch: &mut [Entry]) -> io::Result<usize> {
        let command = if write { platform::WRITE } else { platform::READ };
        let at = |index: usize| BULK_AT + index * size_of::<ResourceEntry>();
        for (index, entry) in batch.iter().enumerate() {
            let entry = ResourceEntry { command, reserved: 0, index: entry.msr.into(), value: entry.value };
            self.buffer.put(at(index), entry);
        }
        let ops = batch.len().div_ceil(platform::ENTRIES);
        for slot in 0..ops {
            let first = slot * platform::ENTRIES;
            let count = (batch.len() - first).min(platform::ENTRIES) as u32;
            let entries = self.buffer.address(at(first));
            let call = ResourceCall {
                command: platform::RESOURCE,
                version: platform::VERSION,
                count,
                cpu,
                entries,
                rest: [0; 14],
            };
            self.buffer.put(CALLS_AT + slot * SLOT, call);
        }
        self.multicall(hypercall::PLATFORM, ops).map_err(|error| match error {
            XenError::Call { source, .. } => source,
            other => io::Error::other(other),
        })?;
        for slot in 0..ops {
            let first = slot * platform::ENTRIES;
            let wanted = (batch.len() - first).min(platform::ENTRIES);
            let answer = self.result(slot);
            if answer < 0 {
                let error = io::Error::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EIO));
                return if first == 0 { Err(error) } else { Ok(first) };
            }
            let count = (answer as usize).min(wanted);
            for (index, entry) in batch.iter_mut().enumerate().skip(first).take(count) {
                entry.status = 0;
                entry.value = self.buffer.u64(at(index) + offset_of!(ResourceEntry, value));
            }
            if count < wanted {
                let status = self.buffer.u32(at(first + count)) as i32;
                batch[first + count].status = if status < 0 { status } else { -libc::EIO };
                return Ok(first + count);
            }
        }
        Ok(batch.len())
    }

    /// Registers of a PV vCPU that are not zero, with their values; Xen stops it meanwhile.
    ///
    /// # Errors
    /// EINVAL: the domain is not PV, or the vCPU is the one that asks. ESRCH: there is no such domain or vCPU.
    pub fn vcpu_registers(&mut self, domain: u16, vcpu: u32) -> io::Result<Vec<(u32, u64)>> {
        let body = self.vcpu_msrs(domctl::GET_MSRS, domain, vcpu, VCPU_MSRS);
        self.prepared()?;
        let count = (self.buffer.u32(body + offset_of!(VcpuMsrsCall, count)) as usize).min(VCPU_MSRS);
        let one = |index: usize| {
            let at = BULK_AT + index * size_of::<VcpuMsr>();
            (self.buffer.u32(at), self.buffer.u64(at + offset_of!(VcpuMsr, value)))
        };
        Ok((0..count).map(one).collect())
    }

    /// Sets registers of a PV vCPU, in order: how many, and why the next one was not. Xen stops at the first that it refuses,
    /// and says how many it has done.
    pub fn set_vcpu_registers(&mut self, domain: u16, vcpu: u32, values: &[(u32, u64)]) -> (usize, io::Result<()>) {
        let mut done = 0;
        // Xen refuses lists that are longer than what it has of such registers: four are there where one is.
        for batch in values.chunks(4) {
            for (index, &(msr, value)) in batch.iter().enumerate() {
                self.buffer.put(BULK_AT + index * size_of::<VcpuMsr>(), VcpuMsr { index: msr, reserved: 0, value });
            }
            let body = self.vcpu_msrs(domctl::SET_MSRS, domain, vcpu, batch.len());
            match self.prepared() {
                Ok(_) => done += batch.len(),
                Err(error) => {
                    // Refused as a whole, Xen leaves the number as it was.
                    let count = self.buffer.u32(body + offset_of!(VcpuMsrsCall, count)) as usize;
                    return (done + if count < batch.len() { count } else { 0 }, Err(error));
                }
            }
        }
        (done, Ok(()))
    }

    /// Prepares such a call; where its body is.
    fn vcpu_msrs(&mut self, command: u32, domain: u16, vcpu: u32, count: usize) -> usize {
        let body = self.prepare(0, command, domain);
        let msrs = self.buffer.address(BULK_AT);
        self.buffer.put(body, VcpuMsrsCall { vcpu, count: count as u32, msrs });
        body
    }
}
