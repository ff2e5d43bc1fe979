//! Statistics of the machine: processors, memory, file systems, network, temperatures, load, uptime.
//!
//! Owns the sample of `/proc/stat` that the next CPU usage is measured against; all else is read afresh at each call.
//!
//! - What the machine does not have is absent, never 0.
//! - sysinfo reads memory, network and sensors. Processors and file systems are read here: sysinfo wants 200 ms
//!   between two CPU samples, which the first message after a start should not wait for, and it asks every mounted
//!   file system, one on a dead server too, which never answers.
//! - What may take long runs on tokio's blocking threads; a file system that hangs is asked by one thread only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sysinfo::{Components, Networks, System};

mod activity;

pub use activity::{DiskIo, Figures, Own, ProcessGroup, Service};

/// A usage is measured over at least so many ticks (10 ms each) of a core.
const CPU_TICKS_MIN: u64 = 5;
/// How long the first measurement waits for these ticks.
const CPU_WAIT: Duration = Duration::from_millis(60);
/// How long all file systems together may take to answer.
const FILESYSTEMS_WAIT_MAX: Duration = Duration::from_secs(2);
/// More file systems than that are not listed.
const FILESYSTEMS_MAX: usize = 256;
/// More interfaces, and more sensors, than that are not listed.
const LIST_MAX: usize = 1024;

/// How busy one core is.
#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// Its number.
    pub name: String,
    /// Percent of the time since the measurement before; `None` where it was offline in between.
    pub usage: Option<f32>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that the kernel manages.
    pub total: u64,
    /// What a new program could take without swapping.
    pub available: u64,
    /// 0 where there is no swap.
    pub swap_total: u64,
    /// Of it.
    pub swap_used: u64,
}

/// A mounted local file system, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filesystem {
    /// Where it is mounted.
    pub mount: String,
    /// Its size.
    pub total: u64,
    /// What files take, as `df` says it.
    pub used: u64,
    /// What is left for programs that are not root.
    pub available: u64,
}

/// A network interface that is up, and its counters since it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// As the kernel names it.
    pub name: String,
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Received and found broken.
    pub rx_errors: u64,
    /// Not sent.
    pub tx_errors: u64,
}

/// A temperature sensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Thermal {
    /// Driver and sensor, as the kernel names them.
    pub label: String,
    /// Now.
    pub celsius: f32,
    /// From when on the hardware is in danger.
    pub critical: Option<f32>,
}

/// Mean number of runnable processes over 1, 5 and 15 minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Over 1 minute.
    pub one: f64,
    /// Over 5 minutes.
    pub five: f64,
    /// Over 15 minutes.
    pub fifteen: f64,
}

/// The machine's statistics, as one source sees them. A clone measures CPU usage from the same moment on, but for
/// itself.
#[derive(Clone, Debug)]
pub struct Statistics {
    before: BTreeMap<u32, CpuTime>,
    shown: Vec<Cpu>,
    filesystems_asked: Arc<AtomicBool>,
    figures: Figures,
}

/// Ticks since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTime {
    busy: u64,
    all: u64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self::new()
    }
}

impl Statistics {
    /// Takes the first CPU sample. Make one early: the first usage is measured from here.
    pub fn new() -> Self {
        let before = parse_stat(&read("/proc/stat"));
        let filesystems_asked = Arc::new(AtomicBool::new(false));
        Self { before, shown: Vec::new(), filesystems_asked, figures: Figures::default() }
    }

    /// How busy the cores are, in order of number. Measured since the call before; called again too soon for that, it
    /// gives what it gave then. Only the first call may wait, for [`CPU_WAIT`].
    pub async fn cpus(&mut self) -> Vec<Cpu> {
        let mut now = parse_stat(&read("/proc/stat"));
        if !self.enough(&now) {
            if !self.shown.is_empty() {
                return self.shown.clone();
            }
            tokio::time::sleep(CPU_WAIT).await;
            now = parse_stat(&read("/proc/stat"));
        }
        self.shown = usages(&self.before, &now);
        self.before = now;
        self.shown.clone()
    }

    /// Memory and swap; `None` where the kernel does not say.
    pub fn memory(&self) -> Option<Memory> {
        let mut system = System::new();
        system.refresh_memory();
        (system.total_memory() > 0).then(|| Memory {
            total: system.total_memory(),
            available: system.available_memory(),
            swap_total: system.total_swap(),
            swap_used: system.used_swap(),
        })
    }

    /// The local file systems that hold files, each once, in order of where they are mounted: what stands on a block
    /// device or a flash chip, and whatever is mounted on `/`. Not: memory, images (squashfs, iso9660), the layers of
    /// containers, and what is mounted over a network. Empty where they do not answer in time.
    pub async fn filesystems(&self) -> Vec<Filesystem> {
        if self.filesystems_asked.swap(true, Ordering::SeqCst) {
            return Vec::new();
        }
        let asked = Arc::clone(&self.filesystems_asked);
        let task = tokio::task::spawn_blocking(move || {
            let list = filesystems();
            asked.store(false, Ordering::SeqCst);
            list
        });
        match tokio::time::timeout(FILESYSTEMS_WAIT_MAX, task).await {
            Ok(Ok(list)) => list,
            _ => Vec::new(),
        }
    }

    /// The network interfaces that are up, without the loopback, in order of name.
    pub async fn interfaces(&self) -> Vec<Interface> {
        tokio::task::spawn_blocking(interfaces).await.unwrap_or_default()
    }

    /// The temperature sensors that answer, in order of label.
    pub async fn thermals(&self) -> Vec<Thermal> {
        tokio::task::spawn_blocking(thermals).await.unwrap_or_default()
    }

    /// `None` where the kernel does not say.
    pub fn load(&self) -> Option<Load> {
        let text = read("/proc/loadavg");
        let mut words = text.split_whitespace().map_while(|word| word.parse::<f64>().ok());
        Some(Load { one: words.next()?, five: words.next()?, fifteen: words.next()? })
    }

    /// Since the machine was started; `None` where the kernel does not say.
    pub fn uptime(&self) -> Option<Duration> {
        let text = read("/proc/uptime");
        let seconds = text.split_whitespace().next()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Whether some core has run long enough to measure it.
    fn enough(&self, now: &BTreeMap<u32, CpuTime>) -> bool {
        let ticks = |(core, time): (&u32, &CpuTime)| {
            self.before.get(core).map_or(0, |before| time.all.saturating_sub(before.all))
        };
        now.iter().map(ticks).max().unwrap_or(0) >= CPU_TICKS_MIN
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The lines `cpuN user nice system idle iowait irq softirq steal ..` of `/proc/stat`. Waiting for a disk is not
/// busy; what guests of a hypervisor take is counted in `user` already.
fn parse_stat(text: &str) -> BTreeMap<u32, CpuTime> {
    let mut cores = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(core)) = words.next().and_then(|name| name.strip_prefix("cpu")).map(str::parse) else { continue };
        let ticks: Vec<u64> = words.take(8).map_while(|word| word.parse().ok()).collect();
        let all = ticks.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
        let waiting = ticks.iter().skip(3).take(2).fold(0u64, |sum, &n| sum.saturating_add(n));
        cores.insert(core, CpuTime { busy: all.saturating_sub(waiting), all });
    }
    cores
}

fn usages(before: &BTreeMap<u32, CpuTime>, now: &BTreeMap<u32, CpuTime>) -> Vec<Cpu> {
    let usage = |core: &u32, now: &CpuTime| {
        let before = before.get(core)?;
        // The kernel's idle time may go back by a tick.
        let all = now.all.checked_sub(before.all).filter(|&ticks| ticks > 0)?;
        let busy = now.busy.saturating_sub(before.busy);
        #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        Some((busy as f64 * 100.0 / all as f64).min(100.0) as f32)
    };
    now.iter().map(|(core, time)| Cpu { name: core.to_string(), usage: usage(core, time) }).collect()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Tells one file system from another.
    identity: String,
    path: String,
}

/// The mounts worth asking, by path, each file system under its shortest path only.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let mut by_path = BTreeMap::new();
    for line in text.lines() {
        // Of two mounts on one path the later covers the earlier.
        if let Some((path, identity)) = parse_mount(line) {
            by_path.insert(path, identity);
        }
    }
    let mut mounts: Vec<Mount> = Vec::new();
    let mut paths: Vec<_> = by_path.into_iter().filter_map(|(path, identity)| Some((path, identity?))).collect();
    paths.sort_by_key(|(path, _)| path.len());
    for (path, identity) in paths {
        if mounts.len() < FILESYSTEMS_MAX && !mounts.iter().any(|mount| mount.identity == identity) {
            mounts.push(Mount { identity, path });
        }
    }
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    mounts
}

/// `36 35 98:0 /root /path options [optional ..] - type source options`. The identity is `None` where it is not worth
/// asking.
fn parse_mount(line: &str) -> Option<(String, Option<String>)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut words = mount.split(' ').skip(2);
    let (device, root, path) = (words.next()?, words.next()?, unescape(words.next()?));
    let mut words = filesystem.split(' ');
    let (kind, source) = (words.next()?, words.next()?);
    let image = matches!(kind, "squashfs" | "iso9660" | "udf" | "erofs" | "cramfs");
    let block = source.starts_with("/dev/") && !image && !kind.starts_with("fuse.");
    let flash = matches!(kind, "ubifs" | "jffs2" | "yaffs2" | "zfs" | "btrfs" | "bcachefs");
    if !(block || flash || path == "/") {
        return Some((path, None));
    }
    // Subvolumes of btrfs share a device number, and bind mounts differ in their root: only for btrfs does the root
    // count.
    let identity = if kind == "btrfs" { format!("{device} {root}") } else { device.to_owned() };
    Some((path, Some(identity)))
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let code = escaped.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = escaped.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = escaped;
            }
        }
    }
    out.push_str(rest);
    out
}

fn filesystems() -> Vec<Filesystem> {
    let one = |mount: Mount| {
        // A container has single files mounted: /etc/hosts.
        if !fs::metadata(&mount.path).ok()?.is_dir() {
            return None;
        }
        let stat = rustix::fs::statvfs(mount.path.as_str()).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        (stat.f_blocks > 0).then(|| Filesystem {
            mount: mount.path,
            total: bytes(stat.f_blocks),
            used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
            available: bytes(stat.f_bavail),
        })
    };
    parse_mounts(&read("/proc/self/mountinfo")).into_iter().filter_map(one).collect()
}

fn interfaces() -> Vec<Interface> {
    let networks = Networks::new_with_refreshed_list();
    let mut list: Vec<Interface> = networks
        .iter()
        .filter(|(name, _)| is_up(name))
        .take(LIST_MAX)
        .map(|(name, data)| Interface {
            name: name.clone(),
            rx_bytes: data.total_received(),
            tx_bytes: data.total_transmitted(),
            rx_errors: data.total_errors_on_received(),
            tx_errors: data.total_errors_on_transmitted(),
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Switched on by the administrator (IFF_UP), with or without a cable, and not the loopback (IFF_LOOPBACK).
fn is_up(name: &str) -> bool {
    let text = fs::read_to_string(Path::new("/sys/class/net").join(name).join("flags")).unwrap_or_default();
    let flags = text.trim().strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    flags & 0x1 != 0 && flags & 0x8 == 0
}

fn thermals() -> Vec<Thermal> {
    let components = Components::new_with_refreshed_list();
    let one = |component: &sysinfo::Component| {
        let celsius = component.temperature().filter(|celsius| celsius.is_finite())?;
        Some(Thermal { label: component.label().to_owned(), celsius, critical: component.critical() })
    };
    let mut list: Vec<Thermal> = components.iter().take(LIST_MAX).filter_map(one).collect();
    list.sort_by(|a, b| a.label.cmp(&b.label));
    list
}

#[cfg(test)]
mod tests;
