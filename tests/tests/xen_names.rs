//! Xen's own functions in a report: a synthetic recording of samples in Xen, as hardware events of a dom0 give them, with the list of
//! symbols of a real Xen (`xen/xensyms`). No machine that these tests run on has such events: what is tested is everything behind them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use xprof_perfdata::abi::{attr_flag, context, event_type, hardware, misc, record, sample};
use xprof_perfdata::attr::Attr;
use xprof_perfdata::codec::ByteOrder;
use xprof_perfdata::events::Events;
use xprof_perfdata::feature::Features;
use xprof_perfdata::sample::{Sample, SampleId};
use xprof_perfdata::write::{Output, Writer};
use xprof_tests::{stdout, xprof};

/// Lines of /proc/xen/xensyms of Debian's Xen 4.17 (`xen/README`).
fn xensyms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xen/xensyms")
}

/// Addresses of the list.
fn address(symbol: &str) -> u64 {
    let text = std::fs::read_to_string(xensyms()).unwrap();
    let line = text.lines().find(|line| line.ends_with(&format!(" {symbol}"))).unwrap();
    u64::from_str_radix(&line[..16], 16).unwrap()
}

/// Cycles in Xen, each of 1000: (innermost address, its callers in Xen, how many).
fn recording(dir: &Path, samples: &[(u64, &[u64], u64)]) -> PathBuf {
    let attr = Attr {
        kind: event_type::HARDWARE,
        config: hardware::CPU_CYCLES,
        sample_period: 1000,
        sample_type: sample::IP | sample::TID | sample::TIME | sample::CALLCHAIN,
        flags: attr_flag::SAMPLE_ID_ALL,
        ..Attr::default()
    };
    let mut events = Events::new(ByteOrder::NATIVE);
    events.push(attr, "cycles".into(), vec![1]);
    let format = &events.list()[0].format;
    let mut bytes = Vec::new();
    let mut time = 1_000;
    for &(ip, callers, count) in samples {
        for _ in 0..count {
            time += 10;
            let id = SampleId { pid: 0, tid: 0, time, ..SampleId::default() };
            let callchain = [&[context::HV, ip], callers].concat();
            let mut body = Vec::new();
            format.encode_sample(&mut Sample { ip, id, callchain, ..Sample::default() }, &mut body).unwrap();
            bytes.extend(record::SAMPLE.to_ne_bytes());
            bytes.extend(misc::HYPERVISOR.to_ne_bytes());
            bytes.extend(u16::try_from(body.len() + 8).unwrap().to_ne_bytes());
            bytes.extend(body);
        }
    }
    let path = dir.join("perf.data");
    let output = Output::File(File::create(&path).unwrap());
    let mut writer = Writer::<File>::begin(output, &events, &Features::default()).unwrap();
    writer.records(&bytes).unwrap();
    writer.finish(&Features::default()).unwrap();
    path
}

/// Columns of the report's rows: mode, shared object, symbol, samples, period.
fn rows(path: &Path, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(xprof());
    command.args(["report", "-q", "--no-children", "-s", "mode,dso,symbol", "--format", "csv", "-i"]).arg(path);
    let text = stdout(command.args(arguments));
    text.lines().skip(1).map(|line| line.split(',').take(5).collect::<Vec<_>>().join(",")).collect()
}

#[test]
fn samples_in_xen_have_xens_names() {
    let dir = tempfile::tempdir().unwrap();
    let (exit, next, sched) = (address("svm_vmexit_handler"), address("svm_vmcb_dump"), address("do_sched_op"));
    // A function's first byte and its last, one that was called, and what is before all of Xen.
    let before = 0xffff_82d0_0000_0000;
    let samples: &[(u64, &[u64], u64)] =
        &[(exit, &[], 5), (next - 1, &[], 3), (sched + 4, &[exit + 0x40], 2), (before, &[], 1)];
    let path = recording(dir.path(), samples);
    let list = xensyms().display().to_string();
    let named = [
        "hypervisor,[hypervisor],svm_vmexit_handler,8,8000",
        "hypervisor,[hypervisor],do_sched_op,2,2000",
        "hypervisor,[hypervisor],0xffff82d000000000,1,1000",
    ];
    assert_eq!(rows(&path, &["--xensyms", &list]), named);
    // Callers too.
    let folded =
        stdout(Command::new(xprof()).args(["export", "-q", "--to", "folded", "--xensyms", &list, "-i"]).arg(&path));
    assert!(folded.contains(";svm_vmexit_handler;do_sched_op 2000\n"), "{folded}");
    // Without the list they are addresses, and it is said how to get it.
    let text = stdout(Command::new(xprof()).env("HOME", dir.path()).args(["report", "--stdio", "-i"]).arg(&path));
    assert!(text.contains(&format!("{exit:#018x}")) && !text.contains("svm_vmexit_handler"), "{text}");
    assert!(text.contains("[hypervisor]: its symbols are not here; copy the host's /proc/xen/xensyms"), "{text}");
    // perf has the same addresses, and no names.
    let perfs = stdout(Command::new("perf").args(["script", "-G", "-F", "ip", "-i"]).arg(&path));
    for (ip, _, count) in samples {
        assert_eq!(perfs.lines().filter(|line| line.trim() == format!("{ip:x}")).count() as u64, *count, "{perfs}");
    }
}
