//! What was running before the recording began: the kernel and its modules, and the processes of the target.
//!
//! Processes are read in a thread of their own while rings are drained already. Their records carry time 0, so they
//! sort before everything else wherever they stand, as long as no round is marked before the last of them.

use crossbeam_channel::{Receiver, bounded};
use xprof_backend::Description;
use xprof_backend::machine::Machine;
use xprof_backend::plan::Target;
use xprof_backend::proc::{self, Synthesis};
use xprof_perfdata::abi::{attr_flag, misc};
use xprof_perfdata::sample::{SampleFormat, SampleId};

/// Buffers under way.
const UNDER_WAY: usize = 4;

/// Records of the kernel's own maps. `notes` is told when addresses are hidden.
pub(crate) fn kernel(machine: &Machine, session: &Description, notes: &mut Vec<String>) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(format) = side_band(session) else { return out };
    let mut records = Vec::new();
    match proc::kernel(machine) {
        Ok(kernel) => records.push(kernel.record()),
        Err(error) => notes.push(format!("kernel samples will have no names: {error}")),
    }
    records.extend(proc::modules(machine).iter().map(proc::Module::record));
    for record in records {
        if let Ok(bytes) = record.encode(&SampleId::default(), misc::KERNEL, &format) {
            out.extend(bytes);
        }
    }
    out
}

/// Records of the running processes of the target, in pieces; the channel closes after the last. A command that was
/// just forked has nothing to tell: its exec does.
pub(crate) fn processes(target: &Target, session: &Description) -> anyhow::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = bounded(UNDER_WAY);
    let Some(format) = side_band(session) else { return Ok(receiver) };
    let data = session.events.list().iter().any(|event| event.attr.has(attr_flag::MMAP_DATA));
    let pids = match target {
        // Of domains their own records tell.
        Target::Command(_) | Target::Domains(_) => return Ok(receiver),
        Target::Processes(pids) => Some(pids.clone()),
        Target::Threads(tids) => Some(tids.iter().map(|&tid| process_of(tid)).collect()),
        Target::System | Target::Cgroups(_) => None,
    };
    std::thread::Builder::new().name("synthesis".into()).spawn(move || {
        let machine = Machine::here();
        let mut synthesis = Synthesis::new(&machine, &format, data);
        let pids = pids.unwrap_or_else(|| every_process(&machine));
        for pids in pids.chunks(64) {
            let mut out = Vec::new();
            for &pid in pids {
                synthesis.process(pid, &mut out);
            }
            if sender.send(out).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// The format of records that are not samples: that of the last event, the dummy's where there is one.
fn side_band(session: &Description) -> Option<SampleFormat> {
    session.events.list().last().map(|event| event.format.clone())
}

fn every_process(machine: &Machine) -> Vec<u32> {
    let names = std::fs::read_dir(&machine.proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The process of a thread; the thread itself when it is gone.
fn process_of(tid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    group.unwrap_or(tid)
}
