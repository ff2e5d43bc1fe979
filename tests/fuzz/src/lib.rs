//! What each fuzz target does with arbitrary bytes, and what must hold whatever they are.

#![allow(dead_code, reason = "the modules are taken in whole, and used in part")]

#[path = "../../../src/config/mod.rs"]
pub mod config;
#[path = "../../../src/modbus/mod.rs"]
pub mod modbus;
#[path = "../../../src/mqtt/mod.rs"]
pub mod mqtt;
#[path = "../../../src/reading/mod.rs"]
pub mod reading;
#[path = "../../../src/spool/mod.rs"]
pub mod spool;

mod broker;
mod disk;

pub use broker::mqtt_session;
pub use disk::spool;

use mqtt::Version;
use mqtt::packet::decode;

/// The decoder of both versions: no panic, no packet longer than its bytes, and what was decoded is encoded to bytes that
/// decode to the same.
pub fn mqtt_decode(data: &[u8]) {
    for version in [Version::V311, Version::V5] {
        let mut rest = data;
        while let Ok(Some((packet, length))) = decode(rest, version, 1 << 20) {
            assert!(length >= 2 && length <= rest.len());
            let mut bytes = Vec::new();
            if packet.encode(version, &mut bytes).is_ok() {
                let (again, length) = decode(&bytes, version, u32::MAX).expect("it decodes").expect("it is whole");
                assert_eq!((again, length), (packet, bytes.len()), "{version}");
            }
            rest = &rest[length..];
        }
    }
}

/// A batch of the log: no panic, and what was decoded is encoded to bytes that decode to the same.
pub fn batch(data: &[u8]) {
    if let Ok(batch) = reading::Batch::decode(data) {
        let mut bytes = Vec::new();
        batch.encode(&mut bytes);
        let again = reading::Batch::decode(&bytes).expect("it decodes");
        let mut third = Vec::new();
        again.encode(&mut third);
        // NaN is no equal of itself: bytes are compared.
        assert_eq!(bytes, third);
    }
}

/// `agent.toml` with a drop-in behind a NUL: never a panic, and either settings or an error that has words.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let inputs: Vec<config::Input> = text
        .split('\0')
        .take(3)
        .enumerate()
        .map(|(index, text)| config::Input { path: format!("/{index}/agent.toml").into(), text: text.into() })
        .collect();
    let environment = config::Environment {
        host_name: "press-7".to_owned(),
        default_data_dir: "/data".into(),
        default_plugin_dirs: vec!["/plugins".into()],
    };
    let loaded = config::load(&inputs, &environment);
    let has_errors = loaded.diagnostics.iter().any(config::Diagnostic::is_error);
    assert_eq!(loaded.settings.is_none(), has_errors);
    for diagnostic in &loaded.diagnostics {
        assert!(!format!("{diagnostic:?}").is_empty());
    }
}
