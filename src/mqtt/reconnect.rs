//! How long to wait before the next attempt to connect.
//!
//! Full jitter: the wait is drawn evenly between nothing and a ceiling that doubles with each failure, so that a fleet
//! that lost its server in one instant does not come back in one (F-23). The ceiling falls back only after a
//! connection that has stood for [`STANDING_MIN`], not at CONNACK. Some failures will not pass by themselves; those
//! wait for the whole of the longest ceiling, and the caller says them loudly.

use std::time::Duration;

use crate::mqtt::packet::Reason;

/// A connection that stood for so long was a good one.
pub const STANDING_MIN: Duration = Duration::from_secs(60);

/// How an attempt or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Name, address, TCP, TLS, proxy, WebSocket, a time-out, or the link broke.
    Network,
    /// CONNACK with an error.
    Refused(Reason),
    /// DISCONNECT from the server.
    Disconnected(Reason),
    /// The server broke the protocol.
    Protocol,
}

/// What can be hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may pass by itself: tried again soon.
    Passing,
    /// Not at once, or two clients that share an identifier throw each other out for ever; or the server asked for
    /// a pause.
    Patient,
    /// Somebody has to change something, here or at the server: tried again slowly and said loudly.
    Lasting,
}

impl Failure {
    /// What can be hoped for after it.
    pub fn outlook(self) -> Outlook {
        let reason = match self {
            Self::Network => return Outlook::Passing,
            Self::Protocol => return Outlook::Patient,
            Self::Refused(reason) | Self::Disconnected(reason) => reason,
        };
        match reason {
            Reason::MALFORMED_PACKET
            | Reason::PROTOCOL_ERROR
            | Reason::UNSUPPORTED_PROTOCOL_VERSION
            | Reason::CLIENT_IDENTIFIER_NOT_VALID
            | Reason::BAD_USER_NAME_OR_PASSWORD
            | Reason::NOT_AUTHORIZED
            | Reason::BANNED
            | Reason::BAD_AUTHENTICATION_METHOD
            | Reason::TOPIC_NAME_INVALID
            | Reason::TOPIC_FILTER_INVALID
            | Reason::PACKET_TOO_LARGE
            | Reason::PAYLOAD_FORMAT_INVALID
            | Reason::RETAIN_NOT_SUPPORTED
            | Reason::QOS_NOT_SUPPORTED
            | Reason::USE_ANOTHER_SERVER
            | Reason::SERVER_MOVED
            | Reason::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
            | Reason::SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED
            | Reason::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED => Outlook::Lasting,
            Reason::SESSION_TAKEN_OVER
            | Reason::SERVER_BUSY
            | Reason::MESSAGE_RATE_TOO_HIGH
            | Reason::QUOTA_EXCEEDED
            | Reason::ADMINISTRATIVE_ACTION
            | Reason::CONNECTION_RATE_EXCEEDED
            | Reason::RECEIVE_MAXIMUM_EXCEEDED
            | Reason::TOPIC_ALIAS_INVALID => Outlook::Patient,
            _ => Outlook::Passing,
        }
    }
}

/// The waits between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first ceiling and the last one.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), failures: 0 }
    }

    /// How long to wait after this failure. `random`: evenly drawn from all 64-bit numbers.
    pub fn next(&mut self, failure: Failure, random: u64) -> Duration {
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let ceiling = self.min.saturating_mul(factor).min(self.max);
        self.failures = self.failures.saturating_add(1);
        match failure.outlook() {
            Outlook::Passing => part(ceiling, random),
            Outlook::Patient => ceiling.max(self.min) / 2 + part(self.max / 2, random),
            Outlook::Lasting => self.max / 2 + part(self.max / 2, random),
        }
    }

    /// How long to wait where the connection was ended by a refusal of one message, not by the state of link or
    /// broker: about the first ceiling, and no failure.
    pub fn soon(&self, random: u64) -> Duration {
        self.min / 2 + part(self.min, random)
    }

    /// The connection that just ended had stood for so long after CONNACK.
    pub fn stood(&mut self, for_how_long: Duration) {
        if for_how_long >= STANDING_MIN {
            self.failures = 0;
        }
    }

    /// Failures since a connection last stood.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// A part of `whole`, evenly drawn: nothing at 0, nearly all at `u64::MAX`.
fn part(whole: Duration, random: u64) -> Duration {
    let nanos = whole.as_nanos().min(u128::from(u64::MAX));
    // The upper half of a product of two 64-bit numbers is below each of them.
    Duration::from_nanos(((nanos * u128::from(random)) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);

    /// F-23: the ceiling doubles, stays below the longest, and falls only after a connection that stood.
    #[test]
    fn the_ceiling_doubles_and_falls_only_after_standing() {
        let mut backoff = Backoff::new(MIN, MAX);
        let mut ceilings = Vec::new();
        for _ in 0..8 {
            ceilings.push(backoff.next(Failure::Network, u64::MAX).as_secs_f64().round() as u64);
        }
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.stood(Duration::from_secs(59));
        assert!(backoff.next(Failure::Network, u64::MAX) + MIN > MAX);
        backoff.stood(Duration::from_secs(60));
        assert!(backoff.next(Failure::Network, u64::MAX) <= MIN);
    }

    #[test]
    fn the_wait_is_spread_over_the_whole_range() {
        let mut backoff = Backoff::new(MAX, MAX);
        assert_eq!(backoff.next(Failure::Network, 0), Duration::ZERO);
        assert_eq!(backoff.next(Failure::Network, 1 << 63), MAX / 2);
        for _ in 0..1000 {
            assert!(backoff.next(Failure::Network, u64::MAX) <= MAX);
        }
    }

    #[test]
    fn what_will_not_pass_is_tried_slowly() {
        for reason in [Reason::BAD_USER_NAME_OR_PASSWORD, Reason::NOT_AUTHORIZED, Reason::SERVER_MOVED] {
            let mut backoff = Backoff::new(MIN, MAX);
            assert!(backoff.next(Failure::Refused(reason), 0) >= MAX / 2, "{reason}");
        }
        let mut backoff = Backoff::new(MIN, MAX);
        assert!(backoff.next(Failure::Disconnected(Reason::SESSION_TAKEN_OVER), 0) >= MIN / 2, "never at once");
        let mut backoff = Backoff::new(MIN, MAX);
        assert_eq!(backoff.next(Failure::Disconnected(Reason::SERVER_SHUTTING_DOWN), 0), Duration::ZERO);
    }
}
