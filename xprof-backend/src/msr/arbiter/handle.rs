//! The contract on an arbiter in the same address space: what a kernel without a VMM has, and what a VMM's side of a
//! transport calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Arbiter, MsrHardware};
use crate::msr::error::Result;
use crate::msr::{Caller, Class, Contract, DomId, Entry, Handler, Scope};

/// A handle of one caller.
#[derive(Debug)]
pub struct Handle<H> {
    arbiter: Arc<Mutex<Arbiter<H>>>,
    caller: Caller,
}

impl<H> Handle<H> {
    /// A handle of `caller`.
    pub fn new(arbiter: &Arc<Mutex<Arbiter<H>>>, caller: Caller) -> Self {
        Handle { arbiter: Arc::clone(arbiter), caller }
    }

    fn arbiter(&self) -> MutexGuard<'_, Arbiter<H>> {
        // Every call leaves the arbiter whole, so a panic elsewhere does not spoil it.
        self.arbiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: MsrHardware> Contract for Handle<H> {
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        self.arbiter().allocate(self.caller, class, domain, scope)
    }

    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> Result<()> {
        self.arbiter().irq_handler(self.caller, class, handler)
    }

    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.arbiter().set_default(self.caller, class, entries)
    }

    fn write(&mut self, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        self.arbiter().write(self.caller, class, rearm, entries)
    }

    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        self.arbiter().read(self.caller, class, entries)
    }
}
