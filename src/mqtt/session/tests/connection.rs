//! CONNECT to DISCONNECT, timers, and the order of what is written.

use super::*;
use crate::mqtt::packet::{Auth, Disconnect};

fn fresh() -> Wire {
    Wire { session: Session::new(10, 1 << 20), now: Duration::ZERO }
}

#[test]
pub(super) fn connack_is_honoured_afresh() {
    let mut wire = fresh();
    let connected = wire.connect(
        &options(),
        true,
        &[
            Property::AssignedClientIdentifier("given"),
            Property::ServerKeepAlive(7),
            Property::SessionExpiry(60),
            Property::ReasonString("hello"),
            Property::ReceiveMaximum(1),
        ],
    );
    assert!(connected.session_present && connected.keep_alive_is_servers);
    assert_eq!(connected.assigned_client_id.as_deref(), Some("given"));
    assert_eq!((connected.keep_alive_s, connected.session_expiry_s), (7, 60));
    assert_eq!(connected.text.as_deref(), Some("hello"));
    let connected = wire.reconnect(true, &[]);
    assert_eq!((connected.keep_alive_s, connected.limits), (30, Limits::default()));
}

/// F-27: 3.1.1 names no limit, and a broker that is given more than it takes loses the surplus.
#[test]
pub(super) fn a_connection_of_3_1_1_has_a_limit_of_ours() {
    let mut wire = fresh();
    let connected = wire.connect(&Options { version: Version::V311, ..options() }, false, &[]);
    assert_eq!(connected.limits.receive_maximum, RECEIVE_MAXIMUM_V311);
}

/// [MQTT-3.2.2-4]; 3.1.1: a clean session has nothing to be present.
#[test]
pub(super) fn session_present_after_a_clean_start_is_an_error() {
    let mut wire = fresh();
    wire.session.connect(wire.now, &options(), true).unwrap();
    assert_eq!(wire.sent(), ["CONNECT true"]);
    let error = wire.hear(&connack(true, Properties::EMPTY)).unwrap_err();
    assert_eq!(error.0.rule, "MQTT-3.2.2-4");
    assert!(wire.session.is_closing() && wire.sent().is_empty());
}

#[test]
pub(super) fn a_refusal_is_told() {
    let mut wire = fresh();
    wire.session.connect(wire.now, &options(), false).unwrap();
    wire.sent();
    let list = PropertyList::new().with(Property::ServerReference("other")).unwrap();
    let packet = Connack {
        session_present: false,
        reason: Reason::USE_ANOTHER_SERVER,
        properties: list.as_properties(),
        in_v311: false,
    };
    wire.hear(&Packet::Connack(packet)).unwrap();
    let events = wire.events();
    let [Event::Refused(refused)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((refused.reason, refused.server_reference.as_deref()), (Reason::USE_ANOTHER_SERVER, Some("other")));
    assert!(wire.session.is_closing());
    assert_eq!(wire.publish(&message("a", 0, 0)), Err(PublishError::NotConnected));
}

#[test]
pub(super) fn nothing_but_connack_comes_first() {
    let mut wire = fresh();
    wire.session.connect(wire.now, &options(), false).unwrap();
    wire.sent();
    assert_eq!(wire.publish(&message("a", 0, 0)), Err(PublishError::NotConnected));
    assert_eq!(wire.hear(&Packet::Pingresp).unwrap_err().0.rule, "MQTT-3.2.0-1");
    let mut wire = Wire::connected(&[]);
    assert_eq!(wire.hear(&connack(true, Properties::EMPTY)).unwrap_err().0.rule, "MQTT-3.2.0-2");
    assert_eq!(wire.sent(), ["DISCONNECT 82"]);
}

#[test]
pub(super) fn packets_of_clients_are_an_error() {
    let mut wire = Wire::connected(&[]);
    assert_eq!(wire.hear(&Packet::Pingreq).unwrap_err().0.reason, Reason::PROTOCOL_ERROR);
}

/// [MQTT-3.1.2-20], F-21: PINGREQ although messages flow, when nothing proves that they arrive; and the link is dead
/// at 1.5 times the keep-alive, although messages come in.
#[test]
pub(super) fn traffic_one_way_does_not_hide_a_dead_link() {
    let mut wire = Wire::connected(&[]);
    for second in 1..=44 {
        wire.publish(&message("a", 0, 0)).unwrap();
        wire.hear(&Packet::Publish(message("b", 0, 0))).unwrap();
        assert_eq!(wire.pass(1), Ok(()));
        let is_asked = wire.sent().contains(&"PINGREQ".to_owned());
        assert_eq!(is_asked, second == 23, "{second}"); // 3/4 of 30 s
    }
    assert_eq!(wire.pass(1), Err(Timeout::KeepAlive { keep_alive_s: 30 }));
    assert!(wire.session.is_closing());
}

#[test]
pub(super) fn an_idle_link_is_asked_and_answers() {
    let mut wire = Wire::connected(&[Property::ServerKeepAlive(10)]);
    for _ in 0..10 {
        let due = wire.session.poll_timeout().unwrap();
        assert_eq!(due, wire.now + Duration::from_millis(7500));
        wire.now = due;
        wire.session.handle_timeout(wire.now).unwrap();
        assert_eq!(wire.sent(), ["PINGREQ"]);
        wire.hear(&Packet::Pingresp).unwrap();
    }
    let mut wire = Wire::connected(&[Property::ServerKeepAlive(0)]); // [MQTT-3.2.2-21]
    assert_eq!((wire.session.poll_timeout(), wire.pass(100_000)), (None, Ok(())));
}

/// A process that was stopped asks before it gives up.
#[test]
pub(super) fn a_late_timer_asks_first() {
    let mut wire = Wire::connected(&[]);
    wire.pass(1000).unwrap();
    assert_eq!(wire.sent(), ["PINGREQ"]);
    assert_eq!(wire.pass(14), Ok(()));
    wire.hear(&Packet::Pingresp).unwrap();
    assert_eq!(wire.pass(14), Ok(()));
}

/// R6, F-22: alive by its PINGRESPs, but nothing moves.
#[test]
pub(super) fn no_acknowledgement_for_60_s_ends_the_connection() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    wire.publish(&message("a", 1, 2)).unwrap();
    for _ in 0..5 {
        wire.pass(10).unwrap();
        wire.hear(&Packet::Pingresp).unwrap();
    }
    wire.hear(&Packet::Puback(Ack::new(id(1)))).unwrap(); // at 50 s: begins anew
    for _ in 0..5 {
        wire.pass(10).unwrap();
        wire.hear(&Packet::Pingresp).unwrap();
    }
    assert_eq!(wire.pass(10), Err(Timeout::Acknowledgement { waiting: 1 }));
}

/// What waits for our own disk is not the server's fault.
#[test]
pub(super) fn a_slow_release_is_not_a_dead_link() {
    let mut wire = Wire::connected(&[Property::ServerKeepAlive(0)]);
    wire.publish(&message("a", 2, 1)).unwrap();
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    wire.sent();
    assert_eq!(wire.pass(1000), Ok(()));
    wire.session.release(id(1));
    wire.sent();
    assert_eq!(wire.pass(59), Ok(()));
    assert_eq!(wire.pass(1), Err(Timeout::Acknowledgement { waiting: 1 }));
}

/// [MQTT-3.3.4-8], F-21: what is not PUBLISH waits for the rest of one packet at most.
#[test]
pub(super) fn control_packets_go_before_publishes() {
    let mut wire = Wire::connected(&[]);
    let payload = [7; 1000];
    for value in 1..=3 {
        wire.publish(&Publish { payload: &payload, ..message("a", 1, value) }).unwrap();
    }
    let mut bytes = wire.session.transmit()[..10].to_vec(); // inside the first
    wire.session.transmitted(wire.now, 10);
    wire.hear(&Packet::Publish(message("b", 1, 1))).unwrap();
    wire.session.acknowledge(id(1), Reason::SUCCESS);
    loop {
        let some = wire.session.transmit().iter().take(7).copied().collect::<Vec<_>>();
        if some.is_empty() {
            break;
        }
        wire.session.transmitted(wire.now, some.len());
        bytes.extend_from_slice(&some);
    }
    assert_eq!(words(&bytes, Version::V5), ["PUBLISH 1 a", "PUBACK 1", "PUBLISH 2 a", "PUBLISH 3 a"]);
}

/// [MQTT-3.14.4-1]: nothing behind DISCONNECT; what was queued goes before it.
#[test]
pub(super) fn disconnect_is_the_last_word() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 2, 1)).unwrap();
    wire.session.disconnect(Reason::SUCCESS, Some(0));
    assert!(wire.session.is_closing() && !wire.session.is_connected());
    assert_eq!(wire.publish(&message("a", 0, 0)), Err(PublishError::NotConnected));
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    wire.hear(&Packet::Publish(message("b", 1, 1))).unwrap();
    wire.session.release(id(1));
    assert_eq!(wire.events(), [Event::Received { id: id(1) }], "acknowledgements still count");
    assert_eq!(wire.sent(), ["PUBLISH 1 a", "DISCONNECT 00"]);
    wire.reconnect(true, &[]);
    assert_eq!(wire.sent(), ["PUBREL 1"]);
}

#[test]
pub(super) fn the_server_says_good_bye() {
    let mut wire = Wire::connected(&[]);
    wire.publish(&message("a", 1, 1)).unwrap();
    let list = PropertyList::new().with(Property::ReasonString("bye")).unwrap();
    let packet = Disconnect { reason: Reason::SERVER_SHUTTING_DOWN, properties: list.as_properties() };
    wire.hear(&Packet::Disconnect(packet)).unwrap();
    let text = Some("bye".into());
    let reason = Reason::SERVER_SHUTTING_DOWN;
    assert_eq!(wire.events(), [Event::Disconnected { reason, text, server_reference: None }]);
    assert!(wire.sent().is_empty() && wire.session.is_closing());
}

#[test]
pub(super) fn v311_has_no_words_for_errors() {
    let mut wire = fresh();
    let options = Options { version: Version::V311, ..options() };
    wire.connect(&options, true, &[]);
    wire.publish(&message("a", 2, 1)).unwrap();
    wire.hear(&Packet::Pubrec(Ack::new(id(1)))).unwrap();
    wire.session.release(id(1));
    wire.hear(&Packet::Publish(message("b", 1, 5))).unwrap();
    wire.session.acknowledge(id(5), Reason::NOT_AUTHORIZED);
    assert_eq!(wire.sent(), ["PUBREL 1", "PUBACK 5", "PUBLISH 1 a"]);
    assert!(wire.session.receive(wire.now, &[0xE0, 0]).is_err());
    assert!(wire.sent().is_empty(), "3.1.1 [MQTT-4.8.0-1]: just closed");
}

#[test]
pub(super) fn a_bad_connect_is_refused() {
    let mut wire = fresh();
    let long = Options { client_id: "x".repeat(65_536), ..options() };
    assert!(wire.session.connect(wire.now, &long, true).is_err());
    let nameless = Options { version: Version::V311, client_id: String::new(), ..options() };
    assert!(wire.session.connect(wire.now, &nameless, false).is_err()); // 3.1.1 [MQTT-3.1.3-7]
    assert!(wire.sent().is_empty());
}

#[test]
pub(super) fn authentication_is_passed_on() {
    let mut wire = fresh();
    let authentication = Authentication { method: "SCRAM".into(), data: Some(b"1".to_vec()) };
    let options = Options { authentication: Some(authentication), ..options() };
    wire.session.connect(wire.now, &options, false).unwrap();
    wire.sent();
    let list = PropertyList::new()
        .with(Property::AuthenticationMethod("SCRAM"))
        .and_then(|list| list.with(Property::AuthenticationData(b"2")))
        .unwrap();
    let reason = Reason::CONTINUE_AUTHENTICATION;
    wire.hear(&Packet::Auth(Auth { reason, properties: list.as_properties() })).unwrap();
    assert_eq!(wire.events(), [Event::Authenticate { reason, data: Some(b"2".to_vec()) }]);
    wire.session.authenticate(reason, Some(b"3")).unwrap();
    assert_eq!(wire.sent(), ["AUTH 18"]);
    let mut wire = Wire::connected(&[]);
    assert!(wire.hear(&Packet::Auth(Auth { reason, properties: list.as_properties() })).is_err()); // [MQTT-4.12.0-7]
}

/// [MQTT-4.12.1-1] [MQTT-4.12.1-2]: again on a standing connection, with the same method, while messages go on.
#[test]
pub(super) fn authentication_again_on_a_standing_connection() {
    use crate::mqtt::auth::{Mechanism, Scram};

    let mut wire = fresh();
    let mut scram = Scram::new("user", b"pencil", [7; 18]);
    let authentication = Authentication { method: scram.method().into(), data: scram.first() };
    let options = Options { authentication: Some(authentication), topic_aliases_out: 0, ..options() };
    wire.connect(&options, false, &[Property::AuthenticationMethod("SCRAM-SHA-256")]);
    wire.session.authenticate(Reason::REAUTHENTICATE, scram.first().as_deref()).unwrap();
    wire.publish(&message("a", 0, 0)).unwrap();
    assert_eq!(wire.sent(), ["AUTH 19", "PUBLISH a"]);
    let nonce = String::from_utf8(scram.first().unwrap()).unwrap().split_once(",r=").unwrap().1.to_owned();
    let challenge = format!("r={nonce}x,s=QUJD,i=4096");
    let mut auth = |reason, data: &str| {
        let list = PropertyList::new()
            .with(Property::AuthenticationMethod("SCRAM-SHA-256"))
            .and_then(|list| list.with(Property::AuthenticationData(data.as_bytes())))
            .unwrap();
        wire.hear(&Packet::Auth(Auth { reason, properties: list.as_properties() })).unwrap();
        let Some(Event::Authenticate { reason, data }) = wire.events().pop() else { panic!("no event") };
        (reason, data)
    };
    let (reason, data) = auth(Reason::CONTINUE_AUTHENTICATION, &challenge);
    assert_eq!(reason, Reason::CONTINUE_AUTHENTICATION);
    let answer = scram.answer(&data.unwrap()).unwrap();
    let (reason, data) = auth(Reason::SUCCESS, "v=AAAA");
    assert_eq!(reason, Reason::SUCCESS);
    assert!(scram.finish(data.as_deref()).is_err(), "not the signature");
    wire.session.authenticate(Reason::CONTINUE_AUTHENTICATION, Some(&answer)).unwrap();
    assert_eq!(wire.sent(), ["AUTH 18"]);
}
