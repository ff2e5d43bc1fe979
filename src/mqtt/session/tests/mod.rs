//! The state machine, step by step: what it says to what it hears. Whole lives are in the simulation beside this.

mod bytes;
mod connection;
mod incoming;
mod outgoing;

use std::time::Duration;

use super::*;
use crate::mqtt::packet::{self, Connack, PACKET_MAX, Properties, Property, PropertyList, Publish};

/// A session and the far end of its wire.
struct Wire {
    session: Session,
    now: Duration,
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

fn options() -> Options {
    Options { topic_aliases_out: 0, ..Options::new("c") }
}

fn message(topic: &str, qos: u8, value: u16) -> Publish<'_> {
    Publish {
        dup: false,
        qos: QoS::from_bits(qos).unwrap(),
        retain: false,
        topic,
        id: PacketId::new(value),
        properties: Properties::EMPTY,
        payload: b"x",
    }
}

fn connack(session_present: bool, properties: Properties<'_>) -> Packet<'_> {
    Packet::Connack(Connack { session_present, reason: Reason::SUCCESS, properties, in_v311: false })
}

impl Wire {
    /// Connected with 5.0 and the given properties of CONNACK; nothing of it is left in the queues.
    fn connected(properties: &[Property<'_>]) -> Self {
        let mut wire = Self { session: Session::new(100, 1 << 20), now: Duration::from_secs(1000) };
        wire.connect(&options(), false, properties);
        wire
    }

    fn connect(&mut self, options: &Options, session_present: bool, properties: &[Property<'_>]) -> Connected {
        self.session.connect(self.now, options, false).unwrap();
        assert!(self.sent()[0].starts_with("CONNECT"));
        let mut list = PropertyList::new();
        properties.iter().for_each(|property| list.push(*property).unwrap());
        let in_v311 = options.version == Version::V311;
        self.hear(&Packet::Connack(Connack {
            session_present,
            reason: Reason::SUCCESS,
            properties: if in_v311 { Properties::EMPTY } else { list.as_properties() },
            in_v311,
        }))
        .unwrap();
        // Earlier events that nobody looked at are dropped.
        match self.events().pop() {
            Some(Event::Connected(connected)) => *connected,
            other => panic!("{other:?}"),
        }
    }

    fn reconnect(&mut self, session_present: bool, properties: &[Property<'_>]) -> Connected {
        self.session.disconnected();
        self.connect(&options(), session_present, properties)
    }

    fn hear(&mut self, packet: &Packet<'_>) -> Result<(), ProtocolError> {
        let mut bytes = Vec::new();
        packet.encode(self.session.version(), &mut bytes).unwrap();
        self.session.receive(self.now, &bytes)
    }

    fn publish(&mut self, message: &Publish<'_>) -> Result<(), PublishError> {
        self.session.publish(self.now, message)
    }

    /// All that the session has to say, a word a packet.
    fn sent(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        loop {
            let pending = self.session.transmit().to_vec();
            if pending.is_empty() {
                return words(&bytes, self.session.version());
            }
            bytes.extend_from_slice(&pending);
            self.session.transmitted(self.now, pending.len());
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// Time passes; what the timers say.
    fn pass(&mut self, seconds: u64) -> Result<(), Timeout> {
        self.now += Duration::from_secs(seconds);
        self.session.handle_timeout(self.now)
    }
}

fn words(mut bytes: &[u8], version: Version) -> Vec<String> {
    let mut words = Vec::new();
    while let Some((packet, length)) = packet::decode(bytes, version, PACKET_MAX).unwrap() {
        words.push(word(&packet));
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "whole packets only");
    words
}

fn word(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.reason {
        Reason::SUCCESS => format!("{name} {}", ack.id),
        reason => format!("{name} {} {:02X}", ack.id, reason.code()),
    };
    match packet {
        Packet::Connect(connect) => format!("CONNECT {}", connect.clean_start),
        Packet::Publish(publish) => {
            let dup = if publish.dup { "DUP " } else { "" };
            let id = publish.id.map_or(String::new(), |id| format!(" {id}"));
            let alias = publish.properties.find(|property| match property {
                Property::TopicAlias(alias) => Some(format!(" @{alias}")),
                _ => None,
            });
            format!("{dup}PUBLISH{id} {}{}", publish.topic, alias.unwrap_or_default())
        }
        Packet::Puback(packet) => ack("PUBACK", packet),
        Packet::Pubrec(packet) => ack("PUBREC", packet),
        Packet::Pubrel(packet) => ack("PUBREL", packet),
        Packet::Pubcomp(packet) => ack("PUBCOMP", packet),
        Packet::Subscribe(packet) => format!("SUBSCRIBE {}", packet.id),
        Packet::Unsubscribe(packet) => format!("UNSUBSCRIBE {}", packet.id),
        Packet::Pingreq => "PINGREQ".into(),
        Packet::Disconnect(packet) => format!("DISCONNECT {:02X}", packet.reason.code()),
        Packet::Auth(packet) => format!("AUTH {:02X}", packet.reason.code()),
        other => panic!("a client does not send {other:?}"),
    }
}
