//! Properties of MQTT 5.0.
//!
//! A list stays in its encoded form, checked once: decoding copies nothing, and a caller builds a list once and
//! uses it for many packets. Invariant of [`Properties`] and [`PropertyList`]: well formed, no property twice
//! unless it may be, no value that is forbidden everywhere. Whether a list suits a packet is checked where the two meet.

use super::wire::{Reader, put_binary, put_string, put_varint, remaining_length};
use super::{DecodeError, EncodeError, QoS, REMAINING_LENGTH_MAX, topic};

/// One property. [MQTT 2.2.2.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// The payload is UTF-8.
    PayloadIsText(bool),
    /// Seconds until the message is worthless.
    MessageExpiry(u32),
    /// For instance a media type.
    ContentType(&'a str),
    /// Where an answer shall be published.
    ResponseTopic(&'a str),
    /// What tells answers apart.
    CorrelationData(&'a [u8]),
    /// Which subscription it came through; not 0.
    SubscriptionIdentifier(u32),
    /// Seconds that the session outlives the connection.
    SessionExpiry(u32),
    /// The client identifier that the server chose.
    AssignedClientIdentifier(&'a str),
    /// Seconds.
    ServerKeepAlive(u16),
    /// The name of the mechanism.
    AuthenticationMethod(&'a str),
    /// The mechanism's message.
    AuthenticationData(&'a [u8]),
    /// The server may send reason strings and user properties with any packet.
    RequestProblemInformation(bool),
    /// Seconds that the server waits before it publishes the will.
    WillDelay(u32),
    /// The server may send response information.
    RequestResponseInformation(bool),
    /// Where response topics shall be.
    ResponseInformation(&'a str),
    /// Another server.
    ServerReference(&'a str),
    /// For people.
    ReasonString(&'a str),
    /// How many QoS 1 and 2 messages may be in flight; not 0.
    ReceiveMaximum(u16),
    /// The highest alias that is taken.
    TopicAliasMaximum(u16),
    /// Stands for the topic; not 0.
    TopicAlias(u16),
    /// The highest QoS that the server takes: 0 or 1.
    MaximumQos(QoS),
    /// The server keeps retained messages.
    RetainAvailable(bool),
    /// Name and value of the user's.
    User(&'a str, &'a str),
    /// Bytes; not 0.
    MaximumPacketSize(u32),
    /// The server takes `+` and `#`.
    WildcardSubscriptionAvailable(bool),
    /// The server takes subscription identifiers.
    SubscriptionIdentifierAvailable(bool),
    /// The server takes `$share`.
    SharedSubscriptionAvailable(bool),
}

/// Identifiers of those properties that other modules ask for.
pub(crate) mod id {
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 11;
    pub(crate) const SESSION_EXPIRY: u8 = 17;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 21;
    pub(crate) const AUTHENTICATION_DATA: u8 = 22;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 23;
    pub(crate) const WILL_DELAY: u8 = 24;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 25;
    pub(crate) const TOPIC_ALIAS: u8 = 35;
    pub(crate) const USER: u8 = 38;
}

/// Where a list of properties stands; says which ones may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connect,
    Will,
    Connack,
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK
    Acknowledgement,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

impl Place {
    /// The identifiers that may stand there, as bits. [MQTT 2.2.2.2, table 2-4]
    const fn allowed(self) -> u64 {
        match self {
            Self::Connect => bits(&[17, 21, 22, 23, 25, 33, 34, 38, 39]),
            Self::Will => bits(&[1, 2, 3, 8, 9, 24, 38]),
            Self::Connack => bits(&[17, 18, 19, 21, 22, 26, 28, 31, 33, 34, 36, 37, 38, 39, 40, 41, 42]),
            Self::Publish => bits(&[1, 2, 3, 8, 9, 11, 35, 38]),
            Self::Acknowledgement => bits(&[31, 38]),
            Self::Subscribe => bits(&[11, 38]),
            Self::Unsubscribe => bits(&[38]),
            Self::Disconnect => bits(&[17, 28, 31, 38]),
            Self::Auth => bits(&[21, 22, 31, 38]),
        }
    }
}

/// Identifiers as a set.
pub(crate) const fn bits(mut ids: &[u8]) -> u64 {
    let mut set = 0;
    while let [id, rest @ ..] = ids {
        set |= 1 << *id;
        ids = rest;
    }
    set
}

/// A checked list of properties, borrowed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
    present: u64,
}

impl<'a> Properties<'a> {
    /// None.
    pub const EMPTY: Self = Self { bytes: &[], present: 0 };

    /// Bytes that were checked before, with the set that came out of it.
    pub(crate) fn checked(bytes: &'a [u8], present: u64) -> Self {
        Self { bytes, present }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// In the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || if reader.is_empty() { None } else { read(&mut reader).ok() })
    }

    /// The first one for which `pick` gives something.
    pub fn find<T>(&self, pick: impl FnMut(Property<'a>) -> Option<T>) -> Option<T> {
        if self.is_empty() { None } else { self.iter().find_map(pick) }
    }

    /// The reason string.
    pub fn reason_string(&self) -> Option<&'a str> {
        self.find(|property| if let Property::ReasonString(text) = property { Some(text) } else { None })
    }

    /// The topic for an answer.
    pub fn response_topic(&self) -> Option<&'a str> {
        self.find(|property| if let Property::ResponseTopic(topic) = property { Some(topic) } else { None })
    }

    /// What tells answers apart.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.find(|property| if let Property::CorrelationData(data) = property { Some(data) } else { None })
    }

    /// Seconds until the message is worthless.
    pub fn message_expiry(&self) -> Option<u32> {
        self.find(|property| if let Property::MessageExpiry(seconds) = property { Some(seconds) } else { None })
    }

    /// Another server.
    pub fn server_reference(&self) -> Option<&'a str> {
        self.find(|property| if let Property::ServerReference(server) = property { Some(server) } else { None })
    }

    /// As on the wire, without the length.
    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn present(&self) -> u64 {
        self.present
    }

    pub(super) fn suits(&self, place: Place) -> Result<(), EncodeError> {
        match self.present & !place.allowed() {
            0 => Ok(()),
            foreign => Err(EncodeError::Property(u8::try_from(foreign.trailing_zeros()).unwrap_or(u8::MAX))),
        }
    }

    /// Appends length and list; without properties a length of 0. [MQTT-2.2.2-1]
    pub(super) fn put(&self, out: &mut Vec<u8>, place: Place) -> Result<(), EncodeError> {
        self.suits(place)?;
        put_varint(out, remaining_length(self.bytes.len())?);
        out.extend_from_slice(self.bytes);
        Ok(())
    }

    /// Reads length and list and checks all of it.
    pub(super) fn decode(reader: &mut Reader<'a>, place: Place) -> Result<Self, DecodeError> {
        let length = reader.varint()?;
        let bytes = reader.take(length as usize)?;
        if bytes.is_empty() {
            return Ok(Self::EMPTY);
        }
        let mut list = Reader::new(bytes);
        let mut present = 0u64;
        while !list.is_empty() {
            let property = read(&mut list)?;
            let bit = 1 << property.id();
            if place.allowed() & bit == 0 {
                return Err(DecodeError::malformed("MQTT 2.2.2.2", "a property does not belong into this packet"));
            }
            if present & bit != 0 && !property.may_repeat(place) {
                return Err(DecodeError::protocol("MQTT 2.2.2.2", "a property stands twice"));
            }
            property.check()?;
            present |= bit;
        }
        if present & (1 << id::AUTHENTICATION_DATA) != 0 && present & (1 << id::AUTHENTICATION_METHOD) == 0 {
            return Err(DecodeError::protocol("MQTT 3.1.2.11.10", "authentication data without a method"));
        }
        Ok(Self { bytes, present })
    }
}

impl std::fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A list of properties, owned: built once, used for many packets, reused with [`PropertyList::clear`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyList {
    bytes: Vec<u8>,
    present: u64,
}

impl PropertyList {
    /// None.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), present: 0 }
    }

    /// Appends one. On an error nothing is appended.
    pub fn push(&mut self, property: Property<'_>) -> Result<(), EncodeError> {
        let bit = 1u64 << property.id();
        // A subscription identifier may stand several times in a PUBLISH of a server, and nowhere else.
        let twice = self.present & bit != 0 && !property.may_repeat(Place::Publish);
        if twice || property.check().is_err() {
            return Err(EncodeError::Property(property.id()));
        }
        let start = self.bytes.len();
        match write(property, &mut self.bytes) {
            Ok(()) => {
                self.present |= bit;
                Ok(())
            }
            Err(error) => {
                self.bytes.truncate(start);
                Err(error)
            }
        }
    }

    /// The same list with one more.
    pub fn with(mut self, property: Property<'_>) -> Result<Self, EncodeError> {
        self.push(property)?;
        Ok(self)
    }

    /// Appends all of another list.
    pub(crate) fn extend(&mut self, other: Properties<'_>) -> Result<(), EncodeError> {
        other.iter().try_for_each(|property| self.push(property))
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.present = 0;
    }

    /// To put into a packet.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes, present: self.present }
    }
}

impl Property<'_> {
    /// The number on the wire.
    pub fn id(&self) -> u8 {
        match self {
            Self::PayloadIsText(_) => 1,
            Self::MessageExpiry(_) => 2,
            Self::ContentType(_) => 3,
            Self::ResponseTopic(_) => 8,
            Self::CorrelationData(_) => 9,
            Self::SubscriptionIdentifier(_) => id::SUBSCRIPTION_IDENTIFIER,
            Self::SessionExpiry(_) => id::SESSION_EXPIRY,
            Self::AssignedClientIdentifier(_) => 18,
            Self::ServerKeepAlive(_) => 19,
            Self::AuthenticationMethod(_) => id::AUTHENTICATION_METHOD,
            Self::AuthenticationData(_) => id::AUTHENTICATION_DATA,
            Self::RequestProblemInformation(_) => id::REQUEST_PROBLEM_INFORMATION,
            Self::WillDelay(_) => id::WILL_DELAY,
            Self::RequestResponseInformation(_) => id::REQUEST_RESPONSE_INFORMATION,
            Self::ResponseInformation(_) => 26,
            Self::ServerReference(_) => 28,
            Self::ReasonString(_) => 31,
            Self::ReceiveMaximum(_) => 33,
            Self::TopicAliasMaximum(_) => 34,
            Self::TopicAlias(_) => id::TOPIC_ALIAS,
            Self::MaximumQos(_) => 36,
            Self::RetainAvailable(_) => 37,
            Self::User(..) => id::USER,
            Self::MaximumPacketSize(_) => 39,
            Self::WildcardSubscriptionAvailable(_) => 40,
            Self::SubscriptionIdentifierAvailable(_) => 41,
            Self::SharedSubscriptionAvailable(_) => 42,
        }
    }

    fn may_repeat(&self, place: Place) -> bool {
        match self {
            Self::User(..) => true,
            Self::SubscriptionIdentifier(_) => place == Place::Publish,
            _ => false,
        }
    }

    /// Values that are forbidden wherever the property stands.
    fn check(&self) -> Result<(), DecodeError> {
        match *self {
            Self::SubscriptionIdentifier(0) => {
                Err(DecodeError::protocol("MQTT 3.8.2.1.2", "subscription identifier 0"))
            }
            Self::SubscriptionIdentifier(value) if value > REMAINING_LENGTH_MAX => {
                Err(DecodeError::protocol("MQTT 3.8.2.1.2", "subscription identifier above 268,435,455"))
            }
            Self::ReceiveMaximum(0) => Err(DecodeError::protocol("MQTT 3.2.2.3.3", "receive maximum 0")),
            Self::MaximumPacketSize(0) => Err(DecodeError::protocol("MQTT 3.2.2.3.6", "maximum packet size 0")),
            Self::TopicAlias(0) => Err(DecodeError {
                reason: super::Reason::TOPIC_ALIAS_INVALID,
                ..DecodeError::protocol("MQTT-3.3.2-8", "topic alias 0")
            }),
            Self::MaximumQos(QoS::ExactlyOnce) => {
                Err(DecodeError::protocol("MQTT 3.2.2.3.4", "maximum QoS is neither 0 nor 1"))
            }
            Self::ResponseTopic(name) if !topic::is_valid_name(name) => {
                Err(DecodeError::protocol("MQTT-3.3.2-14", "the response topic is no topic name"))
            }
            _ => Ok(()),
        }
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Result<Property<'a>, DecodeError> {
    // The identifier is a variable byte integer; all that are defined take one byte.
    Ok(match reader.varint()? {
        1 => Property::PayloadIsText(boolean(reader)?),
        2 => Property::MessageExpiry(reader.u32()?),
        3 => Property::ContentType(reader.string()?),
        8 => Property::ResponseTopic(reader.string()?),
        9 => Property::CorrelationData(reader.binary()?),
        11 => Property::SubscriptionIdentifier(reader.varint()?),
        17 => Property::SessionExpiry(reader.u32()?),
        18 => Property::AssignedClientIdentifier(reader.string()?),
        19 => Property::ServerKeepAlive(reader.u16()?),
        21 => Property::AuthenticationMethod(reader.string()?),
        22 => Property::AuthenticationData(reader.binary()?),
        23 => Property::RequestProblemInformation(boolean(reader)?),
        24 => Property::WillDelay(reader.u32()?),
        25 => Property::RequestResponseInformation(boolean(reader)?),
        26 => Property::ResponseInformation(reader.string()?),
        28 => Property::ServerReference(reader.string()?),
        31 => Property::ReasonString(reader.string()?),
        33 => Property::ReceiveMaximum(reader.u16()?),
        34 => Property::TopicAliasMaximum(reader.u16()?),
        35 => Property::TopicAlias(reader.u16()?),
        36 => Property::MaximumQos(
            QoS::from_bits(reader.u8()?)
                .ok_or(DecodeError::protocol("MQTT 3.2.2.3.4", "maximum QoS is neither 0 nor 1"))?,
        ),
        37 => Property::RetainAvailable(boolean(reader)?),
        38 => Property::User(reader.string()?, reader.string()?), // [MQTT-1.5.7-1]
        39 => Property::MaximumPacketSize(reader.u32()?),
        40 => Property::WildcardSubscriptionAvailable(boolean(reader)?),
        41 => Property::SubscriptionIdentifierAvailable(boolean(reader)?),
        42 => Property::SharedSubscriptionAvailable(boolean(reader)?),
        _ => return Err(DecodeError::malformed("MQTT 2.2.2.2", "unknown property")),
    })
}

fn write(property: Property<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.push(property.id());
    match property {
        Property::PayloadIsText(value)
        | Property::RequestProblemInformation(value)
        | Property::RequestResponseInformation(value)
        | Property::RetainAvailable(value)
        | Property::WildcardSubscriptionAvailable(value)
        | Property::SubscriptionIdentifierAvailable(value)
        | Property::SharedSubscriptionAvailable(value) => out.push(u8::from(value)),
        Property::MaximumQos(qos) => out.push(qos.bits()),
        Property::ServerKeepAlive(value)
        | Property::ReceiveMaximum(value)
        | Property::TopicAliasMaximum(value)
        | Property::TopicAlias(value) => out.extend_from_slice(&value.to_be_bytes()),
        Property::MessageExpiry(value)
        | Property::SessionExpiry(value)
        | Property::WillDelay(value)
        | Property::MaximumPacketSize(value) => out.extend_from_slice(&value.to_be_bytes()),
        Property::SubscriptionIdentifier(value) => put_varint(out, value),
        Property::CorrelationData(data) | Property::AuthenticationData(data) => put_binary(out, data)?,
        Property::ContentType(text)
        | Property::ResponseTopic(text)
        | Property::AssignedClientIdentifier(text)
        | Property::AuthenticationMethod(text)
        | Property::ResponseInformation(text)
        | Property::ServerReference(text)
        | Property::ReasonString(text) => put_string(out, text)?,
        Property::User(name, value) => {
            put_string(out, name)?;
            put_string(out, value)?;
        }
    }
    Ok(())
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("MQTT 2.2.2.2", "a flag is neither 0 nor 1")),
    }
}
