//! From a Modbus device to the broker: what is read arrives, what is not is bad with its reason, and never an old value.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::modbus_device::{Act, Device, untouched};
use crate::harness::{Agent, Broker, Checker, SOON, Site, config, wait_for, wait_until};

const TOPIC: &str = "outstation/press-7/boiler";

/// A source on unit 1 of the bus `b`.
fn boiler(url: &str) -> String {
    format!(
        r#"
[bus.b]
url = "{url}"
timeout = "500ms"
retries = 0

[source.boiler]
plugin = "modbus"
every = "100ms"
allow.modbus.b = {{ units = [1], read = ["holding:0-19"] }}

[source.boiler.config]
bus = "b"
unit = 1
points = [
  {{ name = "count", address = "holding:0", type = "u16" }},
  {{ name = "flow", address = "holding:2", type = "f32" }},
  {{ name = "secret", address = "holding:30", type = "u16" }},
]
"#
    )
}

/// Whether this tree has the plugin yet. Where its source is, a plugin that was not built fails the test.
fn has_plugin() -> bool {
    let has = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/modbus").is_dir();
    if !has {
        eprintln!("SKIPPED: there is no plugins/modbus");
    }
    has
}

struct Stand {
    _broker: Broker,
    checker: Checker,
    site: Site,
    agent: Agent,
    base: String,
}

impl Stand {
    async fn new(configuration: &str) -> Self {
        let broker = Broker::start().await;
        let checker = Checker::start(broker.address()).await;
        let base = broker.url();
        let site = Site::new(&config(&base, configuration), &["modbus"]);
        let agent = site.start();
        Self { _broker: broker, checker, site, agent, base }
    }

    /// Waits for a message after the first `from` of the topic for which `holds`; gives how many there were before it.
    async fn message(&self, topic: &str, from: usize, what: &str, holds: impl Fn(&Value) -> bool) -> usize {
        let find = || {
            let messages = self.checker.of(topic);
            let found = messages.iter().skip(from).position(|message| holds(&message.json));
            found.map(|at| from + at)
        };
        wait_for(what, SOON, find).await
    }

    async fn end(self) -> Checker {
        self.agent.stop().await;
        self.checker
    }
}

/// F-32, F-35: each point of each message is either a value that the device held, or bad with a reason.
fn assert_never_old(checker: &Checker, allowed: impl Fn(u64) -> bool) {
    for message in checker.of(TOPIC) {
        let json = &message.json;
        for point in ["count", "flow"] {
            let (value, bad) = (json["values"].get(point), json["bad"].get(point));
            assert!(value.is_some() != bad.is_some(), "{point}: {json}");
        }
        if let Some(count) = json["values"].get("count") {
            assert!(allowed(count.as_u64().unwrap()), "{json}");
        }
    }
}

#[tokio::test]
async fn what_is_read_arrives_and_what_is_not_granted_is_bad() {
    if !has_plugin() {
        return;
    }
    let device = Device::new(false);
    let (address, _serving) = device.listen().await;
    device.set(1, 2, 0x4148);
    device.set(1, 3, 0);
    let stand = Stand::new(&boiler(&format!("tcp://{address}"))).await;
    stand
        .message(TOPIC, 0, "a reading", |json| json["values"]["count"] == 1000 && json["values"]["flow"] == 12.5)
        .await;
    let status = stand.site.status_until(|status| status["sources"][0]["refused"].as_u64() > Some(0)).await;
    assert_eq!(status["buses"][0]["state"], "connected", "{status}");
    let checker = stand.end().await;
    for message in checker.of(TOPIC) {
        assert_eq!(message.json["bad"], json!({ "secret": "denied" }), "{}", message.json);
    }
    assert!(device.asked().iter().all(|asked| asked.first + asked.count <= 20), "nothing beyond the grant");
    assert_never_old(&checker, |count| count == 1000);
}

#[tokio::test]
async fn f35_a_device_that_goes_and_comes_back_never_shows_an_old_value() {
    if !has_plugin() {
        return;
    }
    let device = Device::new(false);
    let (address, serving) = device.listen().await;
    let stand = Stand::new(&boiler(&format!("tcp://{address}"))).await;
    let at = stand.message(TOPIC, 0, "a reading", |json| json["values"]["count"] == 1000).await;
    serving.abort();
    let at = stand.message(TOPIC, at, "it is gone", |json| json["bad"]["count"] == "link").await;
    let gone = stand.checker.of(TOPIC).len();
    stand.message(TOPIC, at.max(gone), "it is still gone", |json| json["bad"]["flow"] == "link").await;
    device.set(1, 0, 2222);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _serving = device.accept(listener);
    stand.message(TOPIC, gone, "it is back", |json| json["values"]["count"] == 2222).await;
    let checker = stand.end().await;
    assert_never_old(&checker, |count| count == 1000 || count == 2222);
    let counts: Vec<_> = checker.of(TOPIC).iter().filter_map(|m| m.json["values"]["count"].as_u64()).collect();
    assert!(counts.is_sorted(), "the old one after the new one: {counts:?}");
}

/// F-32 end to end: a device that is too slow, and whose answers come while the next question is open.
#[tokio::test]
async fn f32_late_answers_are_no_values() {
    if !has_plugin() {
        return;
    }
    for is_rtu in [false, true] {
        let device = Device::new(is_rtu);
        let mut number = 0;
        device.follow(move |_| {
            number += 1;
            if number % 3 == 0 { Act::Late(Duration::from_millis(700)) } else { Act::Answer }
        });
        let (address, _serving) = device.listen().await;
        let scheme = if is_rtu { "rtu+tcp" } else { "tcp" };
        let stand = Stand::new(&boiler(&format!("{scheme}://{address}"))).await;
        let at = stand.message(TOPIC, 0, "late", |json| json["bad"]["count"] == "timeout").await;
        stand.message(TOPIC, at, "in time", |json| json["values"]["count"] == 1000).await;
        let checker = stand.end().await;
        assert_never_old(&checker, |count| count == 1000);
        let flow = f64::from(f32::from_bits(u32::from(untouched(1, 2)) << 16 | u32::from(untouched(1, 3))));
        for message in checker.of(TOPIC) {
            let value = message.json["values"].get("flow").and_then(Value::as_f64);
            assert!(value.is_none_or(|value| (value - flow).abs() < flow.abs() * 1e-6), "{}", message.json);
        }
    }
}

/// F-31: one unit is dead; it is bad, and the source beside it on the same bus goes on.
#[tokio::test]
async fn f31_a_dead_unit_does_not_stop_the_one_beside_it() {
    if !has_plugin() {
        return;
    }
    let device = Device::new(false);
    device.follow(|asked| if asked.unit == 2 { Act::Silent } else { Act::Answer });
    let (address, _serving) = device.listen().await;
    let dead = r#"
[source.dead]
plugin = "modbus"
every = "100ms"
allow.modbus.b = true
[source.dead.config]
bus = "b"
unit = 2
points = [{ name = "count", address = "holding:0", type = "u16" }]
"#;
    let stand = Stand::new(&format!("{}{dead}", boiler(&format!("tcp://{address}")))).await;
    let topic = "outstation/press-7/dead";
    stand.message(topic, 0, "the dead one", |json| json["bad"]["count"] == "timeout").await;
    stand.checker.wait_more(TOPIC, 30).await;
    stand.site.status_until(|status| status["buses"][0]["units_aside"] == json!([2])).await;
    let checker = stand.end().await;
    assert!(checker.of(topic).iter().all(|message| message.json["values"].get("count").is_none()));
    let bad = checker.of(TOPIC).iter().filter(|message| message.json["bad"].get("count").is_some()).count();
    assert_eq!(bad, 0, "the living one was read each time");
}

/// A bus is configured anew: its source goes on with the other device, another bus keeps its connection.
#[tokio::test]
async fn a_changed_bus_disturbs_no_other() {
    if !has_plugin() {
        return;
    }
    let (first, second, other) = (Device::new(false), Device::new(false), Device::new(false));
    second.set(1, 0, 4444);
    let (first_address, _a) = first.listen().await;
    let (second_address, _b) = second.listen().await;
    let (other_address, _c) = other.listen().await;
    let neighbour = format!(
        r#"
[bus.c]
url = "tcp://{other_address}"
[source.neighbour]
plugin = "modbus"
every = "100ms"
allow.modbus.c = true
[source.neighbour.config]
bus = "c"
unit = 1
points = [{{ name = "count", address = "holding:0", type = "u16" }}]
"#
    );
    let with = |address| format!("{}{neighbour}", boiler(&format!("tcp://{address}")));
    let stand = Stand::new(&with(first_address)).await;
    let at = stand.message(TOPIC, 0, "the first device", |json| json["values"]["count"] == 1000).await;
    let topic = "outstation/press-7/neighbour";
    stand.checker.wait_count(topic, 3, SOON).await;
    stand.site.write("agent.toml", config(&stand.base, &with(second_address)));
    stand.message(TOPIC, at, "the second device", |json| json["values"]["count"] == 4444).await;
    stand.checker.wait_more(topic, 5).await;
    wait_until("nobody asks the first device any more", SOON, || first.connections() == 1).await;
    assert_eq!(stand.site.log.count(&["2 sources kept, buses changed: ", ", connection kept"]), 1);
    let status = stand.site.status_until(|status| status["sources"][1]["name"] == "neighbour").await;
    assert_eq!((&status["sources"][0]["restarts"], &status["sources"][1]["restarts"]), (&json!(0), &json!(0)));
    let checker = stand.end().await;
    assert_eq!(other.connections(), 1, "the other bus kept its connection");
    assert!(checker.of(topic).iter().all(|message| message.json["values"]["count"] == 1000));
    checker.assert_kept();
}
