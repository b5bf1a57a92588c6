//! Recordings of domains, from the session to the file and back: synthetic ones, with perf as the witness.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xprof_backend::xen::guest_form::{
    Callers, Domain, DomainKind, DomainSample, GuestForm, Kind, Mode, Options, Registers, State,
};
use xprof_perfdata::domain::Domains;
use xprof_perfdata::feature::Features;
use xprof_perfdata::write::{Output, Writer};
use xprof_tests::{run, stdout, xprof};

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
    let registers = Some(Registers { rbp: 0x7ff0_0020, rsp: 0x7ff0_0000, cr3: 0x1_2345_6000, wide: true });
    let sample = DomainSample { pcpu: 1, ip: 0x40_1000, registers, ..DomainSample::default() };
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
    let arch = Some("x86_64".to_owned());
    writer.finish(&Features { arch, domains: Some(Domains { facts, list }), ..Features::default() }).unwrap();
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

/// The report as JSON.
fn report(path: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(xprof());
    command.args(["report", "--format", "json", "--no-children", "-i"]).arg(path).args(arguments);
    serde_json::from_str(&stdout(&mut command)).unwrap()
}

/// Its rows: the values of some keys, samples and period.
fn rows(report: &Value, keys: &[&str]) -> Vec<(Vec<String>, u64, u64)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let row = |row: &Value| {
        let values = keys.iter().map(|key| text(&row[*key])).collect();
        (values, row["samples"].as_u64().unwrap(), row["period"].as_u64().unwrap())
    };
    report["events"][0]["rows"].as_array().unwrap().iter().map(row).collect()
}

fn row(values: &[&str], samples: u64, period: u64) -> (Vec<String>, u64, u64) {
    (values.iter().map(|&v| v.to_owned()).collect(), samples, period)
}

#[test]
fn script_is_perfs_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    for fields in ["+machine_pid,+vcpu,+addr", "+vcpu", "machine_pid,comm,ip,sym,dso", "+machine_pid,+iregs,+phys_addr"]
    {
        let arguments = ["script", "--ns", "-F", fields, "-i"];
        let perfs = stdout(Command::new("perf").args(arguments).arg(&path));
        let ours = stdout(Command::new(xprof()).args(arguments).arg(&path));
        // perf has no name for the kernel of a guest that nobody described.
        let ours = ours.replace("[guest.kernel.kallsyms.2]", "[unknown]");
        assert!(perfs.len() > 5_000);
        assert_eq!(ours, perfs, "{fields}");
    }
}

/// A sample has what the vCPU had, and none of it where nobody looked.
#[test]
fn script_has_the_registers_and_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let json = stdout(Command::new(xprof()).args(["script", "--format", "json", "-i"]).arg(&path));
    let json: Value = serde_json::from_str(&json).unwrap();
    let samples = json["samples"].as_array().unwrap();
    let keys = ["time_ns", "machine_pid", "vcpu", "cpu", "ip", "rsp", "rbp", "cr3", "mode", "period", "state", "torn"];
    let values = |sample: &Value| keys.map(|key| sample[key].to_string().replace('"', "")).join(" ");
    let find = |machine: u64, time: u64| {
        let is = |sample: &&Value| sample["machine_pid"] == machine && sample["time_ns"] == time;
        values(samples.iter().find(is).unwrap())
    };
    let registers = "0x7ff00000 0x7ff00020 0x123456000";
    assert_eq!(find(1, 1_001), format!("1001 1 1 1 0x401000 {registers} guest-user 300 running false"));
    assert_eq!(find(2, 1_001), format!("1001 2 0 1 0xffffffff81000010 {registers} guest-kernel 100 running false"));
    let unseen = "1095 2 0 1 0x100000000000000 null null null unknown 100 blocked false";
    assert_eq!(find(2, 1_095), unseen);
    let csv = stdout(Command::new(xprof()).args(["script", "--format", "csv", "-i"]).arg(&path));
    let end = |machine: &str, time: &str| {
        let fields = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        fields.into_iter().find(|f| f[15] == machine && f[5] == time).unwrap()[14..].join(",")
    };
    assert_eq!(end("1", "1001"), "guest-user,1,1,running,0x7ff00000,0x7ff00020,0x123456000");
    assert_eq!(end("2", "1095"), "unknown,2,0,blocked,,,");
    assert_eq!(end("0", "1200"), "user,0,1,preempted,0x7ff00000,0x7ff00020,0x123456000");
}

#[test]
fn shares_are_time_and_a_rebooted_domain_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let got = report(&path, &["-s", "domain"]);
    let expected = [row(&["web"], 101, 50_000), row(&["db"], 100, 10_000), row(&["Domain-0"], 1, 10_000)];
    assert_eq!(rows(&got, &["domain"]), expected);
    let got = report(&path, &["-s", "domain,vcpu"]);
    let expected = [
        row(&["web", "0"], 51, 35_000),
        row(&["web", "1"], 50, 15_000),
        row(&["db", "0"], 100, 10_000),
        row(&["Domain-0", "1"], 1, 10_000),
    ];
    assert_eq!(rows(&got, &["domain", "vcpu"]), expected);
    // The time that was seen.
    let seen = |name: &str| {
        let domain = got["domains"].as_array().unwrap().iter().find(|d| d["domain"] == name).unwrap();
        ["running_ns", "preempted_ns", "unseen_ns"].map(|key| domain[key].as_u64().unwrap())
    };
    assert_eq!([seen("web"), seen("db"), seen("Domain-0")], [[50_000, 0, 0], [9_000, 0, 1_000], [0, 10_000, 0]]);
    let web = &got["domains"][0];
    assert_eq!((web["id"].as_u64(), web["uuid"].as_str()), (Some(3), Some("01010101-0101-0101-0101-010101010101")));
    // The default keys.
    let got = report(&path, &["--domain", "db"]);
    let expected = [
        row(&["db", "db", "[unknown]", "0x0000000000401000"], 50, 5_000),
        row(&["db", "db", "[guest.kernel.kallsyms.2]", "0xffffffff81000010"], 40, 4_000),
        row(&["db", "db", "[ran between ticks]", "[ran between ticks]"], 10, 1_000),
    ];
    assert_eq!(rows(&got, &["domain", "comm", "dso", "symbol"]), expected);
    let modes = rows(&report(&path, &["--domain", "2", "-s", "mode"]), &["mode"]);
    let expected = [row(&["guest-user"], 50, 5_000), row(&["guest-kernel"], 40, 4_000), row(&["unknown"], 10, 1_000)];
    assert_eq!(modes, expected);
    for (domain, samples) in
        [("1", 100), ("3", 1), ("web", 101), ("0", 1), ("02020202-0202-0202-0202-020202020202", 100)]
    {
        let got = report(&path, &["--domain", domain]);
        assert_eq!(got["events"][0]["samples"].as_u64(), Some(samples), "{domain}");
    }
    let text = stdout(Command::new(xprof()).args(["report", "--stdio", "-i"]).arg(&path));
    let line = "# Domain db: 0.000 s of vCPU time: 90.0% seen running, 0.0% preempted, 10.0% unseen";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("[-] [ran between ticks]"), "{text}");
    let csv = stdout(
        Command::new(xprof()).args(["report", "--format", "csv", "-s", "domain", "--no-children", "-i"]).arg(&path),
    );
    assert_eq!(csv.lines().nth(1), Some("web,101,50000,71.4286,71.4286"));
}

#[test]
fn names_come_from_what_the_user_gives_for_a_domain() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let kallsyms = dir.path().join("kallsyms");
    std::fs::write(&kallsyms, "ffffffff81000000 T guest_idle\nffffffff81000100 T next\n").unwrap();
    // A program whose function is where the samples are.
    let source = dir.path().join("hot.c");
    std::fs::write(&source, "void hot(void) { for (;;) ; }\nvoid _start(void) { hot(); }\n").unwrap();
    let program = dir.path().join("hot");
    let options = ["-g", "-O0", "-static", "-nostdlib", "-no-pie", "-Wl,-Ttext=0x401000", "-Wl,--build-id=none", "-o"];
    stdout(Command::new("gcc").args(options).arg(&program).arg(&source));
    let of = |domain: &str, file: &Path| format!("{domain}={}", file.display());
    let (for_db, for_web) = (of("db", &kallsyms), of("web", &program));
    let got = report(&path, &["--guest-kallsyms", &for_db, "--guest-exe", &for_web, "-s", "domain,dso,symbol"]);
    let expected = [
        row(&["web", "hot", "hot"], 101, 50_000),
        row(&["Domain-0", "[unknown]", "0x0000000000401000"], 1, 10_000),
        row(&["db", "[unknown]", "0x0000000000401000"], 50, 5_000),
        row(&["db", "[guest.kernel.kallsyms.2]", "guest_idle"], 40, 4_000),
        row(&["db", "[ran between ticks]", "[ran between ticks]"], 10, 1_000),
    ];
    assert_eq!(rows(&got, &["domain", "dso", "symbol"]), expected);
    // Chains too.
    let script =
        stdout(Command::new(xprof()).args(["script", "-F", "ip,sym", "--guest-exe", &for_web, "-i"]).arg(&path));
    assert!(script.contains(" hot\n"), "{script}");
    // Its lines and its code.
    let got = report(&path, &["--guest-exe", &for_web, "-s", "srcline", "--domain", "web"]);
    assert_eq!(rows(&got, &["srcline"]), [row(&["hot.c:1"], 101, 50_000)]);
    let annotate = ["annotate", "-s", "hot", "--format", "csv", "--guest-exe", &for_web, "-i"];
    let annotated = stdout(Command::new(xprof()).args(annotate).arg(&path));
    let first = annotated.lines().nth(1).unwrap();
    assert!(first.contains("401000") && first.contains("push") && first.contains("hot.c"), "{annotated}");
    // The kernel's own file does as well as its list.
    let vmlinux = dir.path().join("vmlinux");
    let options = [
        "-O0",
        "-static",
        "-nostdlib",
        "-mcmodel=kernel",
        "-fno-pic",
        "-no-pie",
        "-Wl,-Ttext=0xffffffff81000010",
        "-o",
    ];
    stdout(Command::new("gcc").args(options).arg(&vmlinux).arg(&source));
    let got = report(&path, &["--guest-vmlinux", &of("2", &vmlinux), "-s", "symbol", "--domain", "db"]);
    assert!(rows(&got, &["symbol"]).contains(&row(&["hot"], 40, 4_000)), "{got}");
    // What is missing is said, with what would help.
    let got = report(&path, &["-s", "symbol", "--domain", "db"]);
    let advice = got["unnamed"][0]["advice"].as_str().unwrap();
    assert!(advice.contains("--guest-kallsyms DOM=FILE"), "{advice}");
    let wrong = of("db", &dir.path().join("nothing"));
    let got = report(&path, &["--guest-kallsyms", &wrong, "-s", "symbol", "--domain", "db"]);
    let advice = got["unnamed"][0]["advice"].as_str().unwrap();
    assert!(advice.contains("the file of --guest-kallsyms cannot be used"), "{advice}");
}

#[test]
fn an_archive_with_kallsyms_names_guest_kernels_in_perf_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let kallsyms = dir.path().join("kallsyms");
    let symbols = "ffffffff81000000 T _text\nffffffff81000000 T _stext\nffffffff81000008 T guest_idle\nffffffff81000100 T next\nffffffff82000000 T _etext\n";
    std::fs::write(&kallsyms, symbols).unwrap();
    let archive = dir.path().join("a.tar.gz");
    let given = format!("db={}", kallsyms.display());
    let mut command = Command::new(xprof());
    stdout(command.args(["archive", "--guest-kallsyms", &given, "-o"]).arg(&archive).arg("-i").arg(&path));
    let unpacked = dir.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    stdout(Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&unpacked));
    let folder = unpacked.join("perf.data");
    assert_eq!(std::fs::read_to_string(folder.join("kcore_dir__2/kallsyms")).unwrap(), symbols);
    let perfs =
        stdout(Command::new("perf").args(["script", "--ns", "-F", "+machine_pid,+vcpu,+addr", "-i"]).arg(&folder));
    assert_eq!(perfs.matches("VM:").count(), 201);
    assert_eq!(perfs.matches("guest_idle+0x8 ([guest.kernel.kallsyms.2])").count(), 40, "{perfs}");
    let ours =
        stdout(Command::new(xprof()).args(["script", "--ns", "-F", "+machine_pid,+vcpu,+addr", "-i"]).arg(&folder));
    assert_eq!(ours, perfs);
    let got = report(&folder, &["-s", "symbol", "--domain", "db"]);
    assert!(rows(&got, &["symbol"]).contains(&row(&["guest_idle"], 40, 4_000)), "{got}");
    // What cannot be meant is refused.
    for (given, why) in [("nobody", "there is no domain"), ("db", "neither _text nor _stext")] {
        let file = if given == "db" { Path::new("/etc/hostname") } else { &kallsyms };
        let given = format!("{given}={}", file.display());
        let mut command = Command::new(xprof());
        let output =
            run(command.args(["archive", "--guest-kallsyms", &given, "-o"]).arg(&archive).arg("-i").arg(&path));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{text}");
    }
}

#[test]
fn domains_are_the_outermost_frames_of_a_flame_graph() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let mut command = Command::new(xprof());
    let text = stdout(command.args(["flamegraph", "-q", "--format", "json", "-o", "-"]).arg(&path));
    let document: Value = serde_json::from_str(&text).unwrap();
    let domains = document["frames"].as_array().unwrap().iter().filter(|frame| frame["kind"] == "domain");
    let found: Vec<_> = domains
        .map(|f| (f["name"].as_str().unwrap(), f["depth"].as_u64().unwrap(), f["period"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, [("Domain-0", 1, 10_000), ("db", 1, 10_000), ("web", 1, 50_000)]);
    // The page has a row over time for each of them.
    let page = stdout(Command::new(xprof()).args(["report", "--html", "-", "-i"]).arg(&path));
    for (name, samples) in [("Domain-0", 1), ("db", 100), ("web", 101)] {
        assert!(page.contains(&format!("aria-label=\"{name}: {samples} samples over time\"")), "{name}");
    }
}

#[test]
fn domains_and_their_vcpus_stay_in_exports() {
    let dir = tempfile::tempdir().unwrap();
    let path = recording(dir.path());
    let export = |form: &str| {
        let to = dir.path().join(form);
        stdout(Command::new(xprof()).args(["export", "-q", "--to", form, "-i"]).arg(&path).arg("-o").arg(&to));
        to
    };
    let pprof = export("pprof");
    let tags = stdout(Command::new("go").args(["tool", "pprof", "-tags"]).arg(&pprof).env("HOME", dir.path()));
    let of_domains =
        tags.split_once("domain: Total ").unwrap_or_else(|| panic!("{tags}")).1.split("\n\n").next().unwrap();
    for domain in ["web", "db", "Domain-0"] {
        assert!(
            of_domains.contains(&format!(": {domain}\n")) || of_domains.ends_with(&format!(": {domain}")),
            "{tags}"
        );
    }
    let read = |form| std::fs::read_to_string(export(form)).unwrap();
    let speedscope: Value = serde_json::from_str(&read("speedscope")).unwrap();
    let profile = &speedscope["profiles"][0];
    let frame = |id: &Value| speedscope["shared"]["frames"][id.as_u64().unwrap() as usize]["name"].as_str().unwrap();
    let mut periods = std::collections::BTreeMap::new();
    for (way, weight) in profile["samples"].as_array().unwrap().iter().zip(profile["weights"].as_array().unwrap()) {
        let (domain, vcpu) = (frame(&way[0]), frame(&way[1]));
        assert!(domain == "Domain-0" || vcpu.starts_with("vCPU "), "{domain} {vcpu}");
        *periods.entry(domain).or_insert(0) += weight.as_u64().unwrap();
    }
    assert_eq!(periods.into_iter().collect::<Vec<_>>(), [("Domain-0", 10_000), ("db", 10_000), ("web", 50_000)]);
    let folded = read("folded");
    assert!(folded.lines().any(|line| line.starts_with("web;vCPU_1;web;")), "{folded}");
    let callgrind = stdout(
        Command::new("callgrind_annotate").args(["--inclusive=yes", "--threshold=100"]).arg(export("callgrind")),
    );
    assert!(
        callgrind.lines().any(|line| line.trim_start().starts_with("50,000") && line.contains("[domain]:web [")),
        "{callgrind}"
    );
    for (form, list, name) in [("firefox", "threads", "processName"), ("chrome", "traceEvents", "args")] {
        let document: Value = serde_json::from_str(&read(form)).unwrap();
        let found = document[list].as_array().unwrap().iter().any(|entry| entry[name].to_string().contains("web: "));
        assert!(found, "{form}");
    }
}

/// A recording of these records, which say what they like.
fn written(path: &Path, form: &GuestForm, bytes: &[u8]) {
    let file = File::create(path).unwrap();
    let mut writer = Writer::<File>::begin(Output::File(file), &form.events(), &Features::default()).unwrap();
    writer.records(bytes).unwrap();
    writer.finish(&Features::default()).unwrap();
}

/// The report of a recording with little memory (1 GiB of addresses) and time.
fn bounded_report(path: &Path) -> Value {
    let mut command = Command::new("prlimit");
    command.args(["--as=1073741824", "--cpu=60"]).arg(xprof());
    command.args(["report", "--format", "json", "--no-children", "-s", "domain", "-i"]).arg(path);
    serde_json::from_str(&stdout(&mut command)).unwrap()
}

#[test]
fn ten_thousand_domains_are_ten_thousand_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perf.data");
    let options = Options { frequency: 97, call_graph: false, clockid: 1, waiting: false };
    let domains: Vec<Domain> =
        (1..=10_000).map(|id| Domain { id, name: format!("d{id}"), vcpus: 1, ..Domain::default() }).collect();
    let mut form = GuestForm::new(&options, &domains);
    let mut bytes = Vec::new();
    form.domains(&domains, 0, &mut bytes).unwrap();
    for time in 1..=10u64 {
        for domain in 1..=10_000 {
            let sample = DomainSample { time, domain, ip: 0x40_1000, period: domain.into(), ..DomainSample::default() };
            assert!(form.sample(Kind::Running, &sample, &mut bytes));
        }
    }
    written(&path, &form, &bytes);
    let report = bounded_report(&path);
    let rows = rows(&report, &["domain"]);
    assert_eq!(rows.len(), 10_000);
    assert!(rows.iter().all(|(_, samples, _)| *samples == 10));
    // 10 * (1 + .. + 10,000), the largest first.
    assert_eq!(rows.iter().map(|(.., period)| period).sum::<u64>(), 500_050_000);
    assert_eq!(rows[0].2, 100_000);
}

#[test]
fn an_id_index_that_lies_changes_no_sums() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("perf.data");
    let options = Options { frequency: 97, call_graph: false, clockid: 1, waiting: false };
    let domain = Domain { id: 1, name: "web".into(), vcpus: 2, ..Domain::default() };
    let mut form = GuestForm::new(&options, std::slice::from_ref(&domain));
    let mut honest = Vec::new();
    form.domain(&domain, 0, &mut honest).unwrap();
    let size = usize::from(u16::from_ne_bytes([honest[6], honest[7]]));
    let index = &honest[..size];
    let mut samples = Vec::new();
    for time in 1..=100u64 {
        let vcpu = (time % 2) as u32;
        let sample = DomainSample { time, domain: 1, vcpu, ip: 0x40_1000, period: 10, ..DomainSample::default() };
        assert!(form.sample(Kind::Running, &sample, &mut samples));
    }
    // Words of the record: its head, the number of entries (2), their ids, event, CPU and task, then machines and vCPUs.
    let lie = |at: usize, word: u64| {
        let mut index = index.to_vec();
        index[8 * at..8 * at + 8].copy_from_slice(&word.to_ne_bytes());
        index
    };
    let lies = [
        index.to_vec(),
        lie(1, u64::MAX),
        lie(1, 0),
        lie(1, 1 << 40),
        lie(2, 0),
        lie(3, 1 << 40),
        lie(4, 99),
        lie(10, u64::MAX),
        lie(10, 0),
        lie(11, u64::MAX),
        lie(11, 8191),
        index[..size - 8].to_vec(),
    ];
    for (number, mut lie) in lies.into_iter().enumerate() {
        let size = lie.len() as u16;
        lie[6..8].copy_from_slice(&size.to_ne_bytes());
        let bytes = [&lie, &honest[usize::from(u16::from_ne_bytes([honest[6], honest[7]]))..], &samples].concat();
        written(&path, &form, &bytes);
        let report = bounded_report(&path);
        let sums = rows(&report, &["domain"]).iter().fold((0, 0), |(n, sum), row| (n + row.1, sum + row.2));
        assert_eq!(sums, (100, 1000), "lie {number}: {report}");
    }
}

#[test]
fn exported_to_perf_domains_are_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (recording(dir.path()), dir.path().join("copy.data"));
    stdout(Command::new(xprof()).args(["export", "--to", "perf", "-i"]).arg(&path).arg("-o").arg(&copy));
    let script = stdout(Command::new("perf").args(["script", "-F", "+machine_pid,+vcpu", "-i"]).arg(&copy));
    assert_eq!((script.matches("VM:").count(), script.matches("domain-clock:").count()), (0, 202), "{script}");
    let arguments =
        ["report", "--stdio", "--no-children", "-g", "none", "-t", ",", "-F", "sample,period,comm,dso", "-i"];
    let text = stdout(Command::new("perf").args(arguments).arg(&copy));
    let mut rows: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(',').map(str::trim).collect::<Vec<_>>().join(","))
        .collect();
    rows.sort();
    let expected = [
        "1,10000,Domain-0,[unknown]",
        "10,1000,db,[ran between ticks]",
        "101,50000,web,[unknown]",
        "40,4000,db,[guest.kernel.kallsyms.2]",
        "50,5000,db,[unknown]",
    ];
    assert_eq!(rows, expected, "{text}");
}
