//! Names as perf 6.1 shows them: C++ without parameters and clone suffixes, Rust without hashes, OCaml, Java.
//!
//! Names come from untrusted files: their length, the depth of their nesting and the length of what is printed are bounded;
//! what passes a bound is shown as it is.

use cpp_demangle::{BorrowedSymbol, DemangleOptions, ParseOptions};

/// Longer names are not demangled, in bytes.
const LONGEST: usize = 16 << 10;
/// Longer output is not made, in bytes.
const LONGEST_SHOWN: usize = 64 << 10;
/// Nesting of C++ names. Each level costs stack.
const DEEPEST: u32 = 96;

/// The name that is shown for a symbol's raw name.
pub(crate) fn shown(raw: &[u8]) -> String {
    std::str::from_utf8(raw)
        .ok()
        .filter(|name| name.len() <= LONGEST)
        .and_then(|name| rust(name).or_else(|| cpp(name)).or_else(|| ocaml(name)).or_else(|| java(name)))
        .unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned())
}

fn rust(name: &str) -> Option<String> {
    let name = match name.get(..2)? {
        // What the compiler's back end adds (`.llvm.123`, `.cold`) is not shown.
        "_R" => name.split('.').next()?,
        "_Z" => legacy(name)?,
        _ => return None,
    };
    let mut out = Bounded(String::new());
    std::fmt::Write::write_fmt(&mut out, format_args!("{:#}", rustc_demangle::try_demangle(name).ok()?)).ok()?;
    Some(out.0)
}

/// A name of Rust's older mangling without anything behind it. It ends in a hash, which is told from a word by its digits.
fn legacy(name: &str) -> Option<&str> {
    let at = name.rfind("17h")?;
    let hash = name.get(at + 3..at + 19)?;
    let whole = name.get(..at + 20).filter(|n| n.ends_with('E'))?;
    let mut seen = 0u16;
    for b in hash.bytes() {
        let digit = (b as char).to_digit(16).filter(|_| !b.is_ascii_uppercase())?;
        seen |= 1 << digit;
    }
    (5..=15).contains(&seen.count_ones()).then_some(whole)
}

fn cpp(name: &str) -> Option<String> {
    let name = name.strip_prefix("_Z")?;
    let name = &name[..name.find(['.', '@']).unwrap_or(name.len())];
    // What stands for another function is shown with that one's parameters.
    for (mark, words) in
        [("Th", "non-virtual thunk to "), ("Tv", "virtual thunk to "), ("GTt", "transaction clone for ")]
    {
        if let Some(rest) = name.strip_prefix(mark) {
            let offsets = match mark {
                "Th" => 1,
                "Tv" => 2,
                _ => 0,
            };
            let function = rest.splitn(offsets + 1, '_').nth(offsets)?;
            return Some(format!("{words}{}", itanium(function, true)?));
        }
    }
    let mut shown = itanium(name, false)?;
    for (open, words) in [("{vtable(", "vtable for "), ("{vtt(", "VTT for ")] {
        if let Some(inner) = shown.strip_prefix(open).and_then(|s| s.strip_suffix(")}")) {
            shown = format!("{words}{inner}");
        }
    }
    // A member of a local class: its `const` is shown as little as its parameters.
    if name.starts_with('Z')
        && let Some(bare) = shown.strip_suffix(" const")
    {
        shown.truncate(bare.len());
    }
    let Some(nested) = name.strip_prefix('N') else { return Some(shown) };
    let nested = nested.trim_start_matches(['r', 'V', 'K']);
    if let Some(inner) = nested.strip_prefix(['R', 'O']) {
        let bare = shown.trim_end_matches('&').trim_end().len();
        shown.truncate(bare);
        return Some(abbreviated(shown, inner));
    }
    Some(abbreviated(shown, nested))
}

/// The library's abbreviations stand for their short names, but in front of a constructor or destructor for the long ones.
fn abbreviated(shown: String, nested: &str) -> String {
    let (short, long, constructor) = match nested.get(..2) {
        Some("Ss") => ("string", "basic_string<char, std::char_traits<char>, std::allocator<char> >", "basic_string"),
        Some("Si") => ("istream", "basic_istream<char, std::char_traits<char> >", "basic_istream"),
        Some("So") => ("ostream", "basic_ostream<char, std::char_traits<char> >", "basic_ostream"),
        Some("Sd") => ("iostream", "basic_iostream<char, std::char_traits<char> >", "basic_iostream"),
        _ => return shown,
    };
    let rest = &nested[2..];
    if rest.starts_with(['C', 'D']) && rest[1..].starts_with(|c: char| c.is_ascii_digit() || c == 'I') {
        for tilde in ["", "~"] {
            if let Some(tail) = shown.strip_prefix(&format!("std::{short}::{tilde}{short}")) {
                return format!("std::{long}::{tilde}{constructor}{tail}");
            }
        }
    } else if let Some(tail) = shown.strip_prefix(&format!("std::{long}::")) {
        return format!("std::{short}::{tail}");
    }
    shown
}

/// A name without its `_Z`. What follows the name is left out.
fn itanium(name: &str, parameters: bool) -> Option<String> {
    let whole = format!("_Z{name}");
    let options = ParseOptions::default().recursion_limit(DEEPEST);
    let (symbol, _) = BorrowedSymbol::with_tail_and_options(whole.as_bytes(), &options).ok()?;
    let mut show = DemangleOptions::new().no_return_type().recursion_limit(DEEPEST);
    if !parameters {
        show = show.no_params();
    }
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &show).ok()?;
    // An empty pack of template arguments leaves its comma.
    let shown = out.0.replace(", >", ">").replace("std::nullptr_t", "decltype(nullptr)");
    Some(literals(&function_types(&references(shown))))
}

/// A reference to a member is a reference to all of it: `A&::B` is `A::B&`.
fn references(mut shown: String) -> String {
    /// More of them in one name cost time, and are none.
    const MOST: usize = 64;
    let mut from = 0;
    for _ in 0..MOST {
        let Some(at) = shown.get(from..).and_then(|rest| rest.find("&::")).map(|at| from + at) else { break };
        // What stands behind a member function's parameters is said of the function: `A::f() const &::{lambda()#1}`.
        if shown.get(..at).is_some_and(|before| before.ends_with(' ')) {
            from = at + 2;
            continue;
        }
        let member = &shown[at + 3..];
        let mut depth = 0;
        let end = member.find(|c: char| {
            depth += match c {
                '<' => 1,
                '>' if depth > 0 => -1,
                _ => 0,
            };
            depth == 0 && !(c.is_alphanumeric() || matches!(c, '_' | ':' | '>'))
        });
        let end = at + 3 + end.unwrap_or(member.len());
        shown.remove(at);
        shown.insert(end - 1, '&');
        from = at + 2;
    }
    shown
}

/// A function's type among template arguments, as `R (A)`. A function that something is local to stands without the space.
fn function_types(shown: &str) -> String {
    let mut out = String::with_capacity(shown.len());
    let (mut depth, mut ends) = (0u32, Vec::new());
    // Where each parenthesis that is open ends.
    let mut open = Vec::new();
    for (at, c) in shown.char_indices() {
        match c {
            '(' => open.push(at),
            ')' => ends.extend(open.pop().map(|from| (from, at + 1))),
            _ => {}
        }
    }
    ends.sort_unstable();
    let mut ends = ends.into_iter().peekable();
    for (at, c) in shown.char_indices() {
        let end = ends.next_if(|(from, _)| *from == at).map(|(_, end)| end);
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth > 0 => {
                let is_type = out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '>' | '*' | '&'));
                let is_word =
                    ["operator", "decltype", "sizeof", "alignof", "noexcept"].iter().any(|w| out.ends_with(w));
                let is_followed = |end: usize| {
                    let rest = shown.get(end..).unwrap_or_default();
                    ["::", " const", " volatile", " &", "(", "#"].iter().any(|next| rest.starts_with(next))
                };
                if is_type && !is_word && !end.is_none_or(is_followed) {
                    out.push(' ');
                }
            }
            _ => {}
        }
        out.push(c);
    }
    out
}

/// Numbers among template arguments, as C++ writes them: `(unsigned int)8` is `8u`.
fn literals(shown: &str) -> String {
    const KINDS: [(&str, &str); 6] = [
        ("(unsigned int)", "u"),
        ("(unsigned long)", "ul"),
        ("(unsigned long long)", "ull"),
        ("(int)", ""),
        ("(long)", "l"),
        ("(long long)", "ll"),
    ];
    let mut out = String::with_capacity(shown.len());
    let mut rest = shown;
    while let Some(at) = rest.find('(') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let number = |kind: &str| {
            let tail = rest.strip_prefix(kind)?;
            let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
            (digits > 0).then(|| tail.split_at(digits))
        };
        match KINDS.iter().find_map(|(kind, suffix)| Some((number(kind)?, suffix))) {
            Some(((digits, tail), suffix)) => {
                out.push_str(digits);
                out.push_str(suffix);
                rest = tail;
            }
            None => {
                out.push('(');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

/// OCaml: `camlStdlib__List__map_123` is `Stdlib.List.map_123`; `$xx` is a character in hexadecimal.
fn ocaml(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("caml").filter(|r| r.starts_with(|c: char| c.is_ascii_uppercase()))?.as_bytes();
    let mut out = Vec::new();
    let digit = |b: u8| (b as char).to_digit(16);
    while let [b, tail @ ..] = rest {
        (rest, _) = match (b, tail) {
            (b'_', [b'_', tail @ ..]) => (tail, out.push(b'.')),
            (b'$', [high, low, tail @ ..]) if digit(*high).is_some() && digit(*low).is_some() => {
                (tail, out.push((digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0)) as u8))
            }
            _ => (tail, out.push(*b)),
        };
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// Java as the JVM's agents write it: `Lpackage/Class;method(ILjava/lang/String;)V` is
/// `package.Class.method(int, java.lang.String)`.
fn java(name: &str) -> Option<String> {
    let signature = &name[..=name.rfind(')')?];
    let (class, rest) = signature.strip_prefix('L')?.split_once(';')?;
    let (method, arguments) = rest.split_once('(')?;
    let mut shown = Vec::new();
    let mut rest = arguments.strip_suffix(')')?;
    while let Some(first) = rest.trim_start_matches('[').chars().next() {
        let arrays = rest.len() - rest.trim_start_matches('[').len();
        rest = &rest[arrays + first.len_utf8()..];
        let kind = match first {
            'B' => "byte".into(),
            'C' => "char".into(),
            'D' => "double".into(),
            'F' => "float".into(),
            'I' => "int".into(),
            'J' => "long".into(),
            'S' => "short".into(),
            'Z' => "boolean".into(),
            'L' => {
                let (class, after) = rest.split_once(';')?;
                rest = after;
                class.replace('/', ".")
            }
            _ => return None,
        };
        shown.push(kind + &"[]".repeat(arrays));
    }
    Some(format!("{}.{method}({})", class.replace('/', "."), shown.join(", ")))
}

/// Text that refuses to grow too long.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        if self.0.len() + s.len() > LONGEST_SHOWN {
            return Err(std::fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Names of a file's functions by nm.
    fn names(file: &str) -> Vec<String> {
        let nm = |dynamic: &str| {
            let out = Command::new("nm").args([dynamic, "--defined-only", "-P", file]).output().expect("nm (binutils)");
            String::from_utf8_lossy(&out.stdout).into_owned()
        };
        let text = nm("-P") + &nm("-D");
        let functions =
            text.lines().filter_map(|l| l.split_once(' ')).filter(|(_, kind)| kind.starts_with(['T', 't', 'W', 'w']));
        let names: std::collections::BTreeSet<String> =
            functions.map(|(name, _)| name.split('@').next().unwrap().to_owned()).collect();
        names.into_iter().collect()
    }

    /// What the demangler that perf is linked with makes of them: without parameters, without hashes.
    fn witness(names: &[String]) -> Vec<String> {
        let mut child = Command::new("c++filt")
            .args(["-p", "-i"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("c++filt (binutils)");
        let mut stdin = child.stdin.take().unwrap();
        let text = names.join("\n") + "\n";
        let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect()
    }

    /// At most one name in `one_in` is spelled otherwise.
    fn compare(file: &str, at_least: usize, one_in: usize) {
        let names = names(file);
        let witness = witness(&names);
        assert_eq!(names.len(), witness.len());
        assert!(names.len() >= at_least, "{file}: {} names", names.len());
        let other: Vec<_> = names
            .iter()
            .zip(&witness)
            .map(|(name, witness)| (name, super::shown(name.as_bytes()), witness))
            .filter(|(_, ours, witness)| ours != *witness)
            .collect();
        assert!(other.len() * one_in <= names.len(), "{file}: {} of {} differ: {other:#?}", other.len(), names.len());
    }

    fn said_by(command: &str, argument: &str) -> String {
        let out = Command::new(command).arg(argument).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn cpp_names_of_the_standard_library() {
        compare(&said_by("g++", "-print-file-name=libstdc++.so.6"), 4000, 500);
    }

    #[test]
    fn rust_names_of_the_compiler() {
        let libraries = format!("{}/lib", said_by("rustc", "--print=sysroot"));
        let driver = std::fs::read_dir(&libraries)
            .unwrap()
            .map(|e| e.unwrap().path())
            .find(|p| p.file_name().unwrap().to_string_lossy().starts_with("librustc_driver-"));
        compare(driver.expect("librustc_driver").to_str().unwrap(), 100_000, 2_000);
    }

    #[test]
    fn one_of_each_kind() {
        for (raw, shown) in [
            ("main", "main"),
            ("_ZN4shop3sumERKi.isra.0.cold", "shop::sum"),
            ("_ZNKR4shop3sumEv", "shop::sum"),
            ("_ZThn16_N4shop3sumEi", "non-virtual thunk to shop::sum(int)"),
            ("_ZNSsC1Ev", "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::basic_string"),
            ("_ZTV4shop", "vtable for shop"),
            (
                "_ZN4llvm12is_containedIRNS_11SmallVectorIPNS_5ValueELj4EEEDnEEbOT_RKT0_",
                "llvm::is_contained<llvm::SmallVector<llvm::Value*, 4u>&, decltype(nullptr)>",
            ),
            ("_ZN4shop4makeIJRNS_4Cart4ItemERNS1_2IdIiEEEEEvv", "shop::make<shop::Cart::Item&, shop::Cart::Id<int>&>"),
            ("_ZN4shop3runIZNS_4openEiEUliE_EEvT_", "shop::run<shop::open(int)::{lambda(int)#1}>"),
            ("_ZZNK4shop4openEvENKUlvE_clEv", "shop::open() const::{lambda()#1}::operator()"),
            ("_ZZN4shop4openEvENKUlvE_clEv", "shop::open()::{lambda()#1}::operator()"),
            ("_ZZNKR4shop4openEvENUlvE_clEv", "shop::open() const &::{lambda()#1}::operator()"),
            ("_Z3runIZNK4shop4openEvEUliE_EvT_", "run<shop::open() const::{lambda(int)#1}>"),
            (
                "_ZZZNK4shop4openEvENKUlvE_clEvENKUlvE_clEv",
                "shop::open() const::{lambda()#1}::operator()() const::{lambda()#1}::operator()",
            ),
            (
                "_ZNSt17_Function_handlerIFvvEZNK4shop4openEvEUlvE_E9_M_invokeERKSt9_Any_data",
                "std::_Function_handler<void (), shop::open() const::{lambda()#1}>::_M_invoke",
            ),
            ("_ZN4shop4callINS_4FuncIFNS_5ErrorEmEEEEEvv", "shop::call<shop::Func<shop::Error (unsigned long)> >"),
            ("_ZN3std2io5stdio6_print17h0123456789abcde0E", "std::io::stdio::_print"),
            ("_ZN3std2io5stdio6_print17h0123456789abcde0E.llvm.77", "std::io::stdio::_print"),
            ("_ZN4core3ptr14drop$LT$u8$GT$17h0123456789abcde0E", "core::ptr::drop<u8>"),
            ("_RNvNtCs1234_7mycrate3foo3bar", "mycrate::foo::bar"),
            ("_RNvNtCs1234_7mycrate3foo3bar.cold", "mycrate::foo::bar"),
            ("camlStdlib__List__map$3d_12", "Stdlib.List.map=_12"),
            (
                "Ljava/lang/Math;max([I[[Ljava/lang/String;Z)I",
                "java.lang.Math.max(int[], java.lang.String[][], boolean)",
            ),
        ] {
            assert_eq!(super::shown(raw.as_bytes()), shown, "{raw}");
        }
    }

    #[test]
    fn hostile_names_are_bounded() {
        let deep = format!("_Z1f{}i", "P".repeat(100_000));
        let nested = format!("_Z{}", "N1a".repeat(5_000));
        let doubling: String = (0..40).fold("_ZN1aI1bEE".to_owned(), |s, i| format!("{s}S{i}_"));
        let rust = format!("_RNv{}C1a1b", "INtC1a1bE".repeat(3_000));
        for name in
            [deep, nested, doubling, rust, "_ZTh".into(), "_ZTv0_".into(), "_R".into(), "_ZNS".into(), "L;()".into()]
        {
            assert!(super::shown(name.as_bytes()).len() <= 1 << 17);
        }
        assert_eq!(super::shown(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
