//! What registers may mean: every type in every order, and which of them is likely.

use registers::{Codec, Order, Type, Value};

/// One reading of some registers.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoding {
    /// Its type.
    pub kind: Type,
    /// Its order.
    pub order: Order,
    /// What it comes to.
    pub value: Value,
}

/// Every number that can begin with the first of these registers, by order, then by type.
pub fn all(registers: &[u16]) -> Vec<Decoding> {
    let of = |(order, kind): (Order, Type)| {
        let value = Codec::new(kind, order).decode(registers.get(..usize::from(kind.registers()))?).ok()?;
        Some(Decoding { kind, order, value })
    };
    let pairs = Order::ALL.into_iter().flat_map(|order| Type::NUMBERS.map(|kind| (order, kind)));
    pairs.filter_map(of).collect()
}

/// The text in all of these registers, in this order; `None` where it is none.
pub fn text(registers: &[u16], order: Order) -> Option<String> {
    let length = u16::try_from(registers.len() * 2).ok().filter(|length| *length <= registers::STRING_MAX)?;
    match Codec::new(Type::String(length), order).decode(registers) {
        Ok(Value::Text(text)) if text.len() >= 3 && text.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            Some(text)
        }
        _ => None,
    }
}

/// A guess for the registers from the first on: a single-precision number where one order gives a plausible one, else
/// one register.
pub fn guess(registers: &[u16]) -> Decoding {
    /// Sizes of what plants measure; chance bits are seldom among them.
    const PLAUSIBLE: std::ops::RangeInclusive<f64> = 1e-3..=1e7;
    let plausible = |decoding: &Decoding| {
        decoding.kind == Type::F32
            && matches!(decoding.order, Order::ABCD | Order::CDAB)
            && matches!(decoding.value, Value::Real(real) if PLAUSIBLE.contains(&real.abs()))
    };
    // A register that is 0 or small is a count rather than half a number, unless the other half says otherwise.
    let digits = |decoding: &Decoding| decoding.value.to_string().len();
    let floats = all(registers).into_iter().filter(plausible);
    let best = floats.min_by_key(digits).filter(|best| digits(best) <= 9);
    best.unwrap_or_else(|| {
        let value = Value::Unsigned(registers.first().copied().unwrap_or_default().into());
        Decoding { kind: Type::U16, order: Order::ABCD, value }
    })
}
