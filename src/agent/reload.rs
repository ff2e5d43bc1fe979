//! Following the configuration and the plugin folders while everything runs.
//!
//! ```text
//!  folders changed, SIGHUP, `reload` ──▶ read ──▶ check ──▶ can it be changed? ──▶ apply the difference
//!                                          │        │             │
//!                                          └────────┴─────────────┴──▶ say why, nothing changes
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{error, info, warn};

use super::errors;
use super::load;
use super::log::Log;
use super::parts::{Changes, Parts};
use crate::config::{self, Colour, Diagnostic, Input, Loaded, LogLevel, Settings};
use crate::control::Tail;
use crate::os::clock;
use crate::plugin::Host;
use crate::reading::Timestamp;
use crate::spool::BufferState;
use crate::status::{self, Status};

/// Everything that runs, and the configuration that it runs under.
pub struct Running {
    file: PathBuf,
    settings: Settings,
    /// The texts that were read last, right or wrong.
    inputs: Vec<Input>,
    host: Host,
    log: Log,
    parts: Parts,
    config: status::Config,
    started: Duration,
    set_log: Box<dyn Fn(LogLevel) + Send>,
}

impl Running {
    /// Starts everything that `settings` want.
    pub async fn start(
        file: PathBuf,
        inputs: Vec<Input>,
        settings: Settings,
        host: Host,
        log: Log,
        set_log: Box<dyn Fn(LogLevel) + Send>,
    ) -> Self {
        let mut parts = Parts::new(log.clone());
        parts.apply(None, &settings, &host, true).await;
        let config = status::Config { valid: true, errors: Vec::new(), loaded_at: now() };
        Self { file, settings, inputs, host, log, parts, config, started: clock::now(), set_log }
    }

    /// Folders in which something may change.
    pub fn folders(&self) -> Vec<PathBuf> {
        let main = self.file.parent().unwrap_or(Path::new("/")).to_owned();
        let drop_ins = self.file.with_extension("d");
        [main, drop_ins].into_iter().chain(self.settings.agent.plugin_dirs.iter().cloned()).collect()
    }

    /// Looks at everything again. What is read is what counts, not that something happened; only where it was `asked`
    /// for, an unchanged configuration is worth a word.
    pub async fn reload(&mut self, asked: bool) -> Result<String, String> {
        let replaced = self.parts.replaced_plugins(&self.settings.agent.plugin_dirs);
        if !replaced.is_empty() {
            info!("plugins were replaced, and are tried beside the old ones: {}", replaced.join(" "));
        }
        let (loaded, inputs) = load::load_with_inputs(&self.file);
        let same = inputs == self.inputs;
        if !asked && same && self.config.valid {
            return Ok(String::new());
        }
        self.inputs = inputs;
        match self.take(loaded).await {
            Ok(changes) => {
                self.config = status::Config { valid: true, errors: Vec::new(), loaded_at: now() };
                info!("configuration read: {changes}");
                Ok(changes.to_string())
            }
            Err(refused) => {
                // Said once, not at every look.
                if asked || !same || refused.errors != self.config.errors {
                    refused.say();
                }
                let why = refused.errors.join("; ");
                self.config.valid = false;
                self.config.errors = refused.errors;
                Err(why)
            }
        }
    }

    /// Checks a configuration and changes to it.
    async fn take(&mut self, mut loaded: Loaded) -> Result<Changes, Refused> {
        if let Some(why) = loaded.settings.as_ref().and_then(|new| immovable(&self.settings, new)) {
            return Err(Refused { errors: vec![why], loaded });
        }
        let of = |settings: &Settings| {
            let agent = &settings.agent;
            (agent.engine, agent.plugin_signatures, agent.plugin_keys.clone())
        };
        let same_host = loaded.settings.as_ref().is_none_or(|new| of(new) == of(&self.settings));
        let host = match loaded.settings.as_ref().filter(|_| !same_host).map(super::host_options) {
            None => self.host.clone(),
            Some(options) => match Host::new(options) {
                Ok(host) => host,
                Err(error) => return Err(Refused { errors: vec![error.to_string()], loaded }),
            },
        };
        let runs = |source: &config::Source| same_host && self.settings.sources.get(&source.name) == Some(source);
        let problems = load::plugin_problems(&host, &loaded, |source| !runs(source)).await;
        load::add(&mut loaded, problems);
        let Some(new) = loaded.settings.take() else { return Err(Refused { errors: errors(&loaded), loaded }) };
        loaded.diagnostics.iter().for_each(say);
        let changes = self.parts.apply(Some(&self.settings), &new, &host, same_host).await;
        if self.settings.agent.log != new.agent.log {
            (self.set_log)(new.agent.log);
        }
        self.settings = new;
        self.host = host;
        Ok(changes)
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

    /// How everything is, now.
    pub fn status(&self) -> Status {
        let stats = self.log.news().stats;
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
            },
            sources: self.parts.source_status(),
            buses: self.parts.bus_status(),
        }
    }
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
    let limits = |settings: &Settings| {
        let buffer = &settings.buffer;
        (buffer.max_size, buffer.max_age, buffer.when_full, buffer.sync)
    };
    (limits(old) != limits(new)).then(|| {
        "max_size, max_age, when_full and sync of [buffer] can't change while the agent runs: restart it".into()
    })
}
