//! Buses and lines, as far as they can be looked at without disturbing whoever uses them.
//!
//! A bus that nobody has is opened, and each unit that the configuration names is asked for one address that its source
//! may read. A bus that the running agent has, and a serial port that any process has open, is not opened: many devices
//! take one connection, and opening a port alone moves its modem lines. Of a line only the kernel is asked, through its chip.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Access, access};

use super::{Beside, Found, Rung, rung};
use crate::config::{Bus, BusUrl, GpioLine, Ranges, Settings, Table};
use crate::device::gpio::{self, LineError};
use crate::device::modbus::{self, Error, Line};
use crate::os::places;
use crate::status::{self, BusState};

/// Units that are asked on a bus; a dead one costs its time-outs.
const UNITS_MAX: usize = 32;

/// Looks at one bus and the units on it.
pub(super) async fn bus(settings: &Settings, name: &str, bus: &Bus, beside: &Beside) -> Vec<Rung> {
    if let Some(found) = not_opened(name, bus, beside) {
        return vec![rung("bus", name.to_owned(), async { found }).await];
    }
    let mut opened = None;
    let open = async {
        match Line::open(bus).await {
            Ok(line) => {
                opened = Some(line);
                Found::good(format!("{} can be reached", bus.url))
            }
            Err(error) => Found::bad(format!("{}: {error}", bus.url), unreachable(bus)),
        }
    };
    let mut rungs = vec![rung("bus", name.to_owned(), open).await];
    let Some(mut line) = opened else { return rungs };
    let units = units(settings, name, bus);
    for (&number, &(table, address)) in units.iter().take(UNITS_MAX) {
        let asking = unit(&mut line, number, table, address);
        rungs.push(rung("unit", format!("{name} {number}"), asking).await);
    }
    if units.len() > UNITS_MAX {
        let more = async { Found::doubtful(format!("{} units are not asked", units.len() - UNITS_MAX), SCAN) };
        rungs.push(rung("unit", format!("{name}, the rest"), more).await);
    }
    rungs
}

const SCAN: &str = "`outstation probe modbus URL --scan` shows which units answer, while no agent has the line";

async fn unit(line: &mut Line, unit: u8, table: Table, address: u16) -> Found {
    match modbus::probe(line, unit, table, address).await {
        Ok(answer) => Found::good(answer),
        Err(Error::Timeout) => Found::bad(
            "no answer in time",
            "is it switched on, is its number right, and on a serial line its baud rate and parity? Slow devices need a \
             longer timeout",
        ),
        Err(error @ Error::Exception(_)) => {
            Found::bad(error.to_string(), "the gateway answers, the device behind it does not: is its number right?")
        }
        Err(error) => Found::bad(error.to_string(), "something comes over this bus that is no answer of the device"),
    }
}

/// The units that the configuration names, each with an address that its source may read.
fn units(settings: &Settings, name: &str, bus: &Bus) -> BTreeMap<u8, (Table, u16)> {
    let mut units: BTreeMap<u8, (Table, u16)> = bus.units.keys().map(|&unit| (unit, (Table::Holding, 0))).collect();
    for source in settings.sources.values() {
        let Some(grant) = source.allow.modbus.get(name) else { continue };
        let readable = match &grant.read {
            Ranges::All => None,
            Ranges::Some(ranges) => ranges.first(),
        };
        let place = readable.map_or((Table::Holding, 0), |range| (range.table, range.first));
        let granted = grant.units.iter().flatten().copied();
        // Where every unit is granted, the plugin's configuration says which it means.
        let config = serde_json::from_str(&source.config.text()).unwrap_or(serde_json::Value::Null);
        let points = config.get("points").and_then(|points| points.as_array()).into_iter().flatten();
        let numbers = config.get("unit").into_iter().chain(points.filter_map(|point| point.get("unit_id")));
        let here = config.get("bus").and_then(|bus| bus.as_str()) == Some(name);
        let meant = numbers.filter(|_| here && grant.units.is_none());
        let meant = meant.filter_map(|number| u8::try_from(number.as_u64()?).ok());
        units.extend(granted.chain(meant).map(|unit| (unit, place)));
    }
    units
}

/// Why a bus is not opened, if it is not; what can be said of it all the same.
fn not_opened(name: &str, bus: &Bus, beside: &Beside) -> Option<Found> {
    let is_serial = matches!(bus.url, BusUrl::Rtu { .. });
    if let BusUrl::Rtu { device, .. } = &bus.url
        && let Some(found) = unusable(device)
    {
        return Some(found);
    }
    let device = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    match beside {
        Beside::Agent(buses) => {
            let owned = buses.iter().find(|known| device(&known.url) == device(&bus.url.to_string()));
            owned.map(|known| of_the_agent(name, known))
        }
        Beside::Unknown(why) if is_serial => Some(Found::doubtful(
            format!("{} is there, and not opened: whether a running agent has it can't be asked ({why})", bus.url),
            "check as a user that may ask the agent (`outstation status` works for it)",
        )),
        Beside::Nobody | Beside::Unknown(_) => None,
    }
    .or_else(|| match &bus.url {
        BusUrl::Rtu { device, .. } => held(device),
        BusUrl::Tcp { .. } | BusUrl::RtuTcp { .. } => None,
    })
}

/// What the running agent itself knows of a bus.
fn of_the_agent(name: &str, bus: &status::Bus) -> Found {
    let aside: Vec<_> = bus.units_aside.iter().map(u8::to_string).collect();
    let seen = format!("the running agent has it as bus `{}`, so it is not opened", bus.name);
    let ask = "`outstation status` and `outstation tail` say more";
    match bus.state {
        BusState::Connected | BusState::Idle if aside.is_empty() => {
            Found::good(format!("{seen}; {} requests, {} without an answer", bus.requests, bus.timeouts))
        }
        BusState::Connected | BusState::Idle => {
            Found::bad(format!("{seen}; units that do not answer: {}", aside.join(", ")), ask)
        }
        BusState::Connecting | BusState::Waiting => {
            let why = bus.last_error.as_deref().unwrap_or("it is being reached for");
            Found::bad(format!("{seen}, and can't reach {name}: {why}"), ask)
        }
    }
}

/// A serial port that somebody has open.
fn held(device: &Path) -> Option<Found> {
    let (pid, name) = places::opened_by(device)?;
    Some(match name.as_str() {
        "outstation" => {
            Found::good(format!("{} is there, and not opened: process {pid} (the agent) works on it", device.display()))
        }
        _ => Found::bad(
            format!("{} is in use by process {pid} ({name}), and not opened", device.display()),
            "two that ask on one line disturb each other: end one of them",
        ),
    })
}

/// A serial port that can't be opened.
fn unusable(device: &Path) -> Option<Found> {
    let absent =
        "`ls -l /dev/serial/by-id` shows the adapters that are plugged in; such a name outlives another socket";
    let group = "its group may use it (`ls -l` shows which, often dialout): the package's service belongs to it";
    let shown = device.display();
    let metadata = match std::fs::metadata(device) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Some(Found::bad(format!("there is no {shown}"), absent));
        }
        Err(error) => return Some(Found::bad(format!("{shown}: {error}"), group)),
    };
    if !metadata.file_type().is_char_device() {
        return Some(Found::bad(format!("{shown} is no device"), absent));
    }
    let denied = access(device, Access::READ_OK | Access::WRITE_OK).err()?;
    Some(Found::bad(format!("{shown} may not be opened: {denied}"), group))
}

fn unreachable(bus: &Bus) -> &'static str {
    match bus.url {
        BusUrl::Rtu { .. } => "the port is there and does not open: is another program on it?",
        BusUrl::Tcp { .. } | BusUrl::RtuTcp { .. } => {
            "is the device switched on, does `ping` reach it from here, is the port right, and does it take one more \
             connection? Many take one only"
        }
    }
}

/// All lines that sources are allowed to use, and whether one of them may drive it.
pub(super) fn lines(settings: &Settings) -> BTreeMap<GpioLine, bool> {
    let grants = settings.sources.values().map(|source| &source.allow.gpio);
    let driven: BTreeSet<_> = grants.clone().flat_map(|grant| &grant.write).collect();
    let all = grants.flat_map(|grant| grant.read.iter().chain(&grant.write));
    all.map(|line| (line.clone(), driven.contains(line))).collect()
}

/// Looks at one line.
pub(super) async fn line(line: &GpioLine, is_driven: bool) -> Found {
    let seen = match gpio::look(line).await {
        Ok(seen) => seen,
        Err(error @ LineError::Denied) => {
            let group = "its group may use it (`ls -l /dev/gpiochip*` shows which, often gpio)";
            return Found::bad(error.to_string(), group);
        }
        Err(error) => {
            let advice = "`ls /dev/gpiochip*` shows the chips of this machine, `gpioinfo` their lines";
            return Found::bad(error.to_string(), advice);
        }
    };
    let direction = if seen.is_output { "output" } else { "input" };
    let place = format!("line {} of {}, an {direction} now", seen.offset, seen.chip.display());
    match &seen.held_by {
        Some(_) if seen.is_held_by_agent() => Found::good(format!("{place}, held by the running agent")),
        Some(holder) => Found::bad(
            format!("{place}, in use by \"{holder}\""),
            "a line has one user: end that program, or take another line",
        ),
        None if seen.is_output && !is_driven => Found::doubtful(
            format!("{place}, and free"),
            "something has driven it, and a source is to read it: is it the right line?",
        ),
        None => Found::good(format!("{place}, and free")),
    }
}

#[cfg(test)]
mod tests;
