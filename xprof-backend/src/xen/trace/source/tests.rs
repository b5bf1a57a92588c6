use tempfile::TempDir;
use xprof_perfdata::domain::Domain;
use xprof_perfdata::sample::Sample;

use super::*;
use crate::sys::clock::MONOTONIC;
use crate::sys::xen::tests::Fake;
use crate::xen::guest_form::Options;
use crate::xen::msr::journal;

const ALL: u32 = 0x0fff_f000;

/// A host with a domain of one vCPU.
fn host() -> (Fake, TempDir) {
    let fake = Fake::new(17, 0x15, 0x15);
    fake.told.lock().unwrap().domains = vec![(0, 0, 0, 0), (3, 0, 3, 0)];
    (fake, tempfile::tempdir().unwrap())
}

fn begin(fake: &Fake, dir: &TempDir) -> crate::Result<Trace> {
    Trace::of(fake.open(), dir.path(), MONOTONIC)
}

/// (event mask, whether the trace is written)
fn state(fake: &Fake) -> (u32, bool) {
    let told = fake.told.lock().unwrap();
    (told.trace.mask, told.trace.enabled)
}

fn anchor(trace: &mut Trace, form: &GuestForm, out: &mut Vec<u8>) -> Anchored {
    // A machine that stands still in the middle of a burst makes another one necessary.
    (0..100).map(|_| trace.anchor(form, out)).find(|done| done.until.is_some()).unwrap()
}

#[test]
fn states_come_out_on_the_sessions_clock_and_the_host_is_as_before() {
    let (fake, dir) = host();
    let mut trace = begin(&fake, &dir).unwrap();
    assert_eq!(state(&fake), (MASK, true));
    let options = Options { frequency: 97, call_graph: false, clockid: MONOTONIC, waiting: false };
    let domain = Domain { id: 3, vcpus: 1, ..Domain::default() };
    let mut form = GuestForm::new(&options, &[]).with_states();
    form.domain(&domain, 0, &mut Vec::new()).unwrap();
    let mut out = Vec::new();
    let first = anchor(&mut trace, &form, &mut out).until.unwrap();
    assert!(out.is_empty());
    let tsc = |time: u64| time + 7_000_000_000;
    {
        let mut told = fake.told.lock().unwrap();
        for (after, number) in [(1_000, 0x2_1211), (1_500, 0x2_1101), (4_000, 0x2_1021)] {
            told.trace.tsc = tsc(first) + after;
            told.trace.write(1, number, &[3 << 16]);
        }
    }
    let last = anchor(&mut trace, &form, &mut out).until.unwrap();
    let events = form.events();
    let event = &events.list()[1];
    let size = usize::from(u16::from_ne_bytes([out[6], out[7]]));
    let all: Vec<_> = out
        .chunks(size)
        .map(|bytes| {
            let mut sample = Sample::default();
            event.format.decode_sample(&bytes[8..], &mut sample).unwrap();
            (RunState::of_address(sample.addr).unwrap().0, sample.id.time - first, sample.period)
        })
        .collect();
    let (states, ends): (Vec<_>, Vec<_>) = all.iter().map(|(state, end, _)| (*state, *end)).unzip();
    use RunState::{Blocked, Runnable, Running};
    assert_eq!(states, [Blocked, Runnable, Running, Blocked]);
    assert_eq!(
        (ends[3], all.iter().map(|(.., period)| period).sum()),
        (last - first, last - first),
        "time has no holes"
    );
    // Both anchors are right by half of what their calls took.
    let off = 2 * trace.clock.error + 100;
    assert!(ends[0].abs_diff(1_100) <= off && all[2].2.abs_diff(2_500) <= off, "{all:?}, {off}");
    let (notes, facts) = trace.finish(&form, &mut out);
    assert_eq!(notes, Vec::<String>::new());
    assert!(facts.contains(&("trace_lost".to_owned(), "0".to_owned())));
    assert_eq!(state(&fake), (ALL, false));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "no journal is left");
}

#[test]
fn whoever_else_has_the_trace_keeps_it() {
    let (fake, dir) = host();
    fake.told.lock().unwrap().trace.bound = true;
    let error = begin(&fake, &dir).unwrap_err();
    assert!(matches!(error, crate::Error::Xen(XenError::TraceBusy(_))), "{error}");
    // It is written, and nobody reads it: of scheduling, of something else, until it is full.
    for (mask, full) in [(ALL, false), (0x8_1000, false), (ALL, true)] {
        let (fake, dir) = host();
        {
            let mut told = fake.told.lock().unwrap();
            told.trace.make();
            (told.trace.mask, told.trace.enabled) = (mask, true);
            (0..if full { 2000 } else { 0 }).for_each(|_| told.trace.write(0, 0x2_8005, &[0, 0]));
        }
        let error = begin(&fake, &dir).unwrap_err();
        assert!(matches!(error, crate::Error::Xen(XenError::TraceBusy(_))), "{error}");
        assert_eq!(state(&fake), (mask, true));
    }
    // What xentrace leaves behind is nobody's.
    let (fake, dir) = host();
    {
        let mut told = fake.told.lock().unwrap();
        told.trace.make();
        told.trace.enabled = true;
        told.trace.write(0, 0x2_8005, &[0, 0]);
        (told.trace.mask, told.trace.enabled) = (0x2_1000, false);
    }
    let trace = begin(&fake, &dir).unwrap();
    assert_eq!(state(&fake), (MASK, true));
    // Somebody changes the mask meanwhile: it stays, and the trace too.
    fake.told.lock().unwrap().trace.mask = 0x4_f000;
    drop(trace);
    assert_eq!(state(&fake), (0x4_f000, true));
}

#[test]
fn what_a_killed_program_has_left_is_put_back() {
    let (fake, dir) = host();
    let trace = begin(&fake, &dir).unwrap();
    let journal_of = || std::fs::read_to_string(dir.path().join("trace")).unwrap();
    assert_eq!(journal_of(), "trace-mask ffff000 a9000\ntrace 0 1\n");
    assert!(journal::left(dir.path()).unwrap().is_empty(), "it is held");
    let text = journal_of();
    drop(trace);
    // As a kill -9 leaves it.
    std::fs::write(dir.path().join("trace"), text).unwrap();
    {
        let mut told = fake.told.lock().unwrap();
        (told.trace.mask, told.trace.enabled) = (MASK, true);
        (0..2000).for_each(|_| told.trace.write(0, 0x2_8005, &[0, 0]));
    }
    assert!(begin(&fake, &dir).is_err());
    let left = journal::left(dir.path()).unwrap();
    assert_eq!(left[0].changes.len(), 2);
    let done = left.into_iter().next().unwrap().restore(&mut fake.open()).unwrap();
    assert!(done.iter().all(|(_, outcome)| matches!(outcome, Outcome::Restored)), "{done:?}");
    assert_eq!(state(&fake), (ALL, false));
    // And the next one finds room.
    drop(begin(&fake, &dir).unwrap());
    assert_eq!(state(&fake), (ALL, false));
}
