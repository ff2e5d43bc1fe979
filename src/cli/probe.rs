//! `outstation probe modbus`: a look at a device before anything is configured. Reads once, writes nothing.

mod decodings;
mod page;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::{USAGE, ask, fail, progress, result, say};
use crate::config::{self, AddressRange, Bus, BusUrl};
use crate::control::{Answer, Question};
use crate::device::modbus::{Data, Error, Line, Read, Table};

/// Units of a serial line, by the standard; gateways count as one.
const UNITS: std::ops::RangeInclusive<u8> = 1..=247;
/// Time for a unit of a scan to answer, and the silence after it: a scan must not be a load.
const SCAN_TIMEOUT: Duration = Duration::from_millis(300);
const SCAN_PAUSE: Duration = Duration::from_millis(50);
/// A gateway that drops the connection for a unit that it does not know costs that unit; one that drops every one is
/// no gateway.
const DROPS_MAX: u32 = 5;
/// Addresses that are read at once, all ranges together.
const ADDRESSES_MAX: u32 = 2000;
/// Registers, and bits, of one request.
const REGISTERS_MAX: u32 = 125;
const BITS_MAX: u32 = 2000;

/// Under `outstation probe --help`.
pub(super) const HELP: &str = "\
Examples:
  outstation probe modbus tcp://192.168.1.20 --read holding:0-9";

#[derive(clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Read a Modbus device once, and show everything that its registers may mean
    Modbus(Modbus),
}

#[derive(clap::Args)]
#[command(
    after_help = "Nothing is written. A serial line that the running agent owns is refused: two masters disturb each other.

Examples:
  outstation probe modbus tcp://192.168.1.20 --read holding:0-9
  outstation probe modbus tcp://192.168.1.20 --unit 3 --read 30001-30010 --read coil:0-7
  outstation probe modbus 'rtu:///dev/ttyUSB0?baud=9600&parity=none' --scan"
)]
struct Modbus {
    /// tcp://HOST[:PORT], rtu:///DEVICE?baud=19200&parity=even&stop=1, or rtu+tcp://HOST:PORT
    url: String,
    /// The number of the device on its bus
    #[arg(long, default_value_t = 1)]
    unit: u8,
    /// What to read: holding:0-9, input:0, coil:0-15, 40001-40010; may be given again
    #[arg(long, value_name = "RANGE", value_parser = range)]
    read: Vec<AddressRange>,
    /// Ask each unit from 1 to 247 for one register (the first of --read, or holding:0), and show which answer
    #[arg(long)]
    scan: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

fn range(text: &str) -> Result<AddressRange, String> {
    AddressRange::parse(text).map_err(|fault| fault.to_string())
}

/// Does the command.
pub(super) fn probe(file: &Path, options: &Options) -> ExitCode {
    let What::Modbus(modbus) = &options.what;
    let mut bus = match config::bus_of_url(&modbus.url) {
        Ok(bus) => bus,
        Err(why) => return usage(&format!("{}: {why}", modbus.url)),
    };
    let asked: u32 = modbus.read.iter().map(|range| u32::from(range.last) - u32::from(range.first) + 1).sum();
    if !modbus.scan && modbus.read.is_empty() {
        return usage("nothing to read: add --read holding:0-9, or --scan");
    }
    if asked > ADDRESSES_MAX {
        return usage(&format!("{asked} addresses; at most {ADDRESSES_MAX} at once"));
    }
    ask::run(file, async |agent: ask::Agent| {
        if let Some(refusal) = owned(&agent, &bus).await {
            return fail(&refusal);
        }
        if modbus.scan {
            bus.defaults.timeout = SCAN_TIMEOUT;
            bus.defaults.retries = 0;
            return scan(modbus, &bus).await;
        }
        read(modbus, &bus).await
    })
}

fn usage(why: &str) -> ExitCode {
    say(&format!("error: {why}"));
    ExitCode::from(USAGE)
}

/// Why it must not be done, where the agent that runs has the bus. Of one behind TCP it is only said.
async fn owned(agent: &ask::Agent, bus: &Bus) -> Option<String> {
    let answer = agent.begin(&Question::Status).await.ok()?.answer().await;
    let Ok(Answer::Status(status)) = answer else { return None };
    let url = bus.url.to_string();
    let device = |url: &str| url.split('?').next().unwrap_or_default().to_owned();
    let owner = status.buses.iter().find(|known| device(&known.url) == device(&url))?;
    if matches!(bus.url, BusUrl::Rtu { .. }) {
        return Some(format!(
            "the running agent has this line as bus `{}`, and two masters disturb each other\n  `outstation tail` shows \
             what it reads; `systemctl stop outstation` lets go of the line",
            owner.name
        ));
    }
    say(&format!(
        "note: the running agent has this device as bus `{}`; one that takes one connection refuses another",
        owner.name
    ));
    None
}

async fn scan(modbus: &Modbus, bus: &Bus) -> ExitCode {
    let place = modbus.read.first().map_or((Table::Holding, 0), |range| (range.table, range.first));
    let read = Read { table: place.0, first: place.1, count: 1 };
    let mut line = match progress::during("connecting", Line::open(bus)).await {
        Ok(line) => line,
        Err(error) => return fail(&unreachable(bus, &error)),
    };
    let (mut found, mut drops) = (Vec::new(), 0);
    for unit in UNITS {
        progress::line(&format!("unit {unit} of {}, {} found", UNITS.end(), found.len()));
        let answer = line.read(unit, read).await;
        drops = if matches!(answer, Err(Error::Link(_))) { drops + 1 } else { 0 };
        match answer {
            Ok(_) => found.push((unit, None)),
            // A gateway says that nobody is there.
            Err(Error::Exception(10 | 11) | Error::Timeout) => {}
            Err(Error::Exception(code)) => found.push((unit, Some(code))),
            Err(Error::Link(_)) if drops < DROPS_MAX => {}
            Err(error) => {
                progress::line("");
                return fail(&format!("unit {unit}: {error}"));
            }
        }
        tokio::time::sleep(SCAN_PAUSE).await;
    }
    progress::line("");
    if modbus.json {
        let units: Vec<_> =
            found.iter().map(|(unit, exception)| json!({"unit": unit, "exception": exception})).collect();
        result(&format!("{}\n", json!({"url": bus.url.to_string(), "units": units})));
    } else {
        result(&page::units(&modbus.url, read, &found));
    }
    if found.is_empty() { fail("no unit answers") } else { ExitCode::SUCCESS }
}

async fn read(modbus: &Modbus, bus: &Bus) -> ExitCode {
    let mut line = match progress::during("connecting", Line::open(bus)).await {
        Ok(line) => line,
        Err(error) => return fail(&unreachable(bus, &error)),
    };
    let (mut blocks, mut errors) = (Vec::new(), Vec::new());
    for range in &modbus.read {
        for read in requests(range) {
            match progress::during("waiting for the device", line.read(modbus.unit, read)).await {
                Ok(data) => blocks.push((read, data)),
                Err(error) => errors.push((read, error)),
            }
        }
    }
    let blocks = joined(blocks);
    if modbus.json {
        let errors: Vec<_> =
            errors.iter().map(|(read, error)| json!({"read": page::name(*read), "error": error.to_string()})).collect();
        let read: Vec<_> = blocks.iter().map(|(read, data)| page::block_json(*read, data)).collect();
        let document = json!({"url": bus.url.to_string(), "unit": modbus.unit, "read": read, "errors": errors});
        result(&format!("{document}\n"));
    } else if !blocks.is_empty() {
        result(&page::page(&modbus.url, modbus.unit, &blocks));
    }
    for (read, error) in &errors {
        say(&format!("error: {}: {error}{}", page::name(*read), hint(error)));
    }
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// As many requests as the range needs.
fn requests(range: &AddressRange) -> Vec<Read> {
    let most = if range.table.is_bits() { BITS_MAX } else { REGISTERS_MAX };
    let (first, end) = (u32::from(range.first), u32::from(range.last) + 1);
    let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let begins = (0..).map(|n| first + n * most).take_while(|begin| *begin < end);
    begins.map(|begin| Read { table: range.table, first: short(begin), count: short(most.min(end - begin)) }).collect()
}

/// What was read in one piece and asked for in several.
fn joined(blocks: Vec<(Read, Data)>) -> Vec<(Read, Data)> {
    let mut out: Vec<(Read, Data)> = Vec::new();
    for (read, data) in blocks {
        match (out.last_mut(), data) {
            (Some((before, Data::Registers(all))), Data::Registers(more))
                if before.table == read.table && before.end() == u32::from(read.first) =>
            {
                before.count = before.count.saturating_add(read.count);
                all.extend(more);
            }
            (_, data) => out.push((read, data)),
        }
    }
    out
}

fn unreachable(bus: &Bus, error: &Error) -> String {
    let hint = match &bus.url {
        BusUrl::Rtu { .. } => {
            "\n  is the device file right, its user in the group `dialout`, and no other program on the line? \
             /dev/serial/by-id/ names adapters for good"
        }
        _ => "\n  is it switched on, on this network, and does it take another connection? Many take one only",
    };
    format!("{}: {error}{hint}", bus.url)
}

const fn hint(error: &Error) -> &'static str {
    match error {
        Error::Exception(2) => "\n  the device has no such address: try fewer, or the other table (holding, input)",
        Error::Exception(1) => "\n  the device does not have this table: try another (holding, input)",
        Error::Exception(10 | 11) => {
            "\n  the gateway answers, the device behind it does not: is --unit right? --scan finds it"
        }
        Error::Timeout => {
            "\n  nobody answers as this unit: --scan finds who does; on a serial line look at baud and parity"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests;
