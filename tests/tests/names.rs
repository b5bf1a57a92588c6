//! Names that are long, and names that mean harm, in everything that prints them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use xprof_tests::{stdout, xprof};

/// Characters of a C++ name.
const LONG: usize = 10_000;

/// A recording of a program that has a function with a C++ name of ten thousand characters, one with a name that means harm, and one that
/// calls itself; its thread is called so, too.
fn recorded(dir: &Path) -> PathBuf {
    let long = format!("_Z{LONG}{}v", "x".repeat(LONG));
    let source = format!(
        r#"#include <sys/mman.h>
        #include <sys/prctl.h>
        static char *next;
        #define HOT __attribute__((noinline, noclone))
        HOT void named(int n) __asm__("{long}");
        HOT void named(int n) {{ for (int i = 0; i < n; i++, next += 4096) *(volatile char *)next = 1; }}
        HOT void harm(int n) {{ for (int i = 0; i < n; i++, next += 4096) *(volatile char *)next = 1; }}
        HOT void again(int n) {{ if (n) again(n - 1); else {{ named(300); harm(200); }} __asm__ volatile(""); }}
        int main(void) {{
            prctl(PR_SET_NAME, "\033[2J</script>");
            next = mmap(0, 4096 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            madvise(next, 4096 * 4096, MADV_NOHUGEPAGE);
            again(100);
            return 0;
        }}"#
    );
    std::fs::write(dir.join("long.c"), source).unwrap();
    let flags = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o", "long", "long.c"];
    stdout(Command::new("gcc").args(flags).current_dir(dir));
    let harm = "harm=\x1b]0;owned\x07</script><img src=x onerror=alert(1)>";
    stdout(Command::new("objcopy").args(["--redefine-sym", harm, "long"]).current_dir(dir));
    let options =
        ["record", "-q", "-e", "page-faults:u", "-c", "1", "--call-graph", "fp", "-o", "long.data", "--", "./long"];
    stdout(Command::new(xprof()).args(options).current_dir(dir));
    dir.join("long.data")
}

/// What acts on a terminal or reads backward.
fn acts(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c)
}

#[test]
fn every_output_has_the_names_and_none_acts() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let file = file.to_str().unwrap();
    let full = "x".repeat(LONG);
    let forms = |command: &str| ["text", "json", "csv"].map(|form| format!("{command} --format {form}"));
    let mut commands: Vec<String> = Vec::new();
    commands.extend(forms("report -i FILE"));
    commands.extend(["caller", "callee", "flat"].iter().flat_map(|mode| forms(&format!("report -i FILE -g {mode},0"))));
    commands.extend(["--asm", "--source", "--both"].iter().flat_map(|view| forms(&format!("annotate -i FILE {view}"))));
    commands.extend(forms("diff FILE FILE"));
    commands.extend(forms("diff FILE FILE --children -g=caller,0"));
    commands.extend(forms("top --backend replay:FILE --batch 1"));
    commands.extend(["script -i FILE".into(), "report -i FILE --html -".into()]);
    let forms = ["folded", "firefox", "speedscope", "callgrind", "chrome"];
    commands.extend(forms.iter().map(|form| format!("export -i FILE --to {form}")));
    let pictures =
        ["", "--inverted", "--chart", "--diff FILE"].iter().flat_map(|how| ["svg", "html"].map(|form| (how, form)));
    commands.extend(pictures.enumerate().map(|(at, (how, form))| format!("flamegraph FILE {how} -o {at}.{form}")));
    commands.push("diff FILE FILE --flame change.svg".into());
    for command in commands {
        let words = command.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("FILE", file));
        let words: Vec<String> = words.collect();
        let mut text = stdout(Command::new(xprof()).args(&words).current_dir(dir.path()));
        if let Some(output) = words.last().filter(|word| word.ends_with(".svg") || word.ends_with(".html")) {
            text = std::fs::read_to_string(dir.path().join(output)).unwrap();
            assert!(text.len() < 2 << 20, "{command}: {} bytes", text.len());
        }
        assert!(!text.contains(acts), "{command}: {:?}", text.chars().find(|&c| acts(c)));
        // A picture's frames have room for less; the name goes on as far as one can read.
        let is_picture = ["flamegraph", "--flame", "--html"].iter().any(|word| words.iter().any(|other| other == word));
        assert!(text.contains(if is_picture { &full[..100] } else { &full }), "{command} cuts the name");
        if words.iter().any(|word| word == "json") {
            for line in text.lines() {
                serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{command}: {error}"));
            }
        }
        // In a page the only end of a script is its own.
        if is_picture {
            assert_eq!(text.matches("</script").count(), text.matches("<script").count(), "{command}");
            assert!(!text.contains("<img"), "{command}");
        }
    }
}

/// Nothing is left by a filter: every output says so, and none fails.
#[test]
fn nothing_to_show() {
    let dir = tempfile::tempdir().unwrap();
    let file = recorded(dir.path());
    let file = file.to_str().unwrap();
    for command in [
        "report -i FILE",
        "report -i FILE -g",
        "report -i FILE --html -",
        "report -i FILE --format json",
        "diff FILE FILE",
        "annotate -i FILE",
        "script -i FILE",
        "flamegraph FILE -o none.svg",
        "flamegraph FILE -o none.html",
        "flamegraph FILE --chart -o none.svg",
        "export -i FILE --to folded",
        "export -i FILE --to speedscope",
    ] {
        let words: Vec<String> = command.split(' ').map(|word| word.replace("FILE", file)).collect();
        let output =
            Command::new(xprof()).args(&words).args(["--comm", "nobody"]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{command}: {said}");
        assert!(
            output.status.success() || output.status.code() == Some(125) && said.starts_with("xprof: "),
            "{command}: {said}"
        );
    }
}
