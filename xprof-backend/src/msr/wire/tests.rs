//! The wire form: golden bytes, rings that lie, calls that complete late.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::encoded::{Encoded, Rings, Server, Transport};
use super::ring::{Torn, ring};
use super::*;
use crate::msr::{Contract, Error, Fault, Handler};

#[test]
fn the_bytes_are_these() {
    let request = RequestHead {
        version: VERSION,
        call: Call::Write as u8,
        class: Class::Perf as u8,
        id: 0x0403_0201,
        count: 2,
        domain: 0x1211,
        scope: 2,
        flags: WITH,
        zero: 0,
    };
    assert_eq!(request.cell(), [1, 0, 4, 1, 1, 2, 3, 4, 2, 0, 0x11, 0x12, 2, 2, 0, 0]);
    assert_eq!(RequestHead::of(&request.cell()), request);
    let response = ResponseHead { version: 1, call: 5, class: 2, id: 7, result: -13, count: 1, zero: 0 };
    assert_eq!(response.cell(), [1, 0, 5, 2, 7, 0, 0, 0, 0xf3, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
    assert_eq!(ResponseHead::of(&response.cell()), response);
    let entry = Entry { msr: 0xc001_0004, status: -22, value: 0x0807_0605_0403_0201 };
    assert_eq!(entry_cell(&entry), [4, 0, 1, 0xc0, 0xea, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(entry_of(&entry_cell(&entry)), entry);
    let overflow = Overflow {
        time: 1,
        domain: DomId(0x0302),
        vcpu: 4,
        pcpu: 5,
        mode: Mode::Kernel,
        overflow: 6,
        lost: 7,
        ip: 8,
        sp: 9,
        bp: 10,
        flags: 11,
        space: 12,
        cause: Cause::Debug,
    };
    let cells = OverflowRecord::new(Class::Debug, &overflow).cells();
    assert_eq!(cells[0], [1, 0, 1, 2, 2, 0, 2, 3, 4, 0, 0, 0, 5, 0, 0, 0]);
    let words: Vec<u8> = cells.as_flattened()[16..].chunks(8).map(|word| word[0]).collect();
    assert_eq!(words, [1, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(OverflowRecord::of(&cells).checked(), Some((Class::Debug, overflow)));
}

/// Records of a byte each: their length is their first byte.
fn plain(first: &Cell) -> Option<usize> {
    (first[0] != 0).then_some(usize::from(first[0]))
}

#[test]
fn records_go_round_and_a_full_ring_takes_nothing() {
    let (mut give, mut take) = ring(8);
    let mut record = Vec::new();
    for round in 0..1000u32 {
        let length = 1 + round as u8 % 5;
        let sent = vec![[length; CELL]; usize::from(length)];
        assert!(give.push(&sent));
        assert_eq!(take.next(&mut record, plain), Ok(true));
        assert_eq!(record, sent);
        assert_eq!(take.next(&mut record, plain), Ok(false));
    }
    assert!(give.push(&[[5; CELL]; 5]) && !give.push(&[[4; CELL]; 4]) && give.push(&[[3; CELL]; 3]));
    assert_eq!(give.room(), 0);
}

#[test]
fn a_producer_that_lies_costs_records_and_nothing_else() {
    let (mut give, mut take) = ring(8);
    let mut record = Vec::new();
    // A record longer than what was published; a length that cannot be; a position that cannot be.
    assert!(give.push(&[[3; CELL]; 2]));
    assert_eq!(take.next(&mut record, plain), Err(Torn));
    assert!(give.push(&[[0; CELL]]));
    assert_eq!(take.next(&mut record, plain), Err(Torn));
    assert!(give.push(&[[1; CELL]]));
    assert_eq!(take.next(&mut record, plain), Ok(true));
    give.words()[0].store(1 << 40, Ordering::Release);
    assert_eq!(take.next(&mut record, plain), Err(Torn));
    assert_eq!(take.next(&mut record, plain), Ok(false));
    // A consumer that says it is ahead leaves no room, and no panic.
    give.words()[1].store(u64::MAX, Ordering::Release);
    assert!(give.room() <= 8);
    give.words()[1].store(1 << 20, Ordering::Release);
    assert_eq!(give.room(), 0);
}

/// An implementation that says what it was asked, and answers so.
#[derive(Default)]
struct Scripted {
    asked: Arc<Mutex<Vec<String>>>,
    handler: Arc<Mutex<Option<Handler>>>,
}

impl Scripted {
    fn asked(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
}

impl Contract for Scripted {
    fn allocate(&mut self, class: Class, domain: DomId, scope: Scope) -> crate::msr::Result<()> {
        self.asked(format!("allocate {class:?} {domain} {scope:?}"));
        match domain {
            DomId(1) => Err(Error::Busy { class, holders: vec![DomId(3), DomId(4)] }),
            DomId(2) => Err(Error::NotPrivileged(DomId(7))),
            _ => Ok(()),
        }
    }
    fn irq_handler(&mut self, class: Class, handler: Option<Handler>) -> crate::msr::Result<()> {
        self.asked(format!("irq {class:?} {}", handler.is_some()));
        *self.handler.lock().unwrap() = handler;
        Ok(())
    }
    fn set_default(&mut self, _: Class, entries: &mut [Entry]) -> crate::msr::Result<usize> {
        entries.iter_mut().for_each(|entry| entry.value = 42);
        Ok(entries.len())
    }
    fn write(&mut self, _: Class, rearm: bool, entries: &mut [Entry]) -> crate::msr::Result<usize> {
        self.asked(format!("write {rearm} {}", entries.len()));
        entries[1].status = Fault::Reserved.status();
        Ok(1)
    }
    fn read(&mut self, class: Class, _: &mut [Entry]) -> crate::msr::Result<usize> {
        Err(Error::NotHeld { domain: DomId(5), class })
    }
}

/// A transport that lets the server answer only when it is told to.
#[derive(Clone)]
struct Slow {
    server: Arc<Mutex<Server>>,
    answers: Arc<Mutex<bool>>,
}

impl Transport for Slow {
    fn notify(&mut self) {
        self.wait(Duration::ZERO);
    }
    fn wait(&mut self, _: Duration) {
        if *self.answers.lock().unwrap() {
            self.server.lock().unwrap().serve();
        }
    }
}

struct Ends {
    client: Encoded,
    transport: Slow,
    asked: Arc<Mutex<Vec<String>>>,
    handler: Arc<Mutex<Option<Handler>>>,
}

fn ends() -> Ends {
    let scripted = Scripted::default();
    let (asked, handler) = (Arc::clone(&scripted.asked), Arc::clone(&scripted.handler));
    let (requests, take_requests) = ring(2 * LONGEST);
    let (give_responses, responses) = ring(2 * LONGEST);
    let (give_overflows, overflows) = ring(2 * OVERFLOW_CELLS);
    let server = Server::new(Box::new(scripted), take_requests, give_responses, give_overflows);
    let transport = Slow { server: Arc::new(Mutex::new(server)), answers: Arc::new(Mutex::new(true)) };
    let rings = Rings { requests, responses, overflows };
    let client = Encoded::new(rings, Box::new(transport.clone()), Duration::from_millis(5), 9);
    Ends { client, transport, asked, handler }
}

#[test]
fn answers_and_errors_come_through() {
    let Ends { mut client, asked, .. } = ends();
    client.allocate(Class::Debug, DomId(9), Scope::Global).unwrap();
    match client.allocate(Class::Perf, DomId(1), Scope::Local) {
        Err(Error::Busy { class: Class::Perf, holders }) => assert_eq!(holders, [DomId(3), DomId(4)]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(client.allocate(Class::Perf, DomId(2), Scope::Local), Err(Error::NotPrivileged(DomId(7)))));
    let mut entries = [Entry::with(1, 10), Entry::with(2, 20), Entry { msr: 3, status: 77, value: 30 }];
    assert_eq!(client.write(Class::Perf, true, &mut entries).unwrap(), 1);
    assert_eq!(entries[1].fault(), Some(Fault::Reserved));
    assert_eq!(entries[2], Entry { msr: 3, status: 77, value: 30 });
    assert_eq!(client.set_default(Class::Perf, &mut entries).unwrap(), 3);
    assert_eq!(entries[0].value, 42);
    assert!(matches!(
        client.read(Class::Debug, &mut entries),
        Err(Error::NotHeld { domain: DomId(5), class: Class::Debug })
    ));
    assert!(matches!(client.read(Class::Perf, &mut [Entry::default(); 129]), Err(Error::TooMany(129))));
    let asked = asked.lock().unwrap();
    assert_eq!(asked[..2], ["allocate Debug domain 9 Global", "allocate Perf domain 1 Local"]);
    assert_eq!(asked.last().unwrap(), "write true 3");
}

#[test]
fn a_call_may_complete_after_its_caller_has_given_up() {
    let Ends { mut client, transport, asked, .. } = ends();
    *transport.answers.lock().unwrap() = false;
    assert!(matches!(client.allocate(Class::Perf, DomId(6), Scope::Local), Err(Error::TimedOut)));
    assert!(asked.lock().unwrap().is_empty());
    // It comes true later; its answer is not taken for that of the next call.
    *transport.answers.lock().unwrap() = true;
    assert!(matches!(client.allocate(Class::Perf, DomId(2), Scope::Local), Err(Error::NotPrivileged(_))));
    assert_eq!((asked.lock().unwrap().len(), client.late()), (2, 1));
    // A full request ring is a timeout too, not a panic and not a wait without end.
    *transport.answers.lock().unwrap() = false;
    let mut entries = [Entry::default(); 100];
    for _ in 0..4 {
        assert!(matches!(client.read(Class::Perf, &mut entries), Err(Error::TimedOut)));
    }
}

#[test]
fn overflows_need_no_reply_and_none_is_forgotten() {
    let Ends { mut client, transport, asked, handler } = ends();
    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let mut posting = client.posting();
    let keeper: Handler = Box::new(move |overflow, cpu| {
        keep.lock().unwrap().push((*overflow, cpu));
        // At once, although nobody answers.
        posting.write(Class::Perf, true, &mut [Entry::with(1, 1), Entry::with(2, 2)]).is_ok_and(|done| done == 2)
    });
    client.irq_handler(Class::Perf, Some(keeper)).unwrap();
    *transport.answers.lock().unwrap() = false;
    // Three fit; two more are told as one, with both counters and one lost.
    for number in 0..5 {
        let overflow = Overflow { time: number, overflow: 1 << number, ..Overflow::default() };
        assert!(handler.lock().unwrap().as_mut().unwrap()(&overflow, 9));
    }
    assert_eq!(client.poll(), 3);
    *transport.answers.lock().unwrap() = true;
    transport.server.lock().unwrap().serve();
    assert_eq!(client.poll(), 1);
    let told: Vec<_> = told.lock().unwrap().iter().map(|(o, cpu)| (o.time, o.overflow, o.lost, *cpu)).collect();
    assert_eq!(told, [(0, 1, 0, 9), (1, 2, 0, 9), (2, 4, 0, 9), (4, 0b11000, 1, 9)]);
    assert_eq!(asked.lock().unwrap().iter().filter(|what| *what == "write true 2").count(), 4);
    assert_eq!(client.late(), 0, "nothing was answered");
}

/// Counts crossings.
struct Counted(Slow, Arc<Mutex<u32>>);

impl Transport for Counted {
    fn notify(&mut self) {
        *self.1.lock().unwrap() += 1;
        self.0.notify();
    }
    fn wait(&mut self, at_most: Duration) {
        self.0.wait(at_most);
    }
}

#[test]
fn a_batch_is_one_crossing() {
    let Ends { transport, .. } = ends();
    let (requests, take_requests) = ring(2 * LONGEST);
    let (give_responses, responses) = ring(2 * LONGEST);
    let (give_overflows, overflows) = ring(2 * OVERFLOW_CELLS);
    let server = Server::new(Box::new(Scripted::default()), take_requests, give_responses, give_overflows);
    let slow = Slow { server: Arc::new(Mutex::new(server)), ..transport };
    let crossings = Arc::new(Mutex::new(0));
    let rings = Rings { requests, responses, overflows };
    let transport = Box::new(Counted(slow, Arc::clone(&crossings)));
    let mut client = Encoded::new(rings, transport, Duration::from_secs(1), 0);
    for registers in [1, 16, 128] {
        assert_eq!(client.set_default(Class::Perf, &mut vec![Entry::of(1); registers]).unwrap(), registers);
        assert_eq!(std::mem::take(&mut *crossings.lock().unwrap()), 1, "{registers} registers");
    }
}
