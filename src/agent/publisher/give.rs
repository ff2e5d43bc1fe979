//! What the session is given: what must be sent again, status and metas, the log in its order.
//!
//! Invariants: what was in flight goes before what is new; while one message at a time is sent (F-28), or the connection
//! is to be left, nothing goes out beside it.

use std::time::Duration;

use tracing::{error, warn};

use super::blame::Trial;
use super::doubt::NOBODY_KNOWS;
use super::link::Link;
use super::window::{Item, packet_id};
use super::{End, Publisher};
use crate::agent::log::{News, Step};
use crate::mqtt::packet::{Properties, Property, PropertyList, Publish};
use crate::mqtt::session::{PublishError, Want};
use crate::mqtt::{PacketId, QoS, Session, Version};
use crate::spool::GapReason;

/// Why no more messages are given to the session now.
pub(super) enum Gave {
    /// It has enough, or there are no more.
    All,
    /// Only time is in the way.
    Wait(Duration),
    /// This number has to become durable or sendable first.
    Flush(u64),
}

impl Publisher {
    /// Gives the session messages until it has enough, or something is in the way.
    pub(super) fn give(&mut self, link: &mut Link, now: Duration, news: &News) -> Result<Gave, End> {
        loop {
            if link.trial.is_some() && self.is_quiet() {
                link.trial = None;
            }
            let waits = (self.culprit.is_narrow() || link.trial.is_some()) && !self.is_quiet();
            if let Some(until) = self.doubt.listens_until() {
                return match until.checked_sub(now) {
                    Some(wait) if !wait.is_zero() => Ok(Gave::Wait(wait)),
                    _ => Err(self.distrust(NOBODY_KNOWS.into())),
                };
            }
            let want = self.session.want();
            if want == Want::Nothing || self.doubt.is_asking() || waits {
                return Ok(Gave::All);
            }
            // A trial begins with what shows that link and broker work.
            if self.culprit.is_narrow() && self.notice(link, now) {
                continue;
            }
            if let Some(gave) = self.prove(link, now) {
                return Ok(gave);
            }
            match want {
                Want::Nothing => return Ok(Gave::All),
                Want::Resend(id) => {
                    if !self.resend(link, now, news, id)? {
                        return Ok(Gave::All);
                    }
                }
                Want::Fresh { .. } => {
                    if self.notice(link, now) {
                        continue;
                    }
                    if link.leave.is_begun() {
                        return Ok(Gave::All);
                    }
                    if let Some(gave) = self.fresh(link, now, news) {
                        return Ok(gave);
                    }
                }
            }
        }
    }

    /// Whether the message in front has to wait until nothing else is in flight; notes what it is, if it goes alone.
    fn waits_to_be_alone(&self, link: &mut Link) -> bool {
        let Some(Item { message, .. }) = self.window.front() else { return false };
        let resembles = self.culprit.resembles(&message.topic, message.payload.len());
        if resembles && !self.is_quiet() {
            return true;
        }
        if resembles || self.culprit.is_narrow() {
            link.trial = Some(Trial { topic: message.topic.clone(), bytes: message.payload.len(), resembles });
        }
        false
    }

    /// A message that was in flight when the last connection ended goes out again. `false`: it is not read yet, or
    /// there is no room.
    fn resend(&mut self, link: &mut Link, now: Duration, news: &News, id: PacketId) -> Result<bool, End> {
        if !self.window.bring_to_front(id) {
            if link.reading.is_some() || self.window.wants(news.appended).is_some() {
                return Ok(false);
            }
            // The log can't give what the broker's session waits for: it was damaged.
            return Err(self.distrust(format!("message of packet identifier {id} is not in the buffer any more")));
        }
        if self.waits_to_be_alone(link) {
            return Ok(false);
        }
        let Some(item) = self.window.front() else { return Ok(false) };
        match publish(&mut self.session, now, item, item.qos, item.retain) {
            Ok(()) => {
                link.given_at = now;
                self.window.sent();
                Ok(true)
            }
            Err(PublishError::Full | PublishError::NotConnected) => Ok(false),
            // R9: an exchange that has to be given up.
            Err(error) => {
                let number = item.origin.number;
                Err(self.distrust(format!("message {number} can't be sent again: {error}")))
            }
        }
    }

    /// Status and metas go before everything that is new. `false`: there is none, or no room.
    fn notice(&mut self, link: &mut Link, now: Duration) -> bool {
        let Some((id, notice)) = self.side.front() else { return false };
        let mut properties = PropertyList::new();
        if let Some(data) = notice.correlation.as_deref().filter(|_| self.session.version() == Version::V5) {
            // It came in a packet, and so it fits into one.
            let _ = properties.push(Property::CorrelationData(data));
        }
        let message = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: notice.answers.is_none(),
            topic: &notice.topic,
            id: Some(id),
            properties: properties.as_properties(),
            payload: &notice.payload,
        };
        let message = match self.session.limits() {
            limits if limits.maximum_qos == QoS::AtMostOnce => Publish { qos: QoS::AtMostOnce, id: None, ..message },
            _ => message,
        };
        let message = Publish { retain: message.retain && self.session.limits().retain_available, ..message };
        match self.session.publish(now, &message) {
            Ok(()) if message.id.is_some() => {
                link.given_at = now;
                self.side.sent(id);
            }
            Ok(()) => self.said(),
            Err(PublishError::Full | PublishError::NotConnected) => return false,
            Err(error) => {
                warn!("{} can't be published: {error}", notice.topic);
                self.said();
            }
        }
        true
    }

    /// The front of what is said beside the log is over without an acknowledgement.
    fn said(&mut self) {
        if let Some(token) = self.side.drop_front().and_then(|notice| notice.answers) {
            self.intake.answered(token);
        }
    }

    /// Sends the next message of the log, or gives what is in its way.
    fn fresh(&mut self, link: &mut Link, now: Duration, news: &News) -> Option<Gave> {
        if let Some(until) = link.paused_until {
            if now < until {
                return Some(Gave::Wait(until.saturating_sub(now)));
            }
            link.paused_until = None;
        }
        let Some(item) = self.window.front().filter(|_| !link.rewind) else { return Some(Gave::All) };
        // R1: a QoS 2 message is durable first. R5: who had its identifier before is done, durably.
        let number = item.origin.number;
        if number >= news.sendable || (item.qos == QoS::ExactlyOnce && number >= news.durable) {
            return Some(Gave::Flush(number));
        }
        if let Some(wait) = self.rate.wait(now, news.appended) {
            return Some(Gave::Wait(wait));
        }
        if self.waits_to_be_alone(link) {
            return Some(Gave::All);
        }
        let limits = self.session.limits();
        let (qos, retain) = (item.qos.min(limits.maximum_qos), item.retain && limits.retain_available);
        if qos == QoS::ExactlyOnce && self.doubt.is_planting() {
            return Some(Gave::All);
        }
        match publish(&mut self.session, now, item, qos, retain) {
            Ok(()) => {
                link.given_at = now;
                link.sent_plain |= qos == QoS::AtMostOnce;
                self.rate.sent();
                self.status.send_modify(|status| status.published += 1);
                self.step(Step::sent(number));
                if qos == QoS::AtMostOnce {
                    self.window.drop_front();
                    self.step(Step::done(number));
                } else {
                    self.window.sent();
                }
                None
            }
            Err(PublishError::Full | PublishError::NotConnected) => Some(Gave::All),
            Err(refusal) => {
                let reason = match refusal {
                    PublishError::TooLarge { .. } => GapReason::TooLarge,
                    _ => GapReason::Rejected,
                };
                error!("message {number} for {} can't be delivered: {refusal}", item.message.topic);
                if let Some(item) = self.window.drop_front() {
                    link.rewind |= self.refuse(&item.origin, reason);
                }
                None
            }
        }
    }
}

fn publish(session: &mut Session, now: Duration, item: &Item, qos: QoS, retain: bool) -> Result<(), PublishError> {
    session.publish(
        now,
        &Publish {
            dup: false,
            qos,
            retain,
            topic: &item.message.topic,
            id: (qos != QoS::AtMostOnce).then(|| packet_id(item.origin.number)),
            properties: Properties::default(),
            payload: &item.message.payload,
        },
    )
}
