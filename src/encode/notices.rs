//! What is said beside the log: status and meta. No `seq`, sent anew after each connection.

use serde_json::{Map, Value as Json, json};

use crate::reading::{Point, Timestamp};

/// The status message: `online`, `offline` (the last will, without a time of its own) or `stopped`.
pub fn status(state: &str, version: &str, boot: u32, time: Timestamp) -> Vec<u8> {
    json!({"state": state, "version": version, "boot": boot, "time": time.rfc3339()}).to_string().into_bytes()
}

/// What a source measures.
pub fn meta(agent: &str, source: &str, plugin: (&str, &str), points: &[Point]) -> Vec<u8> {
    let points: Map<String, Json> = points
        .iter()
        .map(|point| {
            let mut entry = Map::new();
            entry.insert("kind".into(), json!(point.kind));
            entry.insert("class".into(), json!(point.class));
            entry.insert("unit".into(), point.unit.as_str().into());
            if !point.title.is_empty() {
                entry.insert("title".into(), point.title.as_str().into());
            }
            (point.id.clone(), entry.into())
        })
        .collect();
    json!({"agent": agent, "source": source, "plugin": {"name": plugin.0, "version": plugin.1}, "points": points})
        .to_string()
        .into_bytes()
}
