//! Samples of domains in a file, as perf 6.1 shows them: `golden/guest_form.script` is what
//! `perf script --ns -F +pid,+machine_pid,+vcpu,+addr` printed, read and found right.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use xprof_backend::xen::guest_form::{
    Callers, Domain, DomainKind, DomainSample, GuestForm, Kind, Mode, Options, Registers, State,
};
use xprof_perfdata::domain::Domains;
use xprof_perfdata::feature::Features;
use xprof_perfdata::write::{Output, Writer};

const OPTIONS: Options = Options { frequency: 97, call_graph: true, clockid: 1, waiting: false };
const KERNEL: u64 = 0xffff_ffff_8100_0000;

fn domain(id: u32, name: &str, vcpus: u32) -> Domain {
    Domain { id, name: name.into(), uuid: [id as u8; 16], kind: DomainKind::Pv, vcpus, since: 0, until: u64::MAX }
}

fn samples() -> Vec<DomainSample<'static>> {
    let user = Callers { user: &[0x401_234, 0x401_300], ..Callers::default() };
    let both = Callers { kernel: &[KERNEL + 0x100], user: &[0x401_500], torn: true };
    let sample = DomainSample { time: 1_000_000_000, domain: 1, vcpu: 0, pcpu: 1, ip: 0x401_100, ..Default::default() };
    vec![
        DomainSample {
            period: 10_309_278,
            registers: Some(Registers { rbp: 0x7ffc_0010, rsp: 0x7ffc_0000, cr3: 0x1_2345_6000, wide: true }),
            callers: user,
            ..sample
        },
        DomainSample { mode: Mode::Kernel, ip: KERNEL, period: 7, callers: both, state: State::Preempted, ..sample },
        DomainSample { domain: 2, vcpu: 1, time: 1_100_000_000, period: 5, ..sample },
        DomainSample { domain: 2, vcpu: 0, time: 1_200_000_000, period: 999, state: State::Blocked, ..sample },
        DomainSample {
            domain: 0,
            vcpu: 1,
            time: 1_300_000_000,
            mode: Mode::Kernel,
            ip: 0xffff_8000_0000_1000,
            period: 3,
            ..sample
        },
        DomainSample { domain: 0, vcpu: 1, time: 1_350_000_000, period: 4, state: State::Blocked, ..sample },
        DomainSample {
            domain: 2,
            vcpu: 0,
            time: 1_400_000_000,
            mode: Mode::Hypervisor,
            ip: 0xffff_82d0_4020_0000,
            period: 6,
            ..sample
        },
        DomainSample { domain: 9, vcpu: 0, time: 1_600_000_000, period: 11, task: Some((77, 78)), ..sample },
    ]
}

fn write(path: &Path) {
    let domains = [domain(0, "Domain-0", 2), domain(1, "pv1", 1), domain(2, "a-domain-of-a-long-name", 2)];
    let mut form = GuestForm::new(&OPTIONS, &domains);
    let mut bytes = Vec::new();
    form.domains(&domains, 0, &mut bytes).unwrap();
    let late = domain(9, "late", 1);
    for (at, sample) in samples().iter().enumerate() {
        if at == 7 {
            form.domain(&late, 1_500_000_000, &mut bytes).unwrap();
        }
        assert!(form.sample(Kind::Running, sample, &mut bytes));
    }
    let file = File::create(path).unwrap();
    let mut writer = Writer::<File>::begin(Output::File(file), &form.events(), &Features::default()).unwrap();
    writer.records(&bytes).unwrap();
    let list = domains.into_iter().chain([late]).collect();
    let facts = vec![("xen_version".to_owned(), "4.17.5".to_owned())];
    writer.finish(&Features { domains: Some(Domains { facts, list }), ..Features::default() }).unwrap();
}

#[test]
fn perf_shows_every_sample_in_its_guest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perf.data");
    write(&path);
    let script = Command::new("perf")
        .args(["script", "--ns", "-F", "+pid,+machine_pid,+vcpu,+addr", "-i"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let text: Vec<String> =
        String::from_utf8_lossy(&script.stdout).lines().map(|line| line.trim_end().to_owned()).collect();
    assert_eq!(text.join("\n").trim_end(), include_str!("golden/guest_form.script").trim_end());
    // Its registers, in perf's own fields.
    let registers = Command::new("perf").args(["script", "-F", "iregs,phys_addr", "-i"]).arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&registers.stdout);
    let first = text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(first, "ABI:2 BP:0x7ffc0010 SP:0x7ffc0000 123456000");
}
