//! kill -9 takes nothing that was accepted, and no name is used twice.

use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{Broker, Checker, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass, random};

/// How often the agent is killed.
const KILLS: u64 = 20;
/// A step of its life takes less than this.
const LIFE_MAX_MS: u64 = 500;
/// A poll comes this much after its slot at most, on a machine that is busy.
const LATE_MAX: Duration = Duration::from_millis(750);

/// The end of a life whose last readings no broker saw.
struct Death {
    boot: u64,
    /// Messages that it had accepted a moment before.
    taken: u64,
    time: Timestamp,
}

/// How many messages the running agent has accepted; the steady source makes one of two readings.
async fn taken(site: &Site) -> u64 {
    site.status().await["sources"][0]["readings"].as_u64().expect("readings") / 2
}

/// What was taken up to these deaths has arrived: as many messages as the agent itself said, and, as it might be
/// wrong, readings of the last moment before.
#[track_caller]
fn assert_kept_until(checker: &Checker, deaths: &[Death]) {
    let readings = checker.of(STEADY_TOPIC);
    for Death { boot, taken, time } in deaths {
        let last = readings
            .iter()
            .filter(|message| message.json["boot"] == *boot)
            .max_by_key(|message| message.json["seq"].as_u64());
        let last = &last.expect("a reading of that boot").json;
        assert!(last["seq"].as_u64() >= Some(*taken), "boot {boot} had taken {taken}, the last to arrive is {last}");
        let last: Timestamp = last["time"].as_str().and_then(|time| time.parse().ok()).expect("a time");
        let lost = time.duration_since(last);
        assert!(lost.unsigned_abs() < LATE_MAX, "boot {boot} lost the last {lost:?} before it was killed");
    }
}

/// The boots that the agent announced, as they came.
fn announced(checker: &Checker) -> Vec<u64> {
    let statuses = checker.of(STATUS_TOPIC);
    statuses.iter().filter_map(|status| status.json["boot"].as_u64()).collect()
}

/// F-2, F-3, F-5, F-6: at random moments: while it starts, while it delivers, while the line is cut.
#[tokio::test]
async fn killed_at_random_moments_it_misses_nothing() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.open().await;
    let fast = STEADY.replace("100ms", "50ms");
    let site = Site::new(&config(&gate.url(), &fast), &["steady"]);
    let mut deaths = Vec::new();
    for kill in 1..=KILLS {
        let agent = site.start();
        let delivers = kill % 4 != 0;
        let line_cut = kill % 4 > 1;
        if delivers {
            let so_far = checker.count(STEADY_TOPIC);
            checker.wait_count(STEADY_TOPIC, so_far + 1, SOON).await;
        }
        pass(Duration::from_millis(random() % LIFE_MAX_MS)).await;
        if line_cut {
            gate.shut().await;
            pass(LATE_MAX + Duration::from_millis(random() % LIFE_MAX_MS)).await;
        }
        let taken = if line_cut { taken(&site).await } else { 0 };
        agent.kill().await;
        if line_cut {
            let boot = *announced(&checker).last().expect("it delivered");
            deaths.push(Death { boot, taken, time: Timestamp::now() });
            gate.open().await;
        }
    }
    let agent = site.start();
    let so_far = checker.count(STEADY_TOPIC);
    checker.wait_count(STEADY_TOPIC, so_far + 20, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();

    let boots = checker.look(|seen| seen.ledger.boots());
    assert!(boots.len() as u64 > KILLS / 2, "most lives were long enough to deliver: {boots:?}");
    let announced = announced(&checker);
    assert!(announced.is_sorted(), "boots only grow: {announced:?}");
    assert_eq!(checker.look(|seen| seen.ledger.stores().len()), 1, "the data folder stays the same");
    assert_kept_until(&checker, &deaths);
}

/// F-1: what a life took without any broker, up to the moment of its death, is delivered by the next one. No flush to
/// the disk comes in between: `sync` is longer than its life.
#[tokio::test]
async fn killed_without_a_broker_it_keeps_what_it_took() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let rest = format!("{STEADY}[buffer]\nsync = \"10m\"\n");
    let site = Site::new(&config(&broker.url(), &rest), &["steady"]);
    let mut deaths = Vec::new();
    for boot in 1..=3 {
        let agent = site.start();
        agent.says(&["connection refused"]).await;
        pass(Duration::from_millis(2000 + random() % 500)).await;
        let taken = taken(&site).await;
        agent.kill().await;
        deaths.push(Death { boot, taken, time: Timestamp::now() });
    }
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 60, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    checker.assert_kept();
    assert_kept_until(&checker, &deaths);
}
