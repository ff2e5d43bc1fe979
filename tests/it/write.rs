//! Writing to a device: from a command at the broker, under the grant, to the register, and back as an answer.

use serde_json::{Value, json};

use crate::harness::modbus_device::{Act, Device};
use crate::harness::{Broker, Checker, Commander, Extras, Site, config};

const COMMAND: &str = "outstation/press-7/command/boiler";
const REPLY: &str = "outstation/press-7/reply/boiler";

/// A source that may write a few places of unit 1.
fn boiler(url: &str) -> String {
    format!(
        r#"
[bus.b]
url = "{url}"
timeout = "5s"
write = "multiple"

[source.boiler]
plugin = "modbus"
every = "200ms"
allow.modbus.b = {{ units = [1], read = ["holding:0-99", "coil:0-9"], write = ["coil:3", "holding:10-13", "holding:20"] }}

[source.boiler.config]
bus = "b"
unit = 1
points = [
  {{ name = "pump", address = "coil:3" }},
  {{ name = "valve", address = "coil:4" }},
  {{ name = "setpoint", address = "holding:10", type = "f32", order = "CDAB", range = [0, 60] }},
  {{ name = "tenths", address = "holding:12", type = "i16", scale = 0.1, read_back = true }},
  {{ name = "bit", address = "holding:20.3" }},
  {{ name = "level", address = "input:0" }},
]
"#
    )
}

struct Stand {
    commander: Commander,
    number: std::sync::atomic::AtomicUsize,
}

impl Stand {
    /// The answer to a `write` with these arguments.
    async fn write(&self, args: Value) -> Value {
        let id = format!("w-{}", self.number.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let command = json!({ "id": id, "name": "write", "args": args });
        self.commander.send(COMMAND, &command.to_string(), Extras::default()).await;
        self.commander.answer(REPLY, &id).await.0
    }

    async fn done(&self, args: Value) -> Value {
        let answer = self.write(args).await;
        assert_eq!(answer["ok"], true, "{answer}");
        answer["result"].clone()
    }

    async fn refused(&self, args: Value, error: &str, words: &str) {
        let answer = self.write(args).await;
        assert_eq!((&answer["ok"], &answer["error"]), (&json!(false), &json!(error)), "{answer}");
        assert!(answer["message"].as_str().is_some_and(|message| message.contains(words)), "{words}: {answer}");
    }
}

#[tokio::test]
async fn a_command_writes_what_is_granted_and_nothing_else() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let commander = Commander::start(broker.address(), &["outstation/press-7/reply/#"]).await;
    let device = Device::new(false);
    let (address, _serving) = device.listen().await;
    let site = Site::new(&config(&broker.url(), &boiler(&format!("tcp://{address}"))), &["modbus"]);
    let agent = site.start();
    agent.says(&["commands are taken on outstation/press-7/command/+"]).await;
    let stand = Stand { commander, number: 1.into() };

    // A coil, with the old and the new value; 3 of unit 1 is 1003, odd.
    let result = stand.done(json!({ "point": "pump", "value": false })).await;
    assert_eq!(result, json!({ "point": "pump", "old": true, "new": false }));
    assert!(!device.coil(1, 3));
    // Two registers in one request, in the point's own order.
    let result = stand.done(json!({ "point": "setpoint", "value": 12.5 })).await;
    assert_eq!((&result["new"], [device.register(1, 10), device.register(1, 11)]), (&json!(12.5), [0x0000, 0x4148]));
    // Scaled, and read back; one bit by function 22.
    let result = stand.done(json!({ "point": "tenths", "value": -1.5 })).await;
    assert_eq!((&result["new"], device.register(1, 12)), (&json!(-1.5), 0xfff1));
    let result = stand.done(json!({ "point": "bit", "value": false })).await;
    assert_eq!(result["new"], false);
    assert_eq!(device.register(1, 20), 1020 & !(1 << 3));
    let functions: Vec<_> =
        device.asked().iter().map(|asked| asked.function).filter(|function| *function > 4).collect();
    assert_eq!(functions, [15, 16, 16, 22], "each was written once");

    // Beyond the grant, out of range, to what can't be written, to what is not there: none of it reaches the device.
    stand.refused(json!({ "point": "valve", "value": true }), "denied", "").await;
    stand.refused(json!({ "point": "setpoint", "value": 61 }), "invalid", "0 to 60").await;
    stand.refused(json!({ "point": "level", "value": 1 }), "invalid", "input:0").await;
    stand.refused(json!({ "point": "pmup", "value": true }), "invalid", "pump").await;
    stand.refused(json!({ "point": "pump", "value": 1 }), "invalid", "true or false").await;
    let writes = device.asked().iter().filter(|asked| asked.function > 4).count();
    assert_eq!(writes, 4);

    // The device refuses, or does not do what it says.
    device.follow(|asked| if asked.function == 15 { Act::Exception(4) } else { Act::Answer });
    stand.refused(json!({ "point": "pump", "value": true }), "failed", "exception 4").await;
    let reading = checker.of("outstation/press-7/boiler").into_iter().next_back().expect("a reading");
    assert_eq!(reading.json["values"]["setpoint"], 12.5, "what was written is read: {}", reading.json);
    let status = site.status().await;
    assert!(status["sources"][0]["refused"].as_u64() >= Some(1), "the refused one is counted: {status}");
    agent.stop().await;
}
