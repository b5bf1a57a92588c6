//! `perf_event_open(2)`, the ioctls of its descriptors, and reading their counts.
//!
//! The ABI's struct is filled from our own [`Attr`] in one place; unknown bits of `Attr::flags` are passed through,
//! so that a newer kernel's answer (E2BIG, EINVAL) is the kernel's own.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use perf_event_open_sys::bindings::{self, __BindgenBitfieldUnit, perf_event_attr};
use perf_event_open_sys::ioctls;
use xprof_perfdata::attr::Attr;

/// `PERF_FLAG_PID_CGROUP`: `pid` is a descriptor of a cgroup directory.
pub const FLAG_PID_CGROUP: u64 = bindings::PERF_FLAG_PID_CGROUP as u64;

fn raw(attr: &Attr) -> perf_event_attr {
    let mut raw = perf_event_attr {
        type_: attr.kind,
        size: size_of::<perf_event_attr>() as u32,
        config: attr.config,
        sample_type: attr.sample_type,
        read_format: attr.read_format,
        bp_type: attr.bp_type,
        branch_sample_type: attr.branch_sample_type,
        sample_regs_user: attr.sample_regs_user,
        sample_stack_user: attr.sample_stack_user,
        clockid: attr.clockid,
        sample_regs_intr: attr.sample_regs_intr,
        aux_watermark: attr.aux_watermark,
        sample_max_stack: attr.sample_max_stack,
        aux_sample_size: attr.aux_sample_size,
        sig_data: attr.sig_data,
        config3: attr.config3,
        config4: attr.config4,
        ..perf_event_attr::default()
    };
    raw.__bindgen_anon_1.sample_period = attr.sample_period;
    raw.__bindgen_anon_2.wakeup_events = attr.wakeup_events;
    raw.__bindgen_anon_3.config1 = attr.config1;
    raw.__bindgen_anon_4.config2 = attr.config2;
    raw.__bindgen_anon_5.aux_action = attr.aux_action;
    // C puts the first bit field lowest on little-endian machines and highest on big-endian ones.
    let flags = if cfg!(target_endian = "big") { attr.flags.reverse_bits() } else { attr.flags };
    raw._bitfield_1 = __BindgenBitfieldUnit::new(flags.to_ne_bytes());
    raw
}

/// Opens an event on thread `pid` (-1: all; a cgroup's descriptor with [`FLAG_PID_CGROUP`]) and `cpu` (-1: any),
/// in the group of `group`. The descriptor is closed on exec.
pub fn open(attr: &Attr, pid: i32, cpu: i32, group: Option<BorrowedFd<'_>>, flags: u64) -> io::Result<OwnedFd> {
    let mut raw = raw(attr);
    let group = group.map_or(-1, |fd| fd.as_raw_fd());
    let flags = flags | u64::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: `raw` is a whole, initialized perf_event_attr whose `size` is its own; the kernel writes at most its
    // `size` field. Events do not touch this process's memory (sigtrap and breakpoints act on the target's own).
    let fd = unsafe { perf_event_open_sys::perf_event_open(&mut raw, pid, cpu, group, flags as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn answer(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the event (and its inherited children) count.
pub fn enable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the ioctl takes a number and touches no memory of ours.
    answer(unsafe { ioctls::ENABLE(fd.as_raw_fd(), 0) })
}

/// Stops the event (and its inherited children). After it returns nothing more is written to its ring.
pub fn disable(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the ioctl takes a number and touches no memory of ours.
    answer(unsafe { ioctls::DISABLE(fd.as_raw_fd(), 0) })
}

/// The id that the kernel writes into this event's records.
pub fn id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut id = 0u64;
    // SAFETY: the kernel writes one u64 to the pointer, which is that of a live u64.
    answer(unsafe { ioctls::ID(fd.as_raw_fd(), &mut id) })?;
    Ok(id)
}

/// Sends the records of `fd` to the ring of `to`; both must be on the same CPU, on the same clock.
pub fn set_output(fd: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the ioctl takes a descriptor number and touches no memory of ours.
    answer(unsafe { ioctls::SET_OUTPUT(fd.as_raw_fd(), to.as_raw_fd()) })
}

/// Stops (`true`) or resumes writing to the ring of `fd`, for reading a ring that is overwritten.
pub fn pause_output(fd: BorrowedFd<'_>, pause: bool) -> io::Result<()> {
    // SAFETY: the ioctl takes a number and touches no memory of ours.
    answer(unsafe { ioctls::PAUSE_OUTPUT(fd.as_raw_fd(), u32::from(pause)) })
}

/// Sets a tracepoint filter (or an address filter).
pub fn set_filter(fd: BorrowedFd<'_>, filter: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads a NUL-terminated string from the pointer and does not write to it.
    answer(unsafe { ioctls::SET_FILTER(fd.as_raw_fd(), filter.as_ptr().cast_mut()) })
}

/// Reads the counts of an event into `words`, in the layout that its `read_format` names; the number of words read.
pub fn read_counts(fd: BorrowedFd<'_>, words: &mut [u64]) -> io::Result<usize> {
    let mut bytes = [0u8; 1024];
    let want = (words.len() * 8).min(bytes.len());
    let n = rustix::io::read(fd.as_fd(), &mut bytes[..want])?;
    let mut count = 0;
    for (word, chunk) in words.iter_mut().zip(bytes[..n].chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        *word = u64::from_ne_bytes(eight);
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xprof_perfdata::abi::{attr_flag, event_type, read_format, software};

    #[test]
    fn flags_reach_the_kernels_bit_fields() {
        let mut attr = Attr { flags: attr_flag::DISABLED | attr_flag::FREQ | attr_flag::BUILD_ID, ..Attr::default() };
        attr.flags |= 2 << attr_flag::PRECISE_SHIFT;
        let raw = raw(&attr);
        assert_eq!((raw.disabled(), raw.freq(), raw.build_id(), raw.precise_ip()), (1, 1, 1, 2));
        assert_eq!((raw.inherit(), raw.mmap(), raw.ksymbol(), raw.inherit_thread()), (0, 0, 0, 0));
    }

    #[test]
    fn counts_carry_the_id_of_the_ioctl() {
        let attr = Attr {
            kind: event_type::SOFTWARE,
            config: software::DUMMY,
            read_format: read_format::ID,
            ..Attr::default()
        };
        let fd = open(&attr, 0, -1, None, 0).unwrap();
        let mut words = [0; 8];
        assert_eq!(read_counts(fd.as_fd(), &mut words).unwrap(), 2);
        assert_eq!(words[1], id(fd.as_fd()).unwrap());
    }
}
