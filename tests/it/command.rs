//! Commands: each is answered, none runs twice, none runs that is too old (R10, F-26).

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Agent, Broker, Commander, Extras, SOON, STEADY, Site, config, wait_until};

const VALVE: &str = "[source.valve]\nplugin = \"valve\"\nevery = \"100ms\"\nlimits = { time = \"20s\" }\n";
const TOPIC: &str = "outstation/press-7/command/valve";
const REPLY: &str = "outstation/press-7/reply/valve";
/// What the agent says when it listens.
const LISTENS: &[&str] = &["commands are taken on outstation/press-7/command/+"];

struct Stand {
    broker: Broker,
    site: Site,
    commander: Commander,
}

impl Stand {
    async fn new(more: &str) -> Self {
        let broker = Broker::start().await;
        let commander = Commander::start(broker.address(), &["outstation/press-7/reply/#", "app/#"]).await;
        let site = Site::new(&config(&broker.url(), &format!("{more}\n{VALVE}\n{STEADY}")), &["valve", "steady"]);
        Self { broker, site, commander }
    }

    async fn agent(&self) -> Agent {
        let agent = self.site.start();
        agent.says(LISTENS).await;
        agent
    }

    async fn send(&self, command: &Value) {
        self.commander.send(TOPIC, &command.to_string(), Extras::default()).await;
    }

    /// Sends a command, and gives the answer on the reply topic.
    async fn ask(&self, command: &Value) -> Value {
        self.send(command).await;
        self.commander.answer(REPLY, command["id"].as_str().unwrap()).await.0
    }

    /// How often a command was handed to the plugin, over all of the agent's lives.
    fn begun(&self, id: &str) -> usize {
        self.site.log.count(&["command \"", &format!("id={id:?}")])
    }
}

fn at(seconds: i64) -> String {
    (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()
}

fn error(answer: &Value) -> &str {
    assert_eq!(answer["ok"], false, "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    answer["error"].as_str().unwrap()
}

/// The way there and back, in 5.0: response topic and correlation data, or the reply topic.
#[tokio::test]
async fn a_command_is_run_and_answered() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    let args = json!({"open": true, "by": 18_446_744_073_709_551_615_u64});
    let answer = stand.ask(&json!({"id": "c-1", "name": "echo", "args": args})).await;
    assert_eq!(answer, json!({"id": "c-1", "ok": true, "result": args}));
    let extras =
        Extras { response_topic: Some("app/answers"), correlation: Some("mine"), expiry_s: Some(30), retain: false };
    stand.commander.send(TOPIC, r#"{"id":"c-2","name":"echo","args":[1]}"#, extras).await;
    let (answer, correlation) = stand.commander.answer("app/answers", "c-2").await;
    assert_eq!((answer["result"].clone(), correlation.as_str()), (json!([1]), "mine"));
    assert!(stand.commander.heard(REPLY).iter().all(|(answer, _)| answer["id"] != "c-2"));
    agent.stop().await;
}

#[tokio::test]
async fn a_command_is_run_and_answered_in_3_1_1() {
    let stand = Stand::new("version = \"3.1.1\"").await;
    let agent = stand.agent().await;
    let answer = stand.ask(&json!({"id": "c-1", "name": "echo", "args": {"a": 1}, "sent": at(0)})).await;
    assert_eq!(answer, json!({"id": "c-1", "ok": true, "result": {"a": 1}}));
    agent.stop().await;
}

/// Every refusal has its word, and a message for people.
#[tokio::test]
async fn every_refusal_is_answered() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    for (command, word) in [
        (json!({"id": "a", "name": "polka"}), "unknown"),
        (json!({"id": "b", "name": "invalid"}), "invalid"),
        (json!({"id": "c", "name": "denied"}), "denied"),
        (json!({"id": "d", "name": "failed"}), "failed"),
        (json!({"id": "e"}), "invalid"),
        (json!({"id": "f", "name": "echo", "sent": "now"}), "invalid"),
        (json!({"id": "g", "name": "echo", "sent": at(-61)}), "expired"),
        (json!({"id": "h", "name": "echo", "expires": at(-1)}), "expired"),
        (json!({"id": "i", "name": "trap"}), "failed"),
        // The source is started again, and goes on.
        (json!({"id": "j", "name": "polka"}), "unknown"),
    ] {
        let answer = stand.ask(&command).await;
        assert_eq!(error(&answer), word, "{command}: {answer}");
    }
    // Without an id: nothing else can be said of it.
    stand.commander.send(TOPIC, "{", Extras::default()).await;
    let nameless = || stand.commander.heard(REPLY).into_iter().find(|(answer, _)| answer["id"].is_null());
    wait_until("what is no JSON is answered", SOON, || nameless().is_some()).await;
    assert_eq!(error(&nameless().unwrap().0), "invalid");
    // Sources that take none, or are not there.
    for source in ["steady", "nobody"] {
        let (topic, reply) = (TOPIC.replace("valve", source), format!("outstation/press-7/reply/{source}"));
        stand.commander.send(&topic, r#"{"id":"x","name":"echo"}"#, Extras::default()).await;
        assert_eq!(error(&stand.commander.answer(&reply, "x").await.0), "unknown");
    }
    // Nobody writes in the agent's name.
    let extras = Extras { response_topic: Some("outstation/press-7/status"), ..Extras::default() };
    stand.commander.send(TOPIC, r#"{"id":"y","name":"echo"}"#, extras).await;
    assert_eq!(error(&stand.commander.answer(REPLY, "y").await.0), "invalid");
    assert_eq!(stand.begun("y"), 0);
    agent.stop().await;
}

/// F-26: what the broker keeps is never a command, neither when it is kept nor when the agent comes back.
#[tokio::test]
async fn retained_commands_are_refused() {
    for version in ["5", "3.1.1"] {
        let stand = Stand::new(&format!("version = \"{version}\"")).await;
        let kept = Extras { retain: true, ..Extras::default() };
        stand.commander.send(TOPIC, r#"{"id":"r-1","name":"echo"}"#, kept.clone()).await;
        let agent = stand.agent().await;
        if version == "5" {
            // In 3.1.1 it can't be seen of one that comes live.
            stand.commander.send(TOPIC, r#"{"id":"r-2","name":"echo"}"#, kept).await;
            assert_eq!(error(&stand.commander.answer(REPLY, "r-2").await.0), "retained");
        } else {
            assert_eq!(error(&stand.commander.answer(REPLY, "r-1").await.0), "retained");
        }
        agent.kill().await;
        let agent = stand.agent().await;
        stand.ask(&json!({"id": "after", "name": "echo"})).await;
        assert_eq!((stand.begun("r-1"), stand.begun("r-2"), stand.begun("after")), (0, 0, 1));
        agent.stop().await;
    }
}

/// R10: the same id runs once, and is answered again: at once, after a restart, and after a crash.
#[tokio::test]
async fn the_same_id_runs_once() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    let command = json!({"id": "once", "name": "echo", "args": {"n": 1}, "expires": at(600)});
    let first = stand.ask(&command).await;
    let answers = || stand.commander.heard(REPLY).into_iter().filter(|(answer, _)| answer["id"] == "once").count();
    stand.send(&command).await;
    wait_until("the same answer again", SOON, || answers() == 2).await;
    agent.kill().await;
    let agent = stand.agent().await;
    stand.send(&json!({"id": "once", "name": "failed"})).await;
    wait_until("and after a crash", SOON, || answers() >= 3).await;
    assert!(stand.commander.heard(REPLY).iter().all(|(answer, _)| *answer == first));
    assert_eq!(stand.begun("once"), 1);
    agent.stop().await;
}

/// R10: killed between "begun" and its end: answered `interrupted`, and never run again.
#[tokio::test]
async fn a_command_that_a_crash_cut_off_is_interrupted() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    stand.send(&json!({"id": "cut", "name": "slow", "expires": at(600)})).await;
    wait_until("it has begun", SOON, || stand.begun("cut") == 1).await;
    // Behind it, and not begun: it is run by the next life.
    stand.send(&json!({"id": "next", "name": "echo", "expires": at(600)})).await;
    stand.send(&json!({"id": "short", "name": "echo", "expires": at(1)})).await;
    agent.says(&["lapsed while it waited", "short"]).await;
    agent.kill().await;
    let agent = stand.agent().await;
    assert_eq!(error(&stand.commander.answer(REPLY, "cut").await.0), "interrupted");
    assert_eq!(stand.commander.answer(REPLY, "next").await.0["ok"], true);
    assert_eq!(error(&stand.commander.answer(REPLY, "short").await.0), "expired");
    assert_eq!((stand.begun("cut"), stand.begun("next"), stand.begun("short")), (1, 1, 0));
    agent.stop().await;
}

/// What waited at the broker while the agent was away runs if it says that it is fresh, and only then.
#[tokio::test]
async fn what_waited_at_the_broker_is_judged_by_its_age() {
    let stand = Stand::new("").await;
    stand.agent().await.stop().await;
    stand.send(&json!({"id": "ageless", "name": "echo"})).await;
    stand.send(&json!({"id": "old", "name": "echo", "sent": at(-120)})).await;
    stand.send(&json!({"id": "fresh", "name": "echo", "sent": at(0)})).await;
    let lasting = Extras { expiry_s: Some(600), ..Extras::default() };
    stand.commander.send(TOPIC, r#"{"id":"lasting","name":"echo"}"#, lasting).await;
    let gone = Extras { expiry_s: Some(1), ..Extras::default() };
    stand.commander.send(TOPIC, r#"{"id":"gone","name":"echo"}"#, gone).await;
    crate::harness::pass(std::time::Duration::from_secs(3)).await;
    let agent = stand.agent().await;
    for (id, word) in [("ageless", Some("expired")), ("old", Some("expired")), ("fresh", None), ("lasting", None)] {
        let answer = stand.commander.answer(REPLY, id).await.0;
        assert_eq!(answer["error"].as_str(), word, "{answer}");
    }
    // Live again, age is no question.
    assert_eq!(stand.ask(&json!({"id": "now", "name": "echo"})).await["ok"], true);
    assert_eq!(["ageless", "old", "gone"].map(|id| stand.begun(id)), [0, 0, 0]);
    agent.stop().await;
}

/// More commands than may wait: the rest is answered `failed`, the agent goes on, and its readings with it.
#[tokio::test]
async fn a_flood_is_bounded() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    stand.send(&json!({"id": "slow", "name": "slow"})).await;
    for n in 0..40 {
        stand.send(&json!({"id": format!("f-{n}"), "name": "echo"})).await;
    }
    let answers = || stand.commander.heard(REPLY);
    wait_until("each is answered", SOON, || answers().len() >= 41).await;
    let ran = answers().iter().filter(|(answer, _)| answer["ok"] == true).count();
    assert!((16..=18).contains(&ran), "{ran} ran: 16 wait beside the one that runs");
    let refused = answers().into_iter().filter(|(answer, _)| answer["error"] == "failed").map(|(answer, _)| answer);
    assert!(refused.clone().all(|answer| answer["message"].as_str().unwrap().contains("16 commands wait")));
    assert_eq!(ran + refused.count(), 41);
    agent.stop().await;
}

/// Subscribed to only while a source takes commands.
#[tokio::test]
async fn without_a_taker_there_is_no_subscription() {
    let stand = Stand::new("").await;
    let agent = stand.agent().await;
    stand.site.write("agent.toml", config(&stand.broker.url(), STEADY));
    agent.says(&["no commands are taken on outstation/press-7/command/+ any more"]).await;
    let so_far = stand.site.log.count(LISTENS);
    stand.site.write("agent.toml", config(&stand.broker.url(), &format!("{VALVE}\n{STEADY}")));
    wait_until("it listens again", SOON, || stand.site.log.count(LISTENS) > so_far).await;
    assert_eq!(stand.ask(&json!({"id": "back", "name": "echo", "sent": at(0)})).await["ok"], true);
    agent.stop().await;
}
