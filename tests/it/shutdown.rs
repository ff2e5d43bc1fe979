//! SIGTERM: an end in a bounded time, and nothing lost by it.

use std::time::Duration;

use crate::harness::{Broker, Checker, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass};

/// With no broker to drain to it ends all the same, and the next life delivers.
#[tokio::test]
async fn a_stop_during_an_outage_is_bounded_and_loses_nothing() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 5, SOON).await;
    broker.down().await;
    // A few of them were on their way, and may have arrived.
    site.status_until(|status| status["buffer"]["messages"].as_u64() >= Some(20)).await;
    agent.stop().await;

    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let before = checker.look(|seen| seen.ledger.arrived());
    let agent = site.start();
    let of_boot_1 = || checker.of(STEADY_TOPIC).iter().filter(|message| message.json["boot"] == 1).count();
    crate::harness::wait_until("boot 2 delivers", SOON, || checker.look(|seen| seen.ledger.boots()) == [1, 2]).await;
    assert!(of_boot_1() >= before + 15, "{before} before the outage, {} of boot 1 after it", of_boot_1());
    checker.kept_to_the_end_of(agent).await;
}

/// What was taken up to the signal is at the broker before `stopped` is.
#[tokio::test]
async fn a_stop_drains_first() {
    let mut broker = Broker::with("max_inflight_messages 5");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    // Five messages each 100 ms: about as many as have arrived still wait when the signal comes.
    gate.latency = Duration::from_millis(50);
    gate.open().await;
    let fast = STEADY.replace("100ms", "10ms");
    let site = Site::new(&config(&gate.url(), &fast), &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 40, SOON).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    let sent = checker.of(STEADY_TOPIC).len();

    // A second life, without the long line, has nothing of the first left to deliver.
    let slow = STEADY.replace("100ms", "1h");
    site.write("agent.toml", config(&gate.url(), &slow));
    gate.shut().await;
    gate.latency = Duration::ZERO;
    gate.open().await;
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, sent + 1, SOON).await;
    checker.kept_to_the_end_of(agent).await;
    let boots: Vec<_> =
        checker.of(STEADY_TOPIC).iter().skip(sent).map(|message| message.json["boot"].clone()).collect();
    assert_eq!(boots, [2], "only what the second life took");
}

/// SIGTERM while the start still compiles or recovers ends it like any other.
#[tokio::test]
async fn a_stop_in_the_middle_of_a_start_is_clean() {
    let broker = Broker::start().await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    for wait_ms in [100, 150, 200, 300, 400] {
        let agent = site.start();
        pass(Duration::from_millis(wait_ms)).await;
        agent.terminate();
        agent.ended(crate::harness::site::STOP_MAX).await;
    }
    let checker = Checker::start(broker.address()).await;
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 3, SOON).await;
    agent.stop().await;
}
