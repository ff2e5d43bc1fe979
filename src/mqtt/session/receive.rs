//! What comes in: bytes to packets, packets to the state, events and answers.

use std::time::Duration;

use crate::mqtt::packet::{
    Ack, Auth, Connack, DecodeError, Disconnect, PACKET_MAX, Packet, PacketId, Properties, Property, Publish, QoS,
    Reason, Reasons, Version, decode, frame_len,
};

use super::incoming::{Arrival, Release};
use super::sabotage::{self, Fault};
use super::window::{Slot, State};
use super::{
    CONTROL_MAX, Connected, EVENTS_MAX, Event, Limits, Message, Phase, ProtocolError, RECEIVE_MAXIMUM_V311,
    RECEIVE_OVERRUN_MAX, Refused, Session,
};

/// A buffer for half packets that grew beyond this is given back.
const PARTIAL_KEPT_MAX: usize = 64 * 1024;

type Result<T> = std::result::Result<T, DecodeError>;

impl Session {
    /// Bytes from the transport, in any fragmentation, at most 64 KiB a call; drain the events after each. On an error
    /// the connection has to be closed, after what [`Session::transmit`] still gives (5.0: a DISCONNECT that says why).
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) -> std::result::Result<(), ProtocolError> {
        self.take_in(now, bytes).map_err(|error| {
            self.fail(error);
            ProtocolError(error)
        })
    }

    /// [MQTT-4.13.2-1]; 3.1.1 [MQTT-4.8.0-1]: it has no codes, so the connection is just closed.
    fn fail(&mut self, error: DecodeError) {
        let may_say = self.asked.version == Version::V5 && self.phase == Phase::Connected;
        self.phase = Phase::Closed;
        self.output.drop_publishes();
        if may_say {
            self.say_last(Disconnect { reason: error.reason, properties: Properties::EMPTY });
        }
    }

    fn take_in(&mut self, now: Duration, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        if !self.partial.is_empty() {
            // It is taken out while its packet is handled, since the packet borrows from it.
            let mut partial = std::mem::take(&mut self.partial);
            let result = self.finish_partial(now, &mut partial, &mut rest);
            self.partial = partial;
            if !result? {
                return Ok(());
            }
            self.partial.clear();
            self.partial.shrink_to(PARTIAL_KEPT_MAX);
        }
        while self.is_listening() {
            let Some((packet, length)) = decode(rest, self.asked.version, self.asked.maximum_packet_size)? else {
                // Grows by what came, never by what was claimed.
                self.partial.extend_from_slice(rest);
                break;
            };
            self.handle(now, packet)?;
            rest = rest.get(length..).unwrap_or_default();
        }
        Ok(())
    }

    /// Completes the packet in `partial` and handles it. Whether there was enough for that.
    fn finish_partial(&mut self, now: Duration, partial: &mut Vec<u8>, rest: &mut &[u8]) -> Result<bool> {
        loop {
            let (version, limit) = (self.asked.version, self.asked.maximum_packet_size);
            // While even the length is not known, byte by byte: there are at most five.
            let missing = frame_len(partial, version, limit)?.map_or(1, |length| length.saturating_sub(partial.len()));
            if missing == 0 {
                if let Some((packet, _)) = decode(partial, version, limit)? {
                    self.handle(now, packet)?;
                }
                return Ok(true);
            }
            let Some((head, tail)) = rest.split_at_checked(missing) else {
                partial.extend_from_slice(rest);
                return Ok(false);
            };
            partial.extend_from_slice(head);
            *rest = tail;
        }
    }

    fn is_listening(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Closed)
    }

    fn handle(&mut self, now: Duration, packet: Packet<'_>) -> Result<()> {
        // 3.1.1 [MQTT-4.8.0-2]
        if self.events.len() >= EVENTS_MAX || self.output.control.pending() >= CONTROL_MAX {
            return Err(DecodeError {
                reason: Reason::QUOTA_EXCEEDED,
                ..DecodeError::protocol("MQTT 4.13", "more comes in than is read or answered")
            });
        }
        match (self.phase, packet) {
            (Phase::Connecting { clean_start }, Packet::Connack(packet)) => self.connack(now, clean_start, packet),
            (Phase::Connecting { .. }, Packet::Auth(packet)) => self.auth(packet),
            // Also where we left while CONNACK was on its way.
            (Phase::Leaving, Packet::Connack(_)) => Ok(()),
            (Phase::Connecting { .. }, _) => {
                Err(DecodeError::protocol("MQTT-3.2.0-1", "the first packet of the server is not CONNACK"))
            }
            (_, packet) => self.handle_connected(now, packet),
        }
    }

    fn handle_connected(&mut self, now: Duration, packet: Packet<'_>) -> Result<()> {
        match packet {
            Packet::Publish(packet) => return self.message(packet),
            Packet::Puback(ack) => self.puback(ack),
            Packet::Pubrec(ack) => self.pubrec(ack)?,
            Packet::Pubrel(ack) => self.pubrel(ack)?,
            Packet::Pubcomp(ack) => self.pubcomp(ack),
            Packet::Suback(ack) => self.answered(ack.id, true, ack.reasons, ack.properties)?,
            Packet::Unsuback(ack) => self.answered(ack.id, false, ack.reasons, ack.properties)?,
            Packet::Pingresp => {
                self.timers.proved(now);
                return Ok(());
            }
            Packet::Auth(packet) => return self.auth(packet),
            Packet::Disconnect(packet) => return self.good_bye(packet),
            Packet::Connack(_) => return Err(DecodeError::protocol("MQTT-3.2.0-2", "a second CONNACK")),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq => {
                return Err(DecodeError::protocol("MQTT 2.1.2", "a packet that only clients send"));
            }
        }
        // All of these answer something that we sent.
        self.timers.proved(now);
        self.timers.waiting(now, self.is_waiting(), true);
        Ok(())
    }

    fn connack(&mut self, now: Duration, clean_start: bool, packet: Connack<'_>) -> Result<()> {
        let version = self.asked.version;
        if packet.reason.is_error() {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Refused(Box::new(Refused {
                reason: packet.reason,
                text: text(packet.properties),
                server_reference: packet.properties.server_reference().map(Into::into),
                in_v311: packet.in_v311 && version == Version::V5,
            })));
            return Ok(());
        }
        if clean_start && packet.session_present && !sabotage::on(Fault::CleanStartContradicted) {
            return Err(DecodeError::protocol("MQTT-3.2.2-4", "session present after a clean start"));
        }
        let mut connected = self.connected(&packet);
        connected.session_present = packet.session_present;
        self.limits = connected.limits;
        let aliases = if version == Version::V5 { self.limits.topic_alias_maximum } else { 0 };
        if sabotage::on(Fault::AliasesBeyondMaximum) {
            self.aliases_out.reset(self.asked.topic_aliases_out);
        } else if !sabotage::on(Fault::AliasesKept) || self.aliases_out.is_fresh() {
            self.aliases_out.reset(aliases.min(self.asked.topic_aliases_out));
        }
        self.phase = Phase::Connected;
        self.timers.start(now, connected.keep_alive_s);
        let taken_for_old = packet.session_present || sabotage::on(Fault::NewSessionTakenForOld);
        if taken_for_old && !sabotage::on(Fault::OldSessionTakenForNew) {
            self.say_pubrels(); // before any PUBLISH, and in the order of the PUBRECs [MQTT-4.4.0-1] [MQTT-4.6.0-4]
        } else {
            connected.forgotten = self.window.count(); // [MQTT-3.2.2-5]
            self.window.clear();
            self.incoming.clear();
        }
        self.timers.waiting(now, self.is_waiting(), true);
        self.events.push_back(Event::Connected(Box::new(connected)));
        Ok(())
    }

    /// What is absent has its default, whatever the last connection had.
    fn connected(&self, packet: &Connack<'_>) -> Connected {
        let mut connected = Connected {
            keep_alive_s: self.asked.keep_alive_s,
            session_expiry_s: self.asked.session_expiry_s,
            ..Connected::default()
        };
        if sabotage::on(Fault::LimitsKept) {
            connected.limits = self.limits;
        }
        let limits: &mut Limits = &mut connected.limits;
        if self.asked.version == Version::V311 {
            limits.receive_maximum = RECEIVE_MAXIMUM_V311;
        }
        for property in packet.properties.iter() {
            match property {
                Property::ReceiveMaximum(value) if !sabotage::on(Fault::ReceiveMaximumIgnored) => {
                    limits.receive_maximum = value;
                }
                Property::MaximumQos(qos) => limits.maximum_qos = qos,
                Property::RetainAvailable(value) => limits.retain_available = value,
                Property::MaximumPacketSize(value) => limits.maximum_packet_size = value.min(PACKET_MAX),
                Property::TopicAliasMaximum(value) => limits.topic_alias_maximum = value,
                Property::WildcardSubscriptionAvailable(value) => limits.wildcard_subscriptions = value,
                Property::SubscriptionIdentifierAvailable(value) => limits.subscription_identifiers = value,
                Property::SharedSubscriptionAvailable(value) => limits.shared_subscriptions = value,
                Property::ServerKeepAlive(value) => {
                    connected.keep_alive_s = value; // [MQTT-3.1.2-21] [MQTT-3.2.2-21]
                    connected.keep_alive_is_servers = true;
                }
                Property::SessionExpiry(value) => connected.session_expiry_s = value,
                Property::AssignedClientIdentifier(id) => connected.assigned_client_id = Some(id.into()),
                Property::ResponseInformation(text) => connected.response_information = Some(text.into()),
                Property::ServerReference(server) => connected.server_reference = Some(server.into()),
                Property::ReasonString(text) => connected.text = Some(text.into()),
                Property::AuthenticationData(data) => connected.authentication_data = Some(data.to_vec()),
                _ => {}
            }
        }
        connected
    }

    /// [MQTT-4.12.0-7]: no AUTH where CONNECT named no method.
    fn auth(&mut self, packet: Auth<'_>) -> Result<()> {
        match (&self.asked.method, packet.method()) {
            (Some(asked), Some(method)) if **asked == *method => {}
            _ => return Err(DecodeError::protocol("MQTT-4.12.0-5", "AUTH with another method, or without one")),
        }
        let data = packet.data().map(<[u8]>::to_vec);
        self.events.push_back(Event::Authenticate { reason: packet.reason, data });
        Ok(())
    }

    fn good_bye(&mut self, packet: Disconnect<'_>) -> Result<()> {
        if self.asked.version == Version::V311 {
            return Err(DecodeError::protocol("MQTT 3.14", "a server of 3.1.1 sends no DISCONNECT"));
        }
        self.phase = Phase::Closed;
        // [MQTT-3.14.4-1] binds the server; nothing that we would still say is read.
        self.output.clear();
        self.events.push_back(Event::Disconnected {
            reason: packet.reason,
            text: text(packet.properties),
            server_reference: packet.properties.server_reference().map(Into::into),
        });
        Ok(())
    }

    fn message(&mut self, packet: Publish<'_>) -> Result<()> {
        // The alias is learnt even where the message was delivered before.
        let alias = packet.properties.find(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        });
        let repeated = match packet.id {
            None => false,
            Some(_) if self.phase != Phase::Connected => return Ok(()),
            Some(id) => match self.incoming.arrived(id, packet.qos, self.receive_limit()) {
                Arrival::New | Arrival::Repeated | Arrival::Pending
                    if sabotage::on(Fault::DedupByDup) && packet.qos == QoS::ExactlyOnce =>
                {
                    packet.dup
                }
                Arrival::New => false,
                Arrival::Pending => true,
                Arrival::Repeated => {
                    // [MQTT-4.3.3-10]: acknowledged again, never delivered again, with or without DUP.
                    self.say(&Packet::Pubrec(Ack::new(id)));
                    true
                }
                Arrival::TooMany => {
                    return Err(DecodeError {
                        reason: Reason::RECEIVE_MAXIMUM_EXCEEDED,
                        ..DecodeError::protocol("MQTT-3.3.4-9", "more in flight than our Receive Maximum")
                    });
                }
            },
        };
        let topic = match alias {
            None => packet.topic,
            Some(alias) => self.aliases_in.resolve(alias, packet.topic).ok_or(DecodeError {
                reason: Reason::TOPIC_ALIAS_INVALID,
                ..DecodeError::protocol("MQTT-3.3.2-10", "a topic alias that is 0, too high, or not known")
            })?,
        };
        if !repeated {
            let mut buffer = self.recycled.pop().unwrap_or_default();
            buffer.extend_from_slice(topic.as_bytes());
            buffer.extend_from_slice(packet.properties.as_bytes());
            buffer.extend_from_slice(packet.payload);
            let properties = topic.len() + packet.properties.as_bytes().len();
            self.events.push_back(Event::Message(Message {
                buffer,
                topic: topic.len(),
                properties,
                present: packet.properties.present(),
                id: packet.id,
                qos: packet.qos,
                retain: packet.retain,
                dup: packet.dup,
            }));
        }
        // An earlier entry may have been dropped for this one, so that others come to their turn.
        self.say_answers();
        Ok(())
    }

    fn receive_limit(&self) -> u16 {
        self.asked.receive_maximum.saturating_mul(RECEIVE_OVERRUN_MAX)
    }

    /// PUBACK of any reason ends the exchange [MQTT-4.4.0-2]; some servers answer QoS 2 with it (F-27).
    fn puback(&mut self, ack: Ack<'_>) {
        let slot = self.window.find(ack.id).filter(|slot| matches!(slot.state, State::Again | State::Sent));
        if let Some(&Slot { qos, .. }) = slot {
            self.puback_for_qos_2 |= qos == QoS::ExactlyOnce;
            self.window.remove(ack.id);
            self.acknowledged(ack);
        }
    }

    fn acknowledged(&mut self, ack: Ack<'_>) {
        self.events.push_back(Event::Acknowledged { id: ack.id, reason: ack.reason, text: text(ack.properties) });
    }

    fn pubrec(&mut self, ack: Ack<'_>) -> Result<()> {
        let Some(&slot) = self.window.find(ack.id) else {
            // The server waits for a PUBREL, so it gets one. [MQTT-4.3.3-4]
            if !ack.reason.is_error() {
                let reason = Reason::PACKET_IDENTIFIER_NOT_FOUND;
                self.say(&Packet::Pubrel(Ack::with_reason(ack.id, reason)));
            }
            return Ok(());
        };
        match slot.state {
            _ if slot.qos != QoS::ExactlyOnce => {
                return Err(DecodeError::protocol("MQTT-4.3.2-3", "PUBREC for a message of QoS 1"));
            }
            State::Again | State::Sent if ack.reason.is_error() && !sabotage::on(Fault::RefusalNotFinal) => {
                self.window.remove(ack.id); // the identifier is free, the next use of it a new message [MQTT-4.3.3-9]
                self.acknowledged(ack);
            }
            State::Again | State::Sent => {
                self.window.received(ack.id);
                self.events.push_back(Event::Received { id: ack.id });
                if sabotage::on(Fault::ReleasedEarly) && self.window.ready(ack.id) {
                    self.say_pubrels();
                }
            }
            State::Released if !ack.reason.is_error() => self.say(&Packet::Pubrel(Ack::new(ack.id))),
            // PUBREL is on its way, or the server repeats itself; an error now contradicts what it said.
            State::Received | State::Ready | State::Released => {}
        }
        Ok(())
    }

    /// [MQTT-4.3.3-11]: PUBCOMP for every PUBREL.
    fn pubrel(&mut self, ack: Ack<'_>) -> Result<()> {
        match self.incoming.released(ack.id) {
            Release::Known => {
                self.events.push_back(Event::Released { id: ack.id });
                if !self.asked.hold_completion {
                    self.complete(ack.id);
                }
            }
            Release::Repeated => {}
            Release::Unknown if sabotage::on(Fault::PubcompForgotten) => {}
            Release::Unknown => {
                let reason = Reason::PACKET_IDENTIFIER_NOT_FOUND;
                self.say(&Packet::Pubcomp(Ack::with_reason(ack.id, reason)));
            }
            Release::Early => return Err(DecodeError::protocol("MQTT-4.3.3-4", "PUBREL before its PUBREC")),
        }
        Ok(())
    }

    fn pubcomp(&mut self, ack: Ack<'_>) {
        if let Some(&slot) = self.window.find(ack.id)
            && slot.state == State::Released
        {
            self.window.remove(ack.id);
            let first = !slot.released_before || sabotage::on(Fault::FirstForgotten);
            self.events.push_back(Event::Completed { id: ack.id, reason: ack.reason, first });
        }
    }

    fn answered(
        &mut self,
        id: PacketId,
        is_subscribe: bool,
        reasons: Reasons<'_>,
        properties: Properties<'_>,
    ) -> Result<()> {
        let position =
            self.requests.iter().position(|request| request.id == id && request.is_subscribe == is_subscribe);
        let Some(position) = position else { return Ok(()) };
        let request = self.requests.swap_remove(position);
        let reasons: Vec<Reason> = reasons.iter().collect();
        let has_reasons = is_subscribe || self.asked.version == Version::V5;
        if has_reasons && reasons.len() != request.filters {
            let rule = if is_subscribe { "MQTT-3.8.4-6" } else { "MQTT-3.11.3-1" };
            return Err(DecodeError::protocol(rule, "an answer with more or fewer codes than filters"));
        }
        let text = text(properties);
        self.events.push_back(if is_subscribe {
            Event::Subscribed { id, reasons, text }
        } else {
            Event::Unsubscribed { id, reasons, text }
        });
        Ok(())
    }

    /// Sends the PUBACKs and PUBRECs whose turn it is.
    pub(super) fn say_answers(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        while let Some((qos, id, reason)) = self.incoming.next_answer() {
            let reason = if self.asked.version == Version::V5 { reason } else { Reason::SUCCESS };
            let ack = Ack::with_reason(id, reason);
            self.say(&if qos == QoS::ExactlyOnce { Packet::Pubrec(ack) } else { Packet::Puback(ack) });
        }
    }

    /// Sends the PUBRELs whose turn it is. They carry no PUBLISH with them ever again: [MQTT-4.3.3-6].
    pub(super) fn say_pubrels(&mut self) {
        while let Some(id) = self.window.release_next() {
            self.say(&Packet::Pubrel(Ack::new(id)));
        }
    }
}

fn text(properties: Properties<'_>) -> Option<Box<str>> {
    properties.reason_string().map(Into::into)
}
