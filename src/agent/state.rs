//! A source's small durable values, as its plugin's `state` interface wants them: frames of the log, no second database.
//!
//! A trial of a replaced plugin reads what is there, and what it writes is held back until it takes over.

use tokio::sync::Mutex;

use super::log::Log;
use crate::plugin::{StateFuture, StateStore, Trial};

/// Writes that one trial may make; it has one start and one poll.
const HELD_MAX: usize = 1024;

type Write = (String, Option<Vec<u8>>);

/// The values of one source.
pub struct PluginState {
    log: Log,
    owner: String,
    trial: Trial,
    /// What was written while the trial was on.
    held: Mutex<Vec<Write>>,
}

impl PluginState {
    /// Of the source with this name. While `trial` is on, writes are held back.
    pub fn new(log: Log, source: &str, trial: Trial) -> Self {
        // The agent's own values have an owner without a slash.
        Self { log, owner: format!("source/{source}"), trial, held: Mutex::new(Vec::new()) }
    }

    /// The trial was ended: what was held back is written.
    pub async fn write_held(&self) -> Result<(), String> {
        let held = std::mem::take(&mut *self.held.lock().await);
        for (key, value) in held {
            self.log.set_value(&self.owner, key, value).await?;
        }
        Ok(())
    }
}

impl StateStore for PluginState {
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async { self.log.values(&self.owner).await.map_err(|ended| ended.to_string()) })
    }

    fn write(&self, key: &str, value: Option<&[u8]>) -> StateFuture<'_, ()> {
        let (key, value) = (key.to_owned(), value.map(<[u8]>::to_vec));
        Box::pin(async {
            if !self.trial.holds() {
                return self.log.set_value(&self.owner, key, value).await;
            }
            let mut held = self.held.lock().await;
            if held.len() >= HELD_MAX {
                return Err("too many writes before the plugin has taken over".into());
            }
            held.push((key, value));
            Ok(())
        })
    }
}
