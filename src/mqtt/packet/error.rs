//! What can be wrong with bytes from the other side, and with what the caller wants encoded.

use super::Reason;

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} [{rule}]: {reason}")]
pub struct DecodeError {
    /// What is wrong, in words.
    pub what: &'static str,
    /// The statement of the standard that was broken (`MQTT-2.1.3-1`), or the section (`MQTT 2.1.4`) where the
    /// rule bears no number.
    pub rule: &'static str,
    /// What a DISCONNECT of MQTT 5.0 says about it.
    pub reason: Reason,
}

impl DecodeError {
    pub(crate) const fn malformed(rule: &'static str, what: &'static str) -> Self {
        Self { what, rule, reason: Reason::MALFORMED_PACKET }
    }

    pub(crate) const fn protocol(rule: &'static str, what: &'static str) -> Self {
        Self { what, rule, reason: Reason::PROTOCOL_ERROR }
    }
}

/// Why a packet cannot be put into bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field has more than 65,535 bytes.
    #[error("a field is longer than 65,535 bytes")]
    FieldTooLong,
    /// A string contains U+0000. [MQTT-1.5.4-2]
    #[error("a string contains U+0000 [MQTT-1.5.4-2]")]
    Nul,
    /// The packet is larger than the format can express.
    #[error("the packet is larger than 268,435,460 bytes")]
    TooLarge,
    /// A property stands where the standard does not allow it, stands twice, or has a value it must not have.
    #[error("property {0} does not belong there, stands twice, or has a forbidden value")]
    Property(u8),
    /// This version has no such packet or flag, or the fields contradict each other.
    #[error("the version has no such packet, or its fields contradict each other")]
    Contradiction,
}
