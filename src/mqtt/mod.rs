//! An MQTT client without input or output: bytes in, bytes and events out, for MQTT 3.1.1 and 5.0.
//!
//! - [`packet`] turns bytes into packets and back, strictly, borrowing from the input.
//! - [`session`] is the state machine of one client: what is in flight, what must be said next, what came in.
//! - [`auth`] is a client's side of an enhanced authentication, with SCRAM-SHA-256.
//! - [`reconnect`] says how long to wait before the next attempt.
//!
//! Nothing here reads a clock, opens a socket, keeps a file or knows what a reading is: time is an argument (`Duration`
//! since some fixed start), randomness is an argument, and what must outlive the process is told to the caller.
//! Numbers in square brackets such as `[MQTT-3.3.1-1]` are the OASIS standards' own; those of 3.1.1 say so.

pub mod auth;
pub mod packet;
pub mod reconnect;
pub mod session;

pub use packet::{PacketId, QoS, Reason, Version};
pub use session::{Event, Options, Session};
