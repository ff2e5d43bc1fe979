//! Where to connect to, and with what.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{BrokerUrl, Mqtt, ProxyUrl, Scheme, Secret};

use super::tls::TlsFiles;

/// One broker, and the way to it. Plain data: files are named, and read at each connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The broker.
    pub url: BrokerUrl,
    /// For `mqtts` and `wss`.
    pub tls: TlsFiles,
    /// The way to it.
    pub proxy: Option<Proxy>,
    /// Systemd's folder of credentials for this service, where there is one.
    pub credentials: Option<PathBuf>,
    /// How long the network may leave what was sent without acknowledgement, before the kernel ends the
    /// connection.
    pub silence: Duration,
}

/// A proxy, and who the agent is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// Name and, where there is one, password.
    pub username: Option<String>,
    /// Where the password is.
    pub password: Option<Secret>,
}

impl Target {
    /// `url` (one of `mqtt.urls`), with all that `[mqtt]` says of the way to it.
    pub fn new(mqtt: &Mqtt, url: &BrokerUrl, credentials: Option<&Path>) -> Self {
        Self {
            url: url.clone(),
            tls: TlsFiles {
                ca: mqtt.ca_file.clone(),
                cert: mqtt.cert_file.clone(),
                key: mqtt.key_file.clone(),
                alpn: mqtt.alpn.clone(),
            },
            proxy: mqtt.proxy.as_ref().map(|url| Proxy {
                url: url.clone(),
                username: mqtt.proxy_username.clone(),
                password: mqtt.proxy_password.clone(),
            }),
            credentials: credentials.map(Path::to_owned),
            silence: mqtt.keep_alive + mqtt.keep_alive / 2,
        }
    }

    /// Without TLS files and proxy: the system's authorities where `url` asks for TLS.
    pub fn direct(url: BrokerUrl) -> Self {
        Self { url, tls: TlsFiles::default(), proxy: None, credentials: None, silence: Duration::from_secs(60) }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.url.scheme, Scheme::Mqtts | Scheme::Wss)
    }

    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.url.scheme, Scheme::Ws | Scheme::Wss)
    }

    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        (self.url.scheme == Scheme::Unix).then(|| PathBuf::from(&self.url.path))
    }
}
