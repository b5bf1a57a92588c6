//! What a sample of a domain costs, in dom0: `xen_cost [TICKS]` with eight busy vCPUs (or whatever there are).
//!
//! Prints the medians of a null hypercall (xen_version through the same descriptor), of a sample without stack, and of one
//! with a stack from a warm cache, taken in turns; and, when there is one vCPU that has a pCPU for itself, what it loses by one look at
//! its registers: the time by which its cpu_time falls behind the clock.

use std::time::{Duration, Instant};

use xprof_backend::sys::xen::abi::domain_flag;
use xprof_backend::xen::frames::FrameCache;
use xprof_backend::xen::guest_form::{Domain, DomainKind, GuestForm, Options};
use xprof_backend::xen::host::Host;
use xprof_backend::xen::tick::{Ticks, Vcpu};

/// Time between two ticks: every vCPU has run since, eight on one pCPU too.
const BETWEEN: Duration = Duration::from_millis(120);
/// Looks at one vCPU, one after the other.
const LOOKS: usize = 2000;

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ticks: usize = std::env::args().nth(1).map_or(Ok(100), |ticks| ticks.parse())?;
    let mut host = Host::open()?;
    let mut cache = FrameCache::default();
    let mut vcpus = Vec::new();
    let mut domains = Vec::new();
    for info in host.xen.domains()?.into_iter().filter(|info| info.id != 0) {
        let pv = !info.is(domain_flag::HVM);
        let limit = if pv { u64::MAX } else { host.xen.maximum_frame(info.id)?.saturating_add(1) };
        cache.begin(info.id, limit);
        let uuid = info.uuid;
        let vcpu = |vcpu| Vcpu {
            domain: info.id,
            uuid,
            vcpu,
            pv,
            wide: true,
            paused: false,
            timed: false,
            ran: None,
            waited: 0,
        };
        vcpus.extend((0..info.vcpus).map(vcpu));
        let kind = if pv { DomainKind::Pv } else { DomainKind::Pvh };
        domains.push(Domain { id: info.id.into(), kind, vcpus: info.vcpus, ..Domain::default() });
    }
    let mut costs = [const { Vec::new() }; 3];
    let mut out = Vec::new();
    let mut plain = Ticks::new(false, false, false, 1);
    let mut stacks = Ticks::new(true, false, false, 1);
    let mut forms = [false, true]
        .map(|call_graph| GuestForm::new(&Options { frequency: 97, call_graph, clockid: 1, waiting: false }, &domains));
    for form in &mut forms {
        form.domains(&domains, 0, &mut out)?;
    }
    let mut most = 0;
    for _ in 0..ticks {
        for (which, ticks) in [&mut plain, &mut stacks].into_iter().enumerate() {
            std::thread::sleep(BETWEEN);
            out.clear();
            let began = Instant::now();
            host.xen.null_call()?;
            costs[0].push(began.elapsed().as_secs_f64() * 1e6);
            let began = Instant::now();
            let done = ticks.tick(&mut host.xen, &mut vcpus, &mut cache, 1, &forms[which], &mut out)?;
            let cost = began.elapsed().as_secs_f64() * 1e6;
            if done.samples == vcpus.len() as u64 {
                costs[which + 1].push(cost / done.samples as f64);
            }
            most = most.max(done.samples);
        }
    }
    let looks = costs.each_ref().map(Vec::len);
    let [null, sample, stack] = costs.each_mut().map(|costs| median(costs));
    println!(
        "null hypercall {null:.1} us; {} vCPUs, {most} samples in a tick at most; {looks:?} measured",
        vcpus.len()
    );
    println!("sample without stack {sample:.1} us, ratio {:.2}", sample / null);
    println!("sample with stack {stack:.1} us, ratio {:.2}", stack / null);

    // One vCPU alone on its pCPU: how far its cpu_time falls behind while it is looked at.
    let [vcpu] = &vcpus[..] else { return Ok(()) };
    let mut behind = |looks: usize| -> Result<(f64, f64), Box<dyn std::error::Error>> {
        let (mut infos, mut contexts, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let began = Instant::now();
        host.xen.vcpus(&[(vcpu.domain, vcpu.vcpu)], &mut infos)?;
        let first = infos[0].ok_or("the vCPU is gone")?.cpu_time;
        for _ in 0..looks {
            host.xen.contexts(&[(vcpu.domain, vcpu.vcpu, true)], &mut contexts, &mut owners)?;
        }
        if looks == 0 {
            std::thread::sleep(Duration::from_millis(300));
        }
        host.xen.vcpus(&[(vcpu.domain, vcpu.vcpu)], &mut infos)?;
        let wall = began.elapsed().as_secs_f64() * 1e6;
        Ok((wall, wall - (infos[0].ok_or("the vCPU is gone")?.cpu_time - first) as f64 / 1e3))
    };
    let mut lost = Vec::new();
    for _ in 0..5 {
        let (wall, idle) = behind(0)?;
        let (busy_wall, behind) = behind(LOOKS)?;
        lost.push((behind - idle / wall * busy_wall) / LOOKS as f64);
    }
    let lost = median(&mut lost);
    println!("a guest loses {lost:.1} us by a look, {:.2} null hypercalls", lost / null);
    Ok(())
}
