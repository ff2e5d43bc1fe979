//! The `json` format: readings and gaps.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::write::Object;
use super::{Identity, Message, Plan, Route, plan};
use crate::reading::{Batch, Reading, Severity, Timestamp, Value};

/// Bytes of a message around its readings, and of a reading: what is reserved at first.
const HEAD_BYTES: usize = 256;
const READING_BYTES: usize = 24;

/// The message that `plan` makes of its readings.
pub fn reading_message(route: &Route, batch: &Batch, plan: &Plan, identity: Identity) -> Message {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + READING_BYTES * plan.readings.len());
    let mut payload = Object::open(&mut bytes);
    head(&mut payload, &route.agent, identity);
    let point = describe(&mut payload, route, batch, plan);
    payload.close();
    bytes.shrink_to_fit();
    let topic = point.map_or_else(|| route.topic.clone(), |point| route.topic.replace("{point}", &point));
    Message { topic, payload: bytes }
}

/// What a batch brought, for who watches: as messages have it, but under no number, and with all points together.
/// Each text is a JSON object of about `limit` bytes at most; a single reading that is larger stands alone.
pub fn live(route: &Route, batch: &Batch, limit: u64) -> Vec<String> {
    let route = Route { topic: String::new(), max_message: limit, ..route.clone() };
    let text = |plan: &Plan| {
        let mut bytes = Vec::new();
        let mut payload = Object::open(&mut bytes);
        describe(&mut payload, &route, batch, plan);
        payload.close();
        // JSON is UTF-8.
        String::from_utf8(bytes).unwrap_or_default()
    };
    plan(&route, batch).iter().map(text).collect()
}

/// Source, time, values and reasons. Gives the point's name where the message is that of one point.
fn describe<'r>(payload: &mut Object<'_>, route: &'r Route, batch: &Batch, plan: &Plan) -> Option<Cow<'r, str>> {
    let readings = || plan.readings.iter().filter_map(|&index| batch.readings.get(index));
    let mut point = None;
    payload.put("source", &route.source);
    payload.put("time", &plan.time.rfc3339());
    if !batch.clock_synced {
        payload.put("clock", "unsynced");
    }
    if route.per_point() {
        if let Some(reading) = readings().next() {
            let name = point.insert(point_name(route, reading));
            payload.put("point", name);
            put_value(payload, "value", reading);
        }
    } else {
        let mut values = payload.object("values");
        readings().for_each(|reading| put_value(&mut values, &point_name(route, reading), reading));
        values.close();
    }
    for (key, severity) in [("uncertain", Severity::Uncertain), ("bad", Severity::Bad)] {
        let mut doubtful = readings().filter(|reading| reading.quality.severity == severity).peekable();
        if doubtful.peek().is_some() {
            let mut reasons = payload.object(key);
            doubtful.for_each(|one| reasons.put(&point_name(route, one), &one.quality.word(&route.reasons)));
            reasons.close();
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
    let mut bytes = Vec::new();
    let mut payload = Object::open(&mut bytes);
    head(&mut payload, agent, identity);
    payload.put("time", &time.rfc3339());
    let mut run = payload.object("gap");
    run.put("reason", gap.reason);
    run.put("boot", &gap.boot);
    run.put("first", &gap.first);
    run.put("last", &gap.last);
    run.put("messages", &gap.messages);
    if !gap.sources.is_empty() {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, count) in gap.sources {
            *counts.entry(name).or_default() += count;
        }
        let mut sources = run.object("sources");
        // In the order in which they were first named.
        for (name, _) in gap.sources {
            if let Some(count) = counts.remove(&**name) {
                sources.put(name, &count);
            }
        }
        sources.close();
    }
    for (key, time) in [("from", gap.from), ("to", gap.to)] {
        if let Some(time) = time {
            run.put(key, &time.rfc3339());
        }
    }
    run.close();
    payload.close();
    bytes
}

fn head(payload: &mut Object<'_>, agent: &str, identity: Identity) {
    payload.put("agent", agent);
    payload.put("store", &format!("{:08x}", u32::from_be_bytes(identity.store)));
    payload.put("boot", &identity.boot);
    payload.put("seq", &identity.seq);
}

fn point_name<'r>(route: &'r Route, reading: &Reading) -> Cow<'r, str> {
    // The host refuses readings of unknown points; a number stands where a damaged route lacks the name.
    let name = route.points.get(reading.point as usize).map(Cow::Borrowed);
    name.unwrap_or_else(|| reading.point.to_string().into())
}

/// The value, unless the reading is bad: an old or doubtful value is never shown for one that is missing.
fn put_value(into: &mut Object<'_>, key: &str, reading: &Reading) {
    let Some(value) = reading.value.as_ref().filter(|_| reading.quality.severity != Severity::Bad) else { return };
    match value {
        Value::Boolean(value) => into.put(key, value),
        Value::Integer(value) => into.put(key, value),
        Value::Unsigned(value) => into.put(key, value),
        Value::Real(value) => into.put(key, value),
        Value::Text(text) => into.put(key, text),
        Value::Bytes(bytes) => into.put(key, &STANDARD.encode(bytes)),
    }
}

/// The same as a value of its own.
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
