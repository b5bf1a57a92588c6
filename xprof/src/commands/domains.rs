//! `xprof domains`: the domains of this Xen host, and how they spend their time.
//!
//! The share of running is a vCPU's cpu_time over the time that was looked at, exactly; what is left is divided between
//! runnable and blocked by a look every few milliseconds. Looks alone would count what dom0 can see, and a domain that
//! shares dom0's pCPU is never seen running from there.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use xprof_backend::sys::xen::abi::domain_flag;
use xprof_backend::sys::xen::{DomainInfo, VcpuInfo};
use xprof_backend::xen::host::{DomainStatus, Host};
use xprof_backend::xen::msr::vpmu::Mode;
use xprof_ui::plain::csv_field;

use crate::Global;
use crate::commands::report::OutputFormat;
use crate::record::values;
use crate::terminal::Output;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Options of `xprof domains`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Look for this many seconds at how the vCPUs spend their time
    #[arg(short, long, value_name = "SECS", value_parser = values::seconds, default_value = "0.3")]
    duration: Duration,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Percent of the time of a domain's online vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Shares {
    running: f64,
    runnable: f64,
    blocked: f64,
}

/// What was seen of a domain.
#[derive(Debug, Default)]
struct Seen {
    first: FxHashMap<u32, u64>,
    last: FxHashMap<u32, u64>,
    blocked: u32,
    runnable: u32,
}

impl Seen {
    fn look(&mut self, vcpu: u32, info: &VcpuInfo) {
        if !info.online {
            return;
        }
        self.first.entry(vcpu).or_insert(info.cpu_time);
        self.last.insert(vcpu, info.cpu_time);
        self.blocked += u32::from(info.blocked);
        self.runnable += u32::from(!info.blocked && !info.running);
    }

    fn shares(&self, elapsed: Duration, paused: bool) -> Shares {
        let whole = elapsed.as_nanos() as f64 * self.last.len() as f64;
        if whole <= 0.0 {
            return Shares::default();
        }
        let ran: u64 = self.last.iter().map(|(vcpu, last)| last.saturating_sub(self.first[vcpu])).sum();
        let running = (ran as f64 / whole).min(1.0);
        let idle = 1.0 - running;
        let looks = f64::from(self.blocked + self.runnable);
        // A paused domain does not wait for a pCPU.
        let blocked = if looks == 0.0 || paused { idle } else { idle * f64::from(self.blocked) / looks };
        let percent = |share: f64| (share * 1000.0).round() / 10.0;
        Shares { running: percent(running), runnable: percent(idle - blocked), blocked: percent(blocked) }
    }
}

/// Runs `xprof domains`.
pub(crate) fn run(options: Options, _: &Global) -> anyhow::Result<ExitCode> {
    let mut host = Host::open().map_err(xprof_backend::Error::from)?;
    let list = host.domains().map_err(xprof_backend::Error::from)?;
    let seen = watch(&mut host, &list, options.duration)?;
    // What they had used at the end is what the shares were taken from.
    let rows: Vec<(DomainStatus, Shares)> = list
        .into_iter()
        .zip(&seen.0)
        .map(|(domain, seen_of)| {
            let shares = seen_of.shares(seen.1, domain.info.is(domain_flag::PAUSED));
            (domain, shares)
        })
        .collect();
    let about = About::read(&mut host);
    let text = match options.format {
        OutputFormat::Text => text(&rows, &about),
        OutputFormat::Json => json(&rows, &about),
        OutputFormat::Csv => csv(&rows),
    };
    Output::new().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn watch(host: &mut Host, list: &[DomainStatus], duration: Duration) -> anyhow::Result<(Vec<Seen>, Duration)> {
    let asked: Vec<(u16, u32)> =
        list.iter().flat_map(|domain| domain.vcpus.iter().map(|(vcpu, _)| (domain.info.id, *vcpu))).collect();
    let place: Vec<usize> =
        list.iter().enumerate().flat_map(|(index, domain)| domain.vcpus.iter().map(move |_| index)).collect();
    let mut seen: Vec<Seen> = list.iter().map(|_| Seen::default()).collect();
    let mut answers = Vec::new();
    let started = Instant::now();
    let mut elapsed = Duration::ZERO;
    loop {
        host.xen.vcpus(&asked, &mut answers).map_err(xprof_backend::Error::from).context("cannot watch the vCPUs")?;
        // Between the two outermost looks: the first one ended at `started`, more or less.
        if elapsed > Duration::ZERO {
            elapsed = started.elapsed();
        }
        for ((answer, (_, vcpu)), place) in answers.iter().zip(&asked).zip(&place) {
            if let Some(info) = answer {
                seen[*place].look(*vcpu, info);
            }
        }
        if elapsed >= duration {
            return Ok((seen, elapsed));
        }
        std::thread::sleep(LOOK.min(duration));
        elapsed = elapsed.max(Duration::from_nanos(1));
    }
}

/// The host.
#[derive(Debug)]
struct About {
    version: String,
    cpus: u32,
    vpmu: &'static str,
}

/// Name of a vPMU mode, as `/sys/hypervisor/pmu/pmu_mode` has it.
pub(crate) fn vpmu_mode(answer: std::io::Result<(u64, u64)>) -> &'static str {
    match answer {
        Ok((mode, _)) => Mode::of(mode).map_or("unknown", Mode::name),
        Err(_) => "unavailable",
    }
}

impl About {
    fn read(host: &mut Host) -> About {
        let (major, minor) = host.xen.version();
        About {
            version: format!("{major}.{minor}{}", host.xen.extra_version().unwrap_or_default()),
            cpus: host.xen.cpus().map_or(0, |(cpus, _)| cpus),
            vpmu: vpmu_mode(host.xen.vpmu()),
        }
    }
}

fn state(info: &DomainInfo) -> &'static str {
    let states = [
        (domain_flag::DYING, "dying"),
        (domain_flag::SHUTDOWN, "shut down"),
        (domain_flag::PAUSED, "paused"),
        (domain_flag::RUNNING, "running"),
        (domain_flag::BLOCKED, "blocked"),
    ];
    states.iter().find(|(flag, _)| info.is(*flag)).map_or("runnable", |(_, name)| name)
}

fn uuid(bytes: &[u8; 16]) -> String {
    xprof_perfdata::domain::Domain { uuid: *bytes, ..Default::default() }.uuid_text()
}

/// Ranges of pCPUs, `0-3,8`; `all`.
fn cpus(list: &[u32], all: u32) -> String {
    if list.len() as u32 >= all {
        return "all".into();
    }
    let mut out = String::new();
    let mut rest = list;
    while let [first, ..] = rest {
        let run = rest.iter().zip(*first..).take_while(|(cpu, want)| *cpu == want).count();
        let comma = if out.is_empty() { "" } else { "," };
        let _ = match run {
            1 => write!(out, "{comma}{first}"),
            n => write!(out, "{comma}{first}-{}", first + n as u32 - 1),
        };
        rest = &rest[run..];
    }
    out
}

/// The vCPUs' affinities: one where they agree, else one for each, separated by `/`.
fn affinity(domain: &DomainStatus, all: u32) -> String {
    let mut each: Vec<String> = domain.affinity.iter().map(|list| cpus(list, all)).collect();
    if each.windows(2).all(|pair| pair[0] == pair[1]) {
        each.truncate(1);
    }
    each.join("/")
}

fn text(rows: &[(DomainStatus, Shares)], about: &About) -> String {
    let width = rows.iter().map(|(domain, _)| domain.name.chars().count()).max().unwrap_or(0).max(4);
    let mut out = format!("# Xen {}, {} pCPUs, vPMU {}\n", about.version, about.cpus, about.vpmu);
    let _ = writeln!(
        out,
        "{:>5} {:width$} {:4} {:>5} {:>6} {:>6} {:>6} {:>12} {:9} {:8} {:>6} {:>4} {:10} {:10} UUID",
        "ID",
        "NAME",
        "KIND",
        "VCPUS",
        "RUN%",
        "WAIT%",
        "IDLE%",
        "CPU-TIME",
        "STATE",
        "SCHED",
        "WEIGHT",
        "CAP",
        "POOL",
        "AFFINITY"
    );
    for (domain, shares) in rows {
        let (weight, cap) =
            domain.weight.map_or(("-".into(), "-".into()), |(weight, cap)| (weight.to_string(), cap.to_string()));
        let _ = writeln!(
            out,
            "{:>5} {:width$} {:4} {:>5} {:>6.1} {:>6.1} {:>6.1} {:>11.1}s {:9} {:8} {weight:>6} {cap:>4} {:10} {:10} {}",
            domain.info.id,
            domain.name,
            domain.kind.name(),
            domain.info.online_vcpus,
            shares.running,
            shares.runnable,
            shares.blocked,
            domain.info.cpu_time as f64 / 1e9,
            state(&domain.info),
            domain.scheduler.unwrap_or("-"),
            domain.pool.as_deref().unwrap_or("-"),
            affinity(domain, about.cpus),
            uuid(&domain.info.uuid)
        );
    }
    out
}

fn json(rows: &[(DomainStatus, Shares)], about: &About) -> String {
    let domains: Vec<Value> = rows
        .iter()
        .map(|(domain, shares)| {
            json!({
                "id": domain.info.id,
                "name": domain.name,
                "uuid": uuid(&domain.info.uuid),
                "kind": domain.kind.name(),
                "vcpus": domain.info.vcpus,
                "online_vcpus": domain.info.online_vcpus,
                "state": state(&domain.info),
                "running": shares.running,
                "runnable": shares.runnable,
                "blocked": shares.blocked,
                "cpu_time": domain.info.cpu_time,
                "scheduler": domain.scheduler,
                "weight": domain.weight.map(|(weight, _)| weight),
                "cap": domain.weight.map(|(_, cap)| cap),
                "pool": domain.pool,
                "affinity": domain.affinity,
                "memory": domain.info.pages * 4096,
            })
        })
        .collect();
    let host = json!({ "xen_version": about.version, "pcpus": about.cpus, "vpmu": about.vpmu });
    format!("{}\n", json!({ "schema": 1, "host": host, "domains": domains }))
}

fn csv(rows: &[(DomainStatus, Shares)]) -> String {
    let mut out = String::from(
        "id,name,uuid,kind,vcpus,online_vcpus,state,running,runnable,blocked,cpu_time,scheduler,weight,cap,pool,affinity,memory\n",
    );
    for (domain, shares) in rows {
        let (weight, cap) =
            domain.weight.map_or_else(Default::default, |(weight, cap)| (weight.to_string(), cap.to_string()));
        let fields = [
            domain.info.id.to_string(),
            csv_field(&domain.name),
            uuid(&domain.info.uuid),
            domain.kind.name().into(),
            domain.info.vcpus.to_string(),
            domain.info.online_vcpus.to_string(),
            state(&domain.info).into(),
            shares.running.to_string(),
            shares.runnable.to_string(),
            shares.blocked.to_string(),
            domain.info.cpu_time.to_string(),
            domain.scheduler.unwrap_or_default().into(),
            weight,
            cap,
            csv_field(domain.pool.as_deref().unwrap_or_default()),
            csv_field(&affinity(domain, u32::MAX)),
            (domain.info.pages * 4096).to_string(),
        ];
        let _ = writeln!(out, "{}", fields.join(","));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_cpu_time_and_the_rest_of_looks() {
        let mut seen = Seen::default();
        let info = |cpu_time, blocked| VcpuInfo { online: true, blocked, running: false, cpu_time, cpu: 0 };
        for look in 0..4u64 {
            seen.look(0, &info(look * 100, look == 0));
        }
        let shares = seen.shares(Duration::from_nanos(1000), false);
        assert_eq!(shares, Shares { running: 30.0, runnable: 52.5, blocked: 17.5 });
        assert_eq!(seen.shares(Duration::from_nanos(1000), true).blocked, 70.0);
        assert_eq!(Seen::default().shares(Duration::ZERO, false), Shares::default());
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(
            [cpus(&[0, 1, 2, 8], 64), cpus(&[3], 64), cpus(&[0, 1], 2), cpus(&[], 4)],
            ["0-2,8", "3", "all", ""]
        );
    }
}
