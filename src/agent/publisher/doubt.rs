//! Whether a session that the broker calls present is the one that we mean (R7).
//!
//! A CONNECT whose answer never came may have begun a new session; the next CONNACK then says "present" of an empty one,
//! and a PUBREL into it would end an exchange whose message nobody has. So a session in which QoS 2 is used bears
//! marks: subscriptions to `{base}/session/0` to `7`, which are never used. In doubt one of them is taken away: the
//! broker answers 0x00 where it was there.
//!
//! ```text
//!               it is ours: new, or present without doubt, or proved                 SUBACK
//!   unsettled ──────────────────────────────────────────────────────▶ planting ────────────────▶ settled
//!
//!   doubt and "present" ──▶ asking for mark 0 ── 0x00: ours, plant what is gone
//!                             │      ▲
//!                       0x11  └──────┘ the next one; 0x11 for the last: the session is given up (R9)
//! ```
//!
//! Invariants:
//! - Marks are planted only in a session that is known to be ours, so one that is there proves it. Nothing of this has to
//!   be remembered: the marks themselves stand at the broker.
//! - A question takes its mark away, whether its answer arrives or not. So many answers as there are marks may be lost in
//!   a row; each that arrives has all planted again. Then the session is given up: copies, never a loss.
//! - No message of QoS 2 is begun while marks are being planted: what can come into doubt bears them.
//! - Together with a mark the broker is asked for a subscription that nobody ever made: who says 0x00 to that as well
//!   knows nothing, and the session is given up.
//! - While it is asked nothing else is sent, and what the broker says of exchanges is held back.
//! - 3.1.1 has no codes in UNSUBACK: there a doubtful session is given up. Only QoS 2 needs all this: at QoS 1 a lost
//!   session costs copies, never messages.

use std::time::Duration;

use tracing::{debug, info};

use super::Publisher;
use crate::agent::log::{Ended, SessionStep};
use crate::mqtt::packet::{Filter, PropertyList, RetainHandling};
use crate::mqtt::session::{Event, RequestError};
use crate::mqtt::{PacketId, QoS, Reason, Version};

/// Marks of a session. More filters in one SUBSCRIBE are refused by some brokers.
const MARKS_MAX: usize = 8;
/// The mark that no session bears.
const NEVER_PLANTED: &str = "none";
/// After so many connections in a row that ended before SUBACK, messages of QoS 2 do not wait for it any more: there is
/// a broker that does not answer.
const UNANSWERED_MAX: u8 = 3;
/// Events that are held back while it is asked; more than can be in flight never come.
const HELD_MAX: usize = 4096;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The session may be another one than ours.
    pub(super) is_doubtful: bool,
    /// It bears all marks that the broker takes.
    is_settled: bool,
    planting: Option<PacketId>,
    /// Connections in a row that ended while marks were planted.
    unanswered: u8,
    asking: Option<Question>,
    held: Vec<Event>,
}

/// An UNSUBSCRIBE that is under way.
#[derive(Clone, Copy, Debug)]
struct Question {
    id: PacketId,
    mark: usize,
}

/// What a session turned out to be.
pub(super) enum Verdict {
    /// Go on with these events.
    Ours(Vec<Event>),
    /// Give it up.
    Another(&'static str),
}

/// What the answer to one question says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The mark was there.
    Ours,
    /// It was not: it was asked for before, or the session is another one.
    NotThere,
    /// The broker does not know what it says.
    Useless,
}

impl Answer {
    /// The codes for [`NEVER_PLANTED`] and for a mark.
    fn of(reasons: &[Reason]) -> Self {
        match *reasons {
            [Reason::NO_SUBSCRIPTION_EXISTED, Reason::SUCCESS] => Self::Ours,
            [Reason::NO_SUBSCRIPTION_EXISTED, Reason::NO_SUBSCRIPTION_EXISTED] => Self::NotThere,
            _ => Self::Useless,
        }
    }
}

impl Doubt {
    /// Nothing may be sent, and events are held, until the broker has answered.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// A message of QoS 2 has to wait: the session does not bear its marks yet.
    pub(super) fn is_planting(&self) -> bool {
        self.planting.is_some() && self.unanswered < UNANSWERED_MAX
    }

    /// The connection is gone, and with it every question. `true`: with it went what the broker had said of exchanges;
    /// the session has taken note of that and the log has not, so the two can't go on together.
    pub(super) fn disconnected(&mut self) -> bool {
        self.asking = None;
        if self.planting.take().is_some() {
            self.unanswered = self.unanswered.saturating_add(1);
        }
        let has_lost = !self.held.is_empty();
        self.held.clear();
        has_lost
    }

    /// Holds an event back while it is asked.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        let is_held = matches!(event, Event::Acknowledged { .. } | Event::Received { .. } | Event::Completed { .. });
        if !self.is_asking() || !is_held || self.held.len() >= HELD_MAX {
            return Some(event);
        }
        self.held.push(event);
        None
    }

    /// SUBACK for the marks, if it is that. Gives whether the broker takes any.
    fn planted(&mut self, id: PacketId, reasons: &[Reason]) -> Option<bool> {
        self.planting.take_if(|planting| *planting == id)?;
        (self.is_settled, self.unanswered) = (true, 0);
        Some(reasons.iter().any(|reason| !reason.is_error()))
    }
}

impl Publisher {
    fn mark(&self, name: impl std::fmt::Display) -> String {
        format!("{}/session/{name}", self.setup.mqtt.base)
    }

    /// A filter that no session of ours bears.
    pub(super) fn never_subscribed(&self) -> String {
        self.mark(NEVER_PLANTED)
    }

    /// The broker has begun a new session: there is no doubt, and no mark.
    pub(super) fn session_is_new(&mut self, now: Duration) {
        (self.doubt.is_doubtful, self.doubt.is_settled) = (false, false);
        self.plant(now);
    }

    /// The session is present. `false`: it may be another one than ours, and can't be asked; give it up.
    pub(super) fn session_is_present(&mut self, now: Duration) -> bool {
        if self.doubt.is_doubtful {
            return self.ask(now, 0);
        }
        self.plant(now);
        true
    }

    fn ask(&mut self, now: Duration, mark: usize) -> bool {
        if self.session.version() != Version::V5 {
            return false;
        }
        let filters = [self.never_subscribed(), self.mark(mark)];
        let asked = self.session.unsubscribe(now, &[&filters[0], &filters[1]]);
        self.doubt.asking = asked.ok().map(|id| Question { id, mark });
        self.doubt.asking.is_some()
    }

    /// Marks a session that is known to be ours, where it does not bear all marks and this connection can bear one.
    fn plant(&mut self, now: Duration) {
        let is_used = self.setup.exactly_once && self.session.limits().maximum_qos == QoS::ExactlyOnce;
        if self.doubt.is_settled || !is_used || self.session.version() != Version::V5 {
            return;
        }
        let names: Vec<String> = (0..MARKS_MAX).map(|mark| self.mark(mark)).collect();
        let filters: Vec<Filter<'_>> = names.iter().map(|name| mark_filter(name)).collect();
        let mut count = filters.len();
        self.doubt.planting = loop {
            let fits = filters.get(..count).unwrap_or_default();
            match self.session.subscribe(now, fits, &PropertyList::new()) {
                Ok(id) => break Some(id),
                // A broker of small packets gets fewer marks.
                Err(RequestError::TooLarge { .. }) if count > 1 => count /= 2,
                Err(error) => {
                    debug!("the session can't be marked: {error}");
                    break None;
                }
            }
        };
    }

    /// SUBACK.
    pub(super) fn planted(&mut self, id: PacketId, reasons: &[Reason]) {
        if self.doubt.planted(id, reasons) == Some(false) {
            info!(
                "the broker takes no subscription to {}: after a cut at the wrong moment QoS 2 may come twice",
                self.mark('+')
            );
        }
    }

    /// UNSUBACK: what the session is, once that is clear.
    pub(super) async fn answered(
        &mut self,
        now: Duration,
        id: PacketId,
        reasons: &[Reason],
    ) -> Result<Option<Verdict>, Ended> {
        let Some(Question { mark, .. }) = self.doubt.asking.take_if(|question| question.id == id) else {
            return Ok(None);
        };
        match Answer::of(reasons) {
            Answer::Useless => return Ok(Some(Verdict::Another("the broker can't tell whose session it is"))),
            Answer::NotThere if mark + 1 < MARKS_MAX && self.ask(now, mark + 1) => return Ok(None),
            Answer::NotThere => {
                return Ok(Some(Verdict::Another("the broker has begun another session without saying so")));
            }
            Answer::Ours => {}
        }
        debug!("the session is ours, by mark {mark}");
        let held = std::mem::take(&mut self.doubt.held);
        // Some marks were taken away by asking.
        (self.doubt.is_doubtful, self.doubt.is_settled) = (false, false);
        let at = self.log.session(SessionStep::Resumed).await?;
        self.release(&at.released);
        self.plant(now);
        Ok(Some(Verdict::Ours(held)))
    }
}

/// Nothing that is published or kept there is wanted, least of all what a source of that name says itself.
fn mark_filter(name: &str) -> Filter<'_> {
    Filter { no_local: true, retain_handling: RetainHandling::DoNotSend, ..Filter::new(name, QoS::AtMostOnce) }
}

#[cfg(test)]
mod tests;
