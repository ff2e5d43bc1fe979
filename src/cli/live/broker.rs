//! Whether a broker would take the agent: the whole way up to CONNACK, and no step further.
//!
//! Another client id, Clean Start, no session kept and no will: whatever runs under the agent's own id, and what the
//! broker keeps for it, is not touched. It subscribes to nothing and publishes nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::Found;
use crate::config::{self, BrokerUrl, MqttVersion};
use crate::mqtt::{Options, Reason, Session, Version};
use crate::net::{self, ConnectError, Dialer, Target};
use crate::os::clock;

/// For DISCONNECT.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Nothing is published, and so nothing is in flight.
const IN_FLIGHT: u16 = 1;

/// Tries one broker.
pub(super) async fn attempt(mqtt: &config::Mqtt, url: &BrokerUrl) -> Found {
    let versions: &[Version] = match mqtt.version {
        MqttVersion::Auto => &[Version::V5, Version::V311],
        MqttVersion::V5 => &[Version::V5],
        MqttVersion::V311 => &[Version::V311],
    };
    let id = format!("{}-check-{:04x}", mqtt.client_id, clock::wall_ns().unsigned_abs() >> 10 & 0xffff);
    let mut refused = None;
    for &version in versions {
        match connect(mqtt, url, version, &id).await {
            Ok(text) => return Found::good(text),
            Err(Failure::Connect(error)) if error.is_version_refused() => refused = Some(Failure::Connect(error)),
            Err(failure) => return failure.found(&id),
        }
    }
    refused.map_or_else(|| Found::good("not tried"), |failure| failure.found(&id))
}

enum Failure {
    Files(String),
    Connect(ConnectError),
}

impl Failure {
    fn found(self, id: &str) -> Found {
        match self {
            Self::Files(why) => Found::bad(why, "password files are read at each connect, as the user that checks"),
            // The error says which step failed, and what to look at.
            Self::Connect(error @ ConnectError::Refused { .. }) => {
                let advice =
                    format!("it was tried as client {id}: a broker that allows only known ids refuses this one alone");
                Found::bad(error.to_string(), advice)
            }
            Self::Connect(error) => Found::bad(error.to_string(), "the agent would try again, with growing pauses"),
        }
    }
}

async fn connect(mqtt: &config::Mqtt, url: &BrokerUrl, version: Version, id: &str) -> Result<String, Failure> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut options = Options::new(id);
    options.version = version;
    options.username.clone_from(&mqtt.username);
    options.session_expiry_s = 0;
    options.keep_alive_s = u16::try_from(mqtt.keep_alive.as_secs()).unwrap_or(u16::MAX);
    if let Some(secret) = &mqtt.password {
        let password = net::password(secret, credentials.as_deref()).await;
        options.password = Some(password.map_err(|error| Failure::Files(error.to_string()))?);
    }
    let target = Target::new(mqtt, url, credentials.as_deref());
    let mut session = Session::new(IN_FLIGHT, 0);
    let dialled = Dialer::new().connect(&target, &mut session, &options, true, mqtt.connect_timeout).await;
    let (connection, connected) = dialled.map_err(Failure::Connect)?;
    let version = match version {
        Version::V5 => "5",
        Version::V311 => "3.1.1",
    };
    let tls = connection.peer().tls.as_ref().map(|tls| format!(", {}", tls.version)).unwrap_or_default();
    let address = connection.peer().address.map(|address| format!(" at {address}")).unwrap_or_default();
    let limits = &connected.limits;
    let qos = if (limits.maximum_qos as u8) < 2 {
        format!(", QoS up to {}", limits.maximum_qos as u8)
    } else {
        String::new()
    };
    // It has answered; how it takes the farewell does not matter.
    session.disconnect(Reason::SUCCESS, None);
    let _ = connection.close(&mut session, FAREWELL_MAX).await;
    Ok(format!("takes the agent{address}, MQTT {version}{tls}{qos}"))
}
