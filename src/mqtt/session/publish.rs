//! Outgoing messages: what may be sent now, and how it is written.

use std::time::Duration;

use crate::mqtt::packet::property::{bits, id as property_id};
use crate::mqtt::packet::{EncodeError, PacketId, Publish, QoS, Version};

use super::alias::Alias;
use super::sabotage::{self, Fault};
use super::window::State;
use super::{KEPT_IDS, OUTPUT_MAX, Phase, PublishError, Session, VOLATILE_IDS, Want};

/// What only a server may put into a PUBLISH [MQTT-3.3.4-6], and what is the session's own.
const FOREIGN: u64 = bits(&[property_id::SUBSCRIPTION_IDENTIFIER, property_id::TOPIC_ALIAS]);

/// How a message takes part in the state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Unacknowledged,
    First(PacketId),
    Again,
}

impl Session {
    /// What the session would take now.
    pub fn want(&self) -> Want {
        if self.phase != Phase::Connected || self.output.publishes.pending() >= OUTPUT_MAX {
            return Want::Nothing;
        }
        if let Some(id) = self.window.next_again().filter(|_| !sabotage::on(Fault::FreshBeforeResend)) {
            return if self.has_quota() { Want::Resend(id) } else { Want::Nothing };
        }
        let limit = self.in_flight_max.min(usize::from(self.limits.receive_maximum));
        let messages = limit.saturating_sub(self.window.live());
        let has_bytes = self.window.count() == 0 || self.window.bytes() < self.in_flight_max_bytes;
        match u16::try_from(messages) {
            Ok(messages) if messages > 0 && has_bytes => Want::Fresh { messages },
            _ => Want::Nothing,
        }
    }

    /// Takes a message: its bytes are queued, at QoS 1 and 2 an exchange begins or (see [`Want::Resend`]) goes on.
    /// The identifier is the caller's: from [`KEPT_IDS`], or at QoS 1 from [`VOLATILE_IDS`] for what need not survive
    /// the connection. `message.dup` does not count: the session sets DUP on what it sends again. Messages of QoS 0,
    /// and volatile ones, may go before a resend.
    pub fn publish(&mut self, now: Duration, message: &Publish<'_>) -> Result<(), PublishError> {
        if self.phase != Phase::Connected {
            return Err(PublishError::NotConnected);
        }
        let part = self.part_of(message)?;
        // [MQTT-3.3.1-1] [MQTT-3.3.1-2]
        let message = Publish { dup: part == Part::Again && !sabotage::on(Fault::DupForgotten), ..*message };
        let size = self.check(&message)?;
        self.check_room(part, size)?;
        self.put(&message, size);
        match part {
            Part::Unacknowledged => return Ok(()),
            Part::First(id) => self.window.add_sent(id, message.qos, size),
            Part::Again => self.window.sent_again(size),
        }
        self.timers.waiting(now, true, false);
        Ok(())
    }

    fn part_of(&self, message: &Publish<'_>) -> Result<Part, PublishError> {
        let id = match (message.qos, message.id) {
            (QoS::AtMostOnce, None) => return Ok(Part::Unacknowledged),
            (QoS::AtMostOnce, Some(_)) | (_, None) => return Err(PublishError::Identifier),
            (_, Some(id)) => id,
        };
        let is_kept = KEPT_IDS.contains(&id.value());
        let is_volatile = VOLATILE_IDS.contains(&id.value()) && message.qos == QoS::AtLeastOnce;
        if !is_kept && !is_volatile {
            return Err(PublishError::Identifier);
        }
        let next = self.window.next_again();
        match (self.window.find(id), next) {
            (Some(slot), Some(next)) if slot.state == State::Again && next == id => {
                if slot.qos == message.qos {
                    Ok(Part::Again)
                } else {
                    Err(PublishError::Identifier)
                }
            }
            (Some(slot), Some(next)) if slot.state == State::Again => Err(PublishError::ResendFirst(next)),
            (Some(_), _) if !sabotage::on(Fault::IdInUse) => Err(PublishError::IdInUse(id)), // [MQTT-2.2.1-3]
            (None, Some(next)) if is_kept && !sabotage::on(Fault::FreshBeforeResend) => {
                Err(PublishError::ResendFirst(next))
            } // [MQTT-4.6.0-1]
            (_, _) => Ok(Part::First(id)),
        }
    }

    /// What does not depend on how much is in flight. Gives the size of the packet with its topic written out, so
    /// that the answer is the same on the next connection, where no alias is known.
    fn check(&self, message: &Publish<'_>) -> Result<u32, PublishError> {
        let version = self.asked.version;
        if message.topic.is_empty() {
            return Err(PublishError::Topic); // [MQTT-4.7.3-1]
        }
        if version == Version::V5 && message.properties.present() & FOREIGN != 0 {
            return Err(PublishError::Properties);
        }
        message.check(version).map_err(|error| match error {
            EncodeError::Property(_) => PublishError::Properties,
            _ => PublishError::Topic, // [MQTT-3.3.2-2]
        })?;
        if message.qos > self.limits.maximum_qos && !sabotage::on(Fault::QosTooHighSent) {
            return Err(PublishError::QosTooHigh { max: self.limits.maximum_qos }); // [MQTT-3.2.2-11]
        }
        if message.retain && !self.limits.retain_available {
            return Err(PublishError::RetainUnavailable); // [MQTT-3.2.2-14]
        }
        let limit = self.limits.maximum_packet_size;
        match message.encoded_len(version) {
            Ok(size) if size <= limit || sabotage::on(Fault::TooLargeSent) => Ok(size),
            Ok(size) => Err(PublishError::TooLarge { size, limit }), // [MQTT-3.2.2-15]
            Err(_) => Err(PublishError::TooLarge { size: u32::MAX, limit }),
        }
    }

    fn check_room(&self, part: Part, size: u32) -> Result<(), PublishError> {
        let has_room = self.output.publishes.pending() < OUTPUT_MAX;
        let may_begin = match part {
            Part::Unacknowledged => true,
            Part::Again => self.has_quota(),
            Part::First(_) => {
                let has_bytes = self.window.count() == 0
                    || self.window.bytes().saturating_add(size as usize) <= self.in_flight_max_bytes;
                self.has_quota() && self.window.live() < self.in_flight_max && has_bytes
            }
        };
        if has_room && may_begin { Ok(()) } else { Err(PublishError::Full) }
    }

    /// [MQTT-3.3.4-7] [MQTT-4.9.0-2]: PUBRELs that were sent again count too, so that resuming never exceeds it.
    fn has_quota(&self) -> bool {
        let limit = usize::from(self.limits.receive_maximum);
        if sabotage::on(Fault::QuotaNotReset) {
            return self.window.count() < limit;
        }
        self.window.live() < limit || (self.window.next_again().is_some() && sabotage::on(Fault::QuotaIgnoredOnResend))
    }

    fn put(&mut self, message: &Publish<'_>, size: u32) {
        let out = self.output.publishes.buffer();
        let alias = match self.aliases_out.of(message.topic) {
            // The alias takes three bytes, and may make the length of the properties, and of all, longer by one each.
            Alias::New(_) if size.saturating_add(5) > self.limits.maximum_packet_size => Alias::None,
            alias => alias,
        };
        let written = match alias {
            Alias::None => None,
            Alias::New(alias) => Some((alias, false)),
            Alias::Known(alias) => Some((alias, true)),
        };
        let result = message.encode_checked(self.asked.version, written, out);
        debug_assert!(result.is_ok(), "the message was checked");
        if let Alias::New(alias) = alias {
            self.aliases_out.learn(message.topic, alias);
        }
    }
}
