//! What the agent shows of itself: plain data, as `status --json` prints it (INTERFACE section 4).
//!
//! Owned by whoever it speaks of, gathered when somebody asks. Names of fields are part of the contract.

use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's id.
    pub agent: String,
    /// The data folder's random name, eight hexadecimal digits.
    pub store: String,
    /// Of the program.
    pub version: String,
    /// Which start on this data folder.
    pub boot: u32,
    /// Seconds since this start.
    pub uptime_s: u64,
    /// The configuration in force, and what is wrong with a newer one.
    pub config: Config,
    /// The way to the broker.
    pub mqtt: Mqtt,
    /// The log on disk.
    pub buffer: Buffer,
    /// In order of name.
    pub sources: Vec<Source>,
    /// In order of name.
    #[serde(default)]
    pub buses: Vec<Bus>,
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Whether what lies in the files is what runs.
    pub valid: bool,
    /// Why not, one text an error.
    pub errors: Vec<String>,
    /// RFC 3339.
    pub loaded_at: String,
}

/// How far the way to the broker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Messages flow.
    Connected,
    /// An attempt is under way.
    Connecting,
    /// Until the next attempt.
    Waiting,
    /// There is no `[mqtt]`.
    #[default]
    Unconfigured,
}

/// The way to the broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mqtt {
    /// How far it stands.
    pub state: LinkState,
    /// Its url, without credentials.
    pub broker: Option<String>,
    /// `5` or `3.1.1`, once connected.
    pub version: Option<String>,
    /// When `state` began, RFC 3339.
    pub since: Option<String>,
    /// Why the last attempt or connection ended.
    pub last_error: Option<String>,
    /// PUBLISH packets of readings and gaps that were sent.
    pub published: u64,
    /// Messages that the broker has taken over.
    pub acknowledged: u64,
    /// Sent and not yet acknowledged.
    pub in_flight: u64,
    /// Messages that were sent again in a new session.
    pub maybe_duplicated: u64,
}

/// The log on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Buffer {
    /// `ok`, or `memory` while the disk refuses writes.
    pub state: String,
    /// Accepted, and neither acknowledged nor dropped.
    pub messages: u64,
    /// All that it takes on the disk.
    pub bytes: u64,
    /// When the oldest message in it was taken, RFC 3339.
    pub oldest: Option<String>,
    /// Messages that gaps name.
    pub dropped: u64,
    /// `buffer.max_size`.
    pub max_bytes: u64,
    /// Messages that were ever accepted on this data folder.
    pub accepted: u64,
    /// Messages that were ever delivered from it.
    pub delivered: u64,
    /// Accepted a second, over the last minute.
    pub accepted_per_s: f64,
    /// Delivered a second, over the last minute.
    pub delivered_per_s: f64,
    /// What is being dropped, as long as it goes on.
    #[serde(default)]
    pub dropping: Vec<Dropping>,
}

/// Messages are dropped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dropping {
    /// As in gap messages.
    pub reason: String,
    /// When it began, RFC 3339.
    pub since: String,
    /// So far.
    pub messages: u64,
}

/// How a source is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Polled on schedule.
    Running,
    /// Waiting to be started (again).
    #[default]
    Backoff,
    /// Waiting for another configuration or plugin.
    Failed,
    /// Ended.
    Stopped,
}

/// A source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its plugin's name.
    pub plugin: String,
    /// How it is.
    pub state: SourceState,
    /// Polls that were begun.
    pub polls: u64,
    /// Slots of the schedule that passed without a poll.
    pub missed: u64,
    /// Readings that were accepted.
    pub readings: u64,
    /// Polls that failed.
    pub errors: u64,
    /// Calls of the plugin that its `allow` does not grant.
    pub refused: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// When the last poll began, RFC 3339.
    pub last_poll: Option<String>,
    /// Why the last poll or start failed.
    pub last_error: Option<String>,
    /// Linear memory of the plugin.
    pub memory_bytes: u64,
}

/// How far the way to a bus stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusState {
    /// Nobody has asked anything.
    #[default]
    Idle,
    /// It is being reached for.
    Connecting,
    /// There is a connection.
    Connected,
    /// Until the next attempt.
    Waiting,
}

/// A Modbus line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// How far the way to it stands.
    pub state: BusState,
    /// Requests.
    pub requests: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Requests that a device refused.
    pub exceptions: u64,
    /// Attempts that failed for any reason but an exception.
    pub errors: u64,
    /// Connections that were made.
    pub connects: u64,
    /// Units that do not answer, and are asked less and less often.
    pub units_aside: Vec<u8>,
    /// What went wrong last.
    pub last_error: Option<String>,
}
