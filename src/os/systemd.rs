//! Telling the service manager how the service is: datagrams to `NOTIFY_SOCKET`, as sd_notify(3) describes them.
//!
//! Without that variable every call does nothing. A manager that does not take a message is not waited for. Children
//! inherit the variable and send nothing.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::debug;

use super::clock;

/// Bytes of a status line; what is longer is cut.
const STATUS_MAX: usize = 512;

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// What it was told last.
    status: String,
}

impl Manager {
    /// As the service manager has set the environment up.
    pub fn from_environment() -> Self {
        let variable = std::env::var_os;
        let Some(path) = variable("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Self::default() };
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        // Where it is set, the watchdog is meant for that process alone.
        let ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&us| ours && us > 0).map(Duration::from_micros);
        Self::at(&path, watchdog)
    }

    /// A manager that listens at `path`; one that begins with `@` is an abstract name.
    pub fn at(path: &OsStr, watchdog: Option<Duration>) -> Self {
        let open = || {
            let address = match path.as_bytes().split_first() {
                Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(path)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            std::io::Result::Ok((socket, address))
        };
        let socket = open().inspect_err(|error| debug!("no way to the service manager: {error}")).ok();
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket, status: String::new() }
    }

    /// How long it waits for a sign of life, if it does.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service works, or works again after [`Self::reloading`].
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The configuration is being read again; [`Self::ready`] says when that is over.
    pub fn reloading(&self) {
        // The time belongs to the message: the manager takes a READY=1 that was sent before it for an older one.
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`. The same twice is sent once.
    pub fn status(&mut self, text: &str) {
        // A line end would begin another message.
        let line: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let end = line.floor_char_boundary(STATUS_MAX);
        let line = line.get(..end).unwrap_or_default();
        if line != self.status {
            self.send(&format!("STATUS={line}"));
            line.clone_into(&mut self.status);
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            debug!("the service manager does not take {message:?}: {error}");
        }
    }
}

/// Whether stderr goes to the journal, which then takes fields beside the text (`JOURNAL_STREAM`).
pub fn stderr_is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    // Whoever put a pipe or a file in between wants plain lines.
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|metadata| stream == format!("{}:{}", metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn messages_come_as_they_are_defined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut manager = Manager::at(path.as_os_str(), None);
        manager.ready();
        assert_eq!(received(&socket), "READY=1");
        let before = clock::monotonic_us();
        manager.reloading();
        let reloading = received(&socket);
        let time: u64 = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=clock::monotonic_us()).contains(&time));
        manager.status("line one\nREADY=1");
        assert_eq!(received(&socket), "STATUS=line one READY=1");
        manager.status("line one\nREADY=1");
        manager.status(&"ä".repeat(STATUS_MAX));
        assert!(received(&socket).len() <= STATUS_MAX + 7, "the same was not said twice, and a long one is cut");
        manager.alive();
        assert_eq!(received(&socket), "WATCHDOG=1");
        manager.stopping();
        assert_eq!(received(&socket), "STOPPING=1");
    }

    #[test]
    fn an_abstract_name_is_one() {
        let name = format!("outstation-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager::at(OsStr::new(&format!("@{name}")), None).ready();
        assert_eq!(received(&socket), "READY=1");
    }

    /// Nobody listens, or nobody reads: the service goes on.
    #[test]
    fn a_manager_that_does_not_listen_is_no_hindrance() {
        Manager::at(OsStr::new("/nowhere/notify"), None).ready();
        Manager::default().ready();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _socket = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.as_os_str(), None);
        for _ in 0..5_000 {
            manager.alive();
        }
    }
}
