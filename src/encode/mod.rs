//! Records into messages: topics and payloads, as INTERFACE section 3 of the manual gives them.
//!
//! Pure: the same route and the same batch make the same bytes, today and after an upgrade, because a message
//! that is sent again must be the message that was sent. So an encoder's version is never changed, only
//! another one added, and whatever decides about the bytes stands in the [`Route`], which lies in the spool
//! beside its records.

pub mod command;
mod json;
mod notices;
mod route;
mod split;
mod write;

pub use json::{Gap, gap, live, reading_message, shown};
pub use notices::{meta, status};
pub use route::{Route, RouteError};
pub use split::{Plan, plan};

/// What names a message for ever, together with the agent's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the data folder; shown as eight hexadecimal digits.
    pub store: [u8; 4],
    /// Which start of the agent took it.
    pub boot: u32,
    /// Its number in that boot, from 1 on.
    pub seq: u64,
}

/// A message ready for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Without wildcards.
    pub topic: String,
    /// JSON, UTF-8.
    pub payload: Vec<u8>,
}

#[cfg(test)]
mod tests;
