//! Wall-clock time as nanoseconds since 1970, UTC, and its text in payloads.

use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z. Covers the years 1678 to 2261.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// RFC 3339, UTC, microseconds: `2026-11-22T17:00:00.123456Z`. Nanoseconds are cut, not rounded: a sample
    /// is never shown as later than it was.
    pub fn rfc3339(self) -> String {
        let micros = self.0.div_euclid(1000);
        // Every i64 of nanoseconds is a time that the library can show.
        jiff::Timestamp::from_microsecond(micros).map_or_else(|_| String::new(), |time| format!("{time:.6}"))
    }

    /// From RFC 3339 with any offset; `None` where it is no time or outside the range.
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        i64::try_from(time.as_nanosecond()).ok().map(Self)
    }
}
