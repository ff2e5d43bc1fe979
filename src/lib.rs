//! Outstation: an agent for edge gateways. See ARCHITECTURE.md for the map.
#![deny(unsafe_code)]

pub mod encode;
pub mod reading;
