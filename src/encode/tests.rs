//! Payloads as the contract shows them, and messages that fit.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::reading::{Batch, Class, Kind, Point, Quality, Reading, Severity, Timestamp, Value};

const NOON: Timestamp = Timestamp(1_763_830_800_123_456_000);
const ID: Identity = Identity { store: [0x9f, 0x3a, 0xc1, 0xd2], boot: 17, seq: 1042 };

fn route(topic: &str) -> Route {
    Route {
        version: Route::VERSION,
        agent: "press-7".into(),
        source: "boiler".into(),
        topic: topic.into(),
        qos: 1,
        retain: false,
        max_message: 128 << 10,
        points: ["flow", "pump", "level"].into_iter().collect(),
        reasons: vec!["stalled".into()],
    }
}

fn batch(readings: Vec<Reading>) -> Batch {
    Batch { time: NOON, clock_synced: true, readings }
}

fn messages(route: &Route, batch: &Batch) -> Vec<(String, String)> {
    let mut identity = ID;
    let mut out = Vec::new();
    for plan in plan(route, batch) {
        let message = reading_message(route, batch, &plan, identity);
        out.push((message.topic, String::from_utf8(message.payload).unwrap()));
        identity.seq += 1;
    }
    out
}

#[test]
fn one_message_holds_values_and_reasons() {
    let mut doubtful = Reading::good(1, Value::Boolean(true));
    doubtful.quality = Quality { severity: Severity::Uncertain, code: Quality::OWN };
    let batch = batch(vec![Reading::good(0, Value::Real(12.5)), doubtful, Reading::bad(2, Quality::TIMEOUT)]);
    insta::assert_snapshot!(messages(&route("a/b"), &batch)[0].1, @r#"{"agent":"press-7","store":"9f3ac1d2","boot":17,"seq":1042,"source":"boiler","time":"2025-11-22T17:00:00.123456Z","values":{"flow":12.5,"pump":true},"uncertain":{"pump":"stalled"},"bad":{"level":"timeout"}}"#);
}

#[test]
fn a_bad_reading_never_shows_a_value() {
    let mut reading = Reading::good(0, Value::Real(1.0));
    reading.quality = Quality::bad(Quality::LINK);
    let text = &messages(&route("t"), &batch(vec![reading]))[0].1;
    assert!(text.contains(r#""values":{},"bad":{"flow":"link"}"#), "{text}");
}

#[test]
fn a_point_a_message() {
    let batch = batch(vec![Reading::good(0, Value::Unsigned(u64::MAX)), Reading::bad(2, Quality::MODBUS + 2)]);
    let all = messages(&route("x/{point}/y"), &batch);
    assert_eq!(all[0].0, "x/flow/y");
    assert!(all[0].1.ends_with(r#""point":"flow","value":18446744073709551615}"#), "{}", all[0].1);
    assert_eq!(all[1].0, "x/level/y");
    assert!(all[1].1.ends_with(r#""seq":1043,"source":"boiler","time":"2025-11-22T17:00:00.123456Z","point":"level","bad":{"level":"exception-2"}}"#), "{}", all[1].1);
}

#[test]
fn times_become_messages_in_order() {
    let mut late = Reading::good(1, Value::Boolean(true));
    late.at = Some(Timestamp(NOON.0 + 5000));
    let mut early = Reading::good(1, Value::Boolean(false));
    early.at = Some(Timestamp(NOON.0 - 5000));
    let batch = batch(vec![late, Reading::good(0, Value::Integer(-3)), early, Reading::good(0, Value::Integer(4))]);
    let all = messages(&route("t"), &batch);
    let values: Vec<_> = all.iter().map(|(_, text)| text.split("\"values\":").nth(1).unwrap()).collect();
    assert_eq!(values, [r#"{"pump":false}}"#, r#"{"flow":-3}}"#, r#"{"flow":4}}"#, r#"{"pump":true}}"#]);
}

#[test]
fn an_unset_clock_is_said() {
    let mut batch = batch(vec![Reading::good(2, Value::Bytes(vec![0, 255]))]);
    batch.clock_synced = false;
    let text = &messages(&route("t"), &batch)[0].1;
    assert!(text.contains(r#""clock":"unsynced","values":{"level":"AP8="}"#), "{text}");
}

#[test]
fn an_empty_batch_makes_no_message() {
    assert!(plan(&route("t"), &batch(Vec::new())).is_empty());
}

#[test]
fn a_gap_names_its_run() {
    let sources = [(Arc::from("boiler"), 40), (Arc::from("host"), 11)];
    let run = json::Gap {
        reason: "buffer-full",
        boot: 17,
        first: 40,
        last: 90,
        messages: 51,
        sources: &sources,
        from: Some(NOON),
        to: None,
    };
    insta::assert_snapshot!(String::from_utf8(gap("press-7", ID, NOON, &run)).unwrap(), @r#"{"agent":"press-7","store":"9f3ac1d2","boot":17,"seq":1042,"time":"2025-11-22T17:00:00.123456Z","gap":{"reason":"buffer-full","boot":17,"first":40,"last":90,"messages":51,"sources":{"boiler":40,"host":11},"from":"2025-11-22T17:00:00.123456Z"}}"#);
}

#[test]
fn status_and_meta() {
    insta::assert_snapshot!(String::from_utf8(status("online", "0.1.0", 17, NOON)).unwrap(), @r#"{"state":"online","version":"0.1.0","boot":17,"time":"2025-11-22T17:00:00.123456Z"}"#);
    let point = Point {
        id: "flow".into(),
        title: String::new(),
        kind: Kind::Real,
        class: Class::Gauge,
        unit: "m3/h".into(),
        range: None,
        attributes: Vec::new(),
    };
    let points = [point].into_iter().collect();
    insta::assert_snapshot!(String::from_utf8(meta("press-7", "boiler", ("modbus", "0.1.0"), &points)).unwrap(), @r#"{"agent":"press-7","source":"boiler","plugin":{"name":"modbus","version":"0.1.0"},"points":{"flow":{"kind":"real","class":"gauge","unit":"m3/h"}}}"#);
}

#[test]
fn a_route_comes_back_and_a_newer_one_is_refused() {
    let mut route = route("a/{point}");
    assert_eq!(Route::from_bytes(&route.to_bytes()).unwrap(), route);
    route.version = 2;
    assert!(matches!(Route::from_bytes(&route.to_bytes()), Err(RouteError::Version(2))));
    assert!(matches!(Route::from_bytes(b"{"), Err(RouteError::Damaged(_))));
}

proptest! {
    /// What is planned fits, holds a time and each point once, and loses no reading.
    #[test]
    fn plans_fit(
        readings in proptest::collection::vec((0_u32..3, "\\PC{0,40}", proptest::option::of(-3_i64..3)), 0..40),
        max_message in 300_u64..800,
    ) {
        let mut route = route("t");
        route.max_message = max_message;
        let batch = batch(readings.into_iter().map(|(point, text, at)| Reading {
            point, value: Some(Value::Text(text)), quality: Quality::GOOD, at: at.map(|at| Timestamp(NOON.0 + at)),
        }).collect());
        let plans = plan(&route, &batch);
        let mut seen: Vec<usize> = plans.iter().flat_map(|plan| plan.readings.clone()).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..batch.readings.len()).collect::<Vec<_>>());
        let longest = Identity { store: [255; 4], boot: u32::MAX, seq: u64::MAX };
        for plan in &plans {
            let size = reading_message(&route, &batch, plan, longest).payload.len() as u64;
            prop_assert!(size <= max_message || plan.readings.len() == 1, "{} bytes in {}", size, max_message);
        }
        prop_assert!(plans.is_sorted_by_key(|plan| plan.time));
    }
}
