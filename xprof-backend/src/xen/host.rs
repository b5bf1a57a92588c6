//! The host: its domains with names, kinds, schedulers.

use rustc_hash::FxHashMap;
use xprof_perfdata::domain::DomainKind;

use super::xenstore::Xenstore;
use crate::sys::xen::abi::{self, domain_flag};
use crate::sys::xen::{DomainInfo, Hypervisor, PoolInfo, VcpuInfo, XenError};

/// Xen and its xenstore.
#[derive(Debug)]
pub struct Host {
    /// Hypercalls.
    pub xen: Hypervisor,
    /// Names; `None` when there is no store, and domains are numbers then.
    pub store: Option<Xenstore>,
}

/// A domain as `xprof domains` shows it.
#[derive(Clone, Debug)]
pub struct DomainStatus {
    /// What Xen says.
    pub info: DomainInfo,
    /// Its name, else `domain-ID`.
    pub name: String,
    /// Kind.
    pub kind: DomainKind,
    /// Its vCPUs, by number; those that are not there are left out.
    pub vcpus: Vec<(u32, VcpuInfo)>,
    /// Scheduler of its pool.
    pub scheduler: Option<&'static str>,
    /// Weight and cap (percent of a pCPU, 0: none), under credit and credit2.
    pub weight: Option<(u16, u16)>,
    /// Its pool's name.
    pub pool: Option<String>,
    /// For each vCPU the pCPUs it may run on.
    pub affinity: Vec<Vec<u32>>,
}

/// The kind of a domain.
pub fn kind(info: &DomainInfo) -> DomainKind {
    if cfg!(target_arch = "aarch64") {
        return DomainKind::Pvh;
    }
    match info.is(domain_flag::HVM) {
        false => DomainKind::Pv,
        true if info.emulation & abi::EMULATES_PC != 0 => DomainKind::Hvm,
        true => DomainKind::Pvh,
    }
}

impl Host {
    /// Opens Xen and, where there is one, xenstore.
    ///
    /// # Errors
    /// See [`XenError`].
    pub fn open() -> Result<Host, XenError> {
        Ok(Host { xen: Hypervisor::open()?, store: Xenstore::open().ok() })
    }

    /// A domain's name.
    pub fn name(&mut self, domain: u16) -> String {
        let stored = self.store.as_mut().and_then(|store| store.domain_name(domain));
        stored.unwrap_or_else(|| if domain == 0 { "Domain-0".into() } else { format!("domain-{domain}") })
    }

    fn pool_name(&mut self, pool: u32) -> String {
        let stored = self.store.as_mut().and_then(|store| store.read(&format!("/local/pool/{pool}/name")).ok());
        stored.unwrap_or_else(|| format!("Pool-{pool}"))
    }

    /// Everything about every domain.
    ///
    /// # Errors
    /// When Xen does not answer at all; a domain that ends meanwhile is left out.
    pub fn domains(&mut self) -> Result<Vec<DomainStatus>, XenError> {
        let (cpus, _) = self.xen.cpus()?;
        let schedulers: FxHashMap<u32, u32> =
            self.xen.pools().iter().map(|&PoolInfo { id, scheduler }| (id, scheduler)).collect();
        let mut list = Vec::new();
        for info in self.xen.domains()? {
            let asked: Vec<_> = (0..info.vcpus).map(|vcpu| (info.id, vcpu)).collect();
            let mut answers = Vec::new();
            self.xen.vcpus(&asked, &mut answers)?;
            let vcpus: Vec<_> = (0..).zip(answers).filter_map(|(vcpu, answer)| Some((vcpu, answer?))).collect();
            let scheduler = info.pool.and_then(|pool| schedulers.get(&pool).copied());
            let affinity = vcpus.iter().filter_map(|(vcpu, _)| self.xen.affinity(info.id, *vcpu, cpus)).collect();
            list.push(DomainStatus {
                name: self.name(info.id),
                kind: kind(&info),
                vcpus,
                scheduler: scheduler.map(abi::scheduler_name),
                weight: scheduler.and_then(|scheduler| self.xen.weight(info.id, scheduler)),
                pool: info.pool.map(|pool| self.pool_name(pool)),
                affinity,
                info,
            });
        }
        Ok(list)
    }
}
