//! Resource limits: the number of open files; and how soon a thread runs that has something to do.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Niceness of a thread that may not run at once (calls of Linux that take a process take a thread, and none is the caller).
const NICE: i32 = -10;

/// Lets the calling thread run before all threads of normal priority whenever it has something to do, or at least before most of them
/// where that is not allowed; where not even that is, it goes on as it is.
pub fn hurry() {
    if run_at_once().is_err() {
        let _ = rustix::process::setpriority_process(None, NICE);
    }
}

/// `SCHED_FIFO`, the lowest of its priorities, for the calling thread, not inherited by what it starts.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` (or `ulimit -r`), and where real time is divided among control groups.
fn run_at_once() -> io::Result<()> {
    /// `SCHED_RESET_ON_FORK` (`include/uapi/linux/sched.h`).
    const RESET_ON_FORK: libc::c_int = 0x4000_0000;
    let priority: libc::c_int = 1;
    // By number: musl's own function refuses (a thread is no process).
    // SAFETY: the kernel reads one `struct sched_param`, which is an int and lives during the call; 0 is the calling thread.
    let done = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_FIFO | RESET_ON_FORK, &raw const priority)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit of open files to `wanted` where that is allowed (above the hard limit only with
/// `CAP_SYS_RESOURCE`); the limit there is now.
pub fn raise_open_files(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let current = now.current.unwrap_or(u64::MAX);
    if current >= wanted {
        return current;
    }
    let hard = now.maximum.unwrap_or(u64::MAX);
    if hard < wanted {
        let raised = Rlimit { current: Some(wanted), maximum: Some(wanted) };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return wanted;
        }
    }
    let target = wanted.min(hard);
    match setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum: now.maximum }) {
        Ok(()) => target,
        Err(_) => current,
    }
}

/// The soft limit of open files.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The calling thread alone, and not what it starts: the kernel's word is `policy`, field 41 of `/proc/thread-self/stat`.
    #[test]
    fn only_the_thread_that_asks_runs_at_once() {
        let policy = || {
            fs::read_to_string("/proc/thread-self/stat")
                .unwrap()
                .rsplit(')')
                .next()
                .unwrap()
                .split_whitespace()
                .nth(38)
                .map(str::to_owned)
        };
        let asked = std::thread::spawn(move || {
            run_at_once().unwrap();
            (policy(), std::thread::spawn(policy).join().unwrap())
        });
        let (own, child) = asked.join().unwrap();
        assert_eq!((own.as_deref(), child.as_deref(), policy().as_deref()), (Some("1"), Some("0"), Some("0")));
    }
}
