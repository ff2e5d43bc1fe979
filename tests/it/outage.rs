//! The broker goes away and comes back: no number is missing.

use std::time::Duration;

use outstation::os::clock;

use crate::harness::{
    Broker, Checker, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass, random, wait_until,
};

/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(2);

/// The readings of an outage came as well: between one reading and the next there is never more than `most`.
fn assert_no_silence(checker: &Checker, most: Duration) {
    let times: Vec<jiff::Timestamp> = checker
        .of(STEADY_TOPIC)
        .iter()
        .map(|message| message.json["time"].as_str().and_then(|time| time.parse().ok()).expect("a time"))
        .collect();
    let longest = times.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().expect("two readings");
    assert!(longest.unsigned_abs() < most, "nothing was taken for {longest:?}");
}

/// F-2, F-3, F-9, F-18: the session is resumed, what was in flight is sent again, the backlog follows in order.
#[tokio::test]
async fn a_broker_that_stops_and_comes_back_misses_nothing() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&config(&broker.url(), STEADY), &["steady"]);
    let agent = site.start();
    for round in 1..=3 {
        checker.wait_count(STEADY_TOPIC, round * 10, SOON).await;
        broker.down().await;
        pass(OUTAGE).await;
        broker.up().await;
    }
    let so_far = checker.count(STEADY_TOPIC);
    checker.wait_count(STEADY_TOPIC, so_far + 3 * 20 + 10, SOON).await;
    checker.kept_to_the_end_of(agent).await;
    assert_no_silence(&checker, Duration::from_secs(1));
    assert_eq!(checker.look(|seen| seen.ledger.boots()), [1], "one agent all the time");
}

/// F-17: the broker has forgotten the session; what was not acknowledged is sent as new, status and metas come again.
#[tokio::test]
async fn a_broker_that_comes_back_wiped_misses_nothing() {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.open().await;
    let site = Site::new(&config(&gate.url(), STEADY), &["steady"]);
    let agent = site.start();
    for round in 1..=2 {
        checker.wait_count(STEADY_TOPIC, round * 10, SOON).await;
        let subscribed = checker.subscribed();
        gate.shut().await;
        broker.down().await;
        broker.wipe();
        broker.up().await;
        // A broker without memory drops what nobody listens to: the subscriber comes first.
        checker.subscribed_again(subscribed).await;
        pass(OUTAGE).await;
        gate.open().await;
    }
    checker.wait_more(STEADY_TOPIC, 30).await;
    let kept = crate::harness::checker::retained(broker.address()).await;
    assert_eq!(kept[STATUS_TOPIC].json["state"], "online");
    assert!(kept.contains_key("outstation/press-7/steady/meta"));
    checker.kept_to_the_end_of(agent).await;
    assert_no_silence(&checker, Duration::from_secs(1));
}

/// The agent starts first. What it took before there was any broker arrives, from the first number on.
#[tokio::test]
async fn an_agent_without_a_broker_waits_for_one() {
    let mut broker = Broker::new();
    let mut gate = Gate::before(&broker);
    let site = Site::new(&config(&gate.url(), STEADY), &["steady"]);
    let agent = site.start();
    agent.says(&["connection refused", gate.url().trim_start_matches("mqtt://")]).await;
    pass(OUTAGE).await;

    broker.up().await;
    let checker = Checker::start(broker.address()).await;
    gate.open().await;
    checker.wait_count(STEADY_TOPIC, 20, SOON).await;
    let first = checker.of(STEADY_TOPIC)[0].json.clone();
    assert_eq!((first["boot"].as_u64(), first["seq"].as_u64()), (Some(1), Some(1)));
    checker.kept_to_the_end_of(agent).await;
    assert_no_silence(&checker, Duration::from_secs(1));
}

/// F-14, F-19, F-20: the line is cut again and again, in the middle of packets too.
#[tokio::test]
async fn a_line_that_is_cut_again_and_again_misses_nothing() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    // Whenever it is cut, messages are lost on their way there, and acknowledgements on their way back.
    gate.latency = Duration::from_millis(30);
    gate.open().await;
    let fast = STEADY.replace("100ms", "10ms");
    let site = Site::new(&config(&gate.url(), &fast), &["steady"]);
    let agent = site.start();
    for _ in 0..15 {
        checker.wait_more(STEADY_TOPIC, 10).await;
        pass(Duration::from_millis(random() % 100)).await;
        gate.shut().await;
        pass(Duration::from_millis(random() % 200)).await;
        gate.open().await;
    }
    checker.wait_more(STEADY_TOPIC, 50).await;
    checker.kept_to_the_end_of(agent).await;
}

/// F-10: the last reading before a lull does not wait for the next one.
#[tokio::test]
async fn a_single_reading_goes_out_at_once() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let slow = STEADY.replace("100ms", "1h");
    let site = Site::new(&config(&broker.url(), &slow), &["steady"]);
    let _agent = site.start();
    wait_until("the reading of the start", SOON, || checker.count(STEADY_TOPIC) == 1).await;
}

/// `buffer.replay_rate`: after an outage no more goes out than the rate allows beside what is being taken; what is taken is
/// not held back by it, and all of it comes. Nothing here is too slow for a busy machine: it is an upper bound.
#[tokio::test]
async fn a_backlog_goes_out_no_faster_than_its_rate() {
    const RATE: u64 = 40;
    const BACKLOG: u64 = 300;
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    let fast = STEADY.replace("100ms", "20ms");
    let site = Site::new(&config(&gate.url(), &format!("\n[buffer]\nreplay_rate = {RATE}\n\n{fast}")), &["steady"]);
    let agent = site.start();
    let number = |status: &serde_json::Value, key: &str| status["buffer"][key].as_u64();
    let before = site.status_until(|status| number(status, "messages") >= Some(BACKLOG)).await;
    let before = number(&before, "accepted").expect("a number");
    let started = clock::now();
    gate.open().await;
    let catching_up = async {
        loop {
            // What came is counted first: what is asked afterwards has only grown.
            let came = checker.count(STEADY_TOPIC) as u64;
            let status = site.ask(serde_json::json!({ "ask": "status" })).await["value"].clone();
            let taken = number(&status, "accepted").expect("a number") - before;
            let most = taken + (clock::now().saturating_sub(started).as_secs_f64() * RATE as f64).ceil() as u64;
            assert!(came <= most, "{came} came, {most} at the most: {taken} were taken meanwhile");
            // What is in flight is no backlog any more.
            if came > BACKLOG && number(&status, "messages") < Some(BACKLOG / 10) {
                return;
            }
        }
    };
    tokio::time::timeout(4 * SOON, catching_up).await.expect("all of it comes");
    checker.kept_to_the_end_of(agent).await;
    assert_no_silence(&checker, Duration::from_secs(1));
}

/// What is buffered goes out as it was accepted, under the topic and name of then; F-9 across a change of the
/// configuration. The first life has no broker at all in its configuration: it only buffers.
#[tokio::test]
async fn what_is_buffered_goes_out_as_it_was_accepted() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let site = Site::new(&format!("[agent]\nid = \"press-7\"\n\n{STEADY}"), &["steady"]);
    let taken = |status: &serde_json::Value| status["buffer"]["messages"].as_u64();
    for (name, count) in [("", 10), ("old", 20)] {
        if !name.is_empty() {
            let rest = format!("topic = \"{name}/{{agent}}/{{source}}\"\nqos = 0\n{STEADY}");
            site.write("agent.toml", config("mqtt://127.0.0.1:1", &rest));
        }
        let agent = site.start();
        let status = site.status_until(|status| taken(status) >= Some(count)).await;
        assert_ne!(status["mqtt"]["state"], "connected");
        agent.stop().await;
    }
    site.write("agent.toml", config(&broker.url(), STEADY).replace("press-7", "press-8"));
    let agent = site.start();
    checker.wait_count("outstation/press-8/steady", 5, SOON).await;
    agent.stop().await;
    checker.wait_state("outstation/press-8/status", "stopped").await;
    checker.assert_kept();
    let of_boot = |boot: u64| {
        let messages = checker.look(|seen| seen.messages.clone());
        messages.into_iter().filter(move |message| message.json["seq"].is_u64() && message.json["boot"] == boot)
    };
    assert!(of_boot(1).all(|message| message.topic == STEADY_TOPIC && message.json["agent"] == "press-7"));
    assert!(of_boot(2).all(|message| message.topic == "old/press-7/steady" && message.qos == 0));
    assert!(of_boot(1).count() >= 10 && of_boot(2).count() >= 10);
}
