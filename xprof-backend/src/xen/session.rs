//! A session that samples domains: one thread that ticks, follows domains as they come and go, and sends whole records.
//!
//! It changes nothing on the host: it reads, and maps frames read-only. Ticks are jittered, so that they do not keep step with
//! a guest's own timer. A tick that was due while another was made is missed and counted, not made up for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use xprof_perfdata::domain::{Domain, Domains, PCPUS_FACT, WAITED_FACT, WALL_FACT};

use super::books::Books;
use super::frames::FrameCache;
use super::guest_form::{GuestForm, Options};
use super::host::{Host, kind};
use super::serving;
use super::tick::{Pausing, Ticks, Vcpu};
use crate::machine::Machine;
use crate::plan::{CallGraph, DomainTarget, Plan, Rate, Target};
use crate::sys::clock;
use crate::sys::xen::abi::domain_flag;
use crate::sys::xen::{DomainInfo, Holder, holder};
use crate::{Availability, Backend, Description, Drained, Error, Message, Result, Session, Stats};

/// Ticks a second when nothing is said, and at most, Hz.
const DEFAULT_HZ: u64 = 97;
const MOST_HZ: u64 = 10_000;
/// Domains are looked for this often: what was mapped of one that dies is let go within twice this time.
const FOLLOW: Duration = Duration::from_millis(40);
/// Names are read again this often.
const NAMES: Duration = Duration::from_millis(500);
/// Whom dom0's processes work for is looked up this often.
const SERVING: Duration = Duration::from_secs(5);
/// A tick may take this part of the time between two: the sampler keeps to a fifth of one pCPU.
const BUDGET: u32 = 5;
/// Messages under way; while there are more, no ticks are made. The space beyond is for the last ones, so that `stop` never
/// waits for the receiver.
const UNDER_WAY: usize = 64;
const LAST: usize = 4096;
/// A message is sent when it has this many bytes, or this age.
const MESSAGE_BYTES: usize = 256 << 10;
const MESSAGE_AGE: Duration = Duration::from_millis(100);
/// Facts of vCPUs that are kept.
const FACTS_MAX: usize = 4096;
/// Named domains that are all gone may be rebooting: so long is waited for them.
const REBOOT: Duration = Duration::from_secs(10);

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

/// A domain that is sampled.
#[derive(Clone, Debug)]
struct Followed {
    domain: Domain,
    /// Size when its frames were mapped.
    pages: u64,
    ended: bool,
}

/// Which domains, and those that were found.
#[derive(Debug)]
struct Following {
    target: DomainTarget,
    /// UUIDs of those that were named: a reboot gives a new id and often the same name.
    uuids: Vec<[u8; 16]>,
    followed: Vec<Followed>,
    named_at: Instant,
    gone_since: Option<Instant>,
}

fn plain(uuid: &str) -> String {
    uuid.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect()
}

impl Following {
    fn wants(&self, info: &DomainInfo, name: &str) -> bool {
        let uuid = plain(&Domain { uuid: info.uuid, ..Domain::default() }.uuid_text());
        let named = |which: &String| *which == info.id.to_string() || which == name || plain(which) == uuid;
        self.target.which.is_empty()
            || self.target.which.iter().any(named)
            || (info.uuid != [0; 16] && self.uuids.contains(&info.uuid))
    }
}

/// The state of the thread.
#[derive(Debug)]
struct Sampler {
    host: Host,
    form: GuestForm,
    ticks: Ticks,
    vcpus: Vec<Vcpu>,
    cache: FrameCache,
    /// With `--consistent`.
    holder: Option<Holder>,
    following: Following,
    /// How long vCPUs waited that are gone.
    waited: Vec<((u16, u32), u64)>,
    interval: Duration,
    /// `CLOCK_*` of the samples.
    clockid: i32,
    bytes: Vec<u8>,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    paused: AtomicBool,
    ticks: AtomicU64,
    missed: AtomicU64,
    refused: AtomicU64,
}

/// Time that this thread has had a CPU.
fn own_time() -> Duration {
    Duration::from_nanos(clock::now(clock::THREAD_CPUTIME).unwrap_or(0))
}

/// The receiver is gone.
struct Over;

impl Sampler {
    /// ns on the session's clock.
    fn now(&self) -> u64 {
        clock::now(self.clockid).unwrap_or(0)
    }

    /// Begins with a domain: its vCPUs, its frames.
    fn take(&mut self, info: &DomainInfo, name: String, since: u64) -> Domain {
        let kind = kind(info);
        let pv = !info.is(domain_flag::HVM);
        let wide = !pv || self.host.xen.address_size(info.id).map_or(true, |bits| bits == 64);
        let domain =
            Domain { id: info.id.into(), name, uuid: info.uuid, kind, vcpus: info.vcpus, since, until: u64::MAX };
        // Of a domain that was not there before, everything it has run is new.
        let ran = (since != 0).then_some(0);
        let paused = info.is(domain_flag::PAUSED);
        self.forget(info.id);
        let timed = info.id == 0 && self.following.target.host;
        let new = |vcpu| Vcpu { domain: info.id, vcpu, pv, wide, paused, timed, ran, waited: 0 };
        self.vcpus.extend((0..info.vcpus).map(new));
        // PV frames are the machine's, and Xen alone knows which are whose.
        let limit = match pv {
            true => u64::MAX,
            false => self.host.xen.maximum_frame(info.id).map_or(u64::MAX, |highest| highest.saturating_add(1)),
        };
        if info.id != 0 {
            self.cache.begin(info.id, limit);
        }
        if !self.following.target.which.is_empty() && !self.following.uuids.contains(&info.uuid) {
            self.following.uuids.push(info.uuid);
        }
        self.following.followed.push(Followed { domain: domain.clone(), pages: info.pages, ended: false });
        domain
    }

    /// Lets go of a domain's vCPUs; how long they waited is kept.
    fn forget(&mut self, domain: u16) {
        let gone = self.vcpus.extract_if(.., |vcpu| vcpu.domain == domain);
        self.waited.extend(gone.map(|vcpu| ((vcpu.domain, vcpu.vcpu), vcpu.waited)));
    }

    /// Whom dom0's processes work for, of those that run now.
    fn serving(&mut self) -> Vec<(String, String)> {
        let living = self.following.followed.iter().filter(|known| !known.ended);
        let domains: Vec<u32> = living.map(|known| known.domain.id).collect();
        serving::facts(&mut self.host, &Machine::here().proc, &domains)
    }

    /// What is known at the end.
    fn facts(&self) -> Vec<(String, String)> {
        let now = self.vcpus.iter().map(|vcpu| ((vcpu.domain, vcpu.vcpu), vcpu.waited));
        let mut sums = std::collections::BTreeMap::new();
        self.waited.iter().copied().chain(now).for_each(|(vcpu, waited)| *sums.entry(vcpu).or_insert(0) += waited);
        let wall = (WALL_FACT.to_owned(), self.ticks.wall.to_string());
        let waits = sums.into_iter().take(FACTS_MAX);
        std::iter::once(wall)
            .chain(waits.map(|((domain, vcpu), ns)| (format!("{WAITED_FACT}{domain}.{vcpu}"), ns.to_string())))
            .collect()
    }

    /// Looks which domains came, went, were renamed; messages for what changed.
    fn follow(&mut self, out: &mut Vec<Message>) {
        let Ok(list) = self.host.xen.domains() else { return };
        let rename = self.following.named_at.elapsed() >= NAMES;
        if rename {
            self.following.named_at = Instant::now();
        }
        let time = self.now();
        for at in 0..self.following.followed.len() {
            let known = &self.following.followed[at];
            if known.ended {
                continue;
            }
            let (id, uuid) = (known.domain.id as u16, known.domain.uuid);
            let info = list.iter().find(|info| info.id == id && info.uuid == uuid && !info.is(domain_flag::DYING));
            let Some(info) = info else {
                self.cache.end(id);
                self.forget(id);
                let known = &mut self.following.followed[at];
                known.ended = true;
                known.domain.until = time;
                out.push(Message::Domain(Box::new(known.domain.clone())));
                continue;
            };
            if info.is(domain_flag::SHUTDOWN) || info.pages != known.pages {
                self.cache.clear(id);
                self.following.followed[at].pages = info.pages;
            }
            let paused = info.is(domain_flag::PAUSED);
            self.vcpus.iter_mut().filter(|vcpu| vcpu.domain == id).for_each(|vcpu| vcpu.paused = paused);
            if rename {
                let name = self.host.name(id);
                let known = &mut self.following.followed[at];
                let placeholder = name.starts_with("domain-") && !known.domain.name.starts_with("domain-");
                if name != known.domain.name && !placeholder {
                    known.domain.name = name;
                    let domain = known.domain.clone();
                    self.tell(&domain, time, out);
                }
            }
        }
        for info in list.iter().filter(|info| !info.is(domain_flag::DYING) && info.vcpus != 0) {
            let is_known = |known: &Followed| {
                !known.ended && known.domain.id == u32::from(info.id) && known.domain.uuid == info.uuid
            };
            if self.following.followed.iter().any(is_known) {
                continue;
            }
            let name = self.host.name(info.id);
            if self.following.wants(info, &name) {
                let domain = self.take(info, name, time.max(1));
                self.tell(&domain, time.max(1), out);
            }
        }
        let all_gone =
            !self.following.target.which.is_empty() && self.following.followed.iter().all(|known| known.ended);
        match (all_gone, self.following.gone_since) {
            (true, None) => self.following.gone_since = Some(Instant::now()),
            (true, Some(since)) if since.elapsed() >= REBOOT => out.push(Message::TargetsGone),
            (true, Some(_)) => {}
            (false, _) => self.following.gone_since = None,
        }
    }

    fn tell(&mut self, domain: &Domain, time: u64, out: &mut Vec<Message>) {
        if let Err(error) = self.form.domain(domain, time, &mut self.bytes) {
            out.push(Message::Note(error.to_string()));
        }
        out.push(Message::Domain(Box::new(domain.clone())));
    }

    fn run(mut self, out: &Sender<Message>, spare: &Receiver<Vec<u8>>) {
        let _: std::result::Result<(), Over> = self.work(out, spare);
    }

    fn send(out: &Sender<Message>, message: Message) -> std::result::Result<(), Over> {
        out.send(message).map_err(|_| Over)
    }

    fn work(&mut self, out: &Sender<Message>, spare: &Receiver<Vec<u8>>) -> std::result::Result<(), Over> {
        let mut messages = Vec::new();
        let mut next_tick = Instant::now();
        let mut next_follow = Instant::now() + FOLLOW;
        let mut sent = Instant::now();
        let mut served = Instant::now();
        let (mut slowed, mut failed, mut cost) = (false, false, Duration::ZERO);
        let mut was_paused = false;
        loop {
            let stop = self.control.stop.load(Ordering::Acquire);
            let paused = self.control.paused.load(Ordering::Acquire);
            let (started, spent) = (Instant::now(), own_time());
            let full = out.len() >= UNDER_WAY && !stop;
            if full && started >= next_tick {
                self.control.missed.fetch_add(1, Ordering::Relaxed);
                next_tick = started + self.interval;
            } else if (started >= next_tick || stop) && !paused {
                let time = self.now();
                if was_paused {
                    self.ticks.pause(&mut self.vcpus);
                }
                self.cache.trim(started);
                let Sampler { host, form, ticks, vcpus, cache, bytes, holder, clockid, .. } = self;
                let held = holder.is_some();
                let mut pausing = Pausing { xen: &mut host.xen, holder, stuck: false, clockid: *clockid };
                let done = ticks.tick(&mut pausing, vcpus, cache, time, form, bytes);
                let stuck = pausing.stuck;
                if held && holder.is_none() {
                    ticks.consistent = false;
                    messages.push(Message::Note(
                        "the process that pauses domains was killed: stacks are read without pausing from here on"
                            .into(),
                    ));
                    if stuck {
                        messages.push(Message::Note(
                            "a domain stays paused, which Xen did not let go: xprof doctor --restore".into(),
                        ));
                    }
                }
                match done {
                    Ok(done) => {
                        self.control.ticks.fetch_add(1, Ordering::Relaxed);
                        self.control.refused.fetch_add(done.refused, Ordering::Relaxed);
                    }
                    Err(error) if !failed => {
                        failed = true;
                        messages.push(Message::Failed(error.into()));
                    }
                    Err(_) => {}
                }
                // A mean over the last few ticks: one slow tick (everything mapped anew) is none to slow down for. Time in which
                // others had this CPU is none of the sampler's.
                cost = (cost * 7 + own_time().saturating_sub(spent)) / 8;
                let step = self.interval.max(cost * BUDGET);
                if !slowed && step > self.interval.mul_f64(1.1) && self.control.ticks.load(Ordering::Relaxed) > 16 {
                    slowed = true;
                    let hz = 1.0 / step.as_secs_f64();
                    messages.push(Message::Note(format!(
                        "sampling {} vCPUs takes {:.1} ms: about {hz:.0} Hz is what a fifth of a pCPU allows",
                        self.vcpus.len(),
                        cost.as_secs_f64() * 1e3
                    )));
                }
                // Between 3/4 and 5/4 of the interval.
                let jitter = 0.75 + 0.5 * (self.ticks.random() >> 11) as f64 / (1u64 << 53) as f64;
                next_tick += step.mul_f64(jitter);
                let late = Instant::now().saturating_duration_since(next_tick);
                if late > Duration::ZERO {
                    let missed = late.as_nanos() / step.as_nanos().max(1) + 1;
                    self.control.missed.fetch_add(missed as u64, Ordering::Relaxed);
                    next_tick = Instant::now() + step / 2;
                }
            }
            was_paused = paused;
            if Instant::now() >= next_follow || stop {
                self.follow(&mut messages);
                next_follow = Instant::now() + FOLLOW;
            }
            if self.following.target.host && (stop || served.elapsed() >= SERVING) {
                messages.push(Message::Facts(self.serving()));
                served = Instant::now();
            }
            if stop {
                self.ticks.books.iter().for_each(|books| books.close(&self.form, &mut self.bytes));
                messages.push(Message::Facts(self.facts()));
            }
            let due = self.bytes.len() >= MESSAGE_BYTES || sent.elapsed() >= MESSAGE_AGE || !messages.is_empty();
            if stop || (due && !full) {
                let empty = spare.try_recv().map(|mut buffer: Vec<u8>| {
                    buffer.clear();
                    buffer
                });
                let bytes = std::mem::replace(&mut self.bytes, empty.unwrap_or_default());
                let until = self.now();
                Self::send(out, Message::Drained(Drained { ring: 0, bytes, until }))?;
                sent = Instant::now();
            }
            if stop {
                let ticks = self.control.ticks.load(Ordering::Relaxed);
                let missed = self.control.missed.load(Ordering::Relaxed);
                if missed != 0 {
                    messages.push(Message::Note(format!(
                        "{missed} of {} ticks were missed; the time of each went to the next",
                        ticks + missed
                    )));
                }
            }
            if stop || !full {
                messages.truncate(LAST / 2);
                for message in messages.drain(..) {
                    Self::send(out, message)?;
                }
            }
            if stop {
                return Ok(());
            }
            let now = Instant::now();
            let wait = next_follow.min(next_tick.max(now)).min(sent + MESSAGE_AGE).saturating_duration_since(now);
            // Paused: domains are followed all the same, so that nothing dead stays mapped.
            std::thread::sleep(if paused { wait.max(Duration::from_millis(5)) } else { wait });
        }
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
            Rate::Frequency(_) | Rate::Period(_) => DEFAULT_HZ,
        };
        if hz > MOST_HZ {
            notes.push(format!("domains are sampled at {MOST_HZ} Hz at most"));
        }
        let hz = hz.clamp(1, MOST_HZ);
        let clockid = plan.clockid.unwrap_or(clock::MONOTONIC);
        let stacks = plan.call_graph != CallGraph::None;
        let list = host.xen.domains().map_err(Error::from)?;
        let following = Following {
            target: target.clone(),
            uuids: Vec::new(),
            followed: Vec::new(),
            named_at: Instant::now(),
            gone_since: None,
        };
        let mut chosen = Vec::new();
        for info in list.into_iter().filter(|info| !info.is(domain_flag::DYING) && info.vcpus != 0) {
            let name = host.name(info.id);
            if following.wants(&info, &name) {
                chosen.push((info, name));
            }
        }
        for which in &target.which {
            let one = Following {
                target: DomainTarget { which: vec![which.clone()], ..DomainTarget::default() },
                uuids: Vec::new(),
                followed: Vec::new(),
                named_at: Instant::now(),
                gone_since: None,
            };
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
            vcpus: Vec::new(),
            cache: FrameCache::default(),
            following,
            waited: Vec::new(),
            interval: Duration::from_nanos(1_000_000_000 / hz),
            clockid,
            bytes: Vec::new(),
            control: Arc::default(),
        };
        let mut domains: Vec<Domain> = chosen.into_iter().map(|(info, name)| sampler.take(&info, name, 0)).collect();
        let cpus = sampler.host.xen.cpus().map_or(0, |(cpus, _)| cpus);
        if target.host {
            let books = Books::new(cpus);
            domains.extend(books.domains());
            sampler.ticks.books = Some(books);
        }
        sampler.form = GuestForm::new(&options, &domains);
        let mut head = Vec::new();
        sampler.form.domains(&domains, 0, &mut head)?;
        let (major, minor) = sampler.host.xen.version();
        let extra = sampler.host.xen.extra_version().unwrap_or_default();
        let mut facts = vec![
            ("xen_version".to_owned(), format!("{major}.{minor}{extra}")),
            (PCPUS_FACT.to_owned(), cpus.to_string()),
            ("source".to_owned(), "context".to_owned()),
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
                rings: 1,
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
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        Err(Error::Other("domains are not sampled into rings that are overwritten".into()))
    }

    fn stop(&mut self) -> Result<Stats> {
        self.control.stop.store(true, Ordering::Release);
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
