//! Counts of a PV dom0 with a vPMU, by the registers that Xen lends it: dom0's own accesses trap, and Xen does them on the
//! pCPU where the vCPU is. So a count is of a pCPU only where a vCPU stays on one, and of the host only with one for each.
//!
//! No mode is changed: whom the counters count is the mode's that the host has.

use std::collections::BTreeSet;

use super::vpmu::{self, Mode, Trap};
use crate::counters::{CountPlan, Counters, Counting};
use crate::msr::{Error, Result, cpu};
use crate::native::msr::Places;
use crate::native::msr::count::{Counts, Place};
use crate::sys::xen::Hypervisor;

/// The counters that Xen lends dom0.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    /// Where dom0's devices are.
    pub places: Places,
}

/// What can be counted on.
#[derive(Debug)]
struct Look {
    places: Vec<Place>,
    notes: Vec<String>,
}

/// Looks at the host: `cpus` are pCPUs that are asked for.
fn look(xen: &mut Hypervisor, cpus: Option<&[u32]>) -> Result<Look> {
    let mode = vpmu::mode(xen)?;
    let (whom, wider) = match mode {
        Mode::Off => {
            return Err(Error::Unsupported("the vPMU's mode is off: nobody has counters".into()));
        }
        Mode::Own => ("dom0 alone, while it runs", true),
        Mode::Hypervisor => ("dom0, and Xen where it works for dom0", true),
        Mode::All => ("everybody who runs on the pCPU, and Xen", false),
    };
    let mut notes = vec![Trap::Unsafe.to_string(), format!("the vPMU's mode is {mode}: the counters count {whom}")];
    if wider && xen.address_size(0).is_ok_and(|bits| bits == 32) {
        notes.push("a 32-bit PV dom0 counts no more than itself: modes hv and all are refused to it".into());
    } else if wider {
        notes.push(
            "for the whole host: xprof msr allocate --backend xen --scope global, before guests are created".into(),
        );
    }
    let places = pinned(xen)?;
    let there: BTreeSet<u32> = places.iter().map(|place| place.shown).collect();
    let (all, _) = xen.cpus().map_err(|error| Error::Unsupported(format!("the number of pCPUs: {error}")))?;
    let trap = |pinned| Trap::Pinning { vcpus: places.len() as u32, cpus: all, pinned };
    match cpus {
        Some(asked) => {
            if let Some(missing) = asked.iter().find(|cpu| !there.contains(cpu)) {
                return Err(Error::Unsupported(format!("no vCPU of dom0 is pinned to pCPU {missing}")));
            }
            let places = places.into_iter().filter(|place| asked.contains(&place.shown)).collect();
            Ok(Look { places, notes })
        }
        None if there.len() < places.len() || places.is_empty() => Err(Error::Unsupported(trap(false).to_string())),
        None if there.len() < all as usize => Err(Error::Unsupported(trap(true).to_string())),
        None => Ok(Look { places, notes }),
    }
}

/// dom0's vCPUs and the pCPUs that they are pinned to.
fn pinned(xen: &mut Hypervisor) -> Result<Vec<Place>> {
    let list = xen.domains().map_err(|error| Error::Unsupported(format!("the list of domains: {error}")))?;
    let (cpus, _) = xen.cpus().map_err(|error| Error::Unsupported(format!("the number of pCPUs: {error}")))?;
    let vcpus = list.iter().find(|info| info.id == 0).map_or(0, |info| info.online_vcpus);
    let mut places = Vec::new();
    for vcpu in 0..vcpus {
        match xen.affinity(0, vcpu, cpus).as_deref() {
            Some(&[pcpu]) => places.push(Place { cpu: vcpu, shown: pcpu }),
            _ => return Err(Error::Unsupported(Trap::Pinning { vcpus, cpus, pinned: false }.to_string())),
        }
    }
    Ok(places)
}

impl Counters for Lent {
    fn open(&self, plan: &CountPlan) -> crate::Result<Box<dyn Counting>> {
        let Look { places, notes } = look(&mut Hypervisor::open()?, plan.cpus.as_deref())?;
        Counts { places: self.places.clone(), table: Some(cpu::lent()), cpus: Some(places), notes }.open(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::xen::tests::Fake;

    /// dom0 of so many vCPUs on so many pCPUs, pinned so.
    fn host(mode: Option<u64>, pcpus: u32, pins: &[&[u32]]) -> Hypervisor {
        let fake = Fake::new(17, 0x15, 0x15);
        {
            let mut told = fake.told.lock().unwrap();
            told.domains = vec![(0, 0, 1, pins.len() as u32 - 1), (3, 0, 30, 0)];
            told.pmu.mode = mode;
            told.pcpus = pcpus;
            told.pins = pins.iter().map(|list| list.to_vec()).collect();
        }
        fake.open()
    }

    fn refusal(mode: Option<u64>, pcpus: u32, pins: &[&[u32]], cpus: Option<&[u32]>) -> String {
        look(&mut host(mode, pcpus, pins), cpus).unwrap_err().to_string()
    }

    #[test]
    fn one_pinned_vcpu_for_each_pcpu_and_everything_else_is_refused_by_name() {
        let own = |look: Look| look.places.iter().map(|place| (place.cpu, place.shown)).collect::<Vec<_>>();
        let all = look(&mut host(Some(4), 2, &[&[1], &[0]]), None).unwrap();
        assert!(all.notes.iter().any(|note| note.contains("mode is all")) && all.notes[0].contains("XSA-163"));
        assert!(!all.notes.iter().any(|note| note.contains("--scope global")));
        assert_eq!(own(all), [(0, 1), (1, 0)]);
        let lone = look(&mut host(Some(1), 4, &[&[2]]), Some(&[2])).unwrap();
        assert!(lone.notes.iter().any(|note| note.contains("dom0 alone")));
        assert!(lone.notes.iter().any(|note| note.contains("--scope global")));
        assert_eq!(own(lone), [(0, 2)]);
        assert!(refusal(None, 2, &[&[0], &[1]], None).contains("there is no vPMU"));
        assert!(refusal(Some(0), 2, &[&[0], &[1]], None).contains("mode is off"));
        assert!(refusal(Some(4), 2, &[&[0, 1], &[0, 1]], None).contains("2 vCPUs on 2 pCPUs, not pinned"));
        assert!(refusal(Some(4), 2, &[&[0], &[0]], None).contains("not pinned"));
        let few = refusal(Some(1), 2, &[&[0]], None);
        assert!(few.contains("1 vCPUs on 2 pCPUs:"), "{few}");
        assert!(refusal(Some(1), 2, &[&[0]], Some(&[1])).contains("pCPU 1"));
    }
}
