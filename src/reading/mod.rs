//! What is measured: points, values, quality, readings, and the batch that one poll brought.
//!
//! Owns the words of DESIGN.md's data model and their compact form in the spool ([`Batch::encode`]).
//! Invariants: a reading names its point by its index in the list that the source declared; a reading
//! whose severity is [`Severity::Bad`] never shows a value; a real value is finite.

mod compact;
mod points;
mod time;

pub use compact::{DecodeError, READINGS_MAX};
pub use points::{Names, Points};
pub use time::Timestamp;

use serde::{Deserialize, Serialize};

/// What kind of value a point has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// True or false.
    Boolean,
    /// Signed, 64 bit.
    Integer,
    /// Unsigned, 64 bit.
    Unsigned,
    /// IEEE 754, 64 bit, finite.
    Real,
    /// UTF-8.
    Text,
    /// Anything else.
    Bytes,
}

/// How a point's values behave over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Goes up and down: a temperature.
    Gauge,
    /// Only grows, but for a reset or a wrap: bytes received.
    Counter,
    /// One of few: open, closed.
    State,
    /// Something that happened.
    Event,
}

/// One quantity that a source measures. Declared once; readings refer to it by index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The name in the payload: letters, digits, `_ - .`.
    pub id: String,
    /// For people.
    pub title: String,
    /// What its values are.
    pub kind: Kind,
    /// How its values behave.
    pub class: Class,
    /// UCUM code (`Cel`, `kW.h`, `1`), empty for none.
    pub unit: String,
    /// Lowest and highest sensible value.
    pub range: Option<(f64, f64)>,
    /// Free words of the plugin.
    pub attributes: Vec<(String, String)>,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// Signed, 64 bit.
    Integer(i64),
    /// Unsigned, 64 bit.
    Unsigned(u64),
    /// IEEE 754, 64 bit. Not finite ones are turned into bad readings where readings enter the agent.
    Real(f64),
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// How far a value can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As measured.
    Good,
    /// There is a value, and a reason to doubt it.
    Uncertain,
    /// There is no value, and a reason.
    Bad,
}

/// Severity and reason. Codes: 0 unspecified, 1 timeout, 2 link, 3 denied, 4 not-finite, 5 source-failed,
/// 256 + n Modbus exception n, 512 + n the plugin's own reason n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Good, uncertain or bad.
    pub severity: Severity,
    /// The reason; see the type.
    pub code: u16,
}

impl Quality {
    /// As measured.
    pub const GOOD: Self = Self { severity: Severity::Good, code: 0 };
    /// The device did not answer in time.
    pub const TIMEOUT: u16 = 1;
    /// The way to the device is broken.
    pub const LINK: u16 = 2;
    /// The source's `allow` does not grant it.
    pub const DENIED: u16 = 3;
    /// NaN or infinite.
    pub const NOT_FINITE: u16 = 4;
    /// The plugin that reads it is dead.
    pub const SOURCE_FAILED: u16 = 5;
    /// Codes from here on are Modbus exceptions.
    pub const MODBUS: u16 = 256;
    /// Codes from here on are the plugin's own reasons.
    pub const OWN: u16 = 512;

    /// Bad, for the reason `code`.
    pub const fn bad(code: u16) -> Self {
        Self { severity: Severity::Bad, code }
    }

    /// The reason as the word that payloads show; `own` are the plugin's reasons.
    pub fn word(self, own: &[String]) -> String {
        match self.code {
            Self::TIMEOUT => "timeout".into(),
            Self::LINK => "link".into(),
            Self::DENIED => "denied".into(),
            Self::NOT_FINITE => "not-finite".into(),
            Self::SOURCE_FAILED => "source-failed".into(),
            code @ Self::MODBUS..Self::OWN => format!("exception-{}", code - Self::MODBUS),
            code @ Self::OWN.. => match own.get(usize::from(code - Self::OWN)) {
                Some(word) => word.clone(),
                None => format!("reason-{}", code - Self::OWN),
            },
            _ => "unspecified".into(),
        }
    }
}

/// A point's value at a time, with its quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Index into the source's points.
    pub point: u32,
    /// `None`: asked, no value; the quality says why.
    pub value: Option<Value>,
    /// Good, uncertain, bad, and why.
    pub quality: Quality,
    /// When it was sampled, where the plugin knows better than the host.
    pub at: Option<Timestamp>,
}

impl Reading {
    /// A good value, sampled when the poll was.
    pub const fn good(point: u32, value: Value) -> Self {
        Self { point, value: Some(value), quality: Quality::GOOD, at: None }
    }

    /// No value, for the reason `code`.
    pub const fn bad(point: u32, code: u16) -> Self {
        Self { point, value: None, quality: Quality::bad(code), at: None }
    }
}

/// What one poll of one source brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// When the poll was.
    pub time: Timestamp,
    /// Whether the host's clock had been set when it was.
    pub clock_synced: bool,
    /// At most [`READINGS_MAX`].
    pub readings: Vec<Reading>,
}

#[cfg(test)]
mod tests;
