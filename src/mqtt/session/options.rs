//! What the caller asks of a connection, and what the server grants.

use std::fmt;

use crate::mqtt::auth::SCRAM_SHA_256;
use crate::mqtt::packet::{PACKET_MAX, PropertyList, QoS, Version};

/// Everything that CONNECT says, besides Clean Start.
#[derive(Clone, PartialEq)]
pub struct Options {
    /// The protocol version to speak.
    pub version: Version,
    /// The client identifier; empty lets the server choose one (3.1.1: only with a clean session).
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password; 3.1.1 allows it only with a user name.
    pub password: Option<Vec<u8>>,
    /// Seconds; 0 turns it off. The server may set another one.
    pub keep_alive_s: u16,
    /// Seconds that the server keeps the session after the connection's end; `u32::MAX` means for ever (5.0).
    pub session_expiry_s: u32,
    /// What the server publishes when this client vanishes.
    pub will: Option<Will>,
    /// How many incoming messages of QoS 1 and 2 may wait for [`acknowledge`](super::Session::acknowledge) (5.0); not 0.
    pub receive_maximum: u16,
    /// The largest packet that is accepted, in bytes. 5.0 tells the server; in both versions a larger one is an error.
    pub maximum_packet_size: u32,
    /// How many topic aliases the server may use towards us (5.0); at most [`super::ALIASES_IN_MAX`].
    pub topic_alias_maximum: u16,
    /// How many topic aliases we use towards the server, if it offers them; at most [`super::ALIASES_OUT_MAX`].
    pub topic_aliases_out: u16,
    /// PUBCOMP waits for [`complete`](super::Session::complete). Needed by whoever gives identifiers of incoming
    /// QoS 2 messages back after a restart: one that was forgotten too late would swallow the next message that bears it.
    pub hold_completion: bool,
    /// Enhanced authentication (5.0), such as [`Authentication::scram_sha_256`].
    pub authentication: Option<Authentication>,
    /// Further properties of CONNECT (5.0): user properties, request response information, request problem
    /// information. Others are refused.
    pub properties: PropertyList,
}

impl Options {
    /// What suits most: 5.0, 30 s keep-alive, no credentials, no will, a session kept for ever.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            version: Version::V5,
            client_id: client_id.into(),
            username: None,
            password: None,
            keep_alive_s: 30,
            session_expiry_s: u32::MAX,
            will: None,
            receive_maximum: 20,
            maximum_packet_size: 1 << 20,
            topic_alias_maximum: 0,
            topic_aliases_out: 16,
            hold_completion: false,
            authentication: None,
            properties: PropertyList::new(),
        }
    }
}

impl fmt::Debug for Options {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "hidden"))
            .field("keep_alive_s", &self.keep_alive_s)
            .field("session_expiry_s", &self.session_expiry_s)
            .field("will", &self.will)
            .finish_non_exhaustive()
    }
}

/// What the server publishes when this client vanishes without a DISCONNECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Topic name.
    pub topic: String,
    /// The content.
    pub payload: Vec<u8>,
    /// How firmly it is delivered.
    pub qos: QoS,
    /// The server keeps it for later subscribers.
    pub retain: bool,
    /// Seconds that the server waits before it publishes it (5.0).
    pub delay_s: u32,
    /// Further properties (5.0): content type, payload format, message expiry, user properties.
    pub properties: PropertyList,
}

/// The first step of an enhanced authentication.
#[derive(Clone, PartialEq)]
pub struct Authentication {
    /// The mechanism's name.
    pub method: String,
    /// Its first message. `None` for SCRAM-SHA-256: `net` makes it, from user name and password.
    pub data: Option<Vec<u8>>,
}

impl Authentication {
    /// By SCRAM-SHA-256, with user name and password of the [`Options`]. The password itself is not sent.
    pub fn scram_sha_256() -> Self {
        Self { method: SCRAM_SHA_256.to_owned(), data: None }
    }
}

/// What the server grants on this connection; what CONNACK does not say has its default, afresh each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many messages of QoS 1 and 2 may be in flight towards the server.
    pub receive_maximum: u16,
    /// The highest QoS that it takes. [MQTT-3.2.2-11]
    pub maximum_qos: QoS,
    /// Whether it takes retained messages. [MQTT-3.2.2-14]
    pub retain_available: bool,
    /// The largest packet that it takes, in bytes. [MQTT-3.2.2-15]
    pub maximum_packet_size: u32,
    /// How many aliases it takes. [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    pub topic_alias_maximum: u16,
    /// Whether `+` and `#` may be subscribed to.
    pub wildcard_subscriptions: bool,
    /// Whether a SUBSCRIBE may bear a subscription identifier.
    pub subscription_identifiers: bool,
    /// Whether `$share/` may be subscribed to.
    pub shared_subscriptions: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: PACKET_MAX,
            topic_alias_maximum: 0,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
        }
    }
}
