//! Which registers to ask a device for: reads are joined within its limits, and a joined read that the device refuses is
//! taken apart until what is bad stands alone.
//!
//! ```text
//!  wanted reads ─▶ Planner::round ─▶ ask ──▶ (the bus asks) ─▶ answered ─┬─▶ ask  ..
//!                                     ▲                                  │
//!                                     └── the halves of what was refused ┘        ─▶ finish: an answer for each wanted
//! ```
//!
//! Owns what was learnt of one unit:
//!
//! - **bad** reads: refused although they stood alone. They rest, with growing pauses, and are answered with the
//!   exception that they got; when their time has come they are asked again, alone. No joined read passes over them.
//! - **cuts**: places over which a read was refused while both sides were answered. Nothing is joined across one,
//!   until it is forgotten and tried again.
//!
//! Invariants: as long as nothing is refused each wanted register is asked for once a round, in one read with its
//! neighbours of the same value unless the value is longer than the limit; no read is longer than the limit, and none
//! passes over more registers that nobody asked for than the device's `gaps`. After a failure that is no answer of the
//! device (a time-out, a broken link) the rest of the round is not asked. Time is an argument, monotonic.

mod learnt;
mod round;
mod spans;

use std::time::Duration;

pub use learnt::Planner;
pub use registers::Table;
pub use round::Round;

/// First pause of a read that was refused, and the longest.
pub const BAD_PAUSE_MIN: Duration = Duration::from_secs(1);
/// See [`BAD_PAUSE_MIN`].
pub const BAD_PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long nothing is joined across a place over which the device refused to read.
pub const CUT_KEPT: Duration = Duration::from_secs(600);
/// Bad reads that are kept in mind for a unit, and cuts. Beyond that, those whose time comes first are forgotten.
pub const LEARNT_MAX: usize = 1024;

/// Addresses of one table, counted from 0 as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// Which table.
    pub table: Table,
    /// First address.
    pub first: u16,
    /// How many, at least 1.
    pub count: u16,
}

impl Read {
    /// The address after the last one.
    pub fn end(&self) -> u32 {
        u32::from(self.first) + u32::from(self.count)
    }

    /// Whether a device can have it: at least one address, none beyond 65535.
    pub fn is_possible(&self) -> bool {
        self.count > 0 && self.end() <= 1 << 16
    }

    /// From `first` to before `end`.
    fn between(table: Table, first: u32, end: u32) -> Self {
        let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
        Self { table, first: short(first), count: short(end.saturating_sub(first)) }
    }

    /// What they have in common; they must meet.
    fn within(&self, other: &Self) -> Self {
        let first = self.first.max(other.first);
        Self::between(self.table, u32::from(first), self.end().min(other.end()))
    }

    /// Whether they have an address in common.
    fn meets(&self, other: &Self) -> bool {
        self.table == other.table && u32::from(self.first) < other.end() && u32::from(other.first) < self.end()
    }
}

/// What a device can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registers a request.
    pub registers: u16,
    /// Coils or discrete inputs a request.
    pub bits: u16,
    /// Addresses that nobody asked for and that a joined read may pass over, between two that somebody did.
    pub gaps: u16,
}

impl Limits {
    /// Addresses of this table a request, at least 1.
    fn of(&self, table: Table) -> u32 {
        u32::from(if table.is_bits() { self.bits } else { self.registers }.max(1))
    }
}

/// What a device holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Of coils and discrete inputs.
    Bits(Vec<bool>),
    /// Of holding and input registers.
    Registers(Vec<u16>),
}

impl Data {
    /// How many addresses it is of.
    pub fn len(&self) -> usize {
        match self {
            Self::Bits(bits) => bits.len(),
            Self::Registers(registers) => registers.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What came of a read; `E` is what the bus says of failures that are no answer of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<E> {
    /// What was read, as long as it was asked for.
    Data(Data),
    /// The device refused, with this code.
    Exception(u8),
    /// There is no answer.
    Failed(E),
}

#[cfg(test)]
mod tests;
