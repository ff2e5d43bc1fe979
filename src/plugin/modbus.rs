//! What the host offers of Modbus lines.
//!
//! A source names buses and units; every call is held against its `allow.modbus` before it goes to the bus's owner. What
//! is not allowed is an error value, and counted. While an instance is on trial it reads, and writes nothing.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::bindings::outstation::modbus::client as wit;
use super::guest::Guest;
use crate::config::ModbusGrant;
use crate::device::modbus::{Answer, Call, Caller, Data, Error, Read, Table, Tally, What, Write, Written};

/// Reads of one call; a plugin has at most so many points.
const READS_MAX: usize = 10_000;
/// Units that a serial line can have.
const SERIAL_UNITS: std::ops::RangeInclusive<u8> = 1..=247;
/// The shortest time-out that a plugin can ask for.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// One unit on one bus, as a plugin has opened it.
pub struct Device {
    caller: Caller,
    bus: Arc<str>,
    unit: u8,
    grant: ModbusGrant,
    timeout: Option<Duration>,
    tally: Tally,
}

impl Device {
    /// Asks the bus's owner.
    async fn call(&mut self, what: What, within: Duration) -> Answer {
        let call = Call { unit: self.unit, timeout: self.timeout, within, what };
        let (answer, cost) = self.caller.call(&self.bus, call).await;
        self.tally.requests += cost.requests;
        self.tally.timeouts += cost.timeouts;
        self.tally.exceptions += cost.exceptions;
        if cost.requests > 0 {
            self.tally.last_rtt = cost.last_rtt;
        }
        answer
    }
}

impl Guest {
    /// Reads what is granted; the rest is denied. One result a read.
    async fn read(
        &mut self,
        device: &Resource<Device>,
        wanted: Vec<wit::Read>,
    ) -> Result<Vec<Result<wit::Data, wit::Error>>> {
        let count = wanted.len();
        if count > READS_MAX {
            let error = || wit::Error::Invalid(format!("{count} reads; a call may have {READS_MAX}"));
            return Ok(wanted.iter().map(|_| Err(error())).collect());
        }
        let within = self.device_time();
        let device = self.table.get_mut(device)?;
        let may = |read: &Read| device.grant.may_read(device.unit, *read);
        let reads: Arc<[Read]> = wanted.iter().map(read).collect();
        // Dozens of sources wait at once: none keeps more than it has to.
        drop(wanted);
        let denied: Vec<usize> = (0..).zip(&*reads).filter(|(_, read)| !may(read)).map(|(index, _)| index).collect();
        let granted = if denied.is_empty() { reads } else { reads.iter().filter(|read| may(read)).copied().collect() };
        let results = match granted.is_empty() {
            true => Vec::new(),
            false => match device.call(What::Read(granted), within).await {
                Answer::Read(results) => results,
                Answer::Write(_) => Vec::new(),
            },
        };
        denied.iter().for_each(|_| self.count_refused());
        let results = results.into_iter().map(|result| result.map(data).map_err(error));
        if denied.is_empty() {
            let mut results: Vec<_> = results.collect();
            results.resize_with(count, || Err(wit::Error::Busy));
            return Ok(results);
        }
        let (mut results, mut denied) = (results, denied.into_iter().peekable());
        let result = |index| match denied.next_if_eq(&index) {
            Some(_) => Err(wit::Error::Denied),
            None => results.next().unwrap_or(Err(wit::Error::Busy)),
        };
        Ok((0..count).map(result).collect())
    }

    async fn write(
        &mut self,
        device: &Resource<Device>,
        what: wit::Write,
        before: bool,
        verify: bool,
    ) -> Result<Result<Written, wit::Error>> {
        let (write, place) = match self::write(what) {
            Ok(write) => write,
            Err(error) => return Ok(Err(error)),
        };
        let within = self.device_time();
        let is_trial = self.trial.holds();
        let device = self.table.get_mut(device)?;
        if is_trial || !device.grant.may_write(device.unit, place) {
            self.count_refused();
            return Ok(Err(wit::Error::Denied));
        }
        Ok(match device.call(What::Write { write, before, verify }, within).await {
            Answer::Write(written) => written.map_err(error),
            Answer::Read(_) => Err(wit::Error::Busy),
        })
    }
}

impl wit::Host for Guest {
    async fn open(&mut self, bus: String, unit: u8) -> Result<Result<Resource<Device>, wit::Error>> {
        let granted = self.modbus.get(&bus).filter(|grant| grant.has_unit(unit)).cloned();
        let Some((grant, caller)) = granted.zip(self.buses.as_ref().map(|buses| buses.caller(self.name()))) else {
            self.count_refused();
            return Ok(Err(wit::Error::Denied));
        };
        if caller.is_serial(&bus) == Some(true) && !SERIAL_UNITS.contains(&unit) {
            return Ok(Err(wit::Error::Invalid(format!("a serial line has no unit {unit}: they are 1 to 247"))));
        }
        let device = Device { caller, bus: bus.into(), unit, grant, timeout: None, tally: Tally::default() };
        Ok(Ok(self.table.push(device)?))
    }
}

impl wit::HostDevice for Guest {
    async fn read(&mut self, device: Resource<Device>, what: wit::Read) -> Result<Result<wit::Data, wit::Error>> {
        let mut results = Guest::read(self, &device, vec![what]).await?;
        Ok(results.pop().unwrap_or(Err(wit::Error::Busy)))
    }

    async fn read_many(
        &mut self,
        device: Resource<Device>,
        what: Vec<wit::Read>,
    ) -> Result<Vec<Result<wit::Data, wit::Error>>> {
        Guest::read(self, &device, what).await
    }

    async fn write(&mut self, device: Resource<Device>, what: wit::Write) -> Result<Result<(), wit::Error>> {
        Ok(Guest::write(self, &device, what, false, false).await?.map(drop))
    }

    async fn write_back(
        &mut self,
        device: Resource<Device>,
        what: wit::Write,
        verify: bool,
    ) -> Result<Result<wit::Written, wit::Error>> {
        let written = Guest::write(self, &device, what, true, verify).await?;
        Ok(written.map(|written| wit::Written { before: written.before.map(data), after: written.after.map(data) }))
    }

    async fn set_timeout(&mut self, device: Resource<Device>, timeout: u64) -> Result<()> {
        self.table.get_mut(&device)?.timeout = Some(Duration::from_nanos(timeout).max(TIMEOUT_MIN));
        Ok(())
    }

    async fn stats(&mut self, device: Resource<Device>) -> Result<wit::LinkStats> {
        let Tally { requests, timeouts, exceptions, last_rtt } = self.table.get(&device)?.tally;
        let last_rtt = u64::try_from(last_rtt.as_nanos()).unwrap_or(u64::MAX);
        Ok(wit::LinkStats { requests, timeouts, exceptions, last_rtt })
    }

    async fn drop(&mut self, device: Resource<Device>) -> Result<()> {
        self.table.delete(device)?;
        Ok(())
    }
}

/// What is to be read, in the agent's words.
pub const fn read(wanted: &wit::Read) -> Read {
    let table = match wanted.table {
        wit::Table::Coils => Table::Coil,
        wit::Table::DiscreteInputs => Table::Discrete,
        wit::Table::HoldingRegisters => Table::Holding,
        wit::Table::InputRegisters => Table::Input,
    };
    Read { table, first: wanted.address, count: wanted.count }
}

/// What is to be written, and where.
pub fn write(wanted: wit::Write) -> Result<(Write, Read), wit::Error> {
    let write = match wanted {
        wit::Write::Coil((address, on)) => Write::Coils(address, vec![on]),
        wit::Write::Coils((first, values)) => Write::Coils(first, values),
        wit::Write::Register((address, value)) => Write::Registers(address, vec![value]),
        wit::Write::Registers((first, values)) => Write::Registers(first, values),
        wit::Write::MaskRegister((address, and, or)) => Write::Mask(address, and, or),
    };
    let nothing = || wit::Error::Invalid("nothing to write, or more than one request can".into());
    write.place().ok_or_else(nothing).map(|place| (write, place))
}

fn data(data: Data) -> wit::Data {
    match data {
        Data::Bits(bits) => wit::Data::Bits(bits),
        Data::Registers(words) => wit::Data::Registers(words),
    }
}

fn error(error: Error) -> wit::Error {
    match error {
        Error::Timeout => wit::Error::Timeout,
        Error::Link(why) => wit::Error::Transport(why),
        Error::Exception(code) => wit::Error::Exception(code),
        Error::Denied => wit::Error::Denied,
        Error::Busy => wit::Error::Busy,
        Error::Invalid(why) => wit::Error::Invalid(why),
    }
}
