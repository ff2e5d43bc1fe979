//! The small packets: PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH.

use super::property::{Place, Property};
use super::wire::{Reader, put_id, put_packet};
use super::{DecodeError, EncodeError, PacketId, Properties, Reason, Version};

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack<'a> {
    /// Of the message that it is about. [MQTT-2.2.1-5]
    pub id: PacketId,
    /// Always success in 3.1.1.
    pub reason: Reason,
    /// Reason string and user properties (5.0).
    pub properties: Properties<'a>,
}

/// Which of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

impl AckKind {
    fn first_byte(self) -> u8 {
        match self {
            Self::Puback => 0x40,
            Self::Pubrec => 0x50,
            Self::Pubrel => 0x62, // [MQTT-3.6.1-1]
            Self::Pubcomp => 0x70,
        }
    }

    /// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    fn allows(self, reason: Reason) -> bool {
        match self {
            Self::Puback | Self::Pubrec => {
                // 0x95 is not among them, and mosquitto refuses with it what exceeds its `message_size_limit`. Were that an
                // error, the message would be sent again for ever.
                matches!(reason.code(), 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x95 | 0x97 | 0x99)
            }
            Self::Pubrel | Self::Pubcomp => matches!(reason.code(), 0x00 | 0x92),
        }
    }
}

impl<'a> Ack<'a> {
    /// Success, and nothing more.
    pub fn new(id: PacketId) -> Self {
        Self { id, reason: Reason::SUCCESS, properties: Properties::EMPTY }
    }

    /// With a reason, and nothing more.
    pub fn with_reason(id: PacketId, reason: Reason) -> Self {
        Self { id, reason, properties: Properties::EMPTY }
    }

    pub(crate) fn encode(&self, kind: AckKind, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V5 && !kind.allows(self.reason) {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, kind.first_byte(), |out| {
            put_id(out, self.id);
            put_reason(self.reason, self.properties, version, Place::Acknowledgement, out)
        })
    }

    pub(super) fn decode(kind: AckKind, mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        let (reason, properties) = read_reason(&mut reader, version, Place::Acknowledgement)?;
        if !kind.allows(reason) {
            let rule = match kind {
                AckKind::Puback => "MQTT-3.4.2-1",
                AckKind::Pubrec => "MQTT-3.5.2-1",
                AckKind::Pubrel => "MQTT-3.6.2-1",
                AckKind::Pubcomp => "MQTT-3.7.2-1",
            };
            return Err(DecodeError::malformed(rule, "an acknowledgement with a code that it cannot bear"));
        }
        Ok(Self { id, reason, properties })
    }
}

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; always success in 3.1.1.
    pub reason: Reason,
    /// Session expiry, reason string, user properties, server reference (5.0).
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V5 && !is_disconnect_reason(self.reason) {
            return Err(EncodeError::Contradiction); // [MQTT-3.14.2-1]
        }
        // The reserved bits are 0: [MQTT-3.14.1-1]
        put_packet(out, 0xE0, |out| put_reason(self.reason, self.properties, version, Place::Disconnect, out))
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let (reason, properties) = read_reason(&mut reader, version, Place::Disconnect)?;
        if !is_disconnect_reason(reason) {
            return Err(DecodeError::malformed("MQTT-3.14.2-1", "DISCONNECT with a code that it cannot bear"));
        }
        Ok(Self { reason, properties })
    }
}

fn is_disconnect_reason(reason: Reason) -> bool {
    matches!(
        reason.code(),
        0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B | 0x8D..=0x90 | 0x93..=0xA2
    )
}

/// A step of an authentication (5.0).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: Reason,
    /// Method, data, reason string, user properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V311 || !is_auth_reason(self.reason) {
            return Err(EncodeError::Contradiction); // [MQTT-3.15.2-1]
        }
        // The reserved bits are 0: [MQTT-3.15.1-1]
        put_packet(out, 0xF0, |out| put_reason(self.reason, self.properties, version, Place::Auth, out))
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        if version == Version::V311 {
            return Err(DecodeError::malformed("MQTT-2.2.2-2", "packet type 15 does not exist in 3.1.1"));
        }
        let (reason, properties) = read_reason(&mut reader, version, Place::Auth)?;
        if !is_auth_reason(reason) {
            return Err(DecodeError::malformed("MQTT-3.15.2-1", "AUTH with a code that it cannot bear"));
        }
        Ok(Self { reason, properties })
    }

    /// The name of the mechanism.
    pub fn method(&self) -> Option<&'a str> {
        self.properties.find(|property| match property {
            Property::AuthenticationMethod(method) => Some(method),
            _ => None,
        })
    }

    /// The mechanism's message.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.properties.find(|property| match property {
            Property::AuthenticationData(data) => Some(data),
            _ => None,
        })
    }
}

fn is_auth_reason(reason: Reason) -> bool {
    matches!(reason.code(), 0x00 | 0x18 | 0x19)
}

/// Reason and properties at the end of a packet: in 3.1.1 neither exists, in 5.0 both may be left out.
fn put_reason(
    reason: Reason,
    properties: Properties<'_>,
    version: Version,
    place: Place,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    if version == Version::V311 || (reason == Reason::SUCCESS && properties.is_empty()) {
        return Ok(());
    }
    out.push(reason.code());
    if properties.is_empty() { Ok(()) } else { properties.put(out, place) }
}

fn read_reason<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    place: Place,
) -> Result<(Reason, Properties<'a>), DecodeError> {
    if version == Version::V311 || reader.is_empty() {
        reader.end()?;
        return Ok((Reason::SUCCESS, Properties::EMPTY));
    }
    let reason = Reason::new(reader.u8()?);
    let properties = if reader.is_empty() { Properties::EMPTY } else { Properties::decode(reader, place)? };
    reader.end()?;
    Ok((reason, properties))
}
