//! Statements that no other test has by the way.

use super::*;
use crate::mqtt::packet::{Filter, Publish};

/// [MQTT-3.1.2-4] [MQTT-3.1.2-23]: a session goes on over connections until Clean Start, or the server, ends it.
#[test]
pub(super) fn a_clean_start_begins_anew() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    wire.session.disconnected();
    assert_eq!(wire.session.in_flight(), 1, "it outlives the connection");
    wire.session.connect(wire.now, &options(), true).unwrap();
    assert_eq!(wire.sent(), ["CONNECT true"]);
    wire.hear(&connack(false, Properties::EMPTY)).unwrap();
    assert!(matches!(wire.events().pop(), Some(Event::Connected(connected)) if connected.forgotten == 1));
    assert_eq!((wire.session.in_flight(), wire.session.want()), (0, Want::Fresh { messages: 100 }));
}

/// [MQTT-3.1.2-30]; without a method there is nothing before CONNACK either.
#[test]
pub(super) fn nothing_but_auth_comes_before_connack() {
    let mut wire = Wire { session: Session::new(10, 1 << 20), now: Duration::ZERO };
    let authentication = Authentication { method: "X".into(), data: None };
    let options = Options { authentication: Some(authentication), ..options() };
    wire.session.connect(wire.now, &options, false).unwrap();
    assert_eq!(wire.publish(&message("a", 0, 0)), Err(PublishError::NotConnected));
    let filters = [Filter::new("a", QoS::AtMostOnce)];
    assert!(wire.session.subscribe(wire.now, &filters, &PropertyList::new()).is_err());
    assert!(wire.session.unsubscribe(wire.now, &["a"]).is_err());
    assert!(wire.session.authenticate(Reason::REAUTHENTICATE, None).is_err(), "not yet");
    wire.session.authenticate(Reason::CONTINUE_AUTHENTICATION, None).unwrap();
    wire.session.disconnect(Reason::SUCCESS, None);
    assert_eq!(wire.sent(), ["CONNECT false", "AUTH 18", "DISCONNECT 00"]);
}

/// [MQTT-4.3.3-3] [MQTT-4.3.3-7] [MQTT-4.3.3-13] [MQTT-4.1.0-1]: what was sent stays, however long that takes; its expiry
/// is for what was never sent.
#[test]
pub(super) fn nothing_expires_once_it_was_sent() {
    let mut wire = Wire::connected(&[]);
    let list = PropertyList::new().with(Property::MessageExpiry(1)).unwrap();
    for (qos, value) in [(1, 1), (2, 2), (2, 3)] {
        wire.publish(&Publish { properties: list.as_properties(), ..message("a", qos, value) }).unwrap();
    }
    wire.hear(&Packet::Pubrec(Ack::new(id(3)))).unwrap();
    wire.session.release(id(3));
    wire.session.disconnected();
    wire.now += Duration::from_secs(1_000_000);
    wire.connect(&options(), true, &[]);
    for (qos, value) in [(1, 1), (2, 2)] {
        assert_eq!(wire.session.want(), Want::Resend(id(value)));
        wire.publish(&Publish { properties: list.as_properties(), ..message("a", qos, value) }).unwrap();
    }
    assert_eq!(wire.sent(), ["PUBREL 3", "DUP PUBLISH 1 a", "DUP PUBLISH 2 a"]);
}

/// [MQTT-3.3.4-1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.5.0-2] [MQTT-2.2.1-5]: the answer of its QoS, with its identifier,
/// whether or not anybody asked for it.
#[test]
pub(super) fn each_qos_has_its_answer() {
    let mut wire = Wire::connected(&[]);
    for (qos, value) in [(0, 0), (1, 7), (2, 9)] {
        wire.hear(&Packet::Publish(message("nobody/asked", qos, value))).unwrap();
    }
    for event in wire.events() {
        let Event::Message(message) = event else { panic!("{event:?}") };
        if let Some(id) = message.id {
            wire.session.acknowledge(id, Reason::NOT_AUTHORIZED);
        }
    }
    assert_eq!(wire.sent(), ["PUBACK 7 87", "PUBREC 9 87"], "a refusal is an answer too");
}

/// [MQTT-3.3.1-3]: DUP of what comes in and of what goes out have nothing to do with each other.
#[test]
pub(super) fn dup_does_not_cross_over() {
    let mut wire = Wire::connected(&[]);
    wire.hear(&Packet::Publish(Publish { dup: true, ..message("a", 1, 1) })).unwrap();
    wire.publish(&Publish { dup: true, ..message("a", 1, 1) }).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 1 a"]);
}

/// [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-1.5.4-2]: strings are strings, wherever they stand.
#[test]
pub(super) fn no_string_holds_a_nul() {
    let mut wire = Wire::connected(&[]);
    for property in [Property::ResponseTopic("a\0"), Property::ContentType("a\0"), Property::User("k", "\0")] {
        let Ok(list) = PropertyList::new().with(property) else { continue };
        let refused = wire.publish(&Publish { properties: list.as_properties(), ..message("a", 0, 0) });
        assert_eq!(refused, Err(PublishError::Properties), "{property:?}");
    }
    assert_eq!(wire.publish(&message("a\0", 0, 0)), Err(PublishError::Topic));
    assert!(wire.sent().is_empty());
}
