//! Which broker is tried next, and in which version of the protocol.
//!
//! In order of preference: after a failure the next url, after a success the list starts over. With
//! `version = "auto"` each url is tried in 5 first, and in 3.1.1 for the rest of the process where it said that it
//! does not know 5, or closed three times without a CONNACK. A time-out says nothing about versions.
//!
//! Where `redirects` is set, a broker may send us to another one, at most [`REDIRECTS_MAX`] times before a connection
//! stands for a while; what it names is reached as the broker itself was (scheme, path, files), never less protected.

use crate::config::{BrokerUrl, Mqtt, MqttVersion};
use crate::mqtt::Version;
use crate::net::{ConnectError, Step};

/// So many closed connections without CONNACK are taken for "I don't know 5".
const CLOSED_MAX: u8 = 3;
/// The same for one that has spoken 5 before.
const CLOSED_THOUGH_KNOWN_MAX: u8 = 30;
/// So many brokers in a row are followed to.
const REDIRECTS_MAX: u8 = 3;

struct Broker {
    url: BrokerUrl,
    version: Version,
    closed: u8,
    /// It has spoken 5.
    speaks_5: bool,
}

/// See the head of this file.
pub(super) struct Brokers {
    list: Vec<Broker>,
    current: usize,
    auto: bool,
    follows: bool,
    /// Where the current one has sent us.
    redirect: Option<BrokerUrl>,
    redirects: u8,
    /// Which one the connection that stands is to; `None`: none in the list.
    connected: Option<usize>,
}

impl Brokers {
    pub(super) fn new(mqtt: &Mqtt) -> Self {
        let version = match mqtt.version {
            MqttVersion::V311 => Version::V311,
            MqttVersion::Auto | MqttVersion::V5 => Version::V5,
        };
        let list =
            mqtt.urls.iter().map(|url| Broker { url: url.clone(), version, closed: 0, speaks_5: false }).collect();
        Self {
            list,
            current: 0,
            auto: mqtt.version == MqttVersion::Auto,
            follows: mqtt.redirects,
            redirect: None,
            redirects: 0,
            connected: None,
        }
    }

    /// What to try.
    pub(super) fn current(&self) -> Option<(BrokerUrl, Version)> {
        let broker = self.list.get(self.current)?;
        Some((self.redirect.as_ref().unwrap_or(&broker.url).clone(), broker.version))
    }

    /// It has spoken 5 in an earlier process.
    pub(super) fn speaks_5(&mut self, url: &BrokerUrl) {
        self.list.iter_mut().filter(|broker| broker.url == *url).for_each(|broker| broker.speaks_5 = true);
    }

    /// The attempt succeeded; after this connection the preferred one is tried first again.
    pub(super) fn connected(&mut self) {
        if let Some(broker) = self.list.get_mut(self.current) {
            broker.closed = 0;
            broker.speaks_5 = broker.version == Version::V5;
        }
        self.connected = self.redirect.take().is_none().then_some(self.current);
        self.current = 0;
    }

    /// That connection stood for a while.
    pub(super) fn stood(&mut self) {
        self.redirects = 0;
    }

    /// The preferred broker, where the connection that stands is to another one of the list.
    pub(super) fn better_than_current(&self) -> Option<BrokerUrl> {
        self.connected.filter(|&index| index > 0)?;
        self.list.first().map(|broker| broker.url.clone())
    }

    /// The attempt failed. `true`: the same url is tried again in 3.1.1.
    pub(super) fn failed(&mut self, error: &ConnectError) -> bool {
        self.redirect = None;
        let Some(broker) = self.list.get_mut(self.current) else { return false };
        if matches!(error, ConnectError::Closed { step: Step::Connack, .. }) {
            broker.closed = broker.closed.saturating_add(1);
        }
        let closed_max = if broker.speaks_5 { CLOSED_THOUGH_KNOWN_MAX } else { CLOSED_MAX };
        if self.auto && broker.version == Version::V5 && (error.is_version_refused() || broker.closed >= closed_max) {
            broker.version = Version::V311;
            return true;
        }
        self.current = (self.current + 1) % self.list.len().max(1);
        false
    }

    /// The broker at `from` says "use another server" or "server moved", and which. Gives where to go, at once; an
    /// error says why not.
    pub(super) fn redirected(&mut self, from: &BrokerUrl, reference: Option<&str>) -> Result<BrokerUrl, String> {
        if !self.follows {
            return Err("mqtt.redirects is off".into());
        }
        let reference = reference.ok_or("it does not say which")?;
        if self.redirects >= REDIRECTS_MAX {
            self.redirects = 0;
            return Err(format!("{REDIRECTS_MAX} brokers in a row have sent us on"));
        }
        // A list, separated by spaces; any of them will do. [MQTT 4.11]
        let first = reference.split(' ').find(|one| !one.is_empty()).unwrap_or_default();
        let url = from.with_authority(first).ok_or_else(|| format!("{first:?} is no host and port"))?;
        self.redirects += 1;
        self.redirect = Some(url.clone());
        Ok(url)
    }
}

#[cfg(test)]
mod tests;
