use xprof_profile::annotation::SourceText;
use xprof_profile::code::Code;
use xprof_profile::disassembly::Machine;
use xprof_profile::profile::Function;
use xprof_profile::symbols::{self, Module, ModuleKind, Symbol};

use super::*;

fn heat(samples: u64) -> Heat {
    Heat { samples, period: samples * 10 }
}

fn annotated(code: Result<Code, String>) -> Annotated {
    let module = Module { path: b"/bin/x".to_vec(), kind: ModuleKind::User, build_id: None, pid: None };
    let symbol = Symbol { name: "f\x1b".into(), start: 0x1000, size: 12 };
    let spots = BTreeMap::from([(0x1000, heat(1)), (0x1001, heat(6)), (0x1004, heat(1))]);
    let function = Function { module, dso: "x".into(), symbol, event: 0, heat: heat(8), spots };
    let annotation = Annotation::new(function, code);
    let texts = Texts::new();
    let names = BTreeMap::from([(0x200b, "puts@plt".to_owned())]);
    Annotated { events: vec![("cycles".into(), heat(16))], functions: vec![Named { annotation, names }], texts }
}

fn code() -> Result<Code, String> {
    let bytes = vec![0x55, 0x48, 0x89, 0xe5, 0xeb, 0xfa, 0xe8, 0, 0x10, 0, 0, 0xc3];
    Ok(Code { machine: Machine::X86_64, start: 0x1000, linked: 0x401000, bytes })
}

#[test]
fn text_of_a_function() {
    let mut out = String::new();
    text(&annotated(code()), &Options { unicode: true, notes: vec!["a note".into()], ..Options::default() }, &mut out);
    assert_eq!(
        out,
        "# f\\u{1b} in x
# 8 samples of event 'cycles', 50.00 % of all
#
#  Percent    Samples  Address
     12.50          1    401000  ┌> push   %rbp
     75.00          6    401001  │  mov    %rsp,%rbp
     12.50          1    401004  └─ jmp    0x401000 <f\\u{1b}>
                         401006     call   0x40200b <puts@plt>
                         40100b     ret

# a note
"
    );
}

#[test]
fn without_code_the_addresses_are_listed_and_the_reason_said() {
    let mut out = String::new();
    text(&annotated(Err("x: is not here".into())), &Options::default(), &mut out);
    let lines: Vec<&str> = out.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "     75.00          6      1001",
            "     12.50          1      1000",
            "     12.50          1      1004",
            "# x: is not here",
            ""
        ]
    );
    let mut out = String::new();
    csv(&annotated(Err("x: is not here".into())), View::Both, &mut out);
    assert_eq!(out.lines().nth(1), Some("cycles,f\\u{1b},x,0x1000,,1,10,12.5000,,,"));
}

#[test]
fn json_and_csv_have_every_line() {
    let mut out = String::new();
    json(&annotated(code()), &Options::default(), &mut out);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let function = &document["functions"][0];
    assert_eq!(function["percent"], 50.0);
    assert_eq!(function["lines"][3]["text"], "call   0x40200b <puts@plt>");
    assert_eq!(function["lines"].as_array().unwrap().len(), 5);
    let mut out = String::new();
    csv(&annotated(code()), View::Assembly, &mut out);
    assert_eq!(out.lines().nth(2), Some("cycles,f\\u{1b},x,0x401001,\"mov    %rsp,%rbp\",6,60,75.0000,,,"));
}

fn place(name: &str, file: &str, line: u32) -> symbols::Line {
    symbols::Line { name: Some(name.into()), file: Some(file.into()), line }
}

/// The same function with lines: the second instruction is of a function compiled into line 5.
fn located() -> Annotated {
    let mut annotated = annotated(code());
    let own = |line| place("f", "/src/f.c", line);
    let inlined = vec![place("sq\x1b", "/src/a.h", 2), own(5)];
    let places = [vec![own(3)], inlined, vec![own(5)], vec![own(5)], vec![own(40)]];
    annotated.functions[0].annotation.locate(places);
    let text = SourceText::of("\n\nint f(void)\n{\n\tsq();\x1b\n");
    annotated.texts = Texts::from([("/src/f.c".into(), text)]);
    annotated
}

#[test]
fn source_with_what_was_compiled_into_it() {
    let mut out = String::new();
    text(&located(), &Options { view: View::Source, unicode: true, ..Options::default() }, &mut out);
    assert_eq!(
        out,
        "# f\\u{1b} in x
# 8 samples of event 'cycles', 50.00 % of all
#
#  Percent    Samples   Line
# /src/f.c
     12.50          1       3  int f(void)
                            4  {
     12.50          1       5      sq();\\u{1b}
                               ┌ sq\\u{1b}, inlined from a.h
     75.00          6       2  │
                               ..
                           40

"
    );
}

#[test]
fn source_between_the_instructions() {
    let mut out = String::new();
    text(&located(), &Options { view: View::Both, unicode: true, ..Options::default() }, &mut out);
    let lines: Vec<&str> = out.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "                                    ; f.c:3  int f(void)",
            "     12.50          1    401000  ┌> push   %rbp",
            "                                 │  ; inlined: sq\\u{1b} (f.c:5)",
            "                                 │  ; a.h:2",
            "     75.00          6    401001  │  mov    %rsp,%rbp",
            "                                 │  ; f.c:5      sq();\\u{1b}",
            "     12.50          1    401004  └─ jmp    0x401000 <f\\u{1b}>",
            "                         401006     call   0x40200b <puts@plt>",
            "                                    ; f.c:40",
            "                         40100b     ret",
            "",
        ]
    );
}

#[test]
fn json_and_csv_of_source_lines() {
    let mut out = String::new();
    json(&located(), &Options::default(), &mut out);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    let function = &document["functions"][0];
    let call = serde_json::json!([{"symbol": "sq\u{1b}", "file": "/src/f.c", "line": 5}]);
    assert_eq!((&function["lines"][1]["line"], &function["lines"][1]["inlined"]), (&2.into(), &call));
    assert_eq!((&function["source"][2]["samples"], &function["source"][2]["inlined"]), (&6.into(), &call));
    let samples: u64 = function["source"].as_array().unwrap().iter().map(|l| l["samples"].as_u64().unwrap()).sum();
    assert_eq!(samples, 8);
    let mut out = String::new();
    csv(&located(), View::Source, &mut out);
    assert_eq!(out.lines().nth(3), Some("cycles,f\\u{1b},x,/src/a.h,2,,6,60,75.0000,sq\\u{1b} (f.c:5)"));
    let mut out = String::new();
    csv(&located(), View::Assembly, &mut out);
    let second = "cycles,f\\u{1b},x,0x401001,\"mov    %rsp,%rbp\",6,60,75.0000,/src/a.h,2,sq\\u{1b} (f.c:5)";
    assert_eq!(out.lines().nth(2), Some(second));
}
