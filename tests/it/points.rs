//! Modbus from the device to the broker: the plugin, the bus that the agent owns, `check` and `probe`, against a device
//! that shares no code with them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::modbus_device::{Act, Device};
use crate::harness::{Broker, Checker, SOON, Site, config, wait_for};

const TOPIC: &str = "outstation/press-7/boiler";

/// A bus on the device, and a source with these points (the inside of a TOML list).
fn source(device: SocketAddr, grant: &str, points: &str) -> String {
    format!(
        "[bus.boiler]\nurl = \"tcp://{device}\"\ntimeout = \"2s\"\nread_gaps = 4\n\n[source.boiler]\nplugin = \"modbus\"\n\
         every = \"200ms\"\nallow.modbus.boiler = {grant}\n[source.boiler.config]\nbus = \"boiler\"\nunit = 1\n\
         points = [\n{points}\n]\n"
    )
}

/// The first message that `is_wanted`.
async fn message(checker: &Checker, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, SOON, || checker.of(TOPIC).into_iter().map(|message| message.json).find(|json| is_wanted(json)))
        .await
}

/// F-33, F-35, F-37: every kind of value arrives as what it is, and one bad register is one bad point.
#[tokio::test]
async fn points_arrive_as_they_are_meant() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let device = Device::new(false);
    for (address, value) in
        [(0, 0x0000), (1, 0x42f6), (2, 123), (3, 0xfffe), (4, 0x0008), (5, 0x5055), (6, 0x4d50), (9, 0x8000)]
    {
        device.set(1, address, value);
    }
    device.follow(|asked| match (asked.first..asked.first + asked.count).contains(&20) && asked.function == 3 {
        true => Act::Exception(2),
        false => Act::Answer,
    });
    let (address, _serving) = device.listen().await;
    let points = r#"
      { name = "flow", address = "holding:0", type = "f32", order = "CDAB", scale = 0.1, unit = "m3/h" },
      { name = "tenths", address = "40003", scale = 0.1 },
      { name = "signed", address = "holding:3", type = "i16", class = "counter" },
      { name = "bit", address = "holding:4.3" },
      { name = "text", address = "holding:5", type = "string:4" },
      { name = "none", address = "holding:9", type = "i16", no_value = 0x8000 },
      { name = "missing", address = "holding:20" },
      { name = "after", address = "holding:22" },
      { name = "pump", address = "coil:3", type = "bool" },
      { name = "other", address = "input:7", unit_id = 2 },"#;
    let site = Site::new(&config(&broker.url(), &source(address, "true", points)), &["modbus"]);
    let agent = site.start();
    let first = message(&checker, "a message", |_| true).await;
    let expected = json!({
        "flow": 12.3, "tenths": 12.3, "signed": -2, "bit": true, "text": "PUMP", "after": 1022, "pump": true, "other": 2007
    });
    assert_eq!(first["values"], expected, "{first}");
    assert_eq!(first["bad"], json!({"none": "no-value", "missing": "exception-2"}), "{first}");
    let meta = wait_for("the meta", SOON, || checker.of("outstation/press-7/boiler/meta").pop()).await.json;
    assert_eq!(meta["plugin"]["name"], "modbus");
    assert_eq!(meta["points"]["flow"], json!({"kind": "real", "class": "gauge", "unit": "m3/h"}), "{meta}");
    assert_eq!(
        (&meta["points"]["signed"]["kind"], &meta["points"]["signed"]["class"]),
        (&json!("integer"), &json!("counter"))
    );
    assert_eq!(meta["points"]["pump"]["kind"], "boolean");
    // Learnt: the bad register is left out of what is joined, and its neighbours go on.
    checker.wait_count(TOPIC, 5, SOON).await;
    assert!(checker.of(TOPIC).iter().all(|message| message.json["values"] == expected), "the others noticed nothing");
    agent.stop().await;
    checker.assert_kept();
}

/// F-35: an old value goes on being shown after the device is gone. F-36: and it comes back by itself.
#[tokio::test]
async fn a_device_that_is_gone_is_bad_at_once_and_comes_back() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let device = Device::new(false);
    let (address, _serving) = device.listen().await;
    let points = r#"{ name = "level", address = "holding:4", deadband = 1000, heartbeat = "1h" }"#;
    let site = Site::new(&config(&broker.url(), &source(address, "true", points)), &["modbus"]);
    let agent = site.start();
    message(&checker, "a value", |json| json["values"]["level"] == 1004).await;
    device.follow(|_| Act::Close);
    let gone = message(&checker, "a bad point", |json| json["bad"].get("level").is_some()).await;
    assert_eq!(gone["bad"]["level"], "link", "{gone}");
    assert_eq!(gone["values"], json!({}), "{gone}");
    device.follow(|_| Act::Answer);
    let before = checker.count(TOPIC);
    wait_for("the value again", SOON, || {
        let messages = checker.of(TOPIC);
        messages.get(before..)?.iter().find(|message| message.json["values"]["level"] == 1004).cloned()
    })
    .await;
    agent.stop().await;
    checker.assert_kept();
}

#[tokio::test]
async fn what_is_not_granted_is_denied_and_the_rest_is_read() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let device = Device::new(false);
    let (address, _serving) = device.listen().await;
    let points = r#"{ name = "ours", address = "holding:4" }, { name = "theirs", address = "holding:50" }"#;
    let grant = r#"{ units = [1], read = ["holding:0-9"] }"#;
    let site = Site::new(&config(&broker.url(), &source(address, grant, points)), &["modbus"]);
    let agent = site.start();
    let first = message(&checker, "a message", |_| true).await;
    assert_eq!((&first["values"], &first["bad"]), (&json!({"ours": 1004}), &json!({"theirs": "denied"})), "{first}");
    assert!(device.asked().iter().all(|asked| asked.first + asked.count <= 10), "it never reached the device");
    agent.stop().await;
}

#[tokio::test]
async fn check_names_file_line_and_column_of_every_wrong_point() {
    let points = r#"{ name = "flow", address = "holding:0", type = "float" },
{ name = "pump", address = "coil:3", ordr = "ABCD" },
{ name = "pump", address = "17" },"#;
    let device = "127.0.0.1:502".parse().unwrap();
    let site = Site::new(&config("mqtt://127.0.0.1", &source(device, "true", points)), &["modbus"]);
    let outcome = site.outcome(&["check"]).await;
    outcome.expect_code(78).expect_said(&["did you mean `f32`?", "unknown key `ordr`", "`17` is no Modbus address"]);
    let text = std::fs::read_to_string(site.path("agent.toml")).unwrap();
    for (wrong, message) in [("\"float\"", "no type `float`"), ("\"ABCD\"", "`ordr`"), ("\"17\"", "`17`")] {
        let (line, column) = text
            .lines()
            .enumerate()
            .find_map(|(number, line)| Some((number + 1, line.find(wrong)? + 1)))
            .unwrap_or_else(|| panic!("{wrong} stands in {text}"));
        let place = format!("agent.toml:{line}:{column}");
        assert!(outcome.stderr.contains(&place), "{message} at {place}:\n{}", outcome.stderr);
    }
}

#[tokio::test]
async fn probe_shows_every_decoding_and_what_to_paste() {
    let device = Device::new(false);
    device.set(3, 0, 0x0000);
    device.set(3, 1, 0x4148);
    let (address, _serving) = device.listen().await;
    let site = Site::new("", &["modbus"]);
    let url = format!("tcp://{address}");
    let probe = async |more: &[&str]| site.outcome(&[&["probe", "modbus", &url], more].concat()).await;
    let shown = probe(&["--unit", "3", "--read", "holding:0-1", "--read", "coil:0-1"]).await;
    shown.expect_code(0);
    for part in ["holding:1      40002   0x4148", " 12.5", "coil:1         00002   true"] {
        assert!(shown.stdout.contains(part), "{part}\n{}", shown.stdout);
    }
    // What it says to paste is a configuration that is right.
    let (_, toml) = shown.stdout.split_once("# To paste").unwrap();
    site.write("agent.toml", format!("#{toml}"));
    site.outcome(&["check"]).await.expect_code(0);
    let json = probe(&["--unit", "3", "--read", "40001-40002", "--json"]).await;
    let json: Value = serde_json::from_str(&json.expect_code(0).stdout).unwrap();
    let decodings = json["read"][0]["points"][0]["decodings"].as_array().unwrap();
    assert!(decodings.contains(&json!({"type": "f32", "order": "CDAB", "value": 12.5})), "{json}");
    probe(&["--read", "holding:9-1"]).await.expect_code(64).expect_said(&["ends before it begins"]);
    probe(&[]).await.expect_code(64).expect_said(&["--read holding:0-9"]);
    device.follow(|_| Act::Exception(2));
    probe(&["--read", "holding:0"]).await.expect_code(1).expect_said(&["exception 2", "the other table"]);
    let writes = device.asked().iter().filter(|asked| asked.function > 4).count();
    assert_eq!(writes, 0, "a look changes nothing");
}

#[tokio::test]
async fn probe_finds_the_units_of_a_line() {
    let device = Device::new(false);
    device.follow(|asked| match asked.unit {
        1 => Act::Answer,
        17 => Act::Exception(2),
        // A gateway says that nobody is there: the scan is quick.
        _ => Act::Exception(11),
    });
    let (address, _serving) = device.listen().await;
    let site = Site::new("", &[]);
    let found = site.outcome(&["probe", "modbus", &format!("tcp://{address}"), "--scan", "--json"]).await;
    let json: Value = serde_json::from_str(&found.expect_code(0).stdout).unwrap();
    assert_eq!(json["units"], json!([{"unit": 1, "exception": null}, {"unit": 17, "exception": 2}]));
    assert_eq!(device.asked().len(), 247, "each is asked once");
}
