//! Which reads of a Modbus unit to join, within the limits of the device.
//!
//! Owns the words for places in a device ([`Table`], [`Read`]) and the plan: requests that cover every read that is
//! wanted, no larger than the device takes, over no more unwanted registers than it allows.

/// One of the four tables of a Modbus device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Single bits, read and written.
    Coil,
    /// Single bits, read only.
    Discrete,
    /// 16-bit registers, read only.
    Input,
    /// 16-bit registers, read and written.
    Holding,
}

impl Table {
    /// As in `holding:0`.
    pub const fn word(self) -> &'static str {
        match self {
            Table::Coil => "coil",
            Table::Discrete => "discrete",
            Table::Input => "input",
            Table::Holding => "holding",
        }
    }

    /// Whether a device lets it be written.
    pub const fn is_writable(self) -> bool {
        matches!(self, Table::Coil | Table::Holding)
    }

    /// Whether it holds single bits.
    pub const fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }
}

/// Addresses of one table that are read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// Which table.
    pub table: Table,
    /// First address, counted from 0 as on the wire.
    pub first: u16,
    /// How many, at least 1; `first + count` is at most 65,536.
    pub count: u16,
}

/// What a unit takes in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registers, 1 to 125.
    pub registers: u16,
    /// Coils or discrete inputs, 1 to 2000.
    pub bits: u16,
    /// Addresses that nobody asked for and that a joined read may pass over.
    pub gaps: u16,
}

/// One request to a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is read.
    pub read: Read,
    /// Indices of the wanted reads that lie wholly in it.
    pub parts: Vec<usize>,
}

/// Makes requests out of what is wanted of one unit.
#[derive(Clone, Debug, Default)]
pub struct Planner {}

impl Planner {
    /// Requests that together cover every read of `wanted`.
    pub fn plan(&mut self, wanted: &[Read], _limits: Limits, _now: std::time::Duration) -> Vec<Request> {
        wanted.iter().enumerate().map(|(index, read)| Request { read: *read, parts: vec![index] }).collect()
    }

    /// A request was refused by the device: the smaller ones that take its place. None: what it says is final.
    pub fn refused(&mut self, _wanted: &[Read], _request: &Request, _now: std::time::Duration) -> Vec<Request> {
        Vec::new()
    }
}
