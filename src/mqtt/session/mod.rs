//! The state machine of one MQTT client: what is in flight both ways, what must be said next, when the link is dead.
//!
//! ```text
//!           connect()            CONNACK             disconnect()
//!  Idle ───────────▶ Connecting ─────────▶ Connected ────────────▶ Leaving
//!   ▲                    │ refused, error       │ error, DISCONNECT     │
//!   │                    └─────────▶ Closed ◀───┘                      │
//!   └────────── disconnected(), from anywhere ─────────────────────────┘
//! ```
//!
//! The owner moves bytes (`receive`, `transmit` and `transmitted`), turns the clock (`poll_timeout`,
//! `handle_timeout`), drains `poll_event` after each call, and gives messages while [`Session::want`] asks for them.
//! Contents of messages are not kept: what must be sent again is asked for again, by its identifier, and what must
//! survive the process is said in events and given back by [`Session::restore`].
//!
//! Invariants: nothing that belongs to a connection (limits, aliases, half-read bytes, requests, timers) outlives
//! it; an identifier is in at most one exchange; at most Receive Maximum exchanges are live; resends go first and in
//! the order of the first sending, PUBRELs in the order of their PUBRECs; nothing grows with what the server claims.

mod alias;
mod event;
mod incoming;
mod options;
mod output;
mod publish;
mod receive;
mod request;
mod sabotage;
mod timers;
mod window;

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

pub use event::{Connected, Event, Message, ProtocolError, PublishError, Refused, RequestError, Timeout};
pub use options::{Authentication, Limits, Options, Will};

use std::collections::VecDeque;
use std::time::Duration;

use crate::mqtt::packet::{Ack, EncodeError, Packet, PacketId, QoS, Reason, Version};

use output::Output;
use request::Request;
use sabotage::Fault;
use timers::{Due, Timers};
use window::Window;

/// How many messages of QoS 1 and 2 are in flight on a connection of 3.1.1, which has no Receive Maximum. It is what
/// mosquitto takes: of more QoS 2 messages it acknowledges the surplus and never delivers it (seen with 2.0.11).
pub const RECEIVE_MAXIMUM_V311: u16 = 20;
/// So many times our Receive Maximum may be in flight towards us before the server is left. mosquitto 2.0.11 sends up to
/// three times as much after its first acknowledgement, and would do so again after each reconnect: being strict would
/// mean never to hear from it. Memory stays bounded. [MQTT-3.3.4-9] binds the server; we may leave it, and need not.
pub const RECEIVE_OVERRUN_MAX: u16 = 4;
/// The longest wait for any acknowledgement while something is in flight.
pub const ACKNOWLEDGEMENT_MAX: Duration = Duration::from_secs(60);
/// The most SUBSCRIBE and UNSUBSCRIBE packets that wait for their answer.
pub const REQUESTS_MAX: usize = 16;
/// The most topic aliases that the server may use towards us.
pub const ALIASES_IN_MAX: u16 = 64;
/// The most topic aliases that we use towards the server.
pub const ALIASES_OUT_MAX: u16 = 256;
/// The most bytes of PUBLISH packets that wait to be written before `publish` says full.
pub const OUTPUT_MAX: usize = 256 * 1024;
/// The most bytes of other packets that wait to be written; a server that causes more and reads nothing is left.
pub const CONTROL_MAX: usize = 256 * 1024;
/// The most events that may wait for [`Session::poll_event`]; two calls of `receive` with 64 KiB cannot make more.
pub const EVENTS_MAX: usize = 32 * 1024;
/// The most buffers that are kept for incoming messages, and the most bytes that each of them keeps.
pub const RECYCLED_MAX: usize = 16;
/// See [`RECYCLED_MAX`].
pub const RECYCLED_BYTES_MAX: usize = 64 * 1024;

/// The identifiers of messages that the caller keeps: they are sent again after a reconnect.
pub const KEPT_IDS: std::ops::RangeInclusive<u16> = 1..=32_768;
/// The identifiers of SUBSCRIBE and UNSUBSCRIBE; the session chooses them.
pub const REQUEST_IDS: std::ops::RangeInclusive<u16> = 32_769..=49_151;
/// The identifiers of messages that nobody keeps: QoS 1 only, forgotten when the connection ends.
pub const VOLATILE_IDS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Connecting {
        clean_start: bool,
    },
    Connected,
    /// DISCONNECT is queued: what still comes in is read, nothing more is said.
    Leaving,
    /// Nothing that still comes in counts.
    Closed,
}

/// One client's session. See the head of this module.
pub struct Session {
    phase: Phase,
    // What outlives a connection.
    window: Window,
    incoming: incoming::Incoming,
    in_flight_max: usize,
    in_flight_max_bytes: usize,
    events: VecDeque<Event>,
    recycled: Vec<Vec<u8>>,
    next_request_id: u16,
    // What does not.
    asked: Asked,
    limits: Limits,
    output: Output,
    /// The front of a packet whose end has not come.
    partial: Vec<u8>,
    aliases_out: alias::Outgoing,
    aliases_in: alias::Incoming,
    requests: Vec<Request>,
    timers: Timers,
    /// A PUBACK has answered QoS 2 on this connection.
    puback_for_qos_2: bool,
}

/// What CONNECT said, as far as it matters later.
#[derive(Clone, Debug)]
struct Asked {
    version: Version,
    keep_alive_s: u16,
    session_expiry_s: u32,
    receive_maximum: u16,
    maximum_packet_size: u32,
    topic_alias_maximum: u16,
    topic_aliases_out: u16,
    hold_completion: bool,
    method: Option<Box<str>>,
}

impl Asked {
    fn new(options: &Options) -> Self {
        // 3.1.1 has no Receive Maximum: a server may have as much in flight as there are identifiers.
        let receive_maximum = if options.version == Version::V5 { options.receive_maximum.max(1) } else { u16::MAX };
        Self {
            version: options.version,
            keep_alive_s: options.keep_alive_s,
            session_expiry_s: options.session_expiry_s,
            receive_maximum,
            maximum_packet_size: options.maximum_packet_size.max(1),
            topic_alias_maximum: options.topic_alias_maximum.min(ALIASES_IN_MAX),
            topic_aliases_out: options.topic_aliases_out.min(ALIASES_OUT_MAX),
            hold_completion: options.hold_completion,
            method: options.authentication.as_ref().map(|authentication| authentication.method.as_str().into()),
        }
    }
}

/// What a session would take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// This message was sent on an earlier connection and must be given again, with the same bytes, before
    /// anything new with an identifier of [`KEPT_IDS`].
    Resend(PacketId),
    /// So many new messages. Never 0.
    Fresh {
        /// At QoS 1 and 2; QoS 0 takes only room in the output.
        messages: u16,
    },
    /// Nothing now: not connected, or no room.
    Nothing,
}

impl Session {
    /// A session with nothing in flight and no connection. At most `in_flight_max` exchanges are in flight, and at
    /// most `in_flight_max_bytes` bytes of PUBLISH packets (but always one packet), whatever the server grants.
    pub fn new(in_flight_max: u16, in_flight_max_bytes: usize) -> Self {
        Self {
            phase: Phase::Idle,
            window: Window::new(),
            incoming: incoming::Incoming::default(),
            in_flight_max: usize::from(in_flight_max.max(1)),
            in_flight_max_bytes,
            events: VecDeque::new(),
            recycled: Vec::new(),
            next_request_id: *REQUEST_IDS.start(),
            asked: Asked::new(&Options::new("")),
            limits: Limits::default(),
            output: Output::default(),
            partial: Vec::new(),
            aliases_out: alias::Outgoing::default(),
            aliases_in: alias::Incoming::default(),
            requests: Vec::new(),
            timers: Timers::default(),
            puback_for_qos_2: false,
        }
    }

    /// After a restart of the process: what was in flight, from the durable store. `released` in the order of the
    /// PUBRECs, `sent` in the order of the first sending; identifiers from [`KEPT_IDS`]. Replaces what was in flight.
    pub fn restore(&mut self, released: &[PacketId], sent: &[(PacketId, QoS)]) {
        self.window.clear();
        released.iter().for_each(|&id| self.window.restore_released(id));
        sent.iter().filter(|(_, qos)| *qos != QoS::AtMostOnce).for_each(|&(id, qos)| self.window.restore_sent(id, qos));
    }

    /// After a restart of the process: identifiers of incoming QoS 2 messages that were acknowledged and whose
    /// [`Event::Released`] was not made durable. See [`Options::hold_completion`].
    pub fn restore_incoming(&mut self, acknowledged: &[PacketId]) {
        self.incoming.clear();
        acknowledged.iter().for_each(|&id| self.incoming.restore(id));
    }

    /// A fresh transport stands: per-connection state starts afresh and CONNECT is queued. On an error (options
    /// that cannot be put into a CONNECT) there is no connection.
    pub fn connect(&mut self, now: Duration, options: &Options, clean_start: bool) -> Result<(), RequestError> {
        self.disconnected();
        self.asked = Asked::new(options);
        request::put_connect(options, &self.asked, clean_start, self.output.control.buffer())?; // [MQTT-3.1.0-1]
        self.aliases_in.reset(if options.version == Version::V5 { self.asked.topic_alias_maximum } else { 0 });
        self.phase = Phase::Connecting { clean_start };
        self.timers.start(now, 0);
        Ok(())
    }

    /// Bytes for the transport; empty: nothing to write. Call [`Session::transmitted`] before anything else.
    pub fn transmit(&self) -> &[u8] {
        self.output.transmit()
    }

    /// The first `count` bytes of [`Session::transmit`] were written.
    pub fn transmitted(&mut self, now: Duration, count: usize) {
        if count > 0 {
            self.output.transmitted(count);
            self.timers.sent(now);
            if sabotage::on(Fault::TrafficHidesDeadLink) {
                self.timers.proved(now);
            }
            self.timers.waiting(now, self.is_waiting(), false);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] is due at the latest. Until CONNACK the owner's own deadline counts.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.phase == Phase::Connected { self.timers.next() } else { None }
    }

    /// A timer went off; early is harmless. On an error the link is dead: close it.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), Timeout> {
        if self.phase != Phase::Connected {
            return Ok(());
        }
        match self.timers.due(now) {
            Due::Nothing => Ok(()),
            Due::Ping => {
                self.say(&Packet::Pingreq); // [MQTT-3.1.2-20]
                Ok(())
            }
            Due::KeepAlive => {
                self.phase = Phase::Closed;
                Err(Timeout::KeepAlive { keep_alive_s: self.timers.keep_alive_s() })
            }
            Due::Acknowledgement => {
                self.phase = Phase::Closed;
                Err(Timeout::Acknowledgement { waiting: self.window.waiting() + self.requests.len() })
            }
        }
    }

    /// The transport is gone. What is in flight stays; what belongs to the connection goes.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Idle;
        if !sabotage::on(Fault::LimitsKept) {
            self.limits = Limits::default();
        }
        if !sabotage::on(Fault::OutputKept) {
            self.output.clear();
        }
        if !sabotage::on(Fault::HalfPacketKept) {
            self.partial.clear();
        }
        if !sabotage::on(Fault::AliasesKept) {
            self.aliases_out.reset(0);
        }
        self.aliases_in.reset(0);
        self.requests.clear();
        self.puback_for_qos_2 = false;
        self.incoming.disconnected();
        self.window.disconnected(|id| KEPT_IDS.contains(&id.value()) || sabotage::on(Fault::VolatileKept));
    }

    /// CONNACK came, and neither side has ended the connection.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// One side has ended the connection: write what [`Session::transmit`] still gives, then close the transport.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Closed)
    }

    /// The protocol version of this connection.
    pub fn version(&self) -> Version {
        self.asked.version
    }

    /// What the server granted on this connection.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// On this connection the server has answered a QoS 2 message with PUBACK, as if it were QoS 1: nothing then tells
    /// it a message that is sent again from a new one (F-27).
    pub fn takes_puback_for_qos_2(&self) -> bool {
        self.puback_for_qos_2
    }

    /// How many outgoing exchanges of QoS 1 and 2 are not over.
    pub fn in_flight(&self) -> usize {
        self.window.count()
    }

    /// Something is remembered that would do harm in a session that is not the old one: PUBRECs that came, or
    /// identifiers of incoming QoS 2 messages. If the CONNACK to a CONNECT without Clean Start is then never seen, the
    /// server may have begun a new session behind our back: the next one that is said to be present is not to be
    /// trusted, in the same process too (R7 of DESIGN.md).
    pub fn has_qos_2_state(&self) -> bool {
        self.window.has_exchanges() || self.incoming.has_qos_2()
    }

    /// "PUBREC of `id` is durable": PUBREL may go out. It does so when those before it did. [MQTT-4.6.0-4]
    pub fn release(&mut self, id: PacketId) {
        let may_say = self.phase == Phase::Connected || sabotage::on(Fault::WordsAfterDisconnect);
        if self.window.ready(id) && may_say {
            self.say_pubrels();
        }
    }

    /// Gives up a message of QoS 1 that was sent: its identifier is free. `false` at QoS 2, or if it is not in
    /// flight: a QoS 2 exchange can only be given up together with the session (R9 of DESIGN.md).
    pub fn abandon(&mut self, id: PacketId) -> bool {
        let is_plain = self.window.find(id).is_some_and(|slot| slot.qos == QoS::AtLeastOnce);
        if is_plain {
            self.window.remove(id);
        }
        is_plain
    }

    /// Whether PUBREC has come for it: the server has the message, and only the end of the exchange is open.
    pub fn is_received(&self, id: PacketId) -> bool {
        self.window.find(id).is_some_and(|slot| !matches!(slot.state, window::State::Again | window::State::Sent))
    }

    /// Acknowledges an incoming message. PUBACK or PUBREC goes out when those before it did; 3.1.1 has no reasons.
    /// What is not known, or was acknowledged before, is ignored. After [`Event::Connected`] with `session_present`
    /// false, nothing that came before may be acknowledged.
    pub fn acknowledge(&mut self, id: PacketId, reason: Reason) {
        self.incoming.acknowledge(id, reason);
        self.say_answers();
    }

    /// "The end of incoming `id` is durable": queues PUBCOMP. Only with [`Options::hold_completion`].
    pub fn complete(&mut self, id: PacketId) {
        if self.incoming.complete(id) {
            self.say(&Packet::Pubcomp(Ack::new(id)));
        }
    }

    /// Gives a message's buffer back for the next one.
    pub fn recycle(&mut self, message: Message) {
        let mut buffer = message.buffer;
        if self.recycled.len() < RECYCLED_MAX && buffer.capacity() <= RECYCLED_BYTES_MAX {
            buffer.clear();
            self.recycled.push(buffer);
        }
    }

    /// The server owes an answer.
    fn is_waiting(&self) -> bool {
        self.window.is_waiting() || !self.requests.is_empty()
    }

    /// Queues a packet that is not PUBLISH, unless the connection is ending.
    fn say(&mut self, packet: &Packet<'_>) {
        if self.phase == Phase::Connected || sabotage::on(Fault::WordsAfterDisconnect) {
            let result = self.try_say(packet);
            debug_assert!(result.is_ok(), "what the session says by itself can be encoded: {packet:?}");
        }
    }

    fn try_say(&mut self, packet: &Packet<'_>) -> Result<(), RequestError> {
        let limit = self.limits.maximum_packet_size;
        let buffer = self.output.control.buffer();
        let start = buffer.len();
        packet.encode(self.asked.version, buffer)?;
        let size = u32::try_from(buffer.len() - start).map_err(|_| EncodeError::TooLarge)?;
        // [MQTT-3.2.2-15]; the smallest packets are said in any case: a limit below them is none.
        if size > limit.max(5) {
            buffer.truncate(start);
            return Err(RequestError::TooLarge { size, limit });
        }
        Ok(())
    }
}
