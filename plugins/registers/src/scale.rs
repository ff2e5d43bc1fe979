//! From what stands in registers to what it means: `value = raw * factor + offset`, in decimal arithmetic.

use crate::decimal::Decimal;
use crate::{Fault, Type};

/// A factor, then an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    factor: Short,
    offset: Short,
}

/// A decimal that a double means: its digits fit 64 bit. There is one for each of a hundred thousand points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short {
    mantissa: i64,
    exponent: i32,
}

impl Short {
    const ZERO: Self = Self { mantissa: 0, exponent: 0 };
    const ONE: Self = Self { mantissa: 1, exponent: 0 };

    fn from_f64(number: f64) -> Option<Self> {
        let Decimal { mantissa, exponent } = Decimal::from_f64(number)?;
        Some(Self { mantissa: i64::try_from(mantissa).ok()?, exponent })
    }

    const fn decimal(self) -> Decimal {
        Decimal { mantissa: self.mantissa as i128, exponent: self.exponent }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self::NONE
    }
}

impl Scale {
    /// As it stands in the registers.
    pub const NONE: Self = Self { factor: Short::ONE, offset: Short::ZERO };

    /// `raw * factor + offset`. A factor of 0 would make all values one.
    pub fn new(factor: f64, offset: f64) -> Result<Self, Fault> {
        let finite =
            |what, number| Short::from_f64(number).ok_or_else(|| Fault::new(format!("{what} is no finite number"), ""));
        if factor == 0.0 {
            return Err(Fault::new("a scale of 0 makes every value the same", "1 leaves it as it is"));
        }
        Ok(Self { factor: finite("the scale", factor)?, offset: finite("the offset", offset)? })
    }

    const fn factor(&self) -> Decimal {
        self.factor.decimal()
    }

    const fn offset(&self) -> Decimal {
        self.offset.decimal()
    }

    /// Whether it changes nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE || (self.factor().to_whole() == Some(1) && self.offset().to_whole() == Some(0))
    }

    /// Whether whole numbers stay whole.
    pub fn is_whole(&self) -> bool {
        self.factor().to_whole().is_some() && self.offset().to_whole().is_some()
    }

    /// Whether what is not negative stays so.
    pub(crate) fn keeps_sign(&self) -> bool {
        self.factor().to_f64() > 0.0 && self.offset().to_f64() >= 0.0
    }

    /// What a raw value means; `None` where it needs more digits than there are.
    pub(crate) fn apply(&self, raw: Decimal) -> Option<Decimal> {
        raw.times(self.factor())?.plus(self.offset())
    }

    /// The same in floating point, for what does not fit.
    pub(crate) fn apply_f64(&self, raw: f64) -> f64 {
        raw * self.factor().to_f64() + self.offset().to_f64()
    }

    /// The raw value that comes nearest to `value`.
    pub(crate) fn invert(&self, value: Decimal) -> Option<i128> {
        value.plus(self.offset().negated()?)?.divided(self.factor())
    }

    /// The same in floating point.
    pub(crate) fn invert_f64(&self, value: Decimal) -> f64 {
        let difference = self.offset().negated().and_then(|offset| value.plus(offset)).map(Decimal::to_f64);
        difference.unwrap_or_else(|| value.to_f64() - self.offset().to_f64()) / self.factor().to_f64()
    }

    /// Lowest and highest value that a whole number of this type can mean.
    pub(crate) fn bounds(&self, kind: Type) -> Option<(Decimal, Decimal)> {
        let (low, high) = kind.bounds()?;
        let (one, other) = (self.apply(Decimal::whole(low))?, self.apply(Decimal::whole(high))?);
        Some(if one.to_f64() <= other.to_f64() { (one, other) } else { (other, one) })
    }
}
