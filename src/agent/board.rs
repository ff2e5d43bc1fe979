//! Gathers what `status` shows from whoever it speaks of.

use std::time::Duration;

use tokio::sync::watch;

use super::log::Log;
use crate::config::Settings;
use crate::os::clock;
use crate::reading::Timestamp;
use crate::spool::BufferState;
use crate::status::{self, Status};

/// See the head of this file.
pub struct Board {
    agent: String,
    log: Log,
    loaded_at: Timestamp,
    started: Duration,
    sources: Vec<watch::Receiver<status::Source>>,
    publisher: Option<watch::Receiver<status::Mqtt>>,
}

impl Board {
    /// With nobody to ask yet but the log.
    pub fn new(settings: &Settings, log: Log) -> Self {
        Self {
            agent: settings.agent.id.clone(),
            log,
            loaded_at: Timestamp(clock::wall_ns()),
            started: clock::now(),
            sources: Vec::new(),
            publisher: None,
        }
    }

    /// A source, in order of name.
    pub fn add_source(&mut self, source: watch::Receiver<status::Source>) {
        self.sources.push(source);
    }

    /// The publisher, where there is one.
    pub fn set_publisher(&mut self, publisher: watch::Receiver<status::Mqtt>) {
        self.publisher = Some(publisher);
    }

    /// How everything is, now.
    pub fn status(&self) -> Status {
        let stats = self.log.news().stats;
        let mqtt = self.publisher.as_ref().map(|publisher| publisher.borrow().clone()).unwrap_or_default();
        Status {
            agent: self.agent.clone(),
            store: format!("{:08x}", u32::from_be_bytes(self.log.store())),
            version: env!("CARGO_PKG_VERSION").into(),
            boot: self.log.boot(),
            uptime_s: clock::now().saturating_sub(self.started).as_secs(),
            config: status::Config { valid: true, errors: Vec::new(), loaded_at: self.loaded_at.rfc3339() },
            mqtt: status::Mqtt { maybe_duplicated: stats.maybe_duplicated, ..mqtt },
            buffer: status::Buffer {
                state: match stats.state {
                    BufferState::Ok => "ok".into(),
                    BufferState::Memory => "memory".into(),
                },
                messages: stats.buffered,
                bytes: stats.bytes,
                oldest: stats.oldest_ns.filter(|_| stats.buffered > 0).map(|ns| Timestamp(ns).rfc3339()),
                dropped: stats.dropped,
                max_bytes: stats.max_bytes,
                accepted: stats.accepted,
                delivered: stats.delivered,
            },
            sources: self.sources.iter().map(|source| source.borrow().clone()).collect(),
        }
    }
}
