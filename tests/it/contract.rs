//! What arrives is what the contract says, field by field.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{
    Agent, Broker, Checker, Message, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, checker, config,
};

/// A broker, a subscriber and an agent with one steady source that has delivered `messages`.
async fn running(messages: usize) -> (Broker, Checker, Site, Agent) {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, messages, SOON).await;
    (broker, checker, site, agent)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The time in `text`, which must be UTC, RFC 3339, with microseconds.
fn time(text: &Value) -> Timestamp {
    let text = text.as_str().expect("a time is a string");
    assert!(text.len() == 27 && text.ends_with('Z') && text.as_bytes().get(19) == Some(&b'.'), "{text}");
    text.parse().expect("RFC 3339")
}

fn is_recent(time: Timestamp) -> bool {
    let age = Timestamp::now().duration_since(time);
    age > SignedDuration::from_secs(-1) && age < SignedDuration::from_secs(60)
}

#[tokio::test]
async fn a_reading_has_the_fields_of_the_contract() {
    let (_broker, checker, _site, _agent) = running(10).await;
    let readings = checker.of(STEADY_TOPIC);
    for (expected_seq, Message { json, qos, retain, .. }) in (1..).zip(&readings) {
        let known = ["agent", "store", "boot", "seq", "source", "time", "clock", "values", "bad", "uncertain"];
        assert!(keys(json).iter().all(|key| known.contains(key)), "{json}");
        assert_eq!(keys(json).get(..6), known.get(..6), "{json}");
        assert_eq!((&json["agent"], &json["source"]), (&json!("press-7"), &json!("steady")));
        assert_eq!((&json["boot"], &json["seq"]), (&json!(1), &json!(expected_seq)));
        let store = json["store"].as_str().expect("a store");
        assert!(store.len() == 8 && store.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{store}");
        assert!(is_recent(time(&json["time"])), "{json}");
        assert!(json.get("clock").is_none_or(|clock| clock == "unsynced"), "{json}");
        assert!(!keys(&json["values"]).is_empty(), "{json}");
        assert_eq!((*qos, *retain), (1, false));
    }
    checker.assert_kept();
}

#[tokio::test]
async fn status_and_meta_are_kept_for_who_comes_late() {
    let (broker, checker, _site, _agent) = running(1).await;
    let kept = checker::retained(broker.address()).await;
    let topics: Vec<&str> = kept.keys().map(String::as_str).collect();
    assert_eq!(topics, [STATUS_TOPIC, "outstation/press-7/steady/meta"]);

    let status = &kept[STATUS_TOPIC].json;
    assert_eq!(keys(status), ["state", "version", "boot", "time"]);
    assert_eq!((&status["state"], &status["boot"]), (&json!("online"), &json!(1)));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_recent(time(&status["time"])), "{status}");

    let meta = &kept["outstation/press-7/steady/meta"].json;
    assert_eq!(keys(meta), ["agent", "source", "plugin", "points"]);
    assert_eq!((&meta["agent"], &meta["source"]), (&json!("press-7"), &json!("steady")));
    assert_eq!(keys(&meta["plugin"]), ["name", "version"]);
    let reading = &checker.of(STEADY_TOPIC)[0].json;
    let points = meta["points"].as_object().expect("points");
    assert!(keys(&reading["values"]).iter().all(|point| points.contains_key(*point)), "{reading} and {meta}");
    for point in points.values() {
        let kind = point["kind"].as_str().expect("a kind");
        assert!(["boolean", "integer", "unsigned", "real", "text", "bytes"].contains(&kind), "{point}");
        let class = point["class"].as_str().expect("a class");
        assert!(["gauge", "counter", "state", "event"].contains(&class), "{point}");
        assert!(point["unit"].is_string(), "{point}");
    }
}

/// "On each connection: status, metas, then readings."
#[tokio::test]
async fn a_connection_begins_with_status_and_metas() {
    let (_broker, checker, _site, _agent) = running(1).await;
    let topics: Vec<String> =
        checker.look(|seen| seen.messages.iter().take(3).map(|message| message.topic.clone()).collect());
    assert_eq!(topics, [STATUS_TOPIC, "outstation/press-7/steady/meta", STEADY_TOPIC]);
}

#[tokio::test]
async fn the_will_says_offline_when_the_agent_is_killed() {
    let (broker, checker, _site, agent) = running(1).await;
    agent.kill().await;
    checker.wait_state(STATUS_TOPIC, "offline").await;
    assert_eq!(checker::retained(broker.address()).await[STATUS_TOPIC].json["state"], "offline");
}

#[tokio::test]
async fn a_clean_stop_says_stopped() {
    let (broker, checker, _site, agent) = running(1).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    assert_eq!(checker::retained(broker.address()).await[STATUS_TOPIC].json["state"], "stopped");
    // The will stays in its drawer: what is last is `stopped`, and nothing comes behind it.
    assert!(checker.of(STATUS_TOPIC).iter().all(|message| message.json["state"] != "offline"));
    checker.assert_kept();
}

/// What the system plugin shows is what the kernel says, and what a machine lacks is absent.
#[tokio::test]
async fn the_system_plugin_shows_this_machine() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let source = "[source.host]\nplugin = \"system\"\nevery = \"500ms\"\nallow = { system = true }\n";
    let site = Site::new(&config(&broker.url(), source), &["system"]);
    let _agent = site.start();
    checker.wait_count("outstation/press-7/host", 3, SOON).await;

    let reading = checker.of("outstation/press-7/host")[2].json.clone();
    let values = &reading["values"];
    let proc = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).expect("read /proc");
    let total_kib: u64 = proc("meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("MemTotal");
    assert_eq!(values["memory.total"], total_kib * 1024, "{values}");
    let between = |point: &str, low: f64, high: f64| {
        let value = values[point].as_f64().unwrap_or_else(|| panic!("no number {point} in {values}"));
        assert!((low..=high).contains(&value), "{point} is {value}");
    };
    between("cpu", 0.0, 100.0);
    between("cpu.0", 0.0, 100.0);
    between("memory.available", 1.0, values["memory.total"].as_f64().expect("a total"));
    between("load.1", 0.0, 10_000.0);
    let uptime: f64 = proc("uptime").split_whitespace().next().and_then(|text| text.parse().ok()).expect("an uptime");
    between("uptime", uptime - 60.0, uptime + 1.0);
    between("disk.root.total", 1.0, f64::MAX);
    let counters: Vec<&String> =
        values.as_object().expect("values").keys().filter(|key| key.ends_with(".rx_bytes")).collect();
    for point in &counters {
        let name = point.strip_prefix("net.").and_then(|rest| rest.strip_suffix(".rx_bytes")).expect("net.IF.rx_bytes");
        assert!(proc("net/dev").contains(&format!("{name}:")) && values[*point].is_u64(), "{point} in {values}");
    }
    let swap = proc("swaps").lines().count() > 1;
    assert!(swap || values.get("swap.total").is_none_or(|total| *total == 0), "{values}");
    assert!(reading.get("bad").is_none(), "{reading}");

    let meta = &checker::retained(broker.address()).await["outstation/press-7/host/meta"].json;
    assert_eq!(meta["plugin"]["name"], "system");
    assert!(counters.iter().all(|point| meta["points"][*point]["class"] == "counter"), "{meta}");
    assert_eq!(meta["points"]["cpu"]["unit"], "%", "{meta}");
}
