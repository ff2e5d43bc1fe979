//! Addresses in grants: ranges of Modbus registers (how they are written is said in the crate `registers`, which the
//! plugin reads its points with), GPIO lines.

use std::fmt;

use registers::AddressRange;

use super::forms::Fault;

/// Reads `holding:0-199`, `holding:7`, `40001-40200`.
pub(super) fn address_range(text: &str) -> Result<AddressRange, Fault> {
    AddressRange::parse(text).map_err(|wrong| {
        let fault = Fault::new(wrong.message);
        if wrong.hint.is_empty() { fault } else { fault.hint(wrong.hint) }
    })
}

/// A GPIO line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GpioLine {
    /// By number: `gpiochip0:4`.
    Offset {
        /// Name of the chip's device, or its label.
        chip: String,
        /// Number of the line on the chip.
        offset: u32,
    },
    /// By the name that the board gave it: `GPIO17`.
    Name(String),
}

impl fmt::Display for GpioLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GpioLine::Offset { chip, offset } => write!(f, "{chip}:{offset}"),
            GpioLine::Name(name) => f.write_str(name),
        }
    }
}

/// Reads `gpiochip0:4`, or the name of a line.
pub(super) fn gpio_line(text: &str) -> Result<GpioLine, Fault> {
    const EXPECTED: &str = "a line as \"gpiochip0:4\", or its name";
    let wrong = || Fault::new(format!("`{text}` is no GPIO line")).hint(EXPECTED);
    if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(wrong());
    }
    match text.rsplit_once(':') {
        Some((chip, offset)) if !chip.is_empty() && offset.bytes().all(|b| b.is_ascii_digit()) => {
            let offset = offset.parse().map_err(|_| wrong())?;
            Ok(GpioLine::Offset { chip: chip.to_owned(), offset })
        }
        Some(_) => Err(wrong()),
        None if text.starts_with("gpiochip") => {
            Err(Fault::new(format!("`{text}` is a chip, not a line of it")).hint(format!("a line of it: \"{text}:4\"")))
        }
        None if text.bytes().all(|b| b.is_ascii_digit()) => Err(wrong()),
        None => Ok(GpioLine::Name(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_by_number_or_name() {
        assert_eq!(gpio_line("gpiochip0:4").ok(), Some(GpioLine::Offset { chip: "gpiochip0".into(), offset: 4 }));
        assert_eq!(gpio_line("GPIO17").ok(), Some(GpioLine::Name("GPIO17".into())));
        for wrong in ["", "gpiochip0", "gpiochip0:", "gpiochip0:x", ":4", "4", "a b", "gpiochip0:4294967296"] {
            assert!(gpio_line(wrong).is_err(), "{wrong}");
        }
    }
}
