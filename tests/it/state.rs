//! What a plugin keeps: small durable values, in the same log as the readings.

use crate::harness::{Agent, Broker, Checker, SOON, Site, config};

const TOPIC: &str = "outstation/press-7/keeper";
const KEEPER: &str = "[source.keeper]\nplugin = \"keeper\"\nevery = \"50ms\"\n";

/// Starts it, and waits for some more of its readings.
async fn life(site: &Site, checker: &Checker) -> Agent {
    let so_far = checker.count(TOPIC);
    let agent = site.start();
    checker.wait_count(TOPIC, so_far + 5, SOON).await;
    agent
}

/// A count goes on over kill -9, a clean stop and a restart of the source: it never begins again, and no number comes twice.
/// With kill -9 one may be missing: it was kept, and its reading was not accepted yet.
#[tokio::test]
async fn a_count_goes_on_whatever_ends_the_agent() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), KEEPER), &["keeper"]);
    let mut kills = 0;
    for _ in 0..3 {
        life(&site, &checker).await.kill().await;
        kills += 1;
        life(&site, &checker).await.stop().await;
    }
    let agent = life(&site, &checker).await;
    site.write("agent.toml", config(&broker.url(), ""));
    site.status_until(|status| status["sources"].as_array().is_some_and(Vec::is_empty)).await;
    site.write("agent.toml", config(&broker.url(), KEEPER));
    checker.wait_more(TOPIC, 5).await;
    checker.kept_to_the_end_of(agent).await;
    let mut counts: Vec<(u64, u64, u64)> = Vec::new();
    for message in checker.of(TOPIC) {
        let number = |name: &str| message.json[name].as_u64().expect("a number");
        let count = message.json["values"]["count"].as_u64().expect("a count");
        counts.push((number("boot"), number("seq"), count));
    }
    // What QoS 1 brings twice is the same message.
    counts.sort_unstable();
    counts.dedup();
    let counts: Vec<u64> = counts.into_iter().map(|(.., count)| count).collect();
    assert_eq!(counts.first(), Some(&1));
    assert!(counts.windows(2).all(|pair| (1..=2).contains(&(pair[1].wrapping_sub(pair[0])))), "{counts:?}");
    let missing = counts.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(missing <= kills, "{missing} of {kills}: {counts:?}");
}
