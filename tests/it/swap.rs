//! A plugin's file is replaced: what the old one knows goes on in the new one, a bad one changes nothing, and a
//! thousand of them leave nothing behind. F-39, F-43, F-45.

use crate::harness::modbus_device::Device;
use crate::harness::plugins::{Fixture, fixtures};
use crate::harness::{Agent, Broker, Checker, SOON, STATUS_TOPIC, STEADY, Site, config, wait_until};
use crate::isolation::assert_unbroken;

const HEIR: &str = "[source.heir]\nplugin = \"heir\"\nevery = \"50ms\"\n";
const HEIR_TOPIC: &str = "outstation/press-7/heir";
/// How often the plugin is replaced; `OUTSTATION_TEST_SWAPS` says otherwise.
const SWAPS: usize = 25;
/// What the agent's memory may have grown by after that; a leaked instance alone has 256 KiB.
const GROWN_KIB_MAX: u64 = 8 << 10;

struct Stand {
    checker: Checker,
    site: Site,
    agent: Agent,
    _broker: Broker,
}

async fn stand() -> Stand {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}\n{HEIR}")), &["steady", "heir"]);
    let agent = site.start();
    checker.wait_count(HEIR_TOPIC, 5, SOON).await;
    Stand { checker, site, agent, _broker: broker }
}

impl Stand {
    fn counts(&self) -> Vec<u64> {
        let count = |message: crate::harness::Message| message.json["values"]["count"].as_u64();
        self.checker.of(HEIR_TOPIC).into_iter().map(|message| count(message).expect("a count")).collect()
    }

    /// As a package manager does it: by rename.
    fn replace(&self, fixture: &Fixture) {
        let folder = self.site.path("plugins");
        std::fs::write(folder.join("heir.wasm.new"), fixture.build()).unwrap();
        std::fs::rename(folder.join("heir.wasm.new"), folder.join("heir.wasm")).unwrap();
    }

    /// How often one began to run.
    fn running(&self) -> usize {
        self.site.log.count(&["source=heir", "running"])
    }

    async fn replaced(&self, fixture: &Fixture) {
        let before = self.running();
        self.replace(fixture);
        wait_until("the new one takes over", SOON, || self.running() > before).await;
    }

    async fn goes_on(&self) {
        self.checker.wait_more(HEIR_TOPIC, 5).await;
    }

    async fn end(self) {
        let Self { checker, agent, .. } = self;
        checker.kept_to_the_end_of(agent).await;
        assert_unbroken(&checker);
    }
}

/// The count goes on as if there had been one plugin: every poll counted once, the trials' left out.
#[tokio::test]
async fn the_new_one_goes_on_where_the_old_one_was() {
    let stand = stand().await;
    for _ in 0..3 {
        stand.replaced(&fixtures::heir_good()).await;
        stand.goes_on().await;
    }
    let counts = stand.counts();
    assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{counts:?}");
    stand.end().await;
}

/// One that does not take over what it is handed is not taken: the old one goes on, untouched.
#[tokio::test]
async fn one_that_cannot_take_over_leaves_the_old_one() {
    let stand = stand().await;
    for (bad, word) in [(fixtures::heir_refusing(), "odd-weather"), (fixtures::heir_trapping(), "trapped")] {
        let running = stand.running();
        stand.replace(&bad);
        stand.agent.says(&["does not take over", word, "the old one goes on"]).await;
        stand.goes_on().await;
        let status = stand.site.status().await;
        let heir = status["sources"].as_array().unwrap().iter().find(|source| source["name"] == "heir").unwrap();
        assert!(heir["last_error"].as_str().is_some_and(|error| error.contains(word)), "{heir}");
        assert_eq!((heir["state"].as_str(), heir["restarts"].as_u64()), (Some("running"), Some(0)));
        assert_eq!(stand.running(), running);
    }
    let counts = stand.counts();
    assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{counts:?}");
    stand.replaced(&fixtures::heir_good()).await;
    stand.end().await;
}

/// What a process holds.
#[derive(Debug)]
struct Held {
    files: usize,
    threads: usize,
    memory_kib: u64,
}

fn held(agent: &Agent) -> Held {
    let process = std::path::PathBuf::from(format!("/proc/{}", agent.pid()));
    let entries = |what: &str| std::fs::read_dir(process.join(what)).expect("the agent runs").count();
    let status = std::fs::read_to_string(process.join("status")).expect("the agent runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let memory_kib = memory.trim().trim_end_matches(" kB").trim().parse().expect("KiB");
    Held { files: entries("fd"), threads: entries("task"), memory_kib }
}

/// Swaps while both sources are polled: files, threads and memory are what they were.
#[tokio::test]
async fn many_swaps_leave_nothing_behind() {
    let stand = stand().await;
    let swaps = std::env::var("OUTSTATION_TEST_SWAPS").map_or(SWAPS, |text| text.parse().expect("a number"));
    // Two that differ, so that each swap is one; both are compiled, and what is allocated once is.
    let versions = [fixtures::heir_good(), fixtures::heir_good().with("name", "heir-2")];
    for version in versions.iter().cycle().take(6) {
        stand.replaced(version).await;
    }
    let before = held(&stand.agent);
    for version in versions.iter().cycle().take(swaps) {
        stand.replaced(version).await;
    }
    stand.goes_on().await;
    let mut after = held(&stand.agent);
    // A thread for files ends some seconds after its last work.
    wait_until("threads end", SOON, || {
        after = held(&stand.agent);
        after.threads <= before.threads + 1 && after.files <= before.files + 1
    })
    .await;
    eprintln!("{swaps} swaps: {before:?} before, {after:?} after");
    assert!(after.memory_kib <= before.memory_kib + GROWN_KIB_MAX, "{before:?} before, {after:?} after");
    let counts = stand.counts();
    assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{counts:?}");
    stand.end().await;
}

/// A plugin that is on trial writes to no device: each count is written once, by the one that works, in order, although
/// each trial tries to write one of its own.
#[tokio::test]
async fn a_trial_writes_to_no_device() {
    let device = Device::new(false);
    let (address, serving) = device.listen().await;
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let writer =
        "[source.writer]\nplugin = \"writer\"\nevery = \"100ms\"\nallow.modbus.rig = { write = [\"holding:0-9\"] }\n";
    let rest = format!("[bus.rig]\nurl = \"tcp://{address}\"\ntimeout = \"20s\"\nretries = 0\n{writer}");
    let site = Site::new(&config(&broker.url(), &rest), &["writer"]);
    let agent = site.start();
    let topic = "outstation/press-7/writer";
    checker.wait_count(topic, 3, SOON).await;
    for register in [1, 2, 3] {
        let running = site.log.count(&["source=writer", "running"]);
        site.write("plugins/writer.new", fixtures::devices::writer(register).build());
        std::fs::rename(site.path("plugins/writer.new"), site.path("plugins/writer.wasm")).unwrap();
        wait_until("it takes over", SOON, || site.log.count(&["source=writer", "running"]) > running).await;
        checker.wait_more(topic, 3).await;
    }
    // The trial's one write was refused, and counted.
    let status = site.status().await;
    assert_eq!(status["sources"][0]["refused"], 1, "{status}");
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    let written: Vec<u64> = device.asked().iter().map(|asked| u64::from(asked.count)).collect();
    assert!(written.iter().copied().eq(1..=written.len() as u64), "{written:?}");
    let registers: std::collections::BTreeSet<u16> = device.asked().iter().map(|asked| asked.first).collect();
    assert!(registers.into_iter().eq(0..=3));
    // Each reading says that its write was done.
    let levels = checker.of(topic).into_iter().map(|message| message.json["values"]["level"].clone());
    assert!(levels.into_iter().all(|level| level.as_f64() == Some(0.0)));
    serving.abort();
}
