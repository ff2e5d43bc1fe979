//! One poll: what stands in the devices, as values or as reasons why there is none.

use std::collections::BTreeMap;

use outstation_sdk::modbus::{Data, Error};
use outstation_sdk::{self as sdk, DENIED, LINK, MODBUS, TIMEOUT};
use registers::Value;

use crate::bus::Bus;
use crate::points::Point;

/// Words for reasons that are not shared by all plugins; [`Cause::Own`] counts them.
pub const REASONS: &[&str] = &["busy", "invalid", "out-of-range", "no-value"];
const BUSY: u16 = 0;
const INVALID: u16 = 1;
const OUT_OF_RANGE: u16 = 2;
const NO_VALUE: u16 = 3;

/// What came of a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// Read.
    Good(Value),
    /// Read, and beyond its range.
    Doubtful(Value, u16),
    /// No value.
    Bad(Cause),
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// One that all plugins share.
    Shared(u16),
    /// One of [`REASONS`].
    Own(u16),
}

/// Reads all points: gives a sample for each, in their order.
pub fn take(points: &[Point], bus: &mut impl Bus, mut give: impl FnMut(usize, Sample)) {
    let first = points.first().map(|point| point.unit_id);
    if let Some(unit) = first.filter(|unit| points.iter().all(|point| point.unit_id == *unit)) {
        let reads: Vec<_> = points.iter().map(Point::reads).collect();
        // Each result is let go as soon as it is understood.
        let mut results = bus.read(unit, &reads).into_iter();
        for (index, point) in points.iter().enumerate() {
            give(index, results.next().map_or(Sample::Bad(Cause::Own(INVALID)), |result| of(point, result)));
        }
        return;
    }
    let mut units: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (index, point) in points.iter().enumerate() {
        units.entry(point.unit_id).or_default().push(index);
    }
    let mut samples = vec![Sample::Bad(Cause::Own(INVALID)); points.len()];
    for (unit, indices) in units {
        let wanted = || indices.iter().filter_map(|&index| points.get(index));
        let reads: Vec<_> = wanted().map(Point::reads).collect();
        let results = bus.read(unit, &reads);
        for ((&index, point), result) in indices.iter().zip(wanted()).zip(results) {
            if let Some(sample) = samples.get_mut(index) {
                *sample = of(point, result);
            }
        }
    }
    samples.into_iter().enumerate().for_each(|(index, sample)| give(index, sample));
}

fn of(point: &Point, result: Result<Data, Error>) -> Sample {
    let data = match result {
        Ok(data) => data,
        Err(error) => return Sample::Bad(cause(&error)),
    };
    if matches!(&data, Data::Registers(registers) if point.more().no_value.contains(registers)) {
        return Sample::Bad(Cause::Own(NO_VALUE));
    }
    match decode(point, &data) {
        Some(Ok(value)) if is_within(point, &value) => Sample::Good(value),
        Some(Ok(value)) => Sample::Doubtful(value, OUT_OF_RANGE),
        Some(Err(_)) => Sample::Bad(Cause::Own(OUT_OF_RANGE)),
        None => Sample::Bad(Cause::Own(INVALID)),
    }
}

/// The value of a point in what was read for it; `None` where that is not what was asked for.
pub fn decode(point: &Point, data: &Data) -> Option<Result<Value, registers::Fault>> {
    match data {
        Data::Bits(bits) if point.address.table.is_bits() => Some(Ok(Value::Boolean(*bits.first()?))),
        Data::Registers(registers) if registers.len() == usize::from(point.codec.registers()) => {
            Some(point.codec.decode(registers))
        }
        _ => None,
    }
}

/// Whether a number lies in the point's range; what is no number always does.
pub fn is_within(point: &Point, value: &Value) -> bool {
    match (point.more().range, number(value)) {
        // What is not a number is the host's to refuse.
        (Some((low, high)), Some(number)) => !number.is_finite() || (low..=high).contains(&number),
        _ => true,
    }
}

/// As a number, where it is one.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Unsigned(number) => Some(*number as f64),
        Value::Real(number) => Some(*number),
        Value::Boolean(_) | Value::Text(_) => None,
    }
}

fn cause(error: &Error) -> Cause {
    match error {
        Error::Exception(code) => Cause::Shared(MODBUS + u16::from(*code)),
        Error::Timeout => Cause::Shared(TIMEOUT),
        Error::Transport(_) => Cause::Shared(LINK),
        Error::Denied => Cause::Shared(DENIED),
        Error::Busy => Cause::Own(BUSY),
        Error::Invalid(_) => Cause::Own(INVALID),
    }
}

/// In the host's words.
pub fn for_host(value: Value) -> sdk::Value {
    match value {
        Value::Boolean(value) => sdk::Value::Boolean(value),
        Value::Integer(value) => sdk::Value::Integer(value),
        Value::Unsigned(value) => sdk::Value::Unsigned(value),
        Value::Real(value) => sdk::Value::Real(value),
        Value::Text(value) => sdk::Value::Text(value),
    }
}

#[cfg(test)]
pub mod tests;
