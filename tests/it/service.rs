//! Under a service manager: what it is told, in which order, and signals from the first instant on.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::UnixDatagram;

use crate::disk;
use crate::harness::log::Log;
use crate::harness::mount;
use crate::harness::net::Task;
use crate::harness::site::outcome_of;
use crate::harness::{Agent, SOON, STEADY, Site, config, pass, wait_until};

const NOWHERE: &str = "mqtt://127.0.0.1:1";

/// What listens at `NOTIFY_SOCKET`.
struct Manager {
    log: Log,
    _task: Task,
}

impl Manager {
    fn start(site: &Site) -> Self {
        let socket = UnixDatagram::bind(site.path("notify")).expect("bind the socket");
        let log = Log::new();
        let lines = log.clone();
        let task = Task::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(count) = socket.recv(&mut bytes).await {
                lines.push(String::from_utf8_lossy(&bytes[..count]).replace('\n', " "));
            }
        });
        Self { log, _task: task }
    }

    fn count(&self, words: &str) -> usize {
        self.log.count(&[words])
    }

    async fn told(&self, words: &str, times: usize) {
        wait_until(&format!("{words}, {times} times"), SOON, || self.count(words) >= times).await;
    }

    /// The messages, without what comes by the clock.
    fn order(&self) -> Vec<String> {
        let lines = self.log.since(0);
        let lines = lines.lines().filter(|line| !line.starts_with("WATCHDOG") && !line.starts_with("STATUS"));
        lines.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    }
}

fn start(site: &Site, watchdog: &[(&str, &str)]) -> Agent {
    let mut program = site.program();
    program.arg("run").arg("-c").arg(site.path("agent.toml"));
    program.env("NOTIFY_SOCKET", site.path("notify")).envs(watchdog.iter().copied());
    site.start_command(program)
}

fn hang_up(agent: &Agent) {
    kill_process(Pid::from_raw(agent.pid()).expect("it runs"), Signal::HUP).expect("SIGHUP");
}

#[tokio::test]
async fn the_manager_is_told_in_order() {
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let manager = Manager::start(&site);
    let agent = start(&site, &[("WATCHDOG_USEC", "400000")]);
    manager.told("READY=1", 1).await;
    // Ready means that it can be asked.
    site.outcome(&["status"]).await.expect_code(0);
    manager.told("WATCHDOG=1", 3).await;
    manager.told("STATUS=1 of 1 sources running, not connected to", 1).await;

    hang_up(&agent);
    manager.told("READY=1", 2).await;
    let time = manager.log.line_with(0, &["RELOADING=1 MONOTONIC_USEC="]).expect("when it began");
    assert!(time.rsplit('=').next().and_then(|time| time.parse::<u64>().ok()) > Some(0), "{time}");

    site.write("agent.toml", config(NOWHERE, "nonsense = 1\n"));
    manager.told("STATUS=the new configuration is not used", 1).await;
    let signs = manager.count("WATCHDOG=1");
    manager.told("WATCHDOG=1", signs + 2).await;
    agent.stop().await;
    manager.told("STOPPING=1", 1).await;
    let order = manager.order();
    assert_eq!(order, ["READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]);
}

/// The watchdog that is another process's is not ours; without one there is no sign.
#[tokio::test]
async fn no_sign_where_nobody_waits_for_one() {
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let manager = Manager::start(&site);
    let agent = start(&site, &[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")]);
    manager.told("READY=1", 1).await;
    site.status_until(|status| status["sources"][0]["polls"].as_u64() > Some(10)).await;
    agent.stop().await;
    manager.told("STOPPING=1", 1).await;
    assert_eq!(manager.count("WATCHDOG"), 0);
}

/// F-40: SIGHUP as soon as the process can be asked for anything at all, again and again, and it neither dies nor forgets.
#[tokio::test]
async fn f40_sighup_from_the_first_instant_on() {
    const HUP_BIT: u64 = 1;
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let agent = site.start();
    // The program's first act; before it the system's own rule holds, for every program.
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & HUP_BIT != 0)
    };
    wait_until("the handlers stand", SOON, caught).await;
    assert!(!agent.has_said(&["data in"]), "it was caught before anything else was done");
    for _ in 0..5 {
        hang_up(&agent);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    agent.says(&["configuration read", "1 source kept"]).await;
    agent.stop().await;
}

/// A disk that hangs: the log's thread hangs in it, the manager is given no sign any more, and the log says why; when the disk
/// is back, everything goes on.
#[tokio::test]
async fn a_log_that_hangs_in_its_disk_is_no_life() {
    let site = Site::new(&config(NOWHERE, &format!("[buffer]\nmax_size = \"1MiB\"\n\n{STEADY}")), &["steady"]);
    let Some(_mount) = disk::ext4(&site) else { return };
    let data = site.path("data").display().to_string();
    let manager = Manager::start(&site);
    let agent = start(&site, &[("WATCHDOG_USEC", "2000000")]);
    manager.told("WATCHDOG=1", 3).await;
    /// Thawed whatever the test comes to: nothing that writes there could end otherwise.
    struct Frozen(String);
    impl Drop for Frozen {
        fn drop(&mut self) {
            mount::run("fsfreeze", &["--unfreeze", &self.0]);
        }
    }
    assert!(mount::run("fsfreeze", &["--freeze", &data]), "fsfreeze of util-linux");
    let frozen = Frozen(data);
    agent.says(&["the buffer does not answer", "no sign of life"]).await;
    let signs = manager.count("WATCHDOG=1");
    // The agent itself lives: it can be asked, and says so to whoever does.
    site.outcome(&["status"]).await.expect_code(0);
    pass(Duration::from_secs(3)).await;
    assert_eq!(manager.count("WATCHDOG=1"), signs, "no sign while it hangs");
    drop(frozen);
    agent.says(&["the buffer answers again"]).await;
    manager.told("WATCHDOG=1", signs + 2).await;
    assert_eq!(agent.said().matches("does not answer").count(), 1, "said once: {}", agent.said());
    agent.stop().await;
}

/// A journal of its own, in a mount namespace of its own: what the agent logs comes there with its fields.
#[tokio::test]
async fn a_real_journal_takes_the_fields() {
    const JOURNALD: &str = "/lib/systemd/systemd-journald";
    const SCRIPT: &str = r#"
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal || exit 1
"$1" & journald=$!
until [ -S /run/systemd/journal/stdout ]; do sleep 0.1; done
# As systemd tells a service which stream the journal is at the other end of.
systemd-cat sh -c 'JOURNAL_STREAM=$(stat -Lc %d:%i /dev/stderr) exec "$0" run -c "$1"' "$2" "$3" & agent=$!
n=0
until journalctl --no-pager --output=cat --identifier=outstation 2>/dev/null | grep -q 'running steady'; do
    n=$((n + 1)); [ $n -lt 300 ] || break; sleep 0.1
done
kill -TERM $agent; wait $agent
until journalctl --no-pager --output=cat --identifier=outstation | grep -q '^stopped, '; do
    n=$((n + 1)); [ $n -lt 300 ] || break; sleep 0.1
done
journalctl --no-pager --output=json --identifier=outstation
kill -TERM $journald; wait $journald
"#;
    let has = |path: &str| std::path::Path::new(path).exists();
    if !has(JOURNALD) || !has("/usr/bin/systemd-cat") || !rustix::process::geteuid().is_root() {
        eprintln!("NOT TRIED: the fields of a real journal (it takes root and systemd's journald)");
        return;
    }
    let site = Site::new(&config(NOWHERE, STEADY), &["steady"]);
    let mut program = site.program_at(std::path::Path::new("unshare"));
    program.args(["--mount", "sh", "-c", SCRIPT, "sh", JOURNALD, env!("CARGO_BIN_EXE_outstation")]);
    program.arg(site.path("agent.toml"));
    let outcome = outcome_of(program).await;
    let entries: Vec<serde_json::Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect();
    let running =
        entries.iter().find(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.contains("running steady")));
    let running = running.unwrap_or_else(|| panic!("no such entry: {outcome:?}"));
    assert_eq!([&running["SOURCE"], &running["PRIORITY"]], ["steady", "6"], "{running}");
    assert_eq!(running["SYSLOG_IDENTIFIER"], "outstation");
    assert_eq!(running["_COMM"], "outstation", "the journal knows who it was");
    let stopped =
        entries.iter().any(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.starts_with("stopped, ")));
    assert!(stopped, "{outcome:?}");
    assert!(!outcome.stdout.contains("\\u001b"), "no colours");
}
