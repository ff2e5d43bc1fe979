//! The buffer has a size, and what goes is named.

use std::time::Duration;

use crate::harness::{Broker, Checker, GAPS_TOPIC, Gate, Message, SOON, Site, config, random, wait_until};

/// The topic of the source that fills the buffer.
const WIDE_TOPIC: &str = "outstation/press-7/wide";

/// Bytes of all files below `folder`.
fn bytes_below(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// F-7, F-8, F-9: a long outage, the smallest buffer. The oldest go, a gap says which, the rest is complete.
#[tokio::test]
async fn the_oldest_go_and_a_gap_says_so() {
    const MAX: u64 = 1 << 20;
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let rest = "[buffer]\nmax_size = \"1MiB\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&broker.url(), rest), &["wide"]);
    let agent = site.start();
    // Twice what the buffer holds has gone.
    let status = site.status_until(|status| status["buffer"]["dropped"].as_u64() > Some(2 * MAX / 4096)).await;
    assert_eq!(status["buffer"]["max_bytes"], MAX);
    assert!(status["buffer"]["bytes"].as_u64() <= Some(MAX), "{status}");
    assert!(bytes_below(&site.path("data/spool")) <= MAX, "all files of the buffer together");

    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    wait_until("a gap is published", SOON, || checker.count(GAPS_TOPIC) > 0).await;
    checker.wait_more(WIDE_TOPIC, 50).await;
    assert!(bytes_below(&site.path("data/spool")) <= MAX, "all files of the buffer together");
    checker.kept_to_the_end_of(agent).await;

    let gaps = checker.of(GAPS_TOPIC);
    for message in &gaps {
        let gap = &message.json["gap"];
        assert_eq!(gap["reason"], "buffer-full", "{gap}");
        // A gap that was dropped before it was delivered is among the messages, and belongs to no source.
        assert!(gap["sources"]["wide"].as_u64() <= gap["messages"].as_u64() && gap["sources"]["wide"] != 0, "{gap}");
        assert!(gap["from"].as_str() <= gap["to"].as_str() && gap["from"].is_string(), "{gap}");
        assert_eq!(message.qos, 1);
    }
    let run = |message: &Message| Some((message.json["gap"]["first"].as_u64()?, message.json["gap"]["last"].as_u64()?));
    let oldest = gaps.iter().filter_map(run).min();
    assert_eq!(oldest.map(|(first, _)| first), Some(1), "the oldest went first: {gaps:#?}");
    let first_kept = checker.of(WIDE_TOPIC).first().and_then(|message| message.json["seq"].as_u64()).expect("readings");
    // While it is drained more may go, on a machine that is busy: from behind what is on its way.
    assert!(oldest.is_some_and(|(_, last)| last < first_kept), "the oldest went: {oldest:?}, {first_kept}");
}

/// F-8: the same with `drop-newest`: what was there stays.
#[tokio::test]
async fn the_newest_go_where_that_is_asked_for() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let rest = "[buffer]\nmax_size = \"1MiB\"\nwhen_full = \"drop-newest\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&broker.url(), rest), &["wide"]);
    let agent = site.start();
    site.status_until(|status| status["buffer"]["dropped"].as_u64() > Some(100)).await;
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    wait_until("a gap is published", SOON, || checker.count(GAPS_TOPIC) > 0).await;
    checker.wait_more(WIDE_TOPIC, 50).await;
    checker.kept_to_the_end_of(agent).await;
    assert_eq!(checker.of(WIDE_TOPIC)[0].json["seq"], 1, "the oldest stayed");
}

/// A line that carries less than is taken: the buffer stays full, and what goes is never what is on its way. F-24.
#[tokio::test]
async fn what_is_on_its_way_is_never_dropped() {
    let mut broker = Broker::with("max_inflight_messages 5");
    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.latency = Duration::from_millis(50);
    let rest = "[buffer]\nmax_size = \"1MiB\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&gate.url(), rest), &["wide"]);
    let agent = site.start();
    site.status_until(|status| status["buffer"]["dropped"].as_u64() > Some(100)).await;
    gate.open().await;
    checker.wait_count(WIDE_TOPIC, 100, SOON).await;
    gate.shut().await;
    gate.latency = Duration::ZERO;
    gate.open().await;
    checker.wait_more(WIDE_TOPIC, 300).await;
    checker.kept_to_the_end_of(agent).await;
    assert!(checker.count(GAPS_TOPIC) > 0);
}

/// kill -9 while the oldest go, again and again: what went is named all the same, by whoever comes after.
#[tokio::test]
async fn killed_while_it_drops() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    broker.down().await;
    let rest = "[buffer]\nmax_size = \"1MiB\"\n\n[source.wide]\nplugin = \"wide\"\nevery = \"10ms\"\n";
    let site = Site::new(&config(&broker.url(), rest), &["wide"]);
    for _ in 0..6 {
        let agent = site.start();
        let taken = |status: &serde_json::Value| status["sources"][0]["readings"].as_u64();
        site.status_until(|status| taken(status) > Some(60 + random() % 80)).await;
        agent.kill().await;
    }
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let agent = site.start();
    wait_until("the last life delivers", SOON, || checker.look(|seen| seen.ledger.boots().last() == Some(&7))).await;
    checker.kept_to_the_end_of(agent).await;
    assert_eq!(checker.look(|seen| seen.ledger.boots()), [1, 2, 3, 4, 5, 6, 7], "every life is accounted for");
}
