//! The model broker: as strict as a broker could be, and it never forgets but when it is told to.

mod end;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::client::VOLATILE;
use super::{Ledger, Plan, Random};
use crate::mqtt::packet::{
    self, Ack, Connack, Connect, PACKET_MAX, Packet, PacketId, Properties, Property, PropertyList, Publish, QoS,
    Reason, Reasons, Suback, Unsuback, Version,
};

/// What outlives a connection.
#[derive(Clone, Default)]
struct Kept {
    /// QoS 2 identifiers between PUBLISH and PUBREL, with the message's number and whether it was delivered.
    received: BTreeMap<PacketId, (u32, bool)>,
    /// When an identifier's latest PUBREC was sent. One that knows of an earlier one sends no PUBLISH to cause another.
    pubrecs: BTreeMap<PacketId, u64>,
    outgoing: VecDeque<Out>,
    /// 3.1.1, clean session.
    ends_with_connection: bool,
    is_subscribed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum OutState {
    Queued,
    Sent,
    Released,
}

#[derive(Clone)]
struct Out {
    number: u32,
    qos: QoS,
    id: Option<PacketId>,
    state: OutState,
    /// It has to be sent, or sent again, on this connection.
    is_due: bool,
}

struct Connection {
    input: Vec<u8>,
    output: VecDeque<u8>,
    version: Version,
    is_connected: bool,
    has_left: bool,
    receive_maximum: usize,
    maximum_qos: QoS,
    maximum_packet_size: usize,
    alias_maximum: u16,
    aliases: BTreeMap<u16, String>,
    client_receive_maximum: usize,
    /// Exchanges that count against Receive Maximum.
    open: BTreeSet<PacketId>,
    last_number: Option<u32>,
    /// The PUBREC that the last PUBREL answered.
    pubrel: u64,
    /// Identifiers of our PUBLISHes that wait for PUBACK and PUBREC, in order.
    pubacks_due: VecDeque<PacketId>,
    pubrecs_due: VecDeque<PacketId>,
    answers: VecDeque<Answer>,
    /// SUBSCRIBEs and UNSUBSCRIBEs that were not answered.
    requests: BTreeSet<PacketId>,
}

enum Answer {
    Puback(PacketId, Reason),
    Pubrec(PacketId, Reason),
    Pubcomp(PacketId, Reason),
    Suback(PacketId),
    Unsuback(PacketId, Reason),
    Pingresp,
}

pub(super) struct Broker {
    plan: Plan,
    random: Random,
    ledger: Ledger,
    kept: Option<Kept>,
    /// What it was at some time in this session.
    copy: Option<Kept>,
    /// Counts sessions.
    epoch: u32,
    connection: Option<Connection>,
    /// In which sessions a message was delivered.
    deliveries: BTreeMap<u32, Vec<u32>>,
    refused: BTreeSet<u32>,
    /// The session in which a PUBLISH last arrived whole.
    seen: BTreeMap<u32, u32>,
    next_out: u32,
    /// Messages to the client that went away with a session.
    lost: BTreeSet<u32>,
    is_calm: bool,
    clock: u64,
}

impl Broker {
    pub(super) fn new(plan: Plan, random: Random, ledger: Ledger) -> Self {
        Self {
            plan,
            random,
            ledger,
            kept: None,
            copy: None,
            epoch: 0,
            connection: None,
            deliveries: BTreeMap::new(),
            refused: BTreeSet::new(),
            seen: BTreeMap::new(),
            next_out: 0,
            lost: BTreeSet::new(),
            is_calm: false,
            clock: 0,
        }
    }

    pub(super) fn accept(&mut self) {
        self.connection = Some(Connection {
            input: Vec::new(),
            output: VecDeque::new(),
            version: self.plan.version,
            is_connected: false,
            has_left: false,
            receive_maximum: usize::from(u16::MAX),
            maximum_qos: QoS::ExactlyOnce,
            maximum_packet_size: PACKET_MAX as usize,
            alias_maximum: 0,
            aliases: BTreeMap::new(),
            client_receive_maximum: usize::from(u16::MAX),
            open: BTreeSet::new(),
            last_number: None,
            pubrel: 0,
            pubacks_due: VecDeque::new(),
            pubrecs_due: VecDeque::new(),
            answers: VecDeque::new(),
            requests: BTreeSet::new(),
        });
    }

    pub(super) fn disconnected(&mut self) {
        self.connection = None;
        if self.kept.as_ref().is_some_and(|kept| kept.ends_with_connection) {
            self.lose_session();
        }
    }

    /// Comes back with an older copy of its state, or makes one.
    pub(super) fn go_back(&mut self) {
        if self.kept.is_some() && self.copy.is_some() && self.random.percent(60) {
            self.kept = self.copy.take();
        } else {
            self.copy = self.kept.clone();
        }
    }

    pub(super) fn lose_session(&mut self) {
        self.copy = None;
        if let Some(kept) = self.kept.take() {
            self.lost.extend(kept.outgoing.iter().map(|out| out.number));
        }
    }

    /// The faults are over: limits do not change any more.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
    }

    pub(super) fn transmit(&mut self, count: usize) -> Vec<u8> {
        let Some(connection) = &mut self.connection else { return Vec::new() };
        let count = count.min(connection.output.len());
        connection.output.drain(..count).collect()
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut connection.input);
        let mut rest = input.as_slice();
        while let Some((packet, length)) = packet::decode(rest, connection.version, PACKET_MAX).unwrap() {
            assert!(!connection.has_left, "something came behind DISCONNECT: {packet:?}"); // [MQTT-3.14.4-1]
            // [MQTT-3.2.2-15]
            assert!(length <= connection.maximum_packet_size, "{length} bytes are too many: {packet:?}");
            self.handle(&mut connection, &packet);
            rest = &rest[length..];
        }
        connection.input = rest.to_vec();
        self.connection = Some(connection);
    }

    fn handle(&mut self, connection: &mut Connection, packet: &Packet<'_>) {
        if let Packet::Connect(packet) = packet {
            assert!(!connection.is_connected);
            return self.connect(connection, packet);
        }
        assert!(connection.is_connected, "CONNECT comes first"); // [MQTT-3.1.0-1]
        match packet {
            Packet::Publish(packet) => self.publish(connection, packet),
            Packet::Pubrel(ack) => self.pubrel(connection, ack),
            Packet::Puback(ack) => {
                assert_eq!(connection.pubacks_due.pop_front(), Some(ack.id), "PUBACKs in order"); // [MQTT-4.6.0-2]
                self.outgoing().retain(|out| out.id != Some(ack.id));
            }
            Packet::Pubrec(ack) => {
                if connection.pubrecs_due.contains(&ack.id) {
                    assert_eq!(connection.pubrecs_due.pop_front(), Some(ack.id), "PUBRECs in order"); // [MQTT-4.6.0-3]
                }
                let out = self.outgoing().iter_mut().find(|out| out.id == Some(ack.id)).expect("PUBREC of ours");
                out.state = OutState::Released;
                out.is_due = false;
                connection.put(&Packet::Pubrel(Ack::new(ack.id)));
            }
            Packet::Pubcomp(ack) => self.outgoing().retain(|out| out.id != Some(ack.id)),
            Packet::Subscribe(packet) => {
                connection.request(packet.id);
                self.kept.as_mut().unwrap().is_subscribed = true;
                connection.answers.push_back(Answer::Suback(packet.id));
            }
            Packet::Unsubscribe(packet) => {
                connection.request(packet.id);
                let was = std::mem::take(&mut self.kept.as_mut().unwrap().is_subscribed);
                let reason = if was { Reason::SUCCESS } else { Reason::NO_SUBSCRIPTION_EXISTED };
                connection.answers.push_back(Answer::Unsuback(packet.id, reason));
            }
            Packet::Pingreq => connection.answers.push_back(Answer::Pingresp),
            Packet::Disconnect(_) => connection.has_left = true,
            other => panic!("{other:?}"),
        }
    }

    fn outgoing(&mut self) -> &mut VecDeque<Out> {
        &mut self.kept.as_mut().expect("a connection has a session").outgoing
    }

    fn connect(&mut self, connection: &mut Connection, packet: &Connect<'_>) {
        connection.is_connected = true;
        let is_v5 = connection.version == Version::V5;
        if packet.clean_start {
            self.lose_session();
        }
        let session_present = self.kept.is_some();
        if !session_present {
            self.epoch += 1;
        }
        let kept = self.kept.get_or_insert_default();
        kept.ends_with_connection = !is_v5 && packet.clean_start;
        for out in &mut kept.outgoing {
            out.is_due = true;
        }
        if let Some(maximum) = packet.properties.find(|property| match property {
            Property::ReceiveMaximum(value) => Some(value),
            _ => None,
        }) {
            connection.client_receive_maximum = usize::from(maximum);
        }
        let mut list = PropertyList::new();
        if is_v5 {
            self.grant(connection, &mut list);
        }
        let properties = list.as_properties();
        let connack = Connack { session_present, reason: Reason::SUCCESS, properties, in_v311: !is_v5 };
        connection.put(&Packet::Connack(connack));
    }

    fn grant(&mut self, connection: &mut Connection, list: &mut PropertyList) {
        if self.random.percent(90) {
            let maximum = 1 + self.random.below(self.plan.receive_maximum) as u16;
            connection.receive_maximum = usize::from(maximum);
            list.push(Property::ReceiveMaximum(maximum)).unwrap();
        }
        if self.random.percent(70) && self.plan.aliases > 0 {
            connection.alias_maximum = 1 + self.random.below(self.plan.aliases) as u16;
            list.push(Property::TopicAliasMaximum(connection.alias_maximum)).unwrap();
        }
        if self.plan.has_changing_limits && !self.is_calm {
            if self.random.percent(30) {
                connection.maximum_packet_size = 30 + self.random.below(40) as usize;
                list.push(Property::MaximumPacketSize(connection.maximum_packet_size as u32)).unwrap();
            }
            if self.random.percent(20) {
                connection.maximum_qos = QoS::AtLeastOnce;
                list.push(Property::MaximumQos(QoS::AtLeastOnce)).unwrap();
            }
        }
    }

    fn publish(&mut self, connection: &mut Connection, packet: &Publish<'_>) {
        connection.resolve(packet);
        let number = u32::from_be_bytes(packet.payload[..4].try_into().unwrap());
        assert!(packet.qos <= connection.maximum_qos); // [MQTT-3.2.2-11]
        if number < VOLATILE {
            let last = connection.last_number.replace(number);
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}"); // [MQTT-4.6.0-1] [MQTT-4.4.0-1]
        }
        let Some(id) = packet.id else { return self.deliver(number) };
        assert!(connection.open.insert(id), "identifier {id} is in use"); // [MQTT-2.2.1-3]
        // [MQTT-3.3.4-7] [MQTT-4.9.0-2]
        assert!(connection.open.len() <= connection.receive_maximum, "more in flight than Receive Maximum");
        if number < VOLATILE {
            let was_seen = self.seen.insert(number, self.epoch) == Some(self.epoch);
            assert!(packet.dup || !was_seen, "{number} again without DUP"); // [MQTT-3.3.1-1]
        }
        let is_refused = number < VOLATILE && !self.is_calm && self.random.percent(self.plan.refusals);
        let delivers_now = !self.plan.delivers_on_pubrel;
        let kept = self.kept.as_mut().unwrap();
        let received = &mut kept.received;
        if packet.qos == QoS::AtLeastOnce {
            let reason = if is_refused { Reason::QUOTA_EXCEEDED } else { Reason::SUCCESS };
            connection.answers.push_back(Answer::Puback(id, reason));
            if is_refused {
                self.refused.insert(number);
            } else {
                self.deliver(number);
            }
        } else if let Some(&(earlier, _)) = received.get(&id) {
            assert_eq!(earlier, number, "identifier {id} stands for another message");
            connection.answers.push_back(Answer::Pubrec(id, Reason::SUCCESS));
        } else if is_refused {
            connection.answers.push_back(Answer::Pubrec(id, Reason::QUOTA_EXCEEDED));
            self.refused.insert(number);
        } else {
            received.insert(id, (number, delivers_now));
            connection.answers.push_back(Answer::Pubrec(id, Reason::SUCCESS));
            if delivers_now {
                self.deliver(number);
            }
        }
    }

    fn pubrel(&mut self, connection: &mut Connection, ack: &Ack<'_>) {
        assert_eq!(ack.reason, Reason::SUCCESS);
        let answers = self.kept.as_ref().unwrap().pubrecs.get(&ack.id).copied();
        let answers = match answers {
            // That PUBREC was sent in what is the future by now.
            _ if self.plan.goes_back => connection.pubrel,
            Some(answers) => answers,
            None => panic!("PUBREL of {} answers no PUBREC", ack.id),
        };
        assert!(answers >= connection.pubrel, "PUBRELs in the order of the PUBRECs, over connections"); // [MQTT-4.6.0-4]
        connection.pubrel = answers;
        connection.open.insert(ack.id);
        let reason = match self.kept.as_mut().unwrap().received.remove(&ack.id) {
            Some((number, was_delivered)) => {
                assert!(self.ledger.borrow().contains(&number), "R4: PUBREL of {number} before it was durable");
                if !was_delivered {
                    self.deliver(number);
                }
                Reason::SUCCESS
            }
            None => Reason::PACKET_IDENTIFIER_NOT_FOUND,
        };
        let reason = if connection.version == Version::V5 { reason } else { Reason::SUCCESS };
        connection.answers.push_back(Answer::Pubcomp(ack.id, reason));
    }

    fn deliver(&mut self, number: u32) {
        self.deliveries.entry(number).or_default().push(self.epoch);
    }

    /// Answers something, or sends something.
    pub(super) fn work(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if connection.is_connected && !connection.has_left {
            if self.random.percent(70) {
                self.answer(&mut connection);
            } else {
                self.send(&mut connection);
            }
        }
        self.connection = Some(connection);
    }

    fn answer(&mut self, connection: &mut Connection) {
        match connection.answers.pop_front() {
            None => {}
            Some(Answer::Puback(id, reason)) => {
                connection.open.remove(&id);
                connection.put(&Packet::Puback(Ack::with_reason(id, reason)));
            }
            Some(Answer::Pubrec(id, reason)) => {
                if reason.is_error() {
                    connection.open.remove(&id);
                } else {
                    self.clock += 1;
                    self.kept.as_mut().unwrap().pubrecs.insert(id, self.clock);
                }
                connection.put(&Packet::Pubrec(Ack::with_reason(id, reason)));
            }
            Some(Answer::Pubcomp(id, reason)) => {
                connection.open.remove(&id);
                connection.put(&Packet::Pubcomp(Ack::with_reason(id, reason)));
            }
            Some(Answer::Suback(id)) => {
                connection.requests.remove(&id);
                let reasons = Reasons::new(&[2]);
                connection.put(&Packet::Suback(Suback { id, properties: Properties::EMPTY, reasons }));
            }
            Some(Answer::Unsuback(id, reason)) => {
                connection.requests.remove(&id);
                let code = [reason.code()];
                let reasons = Reasons::new(if connection.version == Version::V5 { &code } else { &[] });
                connection.put(&Packet::Unsuback(Unsuback { id, properties: Properties::EMPTY, reasons }));
            }
            Some(Answer::Pingresp) => connection.put(&Packet::Pingresp),
        }
    }

    fn send(&mut self, connection: &mut Connection) {
        let forgets_dup = self.random.percent(self.plan.forgets_dup);
        let (plan, next_out) = (&self.plan, &mut self.next_out);
        let kept = self.kept.as_mut().unwrap();
        if kept.outgoing.iter().all(|out| !out.is_due) {
            if *next_out >= plan.incoming {
                return;
            }
            let qos = plan.incoming_qos[*next_out as usize % 3];
            kept.outgoing.push_back(Out { number: *next_out, qos, id: None, state: OutState::Queued, is_due: true });
            *next_out += 1;
        }
        let has_quota = connection.pubacks_due.len()
            + kept.outgoing.iter().filter(|out| out.qos == QoS::ExactlyOnce && !out.is_due).count()
            < connection.client_receive_maximum.min(3);
        let ids: BTreeSet<_> = kept.outgoing.iter().filter_map(|out| out.id).collect();
        let Some(out) = kept.outgoing.iter_mut().find(|out| out.is_due) else { return };
        if out.state == OutState::Released {
            connection.put(&Packet::Pubrel(Ack::new(out.id.unwrap())));
            out.is_due = false;
            return;
        }
        if out.qos != QoS::AtMostOnce {
            if !has_quota {
                return;
            }
            // The lowest that is free, so that they come round often.
            out.id = out.id.or_else(|| (1..).filter_map(PacketId::new).find(|id| !ids.contains(id)));
            let due =
                if out.qos == QoS::AtLeastOnce { &mut connection.pubacks_due } else { &mut connection.pubrecs_due };
            due.extend(out.id);
        }
        let payload = out.number.to_be_bytes();
        connection.put(&Packet::Publish(Publish {
            dup: out.state == OutState::Sent && !forgets_dup,
            qos: out.qos,
            retain: false,
            topic: "to/us",
            id: out.id,
            properties: Properties::EMPTY,
            payload: &payload,
        }));
        (out.state, out.is_due) = (OutState::Sent, false);
        let number = out.number;
        if out.qos == QoS::AtMostOnce {
            kept.outgoing.retain(|out| out.number != number);
            self.lost.insert(number);
        }
    }
}

impl Connection {
    fn put(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.output.extend(bytes);
    }

    /// [MQTT-2.2.1-3]
    fn request(&mut self, id: PacketId) {
        assert!(!self.open.contains(&id) && self.requests.insert(id), "identifier {id} is in use");
    }

    /// [MQTT-3.3.2-7] [MQTT-3.3.2-8] [MQTT-3.2.2-17]
    fn resolve(&mut self, packet: &Publish<'_>) {
        let alias = packet.properties.find(|property| match property {
            Property::TopicAlias(alias) => Some(alias),
            _ => None,
        });
        let Some(alias) = alias else { return };
        assert!((1..=self.alias_maximum).contains(&alias), "alias {alias} was not granted");
        if packet.topic.is_empty() {
            assert!(self.aliases.contains_key(&alias), "alias {alias} is not known here");
        } else {
            self.aliases.insert(alias, packet.topic.to_owned());
        }
    }
}
