//! What the host offers, with a [`Simulation`] behind it. What is only described or checked has none, and sees nothing, as
//! on the real host.
//!
//! The functions and their types are those that are generated from `plugins/wit`, as for the real ones. Handles are those
//! of the real ones too, but there is nothing behind them but their number.

use std::time::Duration;

use wasmtime::Result;
use wasmtime::component::{HasData, HasSelf, Linker, Resource};

use super::super::bindings::outstation::gpio::lines as gpio;
use super::super::bindings::outstation::host;
use super::super::bindings::outstation::modbus::client as modbus;
use super::super::bindings::outstation::sys::{activity, stats};
use super::super::bindings::outstation::types::types;
use super::super::guest::Guest;
use super::super::modbus::Device;
use super::Simulation;
use crate::device::gpio::{Input, Output};

type Answer<T> = std::result::Result<T, modbus::Error>;
type LineAnswer<T> = std::result::Result<T, gpio::Error>;

const MIB: u64 = 1 << 20;
const MS: u64 = 1_000_000;

/// A guest, as one that sees a machine that is not there.
struct There<'a>(&'a mut Guest);

struct Simulated;

impl HasData for Simulated {
    type Data<'a> = There<'a>;
}

const fn there(guest: &mut Guest) -> There<'_> {
    There(guest)
}

/// Everything that the host offers: devices simulated, all else as ever.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    types::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::log::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::config::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::state::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::clock::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    stats::add_to_linker::<_, Simulated>(linker, there)?;
    activity::add_to_linker::<_, Simulated>(linker, there)?;
    modbus::add_to_linker::<_, Simulated>(linker, there)?;
    gpio::add_to_linker::<_, Simulated>(linker, there)
}

impl There<'_> {
    /// Works on the simulation; `absent` where there is none.
    fn with<T>(&mut self, absent: T, work: impl FnOnce(&mut Simulation) -> T) -> T {
        self.0.simulation.as_deref_mut().map_or(absent, work)
    }

    /// The number of the poll, where there is a machine and its statistics are granted.
    fn poll(&mut self) -> Option<u64> {
        self.with(None, |there| there.grants.as_ref().is_none_or(|grants| grants.system).then(|| there.machine.poll()))
    }

    /// Asks a Modbus line; what the grants refuse is counted, as by the real one.
    fn ask<T>(&mut self, work: impl FnOnce(&mut Simulation) -> Answer<T>) -> Answer<T> {
        let answer = self.with(Err(modbus::Error::Denied), work);
        if matches!(answer, Err(modbus::Error::Denied)) {
            self.0.count_refused();
        }
        answer
    }

    fn open_line(&mut self, name: &str, active_low: bool, write: bool) -> LineAnswer<u32> {
        let opened = self.with(Err(gpio::Error::NotAllowed), |there| there.open_line(name, active_low, write));
        if matches!(opened, Err(gpio::Error::NotAllowed)) {
            self.0.count_refused();
        }
        opened
    }

    fn level(&mut self, handle: u32) -> LineAnswer<gpio::Level> {
        self.with(Err(gpio::Error::NotAllowed), |there| there.line_level(handle))
    }
}

const fn nanoseconds(time: Duration) -> u64 {
    time.as_secs() * 1_000_000_000 + time.subsec_nanos() as u64
}

fn real(number: u64) -> f32 {
    f32::from(u16::try_from(number).unwrap_or(u16::MAX))
}

/// A small gateway, whose counters grow and whose load goes up and down.
impl stats::Host for There<'_> {
    async fn cpus(&mut self) -> Result<Vec<stats::Cpu>> {
        let cpu = |poll: u64, core: u64| stats::Cpu {
            name: core.to_string(),
            usage_percent: Some(real((10 + 20 * core + poll) % 100)),
        };
        Ok(self.poll().map(|poll| vec![cpu(poll, 0), cpu(poll, 1)]).unwrap_or_default())
    }

    async fn memory_info(&mut self) -> Result<Option<stats::Memory>> {
        Ok(self.poll().map(|poll| stats::Memory {
            total: 512 * MIB,
            available: (256 + poll % 64) * MIB,
            swap_total: 0,
            swap_used: 0,
        }))
    }

    async fn filesystems(&mut self) -> Result<Vec<stats::Filesystem>> {
        let root =
            |_| stats::Filesystem { mount: "/".into(), total: 8192 * MIB, used: 2048 * MIB, available: 5632 * MIB };
        Ok(self.poll().map(root).into_iter().collect())
    }

    async fn interfaces(&mut self) -> Result<Vec<stats::Netif>> {
        let eth0 = |poll| stats::Netif {
            name: "eth0".into(),
            rx_bytes: 1_000_000 + 1500 * poll,
            tx_bytes: 500_000 + 700 * poll,
            rx_errors: 0,
            tx_errors: 0,
        };
        Ok(self.poll().map(eth0).into_iter().collect())
    }

    async fn thermals(&mut self) -> Result<Vec<stats::Thermal>> {
        let sensor = |poll| stats::Thermal { label: "cpu".into(), celsius: real(45 + poll % 10), critical: Some(95.0) };
        Ok(self.poll().map(sensor).into_iter().collect())
    }

    async fn load_average(&mut self) -> Result<Option<stats::Load>> {
        Ok(self.poll().map(|_| stats::Load { one: 0.5, five: 0.25, fifteen: 0.125 }))
    }

    async fn uptime(&mut self) -> Result<Option<u64>> {
        let granted = self.poll().is_some();
        Ok(self.with(None, |there| granted.then(|| nanoseconds(there.machine.uptime()))))
    }
}

/// Its one disk, one process of each name that is asked for, no systemd, and an agent that delivers a message a poll.
impl activity::Host for There<'_> {
    async fn disks(&mut self) -> Result<Vec<activity::DiskIo>> {
        let disk = |poll| activity::DiskIo {
            name: "mmcblk0".into(),
            read_bytes: 8_000_000 + 4096 * poll,
            written_bytes: 2_000_000 + 8192 * poll,
            busy: (1000 + 10 * poll) * MS,
        };
        Ok(self.poll().map(disk).into_iter().collect())
    }

    async fn process_groups(&mut self, names: Vec<String>) -> Result<Vec<activity::ProcessGroup>> {
        let Some(poll) = self.poll() else { return Ok(Vec::new()) };
        let group = |name| activity::ProcessGroup { name, count: 1, memory: 4 << 20, cpu: 20 * poll * MS };
        Ok(names.into_iter().map(group).collect())
    }

    async fn services(&mut self, _: Vec<String>) -> Result<Vec<activity::Service>> {
        Ok(Vec::new())
    }

    async fn own_figures(&mut self) -> Result<Option<activity::Itself>> {
        Ok(self.poll().map(|poll| activity::Itself {
            memory: 20 << 20,
            cpu: 5 * poll * MS,
            threads: 4,
            descriptors: 20,
            buffered: 0,
            buffer_bytes: 1 << 20,
            accepted: poll,
            delivered: poll,
            dropped: 0,
        }))
    }
}

impl modbus::Host for There<'_> {
    async fn open(&mut self, bus: String, unit: u8) -> Result<Answer<Resource<Device>>> {
        Ok(self.ask(|there| there.open_unit(bus, unit)).map(Resource::new_own))
    }
}

impl modbus::HostDevice for There<'_> {
    async fn read(&mut self, device: Resource<Device>, what: modbus::Read) -> Result<Answer<modbus::Data>> {
        Ok(self.ask(|there| there.read(device.rep(), &what)))
    }

    async fn read_many(
        &mut self,
        device: Resource<Device>,
        what: Vec<modbus::Read>,
    ) -> Result<Vec<Answer<modbus::Data>>> {
        Ok(what.iter().map(|one| self.ask(|there| there.read(device.rep(), one))).collect())
    }

    async fn write(&mut self, device: Resource<Device>, what: modbus::Write) -> Result<Answer<()>> {
        Ok(self.ask(|there| there.write(device.rep(), what, false)).map(drop))
    }

    async fn write_back(
        &mut self,
        device: Resource<Device>,
        what: modbus::Write,
        verify: bool,
    ) -> Result<Answer<modbus::Written>> {
        Ok(self.ask(|there| there.write(device.rep(), what, verify)))
    }

    async fn set_timeout(&mut self, _: Resource<Device>, _: u64) -> Result<()> {
        Ok(())
    }

    async fn stats(&mut self, _: Resource<Device>) -> Result<modbus::LinkStats> {
        let requests = self.with(0, |there| there.requests);
        Ok(modbus::LinkStats { requests, timeouts: 0, exceptions: 0, last_rtt: MS })
    }

    async fn drop(&mut self, _: Resource<Device>) -> Result<()> {
        Ok(())
    }
}

impl gpio::Host for There<'_> {
    async fn open_input(&mut self, line: String, options: gpio::InputOptions) -> Result<LineAnswer<Resource<Input>>> {
        Ok(self.open_line(&line, options.active_low, false).map(Resource::new_own))
    }

    async fn open_output(
        &mut self,
        line: String,
        options: gpio::OutputOptions,
    ) -> Result<LineAnswer<Resource<Output>>> {
        let opened = self.open_line(&line, options.active_low, true);
        if opened.is_ok() {
            let active = matches!(options.initial, gpio::Level::Active);
            self.with((), |there| there.machine.set_level(&line, active != options.active_low));
        }
        Ok(opened.map(Resource::new_own))
    }
}

impl gpio::HostInput for There<'_> {
    async fn read(&mut self, line: Resource<Input>) -> Result<LineAnswer<gpio::Level>> {
        Ok(self.level(line.rep()))
    }

    async fn watch(&mut self, line: Resource<Input>, rising: bool, falling: bool, _: u64) -> Result<LineAnswer<()>> {
        self.with((), |there| {
            if let Some((line, _)) = there.line(line.rep()) {
                line.watched = (rising, falling);
            }
        });
        Ok(Ok(()))
    }

    async fn take_edges(&mut self, line: Resource<Input>, max: u32) -> Result<gpio::EdgeBatch> {
        let events = self.with(Vec::new(), |there| {
            let Some((line, _)) = there.line(line.rep()) else { return Vec::new() };
            let many = line.waiting.len().min(usize::try_from(max).unwrap_or(usize::MAX));
            line.waiting.drain(..many).collect()
        });
        Ok(gpio::EdgeBatch { events, dropped: 0 })
    }

    async fn count(&mut self, line: Resource<Input>) -> Result<(u64, u64)> {
        Ok(self.with((0, 0), |there| there.line(line.rep()).map_or((0, 0), |(line, _)| line.counted)))
    }

    async fn drop(&mut self, _: Resource<Input>) -> Result<()> {
        Ok(())
    }
}

impl gpio::HostOutput for There<'_> {
    async fn set(&mut self, line: Resource<Output>, to: gpio::Level) -> Result<LineAnswer<()>> {
        self.with((), |there| there.drive(line.rep(), matches!(to, gpio::Level::Active)));
        Ok(Ok(()))
    }

    async fn get(&mut self, line: Resource<Output>) -> Result<LineAnswer<gpio::Level>> {
        Ok(self.level(line.rep()))
    }

    async fn pulse(&mut self, line: Resource<Output>, to: gpio::Level, _: u64) -> Result<LineAnswer<()>> {
        self.with((), |there| there.pulse(line.rep(), matches!(to, gpio::Level::Active)));
        Ok(Ok(()))
    }

    async fn drop(&mut self, _: Resource<Output>) -> Result<()> {
        Ok(())
    }
}
