//! The data types of the wire: integers, strings, variable byte integers. Big endian throughout. [MQTT-1.5.2] [MQTT-1.5.3]

use super::{DecodeError, EncodeError, PacketId, REMAINING_LENGTH_MAX};

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: DecodeError = DecodeError::malformed("MQTT 2.1.4", "the packet ends inside a field");

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = tail;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        let (&first, tail) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = tail;
        Ok(first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = tail;
        Ok(u16::from_be_bytes(*head))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        let (head, tail) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = tail;
        Ok(u32::from_be_bytes(*head))
    }

    /// A packet identifier. [MQTT-2.2.1-3]
    pub(super) fn id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::protocol("MQTT-2.2.1-3", "packet identifier 0"))
    }

    /// A variable byte integer.
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        match varint(self.rest)? {
            Some((value, length)) => {
                self.take(length)?;
                Ok(value)
            }
            None => Err(SHORT),
        }
    }

    /// A length and so many bytes.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A string. A byte order mark is kept as it is: [MQTT-1.5.4-3], 3.1.1 [MQTT-1.5.3-3].
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::malformed("MQTT-1.5.4-1", "a string is not well-formed UTF-8"))?;
        if bytes.contains(&0) {
            return Err(DecodeError::malformed("MQTT-1.5.4-2", "a string contains U+0000"));
        }
        Ok(text)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::malformed("MQTT 2.1.4", "bytes are left behind the last field"))
        }
    }
}

/// A variable byte integer at the front: its value and how many bytes it takes; `None` when bytes are missing.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(DecodeError::malformed("MQTT-1.5.5-1", "a length is not in its shortest form"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::malformed("MQTT-1.5.5-1", "a length has more than four bytes"));
    }
    Ok(None)
}

/// How many bytes a variable byte integer takes.
pub(super) fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer in its shortest form. [MQTT-1.5.5-1]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    debug_assert!(value <= REMAINING_LENGTH_MAX, "checked where the length is summed");
    loop {
        let low = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a length and the bytes.
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EncodeError> {
    let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Appends a string. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    if text.as_bytes().contains(&0) {
        return Err(EncodeError::Nul);
    }
    put_binary(out, text.as_bytes())
}

/// Appends a packet identifier.
pub(super) fn put_id(out: &mut Vec<u8>, id: PacketId) {
    out.extend_from_slice(&id.value().to_be_bytes());
}

/// Appends a whole packet whose body `body` writes: the body goes to the end first and is moved once, by the few
/// bytes of the header. Not for PUBLISH, whose length is known beforehand. On an error nothing is appended.
pub(super) fn put_packet(
    out: &mut Vec<u8>,
    first_byte: u8,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = body(out).and_then(|()| remaining_length(out.len() - start));
    match result {
        Ok(length) => {
            let mut header = [first_byte, 0, 0, 0, 0];
            let count = 1 + varint_bytes(length, &mut header);
            out.splice(start..start, header.into_iter().take(count));
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Checks a length against what the format can express.
pub(super) fn remaining_length(length: usize) -> Result<u32, EncodeError> {
    u32::try_from(length).ok().filter(|&length| length <= REMAINING_LENGTH_MAX).ok_or(EncodeError::TooLarge)
}

/// Writes a variable byte integer behind the first byte of a header, and says how many bytes it took.
fn varint_bytes(mut value: u32, header: &mut [u8; 5]) -> usize {
    let mut count = 0;
    for byte in header.iter_mut().skip(1) {
        count += 1;
        *byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    count
}
