//! The interfaces that a plugin imports, with a [`Simulation`] behind them. What is only described or checked has none,
//! and sees nothing, as on the real host.

use std::time::Duration;

use wasmtime::component::{HasSelf, Linker, LinkerInstance, Resource, ResourceType};
use wasmtime::{Result, StoreContextMut};

use super::super::bindings::outstation::gpio::lines as gpio;
use super::super::bindings::outstation::host;
use super::super::bindings::outstation::modbus::client as modbus;
use super::super::bindings::outstation::sys::{activity, stats};
use super::super::bindings::outstation::types::types;
use super::super::guest::Guest;
use super::Simulation;

/// A handle's type. There is nothing behind it but its number.
struct Device;
struct Input;
struct Output;

type LineAnswer<T> = std::result::Result<T, gpio::Error>;
type Ctx<'a> = StoreContextMut<'a, Guest>;

/// Works on the simulation; `absent` where there is none.
fn with<T>(store: &mut Ctx<'_>, absent: T, work: impl FnOnce(&mut Simulation) -> T) -> T {
    match store.data_mut().simulation.as_deref_mut() {
        Some(simulation) => work(simulation),
        None => absent,
    }
}

/// Counts what the grants refused, as the real ones do.
fn counted<T, E>(
    store: &mut Ctx<'_>,
    result: std::result::Result<T, E>,
    denied: fn(&E) -> bool,
) -> std::result::Result<T, E> {
    if result.as_ref().err().is_some_and(denied) {
        store.data_mut().count_refused();
    }
    result
}

const fn is_denied(error: &modbus::Error) -> bool {
    matches!(error, modbus::Error::Denied)
}

/// Everything that the host offers.
pub fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    types::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::log::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::config::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::state::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    host::clock::add_to_linker::<_, HasSelf<Guest>>(linker, |guest| guest)?;
    statistics(linker)?;
    doings(linker)?;
    modbus_client(linker)?;
    gpio_lines(linker)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A small gateway, whose counters grow and whose load goes up and down.
fn statistics(linker: &mut Linker<Guest>) -> Result<()> {
    /// The number of the poll, where there is a machine and it is granted.
    fn poll(store: &mut Ctx<'_>) -> Option<u64> {
        with(store, None, |there| {
            there.grants.as_ref().is_none_or(|grants| grants.system).then(|| there.machine.poll())
        })
    }
    const MIB: u64 = 1 << 20;
    let real = |number: u64| f32::from(u16::try_from(number).unwrap_or(u16::MAX));
    let mut stats = linker.instance("outstation:sys/stats@0.1.0")?;
    stats.func_wrap("cpus", move |mut store: Ctx<'_>, ()| {
        let cpu = |poll: u64, core: u64| stats::Cpu {
            name: core.to_string(),
            usage_percent: Some(real((10 + 20 * core + poll) % 100)),
        };
        Ok((poll(&mut store).map(|poll| vec![cpu(poll, 0), cpu(poll, 1)]).unwrap_or_default(),))
    })?;
    stats.func_wrap("memory-info", |mut store: Ctx<'_>, ()| {
        Ok((poll(&mut store).map(|poll| stats::Memory {
            total: 512 * MIB,
            available: (256 + poll % 64) * MIB,
            swap_total: 0,
            swap_used: 0,
        }),))
    })?;
    stats.func_wrap("filesystems", |mut store: Ctx<'_>, ()| {
        let root =
            |_| stats::Filesystem { mount: "/".into(), total: 8192 * MIB, used: 2048 * MIB, available: 5632 * MIB };
        Ok((poll(&mut store).map(root).into_iter().collect::<Vec<_>>(),))
    })?;
    stats.func_wrap("interfaces", |mut store: Ctx<'_>, ()| {
        let eth0 = |poll| stats::Netif {
            name: "eth0".into(),
            rx_bytes: 1_000_000 + 1500 * poll,
            tx_bytes: 500_000 + 700 * poll,
            rx_errors: 0,
            tx_errors: 0,
        };
        Ok((poll(&mut store).map(eth0).into_iter().collect::<Vec<_>>(),))
    })?;
    stats.func_wrap("thermals", move |mut store: Ctx<'_>, ()| {
        let sensor = |poll| stats::Thermal { label: "cpu".into(), celsius: real(45 + poll % 10), critical: Some(95.0) };
        Ok((poll(&mut store).map(sensor).into_iter().collect::<Vec<_>>(),))
    })?;
    stats.func_wrap("load-average", |mut store: Ctx<'_>, ()| {
        Ok((poll(&mut store).map(|_| stats::Load { one: 0.5, five: 0.25, fifteen: 0.125 }),))
    })?;
    stats.func_wrap("uptime", |mut store: Ctx<'_>, ()| {
        let granted = poll(&mut store).is_some();
        let uptime = with(&mut store, None, |there| Some(nanoseconds(there.machine.uptime())));
        Ok((uptime.filter(|_| granted),))
    })
}

/// Its one disk, one process of each name that is asked for, no systemd, and an agent that delivers a message a poll.
fn doings(linker: &mut Linker<Guest>) -> Result<()> {
    fn poll(store: &mut Ctx<'_>) -> Option<u64> {
        with(store, None, |there| {
            there.grants.as_ref().is_none_or(|grants| grants.system).then(|| there.machine.poll())
        })
    }
    const MS: u64 = 1_000_000;
    let mut doings = linker.instance("outstation:sys/activity@0.1.0")?;
    doings.func_wrap("disks", |mut store: Ctx<'_>, ()| {
        let disk = |poll| activity::DiskIo {
            name: "mmcblk0".into(),
            read_bytes: 8_000_000 + 4096 * poll,
            written_bytes: 2_000_000 + 8192 * poll,
            busy: (1000 + 10 * poll) * MS,
        };
        Ok((poll(&mut store).map(disk).into_iter().collect::<Vec<_>>(),))
    })?;
    doings.func_wrap("process-groups", |mut store: Ctx<'_>, (names,): (Vec<String>,)| {
        let poll = poll(&mut store);
        let group = |(name, poll)| activity::ProcessGroup { name, count: 1, memory: 4 << 20, cpu: 20 * poll * MS };
        Ok((names.into_iter().filter_map(|name| Some((name, poll?))).map(group).collect::<Vec<_>>(),))
    })?;
    doings.func_wrap("services", |_: Ctx<'_>, _: (Vec<String>,)| Ok((Vec::<activity::Service>::new(),)))?;
    doings.func_wrap("own-figures", |mut store: Ctx<'_>, ()| {
        Ok((poll(&mut store).map(|poll| activity::Itself {
            memory: 20 << 20,
            cpu: 5 * poll * MS,
            threads: 4,
            descriptors: 20,
            buffered: 0,
            buffer_bytes: 1 << 20,
            accepted: poll,
            delivered: poll,
            dropped: 0,
        }),))
    })
}

fn modbus_client(linker: &mut Linker<Guest>) -> Result<()> {
    type Answer<T> = std::result::Result<T, modbus::Error>;
    let mut client = linker.instance("outstation:modbus/client@0.1.0")?;
    client.resource("device", ResourceType::host::<Device>(), |_, _| Ok(()))?;
    client.func_wrap("open", |mut store: Ctx<'_>, (bus, unit): (String, u8)| {
        let opened = with(&mut store, Err(modbus::Error::Denied), |there| there.open_unit(bus, unit));
        let opened: Answer<u32> = counted(&mut store, opened, is_denied);
        Ok((opened.map(Resource::<Device>::new_own),))
    })?;
    client.func_wrap(
        "[method]device.read",
        |mut store: Ctx<'_>, (device, what): (Resource<Device>, modbus::Read)| {
            let read = with(&mut store, Err(modbus::Error::Denied), |there| there.read(device.rep(), what));
            Ok((counted(&mut store, read, is_denied),))
        },
    )?;
    client.func_wrap(
        "[method]device.read-many",
        |mut store: Ctx<'_>, (device, what): (Resource<Device>, Vec<modbus::Read>)| {
            let mut answers: Vec<Answer<modbus::Data>> = Vec::new();
            for one in what {
                let read = with(&mut store, Err(modbus::Error::Denied), |there| there.read(device.rep(), one));
                answers.push(counted(&mut store, read, is_denied));
            }
            Ok((answers,))
        },
    )?;
    client.func_wrap(
        "[method]device.write",
        |mut store: Ctx<'_>, (device, what): (Resource<Device>, modbus::Write)| {
            let done = with(&mut store, Err(modbus::Error::Denied), |there| there.write(device.rep(), what));
            Ok((counted(&mut store, done, is_denied),))
        },
    )?;
    client.func_wrap(
        "[method]device.write-back",
        |mut store: Ctx<'_>, (device, what, verify): (Resource<Device>, modbus::Write, bool)| {
            let write = |there: &mut Simulation| there.write_back(device.rep(), what, verify);
            let done = with(&mut store, Err(modbus::Error::Denied), write);
            Ok((counted(&mut store, done, is_denied),))
        },
    )?;
    client.func_wrap("[method]device.set-timeout", |_: Ctx<'_>, _: (Resource<Device>, u64)| Ok(()))?;
    client.func_wrap("[method]device.stats", |mut store: Ctx<'_>, _: (Resource<Device>,)| {
        let requests = with(&mut store, 0, |there| there.requests);
        Ok((modbus::LinkStats { requests, timeouts: 0, exceptions: 0, last_rtt: 1_000_000 },))
    })
}

fn gpio_lines(linker: &mut Linker<Guest>) -> Result<()> {
    const fn refused(error: &gpio::Error) -> bool {
        matches!(error, gpio::Error::NotAllowed)
    }
    let mut lines = linker.instance("outstation:gpio/lines@0.1.0")?;
    lines.resource("input", ResourceType::host::<Input>(), |_, _| Ok(()))?;
    lines.resource("output", ResourceType::host::<Output>(), |_, _| Ok(()))?;
    lines.func_wrap("open-input", |mut store: Ctx<'_>, (name, options): (String, gpio::InputOptions)| {
        let open = |there: &mut Simulation| there.open_line(&name, options.active_low, false);
        let opened: LineAnswer<u32> = with(&mut store, Err(gpio::Error::NotAllowed), open);
        Ok((counted(&mut store, opened, refused).map(Resource::<Input>::new_own),))
    })?;
    lines.func_wrap("open-output", |mut store: Ctx<'_>, (name, options): (String, gpio::OutputOptions)| {
        let open = |there: &mut Simulation| {
            let opened = there.open_line(&name, options.active_low, true)?;
            there.machine.set_level(&name, matches!(options.initial, gpio::Level::Active) != options.active_low);
            Ok(opened)
        };
        let opened: LineAnswer<u32> = with(&mut store, Err(gpio::Error::NotAllowed), open);
        Ok((counted(&mut store, opened, refused).map(Resource::<Output>::new_own),))
    })?;
    lines.func_wrap("[method]input.read", |mut store: Ctx<'_>, (line,): (Resource<Input>,)| {
        Ok((level(&mut store, line.rep()),))
    })?;
    lines.func_wrap(
        "[method]input.watch",
        |mut store: Ctx<'_>, (line, rising, falling, _debounce): (Resource<Input>, bool, bool, u64)| {
            with(&mut store, (), |there| {
                if let Some((line, _)) = there.line(line.rep()) {
                    line.watched = (rising, falling);
                }
            });
            Ok((LineAnswer::<()>::Ok(()),))
        },
    )?;
    lines.func_wrap("[method]input.take-edges", |mut store: Ctx<'_>, (line, max): (Resource<Input>, u32)| {
        let events = with(&mut store, Vec::new(), |there| {
            let Some((line, _)) = there.line(line.rep()) else { return Vec::new() };
            let many = line.waiting.len().min(usize::try_from(max).unwrap_or(usize::MAX));
            line.waiting.drain(..many).collect()
        });
        Ok((gpio::EdgeBatch { events, dropped: 0 },))
    })?;
    lines.func_wrap("[method]input.count", |mut store: Ctx<'_>, (line,): (Resource<Input>,)| {
        Ok((with(&mut store, (0, 0), |there| there.line(line.rep()).map_or((0, 0), |(line, _)| line.counted)),))
    })?;
    gpio_outputs(&mut lines)
}

fn gpio_outputs(lines: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    lines.func_wrap("[method]output.set", |mut store: Ctx<'_>, (line, to): (Resource<Output>, gpio::Level)| {
        drive(&mut store, line.rep(), to);
        Ok((LineAnswer::<()>::Ok(()),))
    })?;
    lines.func_wrap("[method]output.get", |mut store: Ctx<'_>, (line,): (Resource<Output>,)| {
        Ok((level(&mut store, line.rep()),))
    })?;
    lines.func_wrap(
        "[method]output.pulse",
        |mut store: Ctx<'_>, (line, to, _width): (Resource<Output>, gpio::Level, u64)| {
            // Over before anybody looks again.
            let name = with(&mut store, None, |there| there.line(line.rep()).map(|(line, _)| line.name.clone()));
            let word = if matches!(to, gpio::Level::Active) { "active" } else { "inactive" };
            with(&mut store, (), |there| {
                there.note(format!("pulse {} {word}", name.unwrap_or_default()), "done".into());
            });
            Ok((LineAnswer::<()>::Ok(()),))
        },
    )
}

fn level(store: &mut Ctx<'_>, handle: u32) -> std::result::Result<gpio::Level, gpio::Error> {
    with(store, Err(gpio::Error::NotAllowed), |there| {
        let Some((line, machine)) = there.line(handle) else { return Err(gpio::Error::NotSupported) };
        let active = machine.level(&line.name) != line.active_low;
        Ok(if active { gpio::Level::Active } else { gpio::Level::Inactive })
    })
}

fn drive(store: &mut Ctx<'_>, handle: u32, to: gpio::Level) {
    with(store, (), |there| {
        let Some((line, machine)) = there.line(handle) else { return };
        let active = matches!(to, gpio::Level::Active);
        machine.set_level(&line.name, active != line.active_low);
        let name = line.name.clone();
        there.note(format!("set {name} {}", if active { "active" } else { "inactive" }), "done".into());
    });
}
