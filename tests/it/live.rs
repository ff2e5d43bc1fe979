//! `check --live`: what answers and what does not, and a running agent notices nothing of it.

use serde_json::Value;

use crate::harness::modbus_device::{Act, Device};
use crate::harness::real_device::{Make, RealDevice, SerialLine};
use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config, wait_until};

async fn ladder(site: &Site, code: i32) -> Vec<Value> {
    let outcome = site.outcome(&["check", "--live", "--json"]).await;
    let document: Value = serde_json::from_str(&outcome.expect_code(code).stdout).expect("JSON");
    assert_eq!(document["valid"], true);
    document["live"].as_array().expect("rungs").clone()
}

fn rung<'a>(rungs: &'a [Value], what: &str) -> &'a Value {
    rungs.iter().find(|rung| rung["what"] == what).unwrap_or_else(|| panic!("no {what} in {rungs:?}"))
}

/// Everything holds, beside an agent whose connection, session and will are left alone.
#[tokio::test]
async fn a_running_agent_is_not_disturbed() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), &format!("qos = 2\n{STEADY}")), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 5, SOON).await;
    let rungs = ladder(&site, 0).await;
    assert!(rungs.iter().all(|rung| rung["state"] == "ok" && rung["time_ms"].is_u64()), "{rungs:?}");
    let said = rung(&rungs, "broker")["message"].as_str().expect("a text").to_owned();
    assert!(said.contains("takes the agent") && said.contains("MQTT 5"), "{said}");
    assert!(rung(&rungs, "plugin")["message"].as_str().expect("a text").contains("steady"));
    let tried = broker.log.line_with(0, &["New client connected", "press-7-check-"]).expect("it was tried");
    assert!(tried.contains("c1") && tried.contains("p5"), "with Clean Start: {tried}");
    let will = broker.log.line_with(0, &["will message", "press-7-check-"]);
    assert!(will.is_none(), "{will:?}");

    checker.wait_more(STEADY_TOPIC, 10).await;
    assert_eq!(broker.connects("press-7", &[]), 1, "the agent's own connection stands");
    checker.kept_to_the_end_of(agent).await;
    let strange = checker.look(|seen| seen.messages.iter().find(|message| message.topic.contains("check")).cloned());
    assert!(strange.is_none(), "the trial published: {strange:?}");
}

/// What does not answer is said, each with what to do; the exit status is 1, for the configuration is right.
#[tokio::test]
async fn what_does_not_answer_is_said() {
    let device = Device::new(false);
    device.follow(|asked| match asked.unit {
        1 => Act::Answer,
        2 => Act::Silent,
        3 => Act::Exception(2),
        _ => Act::Exception(11),
    });
    let (address, _serving) = device.listen().await;
    let rest = format!(
        "{STEADY}\nallow.gpio = [\"gpiochip99:4\"]\n\
         allow.modbus.there = {{ units = [1, 2, 3, 4], read = [\"input:30-39\"] }}\n\
         [bus.there]\nurl = \"tcp://{address}\"\ntimeout = \"250ms\"\n\
         [bus.gone]\nurl = \"tcp://127.0.0.1:1\"\n[bus.serial]\nurl = \"rtu:///dev/nowhere0\"\n"
    );
    let site = Site::new(&config("mqtt://127.0.0.1:1", &rest), &["steady"]);
    let rungs = ladder(&site, 1).await;
    let state = |name: &str| {
        let found = rungs.iter().find(|rung| rung["name"].as_str().is_some_and(|text| text.starts_with(name)));
        let found = found.unwrap_or_else(|| panic!("no {name} in {rungs:?}"));
        assert!(found["state"] == "ok" || found["hint"].is_string(), "what to do: {found}");
        found["state"].as_str().expect("a word").to_owned()
    };
    assert_eq!(["there", "there 1", "there 3"].map(state), ["ok"; 3]);
    let message = |name: &str| rungs.iter().find(|rung| rung["name"] == name).map(|rung| rung["message"].clone());
    assert_eq!(message("there 1"), Some("answers, input:30 is 1030".into()));
    assert_eq!(message("there 3"), Some("answers exception 2 to input:30".into()));
    for name in ["mqtt://127.0.0.1:1", "gone", "serial", "gpiochip99:4", "there 2", "there 4"] {
        assert_eq!(state(name), "failed", "{name}");
    }
    let outcome = site.outcome(&["check", "--live"]).await;
    outcome.expect_code(1);
    let failed = outcome.stdout.lines().filter(|line| line.starts_with("FAIL")).count();
    assert_eq!(failed, 6, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("> ") && outcome.stdout.contains(" ms)"), "{}", outcome.stdout);
    assert!(!site.path("data").exists(), "nothing of the agent's was made");
}

/// A wrong configuration is not tried.
#[tokio::test]
async fn a_wrong_configuration_is_not_tried() {
    let site = Site::new(&config("mqtt://127.0.0.1:1", "nonsense = 1\n"), &[]);
    let outcome = site.outcome(&["check", "--live"]).await;
    outcome.expect_code(78).expect_said(&["nonsense"]);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
}

/// A broker that says nothing ends with the deadline of the configuration, and says which step it was.
#[tokio::test]
async fn a_silent_broker_has_a_deadline() {
    let broker = Broker::new();
    let silence = crate::harness::net::Impostor::start(broker.address(), b"").await;
    let site = Site::new(&config(&broker.url(), &format!("connect_timeout = \"1s\"\n{STEADY}")), &["steady"]);
    let rungs = ladder(&site, 1).await;
    assert!(rung(&rungs, "broker")["message"].as_str().expect("a text").contains("CONNACK"), "{rungs:?}");
    wait_until("it was tried", SOON, || true).await;
    silence.stop().await;
}

/// A device that takes one connection, and a serial line: the agent has them, and a check does not come between.
#[tokio::test]
async fn what_the_agent_has_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = SerialLine::plug(folder.path()).await;
    let Some(_serial) = RealDevice::serial(Make::Libmodbus, &line).await else { return };
    let device = Device::new(false);
    let (address, _serving) = device.listen().await;
    let source = |name: &str, unit: u8| {
        format!(
            "[source.{name}]\nplugin = \"modbus\"\nevery = \"100ms\"\nallow.modbus.{name} = true\n[source.{name}.config]\n\
             bus = \"{name}\"\nunit = {unit}\npoints = [{{ name = \"n\", address = \"holding:1\" }}]\n"
        )
    };
    let bus = |name: &str, url: &str| format!("[bus.{name}]\nurl = \"{url}\"\ntimeout = \"5s\"\n");
    let tcp = format!("{}{}", bus("tcp", &format!("tcp://{address}")), source("tcp", 1));
    let broker = Broker::start().await;
    let site = Site::new(&config(&broker.url(), &tcp), &["modbus"]);
    // Nobody has it: it is opened, and its unit answers. (What makes the serial line has it open itself.)
    let rungs = ladder(&site, 0).await;
    let names = |rungs: &[Value]| {
        let devices = rungs.iter().filter(|rung| rung["what"] == "bus" || rung["what"] == "unit");
        devices.map(|rung| rung["name"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&rungs), ["tcp", "tcp 1"]);
    assert_eq!(device.connections(), 1);
    let serial = format!("{}{}", bus("serial", &line.url()), source("serial", 7));
    site.write("agent.toml", config(&broker.url(), &format!("{tcp}{serial}")));
    let rungs = ladder(&site, 1).await;
    let found = rungs.iter().find(|rung| rung["what"] == "bus" && rung["name"] == "serial").expect("a rung");
    assert!(found["message"].as_str().expect("a text").contains("(socat), and not opened"), "{found}");

    let agent = site.start();
    let polls = |status: &Value, source: usize| status["sources"][source]["polls"].as_u64().unwrap_or(0);
    site.status_until(|status| polls(status, 0) > 5 && polls(status, 1) > 5).await;
    let rungs = ladder(&site, 0).await;
    assert_eq!(names(&rungs), ["serial", "tcp"]);
    for rung in rungs.iter().filter(|rung| rung["what"] == "bus") {
        assert!(rung["message"].as_str().expect("a text").contains("the running agent has it"), "{rung}");
    }
    let before = site.status().await;
    let after = site.status_until(|status| polls(status, 0) > polls(&before, 0) + 5).await;
    for bus in after["buses"].as_array().expect("buses") {
        assert_eq!([&bus["connects"], &bus["errors"], &bus["timeouts"]], [1, 0, 0], "{bus}");
    }
    assert_eq!(device.connections(), 3, "two checks before it ran, and the agent's own");
    agent.stop().await;
}

/// A serial line that nobody has is opened, and its unit asked.
#[tokio::test]
async fn a_free_serial_line_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let line = SerialLine::plug_unheld(folder.path()).await;
    let Some(_device) = RealDevice::serial(Make::Pymodbus, &line).await else { return };
    let rest = format!(
        "{STEADY}\nallow.modbus.line = {{ units = [7], read = [\"holding:3-9\"] }}\n\
         [bus.line]\nurl = \"{}\"\ntimeout = \"5s\"\n",
        line.url()
    );
    let site = Site::new(&config("mqtt://127.0.0.1:1", &rest), &["steady"]);
    let rungs = ladder(&site, 1).await;
    let bus = rung(&rungs, "bus")["message"].as_str().expect("a text");
    assert!(bus.ends_with("can be reached"), "{bus}");
    assert_eq!(rung(&rungs, "unit")["message"], "answers, holding:3 is 7003");
}
