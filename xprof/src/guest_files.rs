//! `--guest-kallsyms DOM=FILE` and its like: files of this machine that say what runs in a guest.
//!
//! DOM is a domain's id, name or UUID. A domain that was rebooted had several ids, and all of them are meant.

use std::fs;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use xprof_perfdata::header::Description;
use xprof_profile::profile::HOST;
use xprof_profile::supply::OfGuest;

/// `DOM=FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    domain: String,
    file: PathBuf,
}

impl std::str::FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Given, String> {
        match text.split_once('=') {
            Some((domain, file)) if !domain.is_empty() && !file.is_empty() => {
                Ok(Given { domain: domain.into(), file: file.into() })
            }
            _ => Err("a domain (id, name or UUID) and its file: DOM=FILE".into()),
        }
    }
}

/// What is known of guests.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct GuestOptions {
    /// A domain's kallsyms, copied by the root of the domain
    #[arg(long, value_name = "DOM=FILE")]
    guest_kallsyms: Vec<Given>,
    /// A domain's kernel, with symbols
    #[arg(long, value_name = "DOM=FILE")]
    guest_vmlinux: Vec<Given>,
    /// The only program that a domain runs, linked statically for fixed addresses
    #[arg(long, value_name = "DOM=FILE")]
    guest_exe: Vec<Given>,
}

/// The files of one guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GuestFiles {
    kallsyms: Option<PathBuf>,
    vmlinux: Option<PathBuf>,
    program: Option<PathBuf>,
}

impl GuestFiles {
    /// The file that has what is needed.
    pub(crate) fn file(&self, what: &OfGuest) -> Option<&Path> {
        match what {
            OfGuest::Kallsyms => self.kallsyms.as_deref(),
            OfGuest::Vmlinux => self.vmlinux.as_deref(),
            OfGuest::Program => self.program.as_deref(),
            OfGuest::File(_) => None,
        }
    }
}

/// The machines that a domain of a recording had.
fn machines(description: &Description, text: &str) -> Vec<u32> {
    let domains = description.features.domains.iter().flat_map(|domains| &domains.list);
    let meant = domains.filter(|d| d.name == text || d.uuid_text().eq_ignore_ascii_case(text)).map(|d| d.id);
    meant.chain(text.parse()).collect()
}

/// Refuses a domain that a recording of domains does not have.
///
/// # Errors
/// With the option that names it.
pub(crate) fn known(description: &Description, option: &str, text: &str) -> anyhow::Result<()> {
    let Some(domains) = &description.features.domains else { return Ok(()) };
    let machines = machines(description, text);
    anyhow::ensure!(
        text == HOST || machines.iter().any(|id| domains.list.iter().any(|domain| domain.id == *id)),
        "{option} {text}: there is no domain of this id, name or UUID in the recording; those that are: xprof report -s domain"
    );
    Ok(())
}

impl GuestOptions {
    /// The files by machine.
    pub(crate) fn files(&self, description: &Description) -> FxHashMap<u32, GuestFiles> {
        let mut files: FxHashMap<u32, GuestFiles> = FxHashMap::default();
        let mut add = |list: &[Given], put: fn(&mut GuestFiles, PathBuf)| {
            for Given { domain, file } in list {
                for machine in machines(description, domain) {
                    put(files.entry(machine).or_default(), file.clone());
                }
            }
        };
        add(&self.guest_kallsyms, |files, file| files.kallsyms = Some(file));
        add(&self.guest_vmlinux, |files, file| files.vmlinux = Some(file));
        add(&self.guest_exe, |files, file| files.program = Some(file));
        files
    }

    /// Refuses files of domains that the recording does not have.
    ///
    /// # Errors
    /// With the option that names one.
    pub(crate) fn check(&self, description: &Description) -> anyhow::Result<()> {
        let lists = [
            ("--guest-kallsyms", &self.guest_kallsyms),
            ("--guest-vmlinux", &self.guest_vmlinux),
            ("--guest-exe", &self.guest_exe),
        ];
        lists
            .iter()
            .flat_map(|(option, list)| list.iter().map(move |given| (option, given)))
            .try_for_each(|(option, given)| known(description, option, &given.domain))
    }

    /// The path of the one program of each machine that has been given one.
    pub(crate) fn programs(&self, description: &Description) -> FxHashMap<u32, Vec<u8>> {
        let path = |file: &Path| file.as_os_str().as_encoded_bytes().to_vec();
        self.files(description).iter().filter_map(|(id, f)| Some((*id, path(f.program.as_deref()?)))).collect()
    }

    /// Adds what a directory recording has beside its data: `kcore_dir__MACHINE/kallsyms`. What the user gave comes first.
    pub(crate) fn add_beside(&mut self, recording: &Path) {
        let entries = fs::read_dir(recording).into_iter().flatten().filter_map(Result::ok);
        let found = entries.filter_map(|entry| {
            let machine: u32 = entry.file_name().to_str()?.strip_prefix("kcore_dir__")?.parse().ok()?;
            let file = entry.path().join("kallsyms");
            file.is_file().then(|| Given { domain: machine.to_string(), file })
        });
        let found: Vec<Given> = found.collect();
        self.guest_kallsyms.splice(0..0, found);
    }
}

/// `--guest-kallsyms`, by machine.
///
/// # Errors
/// A domain that the recording does not know.
pub(crate) fn kallsyms_of(list: &[Given], description: &Description) -> anyhow::Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for Given { domain, file } in list {
        let machines = machines(description, domain);
        anyhow::ensure!(
            !machines.is_empty(),
            "--guest-kallsyms {domain}: there is no domain of this id, name or UUID in the recording; those that are: xprof report -s domain"
        );
        files.extend(machines.into_iter().map(|machine| (machine, file.clone())));
    }
    files.sort();
    files.dedup_by_key(|(machine, _)| *machine);
    Ok(files)
}
