//! `struct perf_event_attr`, every version of it (`PERF_ATTR_SIZE_VER0` to `VER9`).

use crate::abi;
use crate::codec::ByteOrder;
use crate::sample::SampleFormat;

/// `struct perf_event_attr` of `include/uapi/linux/perf_event.h`, in host order. Unions keep the kernel's
/// first name; the flag bits stay one word ([`abi::attr_flag`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// `PERF_TYPE_*` or a PMU's number.
    pub kind: u32,
    /// Size the writer gave (bytes); 0 means "the newest".
    pub size: u32,
    /// Event number within the type.
    pub config: u64,
    /// Period (events) or frequency (Hz, with `abi::attr_flag::FREQ`).
    pub sample_period: u64,
    /// `PERF_SAMPLE_*`.
    pub sample_type: u64,
    /// `PERF_FORMAT_*`.
    pub read_format: u64,
    /// The bit field `disabled:1 .. defer_output:1`, as one word ([`abi::attr_flag`]).
    pub flags: u64,
    /// Events, or bytes with `WATERMARK`.
    pub wakeup_events: u32,
    /// `HW_BREAKPOINT_*`.
    pub bp_type: u32,
    /// Breakpoint address, kprobe name, or config1.
    pub config1: u64,
    /// Breakpoint length, or config2.
    pub config2: u64,
    /// `PERF_SAMPLE_BRANCH_*`.
    pub branch_sample_type: u64,
    /// Registers, one bit each.
    pub sample_regs_user: u64,
    /// Bytes of user stack to copy.
    pub sample_stack_user: u32,
    /// `CLOCK_*` with `USE_CLOCKID`.
    pub clockid: i32,
    /// Registers, one bit each.
    pub sample_regs_intr: u64,
    /// Bytes.
    pub aux_watermark: u32,
    /// Frames.
    pub sample_max_stack: u16,
    /// Bytes.
    pub aux_sample_size: u32,
    /// `aux_start_paused:1 aux_pause:1 aux_resume:1`.
    pub aux_action: u32,
    /// Signal data.
    pub sig_data: u64,
    /// config3 (VER8).
    pub config3: u64,
    /// config4 (VER9).
    pub config4: u64,
}

impl Attr {
    /// True when every bit of `flag` ([`abi::attr_flag`]) is set.
    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag == flag
    }

    /// The layout of this event's samples in a recording of this byte order.
    pub fn sample_format(&self, order: ByteOrder) -> SampleFormat {
        SampleFormat {
            order,
            sample_type: self.sample_type,
            read_format: self.read_format,
            branch_sample_type: self.branch_sample_type,
            sample_regs_user: self.sample_regs_user,
            sample_regs_intr: self.sample_regs_intr,
            sample_id_all: self.has(abi::attr_flag::SAMPLE_ID_ALL),
        }
    }
}
