//! A whole host in one recording: every domain by the sampler, and dom0's own processes by the events of its kernel.
//!
//! Two sessions on one clock. The domains' event comes first and says how the host's time is divided, dom0 included; the
//! kernel's events then say what dom0 did with its part. Ring numbers and ids of the two never meet: the sampler's ring is the
//! last one, and its ids begin far above the kernel's.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use xprof_perfdata::events::Events;

use super::host::Host;
use super::joined::{self, Joined};
use super::session::Xen;
use crate::native::Native;
use crate::plan::{DomainTarget, Plan, Sources, Target};
use crate::{Availability, Backend, Description, Error, Message, Result, Session, Stats};

/// Messages between a session and the receiver of both: each session has its own room behind it.
const UNDER_WAY: usize = 16;

/// The whole host, from dom0.
#[derive(Clone, Debug, Default)]
pub struct WholeHost {
    native: Native,
}

impl Backend for WholeHost {
    fn name(&self) -> &'static str {
        "host"
    }

    fn probe(&self) -> Availability {
        Xen.probe()
    }

    /// Dom0 alone, and a note that says why, where domains cannot be sampled.
    fn open(&self, plan: &Plan) -> Result<Box<dyn Session>> {
        let counts = plan.sources.vpmu;
        if counts {
            joined::possible(&mut Host::open()?.xen)?;
        }
        let events = if counts { joined::of_everybody(&plan.events) } else { plan.events.clone() };
        let mut own = self.native.open(&Plan { with_ids: true, events, ..plan.clone() })?;
        if counts {
            joined::counted(&own.describe().events)?;
        }
        let domains = match own.describe().clockid {
            Some(clockid) => {
                let target = Target::Domains(DomainTarget { host: true, ..DomainTarget::default() });
                Xen.open(&Plan { target, clockid: Some(clockid), events: Vec::new(), ..plan.clone() })
            }
            None => {
                Err(Error::Other("this kernel cannot stamp its samples with a clock that Xen's could share".into()))
            }
        };
        match domains {
            Ok(domains) => {
                let whole = Box::new(WholeSession::of(domains, own));
                // The trace's ring is the last one.
                let states = whole.describe().rings - 1;
                Ok(if counts { Box::new(Joined::new(whole, states)?) } else { whole })
            }
            // What was asked for by name is not left out.
            Err(error) if plan.sources != Sources::default() => Err(error),
            Err(error) => {
                drop(own);
                own = self.native.open(plan)?;
                Ok(Box::new(Alone { description: noted(own.describe(), &error), own }))
            }
        }
    }
}

fn noted(description: &Description, error: &Error) -> Description {
    let mut description = description.clone();
    description.notes.push(format!("only dom0 itself is recorded, no other domain: {error}"));
    description
}

/// The two sessions.
struct WholeSession {
    description: Description,
    domains: Box<dyn Session>,
    own: Box<dyn Session>,
    out: Option<Sender<Message>>,
    messages: Receiver<Message>,
    forwarders: Vec<JoinHandle<()>>,
}

impl WholeSession {
    fn of(domains: Box<dyn Session>, own: Box<dyn Session>) -> WholeSession {
        let (first, second) = (domains.describe(), own.describe());
        let mut events = Events::new(first.events.order);
        for event in first.events.list().iter().chain(second.events.list()) {
            events.push(event.attr.clone(), event.name.clone(), event.ids.clone());
        }
        let (out, messages) = bounded(UNDER_WAY);
        WholeSession {
            description: Description {
                events,
                clockid: second.clockid,
                rings: first.rings + second.rings,
                ring_bytes: first.ring_bytes.max(second.ring_bytes),
                notes: first.notes.iter().chain(&second.notes).cloned().collect(),
                head: first.head.clone(),
                domains: first.domains.clone(),
            },
            domains,
            own,
            out: Some(out),
            messages,
            forwarders: Vec::new(),
        }
    }

    /// Hands on what a session sends, its rings numbered from `first`, until it ends or nobody listens.
    fn forward(&mut self, from: Receiver<Message>, first: u32, out: Sender<Message>) -> Result<()> {
        let work = move || {
            for mut message in from {
                if let Message::Drained(drained) = &mut message {
                    drained.ring += first;
                }
                if out.send(message).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("host".into()).spawn(work);
        self.forwarders.push(thread.map_err(|e| Error::os("start a thread", e))?);
        Ok(())
    }
}

impl Session for WholeSession {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        let Some(out) = self.out.take() else { return Err(Error::Other("the session has run already".into())) };
        let rings = self.own.describe().rings;
        self.forward(self.own.messages().clone(), 0, out.clone())?;
        self.forward(self.domains.messages().clone(), rings, out)?;
        self.domains.start()?;
        self.own.start()
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    fn recycle(&self, buffer: Vec<u8>) {
        self.own.recycle(buffer);
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        self.domains.enable(on)?;
        self.own.enable(on)
    }

    fn snapshot(&mut self) -> Result<()> {
        self.domains.snapshot()
    }

    fn stop(&mut self) -> Result<Stats> {
        self.out = None;
        let (domains, own) = (self.domains.stop(), self.own.stop());
        let (domains, own) = (domains?, own?);
        let lost = own.lost.map(|own| {
            let mut lost = domains.lost.unwrap_or_default();
            lost.resize(self.domains.describe().events.list().len(), 0);
            lost.extend(own);
            lost
        });
        Ok(Stats { lost, wakeups: domains.wakeups + own.wakeups, ..own })
    }
}

/// Dom0 alone, with a note.
struct Alone {
    description: Description,
    own: Box<dyn Session>,
}

impl Session for Alone {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        self.own.start()
    }

    fn messages(&self) -> &Receiver<Message> {
        self.own.messages()
    }

    fn recycle(&self, buffer: Vec<u8>) {
        self.own.recycle(buffer);
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        self.own.enable(on)
    }

    fn snapshot(&mut self) -> Result<()> {
        self.own.snapshot()
    }

    fn stop(&mut self) -> Result<Stats> {
        self.own.stop()
    }
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::attr::Attr;
    use xprof_perfdata::codec::ByteOrder;

    use super::*;
    use crate::Drained;

    /// A session that says what it is told to.
    struct Said {
        description: Description,
        lost: Option<Vec<u64>>,
        out: Option<Sender<Message>>,
        messages: Receiver<Message>,
    }

    impl Said {
        fn new(name: &str, ids: Vec<u64>, rings: u32, lost: Option<Vec<u64>>) -> Said {
            let mut events = Events::new(ByteOrder::NATIVE);
            events.push(Attr::default(), name.into(), ids);
            let description = Description {
                events,
                clockid: Some(1),
                rings,
                ring_bytes: 4096,
                notes: vec![name.into()],
                head: Vec::new(),
                domains: None,
            };
            let (out, messages) = bounded(64);
            Said { description, lost, out: Some(out), messages }
        }
    }

    impl Session for Said {
        fn describe(&self) -> &Description {
            &self.description
        }

        fn start(&mut self) -> Result<()> {
            for ring in 0..self.description.rings {
                let drained = Drained { ring, bytes: Vec::new(), until: 7 };
                self.out.as_ref().unwrap().send(Message::Drained(drained)).unwrap();
            }
            Ok(())
        }

        fn messages(&self) -> &Receiver<Message> {
            &self.messages
        }

        fn recycle(&self, _: Vec<u8>) {}

        fn enable(&mut self, _: bool) -> Result<()> {
            Ok(())
        }

        fn snapshot(&mut self) -> Result<()> {
            Ok(())
        }

        fn stop(&mut self) -> Result<Stats> {
            self.out = None;
            Ok(Stats { lost: self.lost.clone(), ..Stats::default() })
        }
    }

    #[test]
    fn rings_and_losses_of_two_sessions_do_not_meet() {
        let domains = Said::new("domain-clock", vec![1 << 40], 1, Some(vec![5]));
        let own = Said::new("cpu-clock", vec![9], 40, Some(vec![6]));
        let mut whole = WholeSession::of(Box::new(domains), Box::new(own));
        assert_eq!(whole.describe().rings, 41);
        assert_eq!((whole.describe().events.by_id(1 << 40), whole.describe().events.by_id(9)), (Some(0), Some(1)));
        whole.start().unwrap();
        assert_eq!(whole.stop().unwrap().lost, Some(vec![5, 6]));
        let mut rings: Vec<u32> = whole
            .messages()
            .iter()
            .map(|message| match message {
                Message::Drained(drained) => drained.ring,
                other => panic!("{other:?}"),
            })
            .collect();
        rings.sort_unstable();
        assert_eq!(rings, (0..41).collect::<Vec<_>>());
    }
}
