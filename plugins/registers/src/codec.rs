//! From registers to values and back.
//!
//! Invariants: whole numbers stay whole as long as scale and offset are, to 64 bit; a value that does not fit is a
//! [`Fault`], never another value; what `encode` makes of a value `decode` reads as that value, to the nearest step.

use crate::{Decimal, Fault, Order, Scale, Type};

/// A value of a point.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// A whole number that may be negative.
    Integer(i64),
    /// A whole number that is not.
    Unsigned(u64),
    /// Any other number; NaN and the infinities too, as the device sent them.
    Real(f64),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

/// What all values of a codec are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Boolean`].
    Boolean,
    /// [`Value::Integer`].
    Integer,
    /// [`Value::Unsigned`].
    Unsigned,
    /// [`Value::Real`].
    Real,
    /// [`Value::Text`].
    Text,
}

/// How registers become a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    kind: Type,
    order: Order,
    bit: Option<u8>,
    scale: Scale,
}

impl Codec {
    /// Without a scale.
    pub const fn new(kind: Type, order: Order) -> Self {
        Self { kind, order, bit: None, scale: Scale::NONE }
    }

    /// One bit of a register, 0 the least significant.
    pub const fn bit(bit: u8, order: Order) -> Self {
        Self { kind: Type::Bool, order, bit: Some(bit), scale: Scale::NONE }
    }

    /// The same with a scale, which applies to numbers only.
    pub const fn scaled(mut self, scale: Scale) -> Self {
        self.scale = scale;
        self
    }

    /// How many registers it takes.
    pub const fn registers(&self) -> u16 {
        self.kind.registers()
    }

    /// What its values are.
    pub fn kind(&self) -> Kind {
        match self.kind {
            Type::Bool => Kind::Boolean,
            Type::String(_) => Kind::Text,
            kind if !kind.is_integer() || !self.scale.is_whole() => Kind::Real,
            Type::U16 | Type::U32 | Type::U64 if self.scale.keeps_sign() => Kind::Unsigned,
            _ => Kind::Integer,
        }
    }

    /// The value in these registers.
    pub fn decode(&self, registers: &[u16]) -> Result<Value, Fault> {
        if registers.len() != usize::from(self.registers()) {
            let message = format!("{} registers where {} belong", registers.len(), self.registers());
            return Err(Fault::new(message, ""));
        }
        match self.kind {
            Type::Bool => {
                let register = self.order.number(registers);
                Ok(Value::Boolean(match self.bit {
                    Some(bit) => register >> bit & 1 == 1,
                    None => register != 0,
                }))
            }
            Type::String(length) => {
                let bytes = self.order.bytes(registers);
                Ok(Value::Text(text(bytes.get(..usize::from(length)).unwrap_or_default())))
            }
            Type::F32 => Ok(Value::Real(self.real32(f32::from_bits(self.order.number(registers) as u32)))),
            Type::F64 => Ok(Value::Real(self.real64(f64::from_bits(self.order.number(registers))))),
            _ => self.whole(signed(self.kind, self.order.number(registers))),
        }
    }

    fn whole(&self, raw: i128) -> Result<Value, Fault> {
        let scaled =
            if self.scale.is_none() { Some(Decimal::whole(raw)) } else { self.scale.apply(Decimal::whole(raw)) };
        let fits = match self.kind() {
            Kind::Unsigned => {
                scaled.and_then(Decimal::to_whole).and_then(|n| u64::try_from(n).ok()).map(Value::Unsigned)
            }
            Kind::Integer => scaled.and_then(Decimal::to_whole).and_then(|n| i64::try_from(n).ok()).map(Value::Integer),
            _ => Some(Value::Real(scaled.map_or_else(|| self.scale.apply_f64(raw as f64), Decimal::to_f64))),
        };
        fits.ok_or_else(|| Fault::new(format!("{raw} times its scale does not fit 64 bit"), ""))
    }

    fn real32(&self, raw: f32) -> f64 {
        if self.scale == Scale::NONE {
            return Decimal::from_f32(raw).map_or_else(|| f64::from(raw), Decimal::to_f64);
        }
        let scaled = Decimal::from_f32(raw).and_then(|meant| self.scale.apply(meant));
        scaled.map_or_else(|| self.scale.apply_f64(f64::from(raw)), Decimal::to_f64)
    }

    fn real64(&self, raw: f64) -> f64 {
        if self.scale.is_none() {
            return raw;
        }
        let scaled = Decimal::from_f64(raw).and_then(|meant| self.scale.apply(meant));
        scaled.map_or_else(|| self.scale.apply_f64(raw), Decimal::to_f64)
    }

    /// The registers that hold this value. Of one bit: the register with nothing else in it; see [`Codec::mask`].
    pub fn encode(&self, value: &Value) -> Result<Vec<u16>, Fault> {
        match (self.kind, value) {
            (Type::Bool, Value::Boolean(on)) => Ok(vec![match self.bit {
                Some(_) => self.mask(*on).1,
                None => self.order.registers(&u16::from(*on).to_be_bytes()).first().copied().unwrap_or(0),
            }]),
            (Type::Bool, _) => Err(Fault::new(format!("{value} is neither true nor false"), "true or false")),
            (Type::String(length), Value::Text(text)) => self.text(length, text),
            (Type::String(_), _) => Err(Fault::new(format!("{value} is no text"), "a string")),
            (_, Value::Boolean(_) | Value::Text(_)) => Err(Fault::new(format!("{value} is no number"), "a number")),
            (Type::F32 | Type::F64, _) => self.real(value),
            _ => self.integer(value),
        }
    }

    /// For the function that changes bits of a register alone (22): what to keep, and what to set.
    pub const fn mask(&self, on: bool) -> (u16, u16) {
        let Some(bit) = self.bit else { return (0, if on { 1 } else { 0 }) };
        let swapped = matches!(self.order, Order::BADC | Order::DCBA);
        let mask = 1 << (if swapped { bit ^ 8 } else { bit });
        (!mask, if on { mask } else { 0 })
    }

    fn text(&self, length: u16, text: &str) -> Result<Vec<u16>, Fault> {
        if let Some(strange) = text.chars().find(|letter| !letter.is_ascii() || letter.is_ascii_control()) {
            let message = format!("`{}` can't be written: devices hold ASCII", strange.escape_debug());
            return Err(Fault::new(message, ""));
        }
        if text.len() > usize::from(length) {
            let message = format!("{} characters, and there is room for {length}", text.len());
            return Err(Fault::new(message, ""));
        }
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(2 * usize::from(self.registers()), 0);
        Ok(self.order.registers(&bytes))
    }

    fn real(&self, value: &Value) -> Result<Vec<u16>, Fault> {
        let raw = if self.scale.is_none() { as_f64(value) } else { self.scale.invert_f64(decimal(value)?) };
        let (fits, bytes) = match self.kind {
            Type::F32 => ((raw as f32).is_finite(), (raw as f32).to_be_bytes().to_vec()),
            _ => (raw.is_finite(), raw.to_be_bytes().to_vec()),
        };
        if fits {
            return Ok(self.order.registers(&bytes));
        }
        Err(Fault::new(format!("{value} does not fit {}", self.kind.word()), ""))
    }

    fn integer(&self, value: &Value) -> Result<Vec<u16>, Fault> {
        let wanted = decimal(value)?;
        if self.kind() != Kind::Real && wanted.to_whole().is_none() {
            return Err(Fault::new(format!("{value} is no whole number"), "this point has no fractions"));
        }
        let raw = self.scale.invert(wanted);
        let (low, high) = self.kind.bounds().unwrap_or((0, 0));
        match raw.filter(|raw| (low..=high).contains(raw)) {
            Some(raw) => {
                let bytes = raw.to_be_bytes();
                let width = 2 * usize::from(self.registers());
                Ok(self.order.registers(bytes.get(bytes.len() - width..).unwrap_or_default()))
            }
            None => {
                let bounds = self.scale.bounds(self.kind);
                let hint = bounds.map(|(low, high)| format!("{low} to {high}")).unwrap_or_default();
                Err(Fault::new(format!("{value} does not fit {}", self.kind.word()), hint))
            }
        }
    }
}

fn signed(kind: Type, number: u64) -> i128 {
    match kind {
        Type::I16 => i128::from(number as u16 as i16),
        Type::I32 => i128::from(number as u32 as i32),
        Type::I64 => i128::from(number as i64),
        _ => i128::from(number),
    }
}

/// Ends at the first NUL; blanks at the end are padding. UTF-8 where it is that, else one character a byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    text.trim_end().to_owned()
}

fn as_f64(value: &Value) -> f64 {
    match value {
        Value::Integer(number) => *number as f64,
        Value::Unsigned(number) => *number as f64,
        Value::Real(number) => *number,
        Value::Boolean(_) | Value::Text(_) => f64::NAN,
    }
}

fn decimal(value: &Value) -> Result<Decimal, Fault> {
    match value {
        Value::Integer(number) => Ok(Decimal::whole(i128::from(*number))),
        Value::Unsigned(number) => Ok(Decimal::whole(i128::from(*number))),
        other => Decimal::from_f64(as_f64(other)).ok_or_else(|| Fault::new(format!("{value} is no finite number"), "")),
    }
}
