//! The state machine, step by step: what it says to what it hears. Whole lives are in the simulation beside this.

mod bytes;
mod connection;
mod incoming;
mod outgoing;
mod statements;

use std::time::Duration;

use super::*;
use crate::mqtt::packet::{self, Connack, PACKET_MAX, Properties, Property, PropertyList, Publish};

/// The tests below, for whoever wants to know what they find; see [`super::sabotage`].
pub(super) const PROBES: &[(&str, fn())] = &[
    ("half_a_packet_costs_what_came", bytes::half_a_packet_costs_what_came),
    ("floods_are_bounded", bytes::floods_are_bounded),
    ("connack_is_honoured_afresh", connection::connack_is_honoured_afresh),
    ("a_connection_of_3_1_1_has_a_limit_of_ours", connection::a_connection_of_3_1_1_has_a_limit_of_ours),
    ("session_present_after_a_clean_start_is_an_error", connection::session_present_after_a_clean_start_is_an_error),
    ("a_refusal_is_told", connection::a_refusal_is_told),
    ("nothing_but_connack_comes_first", connection::nothing_but_connack_comes_first),
    ("packets_of_clients_are_an_error", connection::packets_of_clients_are_an_error),
    ("traffic_one_way_does_not_hide_a_dead_link", connection::traffic_one_way_does_not_hide_a_dead_link),
    ("an_idle_link_is_asked_and_answers", connection::an_idle_link_is_asked_and_answers),
    ("a_late_timer_asks_first", connection::a_late_timer_asks_first),
    ("no_acknowledgement_for_60_s_ends_the_connection", connection::no_acknowledgement_for_60_s_ends_the_connection),
    ("a_slow_release_is_not_a_dead_link", connection::a_slow_release_is_not_a_dead_link),
    ("control_packets_go_before_publishes", connection::control_packets_go_before_publishes),
    ("disconnect_is_the_last_word", connection::disconnect_is_the_last_word),
    ("the_server_says_good_bye", connection::the_server_says_good_bye),
    ("v311_has_no_words_for_errors", connection::v311_has_no_words_for_errors),
    ("a_bad_connect_is_refused", connection::a_bad_connect_is_refused),
    ("authentication_is_passed_on", connection::authentication_is_passed_on),
    ("authentication_again_on_a_standing_connection", connection::authentication_again_on_a_standing_connection),
    ("qos_0_needs_no_answer", incoming::qos_0_needs_no_answer),
    ("a_message_keeps_its_properties", incoming::a_message_keeps_its_properties),
    (
        "acknowledgements_are_the_callers_and_keep_the_order",
        incoming::acknowledgements_are_the_callers_and_keep_the_order,
    ),
    ("qos_2_is_delivered_once_per_identifier", incoming::qos_2_is_delivered_once_per_identifier),
    ("qos_2_identifiers_outlive_connection_and_process", incoming::qos_2_identifiers_outlive_connection_and_process),
    ("completion_can_be_held", incoming::completion_can_be_held),
    ("a_lost_session_delivers_anew", incoming::a_lost_session_delivers_anew),
    ("a_refused_message_frees_its_identifier", incoming::a_refused_message_frees_its_identifier),
    ("more_than_our_receive_maximum_is_an_error", incoming::more_than_our_receive_maximum_is_an_error),
    ("aliases_of_the_server", incoming::aliases_of_the_server),
    ("subscriptions_are_asked_for_and_answered", incoming::subscriptions_are_asked_for_and_answered),
    ("qos_0_is_said_once", outgoing::qos_0_is_said_once),
    ("qos_1_ends_with_puback", outgoing::qos_1_ends_with_puback),
    ("qos_2_waits_for_release", outgoing::qos_2_waits_for_release),
    ("an_error_in_an_acknowledgement_is_final", outgoing::an_error_in_an_acknowledgement_is_final),
    ("pubrels_keep_the_order_of_pubrecs", outgoing::pubrels_keep_the_order_of_pubrecs),
    ("a_kept_session_goes_on_in_order", outgoing::a_kept_session_goes_on_in_order),
    ("the_same_after_a_restart_of_the_process", outgoing::the_same_after_a_restart_of_the_process),
    ("a_lost_session_forgets_what_was_in_flight", outgoing::a_lost_session_forgets_what_was_in_flight),
    ("receive_maximum_is_kept_on_resumption_too", outgoing::receive_maximum_is_kept_on_resumption_too),
    ("our_own_limits_count_too", outgoing::our_own_limits_count_too),
    ("limits_of_the_server_hold_for_this_connection", outgoing::limits_of_the_server_hold_for_this_connection),
    ("what_does_not_suit_is_refused_and_changes_nothing", outgoing::what_does_not_suit_is_refused_and_changes_nothing),
    ("volatile_messages_end_with_the_connection", outgoing::volatile_messages_end_with_the_connection),
    ("aliases_live_as_long_as_the_connection", outgoing::aliases_live_as_long_as_the_connection),
    ("an_alias_is_left_out_where_it_does_not_fit", outgoing::an_alias_is_left_out_where_it_does_not_fit),
    ("quirks_of_brokers_are_survived", outgoing::quirks_of_brokers_are_survived),
    ("qos_1_can_be_given_up_and_qos_2_not", outgoing::qos_1_can_be_given_up_and_qos_2_not),
    ("output_is_bounded", outgoing::output_is_bounded),
    ("a_clean_start_begins_anew", statements::a_clean_start_begins_anew),
    ("nothing_but_auth_comes_before_connack", statements::nothing_but_auth_comes_before_connack),
    ("nothing_expires_once_it_was_sent", statements::nothing_expires_once_it_was_sent),
    ("each_qos_has_its_answer", statements::each_qos_has_its_answer),
    ("dup_does_not_cross_over", statements::dup_does_not_cross_over),
    ("no_string_holds_a_nul", statements::no_string_holds_a_nul),
];

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
