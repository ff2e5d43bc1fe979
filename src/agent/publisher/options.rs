//! What CONNECT says, from `[mqtt]`. Secrets are read at each connect, so that renewed ones count at once (F-25).

use std::path::PathBuf;

use super::Setup;
use crate::config::MqttAuth;
use crate::encode;
use crate::mqtt::session::{Authentication, Options, Will};
use crate::mqtt::{QoS, Version};
use crate::net;
use crate::os::clock;
use crate::reading::Timestamp;

/// The options of a connection, or why there can't be one.
pub(super) async fn options(setup: &Setup, version: Version, boot: u32) -> Result<Options, String> {
    let mqtt = &setup.mqtt;
    let mut options = Options::new(mqtt.client_id.clone());
    options.version = version;
    options.username.clone_from(&mqtt.username);
    if let Some(secret) = &mqtt.password {
        let password = net::password(secret, credentials().as_deref()).await.map_err(|error| error.to_string())?;
        options.password = Some(password);
    }
    if mqtt.auth == MqttAuth::ScramSha256 {
        if version == Version::V311 {
            return Err("mqtt.auth = \"scram-sha-256\" needs MQTT 5, and the broker speaks 3.1.1".into());
        }
        options.authentication = Some(Authentication::scram_sha_256());
    }
    options.keep_alive_s = u16::try_from(mqtt.keep_alive.as_secs()).unwrap_or(u16::MAX);
    options.session_expiry_s = u32::try_from(mqtt.session_expiry.as_secs()).unwrap_or(u32::MAX);
    options.will = mqtt.topics.status.as_ref().map(|topic| Will {
        topic: topic.as_str().to_owned(),
        payload: encode::status("offline", env!("CARGO_PKG_VERSION"), boot, Timestamp(clock::wall_ns())),
        qos: QoS::AtLeastOnce,
        retain: true,
        delay_s: 0,
        properties: Default::default(),
    });
    Ok(options)
}

/// Where systemd puts the service's credentials.
pub(super) fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}
