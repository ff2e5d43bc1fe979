//! Messages that come to us.

use super::*;
use crate::mqtt::packet::Publish;

fn heard(wire: &mut Wire) -> Vec<u16> {
    let mut ids = Vec::new();
    for event in wire.events() {
        match event {
            Event::Message(message) => ids.push(message.id.map_or(0, PacketId::value)),
            Event::Released { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    ids
}

#[test]
pub(super) fn qos_0_needs_no_answer() {
    let mut wire = Wire::connected(&[]);
    wire.hear(&Packet::Publish(message("a/b", 0, 0))).unwrap();
    let Some(Event::Message(message)) = wire.session.poll_event() else { panic!() };
    assert_eq!((message.topic(), message.payload(), message.id), ("a/b", b"x".as_slice(), None));
    assert!(wire.sent().is_empty());
}

#[test]
pub(super) fn a_message_keeps_its_properties() {
    let mut wire = Wire::connected(&[]);
    let list = PropertyList::new()
        .with(Property::ResponseTopic("reply/1"))
        .and_then(|list| list.with(Property::CorrelationData(b"42")))
        .and_then(|list| list.with(Property::MessageExpiry(60)))
        .and_then(|list| list.with(Property::SubscriptionIdentifier(7)))
        .and_then(|list| list.with(Property::SubscriptionIdentifier(8)))
        .unwrap();
    wire.hear(&Packet::Publish(Publish { properties: list.as_properties(), ..message("a", 0, 0) })).unwrap();
    let Some(Event::Message(message)) = wire.session.poll_event() else { panic!() };
    let properties = message.properties();
    assert_eq!(properties.response_topic(), Some("reply/1"));
    assert_eq!(properties.correlation_data(), Some(b"42".as_slice()));
    assert_eq!(properties.message_expiry(), Some(60));
    assert_eq!(properties.iter().count(), 5);
    assert_eq!(message.payload(), b"x");
    wire.session.recycle(message);
}

/// Acknowledgements wait for the caller, and go out in the order of the messages. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
#[test]
pub(super) fn acknowledgements_are_the_callers_and_keep_the_order() {
    let mut wire = Wire::connected(&[]);
    for (value, qos) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
        wire.hear(&Packet::Publish(message("a", qos, value))).unwrap();
    }
    assert_eq!(heard(&mut wire), [1, 2, 3, 4]);
    for value in [4, 3] {
        wire.session.acknowledge(id(value), Reason::SUCCESS);
    }
    assert!(wire.sent().is_empty());
    wire.session.acknowledge(id(2), Reason::SUCCESS);
    wire.session.acknowledge(id(1), Reason::NOT_AUTHORIZED);
    assert_eq!(wire.sent(), ["PUBREC 2", "PUBREC 4", "PUBACK 1 87", "PUBACK 3"]); // [MQTT-2.2.1-5]
}

/// F-16: deduplicated by identifier until PUBREL, never by DUP. [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]
#[test]
pub(super) fn qos_2_is_delivered_once_per_identifier() {
    let mut wire = Wire::connected(&[]);
    let first = Publish { dup: true, ..message("a", 2, 1) };
    wire.hear(&Packet::Publish(first)).unwrap();
    assert_eq!(heard(&mut wire), [1], "first seen with DUP set: delivered");
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    assert_eq!((heard(&mut wire), wire.sent()), (vec![], vec![]), "its PUBREC is still to come");
    wire.session.acknowledge(id(1), Reason::SUCCESS);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap(); // without DUP
    assert_eq!((heard(&mut wire), wire.sent()), (vec![], vec!["PUBREC 1".into(), "PUBREC 1".into()]));
    wire.hear(&Packet::Pubrel(Ack::new(id(1)))).unwrap();
    wire.hear(&Packet::Pubrel(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.sent(), ["PUBCOMP 1", "PUBCOMP 1 92"]);
    wire.hear(&Packet::Publish(Publish { dup: true, ..message("a", 2, 1) })).unwrap();
    assert_eq!(heard(&mut wire), [1], "after PUBREL it is a new message, whatever DUP says"); // [MQTT-3.3.1-3]
}

#[test]
pub(super) fn qos_2_identifiers_outlive_connection_and_process() {
    let mut wire = Wire::connected(&[]);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    wire.hear(&Packet::Publish(message("a", 2, 2))).unwrap();
    assert_eq!(heard(&mut wire), [1, 2]);
    wire.session.acknowledge(id(1), Reason::SUCCESS);
    wire.session.disconnected();
    wire.session.acknowledge(id(2), Reason::SUCCESS); // late: its PUBREC waits until it comes again
    wire.connect(&options(), true, &[]);
    assert!(wire.sent().is_empty());
    for value in [1, 2] {
        wire.hear(&Packet::Publish(Publish { dup: true, ..message("a", 2, value) })).unwrap();
    }
    assert_eq!((heard(&mut wire), wire.sent()), (vec![], vec!["PUBREC 1".into(), "PUBREC 2".into()]));

    let mut wire = Wire { session: Session::new(10, 1 << 20), now: Duration::ZERO };
    wire.session.restore_incoming(&[id(1)]);
    wire.connect(&options(), true, &[]);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    wire.hear(&Packet::Pubrel(Ack::new(id(1)))).unwrap();
    assert_eq!((heard(&mut wire), wire.sent()), (vec![], vec!["PUBREC 1".into(), "PUBCOMP 1".into()]));
}

/// What is durable is told before PUBCOMP, not after.
#[test]
pub(super) fn completion_can_be_held() {
    let mut wire = Wire { session: Session::new(10, 1 << 20), now: Duration::ZERO };
    wire.session.restore_incoming(&[id(1)]);
    let options = Options { hold_completion: true, ..options() };
    wire.connect(&options, true, &[]);
    for _ in 0..2 {
        wire.hear(&Packet::Pubrel(Ack::new(id(1)))).unwrap();
    }
    assert_eq!((wire.events(), wire.sent()), (vec![Event::Released { id: id(1) }], vec![]));
    wire.session.disconnected();
    wire.session.complete(id(1)); // of the connection that is gone
    wire.connect(&options, true, &[]);
    wire.hear(&Packet::Pubrel(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.events(), [Event::Released { id: id(1) }]);
    wire.session.complete(id(1));
    wire.session.complete(id(1));
    assert_eq!(wire.sent(), ["PUBCOMP 1"]);
}

#[test]
pub(super) fn a_lost_session_delivers_anew() {
    let mut wire = Wire::connected(&[]);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    wire.session.acknowledge(id(1), Reason::SUCCESS);
    heard(&mut wire);
    wire.reconnect(false, &[]);
    wire.hear(&Packet::Publish(message("b", 2, 1))).unwrap();
    assert_eq!(heard(&mut wire), [1]);
}

#[test]
pub(super) fn a_refused_message_frees_its_identifier() {
    let mut wire = Wire::connected(&[]);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    wire.session.acknowledge(id(1), Reason::QUOTA_EXCEEDED);
    wire.hear(&Packet::Publish(message("a", 2, 1))).unwrap();
    assert_eq!((heard(&mut wire), wire.sent()), (vec![1, 1], vec!["PUBREC 1 97".into()])); // [MQTT-4.3.3-9]
}

/// [MQTT-3.3.4-9]: the server keeps to our Receive Maximum; some overrun it (F-27), and are left when it gets too much.
#[test]
pub(super) fn more_than_our_receive_maximum_is_an_error() {
    let mut wire = Wire::connected(&[]);
    let limit = 20 * RECEIVE_OVERRUN_MAX;
    for value in 1..=limit {
        wire.hear(&Packet::Publish(message("a", 1 + value as u8 % 2, value))).unwrap();
    }
    wire.session.acknowledge(id(2), Reason::SUCCESS);
    wire.hear(&Packet::Publish(message("a", 1, limit + 1))).unwrap();
    let error = wire.hear(&Packet::Publish(message("a", 1, limit + 2))).unwrap_err();
    assert_eq!((error.0.rule, error.0.reason), ("MQTT-3.3.4-9", Reason::RECEIVE_MAXIMUM_EXCEEDED));
    assert_eq!(wire.sent(), ["PUBACK 2", "DISCONNECT 93"]);
}

/// [MQTT-3.3.2-10]: aliases up to our maximum, on this connection only.
#[test]
pub(super) fn aliases_of_the_server() {
    let mut wire = Wire { session: Session::new(10, 1 << 20), now: Duration::ZERO };
    let options = Options { topic_alias_maximum: 2, ..options() };
    wire.connect(&options, false, &[]);
    let list = PropertyList::new().with(Property::TopicAlias(2)).unwrap();
    let aliased = |topic| Packet::Publish(Publish { properties: list.as_properties(), ..message(topic, 0, 0) });
    wire.hear(&aliased("long/topic")).unwrap();
    wire.hear(&aliased("")).unwrap();
    let topics: Vec<_> = wire
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Message(message) = event { Some(message.topic().to_owned()) } else { None })
        .collect();
    assert_eq!(topics, ["long/topic", "long/topic"]);
    wire.session.disconnected();
    wire.connect(&options, true, &[]);
    let error = wire.hear(&aliased("")).unwrap_err();
    assert_eq!(error.0.reason, Reason::TOPIC_ALIAS_INVALID);
    wire.session.disconnected();
    wire.connect(&Options { topic_alias_maximum: 1, ..options }, true, &[]);
    assert!(wire.hear(&aliased("a")).is_err(), "above our maximum");
}

#[test]
pub(super) fn subscriptions_are_asked_for_and_answered() {
    use crate::mqtt::packet::{Filter, Reasons, Suback, Unsuback};
    let mut wire = Wire::connected(&[Property::WildcardSubscriptionAvailable(false)]);
    let now = wire.now;
    let none = PropertyList::new();
    let filters = [Filter::new("a", QoS::ExactlyOnce), Filter::new("b", QoS::AtLeastOnce)];
    let request = wire.session.subscribe(now, &filters, &none).unwrap();
    assert_eq!(wire.sent(), ["SUBSCRIBE 32769"]);
    let refused = wire.session.subscribe(now, &[Filter::new("a/#", QoS::AtMostOnce)], &none);
    assert_eq!(refused, Err(RequestError::NotOffered(Reason::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED)));
    assert_eq!(wire.session.subscribe(now, &[], &none), Err(RequestError::Filter)); // [MQTT-3.8.3-2]
    assert_eq!(wire.session.unsubscribe(now, &[]), Err(RequestError::Filter)); // [MQTT-3.10.3-2]
    let shared = Filter { no_local: true, ..Filter::new("$share/g/a", QoS::AtMostOnce) };
    assert_eq!(wire.session.subscribe(now, &[shared], &none), Err(RequestError::Filter)); // [MQTT-3.8.3-4]
    let properties = Properties::EMPTY;
    wire.hear(&Packet::Suback(Suback { id: request, properties, reasons: Reasons::new(&[1, 0x87]) })).unwrap();
    let reasons = vec![Reason::GRANTED_QOS_1, Reason::NOT_AUTHORIZED];
    assert_eq!(wire.events(), [Event::Subscribed { id: request, reasons, text: None }]);
    let request = wire.session.unsubscribe(now, &["a"]).unwrap();
    assert_eq!(wire.sent().len(), 1);
    wire.hear(&Packet::Unsuback(Unsuback { id: request, properties, reasons: Reasons::new(&[0x11]) })).unwrap();
    let reasons = vec![Reason::NO_SUBSCRIPTION_EXISTED];
    assert_eq!(wire.events(), [Event::Unsubscribed { id: request, reasons, text: None }]);
    for _ in 0..REQUESTS_MAX {
        wire.session.unsubscribe(now, &["a"]).unwrap();
    }
    assert_eq!(wire.session.unsubscribe(now, &["a"]), Err(RequestError::Full));
    let suback = Suback { id: id(32_771), properties, reasons: Reasons::new(&[1]) };
    wire.hear(&Packet::Suback(suback)).unwrap(); // of another kind: not an answer
    assert!(wire.events().is_empty());
}
