//! Which broker is tried next, and in which version of the protocol.
//!
//! In order of preference: after a failure the next url, after a success the list starts over. With
//! `version = "auto"` each url is tried in 5 first, and in 3.1.1 for the rest of the process where it said that it
//! does not know 5, or closed three times without a CONNACK. A time-out says nothing about versions.

use crate::config::{BrokerUrl, Mqtt, MqttVersion};
use crate::mqtt::Version;
use crate::net::{ConnectError, Step};

/// So many closed connections without CONNACK are taken for "I don't know 5".
const CLOSED_MAX: u8 = 3;

struct Broker {
    url: BrokerUrl,
    version: Version,
    closed: u8,
}

/// See the head of this file.
pub(super) struct Brokers {
    list: Vec<Broker>,
    current: usize,
    auto: bool,
}

impl Brokers {
    pub(super) fn new(mqtt: &Mqtt) -> Self {
        let version = match mqtt.version {
            MqttVersion::V311 => Version::V311,
            MqttVersion::Auto | MqttVersion::V5 => Version::V5,
        };
        let list = mqtt.urls.iter().map(|url| Broker { url: url.clone(), version, closed: 0 }).collect();
        Self { list, current: 0, auto: mqtt.version == MqttVersion::Auto }
    }

    /// What to try.
    pub(super) fn current(&self) -> Option<(BrokerUrl, Version)> {
        self.list.get(self.current).map(|broker| (broker.url.clone(), broker.version))
    }

    /// The attempt succeeded; after this connection the preferred one is tried first again.
    pub(super) fn connected(&mut self) {
        if let Some(broker) = self.list.get_mut(self.current) {
            broker.closed = 0;
        }
        self.current = 0;
    }

    /// The attempt failed. `true`: the same url is tried again in 3.1.1.
    pub(super) fn failed(&mut self, error: &ConnectError) -> bool {
        let Some(broker) = self.list.get_mut(self.current) else { return false };
        if matches!(error, ConnectError::Closed { step: Step::Connack, .. }) {
            broker.closed = broker.closed.saturating_add(1);
        }
        if self.auto && broker.version == Version::V5 && (error.is_version_refused() || broker.closed >= CLOSED_MAX) {
            broker.version = Version::V311;
            return true;
        }
        self.current = (self.current + 1) % self.list.len().max(1);
        false
    }
}
