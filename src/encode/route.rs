//! The route of a record: everything but the batch that decides about its messages' bytes.

use serde::{Deserialize, Serialize};

use crate::reading::Names;

/// How a source's batches become messages. Fixed when a record is appended; later reloads and upgrades touch
/// later records only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Version of the encoder; 1 is the only one yet.
    pub version: u32,
    /// The agent's id at the time.
    pub agent: String,
    /// The source's name.
    pub source: String,
    /// The topic; `{point}` is the only placeholder left in it.
    pub topic: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps the last one.
    pub retain: bool,
    /// Largest payload, bytes; a batch that makes more is split.
    pub max_message: u64,
    /// Names of the points, by index.
    pub points: Names,
    /// The plugin's own reasons, by index.
    pub reasons: Vec<String>,
}

/// Why a route from the spool can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Written by a newer version of this program.
    #[error("route has version {0}, this program knows version 1")]
    Version(u32),
    /// Not the JSON that [`Route::to_bytes`] writes.
    #[error("route is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

impl Route {
    /// The version that new records get.
    pub const VERSION: u32 = 1;

    /// As it lies in the spool.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers only: nothing in it can fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What [`Route::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RouteError> {
        let route: Self = serde_json::from_slice(bytes)?;
        if route.version != Self::VERSION {
            return Err(RouteError::Version(route.version));
        }
        Ok(route)
    }

    /// Whether every point has a message of its own.
    pub fn per_point(&self) -> bool {
        self.topic.contains("{point}")
    }
}
