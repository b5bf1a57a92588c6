//! The contract's one wire form: requests, responses and overflows as fixed records of little-endian fields, in cells of
//! 16 bytes (the size of an entry). Transports carry the cells in [`ring`]s; [`encoded`] has both ends.
//!
//! What comes off a ring was written by somebody else, who may still be writing: it is copied first, then looked at, and
//! no field is believed before it is checked. Who sent it is the ring's to know: no record says it.

pub mod encoded;
pub mod ring;
#[cfg(test)]
mod tests;

use super::{Cause, Class, DomId, Entry, MAX_ENTRIES, Mode, Overflow, Scope};

/// Bytes that travel together.
pub type Cell = [u8; CELL];
/// Bytes of a cell.
pub const CELL: usize = 16;
/// The version of the records here.
pub const VERSION: u16 = 1;
/// Cells of the longest request or response.
pub const LONGEST: usize = 1 + MAX_ENTRIES;
/// Cells of an overflow.
pub const OVERFLOW_CELLS: usize = size_of::<OverflowRecord>() / CELL;

/// [`RequestHead::flags`]: nobody waits for a response, and none is sent.
pub const NO_REPLY: u8 = 1;
/// [`RequestHead::flags`]: of `write`, interrupts are rearmed; of `irq_handler`, there is a handler.
pub const WITH: u8 = 2;

/// The five calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Call {
    /// [`Contract::allocate`](super::Contract::allocate).
    Allocate = 1,
    /// [`Contract::irq_handler`](super::Contract::irq_handler): overflows are sent from now on, or no more.
    IrqHandler = 2,
    /// [`Contract::set_default`](super::Contract::set_default).
    SetDefault = 3,
    /// [`Contract::write`](super::Contract::write).
    Write = 4,
    /// [`Contract::read`](super::Contract::read).
    Read = 5,
    /// The answer of a handler that claimed nothing; wants no reply. (One that claims says so by rearming.)
    Unclaimed = 6,
}

impl Call {
    fn of(byte: u8) -> Option<Call> {
        [Call::Allocate, Call::IrqHandler, Call::SetDefault, Call::Write, Call::Read, Call::Unclaimed]
            .into_iter()
            .find(|call| *call as u8 == byte)
    }
}

/// The first cell of a request; `count` entries follow, a cell each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RequestHead {
    /// [`VERSION`].
    pub version: u16,
    /// [`Call`].
    pub call: u8,
    /// [`Class`].
    pub class: u8,
    /// Chosen by the sender; the response repeats it.
    pub id: u32,
    /// Entries that follow.
    pub count: u16,
    /// Of `allocate`: the domain that it is about.
    pub domain: u16,
    /// Of `allocate`: [`Scope`].
    pub scope: u8,
    /// [`NO_REPLY`], [`WITH`].
    pub flags: u8,
    /// 0.
    pub zero: u16,
}

/// The first cell of a response; `count` entries follow: those of the request, or of an `EBUSY` one for each holder (its
/// number as `msr`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ResponseHead {
    /// [`VERSION`].
    pub version: u16,
    /// The request's.
    pub call: u8,
    /// The request's.
    pub class: u8,
    /// The request's.
    pub id: u32,
    /// Entries done, or a negative errno for the whole call.
    pub result: i32,
    /// Entries that follow.
    pub count: u16,
    /// 0.
    pub zero: u16,
}

/// An interrupt, 80 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OverflowRecord {
    /// [`VERSION`].
    pub version: u16,
    /// [`Mode`].
    pub mode: u8,
    /// [`Cause`].
    pub cause: u8,
    /// [`Class`] of the handler.
    pub class: u8,
    /// 0.
    pub zero: u8,
    /// The interrupted domain.
    pub domain: u16,
    /// Its vCPU.
    pub vcpu: u32,
    /// The physical CPU.
    pub pcpu: u32,
    /// ns.
    pub time: u64,
    /// Which counters.
    pub overflow: u64,
    /// Not delivered before this one.
    pub lost: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
    /// RFLAGS or PSTATE.
    pub flags: u64,
    /// Root of the address space.
    pub space: u64,
}

const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Entry>() == CELL && offset_of!(Entry, status) == 4 && offset_of!(Entry, value) == 8);
    assert!(size_of::<RequestHead>() == CELL && offset_of!(RequestHead, count) == 8);
    assert!(size_of::<ResponseHead>() == CELL && offset_of!(ResponseHead, result) == 8);
    assert!(size_of::<OverflowRecord>() == 80 && offset_of!(OverflowRecord, space) == 72);
};

/// Little-endian fields, one behind the other.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        // Every caller reads exactly the cells that it was given.
        if let Some(bytes) = self.bytes.get(self.at..self.at + N) {
            field.copy_from_slice(bytes);
        }
        self.at += N;
        field
    }
    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

fn fields(cell: &Cell) -> Fields<'_> {
    Fields { bytes: cell, at: 0 }
}

fn cell(parts: &[&[u8]]) -> Cell {
    let mut cell = [0; CELL];
    let mut at = 0;
    for part in parts {
        cell[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    cell
}

/// An entry as a cell.
pub fn entry_cell(entry: &Entry) -> Cell {
    cell(&[&entry.msr.to_le_bytes(), &entry.status.to_le_bytes(), &entry.value.to_le_bytes()])
}

/// A cell as an entry. Any bytes are one.
pub fn entry_of(bytes: &Cell) -> Entry {
    let mut from = fields(bytes);
    Entry { msr: from.u32(), status: from.i32(), value: from.u64() }
}

impl RequestHead {
    /// As a cell.
    pub fn cell(&self) -> Cell {
        cell(&[
            &self.version.to_le_bytes(),
            &[self.call, self.class],
            &self.id.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.domain.to_le_bytes(),
            &[self.scope, self.flags],
            &self.zero.to_le_bytes(),
        ])
    }

    /// Of a cell; not checked yet.
    pub fn of(bytes: &Cell) -> RequestHead {
        let mut from = fields(bytes);
        RequestHead {
            version: from.u16(),
            call: from.u8(),
            class: from.u8(),
            id: from.u32(),
            count: from.u16(),
            domain: from.u16(),
            scope: from.u8(),
            flags: from.u8(),
            zero: from.u16(),
        }
    }
}

impl ResponseHead {
    /// As a cell.
    pub fn cell(&self) -> Cell {
        cell(&[
            &self.version.to_le_bytes(),
            &[self.call, self.class],
            &self.id.to_le_bytes(),
            &self.result.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.zero.to_le_bytes(),
        ])
    }

    /// Of a cell; not checked yet.
    pub fn of(bytes: &Cell) -> ResponseHead {
        let mut from = fields(bytes);
        ResponseHead {
            version: from.u16(),
            call: from.u8(),
            class: from.u8(),
            id: from.u32(),
            result: from.i32(),
            count: from.u16(),
            zero: from.u16(),
        }
    }
}

/// How many cells the record that begins with this cell has; `None` when it cannot be one. A version that is not ours
/// has the same length field (that is what a version may not change).
pub fn request_cells(first: &Cell) -> Option<usize> {
    let count = usize::from(RequestHead::of(first).count);
    (count <= MAX_ENTRIES).then_some(1 + count)
}

/// The same of responses.
pub fn response_cells(first: &Cell) -> Option<usize> {
    let count = usize::from(ResponseHead::of(first).count);
    (count <= MAX_ENTRIES).then_some(1 + count)
}

/// The same of overflows.
pub fn overflow_cells(first: &Cell) -> Option<usize> {
    (u16::from_le_bytes([first[0], first[1]]) == VERSION).then_some(OVERFLOW_CELLS)
}

/// The class that a byte stands for.
pub fn class_of(byte: u8) -> Class {
    match byte {
        1 => Class::Perf,
        2 => Class::Debug,
        _ => Class::Invalid,
    }
}

/// The scope that a byte stands for.
pub fn scope_of(byte: u8) -> Option<Scope> {
    [Scope::Unavailable, Scope::Local, Scope::Global].into_iter().find(|scope| *scope as u8 == byte)
}

impl OverflowRecord {
    /// Of what a handler of a class is told.
    pub fn new(class: Class, overflow: &Overflow) -> OverflowRecord {
        OverflowRecord {
            version: VERSION,
            mode: overflow.mode as u8,
            cause: overflow.cause as u8,
            class: class as u8,
            zero: 0,
            domain: overflow.domain.0,
            vcpu: overflow.vcpu,
            pcpu: overflow.pcpu,
            time: overflow.time,
            overflow: overflow.overflow,
            lost: overflow.lost,
            ip: overflow.ip,
            sp: overflow.sp,
            bp: overflow.bp,
            flags: overflow.flags,
            space: overflow.space,
        }
    }

    /// As cells.
    pub fn cells(&self) -> [Cell; OVERFLOW_CELLS] {
        let pair = |a: u64, b: u64| cell(&[&a.to_le_bytes(), &b.to_le_bytes()]);
        [
            cell(&[
                &self.version.to_le_bytes(),
                &[self.mode, self.cause, self.class, self.zero],
                &self.domain.to_le_bytes(),
                &self.vcpu.to_le_bytes(),
                &self.pcpu.to_le_bytes(),
            ]),
            pair(self.time, self.overflow),
            pair(self.lost, self.ip),
            pair(self.sp, self.bp),
            pair(self.flags, self.space),
        ]
    }

    /// Of cells; not checked yet.
    pub fn of(cells: &[Cell; OVERFLOW_CELLS]) -> OverflowRecord {
        let mut from = Fields { bytes: cells.as_flattened(), at: 0 };
        OverflowRecord {
            version: from.u16(),
            mode: from.u8(),
            cause: from.u8(),
            class: from.u8(),
            zero: from.u8(),
            domain: from.u16(),
            vcpu: from.u32(),
            pcpu: from.u32(),
            time: from.u64(),
            overflow: from.u64(),
            lost: from.u64(),
            ip: from.u64(),
            sp: from.u64(),
            bp: from.u64(),
            flags: from.u64(),
            space: from.u64(),
        }
    }

    /// What the handler of a class is to be told; `None` when a field cannot be what it says.
    pub fn checked(&self) -> Option<(Class, Overflow)> {
        let mode = [Mode::User, Mode::Kernel, Mode::Hypervisor].into_iter().find(|mode| *mode as u8 == self.mode)?;
        let cause = [Cause::Counter, Cause::Debug].into_iter().find(|cause| *cause as u8 == self.cause)?;
        let class = Some(class_of(self.class)).filter(|class| *class != Class::Invalid)?;
        if self.version != VERSION || self.zero != 0 {
            return None;
        }
        let overflow = Overflow {
            time: self.time,
            domain: DomId(self.domain),
            vcpu: self.vcpu,
            pcpu: self.pcpu,
            cause,
            mode,
            overflow: self.overflow,
            lost: self.lost,
            ip: self.ip,
            sp: self.sp,
            bp: self.bp,
            flags: self.flags,
            space: self.space,
        };
        Some((class, overflow))
    }
}
