//! Outstation: an agent for edge gateways. See ARCHITECTURE.md for the map.
#![deny(unsafe_code)]
// Numbers that come from outside are converted, not cut.
#![cfg_attr(not(test), warn(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss))]

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod device;
pub mod encode;
pub mod modbus;
pub mod mqtt;
pub mod net;
pub mod os;
pub mod plugin;
pub mod reading;
pub mod spool;
pub mod status;
