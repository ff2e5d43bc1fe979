//! PUBLISH: the only packet that there are many of, so its length is known beforehand and each byte is written once.

use super::property::Place;
use super::wire::{Reader, put_binary, put_id, put_varint, remaining_length, varint_len};
use super::{DecodeError, EncodeError, PacketId, Properties, QoS, Version, topic};

/// A message on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Publish<'a> {
    /// It may have been sent before. [MQTT-3.3.1-1]
    pub dup: bool,
    /// How firmly it is delivered.
    pub qos: QoS,
    /// The server keeps it for later subscribers.
    pub retain: bool,
    /// Topic name; empty only where a topic alias stands for it.
    pub topic: &'a str,
    /// Present exactly at QoS 1 and 2. [MQTT-2.2.1-2] [MQTT-2.2.1-3]
    pub id: Option<PacketId>,
    /// Properties; 3.1.1 has none and drops them.
    pub properties: Properties<'a>,
    /// The content.
    pub payload: &'a [u8],
}

/// Bytes of a topic alias property.
const ALIAS_LEN: usize = 3;

impl<'a> Publish<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.check(version)?;
        // The message may bear its own alias (a decoded packet does); the session's comes by `encode_checked`.
        let has_alias = self.properties.present() & (1 << super::property::id::TOPIC_ALIAS) != 0;
        if self.topic.is_empty() && !(version == Version::V5 && has_alias) {
            return Err(EncodeError::Contradiction);
        }
        self.put(version, self.topic, None, out)
    }

    /// Appends a message that [`Publish::check`] has passed, with an alias of the session's: beside the topic the first
    /// time, instead of it later.
    pub(crate) fn encode_checked(
        &self,
        version: Version,
        alias: Option<(u16, bool)>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match alias {
            Some((alias, true)) => self.put(version, "", Some(alias), out),
            Some((alias, false)) => self.put(version, self.topic, Some(alias), out),
            None => self.put(version, self.topic, None, out),
        }
    }

    /// Bytes of the packet, with the topic written out and no alias of the session's.
    pub(crate) fn encoded_len(&self, version: Version) -> Result<u32, EncodeError> {
        let length = self.length(version, self.topic, None)?;
        Ok(1 + u32::try_from(varint_len(length)).unwrap_or(4) + length)
    }

    /// What can be wrong with it before it is known how its topic is written.
    pub(crate) fn check(&self, version: Version) -> Result<(), EncodeError> {
        // [MQTT-2.2.1-2] [MQTT-3.3.1-2]; 3.1.1: [MQTT-2.3.1-5]
        if self.id.is_some() == (self.qos == QoS::AtMostOnce) || (self.dup && self.qos == QoS::AtMostOnce) {
            return Err(EncodeError::Contradiction);
        }
        if self.topic.len() > topic::TOPIC_MAX {
            return Err(EncodeError::FieldTooLong);
        }
        if version == Version::V5 {
            self.properties.suits(Place::Publish)?;
        }
        if self.topic.is_empty() || topic::is_valid_name(self.topic) { Ok(()) } else { Err(EncodeError::Contradiction) }
    }

    fn length(&self, version: Version, topic: &str, alias: Option<u16>) -> Result<u32, EncodeError> {
        let id = if self.id.is_some() { 2 } else { 0 };
        let properties = match version {
            Version::V311 => 0,
            Version::V5 => {
                let length = self.property_len(alias);
                varint_len(remaining_length(length)?) + length
            }
        };
        remaining_length(2 + topic.len() + id + properties + self.payload.len())
    }

    fn property_len(&self, alias: Option<u16>) -> usize {
        self.properties.as_bytes().len() + if alias.is_some() { ALIAS_LEN } else { 0 }
    }

    fn put(&self, version: Version, topic: &str, alias: Option<u16>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = self.length(version, topic, alias)?;
        out.push(0x30 | u8::from(self.dup) << 3 | self.qos.bits() << 1 | u8::from(self.retain));
        put_varint(out, length);
        put_binary(out, topic.as_bytes())?;
        if let Some(id) = self.id {
            put_id(out, id);
        }
        if version == Version::V5 {
            put_varint(out, remaining_length(self.property_len(alias))?);
            if let Some(alias) = alias {
                out.push(super::property::id::TOPIC_ALIAS);
                out.extend_from_slice(&alias.to_be_bytes());
            }
            out.extend_from_slice(self.properties.as_bytes());
        }
        out.extend_from_slice(self.payload);
        Ok(())
    }

    pub(super) fn decode(flags: u8, mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let qos = QoS::from_bits(flags >> 1 & 3)
            .ok_or(DecodeError::malformed("MQTT-3.3.1-4", "both QoS bits of a PUBLISH are set"))?;
        let dup = flags & 8 != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("MQTT-3.3.1-2", "DUP at QoS 0"));
        }
        let name = reader.string()?;
        let id = if qos == QoS::AtMostOnce { None } else { Some(reader.id()?) };
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Publish)?,
        };
        if name.is_empty() {
            if properties.present() & (1 << super::property::id::TOPIC_ALIAS) == 0 {
                return Err(DecodeError::protocol("MQTT-4.7.3-1", "neither topic nor topic alias"));
            }
        } else if !topic::is_valid_name(name) {
            return Err(DecodeError {
                reason: super::Reason::TOPIC_NAME_INVALID,
                ..DecodeError::malformed("MQTT-3.3.2-2", "a wildcard in a topic name")
            });
        }
        Ok(Self { dup, qos, retain: flags & 1 != 0, topic: name, id, properties, payload: reader.rest() })
    }
}
