//! The compact form of a batch, as it lies in the spool. Version 1; a version is never changed, only another
//! one added, because what was buffered by an older agent must still be readable.
//!
//! ```text
//! byte     version = 1
//! byte     flags: bit 0 clock synced
//! 8 bytes  time, i64 little-endian, ns since 1970
//! varint   number of readings
//! a reading:
//!   varint   point
//!   byte     tag: bits 0-2 value (0 none 1 false 2 true 3 integer 4 unsigned 5 real 6 text 7 bytes)
//!                 bits 3-4 severity (0 good 1 uncertain 2 bad), bit 5 code follows, bit 6 time follows
//!   varint   code                       (bit 5)
//!   varint   zigzag(at - time), ns      (bit 6; wrapping)
//!   value    integer: zigzag varint, unsigned: varint, real: 8 bytes, text and bytes: varint length, bytes
//! ```

use super::{Batch, Quality, Reading, Severity, Timestamp, Value};

/// Most readings that a batch may hold; what decodes to more is damaged.
pub const READINGS_MAX: usize = 100_000;
const VERSION: u8 = 1;
const TAG_CODE: u8 = 1 << 5;
const TAG_AT: u8 = 1 << 6;

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer version of this program.
    #[error("batch has version {0}, this program reads up to {VERSION}")]
    Version(u8),
    /// Ends in the middle, has bytes left over, or says what can't be.
    #[error("batch is damaged: {0}")]
    Damaged(&'static str),
}

impl Batch {
    /// Appends the compact form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(u8::from(self.clock_synced));
        out.extend_from_slice(&self.time.0.to_le_bytes());
        varint(out, self.readings.len() as u64);
        for reading in &self.readings {
            encode_reading(out, self.time, reading);
        }
    }

    /// Reads what [`Batch::encode`] wrote; all of `bytes` must be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor { rest: bytes };
        match cursor.byte()? {
            VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let flags = cursor.byte()?;
        let time = Timestamp(i64::from_le_bytes(cursor.array()?));
        let count = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        // A reading takes two bytes at least: a false count is not turned into memory.
        if count > READINGS_MAX || count > cursor.rest.len() / 2 {
            return Err(DecodeError::Damaged("more readings than it can hold"));
        }
        let mut readings = Vec::with_capacity(count);
        for _ in 0..count {
            readings.push(decode_reading(&mut cursor, time)?);
        }
        if !cursor.rest.is_empty() {
            return Err(DecodeError::Damaged("bytes after the last reading"));
        }
        Ok(Self { time, clock_synced: flags & 1 != 0, readings })
    }
}

fn encode_reading(out: &mut Vec<u8>, time: Timestamp, reading: &Reading) {
    varint(out, u64::from(reading.point));
    let kind = match &reading.value {
        None => 0,
        Some(Value::Boolean(false)) => 1,
        Some(Value::Boolean(true)) => 2,
        Some(Value::Integer(_)) => 3,
        Some(Value::Unsigned(_)) => 4,
        Some(Value::Real(_)) => 5,
        Some(Value::Text(_)) => 6,
        Some(Value::Bytes(_)) => 7,
    };
    let severity = match reading.quality.severity {
        Severity::Good => 0,
        Severity::Uncertain => 1,
        Severity::Bad => 2,
    };
    let code = if reading.quality.code == 0 { 0 } else { TAG_CODE };
    let at = if reading.at.is_some() { TAG_AT } else { 0 };
    out.push(kind | severity << 3 | code | at);
    if reading.quality.code != 0 {
        varint(out, u64::from(reading.quality.code));
    }
    if let Some(at) = reading.at {
        varint(out, zigzag(at.0.wrapping_sub(time.0)));
    }
    match &reading.value {
        None | Some(Value::Boolean(_)) => {}
        Some(Value::Integer(value)) => varint(out, zigzag(*value)),
        Some(Value::Unsigned(value)) => varint(out, *value),
        Some(Value::Real(value)) => out.extend_from_slice(&value.to_le_bytes()),
        Some(Value::Text(text)) => chunk(out, text.as_bytes()),
        Some(Value::Bytes(bytes)) => chunk(out, bytes),
    }
}

fn decode_reading(cursor: &mut Cursor<'_>, time: Timestamp) -> Result<Reading, DecodeError> {
    let point = u32::try_from(cursor.varint()?).map_err(|_| DecodeError::Damaged("point out of range"))?;
    let tag = cursor.byte()?;
    let severity = match tag >> 3 & 3 {
        0 => Severity::Good,
        1 => Severity::Uncertain,
        2 => Severity::Bad,
        _ => return Err(DecodeError::Damaged("unknown severity")),
    };
    let code = if tag & TAG_CODE == 0 {
        0
    } else {
        u16::try_from(cursor.varint()?).map_err(|_| DecodeError::Damaged("code out of range"))?
    };
    let at = if tag & TAG_AT == 0 { None } else { Some(Timestamp(time.0.wrapping_add(unzigzag(cursor.varint()?)))) };
    let value = match tag & 7 {
        0 => None,
        1 => Some(Value::Boolean(false)),
        2 => Some(Value::Boolean(true)),
        3 => Some(Value::Integer(unzigzag(cursor.varint()?))),
        4 => Some(Value::Unsigned(cursor.varint()?)),
        5 => Some(Value::Real(f64::from_le_bytes(cursor.array()?))),
        6 => {
            let text = std::str::from_utf8(cursor.chunk()?).map_err(|_| DecodeError::Damaged("text is not UTF-8"))?;
            Some(Value::Text(text.to_owned()))
        }
        _ => Some(Value::Bytes(cursor.chunk()?.to_vec())),
    };
    Ok(Reading { point, value, quality: Quality { severity, code }, at })
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Damaged("ends too early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Damaged("ends too early"))?;
        self.rest = rest;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Damaged("ends too early"))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Damaged("number of more than 64 bits"))
    }

    fn chunk(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.take(length)
    }
}
