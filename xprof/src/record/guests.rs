//! What a recording of domains says of them beside samples: the records that each new file must begin with again
//! (`--switch-output`), and the domains of the feature section, those that are gone too.

use xprof_backend::Description;
use xprof_perfdata::abi::record;
use xprof_perfdata::domain::{Domain, Domains, NO_TASK};

use super::census::is_of_guest;

/// Bytes of records that are kept for the next file; what is beyond is missing there.
const STANDING_MAX: usize = 32 << 20;

/// The domains of a recording.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// ID_INDEX, and the names and mappings of guests, in their order.
    standing: Vec<u8>,
    domains: Option<Domains>,
}

impl Guests {
    /// Those a session begins with.
    pub(crate) fn new(session: &Description) -> Self {
        Guests { standing: session.head.clone(), domains: session.domains.clone() }
    }

    /// What a file begins with.
    pub(crate) fn head(&self) -> &[u8] {
        &self.standing
    }

    /// Looks at one whole record that is neither sample nor loss.
    pub(crate) fn record(&mut self, kind: u32, flags: u16, whole: &[u8]) {
        // Domain-0 is the host, and of the host's processes this is the one without number.
        let nobody = whole.get(8..12) == Some(&NO_TASK.to_ne_bytes());
        let stands = match kind {
            record::ID_INDEX => true,
            record::COMM => is_of_guest(flags) || nobody,
            record::MMAP | record::MMAP2 => is_of_guest(flags),
            _ => false,
        };
        if stands && self.standing.len() + whole.len() <= STANDING_MAX {
            self.standing.extend_from_slice(whole);
        }
    }

    /// A domain appeared, was renamed, or is gone.
    pub(crate) fn domain(&mut self, domain: Domain) {
        self.domains.get_or_insert_default().learn(domain);
    }

    /// Something about the host is known now.
    pub(crate) fn facts(&mut self, facts: Vec<(String, String)>) {
        self.domains.get_or_insert_default().learn_facts(facts);
    }

    /// The feature section.
    pub(crate) fn domains(&self) -> Option<&Domains> {
        self.domains.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use xprof_perfdata::abi::misc;

    use super::*;

    #[test]
    fn the_next_file_begins_with_what_stands() {
        let mut guests = Guests::default();
        let of = |pid: u32| [&[0; 8][..], &pid.to_ne_bytes(), &[0; 4]].concat();
        guests.record(record::COMM, misc::USER, &of(7));
        guests.record(record::SWITCH, misc::GUEST_USER, &of(7));
        assert!(guests.head().is_empty());
        guests.record(record::ID_INDEX, 0, &of(1));
        guests.record(record::COMM, misc::USER, &of(NO_TASK));
        guests.record(record::COMM, misc::GUEST_USER, &of(8));
        assert_eq!(guests.head(), [of(1), of(NO_TASK), of(8)].concat());
    }
}
