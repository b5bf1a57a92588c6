//! `struct perf_event_attr`, every version of it (`PERF_ATTR_SIZE_VER0` to `VER9`).
//!
//! A file may hold attrs shorter or longer than the newest one known here, and their own `size` may lie: fields past
//! the end are 0, bytes past the last known field are ignored.
//!
//! The flags are a C bit field, so a recording of a big-endian machine has the first flag in the highest bit
//! ([`Codec::bits64`]). perf reverses the bits of each byte, which is the same for flags of one bit, and turns a
//! `precise_ip` of 1 into 2 and back; here the two bits of `precise_ip` stay a number.

use crate::abi;
use crate::codec::{ByteOrder, Codec, Coded, Decoder, Encoder, Short};
use crate::sample::SampleFormat;
use crate::{Error, Result};

/// The newest size known, bytes.
const NEWEST: usize = abi::ATTR_SIZES[abi::ATTR_SIZES.len() - 1] as usize;
/// The oldest size, bytes (`PERF_ATTR_SIZE_VER0`).
const OLDEST: usize = abi::ATTR_SIZES[0] as usize;

/// Widths of the flags in bits: fifteen of one bit, `precise_ip`, and the others, the reserved ones among them.
const FLAG_WIDTHS: [u32; 63] = {
    let mut widths = [1; 63];
    widths[abi::attr_flag::PRECISE_SHIFT as usize] = 2;
    widths
};

/// `struct perf_event_attr` of `include/uapi/linux/perf_event.h`, in host order. Unions keep the kernel's
/// first name; the flag bits stay one word ([`abi::attr_flag`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// `PERF_TYPE_*` or a PMU's number.
    pub kind: u32,
    /// Size the writer gave (bytes); 0 means the oldest, 64.
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
    /// The fields in order.
    fn fields<C: Codec>(&mut self, c: &mut C) -> Coded {
        c.u32(&mut self.kind)?;
        c.u32(&mut self.size)?;
        c.u64(&mut self.config)?;
        c.u64(&mut self.sample_period)?;
        c.u64(&mut self.sample_type)?;
        c.u64(&mut self.read_format)?;
        c.bits64(&mut self.flags, &FLAG_WIDTHS)?;
        c.u32(&mut self.wakeup_events)?;
        c.u32(&mut self.bp_type)?;
        c.u64(&mut self.config1)?;
        c.u64(&mut self.config2)?;
        c.u64(&mut self.branch_sample_type)?;
        c.u64(&mut self.sample_regs_user)?;
        c.u32(&mut self.sample_stack_user)?;
        c.i32(&mut self.clockid)?;
        c.u64(&mut self.sample_regs_intr)?;
        c.u32(&mut self.aux_watermark)?;
        c.u16(&mut self.sample_max_stack)?;
        c.zeros(2)?;
        c.u32(&mut self.aux_sample_size)?;
        c.flags32(&mut self.aux_action)?;
        c.u64(&mut self.sig_data)?;
        c.u64(&mut self.config3)?;
        c.u64(&mut self.config4)
    }

    /// Decodes an attr of any version from `bytes`, of which it may be the beginning.
    ///
    /// # Errors
    /// [`Error::Damaged`] when there are fewer than 64 bytes.
    pub fn decode(bytes: &[u8], order: ByteOrder) -> Result<Attr> {
        let short = || Error::damaged(format!("an event attribute of {} bytes, less than 64", bytes.len()), 0);
        let oldest = bytes.first_chunk::<OLDEST>().ok_or_else(short)?;
        let len = match Attr::size_of(oldest, order) {
            0..OLDEST => OLDEST,
            size => size.min(bytes.len()).min(NEWEST),
        };
        let mut whole = [0; NEWEST];
        whole[..len].copy_from_slice(&bytes[..len]);
        let mut attr = Attr::default();
        attr.fields(&mut Decoder::<false>::new(&whole, 0, order)).map_err(|_| short())?;
        Ok(attr)
    }

    /// Bytes that an attr says it has; what follows it in a HEADER_ATTR record starts there. Untrusted.
    fn size_of(oldest: &[u8; OLDEST], order: ByteOrder) -> usize {
        let size = order.u32([oldest[4], oldest[5], oldest[6], oldest[7]]);
        if size == 0 { OLDEST } else { size as usize }
    }

    /// The fields of an attr that is as long as it says, as in a HEADER_ATTR record.
    pub(crate) fn sized<C: Codec>(&mut self, c: &mut C) -> Coded {
        let order = c.order();
        let mut bytes = self.encode(order, self.size);
        let mut tail = bytes.split_off(OLDEST);
        let mut oldest = [0; OLDEST];
        oldest.copy_from_slice(&bytes);
        c.array(&mut oldest)?;
        let more = Attr::size_of(&oldest, order).checked_sub(OLDEST).ok_or(Short)?;
        c.bytes(&mut tail, more as u64)?;
        bytes.copy_from_slice(&oldest);
        bytes.extend_from_slice(&tail);
        *self = Attr::decode(&bytes, order).map_err(|_| Short)?;
        Ok(())
    }

    /// Encodes the attr as one of `size` bytes (made 64 or 4,096 when less or more: the kernel's limits), and says so
    /// in its `size` field. Fields past `size` are left out.
    pub fn encode(&self, order: ByteOrder, size: u32) -> Vec<u8> {
        let size = size.clamp(OLDEST as u32, 4096);
        let mut out = Vec::with_capacity(NEWEST);
        let mut attr = Attr { size, ..self.clone() };
        // An encoder of an attr has nothing to fail at: there is no array in it.
        let _ = attr.fields(&mut Encoder::new(&mut out, order));
        out.resize(size as usize, 0);
        out
    }

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
