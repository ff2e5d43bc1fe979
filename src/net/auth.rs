//! Drives an enhanced authentication while a connection is being made.
//!
//! Owns the mechanism of one attempt. Invariants: nothing is connected before the mechanism is satisfied, whatever
//! CONNACK says; where the password is proved it is not sent.

use crate::mqtt::auth::{AuthError, Mechanism, NONCE_BYTES, SCRAM_SHA_256, Scram};
use crate::mqtt::session::Authentication;
use crate::mqtt::{Options, Reason, Session};

use super::error::ConnectError;

/// A mechanism, and the options of the CONNECT that begins with it.
pub(super) struct Attempt {
    mechanism: Box<dyn Mechanism>,
    pub(super) options: Options,
}

impl Attempt {
    /// By what `options` ask for themselves: SCRAM-SHA-256 without a first message, or nothing.
    pub(super) fn of(options: &Options) -> Result<Option<Self>, ConnectError> {
        let is_ours =
            |authentication: &&Authentication| authentication.method == SCRAM_SHA_256 && authentication.data.is_none();
        if options.authentication.as_ref().filter(is_ours).is_none() {
            return Ok(None);
        }
        let (Some(username), Some(password)) = (&options.username, &options.password) else {
            let reason = "SCRAM-SHA-256 needs a user name and a password".to_owned();
            return Err(ConnectError::AuthenticationSetup { reason });
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce)
            .map_err(|error| ConnectError::AuthenticationSetup { reason: format!("no randomness: {error}") })?;
        let mechanism = Box::new(Scram::new(username, password, nonce));
        Ok(Some(Self::with(mechanism, Options { password: None, ..options.clone() })))
    }

    /// By this mechanism.
    pub(super) fn with(mechanism: Box<dyn Mechanism>, options: Options) -> Self {
        let authentication = Authentication { method: mechanism.method().to_owned(), data: mechanism.first() };
        Self { mechanism, options: Options { authentication: Some(authentication), ..options } }
    }

    /// AUTH came: what to say to it. Off the runtime's threads, since it may compute for a while.
    pub(super) async fn answer(
        mut self,
        challenge: Vec<u8>,
        session: &mut Session,
        place: &str,
    ) -> Result<Self, ConnectError> {
        let answering = tokio::task::spawn_blocking(move || {
            let answer = self.mechanism.answer(&challenge);
            (self, answer)
        });
        let (attempt, answer) =
            answering.await.map_err(|error| ConnectError::AuthenticationSetup { reason: error.to_string() })?;
        let answer = answer.map_err(|error| failed(place, error))?;
        session
            .authenticate(Reason::CONTINUE_AUTHENTICATION, Some(&answer))
            .map_err(|error| ConnectError::Options { error })?;
        Ok(attempt)
    }

    /// CONNACK came.
    pub(super) fn finish(&mut self, last: Option<&[u8]>, place: &str) -> Result<(), ConnectError> {
        self.mechanism.finish(last).map_err(|error| failed(place, error))
    }
}

fn failed(place: &str, error: AuthError) -> ConnectError {
    ConnectError::AuthenticationFailed { place: place.to_owned(), error }
}
