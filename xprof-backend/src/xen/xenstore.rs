//! What xenstore says: names of domains and cpupools.
//!
//! The protocol (docs/misc/xenstore.txt, xen/include/public/io/xs_wire.h): a header of four u32 (type, request, transaction,
//! length), then the payload, at most 4096 bytes. A store that does not answer within a second counts as absent.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// `XS_DIRECTORY`, `XS_READ`, `XS_ERROR`.
const DIRECTORY: u32 = 1;
const READ: u32 = 2;
const ERROR: u32 = 16;
/// `XENSTORE_PAYLOAD_MAX`.
const PAYLOAD_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Link {
    Socket(UnixStream),
    Device(std::fs::File),
}

/// A connection to xenstore.
#[derive(Debug)]
pub struct Xenstore {
    link: Link,
    request: u32,
}

impl Xenstore {
    /// The daemon's socket, else the kernel's door.
    pub fn open() -> io::Result<Xenstore> {
        let sockets = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
        if let Some(socket) = sockets.iter().find_map(|path| UnixStream::connect(path).ok()) {
            return Xenstore::over(socket);
        }
        let device = ["/dev/xen/xenbus", "/proc/xen/xenbus"].into_iter().find(|path| Path::new(path).exists());
        let device = device.ok_or(io::ErrorKind::NotFound)?;
        let file = std::fs::OpenOptions::new().read(true).write(true).open(device)?;
        Ok(Xenstore { link: Link::Device(file), request: 0 })
    }

    fn over(socket: UnixStream) -> io::Result<Xenstore> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Xenstore { link: Link::Socket(socket), request: 0 })
    }

    fn take(&mut self, to: &mut [u8]) -> io::Result<()> {
        match &mut self.link {
            Link::Socket(socket) => socket.read_exact(to),
            Link::Device(file) => {
                let mut done = 0;
                while done < to.len() {
                    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
                    if poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout))? == 0 {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    match file.read(&mut to[done..])? {
                        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                        n => done += n,
                    }
                }
                Ok(())
            }
        }
    }

    fn ask(&mut self, kind: u32, path: &str) -> io::Result<Vec<u8>> {
        self.request = self.request.wrapping_add(1);
        let len = path.len() + 1;
        if len > PAYLOAD_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut message: Vec<u8> = [kind, self.request, 0, len as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
        message.extend(path.as_bytes());
        message.push(0);
        match &mut self.link {
            Link::Socket(socket) => socket.write_all(&message)?,
            Link::Device(file) => file.write_all(&message)?,
        }
        // Answers to requests that timed out, and events of watches, are passed over.
        for _ in 0..64 {
            let mut head = [0; 16];
            self.take(&mut head)?;
            let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let len = word(12) as usize;
            if len > PAYLOAD_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut payload = vec![0; len];
            self.take(&mut payload)?;
            if word(4) != self.request {
                continue;
            }
            return match word(0) {
                answer if answer == kind => Ok(payload),
                ERROR => Err(io::Error::other(String::from_utf8_lossy(&payload).trim_end_matches('\0').to_owned())),
                _ => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// The value at a path.
    pub fn read(&mut self, path: &str) -> io::Result<String> {
        self.ask(READ, path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The names below a path.
    pub fn list(&mut self, path: &str) -> io::Result<Vec<String>> {
        let bytes = self.ask(DIRECTORY, path)?;
        let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// The name of a domain.
    pub fn domain_name(&mut self, domain: u16) -> Option<String> {
        self.read(&format!("/local/domain/{domain}/name")).ok().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(list: Vec<(u32, u32, Vec<u8>)>) -> Xenstore {
        let (near, mut far) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut request = [0; 1024];
            let _ = far.read(&mut request);
            for (kind, id, payload) in list {
                let head: Vec<u8> =
                    [kind, id, 0, payload.len() as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
                let _ = far.write_all(&head);
                let _ = far.write_all(&payload);
            }
        });
        Xenstore::over(near).unwrap()
    }

    #[test]
    fn answers_are_matched_with_their_questions() {
        let mut store =
            answers(vec![(READ, 77, b"late".to_vec()), (15, 0, b"event".to_vec()), (READ, 1, b"web".to_vec())]);
        assert_eq!(store.domain_name(3).as_deref(), Some("web"));
        let mut store = answers(vec![(DIRECTORY, 1, b"0\x005\0".to_vec())]);
        assert_eq!(store.list("/local/domain").unwrap(), ["0", "5"]);
    }

    #[test]
    fn errors_silence_and_nonsense_are_errors() {
        assert_eq!(answers(vec![(ERROR, 1, b"ENOENT\0".to_vec())]).read("/x").unwrap_err().to_string(), "ENOENT");
        assert!(answers(vec![]).read("/x").is_err());
        assert!(answers(vec![(READ, 1, vec![0; PAYLOAD_MAX + 1])]).read("/x").is_err());
    }
}
