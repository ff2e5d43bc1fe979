//! Any bytes in any pieces.

use proptest::prelude::*;

use super::*;
use crate::mqtt::packet::{Disconnect, Reasons, Suback};

/// A conversation of a server, as bytes.
fn conversation(version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    let connack = Connack {
        session_present: true,
        reason: Reason::SUCCESS,
        properties: Properties::EMPTY,
        in_v311: version == Version::V311,
    };
    let payload = [1; 300];
    let packets = [
        Packet::Connack(connack),
        Packet::Publish(message("a", 0, 0)),
        Packet::Publish(Publish { payload: &payload, ..message("b", 1, 1) }),
        Packet::Publish(message("c", 2, 2)),
        Packet::Puback(Ack::new(id(1))),
        Packet::Pubrec(Ack::new(id(2))),
        Packet::Pubrel(Ack::new(id(7))),
        Packet::Suback(Suback { id: id(40_000), properties: Properties::EMPTY, reasons: Reasons::new(&[1]) }),
        Packet::Pingresp,
    ];
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes).unwrap());
    if version == Version::V5 {
        let packet = Disconnect { reason: Reason::SERVER_BUSY, properties: Properties::EMPTY };
        Packet::Disconnect(packet).encode(version, &mut bytes).unwrap();
    }
    bytes
}

fn begun(version: Version) -> Session {
    let mut session = Session::new(10, 1 << 20);
    session.restore(&[id(3)], &[(id(1), QoS::AtLeastOnce), (id(2), QoS::ExactlyOnce)]);
    session.connect(Duration::ZERO, &Options { version, ..Options::new("c") }, false).unwrap();
    session
}

fn heard(session: &mut Session, bytes: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<u8>) {
    let mut rest = bytes;
    let mut events = Vec::new();
    for &cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (head, tail) = rest.split_at(cut.min(rest.len()));
        let _ = session.receive(Duration::ZERO, head);
        events.extend(std::iter::from_fn(|| session.poll_event()));
        rest = tail;
    }
    (events, session.transmit().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// [MQTT-6.0.0-2], F-30: packets do not align with what the transport gives.
    #[test]
    fn fragmentation_makes_no_difference(cuts in proptest::collection::vec(1..40usize, 1..10), v5 in any::<bool>()) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let bytes = conversation(version);
        let whole = heard(&mut begun(version), &bytes, &[bytes.len()]);
        let (events, said) = heard(&mut begun(version), &bytes, &cuts);
        prop_assert_eq!(&events, &whole.0);
        prop_assert!(events.len() >= 6);
        prop_assert_eq!(said, whole.1);
    }

    /// F-29: no bytes of a server make it panic, before or after CONNACK, and what it has to say stays whole packets.
    #[test]
    fn arbitrary_bytes_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in proptest::collection::vec(any::<u8>(), 0..40), cuts in proptest::collection::vec(1..40usize, 1..10),
        v5 in any::<bool>(), connacked in any::<bool>(),
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let mut session = begun(version);
        let length = session.transmit().len();
        session.transmitted(Duration::ZERO, length);
        let mut bytes = conversation(version);
        let start = if connacked { 5 } else { 0 };
        for (index, value) in damage {
            let at = start + index.index(bytes.len() - start);
            bytes[at] = value;
        }
        bytes.extend_from_slice(&tail);
        let (events, said) = heard(&mut session, &bytes, &cuts);
        for event in events {
            if let Event::Message(message) = event {
                if let Some(id) = message.id {
                    session.acknowledge(id, Reason::SUCCESS);
                }
                session.recycle(message);
            }
        }
        words(&said, version);
        let _ = session.handle_timeout(Duration::from_secs(1000));
        session.disconnected();
        prop_assert!(session.in_flight() <= 3);
    }
}

/// A packet that never ends holds what came of it, and no more.
#[test]
pub(super) fn half_a_packet_costs_what_came() {
    let mut wire = Wire::connected(&[]);
    wire.session.receive(wire.now, &[0x30, 0xFF, 0xFF, 0x1F]).unwrap(); // claims 524,287 bytes
    for _ in 0..100 {
        wire.session.receive(wire.now, &[0; 10]).unwrap();
    }
    assert!(wire.session.partial.capacity() < 4096);
    let error = Wire::connected(&[]).session.receive(Duration::ZERO, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap_err();
    assert_eq!(error.0.reason, Reason::PACKET_TOO_LARGE);
}

/// A server that asks for answers and reads none is left, and so is one that is faster than its reader.
#[test]
pub(super) fn floods_are_bounded() {
    let mut wire = Wire::connected(&[]);
    let mut pubrel = Vec::new();
    Packet::Pubrel(Ack::new(id(1))).encode(Version::V5, &mut pubrel).unwrap();
    let flood = pubrel.repeat(10_000);
    let calls = (0..100).take_while(|_| wire.session.receive(wire.now, &flood).is_ok()).count();
    assert!(calls < 10);
    assert!(wire.session.transmit().len() <= CONTROL_MAX + 100);

    let mut wire = Wire::connected(&[]);
    let mut publish = Vec::new();
    Packet::Publish(message("a", 0, 0)).encode(Version::V5, &mut publish).unwrap();
    let flood = publish.repeat(10_000);
    let calls = (0..100).take_while(|_| wire.session.receive(wire.now, &flood).is_ok()).count();
    assert!(calls < 10);
    assert_eq!(wire.events().len(), EVENTS_MAX);
}
