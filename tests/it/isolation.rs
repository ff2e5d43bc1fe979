//! A fault stays where it happened: a plugin that is ill leaves the others as they were.
//!
//! Nothing here depends on how fast the machine is. That an ill plugin holds nobody up is shown by what the healthy one
//! brought *while* the other one spun; the figures (slots missed, jitter) are a benchmark's.

use std::time::Duration;

use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;

use crate::harness::{Broker, Checker, SOON, STEADY, STEADY_TOPIC, Site, config, wait_until};

/// What a plugin that spins may take: long against any pause that a busy machine makes.
const SPIN_MS: i64 = 3_000;
/// Of the 30 polls that a source with 100 ms has in that time: so many at least. One that was held up has none.
const MEANWHILE_MIN: usize = 5;

/// The time of a message's readings, in milliseconds.
fn time_ms(json: &serde_json::Value) -> i64 {
    let time: Option<Timestamp> = json["time"].as_str().and_then(|text| text.parse().ok());
    time.expect("a time").as_millisecond()
}

/// Every poll of the healthy source came, in order, all of one instance: it was never started again, and nothing of
/// it is missing or bad. A slot that the machine was too slow for shows nowhere here: that is the schedule's. Nor does
/// what QoS 1 brings twice.
#[track_caller]
pub fn assert_unbroken(checker: &Checker) {
    let mut messages = checker.of(STEADY_TOPIC);
    let mut seen = std::collections::BTreeSet::new();
    messages.retain(|message| seen.insert((message.json["boot"].to_string(), message.json["seq"].as_u64())));
    let counts: Vec<Option<u64>> = messages.iter().map(|message| message.json["values"]["count"].as_u64()).collect();
    let broken = (1..).zip(&counts).find(|(expected, count)| **count != Some(*expected));
    assert_eq!(broken, None, "(expected, found) among {}", counts.len());
}

/// The healthy source brought readings in the last [`SPIN_MS`] before that failure, all of which the other one spun.
#[track_caller]
fn assert_polled_meanwhile(checker: &Checker, failure: &serde_json::Value) {
    let end = time_ms(failure);
    let meanwhile = checker
        .of(STEADY_TOPIC)
        .iter()
        .filter(|message| (end - SPIN_MS..end).contains(&time_ms(&message.json)))
        .count();
    assert!(meanwhile >= MEANWHILE_MIN, "{meanwhile} polls while another source spun for {SPIN_MS} ms");
}

/// It is healthy still: what is wrong shows only when something comes after it.
async fn steady_goes_on(checker: &Checker) {
    checker.wait_more(STEADY_TOPIC, 10).await;
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
    checker.kept_to_the_end_of(agent).await;
    assert_unbroken(&checker);
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
    let (checker, failures) = beside("spin", &format!("limits = {{ time = \"{SPIN_MS}ms\" }}")).await;
    assert_names_all_points(&checker, &failures);
    assert_polled_meanwhile(&checker, &failures[0]);
}

/// F-44: more plugins that spin at once than there are cores.
#[tokio::test]
async fn several_plugins_that_spin() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let one =
        |n| format!("[source.ill-{n}]\nplugin = \"spin\"\nevery = \"200ms\"\nlimits = {{ time = \"{SPIN_MS}ms\" }}\n");
    let ill: String = (0..4).map(one).collect();
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}\n{ill}")), &["steady", "spin"]);
    let agent = site.start();
    wait_until("each of them is ended", Duration::from_secs(120), || {
        (0..4).all(|n| !failures(&checker, &format!("ill-{n}")).is_empty())
    })
    .await;
    steady_goes_on(&checker).await;
    checker.kept_to_the_end_of(agent).await;
    assert_unbroken(&checker);
    for n in 0..4 {
        assert_polled_meanwhile(&checker, &failures(&checker, &format!("ill-{n}"))[0]);
    }
}

/// F-44: nobody reads what the agent logs, and plugins log as much as they may: the pipe is full, and all go on.
#[tokio::test]
async fn a_log_that_nobody_reads() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let flood = |n| format!("[source.a-name-that-makes-its-lines-longer-{n}]\nplugin = \"flood\"\nevery = \"100ms\"\n");
    let floods: String = (0..10).map(flood).collect();
    let site = Site::new(&config(&broker.url(), &format!("{STEADY}{floods}")), &["steady", "flood"]);
    let mut command = site.program();
    command.arg("run").arg("-c").arg(site.path("agent.toml"));
    let mut agent = command.spawn().expect("start the agent");
    let stderr = agent.stderr.take().expect("its stderr").into_owned_fd().expect("a pipe");
    // 64 KiB fit into it, but for the last line.
    wait_until("the pipe is full", 4 * SOON, || {
        rustix::io::ioctl_fionread(&stderr).is_ok_and(|bytes| bytes > (64 << 10) - 4096)
    })
    .await;
    checker.wait_more(STEADY_TOPIC, 100).await;
    // Who reads again is told that something is missing.
    let mut log = String::new();
    let mut stderr = tokio::net::unix::pipe::Receiver::from_owned_fd(stderr).expect("a pipe");
    let mut some = [0; 4096];
    while !log.contains("log lines were dropped") {
        let read = tokio::time::timeout(SOON, stderr.read(&mut some)).await.expect("it says so").expect("text");
        log.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    agent.kill().await.expect("end it");
    checker.assert_kept();
    assert_unbroken(&checker);
}
