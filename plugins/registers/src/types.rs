//! What registers hold.

use crate::Fault;

/// Longest string, in characters of one byte: what fits the registers of one request.
pub const STRING_MAX: u16 = 250;

/// What a point's registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Type {
    /// A coil, a discrete input, one bit of a register, or a register that is not 0.
    Bool,
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Four registers, unsigned.
    U64,
    /// Four registers, two's complement.
    I64,
    /// Two registers, IEEE 754 single.
    F32,
    /// Four registers, IEEE 754 double.
    F64,
    /// So many characters of one byte, two in a register.
    String(u16),
}

/// Types without a length, by their words.
const PLAIN: [(&str, Type); 9] = [
    ("bool", Type::Bool),
    ("u16", Type::U16),
    ("i16", Type::I16),
    ("u32", Type::U32),
    ("i32", Type::I32),
    ("u64", Type::U64),
    ("i64", Type::I64),
    ("f32", Type::F32),
    ("f64", Type::F64),
];

/// What other programs call them.
const MEANT: [(&str, &str); 24] = [
    ("uint16", "u16"),
    ("word", "u16"),
    ("ushort", "u16"),
    ("int16", "i16"),
    ("short", "i16"),
    ("s16", "i16"),
    ("uint32", "u32"),
    ("dword", "u32"),
    ("int32", "i32"),
    ("s32", "i32"),
    ("uint64", "u64"),
    ("int64", "i64"),
    ("s64", "i64"),
    ("float", "f32"),
    ("float32", "f32"),
    ("real", "f32"),
    ("double", "f64"),
    ("float64", "f64"),
    ("lreal", "f64"),
    ("boolean", "bool"),
    ("bit", "bool"),
    ("int", "i16"),
    ("uint", "u16"),
    ("text", "string:16"),
];

const ALL_WORDS: &str = "bool u16 i16 u32 i32 u64 i64 f32 f64 string:N";

impl Type {
    /// All of the numbers.
    pub const NUMBERS: [Self; 8] =
        [Self::U16, Self::I16, Self::U32, Self::I32, Self::U64, Self::I64, Self::F32, Self::F64];

    /// Reads `u16`, `string:12`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Some((_, kind)) = PLAIN.iter().find(|(word, _)| *word == text) {
            return Ok(*kind);
        }
        if let Some(length) = text.strip_prefix("string:") {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = digits.then(|| length.parse().ok()).flatten().filter(|n| (1..=STRING_MAX).contains(n));
            let hint = format!("1 to {STRING_MAX} characters, two in a register: \"string:16\"");
            return length.map(Self::String).ok_or_else(|| Fault::new(format!("`{text}` has no such length"), hint));
        }
        let lower = text.to_ascii_lowercase();
        let meant = PLAIN.iter().map(|(word, _)| (*word, *word)).chain(MEANT).find(|(word, _)| *word == lower);
        let hint = match meant {
            _ if lower == "string" => "with its length in characters: \"string:16\"".to_owned(),
            Some((_, right)) => format!("did you mean `{right}`?"),
            None => format!("one of: {ALL_WORDS}"),
        };
        Err(Fault::new(format!("there is no type `{text}`"), hint))
    }

    /// As in the configuration.
    pub fn word(self) -> String {
        match self {
            Self::String(length) => format!("string:{length}"),
            plain => PLAIN.iter().find(|(_, kind)| *kind == plain).map_or("", |(word, _)| word).to_owned(),
        }
    }

    /// How many registers it takes.
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool | Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
            Self::String(length) => length.div_ceil(2),
        }
    }

    /// Whether it is a number, so that a scale can apply.
    pub const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::String(_))
    }

    /// Whether it is a whole number.
    pub const fn is_integer(self) -> bool {
        self.is_number() && !matches!(self, Self::F32 | Self::F64)
    }

    /// Lowest and highest value of a whole number.
    pub(crate) const fn bounds(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::U16 => (0, u16::MAX as i128),
            Self::I16 => (i16::MIN as i128, i16::MAX as i128),
            Self::U32 => (0, u32::MAX as i128),
            Self::I32 => (i32::MIN as i128, i32::MAX as i128),
            Self::U64 => (0, u64::MAX as i128),
            Self::I64 => (i64::MIN as i128, i64::MAX as i128),
            _ => return None,
        })
    }
}
