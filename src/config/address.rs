//! Addresses in grants: ranges of Modbus registers, GPIO lines.
//!
//! Modbus addresses are never a bare number: `holding:0` counts from 0 as the wire does, `40001` (or six digits) from 1
//! as data sheets do. A range is `holding:0-199` or `40001-40200`.

use std::fmt;

use super::forms::Fault;
use super::suggest::nearest;
pub use crate::modbus::Table;

/// Name in the file and leading digit in data sheets.
const TABLES: [(Table, &str, char); 4] = [
    (Table::Coil, "coil", '0'),
    (Table::Discrete, "discrete", '1'),
    (Table::Input, "input", '3'),
    (Table::Holding, "holding", '4'),
];

/// Addresses of one table, both ends included, counted from 0 as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Which table.
    pub table: Table,
    /// First address.
    pub first: u16,
    /// Last address, at least `first`.
    pub last: u16,
}

impl AddressRange {
    /// Whether `count` addresses from `first` on lie in the range.
    pub fn contains(&self, table: Table, first: u16, count: u16) -> bool {
        let end = u32::from(first) + u32::from(count);
        table == self.table && count > 0 && first >= self.first && end <= u32::from(self.last) + 1
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.word(), self.first)?;
        if self.last > self.first { write!(f, "-{}", self.last) } else { Ok(()) }
    }
}

/// Reads `holding:0-199`, `holding:7`, `40001-40200`.
pub(super) fn address_range(text: &str) -> Result<AddressRange, Fault> {
    let (from, to) = text.split_once('-').map_or((text, None), |(from, to)| (from, Some(to)));
    let (table, first) = match from.split_once(':') {
        Some((word, number)) => (table_named(word)?, wire_number(number)?),
        None => sheet_number(from)?,
    };
    let last = match (to, from.contains(':')) {
        (None, _) => first,
        (Some(to), true) => wire_number(to)?,
        (Some(to), false) => {
            let (other, last) = sheet_number(to)?;
            if other != table {
                return Err(Fault::new(format!("`{from}` and `{to}` are in different tables")));
            }
            last
        }
    };
    if last < first {
        return Err(Fault::new(format!("`{text}` ends before it begins")).hint("the lower address comes first"));
    }
    Ok(AddressRange { table, first, last })
}

fn table_named(word: &str) -> Result<Table, Fault> {
    if let Some((table, ..)) = TABLES.iter().find(|(_, name, _)| *name == word) {
        return Ok(*table);
    }
    let fault = Fault::new(format!("there is no table `{word}`"));
    Err(match nearest(word, TABLES.map(|(_, name, _)| name)) {
        Some(meant) => fault.hint(format!("did you mean `{meant}`?")),
        None => fault.hint("coil, discrete, input or holding"),
    })
}

fn wire_number(digits: &str) -> Result<u16, Fault> {
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .ok_or_else(|| Fault::new(format!("`{digits}` is no address")).hint("a number from 0 to 65535"))
}

/// `40001` or `400001`: the first digit names the table, the rest counts from 1.
fn sheet_number(digits: &str) -> Result<(Table, u16), Fault> {
    let wrong = || {
        let fault = Fault::new(format!("`{digits}` is no Modbus address"));
        fault.hint("as \"holding:0\", counted from 0, or \"40001\", counted from 1 with five or six digits")
    };
    let mut rest = digits.chars();
    let lead = rest.next().ok_or_else(wrong)?;
    let rest = rest.as_str();
    let (table, ..) = TABLES.iter().find(|(.., digit)| *digit == lead).ok_or_else(wrong)?;
    if !matches!(rest.len(), 4 | 5) || !rest.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let from_one: u32 = rest.parse().map_err(|_| wrong())?;
    let address = from_one.checked_sub(1).and_then(|a| u16::try_from(a).ok());
    address.map(|address| (*table, address)).ok_or_else(|| {
        let last = if rest.len() == 4 { "9999" } else { "65536" };
        let first = if rest.len() == 4 { "0001" } else { "00001" };
        Fault::new(format!("`{digits}` is out of range")).hint(format!("from {lead}{first} to {lead}{last}"))
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

    fn shown(text: &str) -> Option<String> {
        address_range(text).ok().map(|range| range.to_string())
    }

    #[test]
    fn addresses_in_both_notations() {
        assert_eq!(shown("holding:0-199").as_deref(), Some("holding:0-199"));
        assert_eq!(shown("coil:3").as_deref(), Some("coil:3"));
        assert_eq!(shown("40001").as_deref(), Some("holding:0"));
        assert_eq!(shown("00001-00010").as_deref(), Some("coil:0-9"));
        assert_eq!(shown("365536").as_deref(), Some("input:65535"));
        assert_eq!(shown("input:65535").as_deref(), Some("input:65535"));
    }

    #[test]
    fn what_is_no_address() {
        for wrong in [
            "",
            "0",
            "40000",
            "20001",
            "holding",
            "holding:",
            "holding:65536",
            "holding:5-3",
            "holding:-1",
            "465537",
            "40001-30001",
            "holding:1-2-3",
            "4000a",
            "hold:1",
            "４0001",
            "holding:+1",
            "-",
            ":",
        ] {
            assert!(address_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_contains_whole_reads_only() {
        let range = AddressRange { table: Table::Holding, first: 10, last: 19 };
        assert!(range.contains(Table::Holding, 10, 10));
        assert!(!range.contains(Table::Holding, 10, 11));
        assert!(!range.contains(Table::Holding, 9, 2));
        assert!(!range.contains(Table::Input, 10, 1));
        assert!(!range.contains(Table::Holding, 10, 0));
        let top = AddressRange { table: Table::Coil, first: 0, last: u16::MAX };
        assert!(top.contains(Table::Coil, u16::MAX, 1));
        assert!(!top.contains(Table::Coil, u16::MAX, 2));
    }

    #[test]
    fn lines_by_number_or_name() {
        assert_eq!(gpio_line("gpiochip0:4").ok(), Some(GpioLine::Offset { chip: "gpiochip0".into(), offset: 4 }));
        assert_eq!(gpio_line("GPIO17").ok(), Some(GpioLine::Name("GPIO17".into())));
        for wrong in ["", "gpiochip0", "gpiochip0:", "gpiochip0:x", ":4", "4", "a b", "gpiochip0:4294967296"] {
            assert!(gpio_line(wrong).is_err(), "{wrong}");
        }
    }
}
