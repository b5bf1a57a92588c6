//! `-zLEVEL`: perf's option whose value is optional and attached, which clap cannot say beside `-z CMD`.
//!
//! Rewritten to `-z=LEVEL` before parsing, among record's own options only: a command's arguments stay as they are.

use std::ffi::OsString;

use clap::Command;

/// The arguments of the program, with `-z3` of `record` as `-z=3`.
pub(crate) fn attach_levels(mut arguments: Vec<OsString>, cli: impl FnOnce() -> Command) -> Vec<OsString> {
    let candidate = |a: &OsString| a.to_str().is_some_and(|a| level(a).is_some());
    if !arguments.iter().any(candidate) {
        return arguments;
    }
    let cli = cli();
    let mut command = &cli;
    let mut inside = false;
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        at += 1;
        let Some(text) = argument.to_str() else { break };
        if text == "--" {
            break;
        } else if let Some(long) = text.strip_prefix("--") {
            let takes = command.get_arguments().find(|a| a.get_long() == Some(long)).is_some_and(takes_next);
            at += usize::from(takes);
        } else if let Some(letters) = text.strip_prefix('-').filter(|l| !l.is_empty()) {
            if inside && let Some(split) = level(text) {
                let rewritten = format!("{}={}", &text[..split], &text[split..]);
                arguments[at - 1] = rewritten.into();
                continue;
            }
            for (index, letter) in letters.char_indices() {
                let Some(option) = command.get_arguments().find(|a| a.get_short() == Some(letter)) else { break };
                if option.get_action().takes_values() {
                    let last = index + letter.len_utf8() == letters.len();
                    at += usize::from(last && takes_next(option));
                    break;
                }
            }
        } else if !inside && text == "record" {
            inside = true;
            let Some(record) = cli.find_subcommand("record") else { break };
            command = record;
        } else {
            break;
        }
    }
    arguments
}

/// True for an option whose value is the next argument.
fn takes_next(option: &clap::Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

/// Where the level of `-z3`, `-gz3` begins.
fn level(argument: &str) -> Option<usize> {
    let letters = argument.strip_prefix('-').filter(|l| !l.starts_with('-'))?;
    let (flags, digits) = letters.split_once('z')?;
    let good = flags.chars().all(|c| matches!(c, 'a' | 'g' | 'i' | 'v' | 'q'))
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| argument.len() - digits.len())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    fn rewritten(text: &str) -> String {
        let arguments = text.split(' ').map(Into::into).collect();
        let answer = super::attach_levels(arguments, crate::Cli::command);
        answer.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_records_own_level_is_rewritten() {
        assert_eq!(rewritten("xprof record -z3 true"), "xprof record -z=3 true");
        assert_eq!(rewritten("xprof record -z -F 99 -gz12 -- true"), "xprof record -z -F 99 -gz=12 -- true");
        assert_eq!(rewritten("xprof record -o -z3 -e cycles gzip -z9"), "xprof record -o -z3 -e cycles gzip -z9");
        assert_eq!(rewritten("xprof record --event -z1 -z2"), "xprof record --event -z1 -z=2");
        assert_eq!(rewritten("xprof record -- gzip -z9"), "xprof record -- gzip -z9");
        assert_eq!(rewritten("xprof report -z9"), "xprof report -z9");
    }
}
