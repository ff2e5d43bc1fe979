//! From WIT's words to the agent's: points and readings as they come from a plugin become `reading::*`, or are refused.
//!
//! Invariants of what comes out: indices are in range, kinds are as declared, reals are finite, a bad reading has no
//! value, times are plausible, names can stand in a payload. A mistake that shows that the plugin is wrong about its
//! own points ([`Failure::BadOutput`]) ends it; a single value that cannot be taken is a bad reading.

use std::collections::HashSet;

use super::Failure;
use super::bindings::exports::outstation::plugin::sensor;
use super::bindings::outstation::types::types as wit;
use super::failure::shown;
use crate::reading::{Class, Kind, Point, Points, Quality, READINGS_MAX, Reading, Severity, Timestamp, Value};

/// Points that a source may have.
const POINTS_MAX: usize = 10_000;
/// Bytes of a point's name, and of a title, unit or attribute.
const ID_MAX: usize = 128;
const TEXT_MAX: usize = 256;
const ATTRIBUTES_MAX: usize = 32;
/// A plugin's own reasons, and the bytes of one.
const REASONS_MAX: usize = 1024;
const REASON_MAX: usize = 64;
/// Bytes of a text or of bytes as a value.
pub const VALUE_MAX: usize = 64 << 10;

/// 2000-01-01T00:00:00Z: no reading is older.
const EARLIEST_NS: i64 = 946_684_800_000_000_000;
/// How far a device's clock may be ahead.
const AHEAD_NS: i64 = 86_400_000_000_000;

/// What a plugin is, and what it measures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The plugin's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who made it.
    pub vendor: String,
    /// What it measures; readings name them by index.
    pub points: Points,
    /// The words of its own quality codes.
    pub reasons: Vec<String>,
}

/// What `describe` said.
pub fn about(about: sensor::About) -> Result<About, Failure> {
    if about.points.len() > POINTS_MAX {
        return Err(bad(format!("{} points; a source may have {POINTS_MAX}", about.points.len())));
    }
    if about.reasons.len() > REASONS_MAX {
        return Err(bad(format!("{} reasons; a plugin may have {REASONS_MAX}", about.reasons.len())));
    }
    if let Some(reason) = about.reasons.iter().find(|reason| !is_reason(reason)) {
        return Err(bad(format!("a reason \"{}\"; they are lower-case words", shown(reason))));
    }
    let mut seen = HashSet::new();
    for point in &about.points {
        if !is_id(&point.id) {
            let id = shown(&point.id);
            return Err(bad(format!("a point \"{id}\"; names have letters, digits, `_ - .`, and at most {ID_MAX}")));
        }
        if !seen.insert(point.id.as_str()) {
            return Err(bad(format!("two points named \"{}\"", point.id)));
        }
    }
    Ok(About {
        name: text(about.name),
        version: text(about.version),
        vendor: text(about.vendor),
        points: about.points.into_iter().map(point).collect(),
        reasons: about.reasons,
    })
}

/// What a run brought. Values that could not be taken are counted in `refused`.
pub fn readings(
    list: Vec<wit::Reading>,
    points: &Points,
    now: Timestamp,
    refused: &mut u64,
) -> Result<Vec<Reading>, Failure> {
    if list.len() > READINGS_MAX {
        return Err(bad(format!("{} readings; a poll may bring {READINGS_MAX}", list.len())));
    }
    list.into_iter().map(|one| reading(one, points, now, refused)).collect()
}

fn reading(one: wit::Reading, points: &Points, now: Timestamp, refused: &mut u64) -> Result<Reading, Failure> {
    let index = usize::try_from(one.point).unwrap_or(usize::MAX);
    let Some(kind) = points.kind(index) else {
        return Err(bad(format!("a reading of point {index}, but it declared {} points", points.len())));
    };
    let mut quality = Quality { severity: severity(one.quality.severity), code: one.quality.code };
    let at = one.at.map(Timestamp).filter(|at| (EARLIEST_NS..=now.0.saturating_add(AHEAD_NS)).contains(&at.0));
    let mut value = None;
    if quality.severity != Severity::Bad {
        match one.value.map(self::value) {
            None => quality.severity = Severity::Bad,
            Some(Value::Real(real)) if !real.is_finite() => quality = Quality::bad(Quality::NOT_FINITE),
            Some(Value::Text(text)) if text.len() > VALUE_MAX => quality = too_large(refused),
            Some(Value::Bytes(bytes)) if bytes.len() > VALUE_MAX => quality = too_large(refused),
            Some(other) if kind_of(&other) != kind => {
                let id = points.ids().get(index).unwrap_or_default();
                return Err(bad(format!("{:?} for point \"{id}\", declared as {kind:?}", kind_of(&other))));
            }
            Some(good) => value = Some(good),
        }
    }
    Ok(Reading { point: one.point, value, quality, at })
}

fn too_large(refused: &mut u64) -> Quality {
    *refused = refused.saturating_add(1);
    Quality::bad(0)
}

fn value(value: wit::Value) -> Value {
    match value {
        wit::Value::Boolean(value) => Value::Boolean(value),
        wit::Value::Integer(value) => Value::Integer(value),
        wit::Value::Unsigned(value) => Value::Unsigned(value),
        wit::Value::Real(value) => Value::Real(value),
        wit::Value::Text(value) => Value::Text(value),
        wit::Value::Bytes(value) => Value::Bytes(value),
    }
}

const fn kind_of(value: &Value) -> Kind {
    match value {
        Value::Boolean(_) => Kind::Boolean,
        Value::Integer(_) => Kind::Integer,
        Value::Unsigned(_) => Kind::Unsigned,
        Value::Real(_) => Kind::Real,
        Value::Text(_) => Kind::Text,
        Value::Bytes(_) => Kind::Bytes,
    }
}

const fn severity(severity: wit::Severity) -> Severity {
    match severity {
        wit::Severity::Good => Severity::Good,
        wit::Severity::Uncertain => Severity::Uncertain,
        wit::Severity::Bad => Severity::Bad,
    }
}

fn point(point: wit::Point) -> Point {
    let attributes = point.attributes.into_iter().take(ATTRIBUTES_MAX);
    Point {
        id: point.id,
        title: text(point.title),
        kind: match point.kind {
            wit::ValueKind::Boolean => Kind::Boolean,
            wit::ValueKind::Integer => Kind::Integer,
            wit::ValueKind::Unsigned => Kind::Unsigned,
            wit::ValueKind::Real => Kind::Real,
            wit::ValueKind::Text => Kind::Text,
            wit::ValueKind::Bytes => Kind::Bytes,
        },
        class: match point.class {
            wit::PointClass::Gauge => Class::Gauge,
            wit::PointClass::Counter => Class::Counter,
            wit::PointClass::State => Class::State,
            wit::PointClass::Event => Class::Event,
        },
        unit: text(point.unit),
        // JSON has no infinity, and a range that is no number says nothing.
        range: point.range.filter(|(low, high)| low.is_finite() && high.is_finite()),
        attributes: attributes.map(|(name, value)| (text(name), text(value))).collect(),
    }
}

fn is_id(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !id.is_empty() && id.len() <= ID_MAX && id.bytes().all(allowed)
}

fn is_reason(reason: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !reason.is_empty() && reason.len() <= REASON_MAX && reason.bytes().all(allowed)
}

/// Cut, where it is longer than anybody reads.
fn text(text: String) -> String {
    if text.len() <= TEXT_MAX { text } else { super::failure::one_line(&text, TEXT_MAX) }
}

fn bad(what: String) -> Failure {
    Failure::BadOutput(what)
}

#[cfg(test)]
mod tests;
