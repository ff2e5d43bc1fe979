//! What the machine and the agent do: counters of disks, processes by name, states of services, the agent's own figures.
//!
//! Counts are given as the kernel has them; rates are made by whoever asks, who knows when it asked. What is not there is
//! missing. Services are asked of systemd through its own `systemctl`, which is not waited for for ever.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{LIST_MAX, Statistics, read};

/// A sector of `/proc/diskstats`, whatever the disk's own are.
const SECTOR: u64 = 512;
/// Time between two ticks of the kernel's clock for programs (`USER_HZ` is 100 everywhere).
const TICK: Duration = Duration::from_millis(10);
/// Names of processes, and of services, that one call asks for.
pub const NAMES_MAX: usize = 64;
/// The kernel keeps so much of a process's name.
const COMM_MAX: usize = 15;
/// How long systemd may take to answer.
const SERVICES_WAIT_MAX: Duration = Duration::from_secs(2);
/// Bytes of a unit's name (`UNIT_NAME_MAX` of systemd).
const UNIT_NAME_MAX: usize = 255;

/// A disk as a whole, since the machine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskIo {
    /// As the kernel names it.
    pub name: String,
    /// Read from it.
    pub read_bytes: u64,
    /// Written to it.
    pub written_bytes: u64,
    /// While something was under way.
    pub busy: Duration,
}

/// All processes of one name, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessGroup {
    /// As it was asked for.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// Resident memory, bytes; what they share counts for each.
    pub memory: u64,
    /// What those that live have computed.
    pub cpu: Duration,
}

/// A unit of systemd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// As it was asked for.
    pub name: String,
    /// `active inactive failed activating ..`.
    pub active: String,
    /// What that is in its kind: `running exited dead ..`.
    pub sub: String,
    /// Restarts by systemd; `None` where the unit is no service.
    pub restarts: Option<u64>,
}

/// The agent itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Resident memory, bytes.
    pub memory: u64,
    /// What it has computed.
    pub cpu: Duration,
    /// Its threads.
    pub threads: u64,
    /// Files and sockets that are open.
    pub descriptors: u64,
    /// Messages that are accepted, and neither acknowledged nor dropped.
    pub buffered: u64,
    /// What the buffer takes on the disk, bytes.
    pub buffer_bytes: u64,
    /// Messages since the start of the agent.
    pub accepted: u64,
    /// Of them.
    pub delivered: u64,
    /// Reported as gaps.
    pub dropped: u64,
}

/// What the agent says of itself now and then. A clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Figures(Arc<[AtomicU64; 5]>);

impl Figures {
    /// In the order of [`Own`]: buffered, buffer bytes, accepted, delivered, dropped.
    pub fn set(&self, figures: [u64; 5]) {
        for (place, figure) in self.0.iter().zip(figures) {
            place.store(figure, Ordering::Relaxed);
        }
    }

    fn read(&self) -> [u64; 5] {
        std::array::from_fn(|at| self.0.get(at).map_or(0, |figure| figure.load(Ordering::Relaxed)))
    }
}

impl Statistics {
    /// Disks as a whole, in order of name. Not: partitions, memory, images, and what is put together from other disks.
    pub fn disks(&self) -> Vec<DiskIo> {
        let is_whole = |disk: &DiskIo| Path::new("/sys/block").join(&disk.name).exists();
        parse_diskstats(&read("/proc/diskstats")).into_iter().filter(is_whole).take(LIST_MAX).collect()
    }

    /// The processes of each name, in the order of the names; at most [`NAMES_MAX`].
    pub async fn process_groups(&self, names: Vec<String>) -> Vec<ProcessGroup> {
        tokio::task::spawn_blocking(move || process_groups(Path::new("/proc"), names)).await.unwrap_or_default()
    }

    /// The units of these names (without an ending: services), in their order. Those that systemd does not know are missing;
    /// so are all where there is no systemd, or it does not answer in time.
    pub async fn services(&self, names: Vec<String>) -> Vec<Service> {
        let names: Vec<_> = names.into_iter().filter(|name| is_unit_name(name)).take(NAMES_MAX).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let mut command = tokio::process::Command::new("systemctl");
        command.args(["show", "--no-pager", "--property=LoadState,ActiveState,SubState,NRestarts", "--"]);
        command.args(names.iter().map(|name| unit(name)));
        command.stdin(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
        match tokio::time::timeout(SERVICES_WAIT_MAX, command.output()).await {
            Ok(Ok(output)) => parse_services(&names, &String::from_utf8_lossy(&output.stdout)),
            _ => Vec::new(),
        }
    }

    /// What the agent's counters are to be set in.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The agent itself; `None` where the kernel does not say.
    pub fn own(&self) -> Option<Own> {
        let own = Path::new("/proc/self");
        let status = fs::read_to_string(own.join("status")).ok()?;
        let [buffered, buffer_bytes, accepted, delivered, dropped] = self.figures.read();
        Some(Own {
            memory: kib(&status, "VmRSS:").saturating_mul(1024),
            cpu: cpu_time(&fs::read_to_string(own.join("stat")).ok()?)?,
            threads: kib(&status, "Threads:"),
            descriptors: fs::read_dir(own.join("fd")).map_or(0, |files| files.count() as u64),
            buffered,
            buffer_bytes,
            accepted,
            delivered,
            dropped,
        })
    }
}

/// `8 0 sda reads merged sectors ms writes merged sectors ms under-way ms ..`.
fn parse_diskstats(text: &str) -> Vec<DiskIo> {
    let disk = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let name = words.next()?;
        let made_of_others = ["loop", "ram", "zram", "dm-", "sr", "fd"].iter().any(|kind| name.starts_with(kind));
        let counts: Vec<u64> = words.take(10).map_while(|word| word.parse().ok()).collect();
        let count = |at: usize| counts.get(at).copied();
        // One that never read anything is not there: an empty card reader.
        (!made_of_others && !name.contains("boot") && count(0)? > 0).then_some(DiskIo {
            name: name.to_owned(),
            read_bytes: count(2)?.saturating_mul(SECTOR),
            written_bytes: count(6)?.saturating_mul(SECTOR),
            busy: Duration::from_millis(count(9)?),
        })
    };
    let mut disks: Vec<_> = text.lines().filter_map(disk).collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

fn process_groups(proc: &Path, names: Vec<String>) -> Vec<ProcessGroup> {
    let group = |name: String| ProcessGroup { name, ..ProcessGroup::default() };
    let mut groups: Vec<_> = names.into_iter().take(NAMES_MAX).map(group).collect();
    let by_name: BTreeMap<_, _> = groups.iter().enumerate().map(|(at, group)| (group.name.clone(), at)).collect();
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let is_process =
            process.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        // One that ends while it is looked at is none.
        let Some(name) = is_process.then(|| name_of(&process.path())).flatten() else { continue };
        let Some(group) = by_name.get(&name).and_then(|&at| groups.get_mut(at)) else { continue };
        let text = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let Some(cpu) = cpu_time(&text("stat")) else { continue };
        group.count += 1;
        group.cpu += cpu;
        group.memory = group.memory.saturating_add(kib(&text("status"), "VmRSS:").saturating_mul(1024));
    }
    groups
}

/// Its name; where the kernel has cut it, that of its program.
fn name_of(process: &Path) -> Option<String> {
    let comm = fs::read_to_string(process.join("comm")).ok()?;
    let comm = comm.trim_end_matches('\n');
    if comm.len() < COMM_MAX {
        return Some(comm.to_owned());
    }
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let program = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let whole = String::from_utf8_lossy(program).rsplit('/').next().unwrap_or_default().to_owned();
    Some(if whole.starts_with(comm) { whole } else { comm.to_owned() })
}

/// `pid (name) state ..`: user and system time are the 14th and 15th field, and the name may hold anything.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_ascii_whitespace().skip(11).map_while(|word| word.parse::<u32>().ok());
    Some(TICK.saturating_mul(ticks.next()?).saturating_add(TICK.saturating_mul(ticks.next()?)))
}

/// A number of `/proc/PID/status`.
fn kib(status: &str, key: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What systemd.unit(5) allows, and what is no option.
fn is_unit_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    (1..=UNIT_NAME_MAX).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed)
}

fn unit(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("{name}.service") }
}

/// A block a unit, in the order in which they were asked for, with an empty line in between.
fn parse_services(names: &[String], text: &str) -> Vec<Service> {
    let service = |(name, block): (&String, &str)| {
        let value = |key: &str| block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        (value("LoadState")? != "not-found").then_some(())?;
        Some(Service {
            name: name.clone(),
            active: value("ActiveState")?.to_owned(),
            sub: value("SubState")?.to_owned(),
            restarts: value("NRestarts").and_then(|count| count.parse().ok()),
        })
    };
    names.iter().zip(text.split("\n\n")).filter_map(service).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_whole_and_of_their_own() {
        let text = "   8       0 sda 10 0 100 5 20 0 200 5 0 7 12\n 7 0 loop0 9 0 9 9 9 9 9 9 9 9 9\n 253 0 dm-0 9 0 9 9 9 9 9 9 9 9 9\n\
                    179 8 mmcblk0boot0 9 0 9 9 9 9 9 9 9 9 9\n   8  16 sdb 0 0 0 0 0 0 0 0 0 0 0\n garbage\n";
        let sda =
            DiskIo { name: "sda".into(), read_bytes: 51_200, written_bytes: 102_400, busy: Duration::from_millis(7) };
        assert_eq!(parse_diskstats(text), [sda]);
    }

    #[test]
    fn a_process_is_found_by_its_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        let process = |pid: &str, comm: &str, cmdline: &str, ticks: u32, kib: u32| {
            let path = folder.path().join(pid);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(path.join("cmdline"), cmdline).unwrap();
            fs::write(path.join("stat"), format!("{pid} ({comm}) S 1 1 1 0 -1 4 1 0 0 0 {ticks} 5 0 0 20")).unwrap();
            fs::write(path.join("status"), format!("Name:\t{comm}\nVmRSS:\t  {kib} kB\n")).unwrap();
        };
        process("10", "node", "/usr/bin/node\0a.js\0", 10, 100);
        process("11", "node", "node\0", 20, 200);
        process("12", "a-name-that-is-", "/opt/a-name-that-is-long\0-x\0", 1, 1);
        process("13", "we) ird (x", "x", 1, 1);
        let found = process_groups(
            folder.path(),
            ["node", "a-name-that-is-long", "we) ird (x", "absent"].map(String::from).into(),
        );
        let group = |name: &str, count, memory, ms| ProcessGroup {
            name: name.into(),
            count,
            memory,
            cpu: Duration::from_millis(ms),
        };
        assert_eq!(
            found,
            [
                group("node", 2, 300 << 10, 400),
                group("a-name-that-is-long", 1, 1024, 60),
                group("we) ird (x", 1, 1024, 60),
                group("absent", 0, 0, 0)
            ]
        );
    }

    #[test]
    fn units_that_systemd_does_not_know_are_missing() {
        let names = ["a", "b.timer", "c"].map(String::from);
        let text = "NRestarts=3\nLoadState=loaded\nActiveState=active\nSubState=running\n\n\
                    LoadState=loaded\nActiveState=inactive\nSubState=dead\n\nNRestarts=0\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        let service = |name: &str, active: &str, sub: &str, restarts| Service {
            name: name.into(),
            active: active.into(),
            sub: sub.into(),
            restarts,
        };
        let expected = [service("a", "active", "running", Some(3)), service("b.timer", "inactive", "dead", None)];
        assert_eq!(parse_services(&names, text), expected);
        assert_eq!((unit("a").as_str(), unit("b.timer").as_str()), ("a.service", "b.timer"));
        assert!(
            !is_unit_name("--now") && !is_unit_name("a b") && !is_unit_name("") && is_unit_name("getty@tty1.service")
        );
    }

    #[tokio::test]
    async fn this_machine() {
        let statistics = Statistics::new();
        statistics.figures().set([1, 2, 3, 4, 5]);
        let own = statistics.own().expect("it runs");
        assert!(own.memory > 1 << 20 && own.threads > 0 && own.descriptors > 2, "{own:?}");
        assert_eq!([own.buffered, own.buffer_bytes, own.accepted, own.delivered, own.dropped], [1, 2, 3, 4, 5]);
        let myself = name_of(Path::new("/proc/self")).expect("a name");
        let groups = statistics.process_groups(vec![myself, "no such process".into()]).await;
        assert!(groups[0].count >= 1 && groups[0].memory > 0 && groups[1].count == 0, "{groups:?}");
        // Wherever this runs, it comes back.
        drop(statistics.services(vec!["no-such-unit".into()]).await);
    }
}
