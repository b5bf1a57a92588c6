//! Counters of the calling thread, read without a system call where the kernel and the machine allow it.
//!
//! The kernel keeps a page for each mapped event (`struct perf_event_mmap_page`) that says which hardware counter holds
//! it now and what to add to that counter; the comment in `include/uapi/linux/perf_event.h` is the contract followed
//! here. Only the thread that is counted can read so, and only while the event is on a counter: everything else, and
//! everything odd, is asked of the kernel with `read(2)`, and [`Reading::way`] says which it was.
//!
//! * x86_64: `rdpmc`, allowed by `/sys/bus/event_source/devices/cpu/rdpmc` (1 by default).
//! * aarch64: `PMEVCNTR<n>_EL0` and `PMCCNTR_EL0`, allowed by `kernel.perf_user_access` (0 by default, Linux 5.17) to
//!   events that were opened for it. Who takes the permission away while it is used has the reader killed by SIGILL:
//!   that is the kernel's design.
//! * Others: always `read(2)`.
//!
//! The reads do not wait for older instructions: a processor that runs out of order may be some instructions ahead.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, compiler_fence};

use perf_event_open_sys::bindings::perf_event_mmap_page as Layout;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use xprof_perfdata::abi::{attr_flag, event_type, read_format};
use xprof_perfdata::attr::Attr;

use super::perf;
use super::ring::page_size;

/// `cap_user_rdpmc` and the others of `capabilities`, a C bit field (`include/uapi/linux/perf_event.h`); only
/// little-endian machines are read.
const CAP_USER_RDPMC: u64 = 1 << 2;
const CAP_USER_TIME: u64 = 1 << 3;
const CAP_USER_TIME_SHORT: u64 = 1 << 5;

/// `config1` of arm64's core PMU (`/sys/bus/event_source/devices/armv8_*/format`; `ARMV8_PMU_FORMAT_ATTR` in
/// drivers/perf/arm_pmuv3.c): bit 0 `long`, a counter of 64 bits; bit 1 `rdpmc` (`PERF_ATTR_CFG1_RDPMC`), user space reads it.
const ARM64_LONG: u64 = 1;
const ARM64_RDPMC: u64 = 1 << 1;

/// How often a page is read again when the kernel has changed it meanwhile, before the kernel is asked.
const TRIES: u32 = 16;

/// How a count was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the counter itself, without a system call.
    UserSpace,
    /// With `read(2)`.
    SystemCall,
}

/// A count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Events so far; not scaled.
    pub value: u64,
    /// ns in which it was to count.
    pub enabled: u64,
    /// ns of these in which it did count.
    pub running: u64,
    /// How this was read.
    pub way: Way,
}

/// An event that counts the thread that opened it, and no other: it stays in that thread (it is not `Send`).
#[derive(Debug)]
pub struct OwnCounter {
    fd: OwnedFd,
    page: Option<Page>,
}

impl OwnCounter {
    /// Opens an event on the calling thread, on whatever CPU it runs, not counting yet. What would make the event sample
    /// or follow children is left out; on arm64 it is opened for reading from user space where that is possible.
    ///
    /// # Errors
    /// The system's answer. That user space may not read the counter is none.
    pub fn open(attr: &Attr) -> io::Result<OwnCounter> {
        let mut attr = attr.clone();
        attr.sample_period = 0;
        attr.sample_type = 0;
        attr.read_format = read_format::TOTAL_TIME_ENABLED | read_format::TOTAL_TIME_RUNNING;
        attr.flags &= !(attr_flag::FREQ | attr_flag::ENABLE_ON_EXEC | attr_flag::INHERIT | attr_flag::PRECISE_IP);
        attr.flags |= attr_flag::DISABLED;
        let fd = open_readable(&attr)?;
        let page = Page::map(fd.as_fd()).ok();
        Ok(OwnCounter { fd, page })
    }

    /// Starts (`true`) or stops counting.
    ///
    /// # Errors
    /// The system's answer.
    pub fn enable(&self, on: bool) -> io::Result<()> {
        if on { perf::enable(self.fd.as_fd()) } else { perf::disable(self.fd.as_fd()) }
    }

    /// The count so far, without a system call if possible.
    ///
    /// # Errors
    /// Those of [`Self::read_by_call`].
    #[inline]
    pub fn read(&self) -> io::Result<Reading> {
        match self.page.as_ref().and_then(Page::read) {
            Some(reading) => Ok(reading),
            None => self.read_by_call(),
        }
    }

    /// The count so far, as the kernel says it.
    ///
    /// # Errors
    /// The system's answer; [`io::ErrorKind::UnexpectedEof`] for a pinned event that lost its counter.
    #[inline]
    pub fn read_by_call(&self) -> io::Result<Reading> {
        let mut words = [0; 3];
        if perf::read_counts(self.fd.as_fd(), &mut words)? != words.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [value, enabled, running] = words;
        Ok(Reading { value, enabled, running, way: Way::SystemCall })
    }
}

/// Opens an event so that user space may read it, if the machine has a way to ask for that and the kernel agrees.
fn open_readable(attr: &Attr) -> io::Result<OwnedFd> {
    // Elsewhere config1 is an address, or another PMU's own.
    let is_core = matches!(attr.kind, event_type::HARDWARE | event_type::HW_CACHE | event_type::RAW);
    if cfg!(target_arch = "aarch64") && is_core {
        // Before Armv8.5 only the cycle counter has 64 bits; narrower ones the kernel lengthens by interrupts.
        for wish in [ARM64_LONG | ARM64_RDPMC, ARM64_RDPMC] {
            let attr = Attr { config1: attr.config1 | wish, ..attr.clone() };
            match perf::open(&attr, 0, -1, None, 0) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
                answer => return answer,
            }
        }
    }
    perf::open(attr, 0, -1, None, 0)
}

/// The page of an event of the calling thread.
#[derive(Debug)]
struct Page {
    base: NonNull<u8>,
    mapped: usize,
}

impl Page {
    fn map(fd: BorrowedFd<'_>) -> io::Result<Page> {
        let mapped = page_size();
        // SAFETY: a fresh mapping at an address of the kernel's choice; it overlaps nothing that exists.
        let base = unsafe { mmap(ptr::null_mut(), mapped, ProtFlags::READ, MapFlags::SHARED, fd, 0)? };
        match NonNull::new(base.cast()) {
            Some(base) if mapped >= size_of::<Layout>() => Ok(Page { base, mapped }),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The count by the hardware; `None`: ask the kernel.
    #[inline]
    fn read(&self) -> Option<Reading> {
        self.read_by(hardware::counter, hardware::clock)
    }

    /// The same with `counter` (what the hardware counter of an `index` holds) and `clock` instead of the instructions.
    #[inline(always)]
    fn read_by(&self, counter: impl Fn(u32) -> Option<u64>, clock: impl Fn() -> u64) -> Option<Reading> {
        for _ in 0..TRIES {
            // The kernel writes the page on this very CPU while this thread does not run, so that the order of the
            // instructions as compiled is all that the sequence number needs.
            let sequence = self.u32(offset_of!(Layout, lock));
            compiler_fence(Ordering::SeqCst);
            let capabilities = self.u64(offset_of!(Layout, __bindgen_anon_1));
            let index = self.u32(offset_of!(Layout, index));
            let wanted = CAP_USER_RDPMC | CAP_USER_TIME;
            if capabilities & wanted != wanted || index == 0 {
                return None;
            }
            let counted = counter(index)?;
            let clock = Clock {
                cycles: clock(),
                shift: self.u16(offset_of!(Layout, time_shift)),
                mult: self.u32(offset_of!(Layout, time_mult)),
                offset: self.u64(offset_of!(Layout, time_offset)),
                short: (capabilities & CAP_USER_TIME_SHORT != 0)
                    .then(|| (self.u64(offset_of!(Layout, time_cycles)), self.u64(offset_of!(Layout, time_mask)))),
            };
            let width = self.u16(offset_of!(Layout, pmc_width));
            let offset = self.u64(offset_of!(Layout, offset));
            let enabled = self.u64(offset_of!(Layout, time_enabled));
            let running = self.u64(offset_of!(Layout, time_running));
            compiler_fence(Ordering::SeqCst);
            if self.u32(offset_of!(Layout, lock)) != sequence {
                continue;
            }
            let since = clock.since()?;
            return Some(Reading {
                value: offset.wrapping_add(extended(counted, width)?),
                enabled: enabled.wrapping_add(since),
                running: running.wrapping_add(since),
                way: Way::UserSpace,
            });
        }
        None
    }

    fn u16(&self, at: usize) -> u16 {
        // SAFETY: `at` is the offset of a u16 of the kernel's layout, which `map` has checked to be inside the mapping;
        // it is only loaded from, as the mapping is read-only.
        unsafe { AtomicU16::from_ptr(self.base.as_ptr().add(at).cast()) }.load(Ordering::Relaxed)
    }

    fn u32(&self, at: usize) -> u32 {
        // SAFETY: as in `u16`, for a u32.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }.load(Ordering::Relaxed)
    }

    fn u64(&self, at: usize) -> u64 {
        // SAFETY: as in `u16`, for a u64.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(at).cast()) }.load(Ordering::Relaxed)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made, and nothing points into it after `self`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// A counter of `width` bits as a signed number of 64. `None` for a width that cannot be.
#[inline]
fn extended(counter: u64, width: u16) -> Option<u64> {
    let unused = 64u32.checked_sub(width.into()).filter(|&unused| unused < 64)?;
    Some(((counter << unused) as i64 >> unused) as u64)
}

/// The hardware's clock, and how to make ns of it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    cycles: u64,
    shift: u16,
    mult: u32,
    offset: u64,
    /// `time_cycles` and `time_mask` of a clock of less than 64 bits.
    short: Option<(u64, u64)>,
}

impl Clock {
    /// ns since the kernel wrote the page. `None` for a shift that cannot be.
    #[inline]
    fn since(self) -> Option<u64> {
        let cycles = match self.short {
            Some((last, mask)) => last.wrapping_add(self.cycles.wrapping_sub(last) & mask),
            None => self.cycles,
        };
        let (shift, mult) = (u32::from(self.shift), u64::from(self.mult));
        let whole = cycles.checked_shr(shift)?;
        let rest = cycles & !(u64::MAX << shift);
        Some(self.offset.wrapping_add(whole.wrapping_mul(mult)).wrapping_add(rest.wrapping_mul(mult) >> shift))
    }
}

#[cfg(target_arch = "x86_64")]
mod hardware {
    use std::arch::asm;

    /// What the hardware counter of a page's `index` (not 0) holds.
    #[inline]
    pub(super) fn counter(index: u32) -> Option<u64> {
        let (low, high): (u32, u32);
        // SAFETY: rdpmc reads a register and writes two. It faults where it is not allowed or the counter does not
        // exist: the page has just said that it is allowed and that this counter holds the event.
        unsafe {
            asm!("rdpmc", in("ecx") index.wrapping_sub(1), out("eax") low, out("edx") high, options(nostack, preserves_flags));
        }
        Some(u64::from(high) << 32 | u64::from(low))
    }

    /// The time stamp counter.
    #[inline]
    pub(super) fn clock() -> u64 {
        // SAFETY: rdtsc reads a register; no kernel forbids it that offers `cap_user_time`.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
}

#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod hardware {
    use std::arch::asm;

    macro_rules! register {
        ($($name:tt)+) => {{
            let value: u64;
            // SAFETY: reads a register. Where user space may not, or the machine has fewer counters, it traps: the page
            // has just said that user space may and that this counter holds the event. (The clock is CNTVCT_EL0, which
            // Linux lets every process read or emulates.)
            unsafe {
                asm!(concat!("mrs {}, ", $($name)+), out(reg) value, options(nostack, preserves_flags));
            }
            value
        }};
    }

    macro_rules! counters {
        ($index:expr, $($number:literal)*) => {
            match $index {
                $(n if n == $number + 1 => Some(register!(concat!("pmevcntr", $number, "_el0"))),)*
                // `ARMV8_IDX_CYCLE_COUNTER_USER`, drivers/perf/arm_pmuv3.c
                32 => Some(register!("pmccntr_el0")),
                _ => None,
            }
        };
    }

    /// What the hardware counter of a page's `index` (not 0) holds.
    #[inline]
    pub(super) fn counter(index: u32) -> Option<u64> {
        counters!(index, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30)
    }

    /// The generic timer.
    #[inline]
    pub(super) fn clock() -> u64 {
        register!("cntvct_el0")
    }
}

#[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
mod hardware {
    /// No way is known here.
    pub(super) fn counter(_index: u32) -> Option<u64> {
        None
    }

    pub(super) fn clock() -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use xprof_perfdata::abi::software;

    use super::*;

    /// A software event is on no hardware counter.
    #[test]
    fn a_software_event_is_read_by_system_calls() {
        let attr = Attr { kind: event_type::SOFTWARE, config: software::TASK_CLOCK, ..Attr::default() };
        let counter = OwnCounter::open(&attr).unwrap();
        assert!(counter.page.is_some());
        assert_eq!(counter.read().unwrap().value, 0);
        let start = Instant::now();
        counter.enable(true).unwrap();
        let begin = counter.read().unwrap();
        while start.elapsed() < Duration::from_millis(20) {}
        let end = counter.read().unwrap();
        counter.enable(false).unwrap();
        let wall = start.elapsed().as_nanos() as u64;
        assert_eq!((begin.way, end.way), (Way::SystemCall, Way::SystemCall));
        // task-clock and the time enabled are the same clock, and the thread was not away for all of the time.
        assert!(end.value > begin.value && end.value <= wall, "{begin:?} {end:?} {wall}");
        assert!(end.enabled <= wall && end.running == end.enabled, "{end:?} {wall}");
        let stopped = counter.read().unwrap();
        assert_eq!(counter.read_by_call().unwrap(), stopped);
    }

    #[test]
    fn counters_are_signed_numbers_of_their_width() {
        assert_eq!(extended(0x7fff_ffff, 32), Some(0x7fff_ffff));
        assert_eq!(extended(0xffff_ffff_8000_0001, 32), Some(-0x7fff_ffff_i64 as u64));
        assert_eq!(extended(0x0000_ffff_ffff_fffe, 48), Some(-2_i64 as u64));
        assert_eq!(extended(u64::MAX - 1, 64), Some(u64::MAX - 1));
        assert_eq!((extended(1, 1), extended(1, 0), extended(1, 65)), (Some(u64::MAX), None, None));
    }

    #[test]
    fn the_clock_is_scaled_without_losing_its_low_bits() {
        // 3 GHz as 1/3 ns: mult / 2^shift = 0x5555_5555 / 2^32.
        let clock = Clock { cycles: 3_000_000_001, shift: 32, mult: 0x5555_5555, offset: 5, short: None };
        assert_eq!(clock.since(), Some(1_000_000_000 + 5));
        // 16 ns a tick, and a clock of 8 bits that has wrapped: 0x1fe and 4 more ticks.
        let clock = Clock { cycles: 0x02, shift: 4, mult: 256, offset: 0, short: Some((0x1fe, 0xff)) };
        assert_eq!(clock.since(), Some((0x1fe + 4) * 16));
        assert_eq!(Clock { shift: 64, ..clock }.since(), None);
    }

    /// A page as the kernel would write it, for what no emulator has: `rdpmc` is an illegal instruction in QEMU.
    fn written() -> Page {
        let mapped = page_size();
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let page = Page { base: NonNull::new(base.unwrap().cast()).unwrap(), mapped };
        set64(&page, offset_of!(Layout, __bindgen_anon_1), CAP_USER_RDPMC | CAP_USER_TIME);
        set32(&page, offset_of!(Layout, lock), 8);
        set32(&page, offset_of!(Layout, index), 3);
        set64(&page, offset_of!(Layout, offset), 1_000_000);
        set64(&page, offset_of!(Layout, time_enabled), 5_000);
        set64(&page, offset_of!(Layout, time_running), 4_000);
        // A counter of 48 bits, and 2 ns a tick of the clock, which was at 0 when the page was written.
        set64(&page, offset_of!(Layout, pmc_width), 48 | 1 << 16 | 4 << 32);
        page
    }

    fn set32(page: &Page, at: usize, value: u32) {
        // SAFETY: inside the mapping, which is writable, and aligned as the kernel's layout is.
        unsafe { AtomicU32::from_ptr(page.base.as_ptr().add(at).cast()) }.store(value, Ordering::Relaxed);
    }

    fn set64(page: &Page, at: usize, value: u64) {
        set32(page, at, value as u32);
        set32(page, at + 4, (value >> 32) as u32);
    }

    #[test]
    fn a_page_is_read_as_its_contract_says() {
        let page = written();
        let expected = Reading { value: 1_000_000 - 2, enabled: 5_014, running: 4_014, way: Way::UserSpace };
        // The hardware holds -2 in 48 bits, as the kernel starts counters below zero; ecx would be index - 1.
        let counter = |index| (index == 3).then_some(0xffff_ffff_fffe);
        assert_eq!(page.read_by(counter, || 7), Some(expected));

        set32(&page, offset_of!(Layout, index), 0);
        assert_eq!(page.read_by(counter, || 7), None, "on no counter");
        set32(&page, offset_of!(Layout, index), 4);
        assert_eq!(page.read_by(counter, || 7), None, "a counter that is not known");
        set32(&page, offset_of!(Layout, index), 3);
        for alone in [CAP_USER_RDPMC, CAP_USER_TIME] {
            set64(&page, offset_of!(Layout, __bindgen_anon_1), alone);
            assert_eq!(page.read_by(counter, || 7), None, "capabilities {alone}");
        }
    }

    #[test]
    fn a_page_that_changes_is_read_again_and_not_for_ever() {
        let page = written();
        let reads = std::cell::Cell::new(0);
        let changing = |until: u32| {
            reads.set(0);
            let (reads, page) = (&reads, &page);
            move |_| {
                reads.set(reads.get() + 1);
                if reads.get() <= until {
                    set32(page, offset_of!(Layout, lock), 8 + 2 * reads.get());
                    set64(page, offset_of!(Layout, offset), u64::from(reads.get()));
                }
                Some(0)
            }
        };
        assert_eq!(page.read_by(changing(3), || 0).map(|reading| reading.value), Some(3));
        assert_eq!(reads.get(), 4);
        assert_eq!(page.read_by(changing(u32::MAX), || 0), None);
        assert_eq!(reads.get(), TRIES);
    }
}
