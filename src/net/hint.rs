//! What to look at when a connection could not be made: one line for whoever runs the agent.

use std::io;

use crate::mqtt::Reason;

use super::error::{ConnectError, Step};
use super::tls::Roots;

impl ConnectError {
    /// What to look at.
    pub fn hint(&self) -> Option<String> {
        let hint = match self.step() {
            Step::Files | Step::Lookup | Step::Tcp | Step::Proxy => self.hint_on_the_way(),
            Step::Tls => self.hint_on_tls(),
            Step::WebSocket | Step::Connack => self.hint_on_the_broker(),
        };
        hint.map(str::to_owned)
    }

    fn hint_on_the_way(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoRoots { .. } => "install the package ca-certificates, or set ca_file",
            Self::Lookup { error, .. } if error.to_string().contains("emporary failure") => {
                "the name server does not answer: is the network up, and /etc/resolv.conf right?"
            }
            Self::Lookup { .. } => "check the host in mqtt.url",
            Self::Tcp { attempts, .. }
                if attempts.iter().all(|attempt| attempt.error.kind() == io::ErrorKind::ConnectionRefused) =>
            {
                "is the broker running, and is this its port?"
            }
            Self::Tcp { .. } => "check the network, the route and the firewall",
            Self::Unix { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "the agent's user needs write access to the socket"
            }
            Self::Unix { .. } => "is the broker running, and does it listen on this socket?",
            Self::TimedOut { step: Step::Tcp, .. } => "a firewall may swallow the packets, or the host is down",
            Self::Proxy { denied: true, .. } => {
                "check proxy_username and proxy_password_file, and what the proxy allows"
            }
            _ => return None,
        })
    }

    fn hint_on_tls(&self) -> Option<&'static str> {
        Some(match self {
            Self::TimedOut { .. } => "does this port speak TLS? mqtts:// is for TLS, mqtt:// for plain",
            Self::UnknownAuthority { roots: Roots::System { .. }, .. } => {
                "set ca_file to the certificate of the authority that signed the broker's"
            }
            Self::UnknownAuthority { roots: Roots::File(_), .. } => {
                "is it the authority that signed this broker's certificate?"
            }
            Self::WrongHost { holds, .. } if holds.is_empty() => {
                "names count only as subject alternative names; the certificate has none (a common name is not enough)"
            }
            Self::WrongHost { .. } => {
                "put a name into mqtt.url that the certificate holds, or have it issued for this one"
            }
            Self::Expired { .. } => "renew the broker's certificate, and see that this host's clock is right",
            Self::NotYetValid { .. } => "see that this host's clock is right",
            Self::Certificate { reason, .. } if reason.contains("CaUsedAsEndEntity") => {
                "the broker shows an authority's own certificate; it needs one that is signed by it"
            }
            Self::ClientCertificate { sent: true, .. } => "does the broker trust the authority that signed cert_file?",
            Self::ClientCertificate { sent: false, .. } => "set cert_file and key_file",
            Self::NotTls { .. } => "plain MQTT is mqtt://, often on port 1883",
            Self::Closed { .. } => "does this port speak TLS? plain MQTT is mqtt://, often on port 1883",
            _ => return None,
        })
    }

    fn hint_on_the_broker(&self) -> Option<&'static str> {
        Some(match self {
            Self::WebSocket { reason, .. } if reason.contains("404") => {
                "check the path in mqtt.url; many brokers want /mqtt"
            }
            Self::WebSocket { .. } | Self::Closed { step: Step::WebSocket, .. } => {
                "is this the broker's port for WebSocket, and does it offer the sub-protocol mqtt?"
            }
            Self::TimedOut { step: Step::Connack, .. } => {
                "something listens there and says nothing: is it an MQTT broker, is this port for TLS (mqtts://), and if it \
                 knows 3.1.1 alone, is version = \"3.1.1\" set?"
            }
            Self::Closed { .. } => {
                "does this port want TLS (mqtts://), or is the broker's limit of connections reached?"
            }
            Self::NotMqtt { first, .. } if first.starts_with("\\x15\\x03") => "this port speaks TLS: mqtts://",
            Self::NotMqtt { first, .. } if first.starts_with("HTTP/") => {
                "this port speaks HTTP: MQTT over WebSocket is ws:// or wss://"
            }
            Self::NotMqtt { .. } => "check host and port in mqtt.url",
            Self::Refused { refused, .. } => return refused_hint(refused.reason),
            Self::AuthenticationFailed { .. } => "check username and password_file, and that it is the right broker",
            _ => return None,
        })
    }
}

fn refused_hint(reason: Reason) -> Option<&'static str> {
    Some(match reason.code() {
        0x86 => "check username and password_file",
        0x87 => "check username, password_file, and what the broker allows this client",
        0x85 => "check client_id",
        0x84 => "version = \"auto\" tries 3.1.1 as well",
        0x8C => "does the broker offer what mqtt.auth asks for?",
        0x8A => "the broker bans this client",
        _ => return None,
    })
}
