//! Write plugins for Outstation: a plugin is a struct and two functions.
//!
//! ```no_run
//! use outstation_sdk::{Failure, PointId, Poll, Problems, Plugin, Setup, config};
//!
//! /// A tank whose level is made up.
//! struct Tank {
//!     level: PointId,
//!     millimetres: u64,
//! }
//!
//! impl Plugin for Tank {
//!     // The configuration has been read and accepted: declare the points.
//!     fn start(setup: &mut Setup) -> Result<Self, Failure> {
//!         let full = setup.config().get("full").and_then(config::Value::as_f64).unwrap_or(1000.0);
//!         let level = setup.point("level").title("Level of the tank").unit("mm").range(0.0, full).real();
//!         Ok(Self { level, millimetres: 0 })
//!     }
//!
//!     // Due by schedule: take the readings.
//!     fn run(&mut self, poll: &mut Poll) -> Result<(), Failure> {
//!         self.millimetres = (self.millimetres + 1) % 1000;
//!         poll.good(self.level, self.millimetres as f64);
//!         Ok(())
//!     }
//!
//!     // Optional: what is wrong with a configuration, all at once, without any device.
//!     fn check(config: &config::Value, problems: &mut Problems) {
//!         problems.unknown_keys("", config, &["full"]);
//!     }
//! }
//!
//! outstation_sdk::export!(Tank);
//! ```
//!
//! With `crate-type = ["cdylib"]` and `outstation-sdk` as the only dependency this is a whole plugin;
//! `plugins/build` in Outstation's repository shows how it becomes a component. Name and version are the package's.
//!
//! A plugin that takes commands from the broker is a struct and three functions: see [`Commands`].
//!
//! Beside [`Plugin`] there are [`log`], [`state`] (values that survive restarts), [`clock`] and, where the source's
//! `allow` grants it, [`system`] and [`activity`].

/// The bindings to `plugins/wit`, as they are generated. What stands beside them is easier to use.
pub mod bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    wit_bindgen::generate!({
        path: "../wit",
        world: "host",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "outstation_sdk::bindings",
    });
}

/// The bindings to the optional interface `commands`.
pub mod command_bindings {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    wit_bindgen::generate!({
        path: "../wit",
        world: "commanded",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_commanded",
        default_bindings_module: "outstation_sdk::command_bindings",
    });
}

pub mod commands;
pub mod config;
#[doc(hidden)]
pub mod glue;
mod poll;
mod setup;

pub use bindings::exports::outstation::plugin::sensor::{Failure, Trigger};
pub use bindings::outstation::gpio::lines;
pub use bindings::outstation::host::clock;
pub use bindings::outstation::host::state;
pub use bindings::outstation::modbus::client as modbus;
pub use bindings::outstation::sys::activity;
pub use bindings::outstation::sys::stats as system;
pub use bindings::outstation::types::types::{PointClass, Severity, Value, ValueKind};
pub use commands::{Command, Commands, Rejection};
pub use config::Problems;
pub use poll::{DENIED, LINK, MODBUS, Poll, TIMEOUT};
pub use setup::{Declare, PointId, Setup};

/// A plugin. One instance belongs to one source of the agent's configuration.
pub trait Plugin: Sized {
    /// Lower-case words for the plugin's own reasons; [`Poll::bad_own`] refers to them by index.
    const REASONS: &'static [&'static str] = &[];

    /// Makes the plugin from its configuration and declares its points.
    ///
    /// Also called where only the points are asked for, without any device: declare points before you open one.
    fn start(setup: &mut Setup) -> Result<Self, Failure>;

    /// Takes the readings: at the start, then by schedule, and when a line has edges.
    fn run(&mut self, poll: &mut Poll) -> Result<(), Failure>;

    /// Everything that is wrong with a configuration. Must not call the host.
    fn check(config: &config::Value, problems: &mut Problems) {
        problems.unknown_keys("", config, &[]);
    }

    /// The same of the document as it comes, as JSON. Only for a plugin whose configuration is so long that it is not to
    /// be in memory as a whole: see [`config::Document`] and [`Setup::document`].
    fn check_document(document: &str, problems: &mut Problems) {
        match config::parse(document) {
            Ok(config) => Self::check(&config, problems),
            Err(reason) => problems.add("", format!("not JSON: {reason}")),
        }
    }

    /// The end: the last chance to write [`state`].
    fn stop(&mut self) {}
}

/// Writes to the agent's log, under the source's name.
pub mod log {
    pub use crate::bindings::outstation::host::log::Level;

    /// Writes one line at `level`.
    pub fn write(level: Level, message: &str) {
        crate::bindings::outstation::host::log::log(level, "", message);
    }

    /// What an operator should look at.
    pub fn warn(message: &str) {
        write(Level::Warn, message);
    }

    /// What is worth knowing.
    pub fn info(message: &str) {
        write(Level::Info, message);
    }

    /// What helps to find a fault.
    pub fn debug(message: &str) {
        write(Level::Debug, message);
    }
}

/// Makes the crate a plugin component: `export!(MyPlugin);`, once, at the end. A plugin that takes commands, and so
/// implements [`Commands`], says `export!(MyPlugin, commands);`.
#[macro_export]
macro_rules! export {
    ($plugin:ty, commands) => {
        $crate::export!($plugin);

        impl $crate::command_bindings::exports::outstation::plugin::commands::Guest for OutstationComponent {
            fn execute(command: $crate::Command) -> Result<String, $crate::Rejection> {
                OUTSTATION_PLUGIN.with(|slot| slot.execute(&command))
            }
        }

        $crate::command_bindings::export_commanded!(OutstationComponent with_types_in $crate::command_bindings);
    };
    ($plugin:ty) => {
        #[doc(hidden)]
        struct OutstationComponent;

        ::std::thread_local! {
            static OUTSTATION_PLUGIN: $crate::glue::Slot<$plugin> = const { $crate::glue::Slot::new() };
        }

        impl $crate::bindings::exports::outstation::plugin::sensor::Guest for OutstationComponent {
            fn check(config: String) -> Vec<$crate::bindings::exports::outstation::plugin::sensor::Problem> {
                $crate::glue::check::<$plugin>(&config)
            }
            fn describe() -> $crate::bindings::exports::outstation::plugin::sensor::About {
                OUTSTATION_PLUGIN.with(|slot| slot.describe(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_AUTHORS")))
            }
            fn init() -> Result<(), $crate::Failure> {
                OUTSTATION_PLUGIN.with(|slot| slot.init())
            }
            fn run(
                trigger: $crate::Trigger,
                now: i64,
                deadline: u64,
            ) -> Result<$crate::bindings::exports::outstation::plugin::sensor::Outcome, $crate::Failure> {
                OUTSTATION_PLUGIN.with(|slot| slot.run(trigger, now, deadline))
            }
            fn stop() {
                OUTSTATION_PLUGIN.with(|slot| slot.stop())
            }
        }

        $crate::bindings::export!(OutstationComponent with_types_in $crate::bindings);
    };
}
