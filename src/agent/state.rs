//! A source's small durable values, as its plugin's `state` interface wants them: frames of the log, no second database.
//!
//! A trial of a replaced plugin reads what is there, and what it writes is held back until it takes over.

use tokio::sync::Mutex;

use super::log::Log;
use crate::plugin::{StateFuture, StateStore};

/// Writes that one trial may make; it has one start and one poll.
const HELD_MAX: usize = 1024;

type Write = (String, Option<Vec<u8>>);

/// The values of one source.
pub struct PluginState {
    log: Log,
    owner: String,
    /// `Some` during a trial.
    held: Mutex<Option<Vec<Write>>>,
}

impl PluginState {
    /// Of the source with this name; `trial` holds writes back until [`PluginState::promote`].
    pub fn new(log: Log, source: &str, trial: bool) -> Self {
        // The agent's own values have an owner without a slash.
        Self { log, owner: format!("source/{source}"), held: Mutex::new(trial.then(Vec::new)) }
    }

    /// The trial has passed: what it wrote is written, and so is all that follows.
    pub async fn promote(&self) -> Result<(), String> {
        let held = self.held.lock().await.take();
        for (key, value) in held.into_iter().flatten() {
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
            match self.held.lock().await.as_mut() {
                Some(held) if held.len() >= HELD_MAX => Err("too many writes before the plugin has taken over".into()),
                Some(held) => {
                    held.push((key, value));
                    Ok(())
                }
                None => self.log.set_value(&self.owner, key, value).await,
            }
        })
    }
}
