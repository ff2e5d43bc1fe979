//! What a source wants of its plugin, and what it lends it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Grants;
use crate::config::{self, Limits, Packed};
use crate::device::gpio::Lines;
use crate::device::modbus::Buses;
use crate::device::system::Statistics;

/// The answer of a [`StateStore`]; an error says why it cannot be reached.
pub type StateFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Where a source's durable values are. The host keeps quota and keeps a copy, so that it is read once.
pub trait StateStore: Send + Sync {
    /// Everything that is there.
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>>;
    /// Sets a value, or deletes it where it is `None`. Durable with the next `sync`.
    fn write(&self, key: &str, value: Option<&[u8]>) -> StateFuture<'_, ()>;
}

/// What the host has to lend to those that are granted it. A clone is the same devices.
#[derive(Clone)]
pub struct Devices {
    /// Of the machine.
    pub statistics: Statistics,
    /// Digital lines.
    pub lines: Lines,
    /// Modbus lines.
    pub buses: Buses,
}

/// Whether an instance is on trial beside the one that works: while it is, it drives and writes nothing. A clone is
/// the same trial.
#[derive(Clone, Debug, Default)]
pub struct Trial(Arc<AtomicBool>);

impl Trial {
    /// It is on.
    pub fn begin() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Whether it is on.
    pub fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It has been passed.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// A source, as far as its plugin is concerned.
#[derive(Clone)]
pub struct SourceSpec {
    /// The source's name, for the log.
    pub name: String,
    /// Its `config` table as JSON.
    pub config_json: Packed,
    /// What it may use.
    pub grants: Grants,
    /// What it may take.
    pub limits: Limits,
    /// Its durable values; without it they are unavailable.
    pub state: Option<Arc<dyn StateStore>>,
    /// On as long as another instance works for the source.
    pub trial: Trial,
}

impl SourceSpec {
    /// As the configuration says.
    pub fn new(source: &config::Source) -> Self {
        Self {
            name: source.name.clone(),
            config_json: source.config.clone(),
            grants: source.allow.clone(),
            limits: source.limits.clone(),
            state: None,
            trial: Trial::default(),
        }
    }

    /// One of which nothing is known, to ask a plugin what it is.
    pub fn unknown(name: &str, limits: Limits) -> Self {
        Self {
            name: name.to_owned(),
            config_json: "{}".into(),
            grants: Grants::default(),
            limits,
            state: None,
            trial: Trial::default(),
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
