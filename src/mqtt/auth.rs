//! Enhanced authentication (5.0): a mechanism's side of the talk, without input or output.
//!
//! ```text
//!  first() ─▶ CONNECT │ AUTH 0x19          server: AUTH 0x18 ─▶ answer() ─▶ AUTH 0x18, as often as it asks
//!                                          server: CONNACK, AUTH 0x00 ─▶ finish()
//! ```
//!
//! [`Mechanism`] is what [`net`](crate::net) drives while it connects. To authenticate again on a standing connection
//! [MQTT-4.12.1-1], a fresh mechanism's `first` goes into [`Session::authenticate`](super::Session::authenticate) with
//! [`Reason::REAUTHENTICATE`](super::Reason::REAUTHENTICATE), and each [`Event::Authenticate`](super::Event::Authenticate)
//! is answered in the same way. One mechanism is here: [`Scram`].

mod scram;

pub use scram::{ITERATIONS_MAX, ITERATIONS_MIN, NONCE_BYTES, SCRAM_SHA_256, Scram};

/// One side of an authentication. One value is one attempt.
pub trait Mechanism: Send {
    /// Its name, which every packet of the authentication bears. [MQTT-4.12.0-5]
    fn method(&self) -> &str;

    /// What it says first, if it does.
    fn first(&self) -> Option<Vec<u8>>;

    /// What it answers to the server. May compute for a second.
    ///
    /// # Errors
    /// What the server says is not right; the connection is to be closed.
    fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, AuthError>;

    /// The server says that it is satisfied: `last` is what came with that.
    ///
    /// # Errors
    /// We are not; the connection is to be closed.
    fn finish(&mut self, last: Option<&[u8]>) -> Result<(), AuthError>;
}

/// Why an authentication can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The server's message is not one of this mechanism's.
    #[error("the broker's message is malformed: {0}")]
    Malformed(&'static str),
    /// It answers another client's message, or one of an earlier attempt.
    #[error("the broker's nonce does not go on from ours")]
    Nonce,
    /// Too few iterations protect nothing, too many only take time.
    #[error("the broker asks for {0} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken")]
    Iterations(u32),
    /// The server refused, in its own words.
    #[error("the broker says {0:?}")]
    Refused(String),
    /// The server does not know the password itself.
    #[error("the broker has not proved that it knows the password")]
    NotProved,
    /// A message at a time when none is due.
    #[error("the broker's message comes out of turn")]
    OutOfTurn,
}
