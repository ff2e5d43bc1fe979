//! The broker and the agent: started in a folder of their own, ended with it, and what the kernel counts of them.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Attempts to find a port that stays free.
const PORTS_MAX: usize = 20;
const START_MAX: Duration = Duration::from_secs(10);
const STOP_MAX: Duration = Duration::from_secs(15);

/// A child that does not outlive its owner.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Result<Self, String> {
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        Ok(Self { child, log })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of its log.
    pub fn words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Seconds of processor that it has used, and memory in KiB: now, and at most.
    pub fn cost(&self) -> io::Result<Cost> {
        let folder = PathBuf::from(format!("/proc/{}", self.id()));
        let stat = fs::read_to_string(folder.join("stat"))?;
        let status = fs::read_to_string(folder.join("status"))?;
        // Behind the name, which may hold anything: field 14 and 15 of proc(5).
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let memory = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let processor_s = (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Cost { processor_s, resident: memory("VmRSS"), own: memory("RssAnon"), peak: memory("VmHWM") })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.id().to_string()).status();
        let until = Instant::now() + STOP_MAX;
        while asked.is_ok() && self.is_running() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a process costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub processor_s: f64,
    /// In KiB: resident, of that anonymous, and the most that was ever resident.
    pub resident: u64,
    pub own: u64,
    pub peak: u64,
}

/// A mosquitto on a free port.
pub fn broker(folder: &Path) -> Result<(Process, u16), String> {
    for _ in 0..PORTS_MAX {
        let port = free_port().map_err(|error| error.to_string())?;
        let file = folder.join("mosquitto.conf");
        // Nothing is dropped before the subscriber: it counts. A broker that is started as root becomes this user.
        let user = if rustix::process::geteuid().is_root() { "root" } else { "nobody" };
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser {user}\n");
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or(&"mosquitto"));
        let mut broker = Process::start(command.arg("-c").arg(&file), folder.join("mosquitto.log"))?;
        let until = Instant::now() + START_MAX;
        while broker.is_running() && Instant::now() < until {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok((broker, port));
            }
            sleep(Duration::from_millis(20));
        }
    }
    Err("mosquitto does not start: make setup".to_owned())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The agent on `agent.toml` in that folder, with the environment that the packaged service gives it.
pub fn agent(program: &Path, plugins: &Path, folder: &Path) -> Result<Process, String> {
    let unit = include_str!("../../../packaging/debian/outstation.service");
    let settings = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let mut command = on(program, "run", folder);
    command.envs(settings.flat_map(str::split_whitespace).filter_map(|setting| setting.split_once('=')));
    Process::start(command.env("OUTSTATION_PLUGIN_DIRS", plugins), folder.join("agent.log"))
}

/// What it says of itself.
pub fn status(program: &Path, folder: &Path) -> Option<serde_json::Value> {
    let output = on(program, "status", folder).arg("--json").output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

fn on(program: &Path, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(name).arg("-c").arg(folder.join("agent.toml"));
    command.env("OUTSTATION_DATA_DIR", folder.join("data")).env("OUTSTATION_SOCKET", folder.join("control.sock"));
    command
}
