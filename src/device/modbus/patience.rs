//! How much patience a bus has with a unit that fails.
//!
//! ```text
//!         reply                        reply
//!    ┌──────────────┐  ┌────────────────────────────────┐
//!    ▼              │  ▼                                │
//!  good ── failed, attempts left ──▶ resting ──────▶ asked again
//!    ▲                                                  │ no attempts left
//!    └─────── reply ──── due (one attempt) ◀── pause ── aside ◀┘
//! ```
//!
//! Resting and aside, it costs the others nothing. What is asked of it while it is aside fails at once, with the
//! reason why it is. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::Error;

/// First pause of a unit that is put aside.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause where other units share the bus: each probe may cost them one time-out.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Longest pause of a unit that has the bus for itself.
const PAUSE_ALONE_MAX: Duration = Duration::from_secs(5);

/// One unit of a bus.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Times that it was put aside since its last reply.
    failures: u32,
    not_before: Option<Instant>,
    error: Option<Error>,
    /// Requests under way.
    pub in_flight: u32,
    /// Something is under way that nothing may come in between of.
    pub alone: bool,
}

/// What can be done with a unit now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is asked, as often as its configuration says.
    Good,
    /// It has failed, and is asked once.
    Due,
    /// Between two attempts.
    Resting(Instant),
    /// It fails, for this reason.
    Aside(Error),
}

impl Unit {
    /// How it stands.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match (self.not_before.filter(|until| *until > now), self.failures) {
            (Some(until), 0) => Standing::Resting(until),
            (Some(_), _) => Standing::Aside(self.error.clone().unwrap_or(Error::Timeout)),
            (None, 0) => Standing::Good,
            (None, _) => Standing::Due,
        }
    }

    /// It has answered. Whether that is news.
    pub(super) fn answered(&mut self) -> bool {
        self.not_before = None;
        self.error = None;
        std::mem::take(&mut self.failures) > 0
    }

    /// An attempt has failed, and there will be another one.
    pub(super) fn rest(&mut self, now: Instant, rest: Duration) {
        self.not_before = Some(now + rest);
    }

    /// All attempts have failed. Gives the pause, if it was not aside before.
    pub(super) fn put_aside(
        &mut self,
        now: Instant,
        error: Error,
        rest: Duration,
        has_others: bool,
    ) -> Option<Duration> {
        let longest = if has_others { PAUSE_MAX } else { PAUSE_ALONE_MAX };
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(longest).max(rest);
        self.not_before = Some(now + pause);
        self.error = Some(error);
        self.failures = self.failures.saturating_add(1);
        (self.failures == 1).then_some(pause)
    }

    /// Whether it is put aside, or was and has not answered yet.
    pub(super) const fn is_aside(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::modbus::link::now;

    #[test]
    fn pauses_grow_and_a_reply_ends_them() {
        let mut unit = Unit::default();
        let start = now();
        assert_eq!(unit.standing(start), Standing::Good);
        let mut pauses = Vec::new();
        let mut at = start;
        for _ in 0..7 {
            unit.put_aside(at, Error::Timeout, Duration::ZERO, true);
            assert_eq!(unit.standing(at), Standing::Aside(Error::Timeout));
            let due = (0..).find(|s| unit.standing(at + Duration::from_secs(*s)) == Standing::Due).expect("due again");
            pauses.push(due);
            at += Duration::from_secs(due);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert!(unit.answered());
        assert!(!unit.answered());
        assert_eq!(unit.standing(at), Standing::Good);
    }

    #[test]
    fn a_unit_alone_is_asked_more_often_and_never_before_it_had_its_rest() {
        let mut unit = Unit::default();
        let at = now();
        for _ in 0..9 {
            unit.put_aside(at, Error::Timeout, Duration::from_secs(3), false);
        }
        assert_eq!(unit.standing(at + PAUSE_ALONE_MAX), Standing::Due);
        let mut unit = Unit::default();
        assert_eq!(unit.put_aside(at, Error::Timeout, Duration::from_secs(3), false), Some(Duration::from_secs(3)));
        unit.answered();
        unit.rest(at, Duration::from_secs(2));
        assert_eq!(unit.standing(at), Standing::Resting(at + Duration::from_secs(2)));
    }
}
