//! The agent as a process: how often it wakes when nothing is to do, and how punctual a healthy source is beside bad ones.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixtures::devices::flood;
use crate::fixtures::{Fixture, spin, steady, trap};

/// Seconds that are counted.
const IDLE_S: u64 = 60;
const JITTER_S: u64 = 60;
/// The healthy source's period.
const PERIOD_US: i64 = 100_000;

/// Prints the table's lines.
pub fn measure(program: &Path) {
    idle(program);
    for company in [ALONE, DYING, FOR_EVER] {
        jitter(program, &company);
    }
}

/// An agent on a folder of its own. It ends with this.
struct Agent {
    child: Child,
    program: std::path::PathBuf,
    folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Gives it back when each source has been polled.
    fn start(program: &Path, sources: &str, plugins: &[(&str, Fixture)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
        for (name, plugin) in plugins {
            let file = folder.path().join("plugins").join(format!("{name}.wasm"));
            std::fs::write(file, plugin.build()).expect("a file");
        }
        let text = format!("[agent]\nid = \"bench\"\n[buffer]\nsync = \"10s\"\n{sources}");
        std::fs::write(folder.path().join("agent.toml"), text).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(program)
            .args(["run", "-c"])
            .arg(folder.path().join("agent.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the agent starts");
        let agent = Self { child, program: program.to_owned(), folder };
        while agent.status()["sources"].as_array().is_none_or(|all| all.iter().any(|one| one["polls"] == 0)) {
            sleep(Duration::from_millis(200));
        }
        agent
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("-c").arg(self.folder.path().join("agent.toml")).stderr(Stdio::null());
        command
    }

    fn status(&self) -> serde_json::Value {
        let output = self.command(&["status", "--json"]).output().expect("a command runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// How often its threads were taken from a processor, most of them since they had nothing to do.
    fn switches(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the agent runs");
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let number = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.trim().parse::<u64>().ok()).unwrap_or(0)
            };
            number("voluntary_ctxt_switches:") + number("nonvoluntary_ctxt_switches:")
        };
        tasks.filter_map(Result::ok).map(of).sum()
    }
}

/// Ten sources at 10 s, no broker.
fn idle(program: &Path) {
    let sources: String = (0..10).map(|n| format!("[source.s{n}]\nplugin = \"steady\"\nevery = \"10s\"\n")).collect();
    let agent = Agent::start(program, &sources, &[("steady", steady())]);
    // What was compiled is compiled, and threads that were needed for it have ended.
    sleep(Duration::from_secs(15));
    let before = agent.switches();
    sleep(Duration::from_secs(IDLE_S));
    let per_second = (agent.switches() - before) as f64 / IDLE_S as f64;
    println!("| wake-ups a second: 10 sources at 10 s, no broker, all threads, over {IDLE_S} s | {per_second:.1} | |");
}

/// Beside whom a healthy source is polled.
struct Company {
    what: &'static str,
    /// Name, how many of it, and what its sources are set to.
    bad: &'static [(&'static str, usize, &'static str)],
}

const ALONE: Company = Company { what: "alone", bad: &[] };
/// They are ended, and started again after a pause that grows: what hostile plugins come to.
const DYING: Company = Company {
    what: "beside 4 that spin and are ended, 2 that trap, 1 that floods its log, 1 that takes 16 MiB",
    bad: &[
        ("spin", 4, "limits = { time = \"1s\" }"),
        ("trap", 2, ""),
        ("flood", 1, ""),
        ("bomb", 1, "limits = { memory = \"16MiB\" }"),
    ],
};
/// The worst that a configuration can ask for: they never end, and there are more of them than cores.
const FOR_EVER: Company =
    Company { what: "beside 4 that spin all the time, 2 a core", bad: &[("spin", 4, "limits = { time = \"10m\" }")] };

/// Asks for memory until there is no more, and traps.
fn bomb() -> Fixture {
    let run = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    Fixture::new().with("name", "bomb").with("run", run)
}

/// How far from its slot each poll of a healthy source began.
fn jitter(program: &Path, company: &Company) {
    let mut sources = "[source.steady]\nplugin = \"steady\"\nevery = \"100ms\"\n".to_owned();
    for (name, many, settings) in company.bad {
        for n in 0..*many {
            sources += &format!("[source.{name}{n}]\nplugin = \"{name}\"\nevery = \"100ms\"\n{settings}\n");
        }
    }
    let plugins = [("steady", steady()), ("spin", spin()), ("trap", trap()), ("flood", flood()), ("bomb", bomb())];
    let agent = Agent::start(program, &sources, &plugins);
    let mut tail = agent.command(&["tail", "steady", "--json"]).stdout(Stdio::piped()).spawn().expect("a command runs");
    let lines = BufReader::new(tail.stdout.take().expect("its output")).lines();
    let end = Instant::now() + Duration::from_secs(JITTER_S);
    let mut off: Vec<i64> = Vec::new();
    for line in lines.map_while(Result::ok).take_while(|_| Instant::now() < end) {
        let reading: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let time: Option<jiff::Timestamp> = reading["time"].as_str().and_then(|time| time.parse().ok());
        // A timer may also fire a little early: from half of the period on it belongs to the slot ahead.
        let off_by =
            |time: jiff::Timestamp| (time.as_microsecond() + PERIOD_US / 2).rem_euclid(PERIOD_US) - PERIOD_US / 2;
        off.extend(time.map(|time| off_by(time).abs()));
    }
    let _ = tail.kill();
    let _ = tail.wait();
    off.sort_unstable();
    let at = |part: usize| off.get(off.len() * part / 100).copied().unwrap_or(0) as f64 / 1000.0;
    let status = agent.status();
    let steady = status["sources"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "steady").cloned());
    let missed = steady.map_or(serde_json::Value::Null, |one| one["missed"].clone());
    println!(
        "| how far a source with 100 ms was off its slots, {}: median, p99, worst of {}; missed | {:.1}, {:.1}, {:.1} ms; {missed} | 20 ms |",
        company.what,
        off.len(),
        at(50),
        at(99),
        off.last().copied().unwrap_or(0) as f64 / 1000.0
    );
}
