//! When to send PINGREQ, and when to give a link up.
//!
//! What counts is proof that what we send arrives: an answer of the server to something of ours. Bytes that merely
//! flow in, or that the transport merely takes, prove nothing, and so traffic one way never hides a dead link.
//! PINGREQ goes out when for 3/4 of the keep-alive nothing was sent, or nothing was proved; at 1.5 times the
//! keep-alive without proof the link is dead. Both hold under load too. [MQTT-3.1.2-20]

use std::time::Duration;

use super::ACKNOWLEDGEMENT_MAX;

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Zero: no keep-alive.
    keep_alive: Duration,
    sent: Duration,
    proved: Duration,
    /// When PINGREQ was queued, while its answer is awaited.
    asked: Option<Duration>,
    /// Since when the server owes an acknowledgement.
    waiting_since: Option<Duration>,
}

/// What a timer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    KeepAlive,
    Acknowledgement,
}

impl Timers {
    /// CONNACK came.
    pub(super) fn start(&mut self, now: Duration, keep_alive_s: u16) {
        *self = Self {
            keep_alive: Duration::from_secs(u64::from(keep_alive_s)),
            sent: now,
            proved: now,
            asked: None,
            waiting_since: None,
        };
    }

    /// Seconds.
    pub(super) fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }

    /// Bytes were handed to the transport.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = now;
    }

    /// The server answered something.
    pub(super) fn proved(&mut self, now: Duration) {
        self.proved = now;
        self.asked = None;
    }

    /// The server owes an acknowledgement, or it does not; `progress`: one came just now.
    pub(super) fn waiting(&mut self, now: Duration, is_waiting: bool, progress: bool) {
        match (is_waiting, self.waiting_since) {
            (false, _) => self.waiting_since = None,
            (true, Some(_)) if !progress => {}
            (true, _) => self.waiting_since = Some(now),
        }
    }

    pub(super) fn next(&self) -> Option<Duration> {
        let keep_alive =
            (!self.keep_alive.is_zero()).then(|| if self.asked.is_some() { self.dead() } else { self.ping() });
        let acknowledgement = self.waiting_since.map(|since| since + ACKNOWLEDGEMENT_MAX);
        keep_alive.into_iter().chain(acknowledgement).min()
    }

    pub(super) fn due(&mut self, now: Duration) -> Due {
        if self.waiting_since.is_some_and(|since| now >= since + ACKNOWLEDGEMENT_MAX) {
            return Due::Acknowledgement;
        }
        if self.keep_alive.is_zero() {
            return Due::Nothing;
        }
        match self.asked {
            Some(_) if now >= self.dead() => Due::KeepAlive,
            None if now >= self.ping() => {
                self.asked = Some(now);
                Due::Ping
            }
            _ => Due::Nothing,
        }
    }

    fn ping(&self) -> Duration {
        self.sent.min(self.proved) + self.keep_alive * 3 / 4
    }

    fn dead(&self) -> Duration {
        // Where we asked too late ourselves (a stopped process), the server still gets its time to answer.
        let asked = self.asked.map_or(Duration::ZERO, |asked| asked + self.keep_alive / 2);
        (self.proved + self.keep_alive * 3 / 2).max(asked)
    }
}
