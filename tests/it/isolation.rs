//! A fault stays where it happened: a plugin that is ill leaves the others without a missed poll.

use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{Broker, Checker, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, wait_until};

/// Milliseconds between two polls of the healthy source.
const EVERY_MS: i64 = 100;

/// The times of a source's readings, in milliseconds.
pub fn times_ms(checker: &Checker, topic: &str) -> Vec<i64> {
    let time = |message: &crate::harness::Message| message.json["time"].as_str().and_then(|text| text.parse().ok());
    let times: Vec<Timestamp> = checker.of(topic).iter().map(|message| time(message).expect("a time")).collect();
    times.iter().map(|time| time.as_millisecond()).collect()
}

/// Every slot after the start has its reading: the times, cut to slots, are consecutive. A timer may fire a little
/// before its slot.
#[track_caller]
pub fn assert_no_slot_missed(times_ms: &[i64]) {
    const EARLY_MAX_MS: i64 = 10;
    let slots: Vec<i64> = times_ms.iter().skip(1).map(|time| (time + EARLY_MAX_MS).div_euclid(EVERY_MS)).collect();
    let missed: Vec<i64> = slots.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step != 1).collect();
    assert!(missed.is_empty(), "steps between slots that are not 1: {missed:?} among {}", slots.len());
}

/// What was missed shows only when something comes after it.
async fn steady_goes_on(checker: &Checker) {
    let so_far = checker.count(STEADY_TOPIC);
    checker.wait_count(STEADY_TOPIC, so_far + 10, SOON).await;
}

/// The messages of a source that say that it failed.
fn failures(checker: &Checker, source: &str) -> Vec<serde_json::Value> {
    let messages = checker.of(&format!("outstation/press-7/{source}")).into_iter().map(|message| message.json);
    messages.filter(|json| json.to_string().contains("source-failed")).collect()
}

/// Runs `ill` beside a healthy source until it has failed twice.
async fn beside(ill: &str, settings: &str) -> (Checker, Vec<serde_json::Value>) {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let rest = format!("{STEADY}\n[source.ill]\nplugin = \"{ill}\"\nevery = \"200ms\"\n{settings}\n");
    let site = Site::new(&config(&broker.url(), &rest), &["steady", ill]);
    let agent = site.start();
    wait_until("the ill source says that it failed", SOON, || !failures(&checker, "ill").is_empty()).await;
    wait_until("it fails again", SOON, || site.log.count(&["ill", "started again"]) >= 2).await;
    steady_goes_on(&checker).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
    assert_no_slot_missed(&times_ms(&checker, STEADY_TOPIC));
    let failures = failures(&checker, "ill");
    (checker, failures)
}

/// When a source dies, one message names all its points in `bad`, and no value.
fn assert_names_all_points(checker: &Checker, failures: &[serde_json::Value]) {
    let meta = checker.of("outstation/press-7/ill/meta").pop().expect("a meta").json;
    let mut points: Vec<&String> = meta["points"].as_object().expect("points").keys().collect();
    points.sort();
    for failure in failures {
        let bad = failure["bad"].as_object().expect("bad");
        let mut named: Vec<&String> = bad.keys().collect();
        named.sort();
        assert_eq!(named, points, "{failure}");
        assert!(bad.values().all(|reason| reason == "source-failed"), "{failure}");
        assert!(
            failure.get("values").is_none_or(|values| values.as_object().is_some_and(serde_json::Map::is_empty)),
            "{failure}"
        );
    }
}

/// F-43: a plugin that traps.
#[tokio::test]
async fn a_plugin_that_traps() {
    let (checker, failures) = beside("trap", "").await;
    assert_names_all_points(&checker, &failures);
}

/// F-44: a plugin that spins for ever.
#[tokio::test]
async fn a_plugin_that_spins() {
    let (checker, failures) = beside("spin", "limits = { time = \"500ms\" }").await;
    assert_names_all_points(&checker, &failures);
}

/// F-44: more plugins that spin than there are cores, each with the full time.
#[tokio::test]
async fn several_plugins_that_spin() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let ill: String = (0..4).map(|n| format!("[source.ill-{n}]\nplugin = \"spin\"\nevery = \"200ms\"\n")).collect();
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}\n{ill}")), &["steady", "spin"]);
    let agent = site.start();
    wait_until("each of them is ended", Duration::from_secs(60), || {
        (0..4).all(|n| !failures(&checker, &format!("ill-{n}")).is_empty())
    })
    .await;
    steady_goes_on(&checker).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
    assert_no_slot_missed(&times_ms(&checker, STEADY_TOPIC));
}

#[test]
fn a_missed_slot_is_seen() {
    assert_no_slot_missed(&[17, 103, 205, 304, 399, 503]);
    let missed = std::panic::catch_unwind(|| assert_no_slot_missed(&[17, 103, 205, 404, 503]));
    assert!(missed.is_err());
}
