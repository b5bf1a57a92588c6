//! Xen's own names: `/proc/xen/xensyms` where xenfs is mounted and the kernel has it, else `XENPF_get_symbol`, which is what that
//! file asks too. Its numbers run on without holes, so a multicall asks for many at once.

use std::fmt::Write;
use std::io;
use std::mem::offset_of;

use super::abi::{self, SymbolCall, hypercall, platform};
use super::error::XenError;
use super::hypervisor::{BULK_AT, CALLS_AT, CALLS_MAX, Hypervisor};
use crate::machine::{self, Machine};

/// Bytes of a name with its zero, at most; Xen's own limit is 128 (`KSYM_NAME_LEN`).
const NAME: usize = 256;
/// Symbols that are asked for at most; a Xen with all of its debug options has some ten thousand.
const SYMBOLS_MAX: u32 = 1 << 20;
/// Bytes from one op of a multicall to the next.
const SLOT: usize = size_of::<abi::Domctl>();

/// Xen's names, a line each as in `/proc/xen/xensyms`: address, type, name.
///
/// # Errors
/// Why neither the file nor Xen gives them; the file's error where there is no way to Xen either.
pub fn names(machine: &Machine) -> io::Result<String> {
    let file = machine::text(&machine.proc.join("xen/xensyms")).and_then(|text| match text.is_empty() {
        true => Err(io::ErrorKind::NotFound.into()),
        false => Ok(text),
    });
    file.or_else(|error| Hypervisor::open().map_err(|_| error)?.names())
}

impl Hypervisor {
    /// Asks Xen for its names, a line each as in `/proc/xen/xensyms`.
    ///
    /// # Errors
    /// ENOSYS before Xen 4.6; EPERM where a security module keeps them.
    pub fn names(&mut self) -> io::Result<String> {
        let mut text = String::new();
        let mut first = 0;
        while first < SYMBOLS_MAX {
            for slot in 0..CALLS_MAX {
                self.buffer.put(
                    CALLS_AT + slot * SLOT,
                    SymbolCall {
                        command: platform::SYMBOL,
                        version: platform::VERSION,
                        name_len: NAME as u32,
                        number: first + slot as u32,
                        name: self.buffer.address(BULK_AT + slot * NAME),
                        address: 0,
                        kind: 0,
                        rest: [0; 12],
                    },
                );
            }
            self.multicall(hypercall::PLATFORM, CALLS_MAX).map_err(|error| match error {
                XenError::Call { source, .. } => source,
                other => io::Error::other(other),
            })?;
            for slot in 0..CALLS_MAX {
                let at = CALLS_AT + slot * SLOT;
                let number = first + slot as u32;
                let answer = self.result(slot);
                // The last one is answered with its own number; those beyond it are out of range.
                let ended = answer == i64::from(-libc::ERANGE);
                if ended || self.buffer.u32(at + offset_of!(SymbolCall, number)) == number && answer == 0 {
                    return Ok(text);
                }
                if answer < 0 {
                    return Err(io::Error::from_raw_os_error(i32::try_from(-answer).unwrap_or(libc::EIO)));
                }
                let address = self.buffer.u64(at + offset_of!(SymbolCall, address));
                let kind = char::from(self.buffer.u8(at + offset_of!(SymbolCall, kind)));
                let name = self.buffer.text(BULK_AT + slot * NAME, NAME);
                let _ = writeln!(text, "{address:016x} {kind} {name}");
            }
            first += CALLS_MAX as u32;
        }
        Ok(text)
    }
}
