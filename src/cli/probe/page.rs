//! What `outstation probe` shows: tables for people, JSON for programs, TOML to paste.

use std::fmt::Write as _;

use registers::{Address, Order, Type, Value};
use serde_json::json;

use super::decodings::{self, Decoding};
use crate::device::modbus::{Data, Read};

/// `holding:0-9`.
pub fn name(read: Read) -> String {
    let first = format!("{}:{}", read.table.word(), read.first);
    if read.count < 2 { first } else { format!("{first}-{}", read.end() - 1) }
}

/// The answer of a scan.
pub fn units(url: &str, asked: Read, found: &[(u8, Option<u8>)]) -> String {
    let mut out = String::new();
    for (unit, exception) in found {
        let how = exception.map_or_else(String::new, |code| format!(" (exception {code} to {})", name(asked)));
        let _ = writeln!(out, "unit {unit} answers{how}");
    }
    if let Some((unit, _)) = found.first() {
        let _ = writeln!(out, "\nnext: outstation probe modbus '{url}' --unit {unit} --read holding:0-9");
    }
    out
}

/// Everything that was read.
pub fn page(url: &str, unit: u8, blocks: &[(Read, Data)]) -> String {
    let mut out = format!("unit {unit} at {url}\n");
    for (read, data) in blocks {
        match data {
            Data::Bits(bits) => bit_table(&mut out, *read, bits),
            Data::Registers(registers) => register_tables(&mut out, *read, registers),
        }
    }
    out + "\n" + &toml(url, unit, blocks)
}

fn address(read: Read, offset: usize) -> Address {
    let offset = u16::try_from(offset).unwrap_or(u16::MAX);
    Address { table: read.table, address: read.first.saturating_add(offset), bit: None }
}

fn bit_table(out: &mut String, read: Read, bits: &[bool]) {
    let _ = writeln!(out);
    for (offset, bit) in bits.iter().enumerate() {
        let at = address(read, offset);
        let _ = writeln!(out, "{:<14} {:<7} {bit}", at.to_string(), at.sheet());
    }
}

fn register_tables(out: &mut String, read: Read, registers: &[u16]) {
    for (offset, register) in registers.iter().enumerate() {
        let at = address(read, offset);
        let rest = registers.get(offset..).unwrap_or_default();
        let _ = writeln!(out, "\n{:<14} {:<7} 0x{register:04X}  {}", at.to_string(), at.sheet(), binary(*register));
        let decodings = decodings::all(rest);
        let kinds: Vec<Type> =
            Type::NUMBERS.into_iter().filter(|kind| usize::from(kind.registers()) <= rest.len()).collect();
        let cell = |order: Order, kind: Type| {
            let found = decodings.iter().find(|known| known.order == order && known.kind == kind);
            found.map(|found| short(&found.value)).unwrap_or_default()
        };
        let width = |kind: Type| {
            let longest = Order::ALL.map(|order| cell(order, kind).len()).into_iter().max().unwrap_or(0);
            longest.max(kind.word().len())
        };
        let mut heading = "  order".to_owned();
        let mut rows = Order::ALL.map(|order| format!("  {} ", order.word()));
        for kind in kinds {
            let width = width(kind);
            let _ = write!(heading, "  {:>width$}", kind.word());
            for (row, order) in rows.iter_mut().zip(Order::ALL) {
                let _ = write!(row, "  {:>width$}", cell(order, kind));
            }
        }
        for line in [heading].iter().chain(&rows) {
            let _ = writeln!(out, "{line}");
        }
    }
    for order in Order::ALL {
        if let Some(text) = decodings::text(registers, order) {
            let _ = writeln!(out, "\n{} as text, {}: {text:?}", name(read), order.word());
        }
    }
}

/// Four bits and four.
fn binary(register: u16) -> String {
    let nibble = |shift: u16| format!("{:04b}", register >> shift & 0xf);
    [12, 8, 4, 0].map(nibble).join(" ")
}

/// Numbers far from 1 with an exponent: they are seldom the right ones.
fn short(value: &Value) -> String {
    match value {
        Value::Real(real) if *real != 0.0 && real.is_finite() && !(1e-4..1e9).contains(&real.abs()) => {
            format!("{real:.3e}")
        }
        other => other.to_string(),
    }
}

/// A configuration that reads this, to paste.
fn toml(url: &str, unit: u8, blocks: &[(Read, Data)]) -> String {
    let grants: Vec<String> = blocks.iter().map(|(read, _)| format!("\"{}\"", name(*read))).collect();
    let mut out = format!(
        "# To paste into agent.toml. The types are guesses: compare with the tables, and with the data sheet.\n\
         [bus.device]\nurl = {url:?}\n\n[source.device]\nplugin = \"modbus\"\nevery = \"1s\"\n\
         allow.modbus.device = {{ units = [{unit}], read = [{}] }}\n\n[source.device.config]\nbus = \"device\"\nunit = {unit}\n\
         points = [\n",
        grants.join(", ")
    );
    for (read, data) in blocks {
        let mut offset = 0;
        while offset < data.len() {
            let at = address(*read, offset);
            let guess = match data {
                Data::Bits(_) => None,
                Data::Registers(registers) => Some(decodings::guess(registers.get(offset..).unwrap_or_default())),
            };
            offset += guess.as_ref().map_or(1, |guess| usize::from(guess.kind.registers()));
            let _ = writeln!(
                out,
                "  {{ name = \"{}-{}\", address = \"{at}\"{} }},",
                at.table.word(),
                at.address,
                meaning(guess)
            );
        }
    }
    out + "]\n"
}

fn meaning(guess: Option<Decoding>) -> String {
    match guess {
        None => String::new(),
        Some(guess) if guess.order == Order::ABCD => format!(", type = \"{}\"", guess.kind.word()),
        Some(guess) => format!(", type = \"{}\", order = \"{}\"", guess.kind.word(), guess.order.word()),
    }
}

/// One range for programs.
pub fn block_json(read: Read, data: &Data) -> serde_json::Value {
    let decoded = |registers: &[u16]| {
        let one = |decoding: &Decoding| json!({"type": decoding.kind.word(), "order": decoding.order.word(), "value": value_json(&decoding.value)});
        decodings::all(registers).iter().map(one).collect::<Vec<_>>()
    };
    let points: Vec<_> = match data {
        Data::Bits(bits) => bits
            .iter()
            .enumerate()
            .map(|(offset, bit)| {
                let at = address(read, offset);
                json!({"address": at.to_string(), "sheet": at.sheet(), "value": bit})
            })
            .collect(),
        Data::Registers(registers) => registers
            .iter()
            .enumerate()
            .map(|(offset, register)| {
                let at = address(read, offset);
                let rest = registers.get(offset..).unwrap_or_default();
                json!({"address": at.to_string(), "sheet": at.sheet(), "value": register, "decodings": decoded(rest)})
            })
            .collect(),
    };
    json!({"range": name(read), "points": points})
}

/// What JSON has no word for is null.
fn value_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Boolean(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::Unsigned(value) => json!(value),
        Value::Real(value) => json!(value),
        Value::Text(value) => json!(value),
    }
}
