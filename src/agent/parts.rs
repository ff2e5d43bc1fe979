//! What runs under one configuration: sources and the publisher, and how they change into what another one wants.
//!
//! What did not change goes on untouched: its task does not learn of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::commands::{Commands, Rules};
use super::log::Log;
use super::metas::MetaList;
use super::publisher::{self, Publisher, Stop};
use super::source::{Orders, Source};
use super::start::Surroundings;
use super::watchdog::Progress;
use crate::config::{self, Settings};
use crate::control::{Feed, TAILS_MAX, Tail};
use crate::device::modbus::Buses;
use crate::os::places::{self, Stamp};
use crate::plugin::Host;
use crate::status;

/// How long the sources may take to stop; a poll that hangs in a device is left behind then.
const SOURCES_STOP_MAX: Duration = Duration::from_secs(3);
/// How long a publisher may take to hand over.
const HANDOVER_MAX: Duration = Duration::from_secs(3);
/// Least and most bytes that are in flight; in between a quarter of the buffer (R8).
const IN_FLIGHT_BYTES_MIN: u64 = 64 << 10;
const IN_FLIGHT_BYTES_MAX: u64 = 4 << 20;

struct RunningSource {
    settings: config::Source,
    orders: watch::Sender<Orders>,
    status: watch::Receiver<status::Source>,
    task: JoinHandle<()>,
    /// The plugin's file as it was when it was last given to the source.
    stamp: Option<Stamp>,
}

struct RunningPublisher {
    stop: watch::Sender<Stop>,
    status: watch::Receiver<status::Mqtt>,
    task: JoinHandle<()>,
}

/// See the head of this file.
pub struct Parts {
    log: Log,
    metas: MetaList,
    /// Of the host that the sources run on.
    buses: Buses,
    feed: Feed,
    /// What the configuration says about commands.
    rules: watch::Sender<Rules>,
    commands: Commands,
    sources: BTreeMap<String, RunningSource>,
    publisher: Option<RunningPublisher>,
}

/// What a change came to, for one line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    kept: usize,
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
    /// Buses that are there, not there, or otherwise than before.
    buses: Vec<String>,
    publisher: bool,
}

/// Their names; none where nothing ran before.
fn changed_buses(old: Option<&Settings>, new: &Settings) -> Vec<String> {
    let Some(old) = old else { return Vec::new() };
    let names: BTreeSet<&String> = old.buses.keys().chain(new.buses.keys()).collect();
    names.into_iter().filter(|name| old.buses.get(*name) != new.buses.get(*name)).cloned().collect()
}

impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} kept", self.kept, if self.kept == 1 { "source" } else { "sources" })?;
        let lists = [
            ("added", &self.added),
            ("restarted", &self.changed),
            ("removed", &self.removed),
            ("buses changed", &self.buses),
        ];
        for (word, names) in lists {
            if !names.is_empty() {
                write!(f, ", {word}: {}", names.join(" "))?;
            }
        }
        f.write_str(if self.publisher { ", connection made anew" } else { ", connection kept" })
    }
}

impl Parts {
    /// Nothing runs yet.
    pub fn new(log: Log) -> Self {
        let rules = watch::Sender::new(Rules::default());
        let commands = Commands::start(log.clone(), rules.subscribe());
        Self {
            log,
            metas: MetaList::new(),
            buses: Buses::new(),
            feed: Feed::new(),
            rules,
            commands,
            sources: BTreeMap::new(),
            publisher: None,
        }
    }

    /// Starts what `new` wants and does not run, ends what it does not want, replaces what it wants otherwise.
    /// `old` is what runs; a `host` that is another one replaces every source.
    pub async fn apply(&mut self, old: Option<&Settings>, new: &Settings, host: &Host, same_host: bool) -> Changes {
        let mut changes = Changes::default();
        let shared = |settings: &Settings| {
            let topics = settings.mqtt.as_ref().map(|mqtt| mqtt.topics.clone());
            (settings.agent.id.clone(), settings.agent.plugin_dirs.clone(), topics)
        };
        let same_surroundings = same_host && old.is_some_and(|old| shared(old) == shared(new));
        self.metas.configure(new.sources.keys());
        self.rules.send_replace(Rules::new(new));
        let mut ending = Vec::new();
        for (name, running) in &self.sources {
            match new.sources.get(name) {
                Some(wanted) if same_surroundings && *wanted == running.settings => changes.kept += 1,
                Some(_) => ending.push(name.clone()),
                None => {
                    ending.push(name.clone());
                    changes.removed.push(name.clone());
                }
            }
        }
        let replaced: Vec<_> = ending.iter().filter(|name| new.sources.contains_key(*name)).cloned().collect();
        self.end_sources(&ending).await;
        if !same_host {
            // Its ports have to be free for those of the new host.
            self.buses.apply(&BTreeMap::new()).await;
        }
        self.buses = host.buses().clone();
        self.buses.apply(&new.buses).await;
        changes.buses = changed_buses(old, new);
        for (name, settings) in &new.sources {
            if !self.sources.contains_key(name) {
                if replaced.contains(name) {
                    changes.changed.push(name.clone());
                } else {
                    changes.added.push(name.clone());
                }
                self.start_source(settings, new, host);
            }
        }
        let same_publisher = old.is_some_and(|old| {
            let of = |settings: &Settings| {
                (
                    settings.mqtt.clone(),
                    settings.agent.id.clone(),
                    settings.buffer.replay_rate,
                    settings.buffer.max_size,
                    exactly_once(settings),
                )
            };
            of(old) == of(new)
        });
        if !same_publisher {
            changes.publisher = true;
            self.end_publisher(Stop::Handover, HANDOVER_MAX).await;
            self.start_publisher(new);
        }
        changes
    }

    fn start_source(&mut self, settings: &config::Source, all: &Settings, host: &Host) {
        let around = Surroundings {
            host: host.clone(),
            plugin_dirs: all.agent.plugin_dirs.clone(),
            agent: all.agent.id.clone(),
            topics: all.mqtt.as_ref().map(|mqtt| mqtt.topics.clone()),
            log: self.log.clone(),
            metas: self.metas.clone(),
            feed: self.feed.clone(),
            commands: self.commands.clone(),
        };
        let (orders, ordered) = watch::channel(Orders::default());
        let stamp = stamp(&all.agent.plugin_dirs, settings);
        let (source, status) = Source::new(settings.clone(), around, ordered);
        let running =
            RunningSource { settings: settings.clone(), orders, status, task: tokio::spawn(source.run()), stamp };
        self.sources.insert(settings.name.clone(), running);
    }

    /// Tells every source whose plugin's file is another one than it was. Gives their names.
    pub fn replaced_plugins(&mut self, dirs: &[PathBuf]) -> Vec<String> {
        let mut names = Vec::new();
        for (name, running) in &mut self.sources {
            let now = stamp(dirs, &running.settings);
            // A file that is gone is no replacement: what runs goes on.
            if now.is_some() && now != running.stamp {
                running.stamp = now;
                running.orders.send_modify(|orders| orders.plugin += 1);
                names.push(name.clone());
            }
        }
        names
    }

    async fn end_sources(&mut self, names: &[String]) {
        let mut tasks = Vec::new();
        for name in names {
            if let Some(running) = self.sources.remove(name) {
                running.orders.send_modify(|orders| orders.stop = true);
                tasks.push((name, running.task));
            }
        }
        let until =
            tokio::time::Instant::from_std(crate::os::clock::instant(crate::os::clock::now() + SOURCES_STOP_MAX));
        for (name, mut task) in tasks {
            if tokio::time::timeout_at(until, &mut task).await.is_err() {
                warn!(source = %name, "did not stop within {} s and is left behind", SOURCES_STOP_MAX.as_secs());
                task.abort();
            }
        }
    }

    fn start_publisher(&mut self, settings: &Settings) {
        let Some(mqtt) = settings.mqtt.clone() else {
            warn!("there is no [mqtt] in the configuration: readings are only buffered");
            return;
        };
        let replay_rate = settings.buffer.replay_rate;
        let exactly_once = exactly_once(settings);
        let setup = publisher::Setup { mqtt, agent: settings.agent.id.clone(), exactly_once, replay_rate };
        let bytes = (settings.buffer.max_size / 4).clamp(IN_FLIGHT_BYTES_MIN, IN_FLIGHT_BYTES_MAX);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (stop, stopped) = watch::channel(Stop::No);
        let (publisher, status) = Publisher::new(setup, self.log.clone(), &self.metas, &self.commands, bytes);
        self.publisher = Some(RunningPublisher { stop, status, task: tokio::spawn(publisher.run(stopped)) });
    }

    async fn end_publisher(&mut self, how: Stop, limit: Duration) {
        let Some(mut running) = self.publisher.take() else { return };
        running.stop.send_replace(how);
        if tokio::time::timeout(limit, &mut running.task).await.is_err() {
            running.task.abort();
            // Until it is gone, it may still hold the connection.
            let _ = running.task.await;
        }
    }

    /// The end, in the order of a reading's way. What is left of it when `at_once` comes stays in the buffer.
    pub async fn end(&mut self, at_once: impl Future<Output = ()>) {
        let names: Vec<_> = self.sources.keys().cloned().collect();
        self.end_sources(&names).await;
        self.buses.apply(&BTreeMap::new()).await;
        self.feed.close();
        tokio::select! {
            () = self.end_publisher(Stop::End, publisher::END_MAX) => {}
            () = at_once => info!("stopping at once: what is not sent stays in the buffer"),
        }
    }

    /// Shows what one source reads from now on, or all; with notes on those that read nothing.
    pub fn tail(&self, source: Option<String>) -> Result<(Vec<String>, Tail), String> {
        if let Some(name) = source.as_ref().filter(|&name| !self.sources.contains_key(name)) {
            let names: Vec<_> = self.sources.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(format!("there is no source \"{name}\"; there are: {names}"));
        }
        let wanted = |status: &status::Source| source.as_ref().is_none_or(|name| *name == status.name);
        let notes = self.source_status().into_iter().filter(wanted).filter_map(|status| silent(&status)).collect();
        let tail =
            self.feed.tail(source).ok_or_else(|| format!("{TAILS_MAX} tails are open already, and no more at once"))?;
        Ok((notes, tail))
    }

    /// How far those sources have come that run.
    pub fn progress(&self) -> Vec<Progress> {
        let running =
            self.sources.values().filter(|source| source.status.borrow().state == status::SourceState::Running);
        running
            .map(|source| {
                let status = source.status.borrow();
                Progress { source: status.name.clone(), polls: status.polls, every: source.settings.every }
            })
            .collect()
    }

    /// How the sources are, in order of name.
    pub fn source_status(&self) -> Vec<status::Source> {
        self.sources.values().map(|source| source.status.borrow().clone()).collect()
    }

    /// How the buses are, in order of name.
    pub fn bus_status(&self) -> Vec<status::Bus> {
        self.buses.status()
    }

    /// How the publisher is.
    pub fn publisher_status(&self) -> status::Mqtt {
        self.publisher.as_ref().map(|publisher| publisher.status.borrow().clone()).unwrap_or_default()
    }
}

/// Why nothing is to be expected of a source for now.
fn silent(status: &status::Source) -> Option<String> {
    let state = match status.state {
        status::SourceState::Running => return None,
        status::SourceState::Backoff => "is waiting to be started",
        status::SourceState::Failed => "is off until its configuration or plugin changes",
        status::SourceState::Stopped => "has stopped",
    };
    let why = status.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    Some(format!("{} {state}{why}", status.name))
}

/// Whether a source uses QoS 2.
fn exactly_once(settings: &Settings) -> bool {
    settings.sources.values().any(|source| source.qos == 2)
}

fn stamp(dirs: &[PathBuf], source: &config::Source) -> Option<Stamp> {
    places::stamp(&places::plugin(dirs, &source.plugin)?)
}
