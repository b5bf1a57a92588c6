//! What is printed of a sample: perf's fields, their defaults by type of event, and `-F`.
//!
//! The rules are those of `tools/perf/builtin-script.c` of Linux 6.1.

use xprof_perfdata::abi::sample;
use xprof_perfdata::events::{Event, Events};

/// A set of fields, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub u64);

/// One row of the table of fields: name, bit, and the `PERF_SAMPLE_*` bits of which an event must have one.
struct Row(&'static str, Fields, u64);

macro_rules! fields {
    ($($name:ident = $bit:literal, $text:literal, $needs:expr;)*) => {
        impl Fields {
            $(#[doc = concat!("`", $text, "`")] pub const $name: Fields = Fields(1 << $bit);)*
        }
        const TABLE: &[Row] = &[$(Row($text, Fields::$name, $needs)),*];
    };
}

fields! {
    COMM = 0, "comm", 0;
    TID = 1, "tid", sample::TID;
    PID = 2, "pid", sample::TID;
    TIME = 3, "time", sample::TIME;
    CPU = 4, "cpu", sample::CPU;
    EVENT = 5, "event", 0;
    TRACE = 6, "trace", sample::RAW;
    IP = 7, "ip", sample::IP;
    SYM = 8, "sym", sample::IP | sample::ADDR;
    DSO = 9, "dso", sample::IP | sample::ADDR;
    ADDR = 10, "addr", sample::ADDR;
    SYMOFF = 11, "symoff", 0;
    PERIOD = 12, "period", 0;
    IREGS = 13, "iregs", sample::REGS_INTR;
    UREGS = 14, "uregs", sample::REGS_USER;
    BRSTACK = 15, "brstack", sample::BRANCH_STACK;
    BRSTACKSYM = 16, "brstacksym", sample::BRANCH_STACK;
    BRSTACKOFF = 17, "brstackoff", sample::BRANCH_STACK;
    DATA_SRC = 18, "data_src", sample::DATA_SRC;
    WEIGHT = 19, "weight", sample::WEIGHT | sample::WEIGHT_STRUCT;
    INS_LAT = 20, "ins_lat", sample::WEIGHT_STRUCT;
    PHYS_ADDR = 21, "phys_addr", sample::PHYS_ADDR;
    DATA_PAGE_SIZE = 22, "data_page_size", sample::DATA_PAGE_SIZE;
    CODE_PAGE_SIZE = 23, "code_page_size", sample::CODE_PAGE_SIZE;
    MISC = 24, "misc", 0;
    FLAGS = 25, "flags", 0;
    CGROUP = 26, "cgroup", sample::CGROUP;
    BPF_OUTPUT = 27, "bpf-output", sample::RAW;
    MACHINE_PID = 28, "machine_pid", 0;
    VCPU = 29, "vcpu", 0;
}

impl Fields {
    /// True when every field of `other` is in it.
    pub fn has(self, other: Fields) -> bool {
        self.0 & other.0 == other.0
    }

    const fn or(self, other: Fields) -> Fields {
        Fields(self.0 | other.0)
    }

    fn without(self, other: Fields) -> Fields {
        Fields(self.0 & !other.0)
    }

    /// Where the sample was.
    const PLACE: Fields = Fields::IP.or(Fields::SYM).or(Fields::SYMOFF).or(Fields::DSO);
    /// What every kind of event shows.
    const HEAD: Fields = Fields::COMM.or(Fields::TID).or(Fields::CPU).or(Fields::TIME).or(Fields::EVENT);
}

/// Types of events that have defaults of their own; the number is `PERF_TYPE_*`.
const KINDS: [(&str, u32); 6] = [("hw", 0), ("sw", 1), ("trace", 2), ("cache", 3), ("raw", 4), ("break", 5)];
/// `PERF_TYPE_TRACEPOINT`.
pub(super) const TRACEPOINT: usize = 2;
/// The row of all other types (dynamic PMUs).
const OTHER: usize = KINDS.len();

/// The row of a `PERF_TYPE_*`.
pub(super) fn kind_of(kind: u32) -> usize {
    (kind as usize).min(OTHER)
}

/// What one type of event shows.
#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    fields: Fields,
    /// Asked for by name.
    asked: Fields,
    by_user: bool,
}

/// What every type of event shows.
#[derive(Clone, Debug)]
pub struct Choices {
    kinds: [Choice; OTHER + 1],
}

impl Default for Choices {
    fn default() -> Choices {
        let place = Fields::HEAD.or(Fields::PLACE).or(Fields::PERIOD);
        let mut kinds = [Choice { fields: place, ..Choice::default() }; OTHER + 1];
        kinds[1].fields = place.or(Fields::BPF_OUTPUT);
        kinds[TRACEPOINT].fields = Fields::HEAD.or(Fields::TRACE);
        let raw = [
            Fields::ADDR,
            Fields::DATA_SRC,
            Fields::WEIGHT,
            Fields::PHYS_ADDR,
            Fields::DATA_PAGE_SIZE,
            Fields::CODE_PAGE_SIZE,
            Fields::INS_LAT,
        ];
        kinds[4].fields = raw.into_iter().fold(place, Fields::or);
        Choices { kinds }
    }
}

impl Choices {
    /// Applies one `-F`: `[TYPE:]FIELD,..`, or `[TYPE:]+FIELD,-FIELD,..` which changes the defaults.
    ///
    /// # Errors
    /// One sentence: an unknown type or field, or a mixture of both forms.
    pub fn apply(&mut self, text: &str) -> Result<(), String> {
        let (kinds, list) = match text.split_once(':') {
            Some((kind, list)) => {
                let kind = KINDS.iter().position(|(name, _)| *name == kind).ok_or_else(|| {
                    let names = KINDS.map(|(name, _)| name).join(", ");
                    format!("-F {text}: {kind:?} is no type of event; the types are {names}")
                })?;
                (kind..=kind, list)
            }
            None if text.is_empty() => return Err("-F: at least one field must be given".into()),
            None => (0..=OTHER, text),
        };
        let changes = list.contains(['+', '-']) && !list.contains("bpf-output") || list.starts_with(['+', '-']);
        let kinds = self.kinds.get_mut(kinds).unwrap_or_default();
        if !changes {
            for choice in kinds.iter_mut() {
                *choice = Choice { by_user: true, ..Choice::default() };
            }
        }
        for word in list.split(',').filter(|word| !word.is_empty()) {
            let (sign, name) = match word.as_bytes().first() {
                Some(b'+') => (Some(true), &word[1..]),
                Some(b'-') => (Some(false), &word[1..]),
                _ => (None, word),
            };
            if sign.is_some() != changes {
                return Err(format!("-F {text}: fields are either all with + or -, or all without"));
            }
            let Some(Row(_, field, _)) = TABLE.iter().find(|row| row.0 == name) else {
                let names: Vec<_> = TABLE.iter().map(|row| row.0).collect();
                return Err(format!("-F {text}: unknown field {name:?}; the fields are {}", names.join(", ")));
            };
            for choice in kinds.iter_mut() {
                choice.by_user = true;
                if sign == Some(false) {
                    choice.fields = choice.fields.without(*field);
                    choice.asked = choice.asked.without(*field);
                } else {
                    choice.fields = choice.fields.or(*field);
                    choice.asked = choice.asked.or(*field);
                }
            }
        }
        // What only some types have is shown for those.
        for (kind, choice) in self.kinds.iter_mut().enumerate() {
            if kind != TRACEPOINT {
                choice.fields = choice.fields.without(Fields::TRACE);
            }
        }
        Ok(())
    }

    /// The fields of every event of a recording, by its index: what its type shows, less what the first event of that
    /// type does not have.
    ///
    /// # Errors
    /// One sentence, when a field that was asked for is not recorded.
    pub fn of_events(&self, events: &Events, pipe: bool) -> Result<Vec<Fields>, String> {
        let list = events.list();
        let chains = |event: &&Event| event.format.sample_type & sample::CALLCHAIN != 0;
        let mut by_kind = [None; OTHER + 1];
        for event in list {
            let kind = kind_of(event.attr.kind);
            let choice = self.kinds[kind];
            if by_kind[kind].is_some() || event.format.sample_type == 0 {
                continue;
            }
            let mut fields = check(choice, event)?;
            if kind == TRACEPOINT && !choice.by_user {
                let of_this_kind = |e: &&Event| kind_of(e.attr.kind) == kind;
                if list.iter().filter(of_this_kind).any(|e| chains(&e)) {
                    fields = fields.or(if pipe { Fields::IP.or(Fields::SYM) } else { Fields::PLACE });
                }
            }
            by_kind[kind] = Some(fields);
        }
        Ok(list.iter().map(|event| by_kind[kind_of(event.attr.kind)].unwrap_or_default()).collect())
    }
}

fn check(choice: Choice, event: &Event) -> Result<Fields, String> {
    let mut fields = choice.fields;
    for Row(name, field, needs) in TABLE {
        if fields.has(*field) && *needs != 0 && event.format.sample_type & needs == 0 {
            // perf lets these be asked for where only some events of a type have them.
            let allowed = matches!(*field, Fields::ADDR | Fields::CPU | Fields::TRACE | Fields::BPF_OUTPUT);
            if choice.asked.has(*field) && !allowed {
                return Err(format!(
                    "-F: the samples of {} have no {name}; leave it out, or record it (xprof record --help)",
                    event.name
                ));
            }
            fields = fields.without(*field);
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_replace_and_signs_change() {
        let mut choices = Choices::default();
        choices.apply("comm,ip").unwrap();
        assert!(choices.kinds.iter().all(|c| c.fields == Fields::COMM.or(Fields::IP)));
        let mut choices = Choices::default();
        choices.apply("+addr,-period").unwrap();
        let expected = Fields::HEAD.or(Fields::PLACE).or(Fields::ADDR);
        assert_eq!(choices.kinds[0].fields, expected);
        choices.apply("trace:comm,trace").unwrap();
        assert_eq!(choices.kinds[0].fields, expected);
        assert_eq!(choices.kinds[TRACEPOINT].fields, Fields::COMM.or(Fields::TRACE));
        for wrong in ["", "nonsense", "+comm,ip", "pmc:ip"] {
            assert!(Choices::default().apply(wrong).is_err(), "{wrong}");
        }
    }
}
