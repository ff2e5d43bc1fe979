//! The configuration and the plugins change while the agent runs: what did not change misses nothing.

use crate::harness::real_device::{Make, RealDevice, SerialLine};
use crate::harness::{
    Agent, Broker, Checker, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, plugins, wait_until,
};
use crate::isolation::assert_unbroken;

const SECOND: &str = "[source.second]\nplugin = \"steady\"\nevery = \"100ms\"\n";
const SECOND_TOPIC: &str = "outstation/press-7/second";

struct Stand {
    broker: Broker,
    checker: Checker,
    site: Site,
    agent: Agent,
}

/// A healthy source runs.
async fn stand() -> Stand {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    Stand { broker, checker, site, agent }
}

impl Stand {
    fn configure(&self, rest: &str) {
        // As an editor saves: by rename (F-41).
        self.site.write("agent.toml.new", config(&self.broker.url(), &format!("{STEADY}\n{rest}")));
        std::fs::rename(self.site.path("agent.toml.new"), self.site.path("agent.toml")).unwrap();
    }

    async fn more_steady(&self) {
        self.checker.wait_more(STEADY_TOPIC, 10).await;
    }

    /// Ends it: nothing is missing, and the healthy source was never started again.
    async fn end(self) {
        assert_unbroken(&self.stopped().await);
    }

    /// Ends it: nothing is missing.
    async fn stopped(self) -> Checker {
        self.more_steady().await;
        self.agent.stop().await;
        self.checker.wait_state(STATUS_TOPIC, "stopped").await;
        self.checker.assert_kept();
        self.checker
    }
}

/// F-39: a source comes and goes; another one learns nothing of it, and the connection stays.
#[tokio::test]
async fn sources_are_added_and_removed() {
    let stand = stand().await;
    for _ in 0..3 {
        let so_far = stand.checker.count(SECOND_TOPIC);
        stand.configure(SECOND);
        stand.checker.wait_count(SECOND_TOPIC, so_far + 5, SOON).await;
        stand.configure("");
        stand.site.status_until(|status| status["sources"].as_array().is_some_and(|sources| sources.len() == 1)).await;
    }
    wait_until("its meta is taken off the broker", SOON, || {
        stand.checker.of(&format!("{SECOND_TOPIC}/meta")).last().is_some_and(|message| message.payload.is_empty())
    })
    .await;
    assert_eq!(stand.broker.connects("press-7", &[]), 1, "one connection");
    stand.end().await;
}

/// F-39: a configuration with errors changes nothing and is said, in the log and in `status`, until it is right.
#[tokio::test]
async fn a_wrong_configuration_changes_nothing() {
    let stand = stand().await;
    for (wrong, said) in [
        ("nonsense = 1", "unknown key"),
        ("[source.x]\nplugin = \"absent\"\nevery = \"1s\"\n", "there is no plugin \"absent\""),
        ("[source.x", "agent.toml"),
        ("[agent]\n", "agent.toml"),
    ] {
        stand.configure(wrong);
        let status = stand.site.status_until(|status| status["config"]["valid"] == false).await;
        assert!(status["config"]["errors"].to_string().contains(&said.replace('"', "\\\"")), "{status}");
        stand.configure("");
        stand.site.status_until(|status| status["config"]["valid"] == true).await;
    }
    stand.end().await;
}

/// SIGHUP and `outstation reload` read the configuration too, and say what it came to.
#[tokio::test]
async fn a_reload_is_asked_for() {
    let stand = stand().await;
    let outcome = stand.site.outcome(&["reload"]).await;
    outcome.expect_code(0);
    assert!(outcome.stdout.contains("1 source kept, connection kept"), "{outcome:?}");
    let said = stand.agent.said().matches("configuration read").count();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(stand.agent.pid()).unwrap(),
        rustix::process::Signal::HUP,
    )
    .unwrap();
    wait_until("SIGHUP is a reload", SOON, || stand.agent.said().matches("configuration read").count() > said).await;
    stand.end().await;
}

/// F-39: the way to the broker changes; nothing is lost on the way.
#[tokio::test]
async fn the_connection_changes_and_nothing_is_lost() {
    let stand = stand().await;
    for keep_alive in ["10s", "20s", "30s"] {
        let text =
            config(&stand.broker.url(), STEADY).replace("[mqtt]", &format!("[mqtt]\nkeep_alive = \"{keep_alive}\""));
        stand.site.write("agent.toml", text);
        stand.agent.says(&["connection made anew"]).await;
        stand.more_steady().await;
    }
    stand.end().await;
}

/// The buffer's limits hold from then on: less room, at once, and more.
#[tokio::test]
async fn the_buffer_gets_other_limits() {
    let stand = stand().await;
    for (size, bytes) in [("1MiB", 1 << 20), ("64MiB", 64 << 20), ("2MiB", 2 << 20)] {
        stand.configure(&format!("[buffer]\nmax_size = \"{size}\"\nsync = \"always\"\nwhen_full = \"drop-newest\"\n"));
        let status = stand.site.status_until(|status| status["buffer"]["max_bytes"] == bytes).await;
        assert!(status["buffer"]["bytes"].as_u64() <= Some(bytes), "{status}");
        assert_eq!((&status["config"]["valid"], &status["boot"]), (&true.into(), &1.into()));
        stand.more_steady().await;
    }
    stand.end().await;
}

/// What can't change while the agent runs is refused, and nothing else of that configuration is used either.
#[tokio::test]
async fn what_cannot_change_is_refused_whole() {
    let stand = stand().await;
    let other = stand.site.path("elsewhere");
    let moved = config(&stand.broker.url(), &format!("{STEADY}{SECOND}"));
    let moved = moved.replacen("[agent]", &format!("[agent]\ndata_dir = \"{}\"", other.display()), 1);
    stand.site.write("agent.toml", moved);
    let status = stand.site.status_until(|status| status["config"]["valid"] == false).await;
    assert!(status["config"]["errors"].to_string().contains("can't change while the agent runs"), "{status}");
    assert_eq!(status["sources"].as_array().unwrap().len(), 1);
    stand.configure("");
    stand.end().await;
}

/// A plugin's file is replaced: the new one is tried beside the old one and takes over between two polls; one that
/// does not work leaves the old one running. F-43, F-45.
#[tokio::test]
async fn a_plugin_is_replaced_while_it_is_polled() {
    let stand = stand().await;
    let folder = stand.site.path("plugins");
    let said = |words: &str| stand.agent.said().matches(words).count();
    let swapped = || said("running steady");
    let good = std::fs::read(folder.join("steady.wasm")).unwrap();
    for (count, bad) in [&good[..good.len() / 2], b"no component"].into_iter().enumerate() {
        std::fs::write(folder.join("steady.wasm.new"), bad).unwrap();
        std::fs::rename(folder.join("steady.wasm.new"), folder.join("steady.wasm")).unwrap();
        wait_until("the bad one is refused", SOON, || said("the old one goes on") > count).await;
        stand.more_steady().await;
    }
    let before = swapped();
    plugins::install("steady", &folder);
    wait_until("the new one takes over", SOON, || swapped() > before).await;
    // Each counts its own polls: the old one's went on to the end, and the new one's begin behind its trial.
    let checker = stand.stopped().await;
    let counts: Vec<u64> =
        checker.of(STEADY_TOPIC).iter().map(|message| message.json["values"]["count"].as_u64().unwrap()).collect();
    let new = counts.windows(2).position(|pair| pair[1] <= pair[0]).expect("the new one begins") + 1;
    assert!(counts[..new].iter().copied().eq(1..=u64::try_from(new).unwrap()), "{counts:?}");
    assert!(counts[new..].iter().copied().eq((2..).take(counts.len() - new)), "{counts:?}");
}

/// F-39: a serial line is handed over, to another bus of the same line and to another source; no value is bad or missing.
#[tokio::test]
async fn a_serial_line_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let line = SerialLine::plug(folder.path()).await;
    let Some(_device) = RealDevice::serial(Make::Libmodbus, &line).await else { return };
    let stand = stand().await;
    plugins::install("modbus", &stand.site.path("plugins"));
    for (round, (bus, source)) in [("a", "m1"), ("a", "m1"), ("b", "m1"), ("b", "m2"), ("a", "m1")].iter().enumerate() {
        let topic = format!("outstation/press-7/{source}");
        let so_far = stand.checker.count(&topic);
        let timeout = 5 + round;
        stand.configure(&format!(
            "[bus.{bus}]\nurl = \"{}\"\ntimeout = \"{timeout}s\"\n\
             [source.{source}]\nplugin = \"modbus\"\nevery = \"100ms\"\nallow.modbus.{bus} = true\n\
             [source.{source}.config]\nbus = \"{bus}\"\nunit = 7\npoints = [{{ name = \"n\", address = \"holding:1\" }}]\n",
            line.url()
        ));
        let read = |said: &str| said.matches("configuration read").count() > round;
        wait_until("the configuration is read", SOON, || read(&stand.agent.said())).await;
        stand.checker.wait_count(&topic, so_far + 10, SOON).await;
    }
    let checker = stand.stopped().await;
    assert_unbroken(&checker);
    for topic in ["outstation/press-7/m1", "outstation/press-7/m2"] {
        let messages = checker.of(topic);
        let wrong =
            messages.iter().find(|message| message.json["values"]["n"] != 7001 || !message.json["bad"].is_null());
        assert!(wrong.is_none(), "{topic}: {}", wrong.unwrap().json);
    }
}
