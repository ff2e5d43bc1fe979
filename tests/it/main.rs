//! End to end: a real broker (mosquitto), a real agent, and a subscriber that is not ours.
//!
//! Each module is one promise of the contract; the harness says how broker, agent and subscriber are run. Tests name
//! the field cases that they cover as F-n.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that can not go on has failed, and says why"
)]

mod bad_input;
mod brokers;
mod buffer;
mod command;
mod contract;
mod crash;
mod devices;
mod disk;
mod examples;
mod faults;
mod full;
mod harness;
mod hostile;
mod isolation;
mod leaving;
mod library;
mod live;
mod modbus;
mod outage;
mod plugin_cli;
mod plugin_files;
mod points;
mod program;
mod protocol;
mod pulley;
mod refused;
mod reload;
mod reload_files;
mod reload_many;
mod service;
mod shutdown;
mod state;
mod status;
mod swap;
mod tail;
mod terminal;
mod tls;
mod transports;
mod vm;
mod write;
