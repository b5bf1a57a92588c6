//! Options whose value may be left out: `-zLEVEL` of record, `-g MODE` of report and diff.
//!
//! clap takes the word behind such an option for its value, or never does: neither `-z gzip` nor `-g OLD NEW` would be
//! understood. So the value is attached (`-z=3`, `-g=caller`) before parsing, where it is one, among the command's own options
//! only: the arguments of a command that is measured stay as they are.

use std::ffi::OsString;

use clap::Command;

use crate::commands::report::trees;

/// An option whose value may be left out.
struct Optional {
    commands: &'static [&'static str],
    letter: char,
    /// Whether a word is a value of it.
    is_value: fn(&str) -> bool,
    /// The next argument may be the value.
    apart: bool,
}

const OPTIONAL: [Optional; 2] = [
    Optional {
        commands: &["record"],
        letter: 'z',
        is_value: |word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()),
        apart: false,
    },
    Optional { commands: &["report", "diff"], letter: 'g', is_value: |word| trees(word).is_ok(), apart: true },
];

/// The arguments of the program, with `-z3` as `-z=3` and `-g caller` as `-g=caller`.
pub(crate) fn attach(arguments: Vec<OsString>, cli: &Command) -> Vec<OsString> {
    let mut attached = Vec::with_capacity(arguments.len());
    let mut rest = arguments.into_iter().peekable();
    attached.extend(rest.next());
    let mut command = cli;
    let mut optional = None;
    let option = |command: &Command, is_it: &dyn Fn(&clap::Arg) -> bool| {
        command.get_arguments().chain(cli.get_arguments()).find(|option| is_it(option)).map(takes_next)
    };
    while let Some(argument) = rest.next() {
        let text = argument.to_str().unwrap_or("--").to_owned();
        attached.push(argument);
        let mut takes = false;
        if text == "--" {
            break;
        } else if let Some(long) = text.strip_prefix("--") {
            takes = option(command, &|o| o.get_long() == Some(long)).unwrap_or(false);
        } else if let Some(letters) = text.strip_prefix('-') {
            for (at, letter) in letters.char_indices() {
                let behind = &letters[at + letter.len_utf8()..];
                let wanted = optional.filter(|optional: &&Optional| optional.letter == letter);
                if let Some(Optional { is_value, apart, .. }) = wanted {
                    let is_next = |next: &OsString| behind.is_empty() && *apart && next.to_str().is_some_and(is_value);
                    let next = rest.next_if(is_next).and_then(|next| next.into_string().ok());
                    let value = next.as_deref().unwrap_or(behind);
                    if is_value(value) {
                        attached.pop();
                        attached.push(format!("{}={value}", &text[..text.len() - behind.len()]).into());
                    }
                    if !behind.is_empty() {
                        break;
                    }
                    continue;
                }
                match option(command, &|o| o.get_short() == Some(letter)) {
                    Some(true) => {
                        takes = behind.is_empty();
                        break;
                    }
                    Some(false) => {}
                    None => break,
                }
            }
        } else if let Some(of) = cli.find_subcommand(&text).filter(|_| optional.is_none()) {
            command = of;
            optional = OPTIONAL.iter().find(|optional| optional.commands.contains(&text.as_str()));
            if optional.is_none() {
                break;
            }
        } else if command.get_name() == "record" || optional.is_none() {
            // The measured command, or nothing that is known.
            break;
        }
        if takes {
            attached.extend(rest.next());
        }
    }
    attached.extend(rest);
    attached
}

/// True for an option whose value is the next argument.
fn takes_next(option: &clap::Arg) -> bool {
    option.get_action().takes_values() && !option.is_require_equals_set()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    fn attached(text: &str) -> String {
        let arguments = text.split(' ').map(Into::into).collect();
        let answer = super::attach(arguments, &crate::Cli::command());
        answer.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn same(text: &str) {
        assert_eq!(attached(text), text);
    }

    #[test]
    fn only_records_own_level_is_attached() {
        assert_eq!(attached("xprof record -z3 true"), "xprof record -z=3 true");
        assert_eq!(attached("xprof -q record -vz3 true"), "xprof -q record -vz=3 true");
        assert_eq!(attached("xprof record -z -F 99 -gz12 -- true"), "xprof record -z -F 99 -gz=12 -- true");
        assert_eq!(attached("xprof record --event -z1 -z2"), "xprof record --event -z1 -z=2");
        same("xprof record -o -z3 -e cycles gzip -z9");
        same("xprof record -z 3 -z9");
        same("xprof record -- gzip -z9");
        same("xprof record -F -z3 true");
        same("xprof report -z9");
        same("xprof record -ez3 true");
    }

    #[test]
    fn the_next_word_is_the_mode_of_trees_where_it_is_one() {
        assert_eq!(attached("xprof report -g caller -i f"), "xprof report -g=caller -i f");
        assert_eq!(attached("xprof report -gcallee,2"), "xprof report -g=callee,2");
        assert_eq!(attached("xprof report -qg graph,0.5,caller"), "xprof report -qg=graph,0.5,caller");
        assert_eq!(attached("xprof diff old new -g none"), "xprof diff old new -g=none");
        assert_eq!(attached("xprof diff -g callee old new"), "xprof diff -g=callee old new");
        same("xprof diff -g old new");
        same("xprof diff old -g new");
        same("xprof diff -g");
        same("xprof diff -e -g caller new");
        same("xprof diff -- -g caller");
        same("xprof report -g calle");
        same("xprof record -g caller");
        same("xprof stat -g caller");
    }
}
