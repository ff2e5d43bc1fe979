//! What a component imports, and what a source must be granted for it.

use std::fmt;

/// What a source is granted; nothing by default.
pub use crate::config::Allow as Grants;

/// The version of the packages that the host offers. Later ones of 0.1 fit as well.
const VERSION: &str = "0.1.";

/// What every plugin may import.
const FREE: [&str; 6] = [
    "outstation:types/types",
    "outstation:host/log",
    "outstation:host/config",
    "outstation:host/clock",
    "outstation:host/state",
    "outstation:plugin/sensor",
];

/// What has to be granted: the interface, and the line of the configuration that does it.
const GRANTED: [(&str, &str); 4] = [
    ("outstation:sys/stats", "allow = { system = true }"),
    ("outstation:sys/activity", "allow = { system = true }"),
    ("outstation:modbus/client", "allow.modbus.BUS = true"),
    ("outstation:gpio/lines", "allow.gpio = [\"CHIP:LINE\"]"),
];

/// An import that the source's `allow` does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGrant {
    /// The interface.
    pub import: String,
    /// The line to add to the source's configuration.
    pub line: &'static str,
}

impl fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its plugin uses {}, which the source is not granted; add: {}", self.import, self.line)
    }
}

/// Whether the host has something by this name and of this version.
pub fn is_offered(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, VERSION));
    version.starts_with(VERSION)
        && (FREE.contains(&interface) || GRANTED.iter().any(|(granted, _)| *granted == interface))
}

/// Which of the imports `grants` does not grant; of those that one line grants, the first.
pub fn missing<'i>(imports: impl Iterator<Item = &'i str>, grants: &Grants) -> Vec<MissingGrant> {
    let mut missing: Vec<MissingGrant> = Vec::new();
    for import in imports {
        let interface = import.split('@').next().unwrap_or(import);
        let granted = GRANTED.iter().find(|(granted, _)| *granted == interface);
        let Some((_, line)) = granted.filter(|_| !holds(grants, interface)) else { continue };
        if !missing.iter().any(|other| other.line == *line) {
            missing.push(MissingGrant { import: import.to_owned(), line });
        }
    }
    missing
}

fn holds(grants: &Grants, interface: &str) -> bool {
    match interface {
        "outstation:sys/stats" | "outstation:sys/activity" => grants.system,
        "outstation:modbus/client" => !grants.modbus.is_empty(),
        "outstation:gpio/lines" => !(grants.gpio.read.is_empty() && grants.gpio.write.is_empty()),
        _ => false,
    }
}

/// What to say of imports that the host does not have.
pub fn hint(imports: &[String]) -> &'static str {
    if imports.iter().any(|import| import.starts_with("wasi:")) {
        "; plugins need no WASI, and of WASI 0.2 they get clocks, random numbers and their log: build for wasm32-unknown-unknown, or with stubs"
    } else if imports.iter().any(|import| import.starts_with("outstation:")) {
        "; it was built for another version of the agent"
    } else {
        ""
    }
}
