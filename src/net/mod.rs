//! The way to the broker, and the motor that turns [`mqtt::Session`](crate::mqtt::Session)'s wheels.
//!
//! - [`Dialer::connect`] goes from a [`Target`] to a connection that the broker has accepted: files, name,
//!   TCP or unix socket, proxy, TLS, WebSocket, CONNECT and CONNACK, under one deadline. What fails is a [`ConnectError`] that
//!   says which step, where, why, and what to look at.
//! - [`Connection::turn`] moves bytes and turns timers until the session has something to say.
//!
//! ```text
//!  Target ──▶ files ──▶ name ──▶ TCP ──▶ TLS ──▶ CONNECT ──▶ CONNACK ──▶ Connection ──turn──▶ .. ──▶ LinkError
//!               │         │       │       │                     │                     └─close──▶ done
//!               └─────────┴───────┴───────┴──── ConnectError ◀──┘
//! ```
//!
//! Invariants: nothing here outlives a connection but the [`Dialer`], which keeps TLS tickets; the session
//! belongs to the caller and is only borrowed; dropping any future here loses no byte and no event.

mod auth;
mod classify;
mod connection;
mod dial;
mod error;
mod files;
mod hint;
mod proxy;
mod secret;
mod stream;
mod target;
mod tcp;
mod tls;
mod websocket;

pub use connection::{Connection, Peer};
pub use dial::Dialer;
pub use error::{Attempt, ConnectError, LinkError, Step};
pub use files::Fingerprint;
pub use secret::password;
pub use target::{Proxy, Target};
pub use tls::{Roots, Session as TlsSession, TlsFiles};

#[cfg(test)]
mod tests;
