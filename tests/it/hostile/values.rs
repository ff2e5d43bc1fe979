//! Values that cannot be, times that cannot be, and a text that is too long: each is bad or put right, as INTERFACE.md
//! says, and nothing ends.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::of_source;
use crate::harness::plugins::Fixture;
use crate::harness::{Broker, Checker, SOON, STEADY, Site, config};
use crate::isolation::assert_unbroken;

/// Messages of each that are looked at.
const MESSAGES: usize = 10;
/// How far a poll's time may be from when its message came, in seconds: the machine may be slow, but not by a day.
const OFF_S_MAX: i64 = 3600;
const DAY_NS: i64 = 86_400_000_000_000;

fn topic(name: &str) -> String {
    format!("outstation/press-7/{name}")
}

/// `count` as it should be, and the other point with that value.
fn level(name: &'static str, value: &str) -> (&'static str, Fixture) {
    let run =
        format!("(drop (call $steady)) (f64.store (i32.const 1104) (f64.const {value})) (call $outcome (i32.const 2))");
    (name, Fixture::new().with("name", name).with("run", run))
}

/// Both points as they should be, but for when they are said to have been read: nanoseconds since 1970, of which a
/// plugin can say no more than those from 1677 to 2262. What stands for the years 1 and 9999 is the ends of that.
fn timed(name: &'static str, at: &str) -> (&'static str, Fixture) {
    let run = format!(
        "(local $at i64)
         (drop (call $steady))
         (local.set $at {at})
         (i32.store8 (i32.const 1064) (i32.const 1)) (i64.store (i32.const 1072) (local.get $at))
         (i32.store8 (i32.const 1120) (i32.const 1)) (i64.store (i32.const 1128) (local.get $at))
         (call $outcome (i32.const 2))"
    );
    (name, Fixture::new().with("name", name).with("run", run))
}

/// `level` is a text of so many bytes.
fn text(name: &'static str, bytes: u32) -> (&'static str, Fixture) {
    let run = format!(
        "(drop (call $steady))
         (memory.fill (i32.const 4096) (i32.const 120) (i32.const {bytes}))
         (i32.store8 (i32.const 1096) (i32.const 4)) (call $text (i32.const 1104) (i32.const 4096) (i32.const {bytes}))
         (call $outcome (i32.const 2))"
    );
    let kind = "(i32.store8 (i32.const 656) (i32.const 4))";
    let memory = r#"(memory (export "memory") 64)"#;
    (name, Fixture::new().with("name", name).with("memory", memory).with("start", kind).with("run", run))
}

/// Seconds from now to what a message says.
fn off_s(message: &Value) -> i64 {
    let time: Timestamp = message["time"].as_str().and_then(|time| time.parse().ok()).expect("a time");
    (time.as_second() - Timestamp::now().as_second()).abs()
}

/// All of them beside the healthy one, and what came of them.
struct Came {
    checker: Checker,
    status: Value,
}

impl Came {
    async fn of(all: &[&(&'static str, Fixture)]) -> Self {
        let broker = Broker::start().await;
        let checker = Checker::start(broker.address()).await;
        let mut sources = STEADY.to_owned();
        for (name, _) in all {
            writeln!(sources, "[source.{name}]\nplugin = \"{name}\"\nevery = \"100ms\"").unwrap();
        }
        let site = Site::new(&config(&broker.url(), &sources), &["steady"]);
        for (name, fixture) in all {
            site.write(&format!("plugins/{name}.wasm"), fixture.build());
        }
        let agent = site.start();
        for (name, _) in all {
            checker.wait_count(&topic(name), MESSAGES, 2 * SOON).await;
        }
        let status = site.status().await;
        checker.kept_to_the_end_of(agent).await;
        Self { checker, status }
    }

    fn messages(&self, name: &str) -> impl Iterator<Item = Value> {
        self.checker.of(&topic(name)).into_iter().map(|message| message.json)
    }

    fn source(&self, name: &str) -> Value {
        of_source(&self.status, name)
    }

    /// It is as healthy as the other: never started again, and each of its polls came.
    #[track_caller]
    fn assert_lives(&self, name: &str) {
        let source = self.source(name);
        assert_eq!(
            (&source["state"], &source["restarts"], &source["errors"]),
            (&json!("running"), &json!(0), &json!(0)),
            "{source}"
        );
        let counts: Vec<Option<u64>> = self.messages(name).map(|json| json["values"]["count"].as_u64()).collect();
        assert!(counts.iter().copied().eq((1..=counts.len() as u64).map(Some)), "{name}: {counts:?}");
    }

    /// Its second point is bad in each message, for that reason.
    #[track_caller]
    fn assert_bad(&self, name: &str, reason: &str) {
        for json in self.messages(name) {
            assert_eq!((&json["bad"], &json["values"]["level"]), (&json!({"level": reason}), &Value::Null), "{json}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_is_bad_or_put_right_and_ends_nothing() {
    let not_finite = [
        level("nan", "nan"),
        level("nan-other", "-nan:0x4000000000001"),
        level("inf", "inf"),
        level("minus-inf", "-inf"),
    ];
    let times = [
        timed("year-1", "(i64.const 0x8000000000000000)"),
        timed("year-9999", "(i64.const 0x7fffffffffffffff)"),
        timed("year-1970", "(i64.const 0)"),
        timed("in-two-days", &format!("(i64.add (local.get $now) (i64.const {}))", 2 * DAY_NS)),
    ];
    // 64 KiB are the most, and one more is one too many.
    let texts = [text("text-too-long", (64 << 10) + 1), text("text-far-too-long", 3 << 20)];
    let fits = [text("text-that-fits", 64 << 10)];
    let all: Vec<_> = not_finite.iter().chain(&times).chain(&texts).chain(&fits).collect();
    let came = Came::of(&all).await;
    assert_unbroken(&came.checker);
    all.iter().for_each(|(name, _)| came.assert_lives(name));
    for (name, _) in &not_finite {
        came.assert_bad(name, "not-finite");
        assert_eq!(came.source(name)["refused"], 0, "{name}");
    }
    for (name, _) in &times {
        // The agent's own time, that of the poll: one message, with both points in it.
        for json in came.messages(name) {
            assert_eq!((&json["values"]["level"], &json["bad"]), (&json!(12.5), &Value::Null), "{json}");
            assert!(off_s(&json) < OFF_S_MAX, "{name}: {json}");
        }
    }
    for (name, _) in &texts {
        came.assert_bad(name, "unspecified");
        let number = |what: &str| came.source(name)[what].as_u64().unwrap_or(0);
        // Counted when a poll is over, and polls when one begins.
        let (refused, polls) = (number("refused"), number("polls"));
        assert!(refused > 0 && (refused..=refused + 1).contains(&polls), "{name}: {refused} of {polls}");
    }
    for json in came.messages("text-that-fits") {
        assert_eq!(json["values"]["level"].as_str().map(str::len), Some(64 << 10));
    }
}
