//! Round trips of every packet, arbitrary and damaged bytes, and a table of what must be refused.

use proptest::prelude::*;

use super::property::Place;
use super::*;

type Spec = (u8, u32, String, String, Vec<u8>);

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9/$ _.äß漢\u{FEFF}-]{0,12}",
        1 => proptest::collection::vec(any::<char>().prop_filter("U+0000", |c| *c != '\0'), 0..6)
            .prop_map(|chars| chars.into_iter().collect()),
    ]
}

fn topic_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/$ äß漢-]{1,20}"
}

fn topic_filter() -> impl Strategy<Value = String> {
    prop_oneof![
        topic_name(),
        "([a-z]{1,3}/){0,3}#",
        "([a-z]{1,3}/|[+]/){1,3}[a-z+]",
        "[$]share/[a-z]{1,3}/([a-z]{1,3}/|[+]/){1,3}#",
    ]
    .prop_filter("valid", |filter| topic::is_valid_filter(filter))
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    proptest::collection::vec(
        (1..=42u8, any::<u32>(), text(), text(), proptest::collection::vec(any::<u8>(), 0..9)),
        0..8,
    )
}

fn property(spec: &Spec) -> Option<Property<'_>> {
    let (id, number, one, two, bytes) = spec;
    let (number, flag, short) = (*number, number % 2 == 1, *number as u16);
    Some(match id {
        1 => Property::PayloadIsText(flag),
        2 => Property::MessageExpiry(number),
        3 => Property::ContentType(one),
        8 => Property::ResponseTopic(one),
        9 => Property::CorrelationData(bytes),
        11 => Property::SubscriptionIdentifier(number >> (number % 32)),
        17 => Property::SessionExpiry(number),
        18 => Property::AssignedClientIdentifier(one),
        19 => Property::ServerKeepAlive(short),
        21 => Property::AuthenticationMethod(one),
        22 => Property::AuthenticationData(bytes),
        23 => Property::RequestProblemInformation(flag),
        24 => Property::WillDelay(number),
        25 => Property::RequestResponseInformation(flag),
        26 => Property::ResponseInformation(one),
        28 => Property::ServerReference(one),
        31 => Property::ReasonString(one),
        33 => Property::ReceiveMaximum(short),
        34 => Property::TopicAliasMaximum(short),
        35 => Property::TopicAlias(short),
        36 => Property::MaximumQos(if flag { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
        37 => Property::RetainAvailable(flag),
        38 => Property::User(one, two),
        39 => Property::MaximumPacketSize(number),
        40 => Property::WildcardSubscriptionAvailable(flag),
        41 => Property::SubscriptionIdentifierAvailable(flag),
        42 => Property::SharedSubscriptionAvailable(flag),
        _ => return None,
    })
}

/// Those of the specs that may stand there, in their order.
fn list(specs: &[Spec], place: Place) -> PropertyList {
    let mut list = PropertyList::new();
    for property in specs.iter().filter_map(property) {
        let mut alone = PropertyList::new();
        let fits = alone.push(property).is_ok() && alone.as_properties().suits(place).is_ok();
        let repeats = list.as_properties().present() & alone.as_properties().present() != 0;
        let may_repeat = matches!(property, Property::User(..))
            || (place == Place::Publish && matches!(property, Property::SubscriptionIdentifier(_)));
        if fits && (!repeats || may_repeat) {
            list.push(property).unwrap();
        }
    }
    let present = list.as_properties().present();
    if present & (1 << 22) != 0 && present & (1 << 21) == 0 {
        list.push(Property::AuthenticationMethod("m")).unwrap();
    }
    list
}

fn any_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn any_version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn any_qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

/// Encodes, decodes, compares; and every proper prefix is a packet that has not come whole.
fn check_round_trip(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = vec![0xAA];
    packet.encode(version, &mut bytes).unwrap();
    let bytes = bytes.split_off(1);
    let (decoded, length) = decode(&bytes, version, PACKET_MAX).unwrap().unwrap();
    assert_eq!(decoded, *packet);
    assert_eq!(length, bytes.len());
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end], version, PACKET_MAX), Ok(None));
    }
    bytes
}

/// Whatever can be read can be written, and reads the same.
fn check_bytes(bytes: &[u8], version: Version) {
    if let Ok(Some((packet, length))) = decode(bytes, version, PACKET_MAX) {
        assert!(length <= bytes.len());
        let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
        if matches!(&packet, Packet::Connect(connect) if connect.client_id.is_empty() && !connect.clean_start) {
            return; // a server has to read it, and to refuse it with words; a client never writes it
        }
        let mut again = Vec::new();
        packet.encode(version, &mut again).unwrap();
        let (second, _) = decode(&again, version, PACKET_MAX).unwrap().unwrap();
        assert_eq!(packet, second);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn connect_round_trip(
        version in any_version(), clean_start in any::<bool>(), keep_alive_s in any::<u16>(), client_id in topic_name(),
        will in proptest::option::of((topic_name(), proptest::collection::vec(any::<u8>(), 0..9), any_qos(), any::<bool>())),
        username in proptest::option::of(text()), password in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        specs in specs(), will_specs in specs(),
    ) {
        let v5 = version == Version::V5;
        let properties = if v5 { list(&specs, Place::Connect) } else { PropertyList::new() };
        let will_properties = if v5 { list(&will_specs, Place::Will) } else { PropertyList::new() };
        let will = will.as_ref().map(|(topic, payload, qos, retain)| LastWill {
            topic, payload, qos: *qos, retain: *retain, properties: will_properties.as_properties(),
        });
        let password = if v5 || username.is_some() { password } else { None };
        let connect = Connect {
            version, clean_start, keep_alive_s, client_id: &client_id, will, username: username.as_deref(),
            password: password.as_deref(), properties: properties.as_properties(),
        };
        check_round_trip(&Packet::Connect(connect), version);
    }

    #[test]
    fn publish_round_trip(
        version in any_version(), dup in any::<bool>(), qos in any_qos(), retain in any::<bool>(), topic in topic_name(),
        id in any_id(), specs in specs(), payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let properties = if version == Version::V5 { list(&specs, Place::Publish) } else { PropertyList::new() };
        let has_id = qos != QoS::AtMostOnce;
        let publish = Publish {
            dup: dup && has_id, qos, retain, topic: &topic, id: has_id.then_some(id), properties: properties.as_properties(),
            payload: &payload,
        };
        let bytes = check_round_trip(&Packet::Publish(publish), version);
        prop_assert_eq!(publish.encoded_len(version).unwrap() as usize, bytes.len());
    }

    #[test]
    fn acknowledgements_round_trip(version in any_version(), id in any_id(), code in any::<u8>(), specs in specs()) {
        let v5 = version == Version::V5;
        let properties = if v5 { list(&specs, Place::Acknowledgement) } else { PropertyList::new() };
        let reason = if v5 { Reason::new(code) } else { Reason::SUCCESS };
        let ack = Ack { id, reason, properties: properties.as_properties() };
        let mut out = Vec::new();
        for packet in [Packet::Puback(ack), Packet::Pubrec(ack), Packet::Pubrel(ack), Packet::Pubcomp(ack)] {
            // A code that the packet cannot bear is refused by both sides.
            if packet.encode(version, &mut out).is_ok() {
                check_round_trip(&packet, version);
            } else {
                prop_assert!(out.is_empty());
            }
            out.clear();
        }
    }

    #[test]
    fn subscriptions_round_trip(
        version in any_version(), id in any_id(), specs in specs(), codes in proptest::collection::vec(any::<u8>(), 1..5),
        filters in proptest::collection::vec((topic_filter(), any_qos(), any::<bool>(), any::<bool>(), 0..3u8), 1..5),
    ) {
        let v5 = version == Version::V5;
        let of = |place| if v5 { list(&specs, place) } else { PropertyList::new() };
        let (mut owned, mut topics) = (FilterList::new(), Vec::new());
        for (filter, qos, no_local, retain_as_published, handling) in &filters {
            topics.push(filter.as_str());
            owned.push(&Filter {
                filter, qos: *qos, no_local: v5 && *no_local && !topic::is_shared(filter),
                retain_as_published: v5 && *retain_as_published,
                retain_handling: match handling {
                    1 if v5 => RetainHandling::SendIfNew, 2 if v5 => RetainHandling::DoNotSend, _ => RetainHandling::Send,
                },
            }).unwrap();
        }
        let properties = of(Place::Subscribe);
        let packet = Subscribe { id, properties: properties.as_properties(), filters: owned.as_filters() };
        check_round_trip(&Packet::Subscribe(packet), version);

        let (properties, mut buffer) = (of(Place::Unsubscribe), Vec::new());
        let filters = Topics::build(&topics, &mut buffer).unwrap();
        check_round_trip(&Packet::Unsubscribe(Unsubscribe { id, properties: properties.as_properties(), filters }), version);

        let properties = of(Place::Acknowledgement);
        let reasons = Reasons::new(&codes);
        let suback = Packet::Suback(Suback { id, properties: properties.as_properties(), reasons });
        let reasons = if v5 { reasons } else { Reasons::new(&[]) };
        let unsuback = Packet::Unsuback(Unsuback { id, properties: properties.as_properties(), reasons });
        for packet in [suback, unsuback] {
            if packet.encode(version, &mut Vec::new()).is_ok() {
                check_round_trip(&packet, version);
            }
        }
    }

    #[test]
    fn connack_disconnect_auth_round_trip(
        version in any_version(), session_present in any::<bool>(), code in any::<u8>(), specs in specs(), old in any::<bool>(),
    ) {
        let v5 = version == Version::V5;
        let of = |place| if v5 { list(&specs, place) } else { PropertyList::new() };
        let reason = Reason::new(code);
        let mut out = Vec::new();

        let properties = of(Place::Connack);
        let mapped = Reason::from_v311_connack(code % 6).unwrap();
        let connack = if v5 && !(old && mapped.is_error()) {
            let session_present = session_present && reason == Reason::SUCCESS;
            Connack { session_present, reason, properties: properties.as_properties(), in_v311: false }
        } else {
            let session_present = session_present && mapped == Reason::SUCCESS;
            Connack { session_present, reason: mapped, properties: Properties::EMPTY, in_v311: true }
        };
        if connack.encode(version, &mut out).is_ok() && Connack::decode(Reader::new(&out[2..]), version).is_ok() {
            check_round_trip(&Packet::Connack(connack), version);
        }

        let properties = of(Place::Disconnect);
        let reason_of = if v5 { reason } else { Reason::SUCCESS };
        let disconnect = Packet::Disconnect(Disconnect { reason: reason_of, properties: properties.as_properties() });
        let properties = of(Place::Auth);
        let auth = Packet::Auth(Auth { reason, properties: properties.as_properties() });
        for packet in [disconnect, auth, Packet::Pingreq, Packet::Pingresp] {
            if packet.encode(version, &mut Vec::new()).is_ok() {
                check_round_trip(&packet, version);
            }
        }
    }

    /// F-29: never a panic, whatever comes.
    #[test]
    fn arbitrary_bytes_never_panic(version in any_version(), bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        check_bytes(&bytes, version);
    }

    /// Bytes that look like a packet get deeper than arbitrary ones.
    #[test]
    fn arbitrary_bodies_never_panic(
        version in any_version(), first in any::<u8>(), body in proptest::collection::vec(prop_oneof![0..48u8, any::<u8>()], 0..80),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        check_bytes(&bytes, version);
        bytes[0] = first & 0xF0 | if matches!(first >> 4, 6 | 8 | 10) { 2 } else { 0 };
        check_bytes(&bytes, version);
    }

    #[test]
    fn damaged_packets_never_panic(
        version in any_version(), topic in topic_name(), id in any_id(), specs in specs(), at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let properties = if version == Version::V5 { list(&specs, Place::Publish) } else { PropertyList::new() };
        let publish = Publish {
            dup: false, qos: QoS::AtLeastOnce, retain: false, topic: &topic, id: Some(id),
            properties: properties.as_properties(), payload: b"payload",
        };
        let mut bytes = Vec::new();
        publish.encode(version, &mut bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        check_bytes(&bytes, version);
    }

    #[test]
    fn lengths_are_in_their_shortest_form(value in 0..=REMAINING_LENGTH_MAX) {
        let mut bytes = Vec::new();
        wire::put_varint(&mut bytes, value); // [MQTT-1.5.5-1]
        prop_assert_eq!(bytes.len(), wire::varint_len(value));
        prop_assert_eq!(wire::varint(&bytes), Ok(Some((value, bytes.len()))));
    }
}

/// What must be refused, by which rule, and what DISCONNECT says.
#[test]
fn what_is_wrong_is_named() {
    const V4: Version = Version::V311;
    const V5: Version = Version::V5;
    let malformed = Reason::MALFORMED_PACKET;
    let protocol = Reason::PROTOCOL_ERROR;
    let table: &[(&[u8], Version, &str, Reason)] = &[
        (&[0x00, 0], V5, "MQTT 2.1.2", malformed),
        (&[0xF0, 0], V4, "MQTT 2.1.2", malformed),
        (&[0x21], V5, "MQTT-2.1.3-1", malformed),
        (&[0x60, 2, 0, 1], V4, "MQTT-2.1.3-1", malformed),
        (&[0xD1], V5, "MQTT-2.1.3-1", malformed),
        (&[0x36], V5, "MQTT-3.3.1-4", malformed),
        (&[0x38, 4, 0, 1, b'a', 0], V5, "MQTT-3.3.1-2", malformed),
        (&[0x30, 0x80, 0x80, 0x80, 0x80], V5, "MQTT-1.5.5-1", malformed),
        (&[0x30, 0x84, 0x00], V5, "MQTT-1.5.5-1", malformed),
        (&[0x30, 4, 0, 1, 0xFF, 0], V5, "MQTT-1.5.4-1", malformed),
        (&[0x30, 6, 0, 3, 0xED, 0xA0, 0x80, 0], V5, "MQTT-1.5.4-1", malformed),
        (&[0x30, 4, 0, 1, 0, 0], V5, "MQTT-1.5.4-2", malformed),
        (&[0x30, 4, 0, 1, b'#', 0], V5, "MQTT-3.3.2-2", Reason::TOPIC_NAME_INVALID),
        (&[0x30, 3, 0, 0, 0], V5, "MQTT-4.7.3-1", protocol),
        (&[0x30, 2, 0, 0], V4, "MQTT-4.7.3-1", protocol),
        (&[0x30, 1, 0], V4, "MQTT 2.1.4", malformed),
        (&[0x30, 2, 0, 9], V4, "MQTT 2.1.4", malformed),
        (&[0x32, 6, 0, 1, b'a', 0, 0, 0], V5, "MQTT-2.2.1-3", protocol),
        (&[0x30, 7, 0, 1, b'a', 3, 35, 0, 0], V5, "MQTT-3.3.2-8", Reason::TOPIC_ALIAS_INVALID),
        (&[0x30, 8, 0, 1, b'a', 4, 1, 0, 1, 0], V5, "MQTT 2.2.2.2", protocol),
        (&[0x30, 6, 0, 1, b'a', 2, 1, 2], V5, "MQTT 2.2.2.2", protocol),
        (&[0x30, 6, 0, 1, b'a', 2, 99, 2], V5, "MQTT 2.2.2.2", malformed),
        (&[0x30, 7, 0, 1, b'a', 3, 33, 0, 1], V5, "MQTT 2.2.2.2", malformed),
        (&[0x30, 6, 0, 1, b'a', 2, 11, 0], V5, "MQTT 3.8.2.1.2", protocol),
        (&[0x30, 8, 0, 1, b'a', 4, 8, 0, 1, b'+'], V5, "MQTT-3.3.2-14", protocol),
        (&[0x30, 5, 0, 1, b'a', 0x80, 0x80], V5, "MQTT 2.1.4", malformed),
        (&[0x40, 2, 0, 0], V5, "MQTT-2.2.1-3", protocol),
        (&[0x40, 3, 0, 1, 0x01], V5, "MQTT-3.4.2-1", malformed),
        (&[0x50, 3, 0, 1, 0x92], V5, "MQTT-3.5.2-1", malformed),
        (&[0x62, 3, 0, 1, 0x80], V5, "MQTT-3.6.2-1", malformed),
        (&[0x70, 3, 0, 1, 0x10], V5, "MQTT-3.7.2-1", malformed),
        (&[0x40, 3, 0, 1, 0], V4, "MQTT 2.1.4", malformed),
        (&[0x20, 2, 2, 0], V4, "MQTT-3.2.2-1", malformed),
        (&[0x20, 2, 1, 5], V4, "MQTT-3.2.2-6", protocol),
        (&[0x20, 2, 0, 6], V4, "MQTT-3.2.2-8", malformed),
        (&[0x20, 3, 0, 1, 0], V5, "MQTT-3.2.2-8", malformed),
        (&[0x20, 6, 0, 0, 3, 33, 0, 0], V5, "MQTT 3.2.2.3.3", protocol),
        (&[0x20, 5, 0, 0, 2, 36, 2], V5, "MQTT 3.2.2.3.4", protocol),
        (&[0x20, 6, 0, 0, 3, 22, 0, 0], V5, "MQTT 3.1.2.11.10", protocol),
        (&[0x90, 3, 0, 1, 3], V4, "MQTT-3.9.3-2", malformed),
        (&[0x90, 3, 0, 1, 0], V5, "MQTT-3.9.3-1", malformed),
        (&[0xB0, 3, 0, 1, 0], V5, "MQTT-3.11.3-1", malformed),
        (&[0xD0, 1, 0], V5, "MQTT 2.1.4", malformed),
        (&[0xE0, 1, 0x01], V5, "MQTT-3.14.2-1", malformed),
        (&[0xF0, 1, 0x01], V5, "MQTT-3.15.2-1", malformed),
        (&[0x82, 2, 0, 1], V4, "MQTT-3.8.3-2", protocol),
        (&[0xA2, 2, 0, 1], V4, "MQTT-3.10.3-2", protocol),
    ];
    for &(bytes, version, rule, reason) in table {
        let error = decode(bytes, version, PACKET_MAX).expect_err(&format!("{bytes:02X?}"));
        assert_eq!((error.rule, error.reason), (rule, reason), "{bytes:02X?}: {error}");
    }
}

/// F-29: a claimed length of 268,435,455 is refused by its header where it is too large, and costs nothing else.
#[test]
fn a_claimed_length_costs_nothing() {
    let header = [0x30, 0xFF, 0xFF, 0xFF, 0x7F];
    let error = decode(&header, Version::V5, 1 << 20).unwrap_err();
    assert_eq!((error.rule, error.reason), ("MQTT-3.1.2-24", Reason::PACKET_TOO_LARGE));
    assert_eq!(decode(&header, Version::V5, PACKET_MAX), Ok(None));
}

/// F-27: "unsupported version" in the form of 3.1.1 is understood; success in that form is not.
#[test]
fn a_refusal_in_the_form_of_v311_is_understood() {
    let Ok(Some((Packet::Connack(connack), 4))) = decode(&[0x20, 2, 0, 1], Version::V5, PACKET_MAX) else { panic!() };
    assert!(connack.in_v311);
    assert_eq!(connack.reason, Reason::UNSUPPORTED_PROTOCOL_VERSION);
    assert!(decode(&[0x20, 2, 0, 0], Version::V5, PACKET_MAX).is_err());
}

#[test]
fn reasons_have_names() {
    assert_eq!(Reason::NOT_AUTHORIZED.to_string(), "not authorized (0x87)");
    assert_eq!(Reason::new(0x7F).to_string(), "unknown reason (0x7F)");
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a",
        id: None,
        properties: Properties::EMPTY,
        payload: b"",
    };
    let id = PacketId::new(1);
    let long = "x".repeat(65_536);
    let user = PropertyList::new().with(Property::SessionExpiry(1)).unwrap();
    let table = [
        (Publish { dup: true, ..publish }, EncodeError::Contradiction), // [MQTT-3.3.1-2]
        (Publish { id, ..publish }, EncodeError::Contradiction),        // [MQTT-2.2.1-2]
        (Publish { qos: QoS::AtLeastOnce, ..publish }, EncodeError::Contradiction), // [MQTT-2.2.1-3]
        (Publish { topic: "a/+", ..publish }, EncodeError::Contradiction), // [MQTT-3.3.2-2]
        (Publish { topic: "", ..publish }, EncodeError::Contradiction), // [MQTT-4.7.3-1]
        (Publish { topic: &long, ..publish }, EncodeError::FieldTooLong),
        (Publish { properties: user.as_properties(), ..publish }, EncodeError::Property(17)),
    ];
    for (packet, error) in table {
        let mut out = Vec::new();
        assert_eq!(packet.encode(Version::V5, &mut out), Err(error), "{error}");
        assert!(out.is_empty());
    }
    let mut list = PropertyList::new();
    assert_eq!(list.push(Property::ContentType("a\0b")), Err(EncodeError::Nul)); // [MQTT-1.5.4-2]
    assert_eq!(list.push(Property::TopicAlias(0)), Err(EncodeError::Property(35))); // [MQTT-3.3.2-8]
    assert!(list.as_properties().is_empty());
}

#[test]
fn filters_and_names() {
    for filter in ["#", "+", "a/#", "+/a/+", "/", "a//b", "$share/g/a/#", "$share/g//", "$SYS/#"] {
        assert!(topic::is_valid_filter(filter), "{filter}");
    }
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    for filter in ["", "a#", "#/a", "a/b#", "a+", "+a/b", "$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a"]
    {
        assert!(!topic::is_valid_filter(filter), "{filter}");
    }
    let matching =
        [("a/#", "a"), ("a/#", "a/b/c"), ("+/+", "/x"), ("#", "a"), ("$SYS/#", "$SYS/x"), ("a/+/c", "a/b/c")];
    let others = [("+", "a/b"), ("a/b", "a"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a/+", "a"), ("A", "a")];
    assert!(matching.iter().all(|(filter, name)| topic::matches(filter, name)));
    assert!(!others.iter().any(|(filter, name)| topic::matches(filter, name)));
}

/// F-27: a code that the rules do not give to PUBACK and PUBREC, and that mosquitto says all the same.
#[test]
fn a_refusal_for_its_size_is_understood() {
    for first in [0x40, 0x50] {
        let bytes = [first, 3, 0, 1, 0x95];
        let (packet, _) = decode(&bytes, Version::V5, PACKET_MAX).unwrap().unwrap();
        assert!(matches!(packet, Packet::Puback(ack) | Packet::Pubrec(ack) if ack.reason == Reason::PACKET_TOO_LARGE));
    }
}
