//! A broker that closes the connection on one message (F-28): tells [`Culprit`] how connections end, and gives up what
//! it blames, with a gap.

use std::time::Duration;

use tracing::{error, info};

use super::culprit::{By, Ending, Exchange, proof};
use super::give::Gave;
use super::link::Link;
use super::window::packet_id;
use super::{End, Publisher};
use crate::agent::log::{Ended, SessionStep};
use crate::mqtt::{PacketId, Reason};
use crate::os::clock;
use crate::spool::GapReason;

/// A message that was sent alone.
pub(super) struct Trial {
    pub(super) topic: String,
    pub(super) bytes: usize,
    /// It is like one that was convicted before.
    pub(super) resembles: bool,
}

/// What shows that a connection works just before a message goes out alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Control {
    #[default]
    None,
    /// An UNSUBSCRIBE of what nobody subscribed to.
    Asked(PacketId),
    Answered,
}

impl Link {
    /// At that time it had stood for long enough, and had answered.
    fn is_proved(&self, keep_alive: Duration, at: Duration) -> bool {
        self.control == Control::Answered && at >= self.since + proof(keep_alive)
    }
}

/// What a DISCONNECT says about a message, if it is about one.
pub(super) fn blames(reason: Reason) -> By {
    match reason {
        Reason::PACKET_TOO_LARGE => By::Broker(GapReason::TooLarge),
        Reason::UNSPECIFIED_ERROR
        | Reason::MALFORMED_PACKET
        | Reason::PROTOCOL_ERROR
        | Reason::IMPLEMENTATION_SPECIFIC_ERROR
        | Reason::NOT_AUTHORIZED
        | Reason::TOPIC_NAME_INVALID
        | Reason::PAYLOAD_FORMAT_INVALID
        | Reason::RETAIN_NOT_SUPPORTED
        | Reason::QOS_NOT_SUPPORTED => By::Broker(GapReason::Rejected),
        _ => By::Link,
    }
}

impl Publisher {
    /// Nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.window.in_flight() == 0 && self.side.in_flight() == 0
    }

    /// Where cuts are looked into, a message waits until the connection has proved that it works. Gives what is in the way.
    pub(super) fn prove(&mut self, link: &mut Link, now: Duration) -> Option<Gave> {
        let from = link.since + proof(self.setup.mqtt.keep_alive);
        if !self.culprit.wants_proof() || link.control == Control::Answered {
            return None;
        }
        if now < from {
            return Some(Gave::Wait(from.saturating_sub(now)));
        }
        if link.control == Control::None {
            let filter = self.never_subscribed();
            link.control = self.session.unsubscribe(now, &[&filter]).map_or(Control::None, Control::Asked);
        }
        Some(Gave::All)
    }

    /// UNSUBACK: whether it is the answer to that.
    pub(super) fn has_proved(&self, link: &mut Link, id: PacketId) -> bool {
        let is_it = link.control == Control::Asked(id);
        if is_it {
            link.control = Control::Answered;
        }
        is_it
    }

    /// The broker has taken it.
    pub(super) fn innocent(&mut self, link: &mut Link, who: &Exchange) {
        link.sent_plain = false;
        self.soons = 0;
        self.culprit.acknowledged(who);
        if let Some(trial) = link.trial.take_if(|trial| trial.resembles && matches!(who, Exchange::Message(_))) {
            self.culprit.cleared(&trial.topic);
        }
    }

    /// A connection that stood has ended: gives up the message that made the broker end it, once it is known.
    pub(super) async fn blame(&mut self, link: &mut Link, end: &End) -> Result<(), Ended> {
        let End::Lost { by, .. } = *end else { return Ok(()) };
        let span = self.window.span();
        let first_notice = self.side.first_sent().map(|topic| Exchange::Notice(topic.to_owned()));
        let ending = Ending {
            by,
            proved: link.is_proved(self.setup.mqtt.keep_alive, link.given_at),
            first: span.map(|(first, _)| Exchange::Message(first)).or(first_notice),
            last: span.map(|(_, last)| last),
            alone: self.window.in_flight() + self.side.in_flight() == 1 && !link.sent_plain,
            written: self.session.transmit().is_empty(),
            after: clock::now().saturating_sub(link.given_at),
        };
        let resembles = link.trial.as_ref().is_some_and(|trial| trial.resembles);
        let was_narrow = self.culprit.is_narrow();
        let blamed = self.culprit.ended(&ending, self.setup.mqtt.keep_alive, resembles);
        self.soon = self.culprit.is_on_trial() || blamed.is_some();
        if self.culprit.is_narrow() && !was_narrow {
            info!(
                "the broker closes again and again with the same message in flight: one at a time, to see which it is"
            );
        }
        if let Some(topic) = self.culprit.complaint() {
            error!(
                "the broker closes the connection whenever {topic} is published, and takes nothing before: allow it there, \
                 or turn it off in [mqtt.topics]"
            );
        }
        match blamed {
            None => Ok(()),
            Some(Exchange::Notice(topic)) => {
                error!("the broker closes the connection whenever {topic} is published: it is left out from now on");
                self.side.give_up(&topic);
                Ok(())
            }
            Some(Exchange::Message(number)) => {
                let reason = if let By::Broker(reason) = by { reason } else { GapReason::Rejected };
                self.give_up(link, number, reason).await
            }
        }
    }

    /// A message is not sent any more. In the middle of QoS 2 that is the end of the session as well (R9).
    async fn give_up(&mut self, link: &mut Link, number: u64, reason: GapReason) -> Result<(), Ended> {
        let id = packet_id(number);
        if self.session.is_received(id) {
            // The broker has the message, and fails behind it: in a new session it is sent as new.
            self.distrust(format!("the broker closes the connection whenever message {number} is to be completed"));
            return Ok(());
        }
        let Some(origin) = self.window.finished(id) else { return Ok(()) };
        error!("the broker closes the connection whenever message {number} is published: it is not sent any more");
        if let Some(trial) = &link.trial {
            self.culprit.remember(&trial.topic, trial.bytes);
        }
        if !self.session.abandon(id) {
            // Durable first: a session in which the exchange is still open must not meet the identifier again.
            self.clean = self.log.session(SessionStep::Distrust).await?.clean;
        }
        self.refuse(&origin, reason);
        Ok(())
    }
}
