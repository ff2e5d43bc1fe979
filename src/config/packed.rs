//! A text that is kept for as long as the agent runs and looked at when a plugin starts: long ones are kept packed, to a
//! quarter or less.

use std::borrow::Cow;
use std::sync::Arc;

/// Bytes from which on a text is packed.
const PACKED_FROM: usize = 4 << 10;

/// The text; a clone is the same one. Equal texts are equal, for packing makes the same of the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Plain(Arc<str>),
    Lz4(Arc<[u8]>),
}

impl Packed {
    /// The text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Kept::Plain(text) => Cow::Borrowed(text),
            // It was packed here, and never left this process.
            Kept::Lz4(bytes) => {
                let text = lz4_flex::block::decompress_size_prepended(bytes).unwrap_or_default();
                Cow::Owned(String::from_utf8(text).unwrap_or_default())
            }
        }
    }
}

impl From<&str> for Packed {
    fn from(text: &str) -> Self {
        Self(match text.len() < PACKED_FROM {
            true => Kept::Plain(text.into()),
            false => Kept::Lz4(lz4_flex::block::compress_prepend_size(text.as_bytes()).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_as_it_was_and_a_long_one_is_kept_small() {
        for count in [0, 1, 10, 1000, 100_000] {
            let text: String = (0..count).map(|n| format!("{{\"name\":\"p{n}\",\"é\":{n}}},")).collect();
            let packed = Packed::from(text.as_str());
            assert_eq!(packed.text(), text);
            assert_eq!(packed, Packed::from(text.as_str()));
            assert_ne!(packed, Packed::from(format!("{text} ").as_str()));
            if let Kept::Lz4(bytes) = &packed.0 {
                assert!(bytes.len() < text.len() / 2, "{} of {}", bytes.len(), text.len());
            }
        }
    }
}
