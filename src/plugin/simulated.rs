//! What a plugin sees that is only tried out: a machine that is not there ([`Machine`]), in place of this one's clock,
//! statistics, Modbus lines and digital lines. Log, configuration and state are as ever.
//!
//! The interfaces are linked as the real ones are, and grants count as they do there; without any, everything is granted.
//! Every call of a device is kept, so that it can be shown and compared, up to [`CALLS_MAX`].

mod offered;

use std::collections::BTreeSet;

use super::Grants;
use super::bindings::outstation::gpio::lines as gpio;
use super::bindings::outstation::modbus::client as modbus;
use super::modbus as real;
use crate::config::{GpioLine, ModbusGrant};
use crate::device::modbus::{Table, Write};
use crate::device::simulated::{Fault, Machine};

pub(super) use offered::add_to_linker;

/// Calls that are kept; the rest is only counted.
const CALLS_MAX: usize = 10_000;
/// Handles that were ever opened.
const HANDLES_MAX: usize = 4096;
/// Edges that wait on a line.
const EDGES_MAX: u32 = 1024;

/// What a plugin asked of a device, and what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// At which poll, from 0.
    pub poll: u64,
    /// `read boiler/1 holding:0+2`.
    pub what: String,
    /// `[17096, 0]`, `timeout`.
    pub answer: String,
}

/// The machine, and what the plugin does with it.
#[derive(Debug)]
pub struct Simulation {
    machine: Machine,
    /// `None`: everything is granted.
    grants: Option<Grants>,
    devices: Vec<Unit>,
    lines: Vec<Line>,
    calls: Vec<Call>,
    calls_dropped: u64,
    requests: u64,
}

#[derive(Clone, Debug)]
struct Unit {
    bus: String,
    unit: u8,
}

#[derive(Clone, Debug)]
struct Line {
    name: String,
    active_low: bool,
    /// Rising and falling edges that are wanted.
    watched: (bool, bool),
    counted: (u64, u64),
    /// Edges that were not taken yet.
    waiting: Vec<gpio::EdgeEvent>,
    seqno: u32,
}

impl Simulation {
    /// On this machine. Without grants everything is granted.
    pub const fn new(machine: Machine, grants: Option<Grants>) -> Self {
        Self {
            machine,
            grants,
            devices: Vec::new(),
            lines: Vec::new(),
            calls: Vec::new(),
            calls_dropped: 0,
            requests: 0,
        }
    }

    /// The machine.
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The plugin lets time pass.
    pub(super) fn sleep(&mut self, time: std::time::Duration) {
        self.machine.sleep(time);
    }

    /// Time passes until the next poll. Gives the lines on which an edge waits that the plugin wants to be woken for.
    pub fn advance(&mut self) -> Vec<String> {
        let before = self.machine.poll();
        self.machine.advance();
        let at = self.machine.wall_ns();
        let mut woken = BTreeSet::new();
        for line in &mut self.lines {
            let was = self.machine.level_at(&line.name, before) != line.active_low;
            let is = self.machine.level(&line.name) != line.active_low;
            let wanted = if is { line.watched.0 } else { line.watched.1 };
            if was == is || !wanted {
                continue;
            }
            let edge = if is { gpio::Edge::Rising } else { gpio::Edge::Falling };
            if is {
                line.counted.0 += 1;
            } else {
                line.counted.1 += 1;
            }
            line.seqno = line.seqno.wrapping_add(1);
            line.waiting.push(gpio::EdgeEvent { edge, at, seqno: line.seqno });
            line.waiting.truncate(EDGES_MAX as usize);
            woken.insert(line.name.clone());
        }
        woken.into_iter().collect()
    }

    /// What was asked of devices since the last time, and how many calls more there were than are kept.
    pub fn take_calls(&mut self) -> (Vec<Call>, u64) {
        (std::mem::take(&mut self.calls), std::mem::take(&mut self.calls_dropped))
    }

    fn note(&mut self, what: String, answer: String) {
        self.requests += 1;
        if self.calls.len() < CALLS_MAX {
            self.calls.push(Call { poll: self.machine.poll(), what, answer });
        } else {
            self.calls_dropped += 1;
        }
    }

    fn grants(&self, bus: &str, may: impl FnOnce(&ModbusGrant) -> bool) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.modbus.get(bus).is_some_and(may))
    }

    fn grants_line(&self, name: &str, write: bool) -> bool {
        let Some(grants) = &self.grants else { return true };
        let lines: &[GpioLine] = if write { &grants.gpio.write } else { &grants.gpio.read };
        lines.iter().any(|line| line.to_string() == name)
    }

    fn read(&mut self, device: u32, what: &modbus::Read) -> Result<modbus::Data, modbus::Error> {
        let Unit { bus, unit } = self.unit(device)?;
        let place = real::read(what);
        let words = if self.grants(&bus, |grant| grant.may_read(unit, place)) {
            self.machine.read(&bus, unit, place.table, place.first, place.count).map_err(|fault| said(&fault))
        } else {
            Err(modbus::Error::Denied)
        };
        let name = format!("read {bus}/{unit} {}:{}+{}", place.table.word(), place.first, place.count);
        self.note(name, words.as_ref().map_or_else(error_word, |words| format!("{words:?}")));
        words.map(|words| data(place.table, words))
    }

    /// Gives what stood there before and, where `verify` says so, after it.
    fn write(&mut self, device: u32, what: modbus::Write, verify: bool) -> Result<modbus::Written, modbus::Error> {
        let Unit { bus, unit } = self.unit(device)?;
        let (write, place) = real::write(what)?;
        let (table, first, count) = (place.table, place.first, place.count);
        let before = self.machine.read(&bus, unit, table, first, count).map_err(|fault| said(&fault));
        let words = match write {
            Write::Coils(_, on) => on.into_iter().map(u16::from).collect(),
            Write::Registers(_, words) => words,
            Write::Mask(_, and, or) => {
                let masked = |word: &u16| (word & and) | (or & !and);
                before.as_ref().map(|words| words.iter().map(masked).collect()).unwrap_or_default()
            }
        };
        let done = if !self.grants(&bus, |grant| grant.may_write(unit, place)) {
            Err(modbus::Error::Denied)
        } else {
            let machine = &mut self.machine;
            before.and_then(|before| {
                machine.write(&bus, unit, table, first, &words).map(|()| before).map_err(|fault| said(&fault))
            })
        };
        let name = format!("write {bus}/{unit} {}:{first} = {words:?}", table.word());
        self.note(name, done.as_ref().map_or_else(error_word, |_| "done".into()));
        let after = verify.then(|| self.machine.read(&bus, unit, table, first, count).ok()).flatten();
        done.map(|before| modbus::Written {
            before: Some(data(table, before)),
            after: after.map(|words| data(table, words)),
        })
    }

    fn unit(&self, device: u32) -> Result<Unit, modbus::Error> {
        let gone = || modbus::Error::Invalid("no such device".into());
        self.devices.get(usize::try_from(device).unwrap_or(usize::MAX)).cloned().ok_or_else(gone)
    }

    fn line(&mut self, handle: u32) -> Option<(&mut Line, &mut Machine)> {
        let line = self.lines.get_mut(usize::try_from(handle).ok()?)?;
        Some((line, &mut self.machine))
    }

    fn open_line(&mut self, name: &str, active_low: bool, write: bool) -> Result<u32, gpio::Error> {
        let opened = if !self.grants_line(name, write) {
            Err(gpio::Error::NotAllowed)
        } else if self.lines.len() >= HANDLES_MAX {
            Err(gpio::Error::Other("too many lines".into()))
        } else {
            let (watched, counted) = ((false, false), (0, 0));
            let line = Line { name: name.to_owned(), active_low, watched, counted, waiting: Vec::new(), seqno: 0 };
            self.lines.push(line);
            Ok(u32::try_from(self.lines.len() - 1).unwrap_or(u32::MAX))
        };
        let answer = if opened.is_ok() { "done" } else { "denied" };
        self.note(format!("open {} {name}", if write { "output" } else { "input" }), answer.into());
        opened
    }

    fn line_level(&mut self, handle: u32) -> Result<gpio::Level, gpio::Error> {
        let Some((line, machine)) = self.line(handle) else { return Err(gpio::Error::NotSupported) };
        let active = machine.level(&line.name) != line.active_low;
        Ok(if active { gpio::Level::Active } else { gpio::Level::Inactive })
    }

    fn drive(&mut self, handle: u32, active: bool) {
        let Some((line, machine)) = self.line(handle) else { return };
        machine.set_level(&line.name, active != line.active_low);
        let name = line.name.clone();
        self.note(format!("set {name} {}", if active { "active" } else { "inactive" }), "done".into());
    }

    /// Over before anybody looks again.
    fn pulse(&mut self, handle: u32, active: bool) {
        let name = self.line(handle).map(|(line, _)| line.name.clone()).unwrap_or_default();
        self.note(format!("pulse {name} {}", if active { "active" } else { "inactive" }), "done".into());
    }

    fn open_unit(&mut self, bus: String, unit: u8) -> Result<u32, modbus::Error> {
        let granted = self.grants(&bus, |grant| grant.has_unit(unit));
        self.note(format!("open {bus}/{unit}"), if granted { "done" } else { "denied" }.into());
        if !granted {
            return Err(modbus::Error::Denied);
        }
        if self.devices.len() >= HANDLES_MAX {
            return Err(modbus::Error::Busy);
        }
        self.devices.push(Unit { bus, unit });
        Ok(u32::try_from(self.devices.len() - 1).unwrap_or(u32::MAX))
    }
}

fn data(table: Table, words: Vec<u16>) -> modbus::Data {
    if table.is_bits() {
        modbus::Data::Bits(words.iter().map(|word| *word != 0).collect())
    } else {
        modbus::Data::Registers(words)
    }
}

fn said(fault: &Fault) -> modbus::Error {
    match fault {
        Fault::Timeout => modbus::Error::Timeout,
        Fault::Link => modbus::Error::Transport("the link is down".into()),
        Fault::Busy => modbus::Error::Busy,
        Fault::Exception(code) => modbus::Error::Exception(*code),
    }
}

fn error_word(error: &modbus::Error) -> String {
    match error {
        modbus::Error::Exception(code) => format!("exception-{code}"),
        modbus::Error::Timeout => "timeout".into(),
        modbus::Error::Transport(_) => "link".into(),
        modbus::Error::Denied => "denied".into(),
        modbus::Error::Busy => "busy".into(),
        modbus::Error::Invalid(why) => format!("invalid: {why}"),
    }
}
