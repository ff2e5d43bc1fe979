//! Modbus registers and what they mean: addresses in both notations, types, byte orders, scaling.
//!
//! Pure, and without a dependency: the plugin `modbus`, `outstation probe` and the agent's configuration read addresses
//! and values with it, so that one address means one thing everywhere.
//!
//! ```
//! use registers::{Address, Codec, Order, Type, Value};
//!
//! let address = Address::parse("holding:0").unwrap();
//! assert_eq!(address, Address::parse("40001").unwrap());
//! let codec = Codec::new(Type::F32, Order::CDAB);
//! assert_eq!(codec.decode(&[0x0000, 0x4148]), Ok(Value::Real(12.5)));
//! ```

mod address;
mod codec;
mod decimal;
mod order;
mod scale;
mod types;

pub use address::{Address, AddressRange, Table};
pub use codec::{Codec, Kind, Value};
pub use decimal::Decimal;
pub use order::Order;
pub use scale::Scale;
pub use types::{STRING_MAX, Type};

/// What is wrong with a text or a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub hint: String,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl std::error::Error for Fault {}
