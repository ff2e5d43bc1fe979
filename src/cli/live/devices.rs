//! Buses and lines, as far as they can be looked at beside an agent that uses them.
//!
//! A TCP device is connected to and asked nothing. A serial port is never opened: that alone would move its modem
//! lines, and closing it would drop them under whoever works on it.

use std::collections::BTreeSet;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::net::TcpStream;

use super::Found;
use crate::config::{Bus, BusUrl, GpioLine, Settings};
use crate::os::places;

/// A device that is there answers a connection sooner.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Looks at one bus.
pub(super) async fn bus(bus: &Bus) -> Found {
    match &bus.url {
        BusUrl::Tcp { host, port } | BusUrl::RtuTcp { host, port } => connect(host, *port).await,
        BusUrl::Rtu { device, .. } => serial(device),
    }
}

async fn connect(host: &str, port: u16) -> Found {
    let place = format!("{host}:{port}");
    match tokio::time::timeout(CONNECT_MAX, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Found::good(format!("{place} takes connections")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Found::bad(
            format!("{place}: {error}"),
            "the address is in use, and nothing listens at that port: is it the right one, and does the device take one \
             more connection than the agent's?",
        ),
        Ok(Err(error)) => {
            Found::bad(format!("{place}: {error}"), "is the device switched on, and does `ping` reach it from here?")
        }
        Err(_) => Found::bad(
            format!("{place} does not answer within {} s", CONNECT_MAX.as_secs()),
            "is the device switched on, and is there a firewall on the way?",
        ),
    }
}

fn serial(device: &Path) -> Found {
    let absent =
        "`ls -l /dev/serial/by-id` shows the adapters that are plugged in; such a name outlives another socket";
    let group = "its group may use it (`ls -l` shows which, often dialout): the package's service belongs to it";
    match is_device(device, absent, group) {
        Some(bad) => bad,
        None => match places::opened_by(device) {
            Some((pid, name)) if name == "outstation" => {
                Found::good(format!("{} is there, and process {pid} (the agent) works on it", device.display()))
            }
            Some((pid, name)) => Found::bad(
                format!("{} is in use by process {pid} ({name})", device.display()),
                "two that ask on one line disturb each other: end one of them",
            ),
            None => Found::good(format!("{} is there, and may be opened", device.display())),
        },
    }
}

/// What stands in the way of opening a device file.
fn is_device(device: &Path, absent: &str, group: &str) -> Option<Found> {
    let shown = device.display();
    let metadata = match std::fs::metadata(device) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(Found::bad(format!("there is no {shown}"), absent));
        }
        Err(error) => return Some(Found::bad(format!("{shown}: {error}"), group)),
    };
    if !metadata.file_type().is_char_device() {
        return Some(Found::bad(format!("{shown} is no device"), absent));
    }
    let denied = access(device, Access::READ_OK | Access::WRITE_OK).err()?;
    Some(Found::bad(format!("{shown} may not be opened: {denied}"), group))
}

/// All lines that sources are allowed to use.
pub(super) fn lines(settings: &Settings) -> BTreeSet<GpioLine> {
    let grants = settings.sources.values().map(|source| &source.allow.gpio);
    grants.flat_map(|grant| grant.read.iter().chain(&grant.write)).cloned().collect()
}

/// Looks at one line.
pub(super) fn line(line: &GpioLine) -> Found {
    let absent = "`ls /dev/gpiochip*` shows the chips of this machine, `gpioinfo` their lines";
    let group = "its group may use it (`ls -l` shows which, often gpio): the package's service belongs to it";
    match line {
        GpioLine::Offset { chip, .. } if chip.starts_with("gpiochip") => {
            let device = Path::new("/dev").join(chip);
            is_device(&device, absent, group).unwrap_or_else(|| Found::good(format!("{} is there", device.display())))
        }
        GpioLine::Offset { .. } | GpioLine::Name(_) => Found::doubtful(
            "found by its name when the agent runs",
            "`gpioinfo` shows the names of the chips and lines",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_port_that_is_not_there_or_no_device() {
        let folder = tempfile::tempdir().unwrap();
        let found = serial(&folder.path().join("ttyUSB0"));
        assert!(found.mark == Mark::Fail && found.text.contains("there is no"), "{}", found.text);
        let found = serial(folder.path());
        assert!(found.mark == Mark::Fail && found.text.contains("is no device"), "{}", found.text);
        let line = super::line(&GpioLine::Offset { chip: "gpiochip99".into(), offset: 4 });
        assert!(line.mark == Mark::Fail && line.text.contains("/dev/gpiochip99"), "{}", line.text);
    }

    /// This process has it open, and is not called `outstation`.
    #[test]
    fn a_port_in_use_is_said_with_who_uses_it() {
        let Ok(_open) = std::fs::File::open("/dev/ptmx") else { return };
        let found = serial(Path::new("/dev/ptmx"));
        assert!(found.mark == Mark::Fail && found.text.contains(&std::process::id().to_string()), "{}", found.text);
        assert!(serial(Path::new("/dev/full")).mark == Mark::Ok, "nobody uses it");
    }

    #[tokio::test]
    async fn a_device_that_listens_and_one_that_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port).await.mark == Mark::Ok);
        drop(listener);
        let found = connect("127.0.0.1", port).await;
        assert!(found.mark == Mark::Fail && found.text.contains("refused"), "{}", found.text);
    }
}
