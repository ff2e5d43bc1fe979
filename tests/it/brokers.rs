//! Other brokers than mosquitto: each through a cut line and restarts with and without its memory; nothing is missing.
//! What was seen of them stands in docs/brokers.md.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::net::GATE_PORT;
use crate::harness::others::{Kind, Other};
use crate::harness::{Checker, Gate, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass};

/// As long as a broker may take until all is there again; some of them are slow, and so is a machine that tests.
const PATIENCE: Duration = Duration::from_secs(120);
/// A source whose readings go out at QoS 2.
const FIRM: &str = "[source.firm]\nplugin = \"steady\"\nevery = \"100ms\"\nqos = 2\n";
const FIRM_TOPIC: &str = "outstation/press-7/firm";

/// What a run came to.
struct Run {
    site: Site,
    version: String,
}

/// A broker, an agent behind a gate, and who checks.
struct Trial {
    broker: Other,
    gate: Gate,
    checker: Checker,
    topics: Vec<&'static str>,
}

impl Trial {
    async fn more(&self, count: usize) {
        let so_far: Vec<usize> = self.topics.iter().map(|topic| self.checker.count(topic)).collect();
        for (topic, so_far) in self.topics.iter().zip(so_far) {
            self.checker.wait_count(topic, so_far + count, PATIENCE).await;
        }
    }

    /// The line is cut, the broker ends and comes back, with its memory or without; who checks is there first.
    async fn restart(&mut self, with_state: bool) {
        self.gate.shut().await;
        // What the broker took and would lose with its memory is not the agent's.
        self.checker.has_all_of(self.broker.address()).await;
        let subscribed = self.checker.subscribed();
        self.broker.down().await;
        if !with_state {
            self.broker.wipe();
        }
        pass(Duration::from_secs(1)).await;
        self.broker.up().await;
        self.checker.subscribed_again(subscribed).await;
        self.gate.open().await;
    }
}

/// The whole way with one broker. `None`: it is not installed, which was said.
async fn lives_with(kind: Kind, keys: &str, exactly_once: bool, keeps_state: bool) -> Option<Run> {
    let mut broker = Other::new(kind)?;
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::new(SocketAddr::from((broker.address().ip(), GATE_PORT)), broker.address());
    gate.open().await;
    let firm = if exactly_once { FIRM } else { "" };
    let site = Site::new(&config(&gate.url(), &format!("{keys}\n{STEADY}\n{firm}")), &["steady"]);
    let agent = site.start();
    let topics = if exactly_once { vec![STEADY_TOPIC, FIRM_TOPIC] } else { vec![STEADY_TOPIC] };
    let mut trial = Trial { broker, gate, checker, topics };
    trial.more(10).await;

    trial.gate.shut().await;
    pass(Duration::from_secs(1)).await;
    trial.gate.open().await;
    trial.more(20).await;

    if keeps_state {
        trial.restart(true).await;
        trial.more(20).await;
    }
    trial.restart(false).await;
    trial.more(20).await;

    let status = site.status().await;
    assert_eq!(status["mqtt"]["state"], "connected");
    let version = status["mqtt"]["version"].as_str().expect("a version").to_owned();
    for topic in [STATUS_TOPIC, "outstation/press-7/steady/meta"] {
        crate::harness::checker::retained_on(trial.broker.address(), topic).await;
    }
    agent.stop().await;
    trial.checker.wait_state(STATUS_TOPIC, "stopped").await;
    trial.checker.assert_kept();
    Some(Run { site, version })
}

/// F-27: it hangs up on version 5, and answers QoS 2 by PUBACK: both are said.
#[tokio::test]
async fn rabbitmq() {
    let Some(run) = lives_with(Kind::Rabbitmq, "", true, true).await else { return };
    assert_eq!(run.version, "3.1.1");
    assert_eq!(run.site.log.count(&["refuses MQTT 5", "3.1.1"]), 1);
    assert_eq!(run.site.log.count(&["answers QoS 2 with PUBACK"]), 1);
}

/// F-27: CONNACK 0x84 to version 5.
#[tokio::test]
async fn nats() {
    let Some(run) = lives_with(Kind::Nats, "", false, true).await else { return };
    assert_eq!(run.version, "3.1.1");
    assert_eq!(run.site.log.count(&["refuses MQTT 5", "3.1.1"]), 1);
}

/// F-27: CONNACK 0x84 to version 5. It has no memory beyond its life.
#[tokio::test]
async fn aedes() {
    let Some(run) = lives_with(Kind::Aedes, "", true, false).await else { return };
    assert_eq!(run.version, "3.1.1");
    assert_eq!(run.site.log.count(&["refuses MQTT 5", "3.1.1"]), 1);
}

/// F-27: to version 5 it says nothing at all, so that it has to be told; it has no memory beyond its life.
#[tokio::test]
async fn amqtt() {
    let Some(run) = lives_with(Kind::Amqtt, "version = \"3.1.1\"", true, false).await else { return };
    assert_eq!(run.version, "3.1.1");
}
