//! Topic aliases of one connection, both ways. They never outlive it: [MQTT-3.3.2-7].

use std::collections::HashMap;

/// How a topic is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// In full, without an alias.
    None,
    /// In full, with an alias that the server does not know yet.
    New(u16),
    /// By the alias alone.
    Known(u16),
}

/// Aliases that we use. The first topics of a connection get them, and keep them: an agent has few topics.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    known: HashMap<Box<str>, u16>,
    maximum: u16,
}

impl Outgoing {
    /// A new connection, which allows so many. [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    pub(super) fn reset(&mut self, maximum: u16) {
        self.known.clear();
        self.maximum = maximum;
    }

    /// No connection has used it yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.maximum == 0
    }

    pub(super) fn of(&self, topic: &str) -> Alias {
        if self.maximum == 0 {
            return Alias::None;
        }
        match self.known.get(topic) {
            Some(&alias) => Alias::Known(alias),
            // Aliases count from 1: [MQTT-3.3.2-8]
            None if self.known.len() < usize::from(self.maximum) => {
                Alias::New(u16::try_from(self.known.len()).map_or(u16::MAX, |known| known.saturating_add(1)))
            }
            None => Alias::None,
        }
    }

    /// The alias that `of` proposed goes out.
    pub(super) fn learn(&mut self, topic: &str, alias: u16) {
        self.known.insert(topic.into(), alias);
    }
}

/// Aliases that the server uses.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    topics: Vec<Option<Box<str>>>,
    maximum: u16,
}

impl Incoming {
    pub(super) fn reset(&mut self, maximum: u16) {
        self.topics.clear();
        self.maximum = maximum;
    }

    /// The topic that a message with this alias is for; `None`: the alias is 0, above our maximum [MQTT-3.3.2-10],
    /// or not known.
    pub(super) fn resolve<'a>(&'a mut self, alias: u16, topic: &'a str) -> Option<&'a str> {
        if alias == 0 || alias > self.maximum {
            return None;
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            return self.topics.get(index)?.as_deref();
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if let Some(slot) = self.topics.get_mut(index) {
            *slot = Some(topic.into());
        }
        Some(topic)
    }
}
