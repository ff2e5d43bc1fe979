//! The packets of MQTT 3.1.1 and 5.0: a strict decoder that borrows, an encoder that appends.
//!
//! Owns the wire format. Invariants: decoding never allocates, so a claimed length costs nothing; what decodes is
//! valid by itself (flags, UTF-8, property rules, reason codes, identifiers), so that a session only judges whether
//! a packet fits its state; what was encoded from a valid packet decodes to the same packet.

mod connect;
mod control;
mod error;
pub(crate) mod property;
mod publish;
mod reason;
mod subscribe;
pub mod topic;
mod wire;

#[cfg(test)]
mod tests;

pub use connect::{Connack, Connect, LastWill};
pub use control::{Ack, Auth, Disconnect};
pub use error::{DecodeError, EncodeError};
pub use property::{Properties, Property, PropertyList};
pub use publish::Publish;
pub use reason::Reason;
pub use subscribe::{
    Filter, FilterList, Filters, Reasons, RetainHandling, Suback, Subscribe, Topics, Unsuback, Unsubscribe,
};

use std::fmt;
use std::num::NonZeroU16;

pub(crate) use control::AckKind;
use wire::Reader;

/// The largest packet that the format can express, header included: 1 + 4 + 268,435,455 bytes.
pub const PACKET_MAX: u32 = 1 + 4 + REMAINING_LENGTH_MAX;

/// The largest value of a variable byte integer.
const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// How firmly a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0: sent once, not acknowledged.
    AtMostOnce,
    /// QoS 1: sent until acknowledged.
    AtLeastOnce,
    /// QoS 2: handed over exactly once, as long as both sides keep the session.
    ExactlyOnce,
}

impl QoS {
    /// From the two bits on the wire; 3 means nothing.
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// As the two bits on the wire.
    pub fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }
}

impl fmt::Display for QoS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QoS {}", self.bits())
    }
}

/// A packet identifier: never zero. [MQTT-2.2.1-3]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// `None` for zero.
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(value: NonZeroU16) -> Self {
        Self(value)
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Any packet, borrowing from the bytes that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Packet<'a> {
    /// A client asks for a connection.
    Connect(Connect<'a>),
    /// The server's answer to CONNECT.
    Connack(Connack<'a>),
    /// A message, either way.
    Publish(Publish<'a>),
    /// Answer to a QoS 1 PUBLISH.
    Puback(Ack<'a>),
    /// First answer to a QoS 2 PUBLISH: received.
    Pubrec(Ack<'a>),
    /// Answer to PUBREC: the identifier may be released.
    Pubrel(Ack<'a>),
    /// Answer to PUBREL: complete.
    Pubcomp(Ack<'a>),
    /// A client asks for messages.
    Subscribe(Subscribe<'a>),
    /// Answer to SUBSCRIBE.
    Suback(Suback<'a>),
    /// A client wants no more messages.
    Unsubscribe(Unsubscribe<'a>),
    /// Answer to UNSUBSCRIBE.
    Unsuback(Unsuback<'a>),
    /// A client asks for a sign of life.
    Pingreq,
    /// Answer to PINGREQ.
    Pingresp,
    /// The last packet of a connection.
    Disconnect(Disconnect<'a>),
    /// A step of an authentication (5.0).
    Auth(Auth<'a>),
}

/// Length of the packet at the front of `bytes`, header included, as soon as the header says it: `None` when bytes
/// of the header are missing. The first byte and the limit are judged at once, before anything is waited for.
pub fn frame_len(bytes: &[u8], version: Version, maximum_packet_size: u32) -> Result<Option<usize>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    check_first_byte(first, version)?;
    let Some((remaining, count)) = wire::varint(rest)? else { return Ok(None) };
    let length = 1 + u32::try_from(count).unwrap_or(4) + remaining;
    if length > maximum_packet_size {
        // [MQTT-3.1.2-24]
        let error = DecodeError::protocol("MQTT-3.1.2-24", "the packet is larger than was allowed");
        return Err(DecodeError { reason: Reason::PACKET_TOO_LARGE, ..error });
    }
    Ok(Some(length as usize))
}

/// The packet at the front of `bytes` and how many bytes it takes; `None` when bytes are missing. A CONNECT says
/// itself which version it is of; for everything else `version` counts.
pub fn decode(
    bytes: &[u8],
    version: Version,
    maximum_packet_size: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(length) = frame_len(bytes, version, maximum_packet_size)? else { return Ok(None) };
    let Some(frame) = bytes.get(..length) else { return Ok(None) };
    let mut reader = Reader::new(frame);
    let first = reader.u8()?;
    reader.varint()?;
    let packet = decode_body(first, reader, version)?;
    Ok(Some((packet, length)))
}

/// Types exist from 1 to 15 (3.1.1: to 14), and the lower four bits are fixed but for PUBLISH. [MQTT-2.1.3-1]
fn check_first_byte(first: u8, version: Version) -> Result<(), DecodeError> {
    let flags = first & 0x0F;
    match first >> 4 {
        0 => Err(DecodeError::malformed("MQTT 2.1.2", "packet type 0 does not exist")),
        15 if version == Version::V311 => {
            Err(DecodeError::malformed("MQTT 2.1.2", "packet type 15 does not exist in 3.1.1"))
        }
        3 if flags & 0x06 == 0x06 => Err(DecodeError::malformed("MQTT-3.3.1-4", "both QoS bits of a PUBLISH are set")),
        3 => Ok(()),
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE: [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
        6 | 8 | 10 if flags == 2 => Ok(()),
        1 | 2 | 4 | 5 | 7 | 9 | 11..=15 if flags == 0 => Ok(()),
        // 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2]
        _ => Err(DecodeError::malformed("MQTT-2.1.3-1", "reserved flags have another value")),
    }
}

fn decode_body(first: u8, reader: Reader<'_>, version: Version) -> Result<Packet<'_>, DecodeError> {
    Ok(match first >> 4 {
        1 => Packet::Connect(Connect::decode(reader)?),
        2 => Packet::Connack(Connack::decode(reader, version)?),
        3 => Packet::Publish(Publish::decode(first & 0x0F, reader, version)?),
        4 => Packet::Puback(Ack::decode(AckKind::Puback, reader, version)?),
        5 => Packet::Pubrec(Ack::decode(AckKind::Pubrec, reader, version)?),
        6 => Packet::Pubrel(Ack::decode(AckKind::Pubrel, reader, version)?),
        7 => Packet::Pubcomp(Ack::decode(AckKind::Pubcomp, reader, version)?),
        8 => Packet::Subscribe(Subscribe::decode(reader, version)?),
        9 => Packet::Suback(Suback::decode(reader, version)?),
        10 => Packet::Unsubscribe(Unsubscribe::decode(reader, version)?),
        11 => Packet::Unsuback(Unsuback::decode(reader, version)?),
        12 => {
            reader.end()?;
            Packet::Pingreq
        }
        13 => {
            reader.end()?;
            Packet::Pingresp
        }
        14 => Packet::Disconnect(Disconnect::decode(reader, version)?),
        15 => Packet::Auth(Auth::decode(reader, version)?),
        _ => return Err(DecodeError::malformed("MQTT 2.1.2", "packet type 0 does not exist")),
    })
}

impl Packet<'_> {
    /// Appends it. On an error nothing is appended. A CONNECT has its own version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::Connack(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::Puback(packet) => packet.encode(AckKind::Puback, version, out),
            Self::Pubrec(packet) => packet.encode(AckKind::Pubrec, version, out),
            Self::Pubrel(packet) => packet.encode(AckKind::Pubrel, version, out),
            Self::Pubcomp(packet) => packet.encode(AckKind::Pubcomp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::Suback(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::Unsuback(packet) => packet.encode(version, out),
            Self::Pingreq => wire::put_packet(out, 0xC0, |_| Ok(())),
            Self::Pingresp => wire::put_packet(out, 0xD0, |_| Ok(())),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}
