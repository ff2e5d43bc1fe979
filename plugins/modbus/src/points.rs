//! One entry of `points`: where a value stands, how it is read, and when it is told.

use std::rc::Rc;
use std::time::Duration;

use outstation_sdk::config::Value;
use outstation_sdk::modbus::{Read, Table};
use outstation_sdk::{PointId, Problems, Setup};
use registers::{Address, Codec, Fault, Kind, Order, Scale, Type};

use crate::options::word;

/// Bytes of a name; the host's limit.
const NAME_MAX: usize = 128;
/// Values that mean "no value", of one point.
const NO_VALUE_MAX: usize = 16;

const KEYS: [&str; 16] = [
    "name",
    "address",
    "type",
    "order",
    "scale",
    "offset",
    "unit",
    "deadband",
    "heartbeat",
    "title",
    "class",
    "range",
    "no_value",
    "unit_id",
    "read_back",
    "bit_write",
];

/// How a bit of a register is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitWrite {
    /// By function 22, which leaves the other bits alone.
    Mask,
    /// The register is read, changed, and written: what the device changed in between is lost.
    Rewrite,
}

/// A point. There may be ten thousand: what few of them have stands apart.
#[derive(Clone, Debug)]
pub struct Point {
    /// Its name.
    pub name: Box<str>,
    /// Number of the device.
    pub unit_id: u8,
    /// Where it stands.
    pub address: Address,
    /// How it is read; mostly as others are.
    pub codec: Rc<Codec>,
    /// `None`: nothing else is said of it.
    more: Option<Box<More>>,
}

/// What may be said of a point.
#[derive(Clone, Debug, PartialEq)]
pub struct More {
    /// It is told when it differs by more than this from what was told last.
    pub deadband: Option<f64>,
    /// It is told at least so often.
    pub heartbeat: Option<Duration>,
    /// Lowest and highest sensible value.
    pub range: Option<(f64, f64)>,
    /// Registers that mean that there is no value.
    pub no_value: Vec<Vec<u16>>,
    /// What was written is read back.
    pub read_back: bool,
    /// How a bit of a register is written.
    pub bit_write: BitWrite,
    unit: String,
    title: String,
    /// Where it is not what its type suggests.
    class: Option<&'static str>,
}

impl More {
    /// Nothing.
    const NONE: Self = Self {
        deadband: None,
        heartbeat: None,
        range: None,
        no_value: Vec::new(),
        read_back: false,
        bit_write: BitWrite::Mask,
        unit: String::new(),
        title: String::new(),
        class: None,
    };
}

impl Point {
    /// An entry of `points`; `None`, and a problem, where its name or its address cannot be told.
    pub fn read(entry: &Value, path: &str, unit: Option<u8>, problems: &mut Problems) -> Option<Self> {
        if !matches!(entry, Value::Table(_)) {
            let hint = "{ name = \"flow\", address = \"holding:0\", type = \"f32\" }";
            problems.add_with_hint(path, format!("a table belongs here, not {}", entry.kind()), hint);
            return None;
        }
        problems.unknown_keys(path, entry, &KEYS);
        let mut reader = Reader { entry, path, problems };
        let name = reader.name();
        let address = reader.address();
        let unit_id = match entry.get("unit_id") {
            Some(own) => self::unit(own, &format!("{path}/unit_id"), reader.problems),
            None => unit,
        };
        let kind = reader.kind(address);
        let codec = reader.codec(address, kind);
        let is_number = kind.is_none_or(Type::is_number);
        let no_value = kind.map(|kind| reader.no_value(kind));
        let class = reader.word("class", &["gauge", "counter", "state"]);
        let bit_write = reader.word("bit_write", &["mask", "rewrite"]);
        let (deadband, heartbeat, range) = (reader.deadband(is_number), reader.heartbeat(), reader.range(is_number));
        let (read_back, unit, title) = (reader.flag("read_back"), reader.text("unit"), reader.text("title"));
        // Only now: whatever else is wrong has been told.
        let more = More {
            deadband,
            heartbeat,
            range,
            no_value: no_value?,
            read_back,
            bit_write: if bit_write == Some("rewrite") { BitWrite::Rewrite } else { BitWrite::Mask },
            unit,
            title,
            class: class.or((!is_number).then_some("state")),
        };
        Some(Self {
            name: name?.into(),
            unit_id: unit_id.unwrap_or_default(),
            address: address?,
            codec: Rc::new(codec?),
            more: (more != More::NONE).then(|| Box::new(more)),
        })
    }

    /// What else is said of it.
    pub fn more(&self) -> &More {
        self.more.as_deref().unwrap_or(const { &More::NONE })
    }

    /// What has to be read for it.
    pub fn reads(&self) -> Read {
        Read { table: table(self.address.table), address: self.address.address, count: self.codec.registers() }
    }

    /// As a point of the source.
    pub fn declare(&self, setup: &mut Setup) -> PointId {
        let more = self.more();
        let mut point = setup.point(&self.name).title(&more.title).unit(&more.unit);
        if let Some((low, high)) = more.range {
            point = point.range(low, high);
        }
        point = match more.class {
            Some("counter") => point.counter(),
            Some("state") => point.state(),
            _ => point,
        };
        match self.codec.kind() {
            Kind::Boolean => point.boolean(),
            Kind::Integer => point.integer(),
            Kind::Unsigned => point.unsigned(),
            Kind::Real => point.real(),
            Kind::Text => point.text(),
        }
    }
}

const fn table(table: registers::Table) -> Table {
    match table {
        registers::Table::Coil => Table::Coils,
        registers::Table::Discrete => Table::DiscreteInputs,
        registers::Table::Input => Table::InputRegisters,
        registers::Table::Holding => Table::HoldingRegisters,
    }
}

/// The number of a device.
pub fn unit(value: &Value, path: &str, problems: &mut Problems) -> Option<u8> {
    let unit = value.as_i64().and_then(|unit| u8::try_from(unit).ok());
    if unit.is_none() {
        let hint = "1 to 247; behind TCP also 0 and 255";
        problems.add_with_hint(path, "the number of a device belongs here".to_owned(), hint);
    }
    unit
}

struct Reader<'e, 'p> {
    entry: &'e Value,
    path: &'e str,
    problems: &'p mut Problems,
}

impl<'e> Reader<'e, '_> {
    fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    fn wrong(&mut self, key: &str, fault: Fault) {
        let path = self.at(key);
        match fault.hint.is_empty() {
            true => self.problems.add(&path, fault.message),
            false => self.problems.add_with_hint(&path, fault.message, fault.hint),
        }
    }

    fn say(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.wrong(key, Fault { message: message.into(), hint: hint.into() });
    }

    fn not(&mut self, key: &str, wanted: &str, found: &Value, hint: &str) {
        self.say(key, format!("{wanted} belongs here, not {}", found.kind()), hint);
    }

    fn name(&mut self) -> Option<String> {
        const HINT: &str = "name = \"flow\"";
        let Some(value) = self.entry.get("name") else {
            self.problems.add_with_hint(self.path, "`name` is missing", HINT);
            return None;
        };
        let Some(name) = value.as_str() else {
            self.not("name", "a string", value, HINT);
            return None;
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(good) {
            let hint = format!("letters, digits, `_ - .`, at most {NAME_MAX} of them");
            self.say("name", format!("`{}` is no name of a point", name.escape_debug()), hint);
            return None;
        }
        Some(name.to_owned())
    }

    fn address(&mut self) -> Option<Address> {
        const HINT: &str = "counted from 0 as on the wire, \"holding:0\", or from 1 as in data sheets, \"40001\"";
        let Some(value) = self.entry.get("address") else {
            self.problems.add_with_hint(self.path, "`address` is missing", HINT);
            return None;
        };
        let Some(text) = value.as_str() else {
            self.not("address", "a string", value, HINT);
            return None;
        };
        match Address::parse(text) {
            Ok(address) => Some(address),
            Err(fault) => {
                self.wrong("address", fault);
                None
            }
        }
    }

    /// Of bits `bool`; of a register one register, unless something else is said.
    fn kind(&mut self, address: Option<Address>) -> Option<Type> {
        let is_bit = address.is_some_and(|address| address.table.is_bits() || address.bit.is_some());
        let Some(value) = self.entry.get("type") else { return Some(if is_bit { Type::Bool } else { Type::U16 }) };
        let Some(text) = value.as_str() else {
            self.not("type", "a string", value, "one of: bool u16 i16 u32 i32 u64 i64 f32 f64 string:N");
            return None;
        };
        match Type::parse(text) {
            Ok(kind) if is_bit && kind != Type::Bool => {
                let message = format!("`{text}` does not fit one bit");
                self.say("type", message, "type = \"bool\", or the address of a register");
                None
            }
            Ok(kind) => Some(kind),
            Err(fault) => {
                self.wrong("type", fault);
                None
            }
        }
    }

    fn codec(&mut self, address: Option<Address>, kind: Option<Type>) -> Option<Codec> {
        let order = self.order(address);
        let scale = self.scale(kind);
        let (address, kind) = (address?, kind?);
        let end = u32::from(address.address) + u32::from(kind.registers());
        if end > 1 << 16 {
            let message = format!("{} registers from {address} on reach beyond the last one", kind.registers());
            self.say("address", message, "addresses go to 65535");
            return None;
        }
        let codec = match address.bit {
            Some(bit) => Codec::bit(bit, order?),
            None => Codec::new(kind, order?),
        };
        Some(codec.scaled(scale?))
    }

    fn order(&mut self, address: Option<Address>) -> Option<Order> {
        let Some(value) = self.entry.get("order") else { return Some(Order::default()) };
        let Some(text) = value.as_str() else {
            self.not("order", "a string", value, "\"ABCD\", \"DCBA\", \"BADC\" or \"CDAB\"");
            return None;
        };
        if address.is_some_and(|address| address.table.is_bits()) {
            self.say("order", "single bits have no order", "leave it out");
            return None;
        }
        Order::parse(text).map_err(|fault| self.wrong("order", fault)).ok()
    }

    fn scale(&mut self, kind: Option<Type>) -> Option<Scale> {
        let scaled = [("scale", 1.0), ("offset", 0.0)].map(|(key, default)| {
            let Some(value) = self.entry.get(key) else { return Some(default) };
            let number = value.as_f64();
            match (number, kind) {
                (None, _) => self.not(key, "a number", value, &format!("{key} = 0.1")),
                (_, Some(kind)) if !kind.is_number() => {
                    self.say(key, format!("`{}` has no {key}", kind.word()), "leave it out");
                    return None;
                }
                _ => {}
            }
            number
        });
        let [Some(factor), Some(offset)] = scaled else { return None };
        Scale::new(factor, offset).map_err(|fault| self.wrong("scale", fault)).ok()
    }

    fn deadband(&mut self, is_number: bool) -> Option<f64> {
        let value = self.entry.get("deadband")?;
        match value.as_f64() {
            Some(band) if band >= 0.0 && (is_number || band == 0.0) => return Some(band),
            Some(band) if band >= 0.0 => {
                self.say("deadband", "what is no number has no deadband", "0 tells it when it changes");
            }
            Some(_) => self.say("deadband", "a deadband is not negative", "0 tells it when it changes"),
            None => self.not("deadband", "a number", value, "deadband = 0.5"),
        }
        None
    }

    fn heartbeat(&mut self) -> Option<Duration> {
        let value = self.entry.get("heartbeat")?;
        let found = value.as_duration().filter(|time| !time.is_zero());
        if found.is_none() {
            let shown = value.as_str().map_or_else(|| value.kind().to_owned(), |text| format!("`{text}`"));
            self.say("heartbeat", format!("a duration belongs here, not {shown}"), "as \"30s\", \"1m\", \"1h\"");
        }
        found
    }

    fn range(&mut self, is_number: bool) -> Option<(f64, f64)> {
        const HINT: &str = "lowest and highest sensible value: range = [0, 100]";
        let value = self.entry.get("range")?;
        let ends = match value.as_array() {
            Some([low, high]) => low.as_f64().zip(high.as_f64()),
            _ => None,
        };
        match ends {
            Some((low, high)) if low < high && is_number => return Some((low, high)),
            Some(_) if !is_number => self.say("range", "what is no number has no range", "leave it out"),
            Some(_) => self.say("range", "a range that holds nothing", HINT),
            None => self.say("range", "a list of two numbers belongs here", HINT),
        }
        None
    }

    /// One raw value, or a list of them.
    fn no_value(&mut self, kind: Type) -> Vec<Vec<u16>> {
        let Some(value) = self.entry.get("no_value") else { return Vec::new() };
        let one = [value.clone()];
        let list = value.as_array().unwrap_or(&one);
        if list.len() > NO_VALUE_MAX {
            self.say("no_value", format!("at most {NO_VALUE_MAX} of them"), "");
            return Vec::new();
        }
        let order = self.entry.get("order").and_then(Value::as_str).and_then(|text| Order::parse(text).ok());
        let raw = Codec::new(kind, order.unwrap_or_default());
        let mut out = Vec::new();
        for value in list {
            let number = match value {
                Value::Integer(number) => registers::Value::Integer(*number),
                Value::Real(number) => registers::Value::Real(*number),
                other => {
                    self.not("no_value", "a number", other, "what stands in the registers: no_value = 0x8000");
                    continue;
                }
            };
            // Data sheets give 0x8000 for signed ones too.
            let wrapped = match (&number, kind) {
                (registers::Value::Integer(n), Type::I16) if (0x8000..=0xffff).contains(n) => {
                    registers::Value::Integer(n - 0x1_0000)
                }
                (registers::Value::Integer(n), Type::I32) if (0x8000_0000..=0xffff_ffff).contains(n) => {
                    registers::Value::Integer(n - 0x1_0000_0000)
                }
                _ => number,
            };
            match raw.encode(&wrapped) {
                Ok(registers) => out.push(registers),
                Err(fault) => self.wrong("no_value", fault),
            }
        }
        out
    }

    fn flag(&mut self, key: &str) -> bool {
        let Some(value) = self.entry.get(key) else { return false };
        value.as_bool().unwrap_or_else(|| {
            self.not(key, "true or false", value, "");
            false
        })
    }

    fn text(&mut self, key: &str) -> String {
        let Some(value) = self.entry.get(key) else { return String::new() };
        value.as_str().map(str::to_owned).unwrap_or_else(|| {
            let hint =
                if key == "unit" { "of the value, as \"m3/h\"; the number of the device is `unit_id`" } else { "" };
            self.not(key, "a string", value, hint);
            String::new()
        })
    }

    fn word<'w>(&mut self, key: &str, words: &[&'w str]) -> Option<&'w str> {
        let value = self.entry.get(key)?;
        word(value, &self.at(key), words, self.problems)
    }
}
