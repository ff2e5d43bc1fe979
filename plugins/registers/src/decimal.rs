//! Numbers as people write them: 0.1 is one tenth.
//!
//! A register that holds 123 with a scale of 0.1 is 12.3. Floating point gives 12.3 or 12.3 and a bit, depending on the
//! digits; decimal arithmetic gives the number that the data sheet means, which is then rounded once.
//!
//! Invariant: nothing overflows unsaid; what does not fit is `None`, and who asked goes on with floating point.

/// `mantissa * 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    pub(crate) mantissa: i128,
    pub(crate) exponent: i32,
}

/// Powers of ten that are exact in a double.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Whole numbers below are exact in a double.
const EXACT_MAX: i128 = 1 << 53;
/// Singles have no fraction from here on.
const WHOLE_FROM: f32 = 16_777_216.0;
/// So many digits after the point are tried before the shortest form is asked of the formatter.
const TRIES: usize = 9;

impl Decimal {
    /// 0.
    pub const ZERO: Self = Self::whole(0);
    /// 1.
    pub const ONE: Self = Self::whole(1);

    /// A whole number.
    pub const fn whole(number: i128) -> Self {
        Self { mantissa: number, exponent: 0 }
    }

    /// The shortest decimal that means this double; `None` of NaN and the infinities.
    pub fn from_f64(number: f64) -> Option<Self> {
        if !number.is_finite() {
            return None;
        }
        few_digits(number, |candidate| candidate.to_bits() == number.to_bits())
            .or_else(|| Self::from_text(&format!("{number:e}")))
    }

    /// The shortest decimal that means this single: what the device meant, without the digits that the wider type
    /// would make up. Singles from 2^24 on are whole numbers, and stay the ones they are.
    pub fn from_f32(number: f32) -> Option<Self> {
        if !number.is_finite() || number.abs() >= WHOLE_FROM {
            return Self::from_f64(f64::from(number));
        }
        few_digits(f64::from(number), |candidate| (candidate as f32).to_bits() == number.to_bits())
            .or_else(|| Self::from_text(&format!("{number:e}")))
    }

    /// `-1.25e-7`, as the formatter writes it.
    fn from_text(text: &str) -> Option<Self> {
        let (digits, exponent) = text.split_once('e')?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mantissa = format!("{whole}{fraction}").parse().ok()?;
        let exponent: i32 = exponent.parse().ok()?;
        Some(Self { mantissa, exponent: exponent.checked_sub(i32::try_from(fraction.len()).ok()?)? })
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        let power = usize::try_from(self.exponent.unsigned_abs()).ok().and_then(|power| POWERS.get(power));
        match power {
            // Both exact: one rounding.
            Some(power) if self.mantissa.abs() <= EXACT_MAX => {
                let mantissa = self.mantissa as f64;
                if self.exponent < 0 { mantissa / power } else { mantissa * power }
            }
            _ => format!("{}e{}", self.mantissa, self.exponent).parse().unwrap_or(f64::NAN),
        }
    }

    /// The whole number, where it is one.
    pub fn to_whole(self) -> Option<i128> {
        if self.exponent >= 0 {
            return self.mantissa.checked_mul(power(self.exponent)?);
        }
        match power(self.exponent.checked_neg()?) {
            Some(power) if self.mantissa % power == 0 => Some(self.mantissa / power),
            _ if self.mantissa == 0 => Some(0),
            _ => None,
        }
    }

    /// `self * other`.
    pub fn times(self, other: Self) -> Option<Self> {
        let mantissa = self.mantissa.checked_mul(other.mantissa)?;
        Some(Self { mantissa, exponent: self.exponent.checked_add(other.exponent)? })
    }

    /// `self + other`.
    pub fn plus(self, other: Self) -> Option<Self> {
        if other.mantissa == 0 {
            return Some(self);
        }
        if self.mantissa == 0 {
            return Some(other);
        }
        let exponent = self.exponent.min(other.exponent);
        let aligned = |one: Self| one.mantissa.checked_mul(power(one.exponent.checked_sub(exponent)?)?);
        Some(Self { mantissa: aligned(self)?.checked_add(aligned(other)?)?, exponent })
    }

    /// `-self`.
    pub fn negated(self) -> Option<Self> {
        Some(Self { mantissa: self.mantissa.checked_neg()?, ..self })
    }

    /// `self / other`, to the nearest whole number, halves away from 0.
    pub fn divided(self, other: Self) -> Option<i128> {
        let shift = self.exponent.checked_sub(other.exponent)?;
        let (above, below) = if shift >= 0 {
            (self.mantissa.checked_mul(power(shift)?)?, other.mantissa)
        } else {
            (self.mantissa, other.mantissa.checked_mul(power(shift.checked_neg()?)?)?)
        };
        let whole = above.checked_div(below)?;
        let rest = above.checked_rem(below)?;
        let up = rest.checked_abs()?.checked_mul(2)? >= below.checked_abs()?;
        let sign = if (above < 0) == (below < 0) { 1 } else { -1 };
        if up { whole.checked_add(sign) } else { Some(whole) }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.to_whole() {
            Some(whole) => write!(f, "{whole}"),
            None => write!(f, "{}", self.to_f64()),
        }
    }
}

fn power(exponent: i32) -> Option<i128> {
    10i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// The decimal with the fewest digits after the point that `means` the number. Most values of devices have few, and
/// the formatter costs ten times as much.
fn few_digits(number: f64, means: impl Fn(f64) -> bool) -> Option<Decimal> {
    // Smaller ones have their first digit late: counting digits after the point would find a rounded one.
    if number.abs() < 1e-3 && number != 0.0 {
        return None;
    }
    for (digits, power) in POWERS.iter().enumerate().take(TRIES) {
        let mantissa = (number * power).round_ties_even();
        if mantissa.abs() > EXACT_MAX as f64 {
            return None;
        }
        if means(mantissa / power) {
            let exponent = i32::try_from(digits).ok()?;
            return Some(Decimal { mantissa: mantissa as i128, exponent: -exponent });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(number: f64) -> Decimal {
        Decimal::from_f64(number).expect("it is finite")
    }

    #[test]
    fn doubles_come_back_as_they_were() {
        for number in [0.0, 0.1, -0.1, 12.3, 1e-9, 1e22, 123456789.125, 1e300, 5e-324, f64::MAX, 0.30000000000000004] {
            assert_eq!(decimal(number).to_f64(), number, "{number}");
        }
        assert_eq!(Decimal::from_f64(f64::NAN), None);
        assert_eq!(Decimal::from_f32(f32::INFINITY), None);
    }

    #[test]
    fn singles_are_what_was_meant() {
        for (number, meant) in [
            (12.3_f32, 12.3),
            (0.1, 0.1),
            (-273.15, -273.15),
            (3.4028235e38, 3.4028234663852886e38),
            (1e-7, 1e-7),
            (184_936_096.0, 184_936_096.0),
            (1000.1234, 1000.1234),
        ] {
            assert_eq!(Decimal::from_f32(number).expect("it is finite").to_f64(), meant, "{number}");
        }
    }

    #[test]
    fn the_quick_way_and_the_formatter_agree() {
        let mut bits = 0x1234_5678_u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = f32::from_bits(bits);
            if number.abs() < WHOLE_FROM {
                // Of two that are as near, they may take one each.
                let quick = Decimal::from_f32(number).expect("it is finite").to_f64();
                assert_eq!(quick as f32, number, "{number:e}");
                assert_eq!(format!("{quick}").len(), format!("{number}").len(), "{number:e}");
            }
        }
    }

    #[test]
    fn sums_and_products_are_exact() {
        let sum = decimal(0.1).plus(decimal(0.2)).expect("it fits");
        assert_eq!(sum.to_f64(), 0.3);
        let product = Decimal::whole(3).times(decimal(0.1)).expect("it fits");
        assert_eq!(product.to_f64(), 0.3);
        assert_eq!(decimal(1e300).plus(decimal(1e-300)), None);
    }

    #[test]
    fn whole_numbers_are_told_from_others() {
        assert_eq!(decimal(1000.0).to_whole(), Some(1000));
        assert_eq!(decimal(1e20).to_whole(), Some(100_000_000_000_000_000_000));
        assert_eq!(decimal(0.5).to_whole(), None);
        assert_eq!(decimal(1e-200).to_whole(), None);
        assert_eq!(Decimal::ZERO.to_whole(), Some(0));
    }

    #[test]
    fn division_rounds_halves_away_from_zero() {
        assert_eq!(decimal(12.3).divided(decimal(0.1)), Some(123));
        assert_eq!(decimal(0.25).divided(decimal(0.1)), Some(3));
        assert_eq!(decimal(-0.25).divided(decimal(0.1)), Some(-3));
        assert_eq!(decimal(-0.24).divided(decimal(0.1)), Some(-2));
        assert_eq!(decimal(1.0).divided(Decimal::ZERO), None);
        assert_eq!(decimal(-100.0).divided(decimal(-3.0)), Some(33));
    }
}
