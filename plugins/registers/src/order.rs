//! The order in which the bytes of a value come over the wire.

use crate::Fault;

/// The letters are the bytes of a 32-bit value, A the most significant, as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// As the standard has it: most significant first.
    #[default]
    ABCD,
    /// All bytes reversed.
    DCBA,
    /// The two bytes of each register swapped.
    BADC,
    /// The registers reversed, each as it is. Of one register: unchanged.
    CDAB,
}

impl Order {
    /// All four.
    pub const ALL: [Self; 4] = [Self::ABCD, Self::DCBA, Self::BADC, Self::CDAB];

    /// As in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::ABCD => "ABCD",
            Self::DCBA => "DCBA",
            Self::BADC => "BADC",
            Self::CDAB => "CDAB",
        }
    }

    /// Reads `ABCD`, `DCBA`, `BADC`, `CDAB`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Some(order) = Self::ALL.into_iter().find(|order| order.word() == text) {
            return Ok(order);
        }
        // The eight letters of a 64-bit value, and what other programs call the four.
        let meant = match text.to_ascii_uppercase().replace([' ', '-'], "_").as_str() {
            "ABCDEFGH" | "AB" | "ABCD" | "BIG" | "BIG_ENDIAN" | "BE" => Some(Self::ABCD),
            "HGFEDCBA" | "DCBA" | "LITTLE" | "LITTLE_ENDIAN" | "LE" => Some(Self::DCBA),
            "BADCFEHG" | "BA" | "BADC" | "BYTE_SWAP" | "BYTESWAP" | "MID_BIG" => Some(Self::BADC),
            "GHEFCDAB" | "CDAB" | "WORD_SWAP" | "WORDSWAP" | "MID_LITTLE" => Some(Self::CDAB),
            _ => None,
        };
        let hint = match meant {
            Some(order) => format!("\"{}\": the letters are those of a 32-bit value, for every width", order.word()),
            None => "\"ABCD\", \"DCBA\", \"BADC\" or \"CDAB\"".to_owned(),
        };
        Err(Fault::new(format!("`{text}` is no byte order"), hint))
    }

    /// At most four registers as one number.
    pub(crate) fn number(self, registers: &[u16]) -> u64 {
        let join = |number: u64, register: &u16| match self {
            Self::ABCD | Self::CDAB => number << 16 | u64::from(*register),
            Self::BADC | Self::DCBA => number << 16 | u64::from(register.swap_bytes()),
        };
        match self {
            Self::ABCD | Self::BADC => registers.iter().fold(0, join),
            Self::CDAB | Self::DCBA => registers.iter().rev().fold(0, join),
        }
    }

    /// The bytes of registers as they came, most significant first.
    pub(crate) fn bytes(self, registers: &[u16]) -> Vec<u8> {
        let bytes_of = |register: &u16| match self {
            Self::ABCD | Self::CDAB => register.to_be_bytes(),
            Self::BADC | Self::DCBA => register.to_le_bytes(),
        };
        match self {
            Self::ABCD | Self::BADC => registers.iter().flat_map(bytes_of).collect(),
            Self::CDAB | Self::DCBA => registers.iter().rev().flat_map(bytes_of).collect(),
        }
    }

    /// The way back: registers as they go, from bytes, most significant first. A byte that is left over at the end
    /// stands for itself and a 0.
    pub(crate) fn registers(self, bytes: &[u8]) -> Vec<u16> {
        let register_of = |pair: &[u8]| {
            let pair = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
            match self {
                Self::ABCD | Self::CDAB => u16::from_be_bytes(pair),
                Self::BADC | Self::DCBA => u16::from_le_bytes(pair),
            }
        };
        match self {
            Self::ABCD | Self::BADC => bytes.chunks(2).map(register_of).collect(),
            Self::CDAB | Self::DCBA => bytes.chunks(2).rev().map(register_of).collect(),
        }
    }
}
