//! A process that pauses a domain while its stack is read, and lets it go whatever becomes of the reader.
//!
//! A reader that is killed between pausing and unpausing would leave the domain paused for ever. So another process does both:
//! it unpauses when it is told to, when [`HOLD_MAX`] is over, and when the reader is gone (the end of their socket, and
//! `PR_SET_PDEATHSIG`). It is in a session of its own, where Ctrl-C and Ctrl-Z do not reach it.
//!
//! Should the holder itself be killed, the reader unpauses, and knows whether it has to: each of the two calls is a multicall
//! of one entry in memory that both see, and Xen writes the entry's result before the holder can be killed again, which a
//! process in a hypercall cannot be. That memory is a file in `/run`, locked by both: when both are killed at once, the
//! next recording and `doctor --restore` find in it what is to be undone ([`left`]).
//!
//! Xen counts pauses. A domain that somebody else has paused, or that is not yet made (its maker holds it paused), is
//! not touched, and what was counted once is taken back once.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::abi::{self, DomainInfoEntry, Domctl, IOCTL_HYPERCALL, MulticallEntry, PrivcmdHypercall, domain_flag};
use super::error::XenError;
use super::hypervisor::Hypervisor;

/// A domain is paused so long at most.
pub const HOLD_MAX: Duration = Duration::from_millis(10);
/// So long is tried to take a pause back. What stays paused then is left to the reader, and when there is none, to the journal.
const UNPAUSE_MAX: Duration = Duration::from_secs(1);
/// Where what is held is written down.
pub const JOURNALS: &str = "/run/xprof/paused";

const MAGIC: u64 = u64::from_ne_bytes(*b"xpaused1");
/// In place of a result that Xen has not written yet.
const UNSAID: i64 = i64::MIN;
const PAGE: usize = 4096;

/// What both processes and the journal have.
#[repr(C)]
#[derive(Clone, Copy)]
struct Page {
    magic: u64,
    uuid: [u8; 16],
    domain: u64,
    /// Pause and unpause, as they were made last, and what they point to.
    calls: [MulticallEntry; 2],
    domctl: [Domctl; 2],
    info: Domctl,
}
const PAUSE: usize = 0;
const UNPAUSE: usize = 1;
const _: () = assert!(size_of::<Page>() <= PAGE);

/// What the holder answers.
mod answer {
    /// The domain is paused.
    pub(super) const HELD: u8 = b'h';
    /// It was not touched.
    pub(super) const SKIPPED: u8 = b's';
    /// It was held until now.
    pub(super) const RELEASED: u8 = b'r';
    /// It has been let go before.
    pub(super) const TIME_UP: u8 = b't';
}
const HOLD: u8 = b'H';
const RELEASE: u8 = b'R';

/// The reader's end.
#[derive(Debug)]
pub struct Holder {
    socket: OwnedFd,
    page: *mut Page,
    pid: libc::pid_t,
    path: PathBuf,
    /// Keeps the lock.
    _journal: File,
    dead: bool,
}

// SAFETY: the page is shared memory that is reached by volatile copies only.
unsafe impl Send for Holder {}

/// Maps the file of a page.
fn map(file: &File) -> io::Result<*mut Page> {
    // SAFETY: a new mapping where the kernel likes.
    let start = unsafe {
        libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(start.cast()) }
}

/// True while the pause of this page is counted and not taken back. A domain that is gone needs no unpausing.
fn is_paused(calls: &[MulticallEntry; 2]) -> bool {
    calls[PAUSE].result == 0 && calls[UNPAUSE].result == UNSAID
}

impl Holder {
    /// Starts the process; `journals`: [`JOURNALS`], but for tests.
    ///
    /// # Errors
    /// When the journal cannot be made, or no process.
    pub fn start(xen: &Hypervisor, journals: &Path) -> io::Result<Holder> {
        let privcmd = xen.privcmd().ok_or(io::ErrorKind::Unsupported)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(journals)?;
        // SAFETY: a call without arguments.
        let path = journals.join(unsafe { libc::getpid() }.to_string());
        let name = CString::new(path.as_os_str().as_bytes())?;
        let options = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
        let journal = options.open(&path)?;
        flock(&journal, FlockOperation::NonBlockingLockExclusive)?;
        journal.set_len(PAGE as u64)?;
        let page = map(&journal)?;
        // SAFETY: the page was just mapped; nobody else has it yet.
        unsafe { page.write(Page::new(xen.interfaces().0)) };
        let mut ends = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: two descriptors are written to an array of two.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors are new and ours.
        let (socket, other) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
        let work = Work {
            socket: other.as_raw_fd(),
            privcmd: privcmd.as_raw_fd(),
            journal: journal.as_raw_fd(),
            page,
            path: name.as_ptr(),
            // SAFETY: a call without arguments.
            reader: unsafe { libc::getpid() },
        };
        // SAFETY: the child makes only system calls, on what was prepared here.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => {
                let error = io::Error::last_os_error();
                let _ = fs::remove_file(&path);
                Err(error)
            }
            0 => work.run(),
            _ => Ok(Holder { socket, page, pid, path, _journal: journal, dead: false }),
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.pid as u32
    }

    /// Pauses a domain. False: it was left as it was, because somebody has paused it already, or it is going or not yet made.
    ///
    /// # Errors
    /// The holder is dead. What it left paused is taken back by [`Holder::heal`].
    pub fn hold(&mut self, domain: u16) -> io::Result<bool> {
        let [low, high] = domain.to_le_bytes();
        self.send(&[HOLD, low, high])?;
        Ok(self.receive()? == answer::HELD)
    }

    /// Unpauses what was paused. True: it has stood still from [`Holder::hold`] until now.
    ///
    /// # Errors
    /// As above.
    pub fn release(&mut self) -> io::Result<bool> {
        self.send(&[RELEASE, 0, 0])?;
        Ok(self.receive()? == answer::RELEASED)
    }

    /// After an error: takes back what a holder that was killed, or that Xen did not answer, has left paused. False: Xen
    /// does not answer here either, and the domain stays paused until [`Left::restore`] finds the journal.
    pub fn heal(&mut self, xen: &mut Hypervisor) -> bool {
        if self.dead {
            return true;
        }
        self.dead = true;
        self.end();
        reap(self.pid);
        // SAFETY: the page is mapped while this value lives.
        let mut page = unsafe { self.page.read_volatile() };
        if is_paused(&page.calls) {
            match xen.unpause(page.domain as u16) {
                Ok(()) | Err(XenError::DomainGone(_)) => page.calls[UNPAUSE].result = 0,
                Err(_) => return false,
            }
            // SAFETY: as above.
            unsafe { self.page.write_volatile(page) };
        }
        true
    }

    /// The holder, if it lives, sees the end of the socket, lets go and exits.
    fn end(&self) {
        // SAFETY: our own socket.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }

    fn send(&self, message: &[u8; 3]) -> io::Result<()> {
        loop {
            let flags = libc::MSG_NOSIGNAL;
            // SAFETY: the message has this length.
            let sent = unsafe { libc::send(self.socket.as_raw_fd(), message.as_ptr().cast(), message.len(), flags) };
            match sent {
                3 => return Ok(()),
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn receive(&self) -> io::Result<u8> {
        let mut byte = [0u8];
        loop {
            match rustix::io::read(self.socket.as_fd(), &mut byte) {
                Ok(1) => return Ok(byte[0]),
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn reap(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: our own child; the status has room.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } == -1
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

impl Drop for Holder {
    fn drop(&mut self) {
        if !self.dead {
            self.end();
            reap(self.pid);
        }
        // SAFETY: the page is mapped while this value lives.
        let calls = unsafe { (&raw const (*self.page).calls).read_volatile() };
        // What could not be taken back stays written down.
        if !is_paused(&calls) {
            let _ = fs::remove_file(&self.path);
        }
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.page.cast(), PAGE) };
    }
}

impl Page {
    fn new(version: u32) -> Page {
        let domctl = |command| Domctl { command, version, domain: 0, pad: [0; 3], body: [0; 16] };
        let call = MulticallEntry { op: abi::hypercall::DOMCTL, result: UNSAID, args: [0; 6] };
        Page {
            magic: MAGIC,
            uuid: [0; 16],
            domain: 0,
            calls: [call, call],
            domctl: [domctl(abi::domctl::PAUSE), domctl(abi::domctl::UNPAUSE)],
            info: domctl(abi::domctl::INFO),
        }
    }
}

/// What the child has. It was forked from a process with threads: system calls and memory that is there already, nothing else.
struct Work {
    socket: RawFd,
    privcmd: RawFd,
    journal: RawFd,
    page: *mut Page,
    path: *const libc::c_char,
    reader: libc::pid_t,
}

extern "C" fn wake(_: libc::c_int) {}

impl Work {
    fn run(&self) -> ! {
        // SAFETY: system calls on our own state; the handler does nothing.
        unsafe {
            libc::setsid();
            libc::prctl(libc::PR_SET_NAME, c"xprof-holder".as_ptr());
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = wake as extern "C" fn(libc::c_int) as usize;
            libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut());
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigdelset(&raw mut all, libc::SIGTERM);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            libc::mlock(self.page.cast(), PAGE);
        }
        self.close_others();
        let mut message = [0u8; 3];
        // A reader that ended before PDEATHSIG was set is seen by the socket's end.
        while self.wait(&mut message, None) {
            if message[0] != HOLD {
                self.say(answer::TIME_UP);
            } else if !self.hold(u16::from_le_bytes([message[1], message[2]])) {
                // SAFETY: the journal stays, and says what is to be undone.
                unsafe { libc::_exit(1) }
            }
        }
        // SAFETY: the path was made before the fork; nothing is held.
        unsafe {
            libc::unlink(self.path);
            libc::_exit(0)
        }
    }

    /// The command's output and the rings are nothing that may be kept open here.
    fn close_others(&self) {
        let kept = [self.socket, self.privcmd, self.journal];
        let mut first = 0u32;
        loop {
            let next = kept.iter().map(|fd| *fd as u32).filter(|fd| *fd >= first).min();
            let last = next.map_or(u32::MAX, |next| next.wrapping_sub(1));
            if next != Some(first) {
                // SAFETY: descriptors that this process does not use. Kernels before 5.9 do not know the call.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
            match next {
                Some(next) => first = next + 1,
                None => return,
            }
        }
    }

    /// Waits for a message, until `deadline` (ns, CLOCK_MONOTONIC). False: none came in time, or there is nobody any more.
    fn wait(&self, message: &mut [u8; 3], deadline: Option<i64>) -> bool {
        loop {
            let timeout = deadline.map(|deadline| {
                let left = (deadline - monotonic()).max(0);
                libc::timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 }
            });
            let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
            let mut poll = libc::pollfd { fd: self.socket, events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, a timeout that is there or null.
            match unsafe { libc::ppoll(&raw mut poll, 1, timeout, ptr::null()) } {
                0 => return false,
                // SAFETY: as much room as is said.
                1 => match unsafe { libc::recv(self.socket, message.as_mut_ptr().cast(), 3, libc::MSG_DONTWAIT) } {
                    3 => return true,
                    -1 if again() => {}
                    _ => return false,
                },
                // SAFETY: a call without arguments.
                _ if unsafe { libc::getppid() } != self.reader => return false,
                _ => {}
            }
        }
    }

    fn say(&self, byte: u8) {
        // SAFETY: one byte. When nobody listens the next wait ends.
        unsafe { libc::send(self.socket, (&raw const byte).cast(), 1, libc::MSG_NOSIGNAL) };
    }

    /// A hypercall.
    fn call(&self, op: u64, args: [u64; 5]) -> i32 {
        let call = PrivcmdHypercall { op, args };
        // SAFETY: the kernel reads the struct; what Xen writes lies in the page.
        unsafe { libc::ioctl(self.privcmd, IOCTL_HYPERCALL as _, &raw const call) }
    }

    /// Call `which` of the page, as a multicall of one; what Xen said. [`UNSAID`]: the page was moved under Xen (EFAULT).
    fn one(&self, which: usize) -> i64 {
        // SAFETY: the page is mapped; `which` is one of the two.
        let entry = unsafe { (&raw mut (*self.page).calls).cast::<MulticallEntry>().add(which) };
        self.call(abi::hypercall::MULTICALL, [entry as u64, 1, 0, 0, 0]);
        // SAFETY: as above.
        unsafe { (&raw const (*entry).result).read_volatile() }
    }

    /// Asks about a domain: its UUID goes into the page. All flags when it is not there.
    fn flags(&self, domain: u16) -> u32 {
        let page = self.page;
        // SAFETY: the page is mapped, and these are places in it.
        unsafe {
            (&raw mut (*page).info.domain).write_volatile(domain);
            let answered = self.call(abi::hypercall::DOMCTL, [&raw mut (*page).info as u64, 0, 0, 0, 0]) == 0;
            let info = (&raw const (*page).info.body).cast::<DomainInfoEntry>();
            // Before 4.18 Xen answers for the next domain when this one is gone.
            if !answered || (&raw const (*info).domain).read_volatile() != domain {
                return u32::MAX;
            }
            (&raw mut (*page).uuid).write_volatile((&raw const (*info).handle).read_volatile());
            (&raw const (*info).flags).read_volatile()
        }
    }

    /// False: the domain could not be unpaused.
    fn hold(&self, domain: u16) -> bool {
        let page = self.page;
        if self.flags(domain) & (domain_flag::PAUSED | domain_flag::DYING | domain_flag::SHUTDOWN) != 0 {
            self.say(answer::SKIPPED);
            return true;
        }
        // SAFETY: as above. The order matters to whoever looks when this process was killed in between.
        unsafe {
            let calls = (&raw mut (*page).calls).cast::<MulticallEntry>();
            (&raw mut (*calls.add(PAUSE)).result).write_volatile(UNSAID);
            (&raw mut (*calls.add(UNPAUSE)).result).write_volatile(UNSAID);
            (&raw mut (*page).domain).write_volatile(domain.into());
            let domctl = (&raw mut (*page).domctl).cast::<Domctl>();
            for which in [PAUSE, UNPAUSE] {
                (&raw mut (*domctl.add(which)).domain).write_volatile(domain);
                (&raw mut (*calls.add(which)).args).cast::<u64>().write_volatile(domctl.add(which) as u64);
            }
        }
        let deadline = monotonic() + HOLD_MAX.as_nanos() as i64;
        let said = self.one(PAUSE);
        if said == UNSAID && self.flags(domain) & domain_flag::PAUSED != 0 {
            // SAFETY: as above.
            unsafe { (&raw mut (*page).calls[PAUSE].result).write_volatile(0) };
        } else if said != 0 {
            self.say(answer::SKIPPED);
            return true;
        }
        self.say(answer::HELD);
        let mut message = [0u8; 3];
        let asked = self.wait(&mut message, Some(deadline));
        let unpaused = self.unpause(UNPAUSE_MAX);
        if unpaused && asked {
            self.say(answer::RELEASED);
        }
        unpaused
    }

    /// Takes the pause back. A page that was moved is there again at one of the next tries; false: at none within `time`.
    fn unpause(&self, time: Duration) -> bool {
        let deadline = monotonic() + time.as_nanos() as i64;
        while self.one(UNPAUSE) == UNSAID {
            if monotonic() >= deadline {
                return false;
            }
        }
        true
    }
}

fn again() -> bool {
    // SAFETY: errno of this thread.
    matches!(unsafe { *libc::__errno_location() }, libc::EAGAIN | libc::EINTR)
}

fn monotonic() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the struct has room for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// A domain that reader and holder, killed at once, have left paused.
#[derive(Debug)]
pub struct Left {
    /// The journal.
    pub path: PathBuf,
    /// The domain; `None` when nothing was held.
    pub domain: Option<u16>,
    /// Its UUID.
    pub uuid: [u8; 16],
    journal: File,
}

/// What was left behind: journals that nobody holds.
///
/// # Errors
/// When the journals are there and cannot be read.
pub fn left(journals: &Path) -> io::Result<Vec<Left>> {
    let entries = match fs::read_dir(journals) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut list = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let options = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).clone();
        let Ok(journal) = options.open(&path) else { continue };
        if flock(&journal, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let mut bytes = [0u8; size_of::<Page>()];
        let whole = std::os::unix::fs::FileExt::read_exact_at(&journal, &mut bytes, 0).is_ok();
        // SAFETY: every pattern of bits is a page, and the bytes have its size.
        let page: Page = unsafe { bytes.as_ptr().cast::<Page>().read_unaligned() };
        let paused = whole && page.magic == MAGIC && is_paused(&page.calls);
        let domain = u16::try_from(page.domain).ok().filter(|_| paused);
        list.push(Left { path, domain, uuid: page.uuid, journal });
    }
    Ok(list)
}

impl Left {
    /// Unpauses the domain, if it is still the one that was paused, and removes the journal. True: it was unpaused.
    ///
    /// # Errors
    /// When Xen cannot be asked; the journal stays then.
    pub fn restore(self, xen: &mut Hypervisor) -> super::hypervisor::Result<bool> {
        let mut unpaused = false;
        if let Some(domain) = self.domain {
            let list = xen.domains()?;
            let there = list.iter().find(|info| info.id == domain && info.uuid == self.uuid);
            if there.is_some_and(|info| info.is(domain_flag::PAUSED)) {
                xen.unpause(domain)?;
                unpaused = true;
            }
            // Should removing it fail, it must not be done twice.
            let at = offset_of!(Page, calls) + size_of::<MulticallEntry>() + offset_of!(MulticallEntry, result);
            let _ = std::os::unix::fs::FileExt::write_all_at(&self.journal, &0i64.to_ne_bytes(), at as u64);
        }
        let _ = fs::remove_file(&self.path);
        Ok(unpaused)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Fake;
    use super::*;

    /// A journal as a killed holder leaves it.
    fn leave(directory: &Path, name: &str, pause: i64, unpause: i64) {
        let mut page = Page::new(0x15);
        (page.domain, page.uuid) = (7, [3; 16]);
        (page.calls[PAUSE].result, page.calls[UNPAUSE].result) = (pause, unpause);
        // SAFETY: a page is plain numbers.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const page).cast::<u8>(), size_of::<Page>()) };
        fs::write(directory.join(name), bytes).unwrap();
    }

    #[test]
    fn what_xen_does_not_take_back_is_left_to_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        leave(dir.path(), "1", 0, UNSAID);
        let journal = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("1")).unwrap();
        // A device that knows no hypercalls: every try is as one that Xen did not answer.
        let null = File::open("/dev/null").unwrap();
        let page = map(&journal).unwrap();
        let work = Work { socket: -1, privcmd: null.as_raw_fd(), journal: -1, page, path: ptr::null(), reader: 0 };
        assert!(!work.unpause(Duration::from_millis(5)));
        // SAFETY: mapped above, and used no more.
        unsafe { libc::munmap(page.cast(), PAGE) };
        assert_eq!(left(dir.path()).unwrap().pop().unwrap().domain, Some(7));
    }

    #[test]
    fn only_what_was_paused_and_is_still_the_same_domain_is_unpaused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let esrch = i64::from(-libc::ESRCH);
        let restored = |flags: u32, uuid: u8| {
            let fake = Fake::new(17, 0x15, 0x15);
            let told = std::sync::Arc::clone(&fake.told);
            told.lock().unwrap().domains = vec![(7, flags, uuid, 0)];
            let mut xen = Hypervisor::through(Box::new(fake)).unwrap();
            let left = left(path).unwrap();
            let done: Vec<bool> = left.into_iter().map(|left| left.restore(&mut xen).unwrap()).collect();
            assert_eq!(fs::read_dir(path).unwrap().count(), 0);
            let unpaused = told.lock().unwrap().unpaused.clone();
            (done, unpaused)
        };
        leave(path, "1", 0, UNSAID);
        assert_eq!(restored(domain_flag::PAUSED, 3), (vec![true], vec![7]));
        // Runs again, or another domain has the number.
        leave(path, "1", 0, UNSAID);
        assert_eq!(restored(0, 3), (vec![false], vec![]));
        leave(path, "1", 0, UNSAID);
        assert_eq!(restored(domain_flag::PAUSED, 4), (vec![false], vec![]));
        // Never paused, refused, taken back, gone.
        for (pause, unpause) in [(UNSAID, UNSAID), (esrch, UNSAID), (0, 0), (0, esrch)] {
            leave(path, "1", pause, unpause);
            assert_eq!(restored(domain_flag::PAUSED, 3), (vec![false], vec![]), "{pause} {unpause}");
        }
        fs::write(path.join("cut"), b"xpaused1").unwrap();
        assert_eq!(restored(domain_flag::PAUSED, 3), (vec![false], vec![]));
        // One that somebody holds is not looked at.
        leave(path, "held", 0, UNSAID);
        let held = File::open(path.join("held")).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(left(path).unwrap().is_empty());
        drop(held);
        assert_eq!(left(path).unwrap().len(), 1);
    }
}
