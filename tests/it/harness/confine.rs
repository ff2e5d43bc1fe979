//! Agents under the rule of systemd's `MemoryDenyWriteExecute`: no memory that is written is ever run. `confined.pl` sets
//! it, and becomes the agent: Perl is on every Debian, and nothing has to be installed.
//!
//! `OUTSTATION_TEST_CONFINED=1` runs every agent of every test so, with `engine = "pulley"`: machine code that was
//! compiled cannot be loaded there.

use std::process::Stdio;

use tokio::process::Command;

const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/confined.pl");

/// Whether all agents are confined.
pub fn everywhere() -> bool {
    std::env::var_os("OUTSTATION_TEST_CONFINED").is_some_and(|value| value == "1")
}

/// The same command under the rule.
pub fn confined(command: &Command) -> Command {
    let command = command.as_std();
    let mut launcher = Command::new("perl");
    launcher.arg(LAUNCHER).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => launcher.env(name, value),
            None => launcher.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        launcher.current_dir(folder);
    }
    launcher.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    launcher
}
