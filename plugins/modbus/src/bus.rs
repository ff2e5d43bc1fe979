//! The way to the devices: units of one bus, by the host.
//!
//! A unit is opened when it is first needed; what was refused is asked for again at the next poll, since a reload may
//! grant it. [`Bus`] is what the rest of the plugin sees, so that tests can stand in for a device.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use outstation_sdk::modbus::{self, Data, Device, Error, Read, Write, Written};

/// Units of a bus.
pub trait Bus {
    /// Reads all of these of a unit: a result for each, in their order.
    fn read(&mut self, unit: u8, reads: &[Read]) -> Vec<Result<Data, Error>>;

    /// Writes, and says what was there before; with `verify` also what is there now.
    fn write(&mut self, unit: u8, what: &Write, verify: bool) -> Result<Written, Error>;
}

/// The host's.
pub struct Devices {
    bus: String,
    open: BTreeMap<u8, Device>,
}

impl Devices {
    /// Opens nothing yet.
    pub fn on(bus: &str) -> Self {
        Self { bus: bus.to_owned(), open: BTreeMap::new() }
    }

    fn unit(&mut self, unit: u8) -> Result<&Device, Error> {
        match self.open.entry(unit) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(modbus::open(&self.bus, unit)?)),
        }
    }
}

impl Bus for Devices {
    fn read(&mut self, unit: u8, reads: &[Read]) -> Vec<Result<Data, Error>> {
        match self.unit(unit) {
            Ok(device) => device.read_many(reads),
            Err(error) => reads.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn write(&mut self, unit: u8, what: &Write, verify: bool) -> Result<Written, Error> {
        self.unit(unit)?.write_back(what, verify)
    }
}
