//! The log on disk that every reading goes through, and the MQTT session store.
//!
//! ```text
//!  append ──▶ pending (memory, until durable) ──▶ active segment ──▶ sealed segments ──▶ freed: recycled
//!                │                                   sync               │ all done, or dropped with a gap
//!                └────────────── read ◀─────────────────────────────────┘
//! ```
//!
//! Owns the format (docs/spool-format.md), recovery, retention and the delivery state. Ring 0: bytes and values in,
//! decisions out; the disk is [`Storage`], time is [`Now`], randomness is [`Options::seed`].
//!
//! Invariants:
//! - *Conservation*: every number is delivered, buffered or dropped, and what is dropped is named by a gap that
//!   became durable in the same frame as the drop.
//! - A number settled (delivered or dropped) is never read again; a segment is recycled only when all its numbers are
//!   settled in a state that is durable.
//! - A durable page is never written again before its segment is recycled.
//! - All files together stay within `max_size`.

mod active;
mod bytes;
mod core;
mod flush;
mod format;
mod gap;
mod journal;
mod limits;
mod log;
mod lost;
mod pack;
mod payload;
mod pending;
mod pool;
mod ranges;
mod read;
mod recover;
mod retain;
mod roll;
mod sabotage;
mod scan;
mod squeeze;
mod state;
mod storage;
mod summary;
mod survey;
#[cfg(test)]
mod testing;
mod times;
mod types;
mod view;
mod window;
mod write;

pub use core::Spool;
pub use journal::*;
pub use log::Refusal;
pub use payload::Payload;
pub use state::{Delivery, WINDOW};
pub use storage::{Deferred, FileInfo, Storage, StorageError, StorageErrorKind};
pub use types::*;
pub use view::{BootView, Fault, Kind as SegmentKind, SegmentView, View};
