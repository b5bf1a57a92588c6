//! Which domains are sampled, and how they are followed: they come, go, reboot, shrink and change their names.
//!
//! A domain is its UUID: an id is reused, a name can be another's tomorrow. What was mapped of a domain is let go when it dies, shuts
//! down or changes its size, because a single frame that stays mapped keeps a dead domain.

use std::time::{Duration, Instant};

use xprof_perfdata::domain::Domain;

use super::sampler::Sampler;
use crate::Message;
use crate::plan::DomainTarget;
use crate::sys::xen::DomainInfo;
use crate::sys::xen::abi::domain_flag;
use crate::xen::host::kind;
use crate::xen::tick::Vcpu;

/// Names are read again this often.
const NAMES: Duration = Duration::from_millis(500);
/// Named domains that are all gone may be rebooting: so long is waited for them.
const REBOOT: Duration = Duration::from_secs(10);

/// A domain that is sampled.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) domain: Domain,
    /// Size when its frames were mapped.
    pages: u64,
    pub(super) ended: bool,
}

/// Which domains, and those that were found.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) target: DomainTarget,
    /// UUIDs of those that were named: a reboot gives a new id and often the same name.
    uuids: Vec<[u8; 16]>,
    pub(super) followed: Vec<Followed>,
    named_at: Instant,
    gone_since: Option<Instant>,
}

fn plain(uuid: &str) -> String {
    uuid.chars().filter(|c| *c != '-').flat_map(char::to_lowercase).collect()
}

impl Following {
    /// None was found yet.
    pub(super) fn new(target: DomainTarget) -> Following {
        Following { target, uuids: Vec::new(), followed: Vec::new(), named_at: Instant::now(), gone_since: None }
    }

    pub(super) fn wants(&self, info: &DomainInfo, name: &str) -> bool {
        let uuid = plain(&Domain { uuid: info.uuid, ..Domain::default() }.uuid_text());
        // A number means the domain that had it at the start: who has it later is another.
        let is_start = self.uuids.is_empty();
        let named = |which: &String| is_start && *which == info.id.to_string() || which == name || plain(which) == uuid;
        self.target.which.is_empty()
            || self.target.which.iter().any(named)
            || (info.uuid != [0; 16] && self.uuids.contains(&info.uuid))
    }
}

impl Sampler {
    pub(super) fn take(&mut self, info: &DomainInfo, name: String, since: u64) -> Domain {
        let kind = kind(info);
        let pv = !info.is(domain_flag::HVM);
        let wide = !pv || self.host.xen.address_size(info.id).map_or(true, |bits| bits == 64);
        let domain =
            Domain { id: info.id.into(), name, uuid: info.uuid, kind, vcpus: info.vcpus, since, until: u64::MAX };
        // Of a domain that was not there before, everything it has run is new.
        let ran = (since != 0).then_some(0);
        let paused = info.is(domain_flag::PAUSED);
        self.forget(info.id);
        let timed = !self.contexts || (info.id == 0 && self.following.target.host);
        let new = |vcpu| Vcpu { domain: info.id, uuid: info.uuid, vcpu, pv, wide, paused, timed, ran, waited: 0 };
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

    pub(super) fn follow(&mut self, out: &mut Vec<Message>) {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant_by_a_number_a_name_and_a_uuid() {
        let info = |id, uuid| DomainInfo { id, uuid: [uuid; 16], ..DomainInfo::default() };
        let of = |which: &str| Following::new(DomainTarget { which: vec![which.into()], ..DomainTarget::default() });
        assert!(Following::new(DomainTarget::default()).wants(&info(9, 9), "any"));
        let mut by_id = of("5");
        assert!(by_id.wants(&info(5, 1), "web") && !by_id.wants(&info(6, 1), "web"));
        by_id.uuids.push([1; 16]);
        assert!(by_id.wants(&info(6, 1), "web"), "it was rebooted");
        assert!(!by_id.wants(&info(5, 2), "db"), "another has the id");
        let mut by_name = of("web");
        by_name.uuids.push([1; 16]);
        assert!(by_name.wants(&info(7, 3), "web") && by_name.wants(&info(8, 1), "renamed"));
        let by_uuid = of("01010101-0101-0101-0101-010101010101");
        assert!(by_uuid.wants(&info(7, 1), "x") && !by_uuid.wants(&info(7, 2), "x"));
    }
}
