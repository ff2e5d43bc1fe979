//! Messages that we send.

use super::*;

#[test]
pub(super) fn qos_0_is_said_once() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 0, 0)).unwrap(); // [MQTT-4.3.1-1]
    assert_eq!(wire.sent(), ["PUBLISH a"]);
    assert_eq!(wire.session.in_flight(), 0);
    wire.reconnect(true, &[]);
    assert!(wire.sent().is_empty());
}

#[test]
pub(super) fn qos_1_ends_with_puback() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap(); // [MQTT-4.3.2-1] [MQTT-4.3.2-2]
    assert_eq!(wire.sent(), ["PUBLISH 1 a"]);
    assert_eq!(wire.publish(&message("a", 1, 1)), Err(PublishError::IdInUse(id(1)))); // [MQTT-2.2.1-3] [MQTT-4.3.2-3]
    wire.hear(&Packet::Puback(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.events(), [Event::Acknowledged { id: id(1), reason: Reason::SUCCESS, text: None }]);
    wire.publish(&message("a", 1, 1)).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 1 a"], "a new message, without DUP"); // [MQTT-3.3.1-1]
}

#[test]
pub(super) fn qos_2_waits_for_release() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 2, 1)).unwrap(); // [MQTT-4.3.3-1] [MQTT-4.3.3-2]
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 1 a"], "R4: no PUBREL before it is durable");
    assert_eq!(wire.events(), [Event::Received { id: id(1) }]);
    assert_eq!(wire.session.in_flight(), 1);
    wire.session.release(id(1));
    assert_eq!(wire.sent(), ["PUBREL 1"]); // [MQTT-4.3.3-4]
    assert_eq!(wire.publish(&message("a", 2, 1)), Err(PublishError::IdInUse(id(1)))); // [MQTT-4.3.3-5]
    wire.hear(&Packet::Pubcomp(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.events(), [Event::Completed { id: id(1), reason: Reason::SUCCESS, first: true }]);
    assert_eq!(wire.session.in_flight(), 0);
}

#[test]
pub(super) fn an_error_in_an_acknowledgement_is_final() {
    let mut wire = Wire::connected(&[]);
    for qos in [1, 2] {
        wire.publish(&message("a", qos, 1)).unwrap();
        wire.sent();
        let reason = Reason::QUOTA_EXCEEDED;
        let ack = Ack::with_reason(id(1), reason);
        wire.hear(&if qos == 1 { Packet::Puback(ack) } else { Packet::Pubrec(ack) }).unwrap();
        assert_eq!(wire.events(), [Event::Acknowledged { id: id(1), reason, text: None }]); // [MQTT-4.4.0-2]
        assert_eq!((wire.session.in_flight(), wire.sent()), (0, vec![]), "no PUBREL either"); // [MQTT-4.3.3-4]
    }
    wire.publish(&message("a", 2, 1)).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 1 a"], "the identifier begins a new message"); // [MQTT-4.3.3-9]
}

/// PUBRELs go out in the order of the PUBRECs, whatever the order of the releases. [MQTT-4.6.0-4]
#[test]
pub(super) fn pubrels_keep_the_order_of_pubrecs() {
    let mut wire = Wire::connected(&[]);
    for value in 1..=3 {
        wire.publish(&message("a", 2, value)).unwrap();
    }
    wire.sent();
    for value in [2, 1, 3] {
        wire.hear(&Packet::Pubrec(Ack::new(id(value)))).unwrap();
    }
    wire.session.release(id(3));
    wire.session.release(id(1));
    assert!(wire.sent().is_empty());
    wire.session.release(id(2));
    assert_eq!(wire.sent(), ["PUBREL 2", "PUBREL 1", "PUBREL 3"]);
}

/// R6, F-15, F-18: PUBRELs first, then PUBLISH with DUP in the first order across QoS, then what is new.
#[test]
pub(super) fn a_kept_session_goes_on_in_order() {
    let mut wire = Wire::connected(&[]);
    for (value, qos) in [(5, 2), (6, 1), (7, 2), (8, 1), (9, 2)] {
        wire.publish(&message("a", qos, value)).unwrap();
    }
    for value in [7, 5] {
        wire.hear(&Packet::Pubrec(Ack::new(id(value)))).unwrap();
        wire.session.release(id(value));
    }
    wire.hear(&Packet::Puback(Ack::new(id(6)))).unwrap();
    wire.sent();
    wire.reconnect(true, &[]);
    assert_eq!(wire.sent(), ["PUBREL 7", "PUBREL 5"]); // [MQTT-4.4.0-1] [MQTT-4.3.3-6]
    assert_eq!(wire.session.want(), Want::Resend(id(8)));
    assert_eq!(wire.publish(&message("a", 1, 10)), Err(PublishError::ResendFirst(id(8)))); // [MQTT-4.6.0-1]
    assert_eq!(wire.publish(&message("a", 2, 9)), Err(PublishError::ResendFirst(id(8))));
    assert_eq!(wire.publish(&message("a", 2, 8)), Err(PublishError::Identifier), "another QoS is another message");
    wire.publish(&message("a", 1, 8)).unwrap();
    wire.publish(&message("a", 2, 9)).unwrap();
    assert_eq!(wire.session.want(), Want::Fresh { messages: 96 });
    wire.publish(&message("a", 1, 10)).unwrap();
    assert_eq!(wire.sent(), ["DUP PUBLISH 8 a", "DUP PUBLISH 9 a", "PUBLISH 10 a"]); // [MQTT-3.3.1-1]
}

#[test]
pub(super) fn the_same_after_a_restart_of_the_process() {
    let mut wire = Wire { session: Session::new(100, 1 << 20), now: Duration::ZERO };
    let sent = [(id(4), QoS::AtLeastOnce), (id(2), QoS::ExactlyOnce)];
    wire.session.restore(&[id(3), id(1)], &sent);
    assert_eq!(wire.session.in_flight(), 4);
    wire.connect(&options(), true, &[]);
    assert_eq!(wire.sent(), ["PUBREL 3", "PUBREL 1"]);
    for (id, qos) in sent {
        assert_eq!(wire.session.want(), Want::Resend(id));
        wire.publish(&message("a", qos.bits(), id.value())).unwrap();
    }
    assert_eq!(wire.sent(), ["DUP PUBLISH 4 a", "DUP PUBLISH 2 a"]);
    let reason = Reason::PACKET_IDENTIFIER_NOT_FOUND;
    wire.hear(&Packet::Pubcomp(Ack::with_reason(id(3), reason))).unwrap();
    assert_eq!(wire.events(), [Event::Completed { id: id(3), reason, first: false }], "it may have been sent before");
}

/// F-17: [MQTT-3.2.2-5]
#[test]
pub(super) fn a_lost_session_forgets_what_was_in_flight() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 2, 1)).unwrap();
    wire.publish(&message("a", 1, 2)).unwrap();
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    wire.events();
    let connected = wire.reconnect(false, &[]);
    assert_eq!((connected.session_present, connected.forgotten), (false, 2));
    wire.session.release(id(1)); // of the session that is gone
    assert!(wire.sent().is_empty());
    wire.publish(&message("a", 2, 1)).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 1 a"], "as new");
}

/// F-18, F-19: Receive Maximum is that of this connection, and what is resumed counts against it.
/// [MQTT-3.3.4-7] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
pub(super) fn receive_maximum_is_kept_on_resumption_too() {
    let mut wire = Wire::connected(&[]);
    for value in 1..=4 {
        wire.publish(&message("a", 2, value)).unwrap();
    }
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    wire.session.release(id(1));
    wire.sent();
    wire.reconnect(true, &[Property::ReceiveMaximum(2)]);
    assert_eq!(wire.sent(), ["PUBREL 1"]);
    wire.publish(&message("a", 2, 2)).unwrap();
    assert_eq!(wire.session.want(), Want::Nothing);
    assert_eq!(wire.publish(&message("a", 2, 3)), Err(PublishError::Full));
    wire.publish(&message("a", 0, 0)).unwrap(); // not counted
    wire.hear(&Packet::Pubcomp(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.session.want(), Want::Resend(id(3)));
    wire.reconnect(true, &[]);
    assert_eq!(wire.session.limits().receive_maximum, u16::MAX, "absent means the default");
}

#[test]
pub(super) fn our_own_limits_count_too() {
    let mut wire = Wire { session: Session::new(3, 40), now: Duration::ZERO };
    wire.connect(&options(), false, &[]);
    assert_eq!(wire.session.want(), Want::Fresh { messages: 3 });
    let payload = [0; 100];
    wire.publish(&Publish { payload: &payload, ..message("a", 1, 1) }).unwrap(); // always one
    assert_eq!(wire.session.want(), Want::Nothing);
    assert_eq!(wire.publish(&message("a", 1, 2)), Err(PublishError::Full));
    wire.hear(&Packet::Puback(Ack::new(id(1)))).unwrap();
    for value in 1..=3 {
        wire.publish(&message("a", 1, value)).unwrap();
    }
    assert_eq!(wire.publish(&message("a", 1, 4)), Err(PublishError::Full));
}

/// [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15]
#[test]
pub(super) fn limits_of_the_server_hold_for_this_connection() {
    let mut wire = Wire::connected(&[
        Property::MaximumQos(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(20),
    ]);
    assert_eq!(wire.publish(&message("a", 2, 1)), Err(PublishError::QosTooHigh { max: QoS::AtLeastOnce }));
    assert_eq!(wire.publish(&Publish { retain: true, ..message("a", 0, 0) }), Err(PublishError::RetainUnavailable));
    let fits = Publish { payload: &[0; 14], ..message("a", 0, 0) };
    assert_eq!(wire.publish(&fits), Ok(()));
    let too_large = Publish { payload: &[0; 15], ..message("a", 0, 0) };
    assert_eq!(wire.publish(&too_large), Err(PublishError::TooLarge { size: 21, limit: 20 }));
    wire.reconnect(true, &[]);
    assert_eq!(wire.publish(&too_large), Ok(()));
}

#[test]
pub(super) fn what_does_not_suit_is_refused_and_changes_nothing() {
    let mut wire = Wire::connected(&[]);
    let list = PropertyList::new().with(Property::SubscriptionIdentifier(1)).unwrap();
    let foreign = Publish { properties: list.as_properties(), ..message("a", 1, 1) };
    assert_eq!(wire.publish(&foreign), Err(PublishError::Properties)); // [MQTT-3.3.4-6]
    assert_eq!(wire.publish(&message("a/#", 1, 1)), Err(PublishError::Topic)); // [MQTT-3.3.2-2]
    assert_eq!(wire.publish(&message("", 1, 1)), Err(PublishError::Topic)); // [MQTT-4.7.3-1]
    assert_eq!(wire.publish(&message("a", 1, 0)), Err(PublishError::Identifier)); // [MQTT-2.2.1-3]
    assert_eq!(wire.publish(&message("a", 0, 1)), Err(PublishError::Identifier)); // [MQTT-2.2.1-2]
    assert_eq!(wire.publish(&message("a", 1, 32_769)), Err(PublishError::Identifier));
    assert_eq!(wire.publish(&message("a", 2, 49_152)), Err(PublishError::Identifier));
    assert_eq!((wire.session.in_flight(), wire.sent()), (0, vec![]));
}

#[test]
pub(super) fn volatile_messages_end_with_the_connection() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    wire.publish(&message("status", 1, 50_000)).unwrap();
    assert_eq!(wire.session.in_flight(), 2);
    wire.session.disconnected();
    assert_eq!(wire.session.in_flight(), 1);
    wire.connect(&options(), true, &[]);
    wire.publish(&message("status", 1, 50_000)).unwrap(); // goes before the resend
    wire.publish(&message("a", 1, 1)).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH 50000 status", "DUP PUBLISH 1 a"]);
}

/// F-20: [MQTT-3.3.2-7] [MQTT-3.3.2-8] [MQTT-3.2.2-17] [MQTT-3.2.2-18]
#[test]
pub(super) fn aliases_live_as_long_as_the_connection() {
    let mut wire = Wire { session: Session::new(100, 1 << 20), now: Duration::ZERO };
    let options = Options::new("c");
    wire.connect(&options, false, &[Property::TopicAliasMaximum(2)]);
    for topic in ["a", "a", "b", "c", "b"] {
        wire.publish(&message(topic, 0, 0)).unwrap();
    }
    wire.publish(&message("a", 1, 1)).unwrap();
    let expected = ["PUBLISH a @1", "PUBLISH  @1", "PUBLISH b @2", "PUBLISH c", "PUBLISH  @2", "PUBLISH 1  @1"];
    assert_eq!(wire.sent(), expected);
    wire.session.disconnected();
    wire.connect(&options, true, &[Property::TopicAliasMaximum(1)]);
    wire.publish(&message("a", 1, 1)).unwrap();
    assert_eq!(wire.sent(), ["DUP PUBLISH 1 a @1"], "sent again with its topic");
    wire.session.disconnected();
    wire.connect(&options, true, &[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    assert_eq!(wire.sent(), ["DUP PUBLISH 1 a"], "none where the server offers none");
}

/// An alias never makes a packet larger than the server takes. [MQTT-3.2.2-15]
#[test]
pub(super) fn an_alias_is_left_out_where_it_does_not_fit() {
    let mut wire = Wire { session: Session::new(100, 1 << 20), now: Duration::ZERO };
    let properties = [Property::TopicAliasMaximum(2), Property::MaximumPacketSize(20)];
    wire.connect(&Options::new("c"), false, &properties);
    wire.publish(&Publish { payload: &[0; 14], ..message("a", 0, 0) }).unwrap();
    wire.publish(&message("a", 0, 0)).unwrap();
    assert_eq!(wire.sent(), ["PUBLISH a", "PUBLISH a @1"]);
}

/// F-27: RabbitMQ answers QoS 2 with PUBACK; acknowledgements for unknown identifiers.
#[test]
pub(super) fn quirks_of_brokers_are_survived() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 2, 1)).unwrap();
    wire.hear(&Packet::Puback(Ack::new(id(1)))).unwrap();
    assert_eq!(wire.events(), [Event::Acknowledged { id: id(1), reason: Reason::SUCCESS, text: None }]);
    wire.sent();
    for packet in [Packet::Puback(Ack::new(id(9))), Packet::Pubrec(Ack::new(id(9))), Packet::Pubcomp(Ack::new(id(9)))] {
        wire.hear(&packet).unwrap();
    }
    assert_eq!((wire.sent(), wire.events()), (vec!["PUBREL 9 92".into()], vec![]));
}

#[test]
pub(super) fn qos_1_can_be_given_up_and_qos_2_not() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    wire.publish(&message("a", 2, 2)).unwrap();
    wire.publish(&message("a", 1, 3)).unwrap();
    wire.session.disconnected();
    assert!(wire.session.abandon(id(1)));
    assert!(!wire.session.abandon(id(2)));
    assert!(!wire.session.abandon(id(9)));
    wire.connect(&options(), true, &[]);
    assert_eq!(wire.session.want(), Want::Resend(id(2)));
}

/// The output is bounded: a server that does not read is not written for without end.
#[test]
pub(super) fn output_is_bounded() {
    let mut wire = Wire::connected(&[]);
    let payload = vec![0; 100_000];
    let large = Publish { payload: &payload, ..message("a", 0, 0) };
    assert_eq!((0..10).filter(|_| wire.publish(&large).is_ok()).count(), 3);
    assert_eq!((wire.publish(&large), wire.session.want()), (Err(PublishError::Full), Want::Nothing));
    wire.sent();
    assert_eq!(wire.publish(&large), Ok(()));
}
