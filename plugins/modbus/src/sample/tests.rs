//! A made-up bus, for these tests and those of writing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;

use outstation_sdk::Problems;
use outstation_sdk::modbus::{Read, Table, Write, Written};

use super::*;
use crate::options::Options;

/// Units with holding registers and coils.
#[derive(Default)]
pub struct Fake {
    pub registers: BTreeMap<(u8, u16), u16>,
    pub coils: BTreeMap<(u8, u16), bool>,
    pub broken: BTreeMap<u8, Error>,
    pub written: Vec<Write>,
    /// What becomes of what is written.
    pub forgets: bool,
}

impl Fake {
    fn one(&self, unit: u8, read: &Read) -> Result<Data, Error> {
        if let Some(error) = self.broken.get(&unit) {
            return Err(error.clone());
        }
        let addresses = read.address..read.address + read.count;
        Ok(match read.table {
            Table::Coils | Table::DiscreteInputs => {
                Data::Bits(addresses.map(|n| self.coils.get(&(unit, n)).copied().unwrap_or_default()).collect())
            }
            _ => {
                let all: Option<Vec<u16>> = addresses.map(|n| self.registers.get(&(unit, n)).copied()).collect();
                Data::Registers(all.ok_or(Error::Exception(2))?)
            }
        })
    }
}

impl Bus for Fake {
    fn read(&mut self, unit: u8, reads: &[Read]) -> Vec<Result<Data, Error>> {
        reads.iter().map(|read| self.one(unit, read)).collect()
    }

    fn write(&mut self, unit: u8, what: &Write, verify: bool) -> Result<Written, Error> {
        if let Some(error) = self.broken.get(&unit) {
            return Err(error.clone());
        }
        let (table, address, count) = match what {
            Write::Coil((address, _)) => (Table::Coils, *address, 1),
            Write::Registers((address, registers)) => (Table::HoldingRegisters, *address, registers.len() as u16),
            Write::Register((address, _)) | Write::MaskRegister((address, ..)) => {
                (Table::HoldingRegisters, *address, 1)
            }
            Write::Coils(_) => return Err(Error::Exception(1)),
        };
        let read = Read { table, address, count };
        let before = self.one(unit, &read).ok();
        self.written.push(what.clone());
        let mut set = |n: u16, value: u16| {
            if !self.forgets {
                self.registers.insert((unit, n), value);
            }
        };
        match what {
            Write::Coil((n, on)) => drop(self.coils.insert((unit, *n), *on)),
            Write::Register((n, value)) => set(*n, *value),
            Write::Registers((n, values)) => (*n..).zip(values).for_each(|(n, value)| set(n, *value)),
            Write::MaskRegister((n, keep, or)) => {
                let now = self.registers[&(unit, *n)];
                self.registers.insert((unit, *n), now & keep | or & !keep);
            }
            Write::Coils(_) => {}
        }
        let after = if verify { self.one(unit, &read).ok() } else { None };
        Ok(Written { before, after })
    }
}

/// Points from a list as in the configuration; unit 1.
pub fn points(list: &str) -> Vec<Point> {
    let mut problems = Problems::default();
    let config = format!(r#"{{"bus": "b", "unit": 1, "points": [{list}]}}"#);
    let options = Options::read(&config, &mut problems);
    assert!(problems.list().is_empty(), "{:?}", problems.list());
    options.points
}

/// A bus whose unit 1 holds these from register 0 on.
pub fn bus(registers: &[u16]) -> Fake {
    Fake { registers: (0..).zip(registers).map(|(n, value)| ((1, n), *value)).collect(), ..Fake::default() }
}

fn samples(list: &str, bus: &mut Fake) -> Vec<Sample> {
    let mut samples = Vec::new();
    take(&points(list), bus, |index, sample| {
        assert_eq!(index, samples.len(), "in their order");
        samples.push(sample);
    });
    samples
}

#[test]
fn values_come_as_they_are_meant() {
    let mut bus = bus(&[123, 0x0000, 0x4148, 0xfffe, 0x0008, 0x5055, 0x4d50]);
    bus.coils.insert((1, 3), true);
    let list = r#"{"name": "a", "address": "holding:0", "scale": 0.1},
        {"name": "b", "address": "40002", "type": "f32", "order": "CDAB"},
        {"name": "c", "address": "holding:3", "type": "i16"}, {"name": "d", "address": "holding:4.3"},
        {"name": "e", "address": "holding:5", "type": "string:4"}, {"name": "f", "address": "coil:3"}"#;
    let expected = [
        Value::Real(12.3),
        Value::Real(12.5),
        Value::Integer(-2),
        Value::Boolean(true),
        Value::Text("PUMP".to_owned()),
        Value::Boolean(true),
    ];
    assert_eq!(samples(list, &mut bus), expected.map(Sample::Good));
}

#[test]
fn reasons_are_the_contracts() {
    let one = |error: Error| {
        let mut bus = Fake { broken: [(1, error)].into(), ..Fake::default() };
        samples(r#"{"name": "a", "address": "holding:0"}"#, &mut bus).remove(0)
    };
    assert_eq!(one(Error::Timeout), Sample::Bad(Cause::Shared(TIMEOUT)));
    assert_eq!(one(Error::Transport(String::new())), Sample::Bad(Cause::Shared(LINK)));
    assert_eq!(one(Error::Denied), Sample::Bad(Cause::Shared(DENIED)));
    assert_eq!(one(Error::Exception(2)), Sample::Bad(Cause::Shared(258)));
    assert_eq!(one(Error::Busy), Sample::Bad(Cause::Own(BUSY)));
    assert_eq!(REASONS[usize::from(BUSY)], "busy");
}

/// F-35: an old value goes on being shown after the device is gone.
#[test]
fn f35_one_bad_register_is_one_bad_point_and_a_dead_unit_is_its_own() {
    let mut bus = bus(&[1, 2]);
    bus.broken.insert(2, Error::Timeout);
    let list = r#"{"name": "a", "address": "holding:0"}, {"name": "b", "address": "holding:9"},
        {"name": "c", "address": "holding:0", "unit_id": 2}, {"name": "d", "address": "holding:1"}"#;
    assert_eq!(
        samples(list, &mut bus),
        [
            Sample::Good(Value::Unsigned(1)),
            Sample::Bad(Cause::Shared(258)),
            Sample::Bad(Cause::Shared(TIMEOUT)),
            Sample::Good(Value::Unsigned(2)),
        ]
    );
}

#[test]
fn what_is_beyond_its_range_is_doubtful_and_what_is_no_value_is_bad() {
    let list =
        r#"{"name": "a", "address": "holding:0", "type": "i16", "scale": 0.1, "range": [-40, 120], "no_value": 32768}"#;
    assert_eq!(samples(list, &mut bus(&[1200])), [Sample::Good(Value::Real(120.0))]);
    assert_eq!(samples(list, &mut bus(&[1201])), [Sample::Doubtful(Value::Real(120.1), OUT_OF_RANGE)]);
    assert_eq!(samples(list, &mut bus(&[0x8000])), [Sample::Bad(Cause::Own(NO_VALUE))]);
    let huge = r#"{"name": "a", "address": "holding:0", "type": "u64", "scale": 10}"#;
    assert_eq!(samples(huge, &mut bus(&[0xffff; 4])), [Sample::Bad(Cause::Own(OUT_OF_RANGE))]);
}
