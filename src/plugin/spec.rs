//! What a source wants of its plugin, and what it lends it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::Grants;
use crate::config::{self, Limits};

/// The answer of a [`StateStore`]; an error says why it cannot be reached.
pub type StateFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where a source's durable values are. The host keeps quota and keeps a copy, so that it is read once.
pub trait StateStore: Send + Sync {
    /// Everything that is there.
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>>;
    /// Sets a value, or deletes it where it is `None`. Durable with the next `sync`.
    fn write(&self, key: &str, value: Option<&[u8]>) -> StateFuture<'_, ()>;
}

/// A source, as far as its plugin is concerned.
#[derive(Clone)]
pub struct SourceSpec {
    /// The source's name, for the log.
    pub name: String,
    /// Its `config` table as JSON.
    pub config_json: String,
    /// What it may use.
    pub grants: Grants,
    /// What it may take.
    pub limits: Limits,
    /// Its durable values; without it they are unavailable.
    pub state: Option<Arc<dyn StateStore>>,
}

impl SourceSpec {
    /// As the configuration says.
    pub fn new(source: &config::Source) -> Self {
        Self {
            name: source.name.clone(),
            config_json: source.config.to_string(),
            grants: source.allow.clone(),
            limits: source.limits.clone(),
            state: None,
        }
    }

    /// With a store for its values.
    #[must_use]
    pub fn with_state(mut self, state: Arc<dyn StateStore>) -> Self {
        self.state = Some(state);
        self
    }
}

impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the configuration: it may hold what is nobody's business.
        f.debug_struct("SourceSpec")
            .field("name", &self.name)
            .field("grants", &self.grants)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
