//! CONNECT and CONNACK.

use super::property::Place;
use super::wire::{Reader, put_binary, put_packet, put_string};
use super::{DecodeError, EncodeError, Properties, QoS, Reason, Version, topic};

/// A client asks for a connection.
#[derive(Clone, Copy, PartialEq)]
pub struct Connect<'a> {
    /// The version that it speaks from here on.
    pub version: Version,
    /// Begin anew; 3.1.1: clean session.
    pub clean_start: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// Client identifier; may be empty.
    pub client_id: &'a str,
    /// What the server publishes when the client vanishes.
    pub will: Option<LastWill<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Properties (5.0).
    pub properties: Properties<'a>,
}

/// The will inside a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastWill<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// The content.
    pub payload: &'a [u8],
    /// How firmly it is delivered.
    pub qos: QoS,
    /// The server keeps it for later subscribers.
    pub retain: bool,
    /// Properties (5.0).
    pub properties: Properties<'a>,
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Connack<'a> {
    /// The server has state of an earlier connection.
    pub session_present: bool,
    /// Success or why not; 3.1.1's return codes are mapped.
    pub reason: Reason,
    /// Properties (5.0).
    pub properties: Properties<'a>,
    /// The form of 3.1.1: two bytes and no properties. Servers that know no 5.0 answer so to a 5.0 CONNECT.
    pub in_v311: bool,
}

impl std::fmt::Debug for Connect<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive_s", &self.keep_alive_s)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "hidden"))
            .finish_non_exhaustive()
    }
}

const FLAG_CLEAN: u8 = 0x02;
const FLAG_WILL: u8 = 0x04;
const FLAG_WILL_RETAIN: u8 = 0x20;
const FLAG_PASSWORD: u8 = 0x40;
const FLAG_USERNAME: u8 = 0x80;

impl<'a> Connect<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        // 3.1.1 [MQTT-3.1.2-22]: no password without a user name; 5.0 allows it.
        if self.version == Version::V311 && self.password.is_some() && self.username.is_none() {
            return Err(EncodeError::Contradiction);
        }
        // 3.1.1 [MQTT-3.1.3-7]: an empty identifier only with a clean session.
        if self.version == Version::V311 && self.client_id.is_empty() && !self.clean_start {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0x10, |out| {
            put_string(out, "MQTT")?; // [MQTT-3.1.2-1]
            out.push(if self.version == Version::V311 { 4 } else { 5 });
            out.push(self.flags()); // bit 0 is 0: [MQTT-3.1.2-3]
            out.extend_from_slice(&self.keep_alive_s.to_be_bytes());
            if self.version == Version::V5 {
                self.properties.put(out, Place::Connect)?;
            }
            // The payload in this order: [MQTT-3.1.3-1]
            put_string(out, self.client_id)?; // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
            if let Some(will) = &self.will {
                if !topic::is_valid_name(will.topic) {
                    return Err(EncodeError::Contradiction);
                }
                if self.version == Version::V5 {
                    will.properties.put(out, Place::Will)?;
                }
                put_string(out, will.topic)?; // [MQTT-3.1.3-11]
                put_binary(out, will.payload)?;
            }
            if let Some(username) = self.username {
                put_string(out, username)?; // [MQTT-3.1.3-12]
            }
            self.password.map_or(Ok(()), |password| put_binary(out, password))
        })
    }

    /// [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-16] [MQTT-3.1.2-17]
    /// [MQTT-3.1.2-18] [MQTT-3.1.2-19]: a flag is set exactly when
    /// its field is there, and the will's flags are 0 without a will.
    fn flags(&self) -> u8 {
        let mut flags = if self.clean_start { FLAG_CLEAN } else { 0 };
        if let Some(will) = &self.will {
            flags |= FLAG_WILL | will.qos.bits() << 3 | if will.retain { FLAG_WILL_RETAIN } else { 0 };
        }
        if self.username.is_some() {
            flags |= FLAG_USERNAME;
        }
        if self.password.is_some() {
            flags |= FLAG_PASSWORD;
        }
        flags
    }

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let unsupported = DecodeError {
            reason: Reason::UNSUPPORTED_PROTOCOL_VERSION,
            ..DecodeError::protocol("MQTT-3.1.2-2", "neither MQTT 3.1.1 nor 5.0")
        };
        let name = reader.string()?;
        let version = match (name, reader.u8()?) {
            ("MQTT", 4) => Version::V311,
            ("MQTT", 5) => Version::V5,
            _ => return Err(unsupported),
        };
        let flags = reader.u8()?;
        check_flags(version, flags)?;
        let keep_alive_s = reader.u16()?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(&mut reader, Place::Connect)?,
        };
        let client_id = reader.string()?;
        let will = if flags & FLAG_WILL != 0 { Some(LastWill::decode(&mut reader, flags, version)?) } else { None };
        let username = if flags & FLAG_USERNAME != 0 { Some(reader.string()?) } else { None };
        let password = if flags & FLAG_PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.end()?;
        let clean_start = flags & FLAG_CLEAN != 0;
        Ok(Self { version, clean_start, keep_alive_s, client_id, will, username, password, properties })
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("MQTT-3.1.2-3", "the reserved flag of CONNECT is set"));
    }
    if flags & FLAG_WILL == 0 && flags & 0x38 != 0 {
        return Err(DecodeError::malformed("MQTT-3.1.2-11", "flags of a will without a will"));
    }
    if flags & 0x18 == 0x18 {
        return Err(DecodeError::malformed("MQTT-3.1.2-12", "QoS 3 for the will"));
    }
    if version == Version::V311 && flags & FLAG_PASSWORD != 0 && flags & FLAG_USERNAME == 0 {
        return Err(DecodeError::malformed("MQTT-3.1.2-22", "a password without a user name"));
    }
    Ok(())
}

impl<'a> LastWill<'a> {
    fn decode(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Self, DecodeError> {
        let qos =
            QoS::from_bits(flags >> 3 & 3).ok_or(DecodeError::malformed("MQTT-3.1.2-12", "QoS 3 for the will"))?;
        let properties = match version {
            Version::V311 => Properties::EMPTY,
            Version::V5 => Properties::decode(reader, Place::Will)?,
        };
        let name = reader.string()?;
        if !topic::is_valid_name(name) {
            return Err(DecodeError {
                reason: Reason::TOPIC_NAME_INVALID,
                ..DecodeError::malformed("MQTT-3.1.3-11", "the will's topic is not a topic name")
            });
        }
        let payload = reader.binary()?;
        Ok(Self { topic: name, payload, qos, retain: flags & FLAG_WILL_RETAIN != 0, properties })
    }
}

impl<'a> Connack<'a> {
    /// Appends it. On an error nothing is appended.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if self.session_present && self.reason != Reason::SUCCESS {
            return Err(EncodeError::Contradiction); // [MQTT-3.2.2-6]
        }
        if self.in_v311 && version == Version::V5 && self.reason == Reason::SUCCESS {
            return Err(EncodeError::Contradiction);
        }
        put_packet(out, 0x20, |out| {
            out.push(u8::from(self.session_present));
            if version == Version::V311 || self.in_v311 {
                out.push(self.reason.to_v311_connack());
                return Ok(());
            }
            out.push(self.reason.code());
            self.properties.put(out, Place::Connack)
        })
    }

    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        let flags = reader.u8()?;
        if flags & !1 != 0 {
            return Err(DecodeError::malformed("MQTT-3.2.2-1", "reserved flags of CONNACK are set"));
        }
        let session_present = flags & 1 != 0;
        let code = reader.u8()?;
        let unknown = DecodeError::malformed("MQTT-3.2.2-8", "CONNACK with a code that it cannot bear");
        // A server that knows no 5.0 answers in the form of 3.1.1; only a refusal can be meant so.
        let in_v311 = version == Version::V311 || (reader.is_empty() && matches!(code, 1..=5));
        let (reason, properties) = if in_v311 {
            reader.end()?;
            (Reason::from_v311_connack(code).ok_or(unknown)?, Properties::EMPTY)
        } else {
            let reason = Reason::new(code);
            if !is_connack_reason(reason) {
                return Err(unknown);
            }
            let properties = Properties::decode(&mut reader, Place::Connack)?;
            reader.end()?;
            (reason, properties)
        };
        if session_present && reason != Reason::SUCCESS {
            return Err(DecodeError::protocol("MQTT-3.2.2-6", "a refusal that says session present"));
        }
        Ok(Self { session_present, reason, properties, in_v311 })
    }
}

fn is_connack_reason(reason: Reason) -> bool {
    matches!(reason.code(), 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
}
