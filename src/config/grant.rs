//! What a grant lets a source do on a bus.

use super::settings::{ModbusGrant, Ranges};
use crate::modbus::{Read, Table};

impl ModbusGrant {
    /// Whether it says anything of this unit.
    pub fn has_unit(&self, unit: u8) -> bool {
        self.units.as_ref().is_none_or(|units| units.contains(&unit))
    }

    /// Whether these addresses may be read. What may be written may be read as well.
    pub fn may_read(&self, unit: u8, read: Read) -> bool {
        self.has_unit(unit) && covers(&[&self.read, &self.write], read)
    }

    /// Whether these addresses may be written.
    pub fn may_write(&self, unit: u8, place: Read) -> bool {
        self.has_unit(unit) && place.table.is_writable() && covers(&[&self.write], place)
    }
}

/// Whether every address lies in one of the ranges.
fn covers(sets: &[&Ranges], read: Read) -> bool {
    if !read.is_possible() {
        return false;
    }
    let mut at = u32::from(read.first);
    // Each turn passes a range that was not passed before.
    while at < read.end() {
        let beyond = sets.iter().filter_map(|set| beyond(set, read.table, at)).max();
        let Some(beyond) = beyond else { return false };
        at = beyond;
    }
    true
}

/// The address after the farthest range that holds `at`.
fn beyond(set: &Ranges, table: Table, at: u32) -> Option<u32> {
    match set {
        Ranges::All => Some(1 << 16),
        Ranges::Some(ranges) => {
            let holds = ranges.iter().filter(|range| range.table == table && u32::from(range.first) <= at);
            holds.map(|range| u32::from(range.last) + 1).filter(|beyond| *beyond > at).max()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AddressRange;

    fn ranges(list: &[(Table, u16, u16)]) -> Ranges {
        Ranges::Some(
            list.iter()
                .map(|(table, first, last)| AddressRange { table: *table, first: *first, last: *last })
                .collect(),
        )
    }

    fn read(table: Table, first: u16, count: u16) -> Read {
        Read { table, first, count }
    }

    #[test]
    fn every_address_has_to_be_granted() {
        let grant = ModbusGrant {
            units: Some(vec![1, 2]),
            read: ranges(&[(Table::Holding, 0, 9), (Table::Holding, 10, 19), (Table::Input, 65_535, 65_535)]),
            write: ranges(&[(Table::Coil, 3, 3), (Table::Holding, 20, 21)]),
        };
        for good in [(0, 20), (9, 2), (19, 3), (0, 22)] {
            assert!(grant.may_read(1, read(Table::Holding, good.0, good.1)), "{good:?}");
        }
        for bad in [(0, 23), (22, 1), (21, 2), (5, 0)] {
            assert!(!grant.may_read(1, read(Table::Holding, bad.0, bad.1)), "{bad:?}");
        }
        assert!(grant.may_read(2, read(Table::Input, 65_535, 1)));
        assert!(!grant.may_read(2, read(Table::Input, 65_535, 2)), "beyond the last address");
        assert!(!grant.may_read(3, read(Table::Holding, 0, 1)), "another unit");
        assert!(grant.may_read(1, read(Table::Coil, 3, 1)), "what may be written may be read");
        assert!(grant.may_write(1, read(Table::Coil, 3, 1)));
        assert!(!grant.may_write(1, read(Table::Coil, 2, 2)));
        assert!(!grant.may_write(1, read(Table::Holding, 0, 1)));
        assert!(!grant.may_write(3, read(Table::Coil, 3, 1)));
        let all = ModbusGrant { units: None, read: Ranges::All, write: Ranges::NONE };
        assert!(all.may_read(255, read(Table::Coil, 0, 2000)));
        assert!(!all.may_write(255, read(Table::Coil, 0, 1)));
        let writes = ModbusGrant { units: None, read: Ranges::NONE, write: Ranges::All };
        assert!(!writes.may_write(1, read(Table::Input, 0, 1)), "no device lets it be written");
    }
}
