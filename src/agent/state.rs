//! A source's small durable values, as its plugin's `state` interface wants them: frames of the log, no second database.

use crate::plugin::{StateFuture, StateStore};

use super::log::Log;

/// The values of one source.
pub struct PluginState {
    log: Log,
    owner: String,
}

impl PluginState {
    /// Of the source with this name.
    pub fn new(log: Log, source: &str) -> Self {
        // The agent's own values have an owner without a slash.
        Self { log, owner: format!("source/{source}") }
    }
}

impl StateStore for PluginState {
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async { self.log.values(&self.owner).await.map_err(|ended| ended.to_string()) })
    }

    fn write(&self, key: &str, value: Option<&[u8]>) -> StateFuture<'_, ()> {
        let (key, value) = (key.to_owned(), value.map(<[u8]>::to_vec));
        Box::pin(async { self.log.set_value(&self.owner, key, value).await })
    }
}
