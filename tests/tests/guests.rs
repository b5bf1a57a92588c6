//! Recordings of domains, from the session to the file and back: synthetic ones, with perf as the witness.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_backend::xen::guest_form::{
    Callers, Domain, DomainKind, DomainSample, GuestForm, Kind, Mode, Options, State,
};
use xprof_perfdata::domain::Domains;
use xprof_perfdata::feature::Features;
use xprof_perfdata::write::{Output, Writer};
use xprof_tests::{stdout, xprof};

/// Samples of two domains, one of which is rebooted under another id, and of Domain-0.
fn recording(dir: &Path) -> PathBuf {
    let domain = |id: u32, name: &str, uuid: u8| Domain {
        id,
        name: name.into(),
        uuid: [uuid; 16],
        kind: DomainKind::Pv,
        vcpus: 2,
        since: 0,
        until: u64::MAX,
    };
    let options = Options { frequency: 97, call_graph: true, clockid: 1, waiting: false };
    let domains = [domain(0, "Domain-0", 0), domain(1, "web", 1), domain(2, "db", 2)];
    let mut form = GuestForm::new(&options, &domains);
    let mut bytes = Vec::new();
    form.domains(&domains, 0, &mut bytes).unwrap();
    let rebooted = Domain { since: 3_000, ..domain(3, "web", 1) };
    let mut add =
        |form: &mut GuestForm, sample: DomainSample<'_>| assert!(form.sample(Kind::Running, &sample, &mut bytes));
    let sample = DomainSample { pcpu: 1, ip: 0x40_1000, ..DomainSample::default() };
    for tick in 0..100u64 {
        let callers = Callers { user: &[0x40_2000], ..Callers::default() };
        let sample = DomainSample { time: 1_000 + tick, ..sample };
        add(&mut form, DomainSample { domain: 1, vcpu: (tick % 2) as u32, period: 300, callers, ..sample });
        let state = if tick < 90 { State::Running } else { State::Blocked };
        let mode = if tick < 40 { Mode::Kernel } else { Mode::User };
        let ip = if tick < 40 { 0xffff_ffff_8100_0010 } else { 0x40_1000 };
        add(&mut form, DomainSample { domain: 2, ip, mode, state, period: 100, ..sample });
    }
    add(&mut form, DomainSample { time: 1_200, domain: 0, vcpu: 1, state: State::Preempted, period: 10_000, ..sample });
    form.domain(&rebooted, 3_000, &mut bytes).unwrap();
    let mut add =
        |form: &mut GuestForm, sample: DomainSample<'_>| assert!(form.sample(Kind::Running, &sample, &mut bytes));
    add(&mut form, DomainSample { time: 3_001, domain: 3, vcpu: 0, period: 20_000, ..sample });
    let path = dir.join("perf.data");
    let mut writer =
        Writer::<File>::begin(Output::File(File::create(&path).unwrap()), &form.events(), &Features::default())
            .unwrap();
    writer.records(&bytes).unwrap();
    let [zero, web, db] = domains;
    let list = vec![zero, Domain { until: 2_000, ..web }, db, rebooted];
    let facts = vec![("xen_version".to_owned(), "4.17.5".to_owned())];
    writer.finish(&Features { domains: Some(Domains { facts, list }), ..Features::default() }).unwrap();
    path
}

fn script(path: &Path) -> String {
    stdout(Command::new("perf").args(["script", "--ns", "-F", "+machine_pid,+vcpu,+addr", "-i"]).arg(path))
}

#[test]
fn what_is_recorded_of_domains_is_written_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let wanted = script(&path);
    assert_eq!(wanted.matches("VM:").count(), 201, "{wanted}");
    let replay = format!("replay:{}", path.display());
    for compression in [&[][..], &["-z"]] {
        let copy = dir.path().join("copy.data");
        stdout(Command::new(xprof()).args(["record", "--backend", &replay, "-o"]).arg(&copy).args(compression));
        assert_eq!(script(&copy), wanted, "{compression:?}");
    }
}
