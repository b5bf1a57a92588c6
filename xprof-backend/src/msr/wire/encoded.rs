//! Both ends of the wire form: [`Encoded`] is the contract for whoever asks, [`Server`] answers with another
//! implementation of it.
//!
//! A call may complete later than its caller waits, or never: each has an id, and a response that nobody waits for any
//! more is dropped and counted. Overflows come on a ring of their own; [`Encoded::poll`] runs the handlers. No sample
//! waits for a reply: a handler rearms through [`Encoded::posting`], whose requests want none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ring::{Consumer, Producer, Torn};
use super::{
    Call, Cell, LONGEST, NO_REPLY, OverflowRecord, RequestHead, ResponseHead, VERSION, WITH, class_of, entry_cell,
    entry_of, overflow_cells, request_cells, response_cells, scope_of,
};
use crate::msr::error::{Error, Result};
use crate::msr::{Class, Contract, DomId, Entry, Handler, MAX_ENTRIES, Overflow, Scope};

/// What carries the rings: tells the other side that something was written, and waits for it to write.
pub trait Transport: Send {
    /// Something is there for the other side.
    fn notify(&mut self);
    /// Waits until the other side has notified, at most this long.
    fn wait(&mut self, at_most: Duration);
}

/// The three rings of a caller, seen from its side.
#[derive(Debug)]
pub struct Rings {
    /// Requests.
    pub requests: Producer,
    /// Responses.
    pub responses: Consumer,
    /// Overflows.
    pub overflows: Consumer,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index(class: Class) -> Option<usize> {
    match class {
        Class::Invalid => None,
        Class::Perf => Some(0),
        Class::Debug => Some(1),
    }
}

struct Link {
    rings: Rings,
    transport: Box<dyn Transport>,
    patience: Duration,
    /// The caller's vCPU or CPU, as its handlers are told.
    number: u32,
    last_id: u32,
    late: u64,
    torn: u64,
    unclaimed: u64,
    handlers: [Option<Handler>; 2],
    /// Rises whenever a handler is set or removed.
    generations: [u64; 2],
    record: Vec<Cell>,
}

/// The contract over a transport: a handle of the caller that the transport knows.
#[derive(Clone)]
pub struct Encoded {
    link: Arc<Mutex<Link>>,
    posts: bool,
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("posts", &self.posts).finish_non_exhaustive()
    }
}

impl Encoded {
    /// A handle over `rings`. Calls wait for their answer as long as `patience`; `number` is the vCPU or CPU that the
    /// caller is, for its handlers.
    pub fn new(rings: Rings, transport: Box<dyn Transport>, patience: Duration, number: u32) -> Encoded {
        let link = Link {
            rings,
            transport,
            patience,
            number,
            last_id: 0,
            late: 0,
            torn: 0,
            unclaimed: 0,
            handlers: [None, None],
            generations: [0; 2],
            record: Vec::with_capacity(LONGEST),
        };
        Encoded { link: Arc::new(Mutex::new(link)), posts: false }
    }

    /// The same handle, whose writes want no reply: they return at once, as if all was done.
    #[must_use]
    pub fn posting(&self) -> Encoded {
        Encoded { link: Arc::clone(&self.link), posts: true }
    }

    /// Responses that came when nobody waited for them any more.
    pub fn late(&self) -> u64 {
        lock(&self.link).late
    }

    /// Overflows that the handlers did not claim.
    pub fn unclaimed(&self) -> u64 {
        lock(&self.link).unclaimed
    }

    /// Records from the other side that could not be.
    pub fn torn(&self) -> u64 {
        lock(&self.link).torn
    }

    /// Runs the handlers of the overflows that have come; how many there were.
    pub fn poll(&self) -> usize {
        let mut ran = 0;
        loop {
            let (class, overflow, mut handler, generation, number) = {
                let mut link = lock(&self.link);
                let Some((class, overflow)) = link.overflow() else { return ran };
                ran += 1;
                let Some(at) = index(class) else { continue };
                let Some(handler) = link.handlers[at].take() else { continue };
                (at, overflow, handler, link.generations[at], link.number)
            };
            // Without the lock: the handler rearms through the same link.
            let claimed = handler(&overflow, number);
            let mut link = lock(&self.link);
            if !claimed {
                link.unclaimed += 1;
                let class = if class == 0 { Class::Perf } else { Class::Debug };
                let (call, flags) = (Call::Unclaimed as u8, NO_REPLY);
                // When even this finds no room, the handler is asked once more.
                let _ = link.call(RequestHead { call, class: class as u8, flags, ..RequestHead::default() }, &mut []);
            }
            if link.generations[class] == generation {
                link.handlers[class] = Some(handler);
            }
        }
    }

    fn call(&self, head: RequestHead, entries: &mut [Entry]) -> Result<usize> {
        if entries.len() > MAX_ENTRIES {
            return Err(Error::TooMany(entries.len()));
        }
        lock(&self.link).call(head, entries)
    }
}

impl Link {
    /// The next overflow that can be one.
    fn overflow(&mut self) -> Option<(Class, Overflow)> {
        loop {
            match self.rings.overflows.next(&mut self.record, overflow_cells) {
                Ok(false) => return None,
                Ok(true) => {
                    let record = self.record.first_chunk().map(OverflowRecord::of);
                    match record.and_then(|record| record.checked()) {
                        Some(checked) => return Some(checked),
                        None => self.torn += 1,
                    }
                }
                Err(Torn) => self.torn += 1,
            }
        }
    }

    fn call(&mut self, mut head: RequestHead, entries: &mut [Entry]) -> Result<usize> {
        let deadline = Instant::now().checked_add(self.patience);
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        self.last_id = self.last_id.wrapping_add(1);
        (head.version, head.id, head.count) = (VERSION, self.last_id, entries.len() as u16);
        let mut request = Vec::with_capacity(1 + entries.len());
        request.push(head.cell());
        request.extend(entries.iter().map(entry_cell));
        while !self.rings.requests.push(&request) {
            // Answers that nobody took may be what holds the other side up.
            self.answer(&head, &mut []);
            if left().is_zero() {
                return Err(Error::TimedOut);
            }
            self.transport.notify();
            self.transport.wait(left());
        }
        self.transport.notify();
        if head.flags & NO_REPLY != 0 {
            return Ok(entries.len());
        }
        loop {
            if let Some(answer) = self.answer(&head, entries) {
                return answer;
            }
            if left().is_zero() {
                return Err(Error::TimedOut);
            }
            self.transport.wait(left());
        }
    }

    /// Looks for the response to a request among what has come; drops all others.
    fn answer(&mut self, request: &RequestHead, entries: &mut [Entry]) -> Option<Result<usize>> {
        loop {
            let mut record = std::mem::take(&mut self.record);
            let next = self.rings.responses.next(&mut record, response_cells);
            self.record = record;
            match next {
                Ok(false) => return None,
                Err(Torn) => {
                    self.torn += 1;
                    continue;
                }
                Ok(true) => {}
            }
            let Some((first, rest)) = self.record.split_first() else { continue };
            let head = ResponseHead::of(first);
            if head.id != request.id {
                self.late += 1;
                continue;
            }
            let fits = head.version == VERSION && head.call == request.call && head.zero == 0;
            if !fits {
                return Some(Err(Error::Protocol("a response that does not fit its request")));
            }
            return Some(result(&head, rest, request, entries));
        }
    }
}

fn result(head: &ResponseHead, rest: &[Cell], request: &RequestHead, entries: &mut [Entry]) -> Result<usize> {
    if head.result < 0 {
        let class = class_of(request.class);
        return Err(match -head.result {
            libc::EBUSY => {
                let holders = rest.iter().map(|cell| DomId(entry_of(cell).msr as u16)).collect();
                Error::Busy { class, holders }
            }
            libc::EPERM if request.call == Call::Allocate as u8 => Error::NotPrivileged(entry_domain(rest)),
            libc::EACCES => Error::NotHeld { domain: entry_domain(rest), class },
            libc::EINVAL if class == Class::Invalid => Error::NoClass,
            _ => Error::Errno(head.result),
        });
    }
    let done = head.result as usize;
    if rest.len() != entries.len() || done > entries.len() {
        return Err(Error::Protocol("a response with another number of entries"));
    }
    // Only what the call may change is taken: the entries done, and the first that failed.
    for (entry, cell) in entries.iter_mut().zip(rest).take(done + 1) {
        let answered = entry_of(cell);
        if answered.msr != entry.msr {
            return Err(Error::Protocol("a response about other registers"));
        }
        *entry = answered;
    }
    match entries.get(done) {
        Some(failed) if failed.fault().is_none() => Err(Error::Protocol("a failed entry without a status")),
        _ => Ok(done),
    }
}

/// An error about one domain names it in its only entry.
fn entry_domain(rest: &[Cell]) -> DomId {
    DomId(rest.first().map_or(0, |cell| entry_of(cell).msr as u16))
}

impl Contract for Encoded {
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> Result<()> {
        let head = RequestHead {
            call: Call::Allocate as u8,
            class: class as u8,
            domain: domain.0,
            scope: scope as u8,
            ..RequestHead::default()
        };
        self.call(head, &mut []).map(drop)
    }

    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> Result<()> {
        let flags = if handler.is_some() { WITH } else { 0 };
        let head = RequestHead { call: Call::IrqHandler as u8, class: class as u8, flags, ..RequestHead::default() };
        let mut before = None;
        if let Some(at) = index(class) {
            let mut link = lock(&self.link);
            link.generations[at] += 1;
            before = Some(std::mem::replace(&mut link.handlers[at], handler));
        }
        let done = self.call(head, &mut []).map(drop);
        // After a timeout it may still come true.
        if let (Err(error), Some(at), Some(before)) = (&done, index(class), before)
            && !matches!(error, Error::TimedOut)
        {
            lock(&self.link).handlers[at] = before;
        }
        done
    }

    fn set_default(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        let head = RequestHead { call: Call::SetDefault as u8, class: class as u8, ..RequestHead::default() };
        self.call(head, entries)
    }

    fn write(&mut self, class: Class, rearm: bool, entries: &mut [Entry]) -> Result<usize> {
        let flags = if rearm { WITH } else { 0 } | if self.posts { NO_REPLY } else { 0 };
        let head = RequestHead { call: Call::Write as u8, class: class as u8, flags, ..RequestHead::default() };
        self.call(head, entries)
    }

    fn read(&mut self, class: Class, entries: &mut [Entry]) -> Result<usize> {
        let head = RequestHead { call: Call::Read as u8, class: class as u8, ..RequestHead::default() };
        self.call(head, entries)
    }
}

/// Where overflows go, and the one that found no room.
struct Overflows {
    ring: Producer,
    waiting: Option<(Class, Overflow)>,
    /// By class: the last one was not claimed, and nothing was rearmed since.
    refused: [bool; 2],
}

impl Overflows {
    /// Sends, or keeps it with the one that waits already: then the newest place is told, and how many are missing.
    fn send(&mut self, class: Class, overflow: Overflow) {
        self.flush();
        let sent = self.waiting.is_none() && self.ring.push(&OverflowRecord::new(class, &overflow).cells());
        if !sent {
            let (mask, lost) =
                self.waiting.as_ref().map_or((0, 0), |(_, waiting)| (waiting.overflow, waiting.lost + 1));
            let overflow = Overflow { overflow: overflow.overflow | mask, lost: overflow.lost + lost, ..overflow };
            self.waiting = Some((class, overflow));
        }
    }

    fn flush(&mut self) {
        if let Some((class, overflow)) = self.waiting.take()
            && !self.ring.push(&OverflowRecord::new(class, &overflow).cells())
        {
            self.waiting = Some((class, overflow));
        }
    }
}

/// The answering end: calls an implementation of the contract for the one caller whose rings these are.
pub struct Server {
    contract: Box<dyn Contract + Send>,
    requests: Consumer,
    responses: Producer,
    overflows: Arc<Mutex<Overflows>>,
    torn: u64,
    record: Vec<Cell>,
    entries: Vec<Entry>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("torn", &self.torn).finish_non_exhaustive()
    }
}

impl Server {
    /// Answers the requests of one ring with `contract`, a handle of the caller at its other end.
    pub fn new(
        contract: Box<dyn Contract + Send>,
        requests: Consumer,
        responses: Producer,
        overflows: Producer,
    ) -> Server {
        Server {
            contract,
            requests,
            responses,
            overflows: Arc::new(Mutex::new(Overflows { ring: overflows, waiting: None, refused: [false; 2] })),
            torn: 0,
            record: Vec::with_capacity(LONGEST),
            entries: Vec::with_capacity(MAX_ENTRIES),
        }
    }

    /// Requests that could not be.
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Answers what has come, as far as there is room for answers; how many requests that were.
    pub fn serve(&mut self) -> usize {
        lock(&self.overflows).flush();
        let mut served = 0;
        while self.responses.room() >= LONGEST {
            match self.requests.next(&mut self.record, request_cells) {
                Ok(false) => break,
                Err(Torn) => self.torn += 1,
                Ok(true) => {
                    self.one();
                    served += 1;
                }
            }
        }
        served
    }

    fn one(&mut self) {
        let Some((first, rest)) = self.record.split_first() else { return };
        let head = RequestHead::of(first);
        self.entries.clear();
        self.entries.extend(rest.iter().map(entry_of));
        let result = self.carry_out(&head);
        if head.flags & NO_REPLY != 0 && result.is_ok() {
            return;
        }
        let named: Vec<Entry>;
        let (result, entries) = match &result {
            Ok(done) => (*done as i32, &self.entries),
            Err(error) => {
                named = match error {
                    Error::Busy { holders, .. } => holders.iter().take(MAX_ENTRIES).map(|d| of_domain(*d)).collect(),
                    Error::NotPrivileged(domain) | Error::NotHeld { domain, .. } => vec![of_domain(*domain)],
                    _ => Vec::new(),
                };
                (error.errno(), &named)
            }
        };
        if head.flags & NO_REPLY != 0 {
            // Nobody would know: the count of torn records is where it shows.
            self.torn += 1;
            return;
        }
        let answer = ResponseHead {
            version: VERSION,
            call: head.call,
            class: head.class,
            id: head.id,
            result,
            count: entries.len() as u16,
            zero: 0,
        };
        let mut cells = Vec::with_capacity(1 + entries.len());
        cells.push(answer.cell());
        cells.extend(entries.iter().map(entry_cell));
        self.responses.push(&cells);
    }

    fn refuse(&self, class: Class, refused: bool) {
        if let Some(at) = index(class) {
            lock(&self.overflows).refused[at] = refused;
        }
    }

    fn carry_out(&mut self, head: &RequestHead) -> Result<usize> {
        if head.version != VERSION {
            return Err(Error::Protocol("another version"));
        }
        let known = NO_REPLY | WITH;
        if head.zero != 0 || head.flags & !known != 0 {
            return Err(Error::Errno(-libc::EINVAL));
        }
        let class = class_of(head.class);
        let Some(call) = Call::of(head.call) else { return Err(Error::Errno(-libc::ENOSYS)) };
        match call {
            Call::Allocate => {
                let scope = scope_of(head.scope).ok_or(Error::Errno(-libc::EINVAL))?;
                self.contract.allocate(class, DomId(head.domain), scope).map(|()| 0)
            }
            Call::IrqHandler => {
                let overflows = Arc::clone(&self.overflows);
                self.refuse(class, false);
                let handler: Handler = Box::new(move |overflow: &Overflow, _cpu| {
                    let mut overflows = lock(&overflows);
                    if index(class).is_some_and(|at| overflows.refused[at]) {
                        return false;
                    }
                    overflows.send(class, *overflow);
                    true
                });
                let handler = (head.flags & WITH != 0).then_some(handler);
                self.contract.irq_handler(class, handler).map(|()| 0)
            }
            Call::SetDefault => self.contract.set_default(class, &mut self.entries),
            Call::Write => {
                let rearm = head.flags & WITH != 0;
                let done = self.contract.write(class, rearm, &mut self.entries)?;
                if rearm && done == self.entries.len() {
                    self.refuse(class, false);
                }
                Ok(done)
            }
            Call::Unclaimed => {
                self.refuse(class, true);
                Ok(0)
            }
            Call::Read => self.contract.read(class, &mut self.entries),
        }
    }
}

fn of_domain(domain: DomId) -> Entry {
    Entry::of(u32::from(domain.0))
}

/// A transport within one address space: notifying the server has it answer at once.
#[derive(Clone, Debug)]
pub struct Inline(pub Arc<Mutex<Server>>);

impl Transport for Inline {
    fn notify(&mut self) {
        lock(&self.0).serve();
    }

    fn wait(&mut self, _at_most: Duration) {
        lock(&self.0).serve();
    }
}

/// Both ends over rings of one address space: the wire form with nothing between. `contract` is a handle of the caller,
/// `number` its vCPU or CPU.
pub fn inline(contract: Box<dyn Contract + Send>, number: u32) -> (Encoded, Arc<Mutex<Server>>) {
    let (requests, take_requests) = super::ring::ring(4 * LONGEST);
    let (give_responses, responses) = super::ring::ring(4 * LONGEST);
    let (give_overflows, overflows) = super::ring::ring(64 * super::OVERFLOW_CELLS);
    let server = Arc::new(Mutex::new(Server::new(contract, take_requests, give_responses, give_overflows)));
    let rings = Rings { requests, responses, overflows };
    let transport = Box::new(Inline(Arc::clone(&server)));
    (Encoded::new(rings, transport, Duration::from_secs(1), number), server)
}
