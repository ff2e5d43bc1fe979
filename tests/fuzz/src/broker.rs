//! A session under an arbitrary broker: its bytes, the owner's calls and the clock are all in the fuzzer's hand.

use std::time::Duration;

use crate::mqtt::packet::{Ack, Filter, Packet, Properties, PropertyList, Publish, decode};
use crate::mqtt::session::Want;
use crate::mqtt::{Event, Options, PacketId, QoS, Reason, Session, Version};

/// Most exchanges in flight.
const IN_FLIGHT_MAX: u16 = 16;
/// Calls of one run.
const STEPS_MAX: usize = 256;

/// The input, byte by byte.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte().unwrap_or(0)).min(self.0.len());
        let (front, rest) = self.0.split_at(count);
        self.0 = rest;
        front
    }
}

struct Run {
    session: Session,
    options: Options,
    now: Duration,
    next_id: u16,
    /// The last identifiers that the session used, for acknowledgements that fit.
    last_id: u16,
    /// Half a packet, from the session's output.
    unread: Vec<u8>,
}

/// Whatever a broker says and whenever: no panic; what is said is whole packets of a client; the quota holds; nothing
/// grows beyond its bound.
pub fn mqtt_session(data: &[u8]) {
    let mut input = Input(data);
    let Some(flags) = input.byte() else { return };
    let mut options = Options::new("fuzz");
    options.version = if flags & 1 == 0 { Version::V5 } else { Version::V311 };
    options.hold_completion = flags & 2 != 0;
    options.topic_alias_maximum = u16::from(flags >> 4);
    options.maximum_packet_size = 4096;
    let mut run = Run {
        session: Session::new(IN_FLIGHT_MAX, 4096),
        options,
        now: Duration::from_secs(1),
        next_id: 1,
        last_id: 1,
        unread: Vec::new(),
    };
    run.connect(flags & 4 != 0, flags & 8 != 0);
    for _ in 0..STEPS_MAX {
        let Some(operation) = input.byte() else { break };
        run.step(operation, &mut input);
        run.settle(operation & 0x80 != 0);
    }
}

impl Run {
    fn connect(&mut self, clean_start: bool, present: bool) {
        self.session.disconnected();
        self.unread.clear();
        if self.session.connect(self.now, &self.options, clean_start).is_err() {
            return;
        }
        self.output();
        let present = u8::from(present && !clean_start);
        let connack: &[u8] =
            if self.options.version == Version::V5 { &[0x20, 3, present, 0, 0] } else { &[0x20, 2, present, 0] };
        let _judged = self.session.receive(self.now, connack);
    }

    fn step(&mut self, operation: u8, input: &mut Input<'_>) {
        match operation & 0x0F {
            0..=2 => {
                let _judged = self.session.receive(self.now, input.bytes());
            }
            3 => {
                let flags = input.byte().unwrap_or(0);
                self.connect(flags & 1 != 0, flags & 2 != 0);
            }
            // The broker's own CONNACK.
            4 => {
                self.session.disconnected();
                self.unread.clear();
                if self.session.connect(self.now, &self.options, false).is_ok() {
                    let _judged = self.session.receive(self.now, input.bytes());
                }
            }
            5..=7 => self.publish(QoS::from_bits(operation & 3).unwrap_or(QoS::AtLeastOnce), input.bytes()),
            8..=11 => self.answer(operation, input.byte().unwrap_or(0)),
            12 => {
                self.now += Duration::from_secs(u64::from(input.byte().unwrap_or(0)));
                let _dead = self.session.handle_timeout(self.now);
            }
            13 => {
                let filter = String::from_utf8_lossy(input.bytes()).into_owned();
                let _refused =
                    self.session.subscribe(self.now, &[Filter::new(&filter, QoS::ExactlyOnce)], &PropertyList::new());
                let _refused = self.session.unsubscribe(self.now, &[&filter]);
            }
            14 => {
                if let Some(id) = PacketId::new(u16::from(input.byte().unwrap_or(0))) {
                    self.session.acknowledge(id, Reason::SUCCESS);
                    self.session.complete(id);
                    self.session.release(id);
                    self.session.abandon(id);
                }
            }
            _ => self.session.disconnect(Reason::SUCCESS, None),
        }
    }

    /// Gives it what it wants.
    fn publish(&mut self, qos: QoS, payload: &[u8]) {
        let id = match self.session.want() {
            Want::Resend(id) => Some(id),
            Want::Fresh { .. } => PacketId::new(self.next_id),
            Want::Nothing => return,
        };
        let id = if qos == QoS::AtMostOnce { None } else { id };
        let message =
            Publish { dup: false, qos, retain: false, topic: "a/b", id, properties: Properties::EMPTY, payload };
        if self.session.publish(self.now, &message).is_ok()
            && let Some(id) = id
        {
            self.last_id = id.value();
            self.next_id = self.next_id % 32_768 + 1;
        }
    }

    /// An acknowledgement for something that is in flight, most likely.
    fn answer(&mut self, operation: u8, offset: u8) {
        let id = self.last_id.wrapping_sub(u16::from(offset & 7)).max(1);
        let Some(id) = PacketId::new(id) else { return };
        let reason = if offset & 0x80 != 0 && self.options.version == Version::V5 {
            Reason::QUOTA_EXCEEDED
        } else {
            Reason::SUCCESS
        };
        let packet = match operation & 3 {
            0 => Packet::Puback(Ack::with_reason(id, reason)),
            1 => Packet::Pubrec(Ack::with_reason(id, reason)),
            2 => Packet::Pubcomp(Ack::new(id)),
            _ => Packet::Pubrel(Ack::new(id)),
        };
        let mut bytes = Vec::new();
        if packet.encode(self.options.version, &mut bytes).is_ok() {
            let _judged = self.session.receive(self.now, &bytes);
        }
    }

    /// The owner does his duty: takes the events, and where `releases`, what is to be durable is.
    fn settle(&mut self, releases: bool) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Received { id } if releases => self.session.release(id),
                Event::Released { id } if releases => self.session.complete(id),
                Event::Message(message) => {
                    if let Some(id) = message.id.filter(|_| releases) {
                        self.session.acknowledge(id, Reason::SUCCESS);
                    }
                    assert!(message.payload().len() <= 4096);
                    self.session.recycle(message);
                }
                _ => {}
            }
        }
        assert!(self.session.in_flight() <= usize::from(IN_FLIGHT_MAX) * 2, "{}", self.session.in_flight());
        self.output();
    }

    /// Everything that is written is whole packets that a client may send.
    fn output(&mut self) {
        while !self.session.transmit().is_empty() {
            let bytes = self.session.transmit().to_vec();
            assert!(bytes.len() < 1 << 20);
            self.session.transmitted(self.now, bytes.len());
            self.unread.extend_from_slice(&bytes);
        }
        let mut at = 0;
        while let Some((packet, length)) =
            decode(&self.unread[at..], self.options.version, u32::MAX).expect("the session speaks MQTT")
        {
            assert!(!matches!(packet, Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp));
            at += length;
        }
        assert_eq!(at, self.unread.len(), "half a packet");
        self.unread.clear();
    }
}
