//! How readings are published: protocol version, QoS, topics, retain.

use crate::harness::plugins::repository;
use crate::harness::{Broker, Checker, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, checker, config, wait_until};

/// Runs an agent until it has delivered ten readings; what the broker logged of its connection has these words.
async fn delivers_with(keys: &str, connection: &[&str]) {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), &format!("{keys}\n{STEADY}")), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    assert_eq!(broker.connects("press-7", connection), 1, "one connection with {connection:?}");
    checker.kept_to_the_end_of(agent).await;
}

/// mosquitto's log says p2 for 3.1.1, p5 for 5.
#[tokio::test]
async fn version_3_1_1() {
    delivers_with("version = \"3.1.1\"\nkeep_alive = \"7s\"", &["(p2, ", ", k7"]).await;
}

#[tokio::test]
async fn version_5() {
    delivers_with("version = \"5\"", &["(p5, ", ", k30"]).await;
}

#[tokio::test]
async fn version_auto_is_5_where_the_broker_speaks_it() {
    delivers_with("", &["(p5, "]).await;
}

/// A wrong password is said in the broker's own words, and never shown.
#[tokio::test]
async fn a_name_and_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let passwords = folder.path().join("passwords");
    let mut make = std::process::Command::new("mosquitto_passwd");
    let made = make.args(["-b", "-c"]).arg(&passwords).args(["press", "secret"]).output();
    assert!(made.expect("mosquitto_passwd runs").status.success());
    let mut broker = Broker::with(&format!("password_file {}", passwords.display()));
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let rest = format!("username = \"press\"\npassword_file = \"mqtt.password\"\n{STEADY}");

    let site = Site::new(&config(&broker.url(), &rest), &["steady"]);
    site.write("mqtt.password", "secret\n");
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 1, SOON).await;
    assert_eq!(broker.connects("press-7", &["u'press'"]), 1);
    agent.stop().await;

    site.write("mqtt.password", "wrong-secret\n");
    let agent = site.start();
    agent.says(&["not authorized"]).await;
    assert!(!agent.said().contains("wrong-secret"));
    agent.stop().await;
}

#[tokio::test]
async fn qos_0() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), &format!("qos = 0\n{STEADY}")), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    assert!(checker.of(STEADY_TOPIC).iter().all(|message| message.qos == 0));
    checker.assert_kept();
}

/// A source has its own QoS and retain, whatever `[mqtt]` says.
#[tokio::test]
async fn a_source_has_its_own_settings() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let rest = format!("qos = 0\n{STEADY}qos = 1\nretain = true\ntopic = \"plant/{{agent}}/{{source}}\"\n");
    let site = Site::new(&config(&broker.url(), &rest), &["steady"]);
    let agent = site.start();
    checker.wait_count("plant/press-7/steady", 5, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    assert!(checker.of("plant/press-7/steady").iter().all(|message| message.qos == 1));
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    let kept = checker::retained(broker.address()).await;
    let last = checker.of("plant/press-7/steady").last().expect("readings").json.clone();
    assert_eq!(kept["plant/press-7/steady"].json, last, "the last reading is kept");
    checker.assert_kept();
}

/// With `{point}` in the topic there is a message a point, each with a number of its own.
#[tokio::test]
async fn a_message_a_point() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let rest = "topic = \"{base}/{source}/{point}\"\n\n[source.host]\nplugin = \"system\"\nevery = \"1s\"\nallow = { system = true }\n";
    let site = Site::new(&config(&broker.url(), rest), &["system"]);
    let agent = site.start();
    checker.wait_count("outstation/press-7/host/memory.total", 2, SOON).await;
    checker.kept_to_the_end_of(agent).await;
    let messages = checker.of("outstation/press-7/host/memory.total");
    for message in &messages {
        assert_eq!(message.json["point"], "memory.total");
        assert!(message.json["value"].is_u64() && message.json.get("values").is_none(), "{}", message.json);
    }
    let (first, second) = (&messages[0].json, &messages[1].json);
    let points = checker.look(|seen| {
        let of_time = |message: &&crate::harness::Message| {
            message.json["time"] == first["time"] && message.json.get("point").is_some()
        };
        seen.messages.iter().filter(of_time).count() as u64
    });
    let step = second["seq"].as_u64().zip(first["seq"].as_u64()).map(|(second, first)| second - first);
    assert!(
        points > 5 && step.is_some_and(|step| step >= points),
        "{points} points, {step:?} numbers between two polls"
    );
}

/// Another base, another name for status, and no gaps: the templates of `[mqtt.topics]`.
#[tokio::test]
async fn topics_by_template() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let rest =
        format!("base = \"works/{{agent}}\"\n[mqtt.topics]\nstatus = \"{{base}}/alive\"\nmeta = \"\"\n\n{STEADY}");
    let site = Site::new(&config(&broker.url(), &rest), &["steady"]);
    let agent = site.start();
    checker.wait_count("works/press-7/steady", 3, SOON).await;
    agent.stop().await;
    checker.wait_state("works/press-7/alive", "stopped").await;
    let topics = checker.look(|seen| {
        let mut topics: Vec<String> = seen.messages.iter().map(|message| message.topic.clone()).collect();
        topics.sort();
        topics.dedup();
        topics
    });
    assert_eq!(topics, ["works/press-7/alive", "works/press-7/steady"]);
}

/// SCRAM-SHA-256: mosquitto says the packets, a plugin of the tests' own is the server's side.
#[tokio::test]
async fn scram_sha_256() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("scram.so");
    let source = repository().join("tests/brokers/scram_plugin.c");
    let mut cc = std::process::Command::new("cc");
    let built = cc.args(["-shared", "-fPIC", "-o"]).args([&plugin, &source]).output().expect("a C compiler");
    assert!(built.status.success(), "{built:?}");
    let shown = plugin.display();
    let lines = format!("plugin {shown}\nplugin_opt_user press\nplugin_opt_password pencil");
    let mut broker = Broker::with(&lines);
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let keys = "auth = \"scram-sha-256\"\nusername = \"press\"\npassword_file = \"mqtt.password\"\n";
    let site_with = |password: &str| {
        let site = Site::new(&config(&broker.url(), &format!("{keys}{STEADY}")), &["steady"]);
        site.write("mqtt.password", password);
        site
    };
    let site = site_with("pencils");
    let agent = site.start();
    agent.says(&["refused", "not authorized"]).await;
    agent.stop().await;
    assert_eq!(checker.count(STEADY_TOPIC), 0);
    let site = site_with("pencil");
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 10, SOON).await;
    checker.kept_to_the_end_of(agent).await;
}

/// F-27: a broker that takes one message at a time and small packets gets them so.
#[tokio::test]
async fn a_narrow_broker() {
    let mut broker = Broker::with("max_inflight_messages 1\nmax_packet_size 1024\nmax_keepalive 10");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let fast = STEADY.replace("100ms", "10ms");
    let site = Site::new(&config(&broker.url(), &fast), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 200, SOON).await;
    checker.kept_to_the_end_of(agent).await;
}

/// Two agents with one client id push each other out for ever. Neither gives up, and when one is gone nothing is missing.
#[tokio::test]
async fn a_client_id_that_is_used_twice_loses_nothing() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let settings = config(&broker.url(), STEADY);
    let first = Site::new(&settings, &["steady"]);
    let other =
        settings.replace("id = \"press-7\"", "id = \"press-8\"").replace("[mqtt]", "[mqtt]\nclient_id = \"press-7\"");
    let second = Site::new(&other, &["steady"]);
    let (first, second) = (first.start(), second.start());
    wait_until("they push each other out", SOON, || broker.log.count(&["press-7 already connected"]) >= 5).await;
    second.stop().await;
    checker.wait_more(STEADY_TOPIC, 10).await;
    first.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
}
