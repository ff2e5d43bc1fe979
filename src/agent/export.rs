//! What would be published, for whoever wants it without a broker: the same messages, byte by byte.

use std::collections::BTreeSet;

use super::publisher::{GapRoute, Routes};
use crate::config::Settings;
use crate::spool::Entry;

/// Makes messages of what lies in the buffer.
pub struct Exporter {
    routes: Routes,
    agent: String,
    gaps: Option<String>,
}

/// A message as it would go out.
pub struct Exported {
    /// Its number in the store; see [`crate::spool`].
    pub number: u64,
    /// Its topic.
    pub topic: String,
    /// 0, 1 or 2, before the broker's maximum is known.
    pub qos: u8,
    /// Whether the broker is to keep it.
    pub retain: bool,
    /// One JSON document, without a line break.
    pub payload: Vec<u8>,
}

impl Exporter {
    /// Gaps go out under the settings in force; readings as they were accepted.
    pub fn new(settings: &Settings) -> Self {
        let gaps = settings.mqtt.as_ref().and_then(|mqtt| mqtt.topics.gaps.as_ref());
        let gaps = gaps.map(|topic| topic.as_str().to_owned());
        Self { routes: Routes::default(), agent: settings.agent.id.clone(), gaps }
    }

    /// The messages of an entry, in order. A gap makes none where `mqtt.topics.gaps` is turned off, or there is no
    /// `[mqtt]`. An error says why the entry can't be read.
    pub fn messages(&mut self, entry: &Entry) -> Result<Vec<Exported>, String> {
        let route = GapRoute { topic: self.gaps.as_deref(), agent: &self.agent, bare: &BTreeSet::new() };
        let items = self.routes.items(entry, &route)?;
        let exported = items.into_iter().map(|item| Exported {
            number: item.origin.number,
            topic: item.message.topic,
            qos: item.qos as u8,
            retain: item.retain,
            payload: item.message.payload,
        });
        Ok(exported.collect())
    }
}
