//! A session that samples domains: one thread ([`sampler`]) that ticks, follows domains as they come and go ([`following`]), and sends
//! whole records. It changes nothing on the host, but with `--source trace`: it reads, and maps frames read-only.

mod following;
mod sampler;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use xprof_perfdata::domain::{Domain, Domains, PCPUS_FACT};

use self::following::Following;
use self::sampler::{Control, Sampler, Traced};
use super::books::Books;
use super::frames::FrameCache;
use super::guest_form::{GuestForm, Options};
use super::host::Host;
use super::joined;
use super::tick::Ticks;
use super::trace::Trace;
use crate::plan::{CallGraph, DomainTarget, Plan, Rate, Sources, Target};
use crate::sys::clock;
use crate::sys::xen::abi::domain_flag;
use crate::sys::xen::{Holder, holder};
use crate::{Availability, Backend, Description, Error, Message, Result, Session, Stats};

/// Ticks a second when nothing is said, and at most, Hz.
const DEFAULT_HZ: u64 = 97;
/// The same where nobody looks at registers: times of domains are read; the trace tells exactly when they ran.
const TIMES_HZ: u64 = 2;
const MOST_HZ: u64 = 10_000;
/// Messages under way; while there are more, and another one is full, no ticks are made. The space beyond is for the last ones, so that `stop` never
/// waits for the receiver.
const UNDER_WAY: usize = 64;
const LAST: usize = 4096;
/// A message is sent when it has this many bytes.
const MESSAGE_BYTES: usize = 256 << 10;

/// The backend `xen`: domains, seen from dom0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Xen;

impl Backend for Xen {
    fn name(&self) -> &'static str {
        "xen"
    }

    fn probe(&self) -> Availability {
        match Host::open() {
            Ok(_) if cfg!(target_arch = "x86_64") => Availability::Yes,
            Ok(_) => Availability::No {
                reason: "the registers of Arm guests are not read yet".into(),
                remedy: "xprof domains".into(),
            },
            Err(error) => Availability::No { reason: error.to_string(), remedy: "xprof doctor".into() },
        }
    }

    fn open(&self, plan: &Plan) -> Result<Box<dyn Session>> {
        Ok(Box::new(XenSession::open(plan)?))
    }
}

/// A session of the backend `xen`.
#[derive(Debug)]
struct XenSession {
    description: Description,
    ready: Option<Sampler>,
    control: Arc<Control>,
    out: Option<Sender<Message>>,
    messages: Receiver<Message>,
    give_back: Sender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    worker: Option<JoinHandle<()>>,
}

/// Starts what pauses domains; first of all undoes what a killed one has left.
fn start_holder(host: &mut Host, notes: &mut Vec<String>) -> Result<Holder> {
    let journals = Path::new(holder::JOURNALS);
    let failed = |e| Error::os(format!("start the process that pauses domains ({})", journals.display()), e);
    for left in holder::left(journals).map_err(failed)? {
        let domain = left.domain;
        if left.restore(&mut host.xen)? {
            let domain = domain.unwrap_or_default();
            notes.push(format!("domain {domain}, which a killed recording had left paused, runs again"));
        }
    }
    Holder::start(&host.xen, journals).map_err(failed)
}

impl XenSession {
    fn open(plan: &Plan) -> Result<XenSession> {
        let Target::Domains(target) = &plan.target else {
            return Err(Error::Other("the backend xen samples domains: --domain or --all-domains".into()));
        };
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::Other("the registers of Arm guests are not read yet: xprof domains lists them".into()));
        }
        let mut host = Host::open()?;
        let mut notes = Vec::new();
        let hz = match plan.rate {
            Rate::Frequency(hz) if plan.rate_is_asked => hz,
            Rate::MaxFrequency => MOST_HZ,
            Rate::Frequency(_) | Rate::Period(_) if plan.sources.context => DEFAULT_HZ,
            Rate::Frequency(_) | Rate::Period(_) => TIMES_HZ,
        };
        if hz > MOST_HZ {
            notes.push(format!("domains are sampled at {MOST_HZ} Hz at most"));
        }
        let hz = hz.clamp(1, MOST_HZ);
        let clockid = plan.clockid.unwrap_or(clock::MONOTONIC);
        let stacks = plan.call_graph != CallGraph::None;
        let list = host.xen.domains().map_err(Error::from)?;
        let following = Following::new(target.clone());
        let mut chosen = Vec::new();
        for info in list.into_iter().filter(|info| !info.is(domain_flag::DYING) && info.vcpus != 0) {
            let name = host.name(info.id);
            if following.wants(&info, &name) {
                chosen.push((info, name));
            }
        }
        for which in &target.which {
            let one = Following::new(DomainTarget { which: vec![which.clone()], ..DomainTarget::default() });
            if !chosen.iter().any(|(info, name)| one.wants(info, name)) {
                return Err(Error::NoTarget { what: format!("domain {which}") });
            }
        }
        let stacks_held = target.consistent && stacks;
        let holder = if stacks_held { Some(start_holder(&mut host, &mut notes)?) } else { None };
        let options = Options { frequency: hz, call_graph: stacks, clockid, waiting: target.waiting };
        let seed = clock::now(clock::MONOTONIC).unwrap_or(1) ^ u64::from(std::process::id()) << 32;
        let mut sampler = Sampler {
            host,
            form: GuestForm::new(&options, &[]),
            ticks: Ticks::new(stacks, target.waiting, stacks_held, seed),
            holder,
            trace: None,
            traced: Traced::default(),
            contexts: plan.sources.context,
            vcpus: Vec::new(),
            cache: FrameCache::default(),
            following,
            waited: Vec::new(),
            interval: Duration::from_nanos(1_000_000_000 / hz),
            clockid,
            bytes: Vec::new(),
            control: Arc::new(Control::new()?),
        };
        let mut domains: Vec<Domain> = chosen.into_iter().map(|(info, name)| sampler.take(&info, name, 0)).collect();
        let cpus = sampler.host.xen.cpus().map_or(0, |(cpus, _)| cpus);
        if target.host {
            let books = Books::new(cpus);
            domains.extend(books.domains());
            sampler.ticks.books = Some(books);
        }
        if plan.sources.vpmu {
            domains.extend(joined::nobodies());
        }
        sampler.form = GuestForm::new(&options, &domains);
        if plan.sources.trace {
            sampler.trace = Some(Trace::begin(clockid)?);
            sampler.form = sampler.form.with_states();
        }
        let mut head = Vec::new();
        sampler.form.domains(&domains, 0, &mut head)?;
        let (major, minor) = sampler.host.xen.version();
        let extra = sampler.host.xen.extra_version().unwrap_or_default();
        let mut facts = vec![
            ("xen_version".to_owned(), format!("{major}.{minor}{extra}")),
            (PCPUS_FACT.to_owned(), cpus.to_string()),
            ("source".to_owned(), source_text(plan.sources)),
        ];
        if target.host {
            facts.extend(sampler.serving());
        }
        let (out, messages) = bounded(UNDER_WAY + LAST);
        let (give_back, spare) = bounded(UNDER_WAY);
        Ok(XenSession {
            description: Description {
                events: sampler.form.events(),
                clockid: Some(clockid),
                rings: 1 + u32::from(plan.sources.trace),
                ring_bytes: MESSAGE_BYTES,
                notes,
                head,
                domains: Some(Domains { facts, list: domains }),
            },
            control: {
                sampler.control.paused.store(plan.start_disabled, Ordering::Release);
                Arc::clone(&sampler.control)
            },
            ready: Some(sampler),
            out: Some(out),
            messages,
            give_back,
            spare,
            worker: None,
        })
    }
}

/// The sources, as `--source` names them.
fn source_text(sources: Sources) -> String {
    let names = [(sources.context, "context"), (sources.trace, "trace"), (sources.vpmu, "vpmu")];
    let names: Vec<&str> = names.into_iter().filter(|(asked, _)| *asked).map(|(_, name)| name).collect();
    names.join(",")
}

impl Session for XenSession {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn start(&mut self) -> Result<()> {
        let (Some(sampler), Some(out)) = (self.ready.take(), self.out.take()) else {
            return Err(Error::Other("the session has run already".into()));
        };
        let spare = self.spare.clone();
        let worker = std::thread::Builder::new().name("xen".into()).spawn(move || sampler.run(&out, &spare));
        self.worker = Some(worker.map_err(|e| Error::os("start the sampler's thread", e))?);
        Ok(())
    }

    fn messages(&self) -> &Receiver<Message> {
        &self.messages
    }

    fn recycle(&self, buffer: Vec<u8>) {
        let _ = self.give_back.try_send(buffer);
    }

    fn enable(&mut self, on: bool) -> Result<()> {
        self.control.paused.store(!on, Ordering::Release);
        self.control.wake();
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        Err(Error::Other("domains are not sampled into rings that are overwritten".into()))
    }

    fn stop(&mut self) -> Result<Stats> {
        self.control.stop.store(true, Ordering::Release);
        self.control.wake();
        self.ready = None;
        self.out = None;
        let died = match self.worker.take() {
            Some(worker) => worker.join().is_err(),
            None => false,
        };
        if died {
            return Err(Error::Other("the sampler's thread died".into()));
        }
        Ok(Stats {
            lost: Some(vec![self.control.refused.load(Ordering::Relaxed)]),
            wakeups: self.control.ticks.load(Ordering::Relaxed),
            ..Stats::default()
        })
    }
}

impl Drop for XenSession {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
