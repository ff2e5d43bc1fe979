//! The command `write`: `{"point":"pump","value":true}`, with `"read_back":true` where it is to be proved.
//!
//! The answer is `{"point":"pump","old":false,"new":true}`: what stood there before (null where that could not be
//! read), and what stands there now.

use outstation_sdk::Rejection;
use outstation_sdk::config::{Value as Json, suggestion};
use outstation_sdk::modbus::{Data, Error, Read, Write};
use registers::{Kind, Value};

use crate::bus::Bus;
use crate::points::{BitWrite, Point};
use crate::sample::{decode, is_within};

/// Doubles tell whole numbers apart up to here.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Does it.
pub fn write(points: &[Point], bus: &mut impl Bus, args: &Json) -> Result<Json, Rejection> {
    let (point, value, read_back) = arguments(points, args)?;
    let registers = match point.address.table.is_bits() {
        true => Vec::new(),
        false => point.codec.encode(&value).map_err(|fault| Rejection::Invalid(fault.to_string()))?,
    };
    let what = request(point, bus, &value, &registers)?;
    let written = bus.write(point.unit_id, &what, read_back).map_err(|error| rejection(&error, point))?;
    let old = written.before.as_ref().and_then(|data| decode(point, data)?.ok());
    let mut new = match point.address.table.is_bits() || point.address.bit.is_some() {
        true => value,
        // Between two steps of its scale it came to the nearer one.
        false => point.codec.decode(&registers).unwrap_or(value),
    };
    if read_back {
        let found = written.after.as_ref().and_then(|data| decode(point, data)?.ok());
        match found {
            None => return Err(Rejection::Failed("it was written, and cannot be read back".to_owned())),
            Some(found) if found != new => {
                return Err(Rejection::Failed(format!("{new} was written, and {found} was read back")));
            }
            Some(found) => new = found,
        }
    }
    let entry = |key: &str, value| (key.to_owned(), value);
    Ok(Json::Table(vec![
        entry("point", Json::Text(point.name.to_string())),
        entry("old", old.map_or(Json::Null, json)),
        entry("new", json(new)),
    ]))
}

fn arguments<'p>(points: &'p [Point], args: &Json) -> Result<(&'p Point, Value, bool), Rejection> {
    let invalid = |message: String| Err(Rejection::Invalid(message));
    if !matches!(args, Json::Table(_)) {
        return invalid("as {\"point\":\"pump\",\"value\":true}".to_owned());
    }
    const KEYS: [&str; 3] = ["point", "value", "read_back"];
    if let Some((key, _)) = args.entries().iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return invalid(format!("unknown argument `{key}`: {}", suggestion(key, &KEYS)));
    }
    let Some(name) = args.get("point").and_then(Json::as_str) else {
        return invalid("`point` is missing: the name of a point".to_owned());
    };
    let Some(point) = points.iter().find(|point| *point.name == *name) else {
        let names: Vec<&str> = points.iter().map(|point| &*point.name).filter(|_| points.len() <= 32).collect();
        let hint = if names.is_empty() { String::new() } else { format!(": {}", suggestion(name, &names)) };
        return invalid(format!("there is no point `{name}`{hint}"));
    };
    if !point.address.table.is_writable() {
        return invalid(format!("`{name}` stands at {}, which no device lets be written", point.address));
    }
    let read_back = match args.get("read_back") {
        None => point.more().read_back,
        Some(Json::Boolean(wanted)) => *wanted,
        Some(other) => return invalid(format!("`read_back` is true or false, not {}", other.kind())),
    };
    let value = match args.get("value") {
        None => return invalid("`value` is missing".to_owned()),
        Some(value) => self::value(point, value)?,
    };
    if let (false, Some((low, high))) = (is_within(point, &value), point.more().range) {
        return invalid(format!("{value} is out of range: {low} to {high}"));
    }
    Ok((point, value, read_back))
}

fn value(point: &Point, json: &Json) -> Result<Value, Rejection> {
    let is_whole = matches!(point.codec.kind(), Kind::Integer | Kind::Unsigned);
    match json {
        Json::Real(number) if is_whole && number.abs() > EXACT_MAX => {
            Err(Rejection::Invalid(format!("{number} is too large to be told exactly")))
        }
        Json::Boolean(on) if point.codec.kind() == Kind::Boolean => Ok(Value::Boolean(*on)),
        _ if point.codec.kind() == Kind::Boolean => {
            Err(Rejection::Invalid(format!("`value` is true or false, not {}", json.kind())))
        }
        Json::Boolean(on) => Ok(Value::Boolean(*on)),
        Json::Integer(number) => Ok(Value::Integer(*number)),
        Json::Real(number) => Ok(Value::Real(*number)),
        Json::Text(text) => Ok(Value::Text(text.clone())),
        other => Err(Rejection::Invalid(format!("`value` can't be {}", other.kind()))),
    }
}

fn request(point: &Point, bus: &mut impl Bus, value: &Value, registers: &[u16]) -> Result<Write, Rejection> {
    let address = point.address.address;
    if let (true, Value::Boolean(on)) = (point.address.table.is_bits(), value) {
        return Ok(Write::Coil((address, *on)));
    }
    if let (Some(_), Value::Boolean(on)) = (point.address.bit, value) {
        let (keep, set) = point.codec.mask(*on);
        return match point.more().bit_write {
            BitWrite::Mask => Ok(Write::MaskRegister((address, keep, set))),
            BitWrite::Rewrite => Ok(Write::Register((address, register(point, bus)? & keep | set))),
        };
    }
    Ok(match registers {
        [one] => Write::Register((address, *one)),
        many => Write::Registers((address, many.to_vec())),
    })
}

fn register(point: &Point, bus: &mut impl Bus) -> Result<u16, Rejection> {
    let read: Read = point.reads();
    match bus.read(point.unit_id, &[read]).pop() {
        Some(Ok(Data::Registers(registers))) => registers.first().copied(),
        Some(Err(error)) => return Err(rejection(&error, point)),
        _ => None,
    }
    .ok_or_else(|| Rejection::Failed("the register could not be read".to_owned()))
}

fn rejection(error: &Error, point: &Point) -> Rejection {
    Rejection::Failed(match error {
        Error::Denied => return Rejection::Denied,
        Error::Exception(1) if point.address.bit.is_some() && point.more().bit_write == BitWrite::Mask => {
            "the device can't change one bit of a register (exception 1 to function 22); bit_write = \"rewrite\" does \
             it by reading and writing all of it"
                .to_owned()
        }
        Error::Exception(code) => format!("the device refuses: exception {code}{}", meaning(*code)),
        Error::Timeout => "the device does not answer; whether it was written is not known".to_owned(),
        Error::Transport(text) => format!("no way to the device: {text}"),
        Error::Busy => "the bus has too much to do".to_owned(),
        Error::Invalid(text) => text.clone(),
    })
}

const fn meaning(exception: u8) -> &'static str {
    match exception {
        1 => ", it does not have this function; [bus.NAME] write = \"multiple\" or \"single\" uses the other one",
        2 => ", there is no such register",
        3 => ", not this value",
        4 => ", it has a fault",
        6 => ", it is busy",
        10 | 11 => ", the gateway does not reach it",
        _ => "",
    }
}

fn json(value: Value) -> Json {
    match value {
        Value::Boolean(value) => Json::Boolean(value),
        Value::Integer(number) => Json::Integer(number),
        // Above 2^63 the answer is rounded; what is written and read is not.
        Value::Unsigned(number) => i64::try_from(number).map_or(Json::Real(number as f64), Json::Integer),
        Value::Real(number) => Json::Real(number),
        Value::Text(text) => Json::Text(text),
    }
}

#[cfg(test)]
mod tests;
