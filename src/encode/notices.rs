//! What is said beside the log: status and meta. No `seq`, sent anew after each connection.

use serde_json::json;

use super::write::Object;
use crate::reading::{Points, Timestamp};

/// The status message: `online`, `offline` (the last will, without a time of its own) or `stopped`.
pub fn status(state: &str, version: &str, boot: u32, time: Timestamp) -> Vec<u8> {
    json!({"state": state, "version": version, "boot": boot, "time": time.rfc3339()}).to_string().into_bytes()
}

/// What a source measures.
pub fn meta(agent: &str, source: &str, (name, version): (&str, &str), points: &Points) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut payload = Object::open(&mut bytes);
    payload.put("agent", agent);
    payload.put("source", source);
    let mut plugin = payload.object("plugin");
    plugin.put("name", name);
    plugin.put("version", version);
    plugin.close();
    let mut all = payload.object("points");
    for point in points.iter() {
        let mut entry = all.object(&point.id);
        entry.put("kind", &point.kind);
        entry.put("class", &point.class);
        entry.put("unit", &point.unit);
        if !point.title.is_empty() {
            entry.put("title", &point.title);
        }
        entry.close();
    }
    all.close();
    payload.close();
    bytes.shrink_to_fit();
    bytes
}
