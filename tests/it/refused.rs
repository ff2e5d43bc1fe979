//! What a broker does not take becomes a gap, and the rest goes on.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::harness::checker::Seen;
use crate::harness::net::free_localhost_port;
use crate::harness::tls::Authority;
use crate::harness::{
    Broker, Checker, GAPS_TOPIC, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until,
};

/// A broker with these access rules; the first that fits counts.
async fn broker_with_rules(folder: &tempfile::TempDir, rules: &str) -> Broker {
    let file = folder.path().join("rules");
    std::fs::write(&file, rules).expect("write the rules");
    let mut broker = Broker::with(&format!("acl_file {}", file.display()));
    broker.up().await;
    broker
}

/// A site with a healthy source, and one that publishes where these rules forbid it.
fn site_with_a_denied_source(broker: &Broker) -> Site {
    let denied = "[source.denied]\nplugin = \"steady\"\nevery = \"500ms\"\ntopic = \"plant/{source}\"\n";
    Site::new(&config(&broker.url(), &format!("{STEADY}\n{denied}")), &["steady"])
}

/// A second life, without the source that the broker refused, says the rest: everything has come, or is named by a gap with
/// this reason and that source.
async fn a_life_without_it_says_the_rest(site: &Site, checker: &Checker, without: &str, source: &str, reason: &str) {
    site.write("agent.toml", without);
    let agent = site.start();
    let rest_is_said = |seen: &Seen| seen.ledger.boots() == [1, 2] && seen.ledger.missing().is_empty();
    wait_until("everything came or is named", SOON, || checker.look(rest_is_said)).await;
    site.status_until(|status| status["buffer"]["messages"].as_u64() < Some(5)).await;
    checker.kept_to_the_end_of(agent).await;
    for message in checker.of(GAPS_TOPIC) {
        let gap = &message.json["gap"];
        assert_eq!(gap["reason"], reason, "{gap}");
        assert_eq!(gap["sources"][source], gap["messages"], "{gap}");
    }
}

/// F-27: a topic that the broker does not allow: each message is named by a gap, and the other source goes on. This
/// mosquitto (2.0.11) closes the connection behind each such refusal, so it is a trial of resuming as well.
#[tokio::test]
async fn a_topic_that_is_not_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = broker_with_rules(&folder, "topic deny plant/#\ntopic readwrite outstation/#\ntopic read #\n").await;
    let checker = Checker::start(broker.address()).await;
    let site = site_with_a_denied_source(&broker);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 20, SOON).await;
    wait_until("gaps name what was refused", SOON, || checker.count(GAPS_TOPIC) >= 3).await;
    agent.stop().await;

    a_life_without_it_says_the_rest(&site, &checker, &config(&broker.url(), STEADY), "denied", "rejected").await;
    assert_eq!(checker.count("plant/denied"), 0);
}

/// A gap that is refused as well makes no gap of its own, and stops nothing.
#[tokio::test]
async fn gaps_that_are_not_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let rules = "topic deny plant/#\ntopic deny outstation/press-7/gaps\ntopic readwrite outstation/#\ntopic read #\n";
    let broker = broker_with_rules(&folder, rules).await;
    let checker = Checker::start(broker.address()).await;
    let site = site_with_a_denied_source(&broker);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 50, SOON).await;
    agent.stop().await;
    assert_eq!(checker.count(GAPS_TOPIC), 0);

    site.write("agent.toml", config(&broker.url(), STEADY));
    let agent = site.start();
    site.status_until(|status| status["mqtt"]["state"] == "connected" && status["buffer"]["messages"] == 0).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.look(|seen| assert!(seen.ledger.faults().is_empty(), "{:#?}", seen.ledger.faults()));
}

/// F-27: a message that is larger than the broker says that it takes, and one that is larger than it takes without having
/// said so: that one it refuses, with a code that PUBACK must not bear, and closes.
#[tokio::test]
async fn a_message_that_is_too_large() {
    for limit in ["max_packet_size 2000", "message_size_limit 2000"] {
        let mut broker = Broker::with(limit);
        broker.up().await;
        let checker = Checker::start(broker.address()).await;
        let with = |wide: &str| config(&broker.url(), &format!("{STEADY}\n{wide}"));
        let site = Site::new(&with("[source.wide]\nplugin = \"wide\"\nevery = \"1s\"\n"), &["steady", "wide"]);
        let agent = site.start();
        wait_until("gaps name it", SOON, || checker.count(GAPS_TOPIC) >= 2).await;
        checker.wait_more(STEADY_TOPIC, 20).await;
        agent.stop().await;

        a_life_without_it_says_the_rest(&site, &checker, &with(""), "wide", "too-large").await;
    }
}

/// F-28: over 3.1.1 this broker has no words for what is too large for it, and closes the connection. What it closes
/// on is found and becomes a gap, also at QoS 2; all else arrives, and at QoS 2 once.
#[tokio::test]
async fn a_message_on_which_the_broker_closes() {
    for qos in [1, 2] {
        let mut broker = Broker::with("max_packet_size 2000");
        broker.up().await;
        let checker = Checker::start(broker.address()).await;
        let wide = "[source.wide]\nplugin = \"wide\"\nevery = \"2s\"\n";
        let with = |wide: &str| config(&broker.url(), &format!("version = \"3.1.1\"\nqos = {qos}\n{STEADY}\n{wide}"));
        let site = Site::new(&with(wide), &["steady", "wide"]);
        let agent = site.start();
        agent.says(&["closes the connection whenever message"]).await;
        wait_until("gaps name it", SOON * 2, || checker.count(GAPS_TOPIC) >= 3).await;
        agent.stop().await;

        a_life_without_it_says_the_rest(&site, &checker, &with(""), "wide", "rejected").await;
        if qos == 2 {
            assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "messages that came more than once");
        }
    }
}

/// F-28: the same over TLS, where the broker's farewell does not arrive, so that anybody may have cut the line: it is found
/// all the same, by connections that stand and answer until this message goes out.
#[tokio::test]
async fn a_message_on_which_a_line_of_tls_is_cut() {
    let authority = Authority::new("Works CA");
    let (inside, outside) = (free_localhost_port(), free_localhost_port());
    let mut broker = Broker::with_tls(&authority.sign(&["localhost"]), inside, "max_packet_size 2000");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::new((Ipv4Addr::LOCALHOST, outside).into(), (Ipv4Addr::LOCALHOST, inside).into());
    gate.latency = Duration::from_millis(20);
    gate.loses_farewells = true;
    gate.open().await;
    let keys = "version = \"3.1.1\"\nca_file = \"ca.pem\"\nkeep_alive = \"9s\"\n";
    let wide = "[source.wide]\nplugin = \"wide\"\nevery = \"1h\"\n";
    let rest = format!("{keys}{}\n{wide}", STEADY.replace("100ms", "1s"));
    let site = Site::new(&config(&format!("mqtts://localhost:{outside}"), &rest), &["steady", "wide"]);
    site.write("ca.pem", &authority.certificate);
    let agent = site.start();
    agent.says(&["the connection was cut"]).await;
    // Ten connections, each of which stands for three seconds first.
    wait_until("a gap names it", SOON * 5, || checker.count(GAPS_TOPIC) >= 1).await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    checker.kept_to_the_end_of(agent).await;
    let gap = &checker.of(GAPS_TOPIC)[0].json["gap"];
    assert_eq!((&gap["reason"], &gap["sources"]["wide"]), (&"rejected".into(), &gap["messages"]), "{gap}");
    assert!(site.log.count(&["the connection was cut"]) > 10);
}

/// F-28, the other side of it: a broker that is away, and a line that is cut again and again at the worst moment, cost no
/// message.
#[tokio::test]
async fn a_bad_line_makes_no_gap() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.latency = Duration::from_millis(200);
    gate.open().await;
    let site = Site::new(&config(&gate.url(), &format!("version = \"3.1.1\"\n{STEADY}")), &["steady"]);
    let agent = site.start();
    for cut in 1..=12 {
        // CONNACK is through, the first acknowledgement is not.
        wait_until("it connects", SOON, || site.log.count(&["connected to"]) >= cut).await;
        gate.shut().await;
        gate.open().await;
    }
    gate.shut().await;
    gate.latency = Duration::ZERO;
    gate.open().await;
    checker.wait_more(STEADY_TOPIC, 20).await;
    checker.kept_to_the_end_of(agent).await;
    assert_eq!(checker.count(GAPS_TOPIC), 0);
}
