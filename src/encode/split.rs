//! Which readings of a batch go into which message.
//!
//! A message holds one time and each point once, and is no larger than the route allows, but for a single
//! reading that is too large alone. The answer depends on the route and the batch only, so that the number of
//! messages, which is fixed at append, is the number that is made when they are sent.

use std::collections::HashSet;

use super::Route;
use crate::reading::{Batch, Quality, Reading, Severity, Timestamp, Value};

/// A message's readings, as indices into the batch, and their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When they were sampled.
    pub time: Timestamp,
    /// Indices into `Batch::readings`.
    pub readings: Vec<usize>,
}

/// Bytes of a message around its readings beside names and topic: braces, keys, time, and the longest numbers.
const FRAME_BYTES: usize = 220;

/// Splits a batch into messages, in order of time. An empty batch makes none.
pub fn plan(route: &Route, batch: &Batch) -> Vec<Plan> {
    let mut order: Vec<usize> = (0..batch.readings.len()).collect();
    let time = |index: &usize| batch.readings.get(*index).and_then(|r| r.at).unwrap_or(batch.time);
    order.sort_by_key(time);
    let mut plans = Vec::new();
    for group in order.chunk_by(|a, b| time(a) == time(b)) {
        let Some(first) = group.first() else { continue };
        group_plans(route, batch, time(first), group, &mut plans);
    }
    plans
}

fn group_plans(route: &Route, batch: &Batch, time: Timestamp, group: &[usize], plans: &mut Vec<Plan>) {
    let limit = usize::try_from(route.max_message).unwrap_or(usize::MAX);
    let base = FRAME_BYTES + text_bytes(&route.agent) + text_bytes(&route.source);
    let point = |index: &usize| batch.readings.get(*index).map(|reading| reading.point);
    // Mostly a poll brings its points in their order: then none comes twice, and nothing has to be looked up.
    let may_repeat = !group.is_sorted_by(|one, other| point(one) < point(other));
    let per_point = route.per_point();
    let mut open = Plan { time, readings: Vec::new() };
    let (mut bytes, mut points) = (base, HashSet::new());
    for &index in group {
        let Some(reading) = batch.readings.get(index) else { continue };
        let size = reading_bytes(route, reading);
        let repeats = may_repeat && points.contains(&reading.point);
        if !open.readings.is_empty() && (per_point || repeats || bytes.saturating_add(size) > limit) {
            plans.push(std::mem::replace(&mut open, Plan { time, readings: Vec::new() }));
            bytes = base;
            points.clear();
        }
        bytes = bytes.saturating_add(size);
        if may_repeat {
            points.insert(reading.point);
        }
        open.readings.push(index);
    }
    plans.push(open);
}

/// Most bytes that a reading takes in a payload.
fn reading_bytes(route: &Route, reading: &Reading) -> usize {
    let name = route.points.get(reading.point as usize).map_or(0, text_bytes) + 4;
    let value = match &reading.value {
        None => 0,
        Some(Value::Boolean(_)) => 5,
        Some(Value::Integer(_) | Value::Unsigned(_)) => 20,
        Some(Value::Real(_)) => 25,
        Some(Value::Text(text)) => text_bytes(text),
        Some(Value::Bytes(bytes)) => bytes.len().div_ceil(3).saturating_mul(4) + 2,
    };
    let reason = match reading.quality {
        Quality { severity: Severity::Good, .. } => 0,
        quality => name + text_bytes(&quality.word(&route.reasons)),
    };
    name + value + reason
}

/// A JSON string's length: its own bytes, quotes, and what is escaped.
fn text_bytes(text: &str) -> usize {
    2 + text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum::<usize>()
}
