//! A batch comes back as it was, and damage never panics.

use super::*;
use proptest::prelude::*;

fn value() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        Just(None),
        any::<bool>().prop_map(|v| Some(Value::Boolean(v))),
        any::<i64>().prop_map(|v| Some(Value::Integer(v))),
        any::<u64>().prop_map(|v| Some(Value::Unsigned(v))),
        proptest::num::f64::NORMAL.prop_map(|v| Some(Value::Real(v))),
        ".{0,20}".prop_map(|v| Some(Value::Text(v))),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|v| Some(Value::Bytes(v))),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    let severity = prop_oneof![Just(Severity::Good), Just(Severity::Uncertain), Just(Severity::Bad)];
    (any::<u32>(), value(), severity, any::<u16>(), any::<Option<i64>>()).prop_map(
        |(point, value, severity, code, at)| Reading {
            point,
            value,
            quality: Quality { severity, code },
            at: at.map(Timestamp),
        },
    )
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was(
        time in any::<i64>(), clock_synced in any::<bool>(), readings in proptest::collection::vec(reading(), 0..30)
    ) {
        let batch = Batch { time: Timestamp(time), clock_synced, readings };
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        prop_assert_eq!(Batch::decode(&bytes).unwrap(), batch);
        for end in 0..bytes.len() {
            prop_assert!(Batch::decode(&bytes[..end]).is_err(), "a batch cut at {} was taken", end);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Batch::decode(&bytes);
        let mut headed = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        headed.extend_from_slice(&bytes);
        let _ = Batch::decode(&headed);
    }
}

#[test]
fn a_newer_version_is_named() {
    assert_eq!(Batch::decode(&[9, 0]), Err(DecodeError::Version(9)));
}

#[test]
fn times_are_utc_with_microseconds() {
    assert_eq!(Timestamp(1_763_830_800_123_456_789).rfc3339(), "2025-11-22T17:00:00.123456Z");
    assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00.000000Z");
    assert_eq!(Timestamp(-1).rfc3339(), "1969-12-31T23:59:59.999999Z");
    assert!(Timestamp(i64::MAX).rfc3339().starts_with("2262-04-11"));
    assert!(Timestamp(i64::MIN).rfc3339().starts_with("1677-09-2"));
    assert_eq!(Timestamp::parse("2025-11-22T18:00:00.5+01:00"), Some(Timestamp(1_763_830_800_500_000_000)));
    assert_eq!(Timestamp::parse("yesterday"), None);
}

#[test]
fn reasons_are_words() {
    let own = ["stalled".to_owned()];
    assert_eq!(Quality::bad(Quality::TIMEOUT).word(&own), "timeout");
    assert_eq!(Quality::bad(Quality::MODBUS + 2).word(&own), "exception-2");
    assert_eq!(Quality::bad(Quality::OWN).word(&own), "stalled");
    assert_eq!(Quality::bad(Quality::OWN + 1).word(&own), "reason-1");
    assert_eq!(Quality::bad(77).word(&own), "unspecified");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-zé]{1,8}"]
}

fn point() -> impl Strategy<Value = Point> {
    let kind = prop_oneof![Just(Kind::Boolean), Just(Kind::Real), Just(Kind::Text)];
    let class = prop_oneof![Just(Class::Gauge), Just(Class::State)];
    let range = proptest::option::of((-9.0..0.0, 0.0..9.0));
    (text(), text(), kind, class, text(), range, proptest::collection::vec((text(), text()), 0..3)).prop_map(
        |(id, title, kind, class, unit, range, attributes)| Point { id, title, kind, class, unit, range, attributes },
    )
}

proptest! {
    #[test]
    fn points_come_back_as_they_were(rows in proptest::collection::vec(point(), 0..20)) {
        let points: Points = rows.iter().cloned().collect();
        prop_assert_eq!(points.iter().collect::<Vec<_>>(), rows.clone());
        prop_assert_eq!((points.get(rows.len()), points.kind(rows.len())), (None, None));
        let ids: Vec<&str> = rows.iter().map(|point| point.id.as_str()).collect();
        prop_assert_eq!(points.ids().iter().collect::<Vec<_>>(), ids.clone());
        prop_assert_eq!(points.ids().get(rows.len()), None);
        let json = serde_json::to_string(points.ids()).unwrap();
        prop_assert_eq!(&json, &serde_json::to_string(&ids).unwrap());
        prop_assert_eq!(&serde_json::from_str::<Names>(&json).unwrap(), points.ids());
    }
}
