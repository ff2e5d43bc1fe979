//! The words in which the spool speaks to its callers: routes, entries, gaps, options, figures, errors.
//!
//! Owns plain data only. Invariant: numbers count messages of the whole store, start at 1 and never go back within
//! what is durable; `seq` counts them within one boot and starts at 1.

use std::sync::Arc;
use std::time::Duration;

use super::payload::Payload;
use super::storage::StorageError;

/// The time, as the caller knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since the process's start.
    pub mono: Duration,
    /// Wall clock, nanoseconds since 1970, UTC.
    pub wall_ns: i64,
    /// Whether the host's clock was ever set by a source of time.
    pub synced: bool,
}

/// Where a record goes and how it is encoded. The spool repeats it in every segment and never looks into the blob.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The source's name, counted in gaps. At most [`SOURCE_MAX`] bytes.
    pub source: Arc<str>,
    /// Agent id, topic template, QoS, retain, format version, points: the publisher's own encoding.
    pub blob: Arc<[u8]>,
}

/// The longest name of a source, bytes.
pub const SOURCE_MAX: usize = 255;

/// Why messages will never come. The words of INTERFACE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The buffer was full.
    BufferFull,
    /// Older than `max_age`.
    Expired,
    /// Damaged on the disk.
    Corrupt,
    /// The broker refused them for good.
    Rejected,
    /// Larger than the broker takes.
    TooLarge,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::BufferFull, Self::Expired, Self::Corrupt, Self::Rejected, Self::TooLarge];

    /// The word that stands in a gap message.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BufferFull => "buffer-full",
            Self::Expired => "expired",
            Self::Corrupt => "corrupt",
            Self::Rejected => "rejected",
            Self::TooLarge => "too-large",
        }
    }
}

/// One run of one boot that will never be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The store under which the run was numbered (nearly always the spool's own).
    pub store: [u8; 4],
    /// The boot.
    pub boot: u32,
    /// The first missing `seq`.
    pub first: u64,
    /// The last missing `seq`.
    pub last: u64,
    /// How many messages the run had: `last - first + 1`.
    pub messages: u64,
    /// Messages per source, sorted by name, as far as they can still be told. Gaps in the run belong to no source.
    pub sources: Vec<(Arc<str>, u64)>,
    /// Time of the oldest record in the run, nanoseconds since 1970.
    pub from_ns: Option<i64>,
    /// Time of the youngest.
    pub to_ns: Option<i64>,
}

/// What [`Spool::read`](super::Spool::read) gives: a record or a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of its first message.
    pub first: u64,
    /// How many messages it makes, at least 1. Some may be done already: ask [`Delivery::is_done`](super::Delivery::is_done).
    pub messages: u32,
    /// The store under which it is published.
    pub store: [u8; 4],
    /// The boot under which it is published.
    pub boot: u32,
    /// `seq` of its first message.
    pub seq: u64,
    /// When it was taken (record) or written (gap), nanoseconds since 1970.
    pub time_ns: i64,
    /// What it is.
    pub body: Body,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A batch, as it was appended.
    Record {
        /// The route that was in force then.
        route: Arc<Route>,
        /// The bytes.
        payload: Payload,
    },
    /// What will never come.
    Gap(Gap),
}

impl Entry {
    /// Bytes that it holds, roughly: what the limit of a read counts.
    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Record { payload, .. } => payload.len(),
            Body::Gap(gap) => gap.sources.iter().map(|(name, _)| name.len().saturating_add(16)).sum(),
        }
    }
}

/// What goes when the buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest segment.
    DropOldest,
    /// What is appended.
    DropNewest,
}

/// What can change while a spool works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`Options::max_size`].
    pub max_size: u64,
    /// See [`Options::max_age`].
    pub max_age: Option<Duration>,
    /// See [`Options::when_full`].
    pub when_full: WhenFull,
}

/// Messages that were dropped since the spool was opened, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; 5]);

impl Drops {
    /// For this reason.
    pub fn of(&self, reason: GapReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// So many more.
    pub fn count(&mut self, reason: GapReason, messages: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += messages;
        }
    }
}

/// How a spool is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// All that the files may take together, bytes; at least [`MAX_SIZE_MIN`].
    pub max_size: u64,
    /// Segments whose youngest record is older are dropped.
    pub max_age: Option<Duration>,
    /// What goes when it is full.
    pub when_full: WhenFull,
    /// Bytes held in memory while the disk refuses writes.
    pub memory_max: usize,
    /// Randomness for salts; another one at every opening.
    pub seed: u64,
    /// Bytes of a segment, where `max_size` is not to choose: for tests.
    pub segment_size: Option<u32>,
}

/// The least `max_size`, bytes.
pub const MAX_SIZE_MIN: u64 = 1 << 20;

impl Default for Options {
    fn default() -> Self {
        Self {
            max_size: 512 << 20,
            max_age: None,
            when_full: WhenFull::DropOldest,
            memory_max: 4 << 20,
            seed: 0,
            segment_size: None,
        }
    }
}

/// A place that could not be read and was skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// First byte of the place.
    pub from: u64,
    /// First byte behind it.
    pub to: u64,
    /// Where its bytes were copied to, if they could be.
    pub kept_as: Option<String>,
}

/// So many damaged places are told in detail.
pub(crate) const DAMAGE_MAX: usize = 256;

/// What an opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The folder held no spool before.
    pub fresh: bool,
    /// Places that were skipped.
    pub damage: Vec<Damage>,
    /// Messages found to be missing and reported as gaps.
    pub lost_messages: u64,
    /// No delivery state could be read: the session is not to be trusted (R9).
    pub state_lost: bool,
    /// The disk refused to take the run's first page: the spool works in memory under a store id of its own.
    pub trouble: Option<StorageError>,
}

/// Whether the disk takes what is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferState {
    /// It does.
    Ok,
    /// It does not; the spool holds what is new in memory.
    Memory,
}

/// The spool's figures. `accepted = delivered + buffered + dropped`, always, in messages (gaps are messages too).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Messages that ever got a number.
    pub accepted: u64,
    /// Of these, acknowledged (or sent, at QoS 0).
    pub delivered: u64,
    /// Of these, neither acknowledged nor dropped.
    pub buffered: u64,
    /// Of these, named by a gap, or gaps that were given up.
    pub dropped: u64,
    /// Bytes that all files take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
    /// Time of the oldest record that may be buffered, nanoseconds since 1970.
    pub oldest_ns: Option<i64>,
    /// Whether the disk takes what is appended.
    pub state: BufferState,
    /// Messages that may have been delivered twice.
    pub maybe_duplicated: u64,
    /// Gap messages that were refused twice and given up.
    pub gaps_refused: u64,
}

/// Why an opening failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A file was written by a newer program; nothing was touched.
    #[error("{file} has format version {version}, this program reads up to {supported}; it was left untouched")]
    NewerVersion {
        /// The file.
        file: String,
        /// Its version.
        version: u16,
        /// The newest version that this program reads.
        supported: u16,
    },
    /// `max_size` is below [`MAX_SIZE_MIN`].
    #[error("a buffer of {max_size} bytes is too small: at least {MAX_SIZE_MIN}")]
    TooSmall {
        /// What was asked for.
        max_size: u64,
    },
    /// The folder can't be listed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a record was not accepted. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It does not fit into a segment.
    #[error("a record of {bytes} bytes is too large: at most {limit}")]
    TooLarge {
        /// Its size with its route.
        bytes: usize,
        /// The largest that fits.
        limit: usize,
    },
    /// It makes no message.
    #[error("a record makes at least one message and at most {MESSAGES_MAX}")]
    Messages,
    /// The source's name is empty or too long.
    #[error("a source's name has 1 to {SOURCE_MAX} bytes")]
    Source,
}

/// The most messages that one record makes.
pub const MESSAGES_MAX: u32 = 4096;

/// What went wrong while the spool worked. It goes on in memory and tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// No segment can be had: all of them hold what is in flight.
    #[error("no segment can be freed: what is in flight fills the buffer")]
    Full,
}

/// Why a value was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// All values together would take too much.
    #[error("durable values may take {limit} bytes together")]
    Full {
        /// The limit, bytes.
        limit: usize,
    },
    /// Owner or key is empty or longer than [`SOURCE_MAX`].
    #[error("owner and key have 1 to {SOURCE_MAX} bytes")]
    Name,
}
