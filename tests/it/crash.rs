//! kill -9 takes nothing that was accepted, and no name is used twice.

use std::time::Duration;

use jiff::Timestamp;

use crate::harness::{
    Agent, Broker, Checker, Commander, Extras, Gate, SOON, STATUS_TOPIC, STEADY, STEADY_TOPIC, Site, config, pass,
    random, wait_until,
};

/// How often the agent is killed.
const KILLS: u64 = 20;
/// A step of its life takes less than this.
const LIFE_MAX_MS: u64 = 500;
/// A poll comes this much after its slot at most, beside the time for which the agent waited for a processor.
const LATE_MAX: Duration = Duration::from_millis(750);

/// The end of a life whose last readings no broker saw.
struct Death {
    boot: u64,
    /// Messages that it had accepted a moment before.
    taken: u64,
    time: Timestamp,
    /// For so long its threads had waited for a processor: on a busy machine polls are late by that.
    waited: Duration,
}

/// How long the threads of a process have been ready to run and not run, by the kernel's account (proc(5), schedstat).
fn waited(pid: i32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
    let nanos = texts.filter_map(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}

/// Kills the agent, and notes what it said of itself just before. The steady source makes one message of two readings.
async fn death(site: &Site, agent: Agent) -> Death {
    let status = site.status().await;
    let (time, waited) = (Timestamp::now(), waited(agent.pid()));
    agent.kill().await;
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    Death { boot: number(&status["boot"]), taken: number(&status["sources"][0]["readings"]) / 2, time, waited }
}

/// Waits until a reading has arrived that the running agent took, and not one before it.
async fn delivered(site: &Site, checker: &Checker) {
    let boot = site.status_until(|status| status["boot"].is_u64()).await["boot"].as_u64();
    wait_until("it delivers", SOON, || checker.look(|seen| seen.ledger.boots().last().copied() == boot)).await;
}

/// What was taken up to these deaths has arrived: as many messages as the agent itself said, and, as it might be
/// wrong, readings of the last moment before.
#[track_caller]
fn assert_kept_until(checker: &Checker, deaths: &[Death]) {
    let readings = checker.of(STEADY_TOPIC);
    for Death { boot, taken, time, waited } in deaths {
        let last = readings
            .iter()
            .filter(|message| message.json["boot"] == *boot)
            .max_by_key(|message| message.json["seq"].as_u64());
        let last = &last.expect("a reading of that boot").json;
        assert!(last["seq"].as_u64() >= Some(*taken), "boot {boot} had taken {taken}, the last to arrive is {last}");
        let last: Timestamp = last["time"].as_str().and_then(|time| time.parse().ok()).expect("a time");
        let lost = Duration::try_from(time.duration_since(last)).unwrap_or_default();
        let late_max = LATE_MAX + *waited;
        assert!(lost < late_max, "boot {boot} lost the last {lost:?} before it was killed, and may lose {late_max:?}");
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
    gate.latency = Duration::from_millis(20);
    gate.open().await;
    let fast = STEADY.replace("100ms", "50ms");
    let site = Site::new(&config(&gate.url(), &fast), &["steady"]);
    let mut deaths = Vec::new();
    for kill in 1..=KILLS {
        let agent = site.start();
        let delivers = kill % 4 != 0;
        let line_cut = kill % 4 > 1;
        if delivers {
            delivered(&site, &checker).await;
        }
        pass(Duration::from_millis(random() % LIFE_MAX_MS)).await;
        if line_cut {
            gate.shut().await;
            pass(LATE_MAX + Duration::from_millis(random() % LIFE_MAX_MS)).await;
        }
        if !line_cut {
            agent.kill().await;
            continue;
        }
        deaths.push(death(&site, agent).await);
        gate.open().await;
    }
    let agent = site.start();
    delivered(&site, &checker).await;
    checker.kept_to_the_end_of(agent).await;

    let boots = checker.look(|seen| seen.ledger.boots());
    assert!(boots.len() as u64 > KILLS / 2, "most lives were long enough to deliver: {boots:?}");
    let announced = announced(&checker);
    assert!(announced.is_sorted(), "boots only grow: {announced:?}");
    assert_eq!(checker.look(|seen| seen.ledger.stores().len()), 1, "the data folder stays the same");
    assert_kept_until(&checker, &deaths);
}

/// How often the agent is killed in its short lives, at each QoS.
fn short_lives() -> u64 {
    std::env::var("OUTSTATION_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Lives of a fraction of a second, ended while the agent starts, connects, subscribes, delivers; now and then the
/// broker is restarted too. Nothing is lost; at QoS 2 nothing comes twice. F-2, F-3, F-14.
async fn short_lives_at(qos: u8) {
    let mut broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let fast = STEADY.replace("100ms", "10ms");
    let site = Site::new(&config(&broker.url(), &format!("qos = {qos}\n{fast}")), &["steady"]);
    let (mut deaths, lives) = (Vec::new(), short_lives());
    for life in 1..=lives {
        let agent = site.start();
        if life % 3 != 0 {
            delivered(&site, &checker).await;
        }
        pass(Duration::from_millis(random() % 300)).await;
        if life % 25 == 0 {
            let subscribed = checker.subscribed();
            broker.down().await;
            broker.up().await;
            checker.subscribed_again(subscribed).await;
        }
        // Only one that delivers has a socket by now, and says what it took.
        if life % 5 == 1 && life % 3 != 0 {
            deaths.push(death(&site, agent).await);
        } else {
            agent.kill().await;
        }
        if life % 500 == 0 {
            checker.assert_kept();
            eprintln!("QoS {qos}: {life} of {lives} lives");
        }
    }
    let agent = site.start();
    delivered(&site, &checker).await;
    checker.kept_to_the_end_of(agent).await;
    assert_kept_until(&checker, &deaths);
    let (copies, by_broker) = checker.look(|seen| (seen.ledger.copies(), seen.ledger.copies_by_broker()));
    eprintln!(
        "QoS {qos}: {lives} lives, {} messages, {copies} twice, {by_broker} sent again by the broker",
        checker.count(STEADY_TOPIC)
    );
    assert!(qos == 1 || copies == 0, "{copies} messages came more than once");
}

#[tokio::test]
async fn short_lives_lose_nothing_at_qos_1() {
    short_lives_at(1).await;
}

#[tokio::test]
async fn short_lives_lose_and_double_nothing_at_qos_2() {
    short_lives_at(2).await;
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
    for _ in 0..3 {
        let agent = site.start();
        agent.says(&["connection refused"]).await;
        pass(Duration::from_millis(2000 + random() % 500)).await;
        deaths.push(death(&site, agent).await);
    }
    let subscribed = checker.subscribed();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    let agent = site.start();
    delivered(&site, &checker).await;
    checker.kept_to_the_end_of(agent).await;
    assert_kept_until(&checker, &deaths);
}

/// QoS 2 is exactly once, across kill -9 and lines that are cut at any byte of an exchange: no copy of anything
/// arrives. F-14, F-15.
#[tokio::test]
async fn exactly_once_is_exactly_once() {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.latency = Duration::from_millis(30);
    gate.open().await;
    let fast = STEADY.replace("100ms", "10ms");
    let rest = format!("qos = 2\n{fast}[buffer]\nsync = \"always\"\n");
    let site = Site::new(&config(&gate.url(), &rest), &["steady"]);
    for round in 1..=9 {
        let connections = site.log.count(&["connected to"]);
        let agent = site.start();
        for cut in 1..=round % 3 {
            wait_until("it connects", SOON, || site.log.count(&["connected to"]) >= connections + cut).await;
            pass(Duration::from_millis(random() % 200)).await;
            gate.shut().await;
            gate.open().await;
        }
        wait_until("it connects", SOON, || site.log.count(&["connected to"]) > connections + round % 3).await;
        pass(Duration::from_millis(random() % 200)).await;
        agent.kill().await;
    }
    let agent = site.start();
    agent.says(&["session resumed"]).await;
    checker.kept_to_the_end_of(agent).await;
    assert!(checker.count(STEADY_TOPIC) > 100, "{} messages", checker.count(STEADY_TOPIC));
    assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "messages that came more than once");
}

/// R7: the moment in which the agent can not know whose session it is. CONNECT has arrived and CONNACK is lost, with
/// QoS 2 exchanges open, again and again, also with kill -9 in that moment: nothing is missing and nothing comes twice.
#[tokio::test]
async fn exactly_once_although_connack_is_lost() {
    exactly_once_without_connack("5").await;
}

/// 3.1.1, which has other questions.
#[tokio::test]
async fn exactly_once_although_connack_is_lost_in_3_1_1() {
    exactly_once_without_connack("3.1.1").await;
}

async fn exactly_once_without_connack(version: &str) {
    const ROUNDS: usize = 6;
    let (broker, checker, mut gate) = behind_a_slow_gate().await;
    let settings = doubtful(&gate).replace("[mqtt]", &format!("[mqtt]\nversion = \"{version}\""));
    let site = Site::new(&settings, &["steady"]);
    let mut agent = site.start();
    for round in 1..=ROUNDS {
        checker.wait_more(STEADY_TOPIC, 5).await;
        lose_connack(&broker, &mut gate).await;
        if round % 2 == 0 {
            agent.kill().await;
            agent = site.start();
        }
        gate.open().await;
    }
    // 20 messages in flight are too few for such a way (3.1.1): what has piled up goes out over a fast one.
    gate.shut().await;
    gate.latency = Duration::ZERO;
    gate.open().await;
    checker.wait_more(STEADY_TOPIC, 20).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    let (seen, stood) = (broker.connects("press-7", &[]), site.log.count(&["connected to"]));
    assert!(seen > stood + ROUNDS / 2, "{seen} CONNECTs arrived, and {stood} were answered: too few answers were lost");
    assert!(site.log.count(&["the session is ours"]) > 0, "there was doubt");
    checker.assert_kept();
    assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "messages that came more than once");
}

/// The same, and the answer to the question whose session it is gets lost as well, six times in a row, with kill -9
/// behind every second of them.
#[tokio::test]
async fn exactly_once_although_the_answers_in_doubt_are_lost() {
    const LOST: usize = 6;
    let (broker, checker, mut gate) = behind_a_slow_gate().await;
    let site = Site::new(&doubtful(&gate), &["steady"]);
    let mut agent = site.start();
    checker.wait_count(STEADY_TOPIC, 20, SOON).await;
    lose_connack(&broker, &mut gate).await;
    let asked = || broker.log.count(&["Received UNSUBSCRIBE from press-7"]);
    for lost in 1..=LOST {
        let (asked_before, said_before) = (asked(), broker.log.count(&["Received PUBLISH from press-7"]));
        gate.open().await;
        let said = || broker.log.count(&["Received PUBLISH from press-7"]);
        wait_until("it asks, or has no doubt", SOON, || asked() > asked_before || said() > said_before).await;
        gate.shut().await;
        if lost % 2 == 0 {
            agent.kill().await;
            agent = site.start();
        }
    }
    gate.open().await;
    checker.wait_more(STEADY_TOPIC, 20).await;
    agent.stop().await;
    checker.wait_state(STATUS_TOPIC, "stopped").await;
    assert!(asked() > LOST / 2, "{} questions arrived", asked());
    assert!(site.log.count(&["the session is ours"]) > site.log.count(&["by mark 0"]), "an answer was lost");
    assert_eq!(site.log.count(&["started anew"]), 0);
    checker.assert_kept();
    assert_eq!(checker.look(|seen| seen.ledger.copies()), 0, "messages that came more than once");
}

/// The same where the doubt is right: the broker has forgotten everything, CONNECT begins a new session, nobody hears of
/// it, and the next CONNACK calls that one present. It is given up, and nothing is missing.
#[tokio::test]
async fn another_session_that_is_called_present_is_given_up() {
    another_session_is_given_up("5", "begun another session without saying so").await;
}

/// 3.1.1: the agent does not hear itself there.
#[tokio::test]
async fn another_session_that_is_called_present_is_given_up_in_3_1_1() {
    another_session_is_given_up("3.1.1", "can't tell whose session it is").await;
}

async fn another_session_is_given_up(version: &str, why: &str) {
    let (mut broker, checker, mut gate) = behind_a_slow_gate().await;
    let settings = doubtful(&gate).replace("[mqtt]", &format!("[mqtt]\nversion = \"{version}\""));
    let site = Site::new(&settings, &["steady"]);
    let agent = site.start();
    checker.wait_count(STEADY_TOPIC, 20, SOON).await;
    begin_another_in_silence(&mut broker, &checker, &mut gate).await;
    gate.open().await;
    agent.says(&[why]).await;
    checker.wait_more(STEADY_TOPIC, 20).await;
    checker.kept_to_the_end_of(agent).await;
}

/// At QoS 1 another session that is called present is taken as it is: it lacks what was subscribed to in the old one, and
/// gets it. F-17
#[tokio::test]
async fn a_session_that_is_called_present_gets_its_subscriptions() {
    let (mut broker, checker, mut gate) = behind_a_slow_gate().await;
    let valve = "[source.valve]\nplugin = \"valve\"\nevery = \"100ms\"\n";
    let site = Site::new(&config(&gate.url(), &format!("{STEADY}{valve}")), &["steady", "valve"]);
    let agent = site.start();
    agent.says(&["commands are taken on"]).await;
    begin_another_in_silence(&mut broker, &checker, &mut gate).await;
    let commander = Commander::start(broker.address(), &["outstation/press-7/reply/#"]).await;
    let before = site.log.len();
    gate.open().await;
    wait_until("it is called present", SOON, || site.log.line_with(before, &["session resumed"]).is_some()).await;
    wait_until("it listens", SOON, || site.log.line_with(before, &["commands are taken on"]).is_some()).await;
    let topic = "outstation/press-7/command/valve";
    let command = r#"{"id":"c-1","name":"echo","args":[1]}"#;
    commander.send(topic, command, Extras { expiry_s: Some(60), ..Extras::default() }).await;
    let (answer, _) = commander.answer("outstation/press-7/reply/valve", "c-1").await;
    assert_eq!(answer["ok"], true, "{answer}");
    checker.kept_to_the_end_of(agent).await;
}

/// A broker behind an open gate on which every byte takes its time, and who checks.
async fn behind_a_slow_gate() -> (Broker, Checker, Gate) {
    let broker = Broker::start().await;
    let checker = Checker::start(broker.address()).await;
    let mut gate = Gate::before(&broker);
    gate.latency = Duration::from_millis(150);
    gate.open().await;
    (broker, checker, gate)
}

/// The broker forgets everything; the next CONNECT begins another session, and its CONNACK does not arrive.
async fn begin_another_in_silence(broker: &mut Broker, checker: &Checker, gate: &mut Gate) {
    gate.shut().await;
    let subscribed = checker.subscribed();
    broker.down().await;
    broker.wipe();
    broker.up().await;
    checker.subscribed_again(subscribed).await;
    gate.open().await;
    lose_connack(broker, gate).await;
}

/// QoS 2 in a hurry, with a log that shows what becomes of doubt.
fn doubtful(gate: &Gate) -> String {
    let fast = STEADY.replace("100ms", "20ms");
    let rest = format!("qos = 2\n{fast}[buffer]\nsync = \"always\"\n");
    config(&gate.url(), &rest).replace("[mqtt]", "log = \"debug\"\n\n[mqtt]")
}

/// Cuts the line, lets the agent's next CONNECT through, and cuts again while CONNACK is on its way.
async fn lose_connack(broker: &Broker, gate: &mut Gate) {
    gate.shut().await;
    let before = broker.connects("press-7", &[]);
    gate.open().await;
    wait_until("CONNECT arrives", SOON, || broker.connects("press-7", &[]) > before).await;
    gate.shut().await;
}
