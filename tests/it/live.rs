//! `check --live`: what answers and what does not, and a running agent notices nothing of it.

use serde_json::Value;

use crate::harness::{Broker, Checker, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until};

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

    let so_far = checker.count(STEADY_TOPIC);
    checker.wait_count(STEADY_TOPIC, so_far + 10, SOON).await;
    assert_eq!(broker.connects("press-7", &[]), 1, "the agent's own connection stands");
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
    let strange = checker.look(|seen| seen.messages.iter().find(|message| message.topic.contains("check")).cloned());
    assert!(strange.is_none(), "the trial published: {strange:?}");
}

/// What does not answer is said, each with what to do; the exit status is 1, for the configuration is right.
#[tokio::test]
async fn what_does_not_answer_is_said() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a device that listens");
    let port = listener.local_addr().expect("its address").port();
    let rest = format!(
        "{STEADY}\nallow.gpio = [\"gpiochip99:4\"]\n[bus.there]\nurl = \"tcp://127.0.0.1:{port}\"\n\
         [bus.gone]\nurl = \"tcp://127.0.0.1:1\"\n[bus.serial]\nurl = \"rtu:///dev/nowhere0\"\n"
    );
    let site = Site::new(&config("mqtt://127.0.0.1:1", &rest), &["steady"]);
    let rungs = ladder(&site, 1).await;
    let state = |name: &str| {
        let found = rungs.iter().find(|rung| rung["name"].as_str().is_some_and(|text| text.contains(name)));
        let found = found.unwrap_or_else(|| panic!("no {name} in {rungs:?}"));
        assert!(found["state"] == "ok" || found["hint"].is_string(), "what to do: {found}");
        found["state"].as_str().expect("a word").to_owned()
    };
    assert_eq!(state("there"), "ok");
    for name in ["mqtt://127.0.0.1:1", "gone", "serial", "gpiochip99:4"] {
        assert_eq!(state(name), "failed", "{name}");
    }
    let outcome = site.outcome(&["check", "--live"]).await;
    outcome.expect_code(1);
    let failed = outcome.stdout.lines().filter(|line| line.starts_with("FAIL")).count();
    assert_eq!(failed, 4, "{}", outcome.stdout);
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
