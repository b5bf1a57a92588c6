//! `xprof flamegraph --chart` shows the samples of a program with known phases in their order.

use std::process::Command;

use xprof_tests::{compile, run, stdout, xprof};

/// Ten times 100 faults in `a`, then 50 in `b`.
const PHASES: &str = r#"
#include <sys/mman.h>
static void touch(unsigned long pages)
{
	volatile char *area = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise((void *)area, pages * 4096, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < pages; i++)
		area[i * 4096] = 1;
	munmap((void *)area, pages * 4096);
}
__attribute__((noinline)) void a(void) { touch(100); }
__attribute__((noinline)) void b(void) { touch(50); }
int main(void)
{
	touch(1);
	for (int i = 0; i < 10; i++) {
		a();
		b();
	}
	return 0;
}
"#;

#[test]
fn a_chart_shows_phases_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("phases.c");
    std::fs::write(&source, PHASES).unwrap();
    let program = compile(dir.path(), &source, &["-fno-optimize-sibling-calls", "-fno-inline"]);
    let recording = dir.path().join("perf.data");
    let mut record = Command::new(xprof());
    record.args(["record", "-q", "-e", "page-faults", "-c", "1", "--call-graph", "fp", "-o"]).arg(&recording);
    assert!(run(record.arg("--").arg(&program)).status.success());

    let frames = |options: &[&str]| {
        let mut command = Command::new(xprof());
        let text =
            stdout(command.args(["flamegraph", "-q", "--format", "json", "-o", "-"]).args(options).arg(&recording));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let frames = document["frames"].as_array().unwrap().clone();
        let phases = frames.into_iter().filter(|f| f["name"] == "a" || f["name"] == "b");
        phases.map(|f| (f["name"].as_str().unwrap().to_owned(), f["samples"].as_u64().unwrap())).collect::<Vec<_>>()
    };
    let phases = [("a".to_owned(), 100), ("b".to_owned(), 50)];
    assert_eq!(frames(&["--chart"]), phases.iter().cycle().take(20).cloned().collect::<Vec<_>>());
    // The usual graph adds them up.
    assert_eq!(frames(&[]), [("a".to_owned(), 1000), ("b".to_owned(), 500)]);
}
