//! Buses and sources: put together, and held against each other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{Checked, Fields};
use super::context::{Context, KeyPath, Spot};
use super::listing::quoted;
use super::resolve::{Names, sync};
use super::settings::{
    Allow, Bus, Format, GpioGrant, Limits, ModbusGrant, Ranges, Source, Sync, UnitSettings, WriteFunctions,
};
use super::suggest::nearest;
use super::template::Template;
use super::url::BusUrl;

/// From here on a power cut takes more than people who ask for exactly once expect.
const SYNC_UNWISE: Duration = Duration::from_secs(10);

/// Highest unit on a serial line; beyond are reserved numbers. 0 is for all, and nobody answers it.
const SERIAL_UNIT_MAX: u8 = 247;

fn tables(fields: &Fields) -> impl Iterator<Item = (&String, &Fields)> {
    fields.0.iter().filter_map(|(name, value)| match value {
        Checked::Table(fields) => Some((name, fields)),
        _ => None,
    })
}

/// Every bus; `None` for one that can't be put together.
pub(super) fn buses(cx: &mut Context<'_>, buses: &Fields) -> Vec<Option<(String, Bus)>> {
    let mut devices: BTreeMap<PathBuf, KeyPath> = BTreeMap::new();
    let mut out = Vec::new();
    for (name, fields) in tables(buses) {
        let at = KeyPath::of(&["bus", name]);
        let url: Option<BusUrl> = fields.value("url");
        if let Some(device) = url.as_ref().and_then(BusUrl::device) {
            serial_rules(cx, &at, fields);
            if let Some(other) = devices.insert(device.to_owned(), at.key("url")) {
                let message = format!("two buses on one serial device, {}", device.display());
                let hint = "one bus a device: sources share it";
                cx.clash("conflict", &at.key("url"), (&other, "also here"), message, hint);
            }
        }
        out.push(build_bus(cx, &at, fields).map(|bus| (name.clone(), bus)));
    }
    out
}

fn serial_rules(cx: &mut Context<'_>, at: &KeyPath, fields: &Fields) {
    if fields.value::<u8>("connections").is_some_and(|connections| connections > 1) {
        let message = "a serial line has one connection".to_owned();
        cx.error("bad-value", &at.key("connections"), Spot::Value, message, Some("connections = 1".to_owned()));
    }
    for (unit, _) in fields.table("unit").into_iter().flat_map(tables) {
        if unit.parse::<u8>().is_ok_and(|unit| unit == 0 || unit > SERIAL_UNIT_MAX) {
            serial_unit_error(cx, &at.key("unit").key(unit), Spot::Key);
        }
    }
}

fn serial_unit_error(cx: &mut Context<'_>, at: &KeyPath, spot: Spot) {
    let message = "there is no such unit on a serial line".to_owned();
    cx.error("bad-value", at, spot, message, Some("a number from 1 to 247".to_owned()));
}

fn build_bus(cx: &mut Context<'_>, at: &KeyPath, fields: &Fields) -> Option<Bus> {
    let defaults = UnitSettings {
        timeout: fields.value("timeout")?,
        retries: fields.value("retries")?,
        pause: fields.value("pause")?,
        max_registers: fields.value("max_registers")?,
        write: fields.value::<WriteFunctions>("write")?,
        read_gaps: fields.value("read_gaps")?,
    };
    let mut units = BTreeMap::new();
    for (number, unit) in tables(fields.table("unit")?) {
        let at = at.key("unit").key(number);
        for key in ["timeout", "retries", "pause", "max_registers", "write", "read_gaps"] {
            cx.listing.inherit(&at.key(key), &KeyPath::of(&["bus", at.0.get(1)?, key]));
        }
        units.insert(
            number.parse().ok()?,
            UnitSettings {
                timeout: unit.value("timeout").unwrap_or(defaults.timeout),
                retries: unit.value("retries").unwrap_or(defaults.retries),
                pause: unit.value("pause").unwrap_or(defaults.pause),
                max_registers: unit.value("max_registers").unwrap_or(defaults.max_registers),
                write: unit.value("write").unwrap_or(defaults.write),
                read_gaps: unit.value("read_gaps").unwrap_or(defaults.read_gaps),
            },
        );
    }
    Some(Bus {
        url: fields.value("url")?,
        defaults,
        pause_connect: fields.value("pause_connect")?,
        connections: fields.value("connections")?,
        check_transaction: fields.value("check_transaction")?,
        units,
    })
}

/// The plugin of every source that names one, whatever else is wrong with it.
pub(super) fn plugins(sources: &Fields) -> BTreeMap<String, String> {
    tables(sources).filter_map(|(name, fields)| Some((name.clone(), fields.value("plugin")?))).collect()
}

/// Where the readings of every source go, whatever else is wrong with it.
pub(super) fn topics(sources: &Fields, names: &Names<'_>) -> Vec<(String, Template)> {
    tables(sources).filter_map(|(name, fields)| Some((name.clone(), topic(name, fields, names)?))).collect()
}

fn topic(name: &str, fields: &Fields, names: &Names<'_>) -> Option<Template> {
    let text: String = fields.value("topic").or_else(|| names.mqtt.value("topic"))?;
    Some(names.template(&text).of_source(name))
}

/// Every source; `None` for one that can't be put together.
pub(super) fn sources(
    cx: &mut Context<'_>,
    sources: &Fields,
    buses: &Fields,
    names: &Names<'_>,
) -> Vec<Option<Source>> {
    let mut out = Vec::new();
    for (name, fields) in tables(sources) {
        grants_rules(cx, name, fields, buses);
        out.push(build_source(cx, name, fields, names));
    }
    out
}

/// Grants name buses that there are, and units that these can have.
fn grants_rules(cx: &mut Context<'_>, source: &str, fields: &Fields, buses: &Fields) {
    let Some(modbus) = fields.table("allow").and_then(|allow| allow.table("modbus")) else { return };
    for (bus, grant) in &modbus.0 {
        let at = KeyPath::of(&["source", source, "allow", "modbus", bus]);
        if !cx.is_written(&KeyPath::of(&["bus", bus])) {
            let hint = match nearest(bus, buses.0.keys().map(String::as_str)) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add [bus.{bus}] with its url"),
            };
            let message = format!("there is no bus `{}`", bus.escape_debug());
            cx.error("no-such-bus", &at, Spot::Key, message, Some(hint));
            continue;
        }
        let url: Option<BusUrl> = buses.table(bus).and_then(|bus| bus.value("url"));
        let Checked::Table(grant) = grant else { continue };
        if url.as_ref().and_then(BusUrl::device).is_none() {
            continue;
        }
        for (index, unit) in grant.value::<Vec<u8>>("units").into_iter().flatten().enumerate() {
            if unit == 0 || unit > SERIAL_UNIT_MAX {
                serial_unit_error(cx, &at.key("units").key(&index.to_string()), Spot::Value);
            }
        }
    }
}

fn build_source(cx: &mut Context<'_>, name: &str, fields: &Fields, names: &Names<'_>) -> Option<Source> {
    let at = KeyPath::of(&["source", name]);
    let mqtt = names.mqtt;
    for key in ["topic", "qos", "retain", "format"] {
        cx.listing.inherit(&at.key(key), &KeyPath::of(&["mqtt", key]));
    }
    let limits = fields.table("limits")?;
    Some(Source {
        name: name.to_owned(),
        plugin: fields.value("plugin")?,
        every: fields.value("every")?,
        allow: build_allow(cx, &at.key("allow"), fields.table("allow")?)?,
        limits: Limits { memory: limits.value("memory")?, time: limits.value("time")? },
        topic: topic(name, fields, names)?,
        qos: fields.value("qos").or_else(|| mqtt.value("qos"))?,
        retain: fields.value("retain").or_else(|| mqtt.value("retain"))?,
        format: fields.value::<Format>("format").or_else(|| mqtt.value("format"))?,
        max_message: mqtt.value("max_message")?,
        config: fields.value("config").unwrap_or_else(|| "{}".into()),
    })
}

fn build_allow(cx: &mut Context<'_>, at: &KeyPath, allow: &Fields) -> Option<Allow> {
    let mut modbus = BTreeMap::new();
    for (bus, grant) in &allow.table("modbus")?.0 {
        let grant = match grant {
            Checked::Bool(false) => continue,
            Checked::Bool(true) => ModbusGrant { units: None, read: Ranges::All, write: Ranges::NONE },
            Checked::Table(grant) => {
                cx.listing.derive(&at.key("modbus").key(bus).key("units"), quoted("all"));
                ModbusGrant {
                    units: grant.value("units"),
                    read: ranges(grant, "read")?,
                    write: ranges(grant, "write")?,
                }
            }
            _ => return None,
        };
        modbus.insert(bus.clone(), grant);
    }
    let gpio = match allow.0.get("gpio")? {
        Checked::List(_) => GpioGrant { read: allow.value("gpio")?, write: Vec::new() },
        Checked::Table(lines) => GpioGrant { read: lines.value("read")?, write: lines.value("write")? },
        _ => return None,
    };
    Some(Allow { system: allow.value("system")?, modbus, gpio })
}

fn ranges(grant: &Fields, key: &str) -> Option<Ranges> {
    match grant.value::<bool>(key) {
        Some(true) => Some(Ranges::All),
        Some(false) => Some(Ranges::NONE),
        None => grant.value(key).map(Ranges::Some),
    }
}

/// Rules between sources and the buffer.
pub(super) fn rules(cx: &mut Context<'_>, sources: &Fields, buffer: &Fields, mqtt: &Fields) {
    let Some(Sync::Every(every)) = sync(buffer) else { return };
    let qos_of = |fields: &Fields| fields.value::<u8>("qos").or_else(|| mqtt.value("qos"));
    let exactly_once: Vec<_> = tables(sources).filter(|(_, fields)| qos_of(fields) == Some(2)).collect();
    if let (true, Some((name, _))) = (every >= SYNC_UNWISE, exactly_once.first()) {
        let message = format!("`{name}` asks for QoS 2, but a power cut may take up to this long of its readings");
        let hint = "a shorter sync; every QoS 2 message is flushed before it is sent anyway";
        cx.warning("slow-sync", &KeyPath::of(&["buffer", "sync"]), &message, hint);
    }
    let forgets = mqtt.value::<Duration>("session_expiry").is_some_and(|expiry| expiry.is_zero());
    if let (true, Some((name, _))) = (forgets, exactly_once.first()) {
        let message = format!("`{name}` asks for QoS 2, but the broker forgets the session with the connection");
        let hint = "what was in flight may be doubled after each loss of the connection";
        cx.warning("no-session", &KeyPath::of(&["mqtt", "session_expiry"]), &message, hint);
    }
}
