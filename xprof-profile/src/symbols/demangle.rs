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
    if !name.starts_with("_R") && !(name.starts_with("_ZN") && name.contains("17h")) {
        return None;
    }
    let name = match name.starts_with("_R") {
        // What the compiler's back end adds (`.llvm.123`, `.cold`) is not shown.
        true => name.split('.').next()?,
        false => legacy(name)?,
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
    if !name.starts_with("_Z") {
        return None;
    }
    let end = name.find(['.', '@']).unwrap_or(name.len());
    let options = ParseOptions::default().recursion_limit(DEEPEST);
    let (symbol, _) = BorrowedSymbol::with_tail_and_options(name[..end].as_bytes(), &options).ok()?;
    let show = DemangleOptions::new().no_params().no_return_type().hide_expression_literal_types();
    let mut out = Bounded(String::new());
    symbol.structured_demangle(&mut out, &show.recursion_limit(DEEPEST)).ok()?;
    Some(out.0)
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
