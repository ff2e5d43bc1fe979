//! Following the configuration and the plugin folders while everything runs.
//!
//! ```text
//!  folders changed, SIGHUP, `reload` ──▶ read ──▶ check ──▶ can it be changed? ──▶ apply the difference
//!                                          │        │             │
//!                                          └────────┴─────────────┴──▶ say why, nothing changes
//! ```

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::errors;
use super::load::{self, Seen};
use super::log::{Episode, Log, News};
use super::parts::{Changes, Parts};
use super::rates::Rates;
use super::watchdog::Progress;
use crate::config::{self, Colour, Diagnostic, Loaded, LogLevel, Settings};
use crate::control::{Answer, Reply, Tail};
use crate::os::clock;
use crate::os::places::{self, Sites};
use crate::plugin::Host;
use crate::reading::Timestamp;
use crate::spool::BufferState;
use crate::status::{self, LinkState, SourceState, Status};

/// Everything that runs, and the configuration that it runs under.
pub struct Running {
    file: PathBuf,
    settings: Settings,
    /// The files that were read last, right or wrong.
    seen: Vec<Seen>,
    host: Host,
    log: Log,
    parts: Parts,
    config: status::Config,
    started: Duration,
    set_log: Box<dyn Fn(LogLevel) + Send>,
    rates: Rates,
}

/// A configuration that was read and is checked.
type Checking = Pin<Box<dyn Future<Output = Candidate> + Send>>;

/// A configuration that was checked.
pub struct Candidate {
    asked: bool,
    /// It is what was read last time, too.
    same: bool,
    outcome: Result<Box<Sound>, Refused>,
}

/// One that can be changed to.
struct Sound {
    settings: Settings,
    loaded: Loaded,
    host: Host,
    same_host: bool,
}

/// Reloads, one at a time: what is asked for while one is under way is done by the next.
#[derive(Default)]
pub struct Reloads {
    checking: Option<Checking>,
    /// Who waits for the one under way. As many as the control socket serves, at most.
    waiting: Vec<oneshot::Sender<Reply>>,
    /// Whether there is to be a next one, and whether it was asked for.
    next: Option<bool>,
    next_waiting: Vec<oneshot::Sender<Reply>>,
}

impl Reloads {
    /// A look at the configuration is wanted.
    pub fn want(&mut self, asked: bool, reply: Option<oneshot::Sender<Reply>>) {
        self.next = Some(asked || self.next == Some(true));
        self.next_waiting.extend(reply);
    }

    /// Begins the next one, if it is time for it and there is anything to do.
    pub fn begin(&mut self, running: &mut Running) -> bool {
        if self.checking.is_some() {
            return false;
        }
        let Some(asked) = self.next.take() else { return false };
        self.waiting = std::mem::take(&mut self.next_waiting);
        self.checking = running.read(asked);
        self.checking.is_some()
    }

    /// Waits for the check of the one under way. Cancel safe.
    pub async fn checked(&mut self) -> Candidate {
        let Some(checking) = &mut self.checking else { return std::future::pending().await };
        let candidate = checking.await;
        self.checking = None;
        candidate
    }

    /// Tells who waits what it came to.
    pub fn end(&mut self, outcome: &Result<String, String>) {
        for reply in self.waiting.drain(..) {
            let answer = match outcome {
                Ok(what) => Answer::Done(what.clone()),
                Err(why) => Answer::Error(why.clone()),
            };
            // Who asked may be gone.
            drop(reply.send(Reply::Answer(answer)));
        }
    }
}

/// Whether `loaded` can take the place of `old`.
async fn check(old: &Settings, host: Host, mut loaded: Loaded) -> Result<Box<Sound>, Refused> {
    if let Some(why) = loaded.settings.as_ref().and_then(|new| immovable(old, new)) {
        return Err(Refused { errors: vec![why], loaded });
    }
    let of = |settings: &Settings| {
        let agent = &settings.agent;
        (agent.engine, agent.plugin_signatures, agent.plugin_keys.clone())
    };
    let same_host = loaded.settings.as_ref().is_none_or(|new| of(new) == of(old));
    let host = match loaded.settings.as_ref().filter(|_| !same_host).map(super::host_options) {
        None => host,
        Some(options) => match Host::new(options) {
            Ok(host) => host,
            Err(error) => return Err(Refused { errors: vec![error.to_string()], loaded }),
        },
    };
    let runs = |source: &config::Source| same_host && old.sources.get(&source.name) == Some(source);
    let problems = load::plugin_problems(&host, &loaded, |source| !runs(source)).await;
    load::add(&mut loaded, problems);
    let Some(settings) = loaded.settings.take() else { return Err(Refused { errors: errors(&loaded), loaded }) };
    Ok(Box::new(Sound { settings, loaded, host, same_host }))
}

impl Running {
    /// Starts everything that `settings` want.
    pub async fn start(
        file: PathBuf,
        seen: Vec<Seen>,
        settings: Settings,
        host: Host,
        log: Log,
        set_log: Box<dyn Fn(LogLevel) + Send>,
    ) -> Self {
        let mut parts = Parts::new(log.clone());
        parts.apply(None, &settings, &host, true).await;
        let config = status::Config { valid: true, errors: Vec::new(), loaded_at: now() };
        Self { file, settings, seen, host, log, parts, config, started: clock::now(), set_log, rates: Rates::default() }
    }

    /// Where something may change.
    pub fn sites(&self) -> Sites {
        let files = self.seen.iter().map(|file| file.path.as_path());
        let mut sites = places::sites(&self.file, files);
        sites.folders.extend(self.settings.agent.plugin_dirs.iter().cloned());
        sites
    }

    /// Looks at everything again. What is read is what counts, not that something happened; only where it was `asked`
    /// for, an unchanged configuration is worth a word. Gives what checks the configuration, which takes as long as
    /// the plugins do that have to be compiled for it; everything goes on meanwhile.
    fn read(&mut self, asked: bool) -> Option<Checking> {
        let replaced = self.parts.replaced_plugins(&self.settings.agent.plugin_dirs);
        if !replaced.is_empty() {
            info!("plugins were replaced, and are tried beside the old ones: {}", replaced.join(" "));
        }
        let (loaded, seen) = load::load_and_note(&self.file);
        let same = seen == self.seen;
        if !asked && same && self.config.valid {
            return None;
        }
        self.seen = seen;
        let (old, host) = (self.settings.clone(), self.host.clone());
        Some(Box::pin(async move { Candidate { asked, same, outcome: check(&old, host, loaded).await } }))
    }

    /// Changes to a configuration that was checked; or says why it is refused, and nothing changes.
    pub async fn take(&mut self, candidate: Candidate) -> Result<String, String> {
        match candidate.outcome {
            Ok(sound) => {
                let changes = self.apply(*sound).await;
                self.config = status::Config { valid: true, errors: Vec::new(), loaded_at: now() };
                info!("configuration read: {changes}");
                Ok(changes.to_string())
            }
            Err(refused) => {
                // Said once, not at every look.
                if candidate.asked || !candidate.same || refused.errors != self.config.errors {
                    refused.say();
                }
                let why =
                    format!("the new configuration is not used, the old one goes on: {}", refused.errors.join("; "));
                self.config.valid = false;
                self.config.errors = refused.errors;
                Err(why)
            }
        }
    }

    async fn apply(&mut self, sound: Sound) -> Changes {
        let Sound { loaded, settings: new, host, same_host } = sound;
        loaded.diagnostics.iter().for_each(say);
        if self.settings.buffer != new.buffer
            && let Err(why) = self.log.set_limits(&new.buffer).await
        {
            warn!("the new limits of the buffer hold as far as the disk allows: {why}");
        }
        let changes = self.parts.apply(Some(&self.settings), &new, &host, same_host).await;
        if self.settings.agent.log != new.agent.log {
            (self.set_log)(new.agent.log);
        }
        self.settings = new;
        self.host = host;
        changes
    }

    /// Changes the log's level until the configuration is read again.
    pub fn set_log(&self, level: LogLevel) {
        (self.set_log)(level);
    }

    /// Shows what sources read from now on, and says which of them read nothing.
    pub fn tail(&self, source: Option<String>) -> Result<(Vec<String>, Tail), String> {
        self.parts.tail(source)
    }

    /// The end of everything but the log.
    pub async fn end(&mut self, at_once: impl Future<Output = ()>) {
        self.parts.end(at_once).await;
    }

    /// How far the sources have come that run.
    pub fn progress(&self) -> Vec<Progress> {
        self.parts.progress()
    }

    /// Notes how much has come and gone by now.
    pub fn sample(&mut self) {
        let stats = self.log.news().stats;
        self.rates.sample(clock::now(), stats.accepted, stats.delivered);
        let figures = [stats.buffered, stats.bytes, stats.accepted, stats.delivered, stats.dropped];
        self.host.figures().set(figures);
    }

    /// How everything is, on one line.
    pub fn summary(&self) -> String {
        if let Some(error) = self.config.errors.first() {
            return format!("the new configuration is not used: {error}");
        }
        let (mqtt, sources) = (self.parts.publisher_status(), self.parts.source_status());
        let broker = mqtt.broker.unwrap_or_default();
        let link = match mqtt.state {
            LinkState::Unconfigured => "no broker is configured, readings are only buffered".to_owned(),
            LinkState::Connected => format!("connected to {broker}"),
            LinkState::Connecting => format!("connecting to {broker}"),
            LinkState::Waiting => format!("not connected to {broker}: {}", mqtt.last_error.unwrap_or_default()),
        };
        let running = sources.iter().filter(|source| source.state == SourceState::Running).count();
        format!("{running} of {} sources running, {link}", sources.len())
    }

    /// How everything is, now.
    pub fn status(&self) -> Status {
        let News { stats, dropping, .. } = self.log.news();
        let (accepted_per_s, delivered_per_s) = self.rates.per_second(clock::now(), stats.accepted, stats.delivered);
        Status {
            agent: self.settings.agent.id.clone(),
            store: format!("{:08x}", u32::from_be_bytes(self.log.store())),
            version: env!("CARGO_PKG_VERSION").into(),
            boot: self.log.boot(),
            uptime_s: clock::now().saturating_sub(self.started).as_secs(),
            config: self.config.clone(),
            mqtt: status::Mqtt { maybe_duplicated: stats.maybe_duplicated, ..self.parts.publisher_status() },
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
                accepted_per_s,
                delivered_per_s,
                dropping: dropping.iter().map(shown).collect(),
            },
            sources: self.parts.source_status(),
            buses: self.parts.bus_status(),
        }
    }
}

fn shown(episode: &Episode) -> status::Dropping {
    let since = Timestamp(episode.since_ns).rfc3339();
    status::Dropping { reason: episode.reason.as_str().into(), since, messages: episode.messages }
}

/// A configuration that is not used.
struct Refused {
    errors: Vec<String>,
    loaded: Loaded,
}

impl Refused {
    fn say(&self) {
        self.loaded.diagnostics.iter().for_each(say);
        error!("the new configuration is not used, the old one goes on: {}", self.errors.join("; "));
    }
}

fn say(diagnostic: &Diagnostic) {
    let text = config::render(diagnostic, Colour::Plain);
    if diagnostic.is_error() { error!("{}", text.trim_end()) } else { warn!("{}", text.trim_end()) }
}

fn now() -> String {
    Timestamp(clock::wall_ns()).rfc3339()
}

/// What can't change while the agent runs.
fn immovable(old: &Settings, new: &Settings) -> Option<String> {
    if old.agent.data_dir != new.agent.data_dir {
        return Some("agent.data_dir can't change while the agent runs: restart it".into());
    }
    None
}
