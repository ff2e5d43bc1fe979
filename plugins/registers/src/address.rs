//! Addresses: never a bare number.
//!
//! `holding:0` counts from 0 as the wire does; `40001` (or six digits, `400001`) counts from 1 as data sheets do. One bit
//! of a register is `holding:5.3`, bit 0 the least significant. A range is `holding:0-199` or `40001-40200`.

use std::fmt;

use crate::Fault;

/// One of the four tables of a Modbus device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Single bits, read and written.
    Coil,
    /// Single bits, read only.
    Discrete,
    /// 16-bit registers, read only.
    Input,
    /// 16-bit registers, read and written.
    Holding,
}

/// Name in the file, leading digit in data sheets, and what others call it.
const TABLES: [(Table, &str, char, &[&str]); 4] = [
    (Table::Coil, "coil", '0', &["coils", "co", "do", "0x"]),
    (Table::Discrete, "discrete", '1', &["discretes", "discrete_input", "discrete_inputs", "contact", "di", "1x"]),
    (Table::Input, "input", '3', &["inputs", "input_register", "input_registers", "ir", "3x", "in"]),
    (
        Table::Holding,
        "holding",
        '4',
        &["hold", "holdings", "holding_register", "holding_registers", "hr", "4x", "register", "reg"],
    ),
];

const BIT_MAX: u8 = 15;

impl Table {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Coil, Self::Discrete, Self::Input, Self::Holding];

    /// As in `holding:0`.
    pub fn word(self) -> &'static str {
        TABLES.iter().find(|(table, ..)| *table == self).map_or("", |(_, word, ..)| word)
    }

    /// As in `40001`.
    fn digit(self) -> char {
        TABLES.iter().find(|(table, ..)| *table == self).map_or('?', |(_, _, digit, _)| *digit)
    }

    /// Whether a device lets it be written.
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::Coil | Self::Holding)
    }

    /// Whether it holds single bits; else 16-bit registers.
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// One address, counted from 0 as on the wire, perhaps one bit of the register there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Which table.
    pub table: Table,
    /// Counted from 0.
    pub address: u16,
    /// A bit of the register, 0 (least significant) to 15.
    pub bit: Option<u8>,
}

impl Address {
    /// Reads `holding:5`, `40006`, `holding:5.3`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (place, bit) = match text.split_once('.') {
            Some((place, bit)) => (place, Some(bit)),
            None => (text, None),
        };
        let (table, address) = one(place)?;
        let Some(digits) = bit else { return Ok(Self { table, address, bit: None }) };
        if table.is_bits() {
            let message = format!("`{text}` names a bit of a bit: {} holds single bits", table.word());
            return Err(Fault::new(message, format!("\"{}:{address}\"", table.word())));
        }
        let number = plain(digits).and_then(|number| u8::try_from(number).ok()).filter(|bit| *bit <= BIT_MAX);
        match number {
            Some(bit) => Ok(Self { table, address, bit: Some(bit) }),
            None => Err(Fault::new(
                format!("a register has no bit `{digits}`"),
                "0 (the least significant) to 15, as in \"holding:5.3\"",
            )),
        }
    }

    /// As data sheets write it: `40006`, six digits where five do not reach.
    pub fn sheet(&self) -> String {
        let number = u32::from(self.address) + 1;
        let bit = self.bit.map(|bit| format!(".{bit}")).unwrap_or_default();
        let digit = self.table.digit();
        if number <= 9999 { format!("{digit}{number:04}{bit}") } else { format!("{digit}{number:05}{bit}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.table.word(), self.address)?;
        self.bit.map_or(Ok(()), |bit| write!(f, ".{bit}"))
    }
}

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
    /// Reads `holding:0-199`, `holding:7`, `40001-40200`.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (from, to) = text.split_once('-').map_or((text, None), |(from, to)| (from, Some(to)));
        let (table, first) = one(from)?;
        let last = match (to, from.contains(':')) {
            (None, _) => first,
            (Some(to), true) => wire_number(to)?,
            (Some(to), false) => {
                let (other, last) = sheet_number(to)?;
                if other != table {
                    return Err(Fault::new(format!("`{from}` and `{to}` are in different tables"), ""));
                }
                last
            }
        };
        if last < first {
            return Err(Fault::new(format!("`{text}` ends before it begins"), "the lower address comes first"));
        }
        Ok(Self { table, first, last })
    }

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

fn one(text: &str) -> Result<(Table, u16), Fault> {
    match text.split_once(':') {
        Some((word, number)) => Ok((table_named(word)?, wire_number(number)?)),
        None => sheet_number(text),
    }
}

fn table_named(word: &str) -> Result<Table, Fault> {
    if let Some((table, ..)) = TABLES.iter().find(|(_, name, ..)| *name == word) {
        return Ok(*table);
    }
    let plain = word.to_ascii_lowercase().replace([' ', '-'], "_");
    let meant = TABLES.iter().find(|(_, name, _, others)| *name == plain || others.contains(&plain.as_str()));
    let hint = match meant {
        Some((_, name, ..)) => format!("did you mean `{name}`?"),
        None => "coil, discrete, input or holding".to_owned(),
    };
    Err(Fault::new(format!("there is no table `{word}`"), hint))
}

/// Digits only: no sign, no blank.
fn plain(digits: &str) -> Option<u32> {
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| digits.parse().ok()).flatten()
}

fn wire_number(digits: &str) -> Result<u16, Fault> {
    let number = plain(digits).and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| Fault::new(format!("`{digits}` is no address"), "a number from 0 to 65535"))
}

/// `40001` or `400001`: the first digit names the table, the rest counts from 1.
fn sheet_number(digits: &str) -> Result<(Table, u16), Fault> {
    let wrong = || {
        let hint = "as \"holding:0\", counted from 0, or \"40001\", counted from 1 with five or six digits";
        Fault::new(format!("`{digits}` is no Modbus address"), hint)
    };
    let mut rest = digits.chars();
    let lead = rest.next().ok_or_else(wrong)?;
    let rest = rest.as_str();
    let (table, ..) = TABLES.iter().find(|(_, _, digit, _)| *digit == lead).ok_or_else(wrong)?;
    if !matches!(rest.len(), 4 | 5) {
        return Err(wrong());
    }
    let from_one = plain(rest).ok_or_else(wrong)?;
    let address = from_one.checked_sub(1).and_then(|address| u16::try_from(address).ok());
    address.map(|address| (*table, address)).ok_or_else(|| {
        let (first, last) = if rest.len() == 4 { ("0001", "9999") } else { ("00001", "65536") };
        Fault::new(format!("`{digits}` is out of range"), format!("from {lead}{first} to {lead}{last}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Option<String> {
        AddressRange::parse(text).ok().map(|range| range.to_string())
    }

    fn address(text: &str) -> Option<String> {
        Address::parse(text).ok().map(|address| address.to_string())
    }

    /// F-37: off by one, for ever.
    #[test]
    fn f37_both_notations_mean_the_same_register() {
        for (wire, sheet) in [
            ("holding:0", "40001"),
            ("holding:0", "400001"),
            ("holding:107", "40108"),
            ("holding:9998", "49999"),
            ("holding:9999", "410000"),
            ("input:65535", "365536"),
            ("coil:0", "00001"),
            ("coil:18", "000019"),
            ("discrete:3", "10004"),
            ("holding:5.3", "40006.3"),
            ("input:0.15", "30001.15"),
        ] {
            assert_eq!(address(sheet).as_deref(), Some(wire), "{sheet}");
            let read = Address::parse(wire).expect("an address");
            assert_eq!(Address::parse(&read.sheet()), Ok(read), "{wire}");
        }
        assert_eq!(Address::parse("holding:9999").expect("an address").sheet(), "410000");
    }

    #[test]
    fn ranges_in_both_notations() {
        assert_eq!(range("holding:0-199").as_deref(), Some("holding:0-199"));
        assert_eq!(range("coil:3").as_deref(), Some("coil:3"));
        assert_eq!(range("40001").as_deref(), Some("holding:0"));
        assert_eq!(range("00001-00010").as_deref(), Some("coil:0-9"));
        assert_eq!(range("365536").as_deref(), Some("input:65535"));
    }

    #[test]
    fn what_is_no_address() {
        for wrong in [
            "",
            "0",
            "17",
            "40000",
            "400000",
            "20001",
            "holding",
            "holding:",
            "holding:65536",
            "holding:-1",
            "465537",
            "4000a",
            "hold:1",
            "４0001",
            "holding:+1",
            "-",
            ":",
            "holding: 1",
            "HOLDING:1",
            "0x10",
        ] {
            assert!(Address::parse(wrong).is_err() && AddressRange::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["holding:5-3", "40001-30001", "holding:1-2-3", "holding:5.3"] {
            assert!(AddressRange::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["coil:5.3", "holding:5.16", "holding:5.", "holding:5.-1", "holding:0-9", "holding:5.3.1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_names_get_the_right_one_as_a_hint() {
        for (wrong, right) in
            [("hold:3", "holding"), ("Holding:3", "holding"), ("input registers:1", "input"), ("di:1", "discrete")]
        {
            let fault = Address::parse(wrong).expect_err("no table");
            assert!(fault.hint.contains(&format!("`{right}`")), "{wrong}: {fault}");
        }
        assert_eq!(Address::parse("foo:1").expect_err("no table").hint, "coil, discrete, input or holding");
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
}
