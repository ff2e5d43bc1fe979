//! The `json` format: readings and gaps.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::{Identity, Message, Plan, Route, plan};
use crate::reading::{Batch, Reading, Severity, Timestamp, Value};

/// The message that `plan` makes of its readings.
pub fn reading_message(route: &Route, batch: &Batch, plan: &Plan, identity: Identity) -> Message {
    let mut payload = head(&route.agent, identity);
    let mut topic = route.topic.clone();
    if let Some(point) = describe(&mut payload, route, batch, plan) {
        topic = topic.replace("{point}", &point);
    }
    Message { topic, payload: bytes(&payload) }
}

/// What a batch brought, for who watches: as messages have it, but under no number, and with all points together.
/// Each text is a JSON object of about `limit` bytes at most; a single reading that is larger stands alone.
pub fn live(route: &Route, batch: &Batch, limit: u64) -> Vec<String> {
    let route = Route { topic: String::new(), max_message: limit, ..route.clone() };
    let text = |plan: &Plan| {
        let mut payload = Map::new();
        describe(&mut payload, &route, batch, plan);
        Json::from(payload).to_string()
    };
    plan(&route, batch).iter().map(text).collect()
}

/// Source, time, values and reasons. Gives the point's name where the message is that of one point.
fn describe(payload: &mut Map<String, Json>, route: &Route, batch: &Batch, plan: &Plan) -> Option<String> {
    let readings = || plan.readings.iter().filter_map(|&index| batch.readings.get(index));
    let mut point = None;
    payload.insert("source".into(), route.source.as_str().into());
    payload.insert("time".into(), plan.time.rfc3339().into());
    if !batch.clock_synced {
        payload.insert("clock".into(), "unsynced".into());
    }
    if route.per_point() {
        if let Some(reading) = readings().next() {
            let name = point.insert(point_name(route, reading));
            payload.insert("point".into(), name.as_str().into());
            if let Some(value) = shown(reading) {
                payload.insert("value".into(), value);
            }
        }
    } else {
        let values: Map<String, Json> = readings().filter_map(|r| Some((point_name(route, r), shown(r)?))).collect();
        payload.insert("values".into(), values.into());
    }
    for (key, severity) in [("uncertain", Severity::Uncertain), ("bad", Severity::Bad)] {
        let reasons: Map<String, Json> = readings()
            .filter(|reading| reading.quality.severity == severity)
            .map(|reading| (point_name(route, reading), reading.quality.word(&route.reasons).into()))
            .collect();
        if !reasons.is_empty() {
            payload.insert(key.into(), reasons.into());
        }
    }
    point
}

/// A run of messages that will never come.
pub struct Gap<'a> {
    /// `buffer-full expired corrupt rejected too-large`.
    pub reason: &'a str,
    /// The boot that the run belongs to.
    pub boot: u32,
    /// First `seq` of the run.
    pub first: u64,
    /// Last `seq` of the run.
    pub last: u64,
    /// How many messages.
    pub messages: u64,
    /// How many of each source, as far as it can still be read; a source named twice counts together.
    pub sources: &'a [(std::sync::Arc<str>, u64)],
    /// When the first one was taken.
    pub from: Option<Timestamp>,
    /// When the last one was taken.
    pub to: Option<Timestamp>,
}

/// The payload of a gap message that was written at `time`.
pub fn gap(agent: &str, identity: Identity, time: Timestamp, gap: &Gap<'_>) -> Vec<u8> {
    let mut payload = head(agent, identity);
    payload.insert("time".into(), time.rfc3339().into());
    let mut run = Map::new();
    run.insert("reason".into(), gap.reason.into());
    run.insert("boot".into(), gap.boot.into());
    run.insert("first".into(), gap.first.into());
    run.insert("last".into(), gap.last.into());
    run.insert("messages".into(), gap.messages.into());
    let mut seen = HashSet::new();
    let names: Vec<_> = gap.sources.iter().map(|(name, _)| name).filter(|name| seen.insert(*name)).collect();
    if !names.is_empty() {
        let count = |name| gap.sources.iter().filter(|(other, _)| other == name).map(|(_, count)| count).sum::<u64>();
        run.insert("sources".into(), names.iter().map(|name| (name.to_string(), json!(count(*name)))).collect());
    }
    for (key, time) in [("from", gap.from), ("to", gap.to)] {
        if let Some(time) = time {
            run.insert(key.into(), time.rfc3339().into());
        }
    }
    payload.insert("gap".into(), run.into());
    bytes(&payload)
}

fn head(agent: &str, identity: Identity) -> Map<String, Json> {
    let mut payload = Map::new();
    payload.insert("agent".into(), agent.into());
    payload.insert("store".into(), format!("{:08x}", u32::from_be_bytes(identity.store)).into());
    payload.insert("boot".into(), identity.boot.into());
    payload.insert("seq".into(), identity.seq.into());
    payload
}

fn point_name(route: &Route, reading: &Reading) -> String {
    // The host refuses readings of unknown points; a number stands where a damaged route lacks the name.
    route.points.get(reading.point as usize).cloned().unwrap_or_else(|| reading.point.to_string())
}

/// The value, unless the reading is bad: an old or doubtful value is never shown for one that is missing.
pub fn shown(reading: &Reading) -> Option<Json> {
    if reading.quality.severity == Severity::Bad {
        return None;
    }
    Some(match reading.value.as_ref()? {
        Value::Boolean(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Unsigned(value) => (*value).into(),
        Value::Real(value) => json!(value),
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
    })
}

fn bytes(payload: &Map<String, Json>) -> Vec<u8> {
    // A map of JSON values always becomes text.
    serde_json::to_vec(payload).unwrap_or_default()
}
