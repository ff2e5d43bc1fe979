//! The files that the agent reads while it runs, and the disk that it writes on.

use std::path::{Path, PathBuf};

use super::Found;
use crate::config::{Secret, Settings};
use crate::os::places;

/// Certificates, keys and passwords can be read, and the data folder has room.
pub(super) fn look(settings: &Settings) -> Found {
    for (key, path) in named(settings) {
        if let Err(error) = std::fs::File::open(&path) {
            let advice = format!("the agent reads {key} at every connect, as the user that it runs as");
            return Found::bad(format!("{key} {} can't be read: {error}", path.display()), advice);
        }
    }
    let data = &settings.agent.data_dir;
    match places::free_bytes(data) {
        // What the agent will make is made below what is there.
        None => Found::good(format!("readable; the data folder {} is made at the first start", data.display())),
        Some(free) if free < missing(data, settings.buffer.max_size) => Found::doubtful(
            format!("readable; the disk of {} has {} MiB left", data.display(), free >> 20),
            format!("the buffer may take {} MiB: make room, or lower buffer.max_size", settings.buffer.max_size >> 20),
        ),
        Some(free) => Found::good(format!("readable; {} MiB left on the disk of {}", free >> 20, data.display())),
    }
}

/// What the buffer may still grow.
fn missing(data: &Path, max_size: u64) -> u64 {
    let taken = std::fs::read_dir(data.join("spool")).into_iter().flatten().flatten();
    let taken: u64 = taken.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    max_size.saturating_sub(taken)
}

fn named(settings: &Settings) -> Vec<(&'static str, PathBuf)> {
    let Some(mqtt) = &settings.mqtt else { return Vec::new() };
    let secret = |secret: &Option<Secret>| match secret {
        Some(Secret::File(path)) => Some(path.clone()),
        // Only the service itself sees its credentials.
        Some(Secret::Credential(_)) | None => None,
    };
    let files = [
        ("password_file", secret(&mqtt.password)),
        ("proxy_password_file", secret(&mqtt.proxy_password)),
        ("ca_file", mqtt.ca_file.clone()),
        ("cert_file", mqtt.cert_file.clone()),
        ("key_file", mqtt.key_file.clone()),
    ];
    files.into_iter().filter_map(|(key, path)| Some((key, path?))).collect()
}
