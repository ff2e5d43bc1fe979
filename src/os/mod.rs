//! What the operating system gives: clocks, files, places, signals, the service manager. Each thin.

pub mod clock;
pub mod files;
pub mod lines;
pub mod places;
pub mod signals;
pub mod systemd;
pub mod watch;
