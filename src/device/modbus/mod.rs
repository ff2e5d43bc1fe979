//! Modbus lines: each is owned by one task that everybody asks.
//!
//! ```text
//!  source ─┐                    ┌─ call ─▶ plan (src/modbus) ─▶ requests ─┐
//!  source ─┼─▶ Buses ─▶ owner ──┤                                         ├─▶ link ─▶ device
//!  source ─┘  (names)  (a bus)  └─ answer ◀──── checked replies ◀─────────┘
//! ```
//!
//! - Sources take turns, a request each ([`queue`]); each has a queue with an end.
//! - A unit that fails is put aside with growing pauses and tried again, so that the others keep their rhythm
//!   ([`patience`]).
//! - A connection that had an error is never used again; what comes late finds nobody who takes it ([`link`]).
//! - A request that was begun is brought to its end, whoever asked for it.
//!
//! Of tokio-modbus, the words for requests and the decoding of replies are used. Its clients are not: they wait without
//! a limit, take what lies in the buffer for the answer, know no way to leave the transaction number unchecked, and
//! tell a late reply from the right one by nothing else. Frames and their checks are ours ([`frame`]).

mod bus;
mod call;
mod frame;
mod line;
mod link;
mod patience;
mod queue;
mod registry;
mod wire;
mod work;

use std::fmt;

pub use crate::modbus::{Data, Read, Table};
pub use call::{Answer, Call, Tally, What, Written};
pub use line::{Line, probe};
pub use registry::{Buses, Caller};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device did not answer in time.
    Timeout,
    /// The way to the device is broken, or what came over it is.
    Link(String),
    /// The device refuses: 1 function, 2 address, 3 value, 4 failure, .. (Modbus application protocol 1.1b3, section 7).
    Exception(u8),
    /// The source is not granted this.
    Denied,
    /// More is waiting than may wait.
    Busy,
    /// No such request can be made.
    Invalid(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Error::Timeout => return f.write_str("no answer in time"),
            Error::Link(why) => return f.write_str(why),
            Error::Denied => return f.write_str("not granted"),
            Error::Busy => return f.write_str("too much is waiting for this bus"),
            Error::Invalid(why) => return f.write_str(why),
            Error::Exception(1) => "illegal function",
            Error::Exception(2) => "illegal address",
            Error::Exception(3) => "illegal value",
            Error::Exception(4) => "device failure",
            Error::Exception(5) => "acknowledged, still working",
            Error::Exception(6) => "device busy",
            Error::Exception(8) => "memory parity error",
            Error::Exception(10) => "gateway has no path",
            Error::Exception(11) => "device behind the gateway does not answer",
            Error::Exception(_) => "unknown",
        };
        let Error::Exception(code) = self else { return Ok(()) };
        write!(f, "the device answers exception {code} ({name})")
    }
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Coils from this address on.
    Coils(u16, Vec<bool>),
    /// Holding registers from this address on.
    Registers(u16, Vec<u16>),
    /// A holding register becomes (what it is AND the first) OR (the second AND NOT the first).
    Mask(u16, u16, u16),
}

/// Coils and registers that one request writes (Modbus application protocol 1.1b3, 6.11 and 6.12).
const WRITE_COILS_MAX: usize = 1968;
const WRITE_REGISTERS_MAX: usize = 123;
/// Coils or discrete inputs, and registers, that one request reads (6.1 and 6.3).
const READ_BITS_MAX: u16 = 2000;
const READ_REGISTERS_MAX: u16 = 125;

impl Write {
    /// The addresses that it touches; `None` where they are none, too many for one request, or beyond the last one.
    pub fn place(&self) -> Option<Read> {
        let (table, first, count, most) = match self {
            Write::Coils(first, values) => (Table::Coil, *first, values.len(), WRITE_COILS_MAX),
            Write::Registers(first, values) => (Table::Holding, *first, values.len(), WRITE_REGISTERS_MAX),
            Write::Mask(address, ..) => (Table::Holding, *address, 1, 1),
        };
        let count = u16::try_from(count).ok().filter(|count| (1..=most).contains(&usize::from(*count)))?;
        Some(Read { table, first, count }).filter(Read::is_possible)
    }
}

#[cfg(test)]
mod tests;
