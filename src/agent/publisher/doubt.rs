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
//! - 3.1.1 has no codes in UNSUBACK. There the mark is a subscription to the agent's own status, and the question is a
//!   status: whoever hears himself is in his own session, since nothing was subscribed to in any other. It takes nothing
//!   away, and may be asked for ever; who hears nothing for a while gives the session up.
//! - Only QoS 2 needs all this: at QoS 1 a lost session costs copies, never messages.

use std::time::Duration;

use tracing::{debug, info};

use super::Publisher;
use crate::agent::log::{Ended, SessionStep};
use crate::mqtt::packet::{Filter, Properties, PropertyList, Publish, RetainHandling};
use crate::mqtt::session::{Event, Message, RequestError};
use crate::mqtt::{PacketId, QoS, Reason, Version};

/// Marks of a session. More filters in one SUBSCRIBE are refused by some brokers.
const MARKS_MAX: usize = 8;
/// The mark that no session bears.
const NEVER_PLANTED: &str = "none";
/// After so many connections in a row that ended before SUBACK, messages of QoS 2 do not wait for it any more: there is
/// a broker that does not answer.
const UNANSWERED_MAX: u8 = 3;
/// How long the agent listens for itself (3.1.1).
const ECHO_MAX: Duration = Duration::from_secs(10);
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

/// What was asked, and waits for its answer.
#[derive(Debug)]
enum Question {
    /// By UNSUBSCRIBE.
    Mark { id: PacketId, mark: usize },
    /// By a status, which is heard until then, or not (3.1.1).
    Echo { status: Vec<u8>, until: Duration },
}

/// Why a session is given up of which the broker can't say whose it is.
pub(super) const NOBODY_KNOWS: &str = "the broker can't tell whose session it is";

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

    /// Until when an answer counts, where only time says that there is none.
    pub(super) fn listens_until(&self) -> Option<Duration> {
        match self.asking {
            Some(Question::Echo { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Whether this message is what was said to hear it.
    fn is_echo(&self, payload: &[u8]) -> bool {
        matches!(&self.asking, Some(Question::Echo { status, .. }) if status == payload)
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
        self.doubt.asking = if self.session.version() == Version::V5 {
            let filters = [self.never_subscribed(), self.mark(mark)];
            let asked = self.session.unsubscribe(now, &[&filters[0], &filters[1]]);
            asked.ok().map(|id| Question::Mark { id, mark })
        } else {
            self.say_to_hear(now)
        };
        self.doubt.asking.is_some()
    }

    /// At QoS 0: exchanges of the session may have used up all that may be in flight.
    fn say_to_hear(&mut self, now: Duration) -> Option<Question> {
        let status = self.online("online");
        let message = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: true,
            topic: self.setup.mqtt.topics.status.as_ref()?.as_str(),
            id: None,
            properties: Properties::EMPTY,
            payload: &status,
        };
        self.session.publish(now, &message).ok()?;
        Some(Question::Echo { status, until: now + ECHO_MAX })
    }

    /// What a session of ours is subscribed to, to tell it from others.
    fn marks(&self) -> Vec<String> {
        if self.session.version() == Version::V5 {
            return (0..MARKS_MAX).map(|mark| self.mark(mark)).collect();
        }
        self.setup.mqtt.topics.status.iter().map(|topic| topic.as_str().to_owned()).collect()
    }

    /// Marks a session that is known to be ours, where it does not bear all marks and this connection can bear one.
    fn plant(&mut self, now: Duration) {
        let is_used = self.setup.exactly_once && self.session.limits().maximum_qos == QoS::ExactlyOnce;
        let names = self.marks();
        if self.doubt.is_settled || !is_used || names.is_empty() {
            return;
        }
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
            let marks = match self.session.version() {
                Version::V5 => self.mark('+'),
                Version::V311 => self.marks().concat(),
            };
            info!("the broker takes no subscription to {marks}: after a cut at the wrong moment QoS 2 may come twice");
        }
    }

    /// A message came: whether it shows that the session is ours.
    pub(super) async fn heard(&mut self, now: Duration, message: &Message) -> Result<Option<Vec<Event>>, Ended> {
        let is_status = self.setup.mqtt.topics.status.as_ref().is_some_and(|topic| topic.as_str() == message.topic());
        if !is_status || !self.doubt.is_echo(message.payload()) {
            return Ok(None);
        }
        debug!("the session is ours: the agent hears itself");
        self.is_ours(now).await.map(Some)
    }

    /// UNSUBACK: what the session is, once that is clear.
    pub(super) async fn answered(
        &mut self,
        now: Duration,
        id: PacketId,
        reasons: &[Reason],
    ) -> Result<Option<Verdict>, Ended> {
        let is_it = |question: &mut Question| matches!(question, Question::Mark { id: asked, .. } if *asked == id);
        let Some(Question::Mark { mark, .. }) = self.doubt.asking.take_if(is_it) else { return Ok(None) };
        match Answer::of(reasons) {
            Answer::Useless => return Ok(Some(Verdict::Another(NOBODY_KNOWS))),
            Answer::NotThere if mark + 1 < MARKS_MAX && self.ask(now, mark + 1) => return Ok(None),
            Answer::NotThere => {
                return Ok(Some(Verdict::Another("the broker has begun another session without saying so")));
            }
            Answer::Ours => {}
        }
        debug!("the session is ours, by mark {mark}");
        Ok(Some(Verdict::Ours(self.is_ours(now).await?)))
    }

    /// The doubt is over; gives what was held back.
    async fn is_ours(&mut self, now: Duration) -> Result<Vec<Event>, Ended> {
        self.doubt.asking = None;
        let held = std::mem::take(&mut self.doubt.held);
        // Some marks were taken away by asking.
        (self.doubt.is_doubtful, self.doubt.is_settled) = (false, false);
        let at = self.log.session(SessionStep::Resumed).await?;
        self.release(&at.released);
        self.plant(now);
        Ok(held)
    }
}

/// In 5 nothing that is published or kept there is wanted, least of all what a source of that name says itself.
fn mark_filter(name: &str) -> Filter<'_> {
    Filter { no_local: true, retain_handling: RetainHandling::DoNotSend, ..Filter::new(name, QoS::AtMostOnce) }
}

#[cfg(test)]
mod tests;
