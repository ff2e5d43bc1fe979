//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use super::property::Place;
use super::wire::{Reader, put_id, put_packet, put_string};
use super::{DecodeError, EncodeError, PacketId, Properties, QoS, Reason, Version, topic};

/// What a subscription wants of retained messages (5.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// Send them now.
    #[default]
    Send,
    /// Send them now if the subscription is new.
    SendIfNew,
    /// Do not send them.
    DoNotSend,
}

/// One topic filter of a SUBSCRIBE with its options; 3.1.1 knows only the QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter<'a> {
    /// The topic filter.
    pub filter: &'a str,
    /// The highest QoS at which the server may deliver.
    pub qos: QoS,
    /// Not what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as the message had it.
    pub retain_as_published: bool,
    /// What becomes of retained messages.
    pub retain_handling: RetainHandling,
}

impl<'a> Filter<'a> {
    /// With all options at their defaults.
    pub fn new(filter: &'a str, qos: QoS) -> Self {
        Self { filter, qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
    }

    fn options(&self, version: Version) -> u8 {
        if version == Version::V311 {
            return self.qos.bits();
        }
        let handling = match self.retain_handling {
            RetainHandling::Send => 0,
            RetainHandling::SendIfNew => 0x10,
            RetainHandling::DoNotSend => 0x20,
        };
        self.qos.bits() | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | handling
    }

    fn check(&self) -> Result<(), DecodeError> {
        check_filter(self.filter)?;
        if self.no_local && topic::is_shared(self.filter) {
            return Err(DecodeError::protocol("MQTT-3.8.3-4", "No Local on a shared subscription"));
        }
        Ok(())
    }
}

fn check_filter(filter: &str) -> Result<(), DecodeError> {
    if topic::is_valid_filter(filter) {
        Ok(())
    } else {
        Err(DecodeError {
            reason: Reason::TOPIC_FILTER_INVALID,
            ..DecodeError::malformed("MQTT-4.7.1-1", "not a topic filter")
        })
    }
}

/// The checked filters of a SUBSCRIBE, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Filters<'a> {
    bytes: &'a [u8],
}

impl<'a> Filters<'a> {
    /// In the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Filter<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || if reader.is_empty() { None } else { read_filter(&mut reader, Version::V5).ok() })
    }

    /// There is none: not valid in a packet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl std::fmt::Debug for Filters<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Filters of a SUBSCRIBE, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterList {
    bytes: Vec<u8>,
}

impl FilterList {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one.
    pub fn push(&mut self, filter: &Filter<'_>) -> Result<(), EncodeError> {
        filter.check().map_err(|_| EncodeError::Contradiction)?;
        put_string(&mut self.bytes, filter.filter)?;
        self.bytes.push(filter.options(Version::V5));
        Ok(())
    }

    /// To put into a packet.
    pub fn as_filters(&self) -> Filters<'_> {
        Filters { bytes: &self.bytes }
    }
}

fn read_filter<'a>(reader: &mut Reader<'a>, version: Version) -> Result<Filter<'a>, DecodeError> {
    let filter = reader.string()?;
    let options = reader.u8()?;
    let reserved = if version == Version::V311 { 0xFC } else { 0xC0 };
    if options & reserved != 0 {
        return Err(DecodeError::malformed("MQTT-3.8.3-5", "reserved bits of subscription options are set"));
    }
    let qos = QoS::from_bits(options & 3).ok_or(DecodeError::protocol("MQTT 3.8.3.1", "a subscription with QoS 3"))?;
    let retain_handling = match options >> 4 & 3 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(DecodeError::protocol("MQTT 3.8.3.1", "retain handling 3")),
    };
    let filter =
        Filter { filter, qos, no_local: options & 4 != 0, retain_as_published: options & 8 != 0, retain_handling };
    filter.check()?;
    Ok(filter)
}

/// A client asks for messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subscribe<'a> {
    /// Comes back in SUBACK.
    pub id: PacketId,
    /// Subscription identifier, user properties (5.0).
    pub properties: Properties<'a>,
    /// At least one. [MQTT-3.8.3-2]
    pub filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.is_empty() {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0x82, |out| {
            // 0x82: [MQTT-3.8.1-1]
            put_id(out, self.id);
            if version == Version::V5 {
                self.properties.put(out, Place::Subscribe)?;
            }
            self.filters.iter().try_for_each(|filter| {
                put_string(out, filter.filter)?; // [MQTT-3.8.3-1]
                out.push(filter.options(version));
                Ok(())
            })
        })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Subscribe)?,
        };
        let bytes = reader.rest();
        let mut list = Reader::new(bytes);
        if list.is_empty() {
            return Err(DecodeError::protocol("MQTT-3.8.3-2", "SUBSCRIBE without a filter"));
        }
        while !list.is_empty() {
            read_filter(&mut list, version)?;
        }
        Ok(Self { id, properties, filters: Filters { bytes } })
    }
}

/// The checked filters of an UNSUBSCRIBE, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Topics<'a> {
    bytes: &'a [u8],
}

impl<'a> Topics<'a> {
    /// Appends filters to `buffer` and borrows them from there.
    pub fn build(filters: &[&str], buffer: &'a mut Vec<u8>) -> Result<Self, EncodeError> {
        for filter in filters {
            check_filter(filter).map_err(|_| EncodeError::Contradiction)?;
            put_string(buffer, filter)?;
        }
        Ok(Self { bytes: buffer })
    }

    /// In the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || if reader.is_empty() { None } else { reader.string().ok() })
    }
}

impl std::fmt::Debug for Topics<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A client wants no more messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Comes back in UNSUBACK.
    pub id: PacketId,
    /// User properties (5.0).
    pub properties: Properties<'a>,
    /// At least one. [MQTT-3.10.3-2]
    pub filters: Topics<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.filters.bytes.is_empty() {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0xA2, |out| {
            // 0xA2: [MQTT-3.10.1-1]
            put_id(out, self.id);
            if version == Version::V5 {
                self.properties.put(out, Place::Unsubscribe)?;
            }
            out.extend_from_slice(self.filters.bytes); // [MQTT-3.10.3-1]
            Ok(())
        })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Unsubscribe)?,
        };
        let bytes = reader.rest();
        let mut list = Reader::new(bytes);
        if list.is_empty() {
            return Err(DecodeError::protocol("MQTT-3.10.3-2", "UNSUBSCRIBE without a filter"));
        }
        while !list.is_empty() {
            check_filter(list.string()?)?;
        }
        Ok(Self { id, properties, filters: Topics { bytes } })
    }
}

/// Reason codes, one byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasons<'a>(pub(crate) &'a [u8]);

impl<'a> Reasons<'a> {
    /// Codes as they stand on the wire; whether they suit is checked by `encode`.
    pub fn new(codes: &'a [u8]) -> Self {
        Self(codes)
    }

    /// In the order of the filters.
    pub fn iter(&self) -> impl Iterator<Item = Reason> + use<'a> {
        self.0.iter().map(|&code| Reason::new(code))
    }
}

/// Answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suback<'a> {
    /// Of the SUBSCRIBE.
    pub id: PacketId,
    /// Reason string, user properties (5.0).
    pub properties: Properties<'a>,
    /// One for each filter.
    pub reasons: Reasons<'a>,
}

fn is_suback_reason(reason: Reason, version: Version) -> bool {
    match version {
        Version::V311 => matches!(reason.code(), 0..=2 | 0x80), // 3.1.1 [MQTT-3.9.3-2]
        Version::V5 => {
            matches!(reason.code(), 0..=2 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
        }
    }
}

impl<'a> Suback<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut reasons = self.reasons.iter();
        if self.reasons.0.is_empty() || !reasons.all(|reason| is_suback_reason(reason, version)) {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0x90, |out| {
            put_id(out, self.id);
            if version == Version::V5 {
                self.properties.put(out, Place::Acknowledgement)?;
            }
            out.extend_from_slice(self.reasons.0);
            Ok(())
        })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Acknowledgement)?,
        };
        let reasons = Reasons(reader.rest());
        if reasons.0.is_empty() {
            return Err(DecodeError::malformed("MQTT-3.9.3-1", "SUBACK without a code"));
        }
        if !reasons.iter().all(|reason| is_suback_reason(reason, version)) {
            return Err(DecodeError::malformed("MQTT-3.9.3-2", "SUBACK with a code that it cannot bear"));
        }
        Ok(Self { id, properties, reasons })
    }
}

/// Answer to UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unsuback<'a> {
    /// Of the UNSUBSCRIBE.
    pub id: PacketId,
    /// Reason string, user properties (5.0).
    pub properties: Properties<'a>,
    /// One for each filter (5.0); none in 3.1.1.
    pub reasons: Reasons<'a>,
}

fn is_unsuback_reason(reason: Reason) -> bool {
    matches!(reason.code(), 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91)
}

impl<'a> Unsuback<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if version == Version::V5 && (self.reasons.0.is_empty() || !self.reasons.iter().all(is_unsuback_reason)) {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0xB0, |out| {
            put_id(out, self.id);
            if version == Version::V5 {
                self.properties.put(out, Place::Acknowledgement)?;
                out.extend_from_slice(self.reasons.0);
            }
            Ok(())
        })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        if version == Version::V311 {
            reader.end()?;
            return Ok(Self { id, properties: Properties::EMPTY, reasons: Reasons(&[]) });
        }
        let properties = Properties::decode(&mut reader, Place::Acknowledgement)?;
        let reasons = Reasons(reader.rest());
        if reasons.0.is_empty() {
            return Err(DecodeError::malformed("MQTT-3.11.3-1", "UNSUBACK without a code"));
        }
        if !reasons.iter().all(is_unsuback_reason) {
            return Err(DecodeError::malformed("MQTT-3.11.3-2", "UNSUBACK with a code that it cannot bear"));
        }
        Ok(Self { id, properties, reasons })
    }
}
