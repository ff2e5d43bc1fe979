//! What a session tells its owner, and why it refuses.

use crate::mqtt::packet::{DecodeError, EncodeError, PacketId, Properties, QoS, Reason};

use super::options::Limits;

/// What happened. Drain them with [`super::Session::poll_event`] after every call of `receive`.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The server accepted the connection.
    Connected(Box<Connected>),
    /// The server refused the connection and closes it.
    Refused(Box<Refused>),
    /// A message is done: PUBACK (also where a server answers QoS 2 with it), or PUBREC with an error. Final either
    /// way: nothing more is sent for it and the identifier is free. [MQTT-4.4.0-2]
    Acknowledged {
        /// Whose.
        id: PacketId,
        /// Success or the reason of the refusal.
        reason: Reason,
        /// The server's words.
        text: Option<Box<str>>,
    },
    /// PUBREC: the server has it. Make that durable, then call [`super::Session::release`].
    Received {
        /// Whose.
        id: PacketId,
    },
    /// PUBCOMP: a QoS 2 exchange is over, the identifier is free.
    Completed {
        /// Whose.
        id: PacketId,
        /// Success or [`Reason::PACKET_IDENTIFIER_NOT_FOUND`].
        reason: Reason,
        /// The PUBREL that this answers was sent once only, by this process: "not found" then contradicts the
        /// PUBREC, and the server has lost what it knew (R9 of DESIGN.md).
        first: bool,
    },
    /// A message came in. At QoS 1 and 2 it waits for [`super::Session::acknowledge`].
    Message(Message),
    /// PUBREL came for an incoming QoS 2 message: its identifier need not be remembered any more. With
    /// `Options::hold_completion`, make that durable, then call [`super::Session::complete`].
    Released {
        /// Whose.
        id: PacketId,
    },
    /// Answer to [`super::Session::subscribe`].
    Subscribed {
        /// What `subscribe` gave.
        id: PacketId,
        /// One for each filter.
        reasons: Vec<Reason>,
        /// The server's words.
        text: Option<Box<str>>,
    },
    /// Answer to [`super::Session::unsubscribe`].
    Unsubscribed {
        /// What `unsubscribe` gave.
        id: PacketId,
        /// One for each filter; in 3.1.1 none.
        reasons: Vec<Reason>,
        /// The server's words.
        text: Option<Box<str>>,
    },
    /// A step of the authentication that `Options::authentication` began; answer with `authenticate`.
    Authenticate {
        /// [`Reason::CONTINUE_AUTHENTICATION`], or success at the end of a re-authentication.
        reason: Reason,
        /// The mechanism's message.
        data: Option<Vec<u8>>,
    },
    /// The server says good-bye and closes the connection (5.0).
    Disconnected {
        /// Why.
        reason: Reason,
        /// The server's words.
        text: Option<Box<str>>,
        /// Another server to use.
        server_reference: Option<Box<str>>,
    },
}

/// What CONNACK said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connected {
    /// The server kept the session. If not, everything that was in flight has been forgotten by now, and so have
    /// the server's subscriptions.
    pub session_present: bool,
    /// How many outgoing exchanges were forgotten because the session was not present.
    pub forgotten: usize,
    /// What the server grants.
    pub limits: Limits,
    /// The client identifier that the server chose, where CONNECT had none. [MQTT-3.2.2-16]
    pub assigned_client_id: Option<Box<str>>,
    /// Seconds, as it counts on this connection: the server's if it gave one. [MQTT-3.2.2-21]
    pub keep_alive_s: u16,
    /// Whether that keep-alive is the server's.
    pub keep_alive_is_servers: bool,
    /// Seconds that the session is kept after the connection's end, as granted (5.0).
    pub session_expiry_s: u32,
    /// Where the server wants response topics to be.
    pub response_information: Option<Box<str>>,
    /// Another server to use.
    pub server_reference: Option<Box<str>>,
    /// The server's words.
    pub text: Option<Box<str>>,
    /// The mechanism's last message.
    pub authentication_data: Option<Vec<u8>>,
}

/// A refusal at CONNACK.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Why; a return code of 3.1.1 is mapped to its equal in 5.0.
    pub reason: Reason,
    /// The server's words.
    pub text: Option<Box<str>>,
    /// Another server to use.
    pub server_reference: Option<Box<str>>,
    /// The answer was a CONNACK of 3.1.1 although 5.0 was asked for: the server does not know 5.0.
    pub in_v311: bool,
}

/// A message that came in. One buffer holds topic, properties and payload; give it back with
/// [`super::Session::recycle`] where many come in.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub(super) buffer: Vec<u8>,
    pub(super) topic: usize,
    pub(super) properties: usize,
    pub(super) present: u64,
    /// Present at QoS 1 and 2: what [`super::Session::acknowledge`] wants.
    pub id: Option<PacketId>,
    /// How firmly it was delivered.
    pub qos: QoS,
    /// It was kept by the server before we subscribed.
    pub retain: bool,
    /// The server may have sent it before. Says nothing about whether we saw it.
    pub dup: bool,
}

/// A protocol error of the server; the connection must be closed. In 5.0 a DISCONNECT is queued that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker broke the protocol: {0}")]
pub struct ProtocolError(#[from] pub DecodeError);

/// Why the connection is considered dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Timeout {
    /// No sign that anything we send arrives, for 1.5 times the keep-alive.
    #[error("no answer within 1.5 times the keep-alive of {keep_alive_s} s")]
    KeepAlive {
        /// Seconds.
        keep_alive_s: u16,
    },
    /// Something waits for an acknowledgement, and none came for [`super::ACKNOWLEDGEMENT_MAX`].
    #[error("no acknowledgement for 60 s with {waiting} exchanges in flight")]
    Acknowledgement {
        /// How many wait.
        waiting: usize,
    },
}

/// Why a message was not taken. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no connection, or it is being closed.
    #[error("not connected")]
    NotConnected,
    /// As much is in flight, or waits to be written, as is allowed. Try again after the next event or write.
    #[error("no room in flight")]
    Full,
    /// Messages that were sent on an earlier connection go first. [MQTT-4.6.0-1]
    #[error("message {0} must be sent again first")]
    ResendFirst(PacketId),
    /// An exchange with this identifier is not over. [MQTT-2.2.1-3]
    #[error("packet identifier {0} is in use")]
    IdInUse(PacketId),
    /// The identifier is missing, superfluous, or from a range that is not for this: QoS 1 and 2 need 1 to 32768,
    /// or, QoS 1 only and forgotten at the connection's end, 49152 to 65535.
    #[error("the packet identifier does not suit the message")]
    Identifier,
    /// Larger than the server takes.
    #[error("the message has {size} bytes and the broker takes {limit}")]
    TooLarge {
        /// Bytes of the packet.
        size: u32,
        /// Bytes that the server takes.
        limit: u32,
    },
    /// The server takes less. [MQTT-3.2.2-11]
    #[error("the broker takes {max} at most")]
    QosTooHigh {
        /// What it takes.
        max: QoS,
    },
    /// The server takes no retained messages. [MQTT-3.2.2-14]
    #[error("the broker takes no retained messages")]
    RetainUnavailable,
    /// Empty, too long, or with a wildcard or U+0000 in it.
    #[error("the topic name is not valid")]
    Topic,
    /// A property that does not belong into a PUBLISH of a client.
    #[error("a property does not belong into a PUBLISH")]
    Properties,
}

/// Why a request was not sent. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection, or it is being closed.
    #[error("not connected")]
    NotConnected,
    /// [`super::REQUESTS_MAX`] of them wait for an answer.
    #[error("too many requests wait for an answer")]
    Full,
    /// No filter, or one that is not well formed.
    #[error("a topic filter is not valid")]
    Filter,
    /// The server offers no wildcards, shared subscriptions or subscription identifiers.
    #[error("the broker does not offer this: {0}")]
    NotOffered(Reason),
    /// Larger than the server takes.
    #[error("the request has {size} bytes and the broker takes {limit}")]
    TooLarge {
        /// Bytes of the packet.
        size: u32,
        /// Bytes that the server takes.
        limit: u32,
    },
    /// It cannot be put into bytes.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Message {
    /// Topic name.
    pub fn topic(&self) -> &str {
        // The decoder has checked these bytes; a topic is never re-read as anything else.
        self.buffer.get(..self.topic).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The content.
    pub fn payload(&self) -> &[u8] {
        self.buffer.get(self.properties..).unwrap_or_default()
    }

    /// Response topic, correlation data, content type and so on.
    pub fn properties(&self) -> Properties<'_> {
        Properties::checked(self.buffer.get(self.topic..self.properties).unwrap_or_default(), self.present)
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("qos", &self.qos)
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}
