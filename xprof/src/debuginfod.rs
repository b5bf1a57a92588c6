//! Programs and debug information from the servers of `DEBUGINFOD_URLS`, through the cache that elfutils' client keeps.
//!
//! Only what has samples is asked for. A server may hang, lie, or give another file: what it sends is bounded in size and
//! time, is believed when its build id is the one that was asked for, and a server that fails is not asked again. `curl`
//! does the transfer in a process of its own, so that nothing can hold us up; proxies and certificates are its business.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use xprof_perfdata::source::Source;
use xprof_profile::supply::BuildId;
use xprof_profile::symbols::build_id_of;

/// A file that no server had is not asked for again for this long (`cache_miss_s` of debuginfod(8)).
const MISS: Duration = Duration::from_secs(600);
/// No file is larger, bytes.
const MOST_BYTES: u64 = 8 << 30;
/// A transfer that takes longer than this tells so.
const QUIET: Duration = Duration::from_secs(1);
/// Seconds that a server has to send 100 KB (`DEBUGINFOD_TIMEOUT`), and a whole file (`DEBUGINFOD_MAXTIME`).
const TIMEOUT: u64 = 30;
const MAXTIME: u64 = 300;

/// The servers and the cache.
#[derive(Debug)]
pub(crate) struct Debuginfod {
    /// Those that have not failed.
    servers: Mutex<Vec<String>>,
    cache: PathBuf,
    timeout: Duration,
    max_time: Duration,
    /// What was asked for already and is not to be had.
    missing: Mutex<HashSet<(BuildId, &'static str)>>,
    /// One transfer at a time: servers are shared, and so is the line that shows it.
    transfer: Mutex<()>,
}

impl Debuginfod {
    /// By the environment; `None` when no server is named.
    pub(crate) fn of_environment() -> Option<Debuginfod> {
        Debuginfod::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(var: impl Fn(&str) -> Option<String>) -> Option<Debuginfod> {
        let urls = var("DEBUGINFOD_URLS")?;
        let http = |url: &&str| url.starts_with("http://") || url.starts_with("https://");
        let servers: Vec<String> =
            urls.split_whitespace().filter(http).map(|url| url.trim_end_matches('/').into()).collect();
        if servers.is_empty() {
            return None;
        }
        let below = |folder: String| Path::new(&folder).join("debuginfod_client");
        let cache = var("DEBUGINFOD_CACHE_PATH")
            .map(PathBuf::from)
            .or_else(|| var("XDG_CACHE_HOME").map(below))
            .or_else(|| var("HOME").map(|home| below(format!("{home}/.cache"))))?;
        let seconds = |name, default| {
            let given = var(name).and_then(|text| text.parse::<u64>().ok()).filter(|n| *n > 0);
            Duration::from_secs(given.unwrap_or(default))
        };
        Some(Debuginfod {
            servers: Mutex::new(servers),
            cache,
            timeout: seconds("DEBUGINFOD_TIMEOUT", TIMEOUT),
            max_time: seconds("DEBUGINFOD_MAXTIME", MAXTIME),
            missing: Mutex::default(),
            transfer: Mutex::default(),
        })
    }

    /// The file of a build id: `what` is `debuginfo` or `executable`, as in the servers' own paths.
    ///
    /// # Errors
    /// `NotFound` when nobody has it.
    pub(crate) fn file(&self, build_id: &BuildId, what: &'static str) -> io::Result<Arc<dyn Source>> {
        let _one = self.transfer.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing().contains(&(build_id.clone(), what)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let found = match self.cached(build_id, what) {
            Ok(source) => Some(source),
            Err(true) => None,
            Err(false) => self.fetch(build_id, what),
        };
        found.ok_or_else(|| {
            missing().insert((build_id.clone(), what));
            io::ErrorKind::NotFound.into()
        })
    }

    fn place(&self, build_id: &BuildId, what: &str) -> PathBuf {
        self.cache.join(build_id.to_string()).join(what)
    }

    /// The file as the cache has it. `Err(true)`: the cache says that no server has it.
    fn cached(&self, build_id: &BuildId, what: &str) -> Result<Arc<dyn Source>, bool> {
        let place = self.place(build_id, what);
        let about = fs::metadata(&place).map_err(|_| false)?;
        if about.len() == 0 {
            let age = about.modified().ok().and_then(|then| SystemTime::now().duration_since(then).ok());
            return Err(age.is_some_and(|age| age < MISS));
        }
        accept(&place, build_id).ok_or(false)
    }

    /// Asks one server after the other.
    fn fetch(&self, build_id: &BuildId, what: &str) -> Option<Arc<dyn Source>> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let place = self.place(build_id, what);
        if servers.is_empty() || fs::create_dir_all(place.parent()?).is_err() {
            return None;
        }
        let arriving = place.with_file_name(format!("{what}.{}", std::process::id()));
        let mut had_none = 0;
        for server in &servers {
            let outcome = self.transfer(server, build_id, what, &arriving);
            let found = match outcome {
                Ok(true) => accept(&arriving, build_id),
                Ok(false) => {
                    had_none += 1;
                    continue;
                }
                Err(why) => {
                    self.give_up(server, &why);
                    continue;
                }
            };
            match found {
                Some(source) if fs::rename(&arriving, &place).is_ok() => return Some(source),
                Some(source) => return Some(source),
                None => self.give_up(server, &format!("what it sent is not the file with build id {build_id}")),
            }
        }
        let _ = fs::remove_file(&arriving);
        if had_none == servers.len() {
            // As elfutils' client notes it.
            let _ = fs::write(&place, b"");
        }
        None
    }

    /// `server` is not asked again.
    fn give_up(&self, server: &str, why: &str) {
        eprintln!("xprof: {server} is not asked for debug information any more: {why}");
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| other != server);
    }

    /// Fetches one file; false when the server has none.
    fn transfer(&self, server: &str, build_id: &BuildId, what: &str, to: &Path) -> Result<bool, String> {
        let _ = fs::remove_file(to);
        let url = format!("{server}/buildid/{build_id}/{what}");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--location", "--max-redirs", "5", "--proto", "=http,https", "--fail"]);
        curl.args(["--write-out", "%{http_code}", "--user-agent", concat!("xprof/", env!("CARGO_PKG_VERSION"))]);
        curl.arg("--connect-timeout").arg(self.timeout.as_secs().min(10).to_string());
        curl.arg("--speed-time").arg(self.timeout.as_secs().to_string());
        curl.arg("--speed-limit").arg((100_000 / self.timeout.as_secs()).max(1).to_string());
        curl.arg("--max-time").arg(self.max_time.as_secs().to_string());
        curl.arg("--max-filesize").arg(MOST_BYTES.to_string()).arg("--output").arg(to).arg("--").arg(url);
        let child = curl.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => "curl, which fetches it, is not installed (Debian: apt install curl)".into(),
            _ => format!("curl cannot be run: {e}"),
        })?;
        self.wait(&mut child, build_id, to)?;
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        let status = String::from_utf8_lossy(&output.stdout).into_owned();
        match (output.status.code(), status.as_str()) {
            (Some(0), _) => Ok(true),
            (_, "404" | "410") => Ok(false),
            (Some(28), _) => Err("it did not answer in time (DEBUGINFOD_TIMEOUT, DEBUGINFOD_MAXTIME)".into()),
            (Some(6 | 7), _) => Err("it cannot be reached".into()),
            (Some(22), status) => Err(format!("it answered {status}")),
            (code, _) => Err(format!("the transfer failed (curl's exit status {})", code.unwrap_or(-1))),
        }
    }

    /// Waits for the end of a transfer, shows how far it is, and ends it when it takes too long or sends too much.
    fn wait(&self, child: &mut Child, build_id: &BuildId, to: &Path) -> Result<(), String> {
        let began = Instant::now();
        let mut shown = false;
        let mut nap = Duration::from_millis(2);
        let ended = loop {
            match child.try_wait() {
                Ok(Some(_)) => break Ok(()),
                Err(e) => break Err(e.to_string()),
                Ok(None) => {}
            }
            let bytes = fs::metadata(to).map_or(0, |about| about.len());
            // curl keeps to its limits; this is for the case that it does not.
            if began.elapsed() > self.max_time + Duration::from_secs(5) || bytes > MOST_BYTES {
                let _ = child.kill();
                let _ = child.wait();
                break Err("it sends without end".into());
            }
            if began.elapsed() > QUIET && io::stderr().is_terminal() {
                eprint!("\rxprof: debug information of {build_id}: {:.1} MB \x1b[K", bytes as f64 / 1e6);
                let _ = io::stderr().flush();
                shown = true;
            }
            thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(200));
        };
        if shown {
            eprint!("\r\x1b[K");
        }
        ended
    }
}

/// The file, if its build id is this one.
fn accept(path: &Path, build_id: &BuildId) -> Option<Arc<dyn Source>> {
    let source = crate::supply::open(path).ok()?;
    (build_id_of(source.clone()).as_ref() == Some(build_id)).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Option<Debuginfod> {
        Debuginfod::of(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_names_servers_and_cache() {
        assert!(of(&[("HOME", "/root")]).is_none());
        assert!(of(&[("DEBUGINFOD_URLS", "ima:enforcing file:///srv"), ("HOME", "/root")]).is_none());
        let found = of(&[("DEBUGINFOD_URLS", " https://a/ ima:permissive http://b"), ("HOME", "/h")]).unwrap();
        assert_eq!(*found.servers.lock().unwrap(), ["https://a", "http://b"]);
        assert_eq!(found.cache, Path::new("/h/.cache/debuginfod_client"));
        assert_eq!((found.timeout.as_secs(), found.max_time.as_secs()), (30, 300));
        let urls = ("DEBUGINFOD_URLS", "http://a");
        let xdg = of(&[urls, ("XDG_CACHE_HOME", "/x"), ("DEBUGINFOD_TIMEOUT", "3")]).unwrap();
        assert_eq!((xdg.cache, xdg.timeout.as_secs()), (PathBuf::from("/x/debuginfod_client"), 3));
        assert_eq!(of(&[urls, ("DEBUGINFOD_CACHE_PATH", "/c")]).unwrap().cache, Path::new("/c"));
    }
}
