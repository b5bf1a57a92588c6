//! Recordings that were cut short, killed or overwritten: a partial result or an error, soon, and never a panic.

mod witness;

use std::io::Cursor;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use witness::{FileSource, Recordings, our_dump, perf_dump};
use xprof_perfdata::read::{Input, Note, Recording};

/// Reads a recording to its end: records and notes, unless it cannot even be opened.
fn read(input: Input) -> Option<(usize, Vec<Note>)> {
    let mut recording = Recording::open(input).ok()?;
    let mut records = 0;
    let mut reuse = None;
    while let Some(batch) = recording.next_batch(reuse.take()).ok()? {
        records += batch.iter().count();
        reuse = Some(batch);
    }
    Some((records, recording.notes().to_vec()))
}

fn file(bytes: &[u8]) -> Option<(usize, Vec<Note>)> {
    read(Input::File(Box::new(bytes.to_vec())))
}

fn stream(bytes: &[u8]) -> Option<(usize, Vec<Note>)> {
    read(Input::Stream(Box::new(Cursor::new(bytes.to_vec()))))
}

#[test]
fn every_length_of_a_recording_opens_or_says_why() {
    let recordings = Recordings::new();
    let plain = std::fs::read(recordings.record("plain", "-e page-faults -c 1", "true")).unwrap();
    let packed = std::fs::read(recordings.record("packed", "-z -g -e page-faults -c 1", "true")).unwrap();
    let piped = std::fs::read(recordings.record_stream("piped", "-e page-faults -c 1", "true")).unwrap();
    let all = [file(&plain).unwrap(), file(&packed).unwrap(), file(&piped).unwrap()];
    for (bytes, (records, notes)) in [&plain, &packed, &piped].into_iter().zip(&all) {
        assert_eq!(notes, &[]);
        let mut before = 0;
        for len in 0..bytes.len() {
            // All lengths of the head and of the end; between them those that cut records everywhere.
            if len > 3000 && len + 6000 < bytes.len() && len % 7 != 0 {
                continue;
            }
            let Some((some, notes)) = file(&bytes[..len]) else { continue };
            assert!(some <= *records && some >= before, "{some} records in {len} bytes, {before} in one less");
            before = some;
            let whole = some == *records;
            assert!(whole || !notes.is_empty() || len % 4 == 0, "{len} bytes: {some} of {records} records, no note");
        }
        assert!(before + 1 >= *records, "the last byte holds {} records", records - before);
    }
    for len in (0..piped.len()).step_by(3) {
        assert_eq!(stream(&piped[..len]), file(&piped[..len]), "{len} bytes");
    }
}

#[test]
fn flipped_bits_do_no_harm() {
    let recordings = Recordings::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for bytes in [
        recordings.record("plain", "-e page-faults,cpu-clock -c 1000", "true"),
        recordings.record("packed", "-z -g -e page-faults -c 1", "true"),
        recordings.record_stream("piped", "-e page-faults,raw_syscalls:sys_enter -c 1", "true"),
    ]
    .map(|path| std::fs::read(path).unwrap())
    {
        let start = Instant::now();
        for round in 0..1000 {
            let mut bytes = bytes.clone();
            // The first bytes hold the sizes and offsets that everything hangs on.
            let reach = if round % 2 == 0 { bytes.len() } else { bytes.len().min(1024) };
            for _ in 0..=random(4) {
                bytes[random(reach)] ^= 1 << random(8);
            }
            file(&bytes);
            stream(&bytes);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }
}

#[test]
fn a_killed_recording_opens() {
    let recordings = Recordings::new();
    let path = recordings.path("killed");
    let mut perf = Command::new("perf")
        .args(["record", "-q", "-N", "-e", "page-faults", "-c", "1", "-o"])
        .arg(&path)
        .args([
            "--",
            "sh",
            "-c", // Outlives perf, so it must end by itself.
            "for i in $(seq 300); do ls -R /etc >/dev/null; done",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::metadata(&path).map_or(0, |m| m.len()) < 200_000 {
        std::thread::sleep(Duration::from_millis(50));
    }
    perf.kill().unwrap();
    perf.wait().unwrap();
    let mut recording =
        Recording::open(Input::File(Box::new(FileSource(std::fs::File::open(&path).unwrap())))).unwrap();
    assert_eq!(recording.description().events.list()[0].name, "page-faults");
    let ours = our_dump(&mut recording);
    let end = ours.iter().map(|(_, offset, size, _)| offset + size).max().unwrap();
    assert_eq!(recording.notes(), [Note::Unfinished { until: end }]);
    // perf reads nothing from such a file, unless its header says how long the data are.
    let mut bytes = std::fs::read(&path).unwrap();
    let data = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
    bytes[48..56].copy_from_slice(&(end - data).to_le_bytes());
    bytes[72..104].fill(0);
    bytes.truncate(end as usize);
    std::fs::write(&path, &bytes).unwrap();
    let theirs = perf_dump(&path);
    assert!(theirs.len() > 1000);
    assert_eq!(ours, theirs);
}

#[test]
fn absurd_sizes_are_refused_without_memory() {
    let header = |numbers: [u64; 9]| -> Vec<u8> {
        let head = b"PERFILE2".iter().copied().chain(numbers.iter().flat_map(|number| number.to_le_bytes()));
        head.chain([0xff; 32]).collect()
    };
    let max = u64::MAX;
    for numbers in [
        [104, 144, 104, max, 104, max, 0, 0, 0],
        [104, 144, 104, 1 << 40, 104, 0, 0, 0, 0],
        [104, max, 104, 0, 104, 0, 0, 0, 0],
        [104, 0, 104, 0, 104, 0, 0, 0, 0],
        [104, 144, max, 144, max, max, max, max, max],
        [104, 144, 104, 0, max, max, 0, 0, 0],
        [104, 144, 104, 0, 0, max, 0, 0, 0],
        [max; 9],
    ] {
        let mut bytes = header(numbers);
        bytes.truncate(104);
        bytes.extend([0xff; 4096]);
        file(&bytes);
        stream(&bytes);
    }
}
