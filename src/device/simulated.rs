//! A machine that is not there, for trying a plugin out: a clock, Modbus units, digital lines, system statistics.
//!
//! Invariant: everything follows from the number of the poll and from what was given and written, so that two runs are
//! the same to the byte. What nobody gave follows a rule that is easy to recognise:
//!
//! | what | value at poll n (from 0) |
//! |---|---|
//! | register at address a | a + n, 16 bit |
//! | coil or discrete input at address a | on where a + n is odd |
//! | digital line | inactive, active, inactive, .. |
//! | system statistics | a small gateway: 2 cores, 512 MiB, one file system, `eth0`, one sensor |
//!
//! What is given, in TOML; a register that is written keeps what was written:
//!
//! ```toml
//! [modbus.boiler.1]               # bus and unit
//! "holding:0" = [17096, 0]        # from this address on
//! "coil:3" = true
//! "holding:90" = "timeout"        # or "link", "busy", "exception-2": what reading it comes to
//! [gpio]
//! "gpiochip0:4" = [false, true]   # a level a poll, over and over
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table as Toml, Value};

use crate::config::{AddressRange, Table};

/// When the first poll is: 2026-01-01T00:00:00Z, in nanoseconds.
const BEGIN_NS: i64 = 1_767_225_600_000_000_000;
/// Since when the machine runs then.
const UPTIME: Duration = Duration::from_secs(3600);

/// What reading an address comes to in place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers.
    Timeout,
    /// The line is down.
    Link,
    /// The bus has no room.
    Busy,
    /// The device refuses.
    Exception(u8),
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    poll: u64,
    every: Duration,
    slept: Duration,
    words: BTreeMap<(String, u8, u8, u16), u16>,
    faults: BTreeMap<(String, u8, u8, u16), Fault>,
    levels: BTreeMap<String, Vec<bool>>,
    set: BTreeMap<String, bool>,
}

impl Machine {
    /// One on which nothing is given; a poll is `every` after the one before.
    pub fn new(every: Duration) -> Self {
        Self { every, ..Self::default() }
    }

    /// With what a file gives. An error says where and what is wrong.
    pub fn with(mut self, text: &str) -> Result<Self, String> {
        let given: Toml = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        for (section, value) in given {
            let entries = value.as_table().ok_or_else(|| format!("[{section}] is a table"))?;
            match section.as_str() {
                "modbus" => self.give_buses(entries)?,
                "gpio" => self.give_lines(entries)?,
                _ => return Err(format!("[{section}]: there are [modbus.BUS.UNIT] and [gpio]")),
            }
        }
        Ok(self)
    }

    fn give_buses(&mut self, buses: &Toml) -> Result<(), String> {
        for (bus, units) in buses {
            let units = units.as_table().ok_or_else(|| format!("[modbus.{bus}.UNIT] is a table"))?;
            for (unit, given) in units {
                let place = format!("[modbus.{bus}.{unit}]");
                let number = unit.parse().map_err(|_| format!("{place}: a unit is a number from 0 to 255"))?;
                let given = given.as_table().ok_or_else(|| format!("{place} is a table"))?;
                for (address, value) in given {
                    self.give(bus, number, address, value).map_err(|why| format!("{place} \"{address}\": {why}"))?;
                }
            }
        }
        Ok(())
    }

    fn give(&mut self, bus: &str, unit: u8, address: &str, value: &Value) -> Result<(), String> {
        let range = AddressRange::parse(address).map_err(|fault| fault.message)?;
        let list = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for (number, value) in list.iter().enumerate() {
            let at = u16::try_from(usize::from(range.first) + number).map_err(|_| "beyond 65535".to_owned())?;
            let key = (bus.to_owned(), unit, index(range.table), at);
            match value {
                Value::Integer(word) => {
                    let word = u16::try_from(*word).or_else(|_| i16::try_from(*word).map(i16::cast_unsigned));
                    self.words.insert(key, word.map_err(|_| "a register has 16 bits".to_owned())?);
                }
                Value::Boolean(bit) => drop(self.words.insert(key, u16::from(*bit))),
                Value::String(word) => drop(self.faults.insert(key, fault(word)?)),
                _ => return Err("a number, true or false, or a fault".into()),
            }
        }
        Ok(())
    }

    fn give_lines(&mut self, lines: &Toml) -> Result<(), String> {
        for (line, levels) in lines {
            let list = levels.as_array().cloned().unwrap_or_else(|| vec![levels.clone()]);
            let levels: Option<Vec<bool>> = list.iter().map(Value::as_bool).collect();
            let levels = levels.filter(|levels| !levels.is_empty());
            let levels = levels.ok_or_else(|| format!("[gpio] \"{line}\": a list of true and false"))?;
            self.levels.insert(line.clone(), levels);
        }
        Ok(())
    }

    /// The next poll is due.
    pub fn advance(&mut self) {
        self.poll += 1;
        self.slept = Duration::ZERO;
    }

    /// The time that a plugin sleeps passes.
    pub fn sleep(&mut self, time: Duration) {
        self.slept = self.slept.saturating_add(time);
    }

    /// Since the first poll.
    pub fn monotonic(&self) -> Duration {
        let polls = u32::try_from(self.poll).unwrap_or(u32::MAX);
        self.every.saturating_mul(polls).saturating_add(self.slept)
    }

    /// The wall clock, nanoseconds since 1970.
    pub fn wall_ns(&self) -> i64 {
        BEGIN_NS.saturating_add(i64::try_from(self.monotonic().as_nanos()).unwrap_or(i64::MAX))
    }

    /// Since the machine was started.
    pub fn uptime(&self) -> Duration {
        UPTIME.saturating_add(self.monotonic())
    }

    /// Which poll it is, from 0.
    pub const fn poll(&self) -> u64 {
        self.poll
    }

    /// So many registers or bits (0 and 1) from an address on.
    pub fn read(&self, bus: &str, unit: u8, table: Table, address: u16, count: u16) -> Result<Vec<u16>, Fault> {
        // Illegal data address, as a device answers.
        let end = u32::from(address) + u32::from(count);
        if count == 0 || end > 0x1_0000 {
            return Err(Fault::Exception(2));
        }
        (0..count)
            .map(|offset| {
                let at = address.wrapping_add(offset);
                let key = (bus.to_owned(), unit, index(table), at);
                if let Some(fault) = self.faults.get(&key) {
                    return Err(fault.clone());
                }
                Ok(self.words.get(&key).copied().unwrap_or_else(|| {
                    let rule = u64::from(at) + self.poll;
                    let word = u16::try_from(rule & 0xffff).unwrap_or(0);
                    if table.is_bits() { word & 1 } else { word }
                }))
            })
            .collect()
    }

    /// Writes registers or coils; they keep it.
    pub fn write(&mut self, bus: &str, unit: u8, table: Table, address: u16, words: &[u16]) -> Result<(), Fault> {
        let count = u16::try_from(words.len()).unwrap_or(u16::MAX);
        self.read(bus, unit, table, address, count)?;
        for (offset, word) in (0..count).zip(words) {
            let key = (bus.to_owned(), unit, index(table), address.wrapping_add(offset));
            self.words.insert(key, *word);
        }
        Ok(())
    }

    /// Whether a line is active at a poll.
    pub fn level_at(&self, line: &str, poll: u64) -> bool {
        if let Some(level) = self.set.get(line) {
            return *level;
        }
        match self.levels.get(line) {
            Some(levels) => {
                let index = usize::try_from(poll).unwrap_or(0) % levels.len().max(1);
                levels.get(index).copied().unwrap_or_default()
            }
            None => poll % 2 == 1,
        }
    }

    /// Whether a line is active now.
    pub fn level(&self, line: &str) -> bool {
        self.level_at(line, self.poll)
    }

    /// A line that a plugin drives.
    pub fn set_level(&mut self, line: &str, active: bool) {
        self.set.insert(line.to_owned(), active);
    }
}

/// Tables in an order of their own: bits first.
const fn index(table: Table) -> u8 {
    match table {
        Table::Coil => 0,
        Table::Discrete => 1,
        Table::Holding => 2,
        Table::Input => 3,
    }
}

fn fault(word: &str) -> Result<Fault, String> {
    match word {
        "timeout" => Ok(Fault::Timeout),
        "link" => Ok(Fault::Link),
        "busy" => Ok(Fault::Busy),
        _ => word
            .strip_prefix("exception-")
            .and_then(|code| code.parse().ok())
            .map(Fault::Exception)
            .ok_or_else(|| format!("no fault \"{word}\": timeout, link, busy, exception-N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_gave_follows_the_rule() {
        let mut machine = Machine::new(Duration::from_secs(1));
        assert_eq!(machine.read("b", 1, Table::Holding, 7, 2), Ok(vec![7, 8]));
        assert_eq!(machine.read("b", 1, Table::Coil, 7, 2), Ok(vec![1, 0]));
        assert!(!machine.level("c:1"));
        machine.advance();
        assert_eq!(machine.read("b", 1, Table::Input, 65_535, 1), Ok(vec![0]));
        assert!(machine.level("c:1"));
        assert_eq!(machine.wall_ns(), BEGIN_NS + 1_000_000_000);
        assert_eq!(machine.read("b", 1, Table::Holding, 65_535, 2), Err(Fault::Exception(2)));
    }

    #[test]
    fn what_is_given_and_written_counts() {
        let given = "[modbus.b.1]\n\"holding:10\" = [5, -1]\n\"holding:20\" = \"exception-4\"\n\"40002\" = 9\n[gpio]\n\"c:1\" = [true, true, false]\n";
        let mut machine = Machine::new(Duration::from_secs(1)).with(given).unwrap();
        assert_eq!(machine.read("b", 1, Table::Holding, 10, 3), Ok(vec![5, 65_535, 12]));
        assert_eq!(machine.read("b", 1, Table::Holding, 1, 1), Ok(vec![9]));
        assert_eq!(machine.read("b", 1, Table::Holding, 19, 3), Err(Fault::Exception(4)));
        assert_eq!(machine.read("b", 2, Table::Holding, 10, 1), Ok(vec![10]), "another unit");
        machine.write("b", 1, Table::Holding, 10, &[6]).unwrap();
        machine.advance();
        assert_eq!(machine.read("b", 1, Table::Holding, 10, 1), Ok(vec![6]));
        assert!(machine.level("c:1") && !machine.level_at("c:1", 2));
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        for (given, word) in [
            ("[modbus.b.300]\n", "300"),
            ("[modbus.b.1]\n\"10\" = 1\n", "\"10\""),
            ("[modbus.b.1]\n\"holding:1\" = 70000\n", "16 bits"),
            ("[modbus.b.1]\n\"holding:1\" = \"broken\"\n", "exception-N"),
            ("[gpio]\nx = 3\n", "true and false"),
            ("[serial]\n", "[serial]"),
            ("[gpio\n", "line 1"),
        ] {
            let why = Machine::new(Duration::ZERO).with(given).unwrap_err();
            assert!(why.contains(word), "{given}: {why}");
        }
    }
}
