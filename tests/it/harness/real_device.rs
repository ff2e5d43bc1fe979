//! Modbus devices that none of us wrote: pymodbus and libmodbus, over TCP and on serial lines.
//!
//! `packaging/setup-devices` installs what they need. What could not be installed stands in a file `NAME.missing` with the
//! reason, and its tests are skipped with that reason; otherwise a device that is not there fails the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::net::free_localhost_port;
use super::{SOON, wait_until};

/// Who made the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Pymodbus,
    Libmodbus,
}

/// A device in a process of its own; it ends with the test.
pub struct RealDevice {
    _child: Child,
    /// `tcp://..`, `rtu+tcp://..`.
    pub url: String,
}

/// A serial line: two pseudo-terminals that socat connects. What unplugs it is dropping it.
pub struct SerialLine {
    socat: Child,
    folder: PathBuf,
}

impl SerialLine {
    /// Plugs it in: `ours` and `theirs` in the folder.
    pub async fn plug(folder: &Path) -> Self {
        Self::made(folder, "").await
    }

    /// The same, and nobody has our end open: socat keeps it open itself otherwise. It ends when who opened it is gone.
    pub async fn plug_unheld(folder: &Path) -> Self {
        Self::made(folder, ",wait-slave,pty-interval=0.05").await
    }

    async fn made(folder: &Path, options: &str) -> Self {
        let line = Self { socat: socat(folder, options), folder: folder.to_owned() };
        wait_until("socat makes its terminals", SOON, || line.ours().exists() && line.theirs().exists()).await;
        line
    }

    /// The agent's end.
    pub fn ours(&self) -> PathBuf {
        self.folder.join("ours")
    }

    /// The device's end.
    pub fn theirs(&self) -> PathBuf {
        self.folder.join("theirs")
    }

    /// As a bus is configured.
    pub fn url(&self) -> String {
        format!("rtu://{}?baud=19200", self.ours().display())
    }

    /// Pulls it out, and comes back when its files are gone.
    pub async fn unplug(mut self) {
        self.socat.start_kill().expect("kill socat");
        self.socat.wait().await.expect("socat ends");
        for end in [self.ours(), self.theirs()] {
            let _gone = std::fs::remove_file(end);
        }
    }
}

fn socat(folder: &Path, options: &str) -> Child {
    let end = |name: &str| format!("pty,raw,echo=0,link={}", folder.join(name).display());
    let mut command = Command::new("socat");
    // It waits at the second one.
    command.arg(end("theirs")).arg(end("ours") + options).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("start socat; packaging/setup-devices installs it")
}

impl RealDevice {
    /// Over TCP, with TCP's frames or (pymodbus) with RTU's. `None`: it can't be had here, and that was said.
    pub async fn tcp(make: Make, is_rtu: bool) -> Option<Self> {
        let port = free_localhost_port();
        let url = format!("{}://127.0.0.1:{port}", if is_rtu { "rtu+tcp" } else { "tcp" });
        let mut command = command(make)?;
        command.arg(if is_rtu { "rtu-tcp" } else { "tcp" }).arg(port.to_string());
        Some(Self { _child: ready(command).await, url })
    }

    /// At the other end of a serial line.
    pub async fn serial(make: Make, line: &SerialLine) -> Option<Self> {
        let mut command = command(make)?;
        command.arg("rtu").arg(line.theirs());
        Some(Self { _child: ready(command).await, url: line.url() })
    }
}

/// Waits for its first line.
async fn ready(mut command: Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("start the device");
    let mut lines = BufReader::new(child.stdout.take().expect("its stdout")).lines();
    let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("the device is ready in time");
    assert_eq!(line.expect("a line").as_deref(), Some("ready"));
    child
}

fn command(make: Make) -> Option<Command> {
    let name = match make {
        Make::Pymodbus => "pymodbus",
        Make::Libmodbus => "libmodbus",
    };
    if let Ok(why) = std::fs::read_to_string(cache().join(format!("{name}.missing"))) {
        eprintln!("SKIPPED: no {name}: {}", why.trim());
        return None;
    }
    Some(match make {
        Make::Pymodbus => {
            let mut command = Command::new(cache().join("pymodbus-3.16.1/bin/python"));
            command.arg(source("pymodbus_server.py"));
            command
        }
        Make::Libmodbus => Command::new(compiled()),
    })
}

fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    base.expect("HOME").join("outstation/devices")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/devices").join(name)
}

/// Compiles the C program, once a test process.
fn compiled() -> &'static Path {
    static PROGRAM: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = std::env::temp_dir().join(format!("outstation-libmodbus-{}", std::process::id()));
        let status = std::process::Command::new("cc")
            .args(["-O1", "-I/usr/include/modbus", "-o"])
            .arg(&program)
            .arg(source("libmodbus_server.c"))
            .arg("-lmodbus")
            .status();
        assert!(
            status.expect("cc").success(),
            "libmodbus_server.c is compiled; packaging/setup-devices installs libmodbus"
        );
        program
    })
}
