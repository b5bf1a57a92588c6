//! Which domain a process of dom0 works for, and which domain a domain works for.
//!
//! Threads of the kernel have it in their names, which recordings hold. Of processes it is known only while they run: a device model
//! says it in its command line, a disk's server is named in xenstore by who started it, and so is the device model in a domain of its
//! own (a stubdomain).

use std::fs;
use std::path::Path;

use xprof_perfdata::domain::{SERVES_FACT, STUB_FACT};

use super::host::Host;
use crate::sys::file::read_small;

/// Processes that are looked at.
const PROCESSES_MAX: usize = 1 << 16;
/// Bytes of a command line that are read.
const LINE_MAX: usize = 64 << 10;
/// Devices of one domain that are looked at.
const DEVICES_MAX: usize = 1024;
/// Back ends of disks in xenstore that tell the process that serves one (`kthread-pid`, as XAPI's scripts write it).
const BACKENDS: [&str; 3] = ["vbd", "vbd3", "tap"];

/// The facts, as far as they can be told now.
pub(super) fn facts(host: &mut Host, proc: &Path, domains: &[u32]) -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> =
        processes(proc).into_iter().map(|(pid, domain)| (format!("{SERVES_FACT}{pid}"), domain.to_string())).collect();
    let Some(store) = &mut host.store else { return list };
    for id in domains {
        if let Some(target) = store.read(&format!("/local/domain/{id}/target")).ok().and_then(|text| number(&text)) {
            list.push((format!("{STUB_FACT}{id}"), target.to_string()));
        }
        if let Some(pid) =
            store.read(&format!("/local/domain/{id}/image/device-model-pid")).ok().and_then(|t| number(&t))
        {
            list.push((format!("{SERVES_FACT}{pid}"), id.to_string()));
        }
        for kind in BACKENDS {
            let devices = format!("/local/domain/0/backend/{kind}/{id}");
            for device in store.list(&devices).unwrap_or_default().into_iter().take(DEVICES_MAX) {
                if let Some(pid) = store.read(&format!("{devices}/{device}/kthread-pid")).ok().and_then(|t| number(&t))
                {
                    list.push((format!("{SERVES_FACT}{pid}"), id.to_string()));
                }
            }
        }
    }
    list
}

fn number(text: &str) -> Option<u32> {
    text.trim().parse().ok()
}

/// Processes whose command line says whose device model they are.
fn processes(proc: &Path) -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir(proc) else { return Vec::new() };
    let pids = entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?));
    pids.take(PROCESSES_MAX)
        .filter_map(|pid| {
            let line = read_small(&proc.join(format!("{pid}/cmdline")), LINE_MAX).ok()?;
            Some((pid, of_command_line(&line)?))
        })
        .collect()
}

/// `-xen-domid N` of QEMU, and `--domid=N` as other back ends (virtiofsd, demu, varstored: `--domain N`) have it.
fn of_command_line(line: &[u8]) -> Option<u32> {
    let mut words = line.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--domid" | "--domain" | "-xen-domid", id)) => return number(id),
            Some(_) => {}
            None if matches!(word, "-xen-domid" | "--domid" | "--domain") => return number(words.next()?),
            None => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines() {
        let line = |words: &[&str]| of_command_line(words.join("\0").as_bytes());
        assert_eq!(line(&["/usr/bin/qemu-system-i386", "-xen-domid", "7", "-name", "web"]), Some(7));
        assert_eq!(line(&["varstored", "--domain", "12"]), Some(12));
        assert_eq!(line(&["x", "--domid=3"]), Some(3));
        for none in [&["qemu", "-xen-domid"][..], &["qemu", "-xen-domid", "x"], &["sh", "-c", "-xen-domid 7"], &[]] {
            assert_eq!(line(none), None, "{none:?}");
        }
    }

    #[test]
    fn processes_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, line) in [("17", "qemu\0-xen-domid\x003"), ("18", "sh"), ("self", "qemu\0-xen-domid\x009")] {
            fs::create_dir(dir.path().join(pid)).unwrap();
            fs::write(dir.path().join(pid).join("cmdline"), line).unwrap();
        }
        assert_eq!(processes(dir.path()), [(17, 3)]);
    }
}
