//! One source: its plugin is loaded, started, polled on schedule, and started again when it dies.
//!
//! ```text
//!           ┌────────────────────────────── stop ──────────────────────────────▶ stopped
//!  start ──▶ running ── trap, time-out, memory, start failed ──▶ backoff ──┐
//!              ▲                                                          │ 1 s to 30 s; from 1 s again
//!              └──────────────────────────────────────────────────────────┘ after 10 s of health
//!           └── its configuration can never work, no such plugin, not granted ──▶ failed (until a reload)
//! ```
//!
//! A source is alone in its task: whatever its plugin does, the others are polled on time. When it dies, one
//! message names all its points as bad, so that no dashboard goes on showing its last values.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::log::{Lane, Log};
use super::schedule::Schedule;
use super::state::PluginState;
use crate::config::{self, Topics};
use crate::encode::{self, Route};
use crate::os::{clock, places};
use crate::plugin::{About, Failure, Host, Instance, SourceSpec, Trigger};
use crate::reading::{Batch, Quality, READINGS_MAX, Reading, Timestamp};
use crate::status::{self, SourceState};

/// First pause after a death.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest pause between two starts.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A plugin that ran so long was healthy: its next death counts as a first one.
const HEALTHY: Duration = Duration::from_secs(10);

/// Shortest and longest pause that a plugin can ask for.
const NEXT_MIN: Duration = Duration::from_millis(10);
const NEXT_MAX: Duration = Duration::from_secs(86_400);

/// What the publisher is told about a source.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The source's name.
    pub source: String,
    /// The payload of its meta message.
    pub payload: Vec<u8>,
}

/// What all sources share.
#[derive(Clone)]
pub struct Surroundings {
    /// Compiles and loads plugins.
    pub host: Host,
    /// Folders of plugins, first hit wins.
    pub plugin_dirs: Vec<PathBuf>,
    /// The agent's id.
    pub agent: String,
    /// Topics that the agent itself uses.
    pub topics: Option<Topics>,
    /// Where batches go, and the plugin's durable values.
    pub log: Log,
    /// Where metas go.
    pub metas: mpsc::Sender<Meta>,
}

/// One source's task.
pub struct Source {
    settings: config::Source,
    around: Surroundings,
    status: watch::Sender<status::Source>,
    /// Points and reasons, once known; they outlive the instance.
    about: Option<About>,
    /// Whether its values were said to be bad since the last poll that worked.
    said_dead: bool,
}

/// Why an instance's life ended.
enum End {
    Stop,
    /// Not for good.
    Died {
        failure: String,
        lived: Duration,
    },
    /// Until something changes.
    Hopeless(String),
}

impl Source {
    /// A source that has not started yet, and where it shows how it is.
    pub fn new(settings: config::Source, around: Surroundings) -> (Self, watch::Receiver<status::Source>) {
        let shown = status::Source {
            name: settings.name.clone(),
            plugin: settings.plugin.clone(),
            ..status::Source::default()
        };
        let (status, receiver) = watch::channel(shown);
        (Self { settings, around, status, about: None, said_dead: false }, receiver)
    }

    /// Runs until `stop` says so.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = BACKOFF_MIN;
        loop {
            let end = self.life(&mut stop).await;
            match end {
                End::Stop => break,
                End::Hopeless(why) => {
                    error!(source = %self.settings.name, "{why}; it stays off until its configuration or plugin changes");
                    self.failed(SourceState::Failed, why).await;
                    stopped(&mut stop).await;
                    break;
                }
                End::Died { failure, lived } => {
                    if lived >= HEALTHY {
                        pause = BACKOFF_MIN;
                    }
                    warn!(source = %self.settings.name, "{failure}; started again in {} s", pause.as_secs());
                    self.failed(SourceState::Backoff, failure).await;
                    tokio::select! {
                        () = stopped(&mut stop) => break,
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(BACKOFF_MAX);
                    self.status.send_modify(|status| status.restarts += 1);
                }
            }
        }
        self.status.send_modify(|status| status.state = SourceState::Stopped);
    }

    /// From loading to death.
    async fn life(&mut self, stop: &mut watch::Receiver<bool>) -> End {
        let began = clock::now();
        let mut instance = tokio::select! {
            () = stopped(stop) => return End::Stop,
            started = self.start() => match started {
                Ok(instance) => instance,
                Err(end) => return end,
            },
        };
        let mut lane = self.lane(instance.about());
        self.tell_meta().await;
        self.status.send_modify(|status| {
            status.state = SourceState::Running;
            status.memory_bytes = instance.memory_bytes();
        });
        let about = instance.about();
        info!(source = %self.settings.name, "running {} {} every {:?}, {} points", about.name, about.version, self.settings.every, about.points.len());
        let mut schedule = Schedule::new(self.settings.every);
        let mut asked = None;
        loop {
            let wait = asked.unwrap_or_else(|| schedule.wait(clock::wall_ns()));
            tokio::select! {
                () = stopped(stop) => {
                    instance.stop().await;
                    return End::Stop;
                }
                () = tokio::time::sleep(wait) => {}
            }
            let missed = schedule.begin(clock::wall_ns(), clock::now());
            // What the plugin itself asked for is nothing that it missed.
            let missed = if asked.is_some() { 0 } else { missed };
            match self.poll(&mut instance, missed, &mut lane).await {
                Ok(next) => asked = next.map(|next| next.clamp(NEXT_MIN, NEXT_MAX)),
                Err(failure) => return ended(failure, clock::now().saturating_sub(began)),
            }
        }
    }

    /// Loads the plugin, lets it check the configuration, and starts it.
    async fn start(&mut self) -> Result<Instance, End> {
        let name = &self.settings.plugin;
        let Some(file) = places::plugin(&self.around.plugin_dirs, name) else {
            let dirs: Vec<_> = self.around.plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
            return Err(End::Hopeless(format!("no plugin \"{name}\": there is no {name}.wasm in {}", dirs.join(", "))));
        };
        let plugin = self.around.host.load(&file).await.map_err(|error| End::Hopeless(error.to_string()))?;
        let state = PluginState::new(self.around.log.clone(), &self.settings.name);
        let spec = SourceSpec::new(&self.settings).with_state(Arc::new(state));
        if plugin.missing_grants(&spec.grants).is_empty() {
            // Known before it starts, so that a start that fails can be said of its points.
            self.about = plugin.describe(&spec).await.ok().or(self.about.take());
        }
        if let Some(point) = self.about.as_ref().and_then(|about| self.colliding_point(about)) {
            let topic = self.settings.topic.as_str();
            return Err(End::Hopeless(format!(
                "its point \"{point}\" would take a topic of the agent: change topic = \"{topic}\""
            )));
        }
        let instance = Instance::start(&plugin, &spec).await.map_err(|failure| ended(failure, Duration::ZERO))?;
        self.about = Some(instance.about().clone());
        Ok(instance)
    }

    /// One poll: what it brings is accepted before the next one begins. Gives when the plugin wants to be woken.
    async fn poll(
        &mut self,
        instance: &mut Instance,
        missed: u32,
        lane: &mut Lane,
    ) -> Result<Option<Duration>, Failure> {
        let time = Timestamp(clock::wall_ns());
        let clock_synced = clock::synced();
        self.status.send_modify(|status| {
            status.polls += 1;
            status.missed += u64::from(missed);
            status.last_poll = Some(time.rfc3339());
        });
        let outcome = instance.run(Trigger::Schedule(missed), time).await;
        self.status.send_modify(|status| {
            status.memory_bytes = instance.memory_bytes();
            status.refused = instance.refused();
        });
        let outcome = outcome?;
        if outcome.points_changed {
            *lane = self.lane(instance.about());
            self.about = Some(instance.about().clone());
            self.tell_meta().await;
        }
        self.said_dead = false;
        self.accept(lane, &Batch { time, clock_synced, readings: outcome.readings }).await;
        Ok(outcome.next)
    }

    /// Hands a batch over to the spool. Waits where the spool is behind: what was read is not lost, the next
    /// slot is missed and counted instead.
    async fn accept(&self, lane: &Lane, batch: &Batch) {
        let accepted = self.around.log.accept(lane, batch).await;
        self.status.send_modify(|status| status.readings += accepted);
    }

    /// The instance is gone, or there never was one: shown in `status`, and once in a message.
    async fn failed(&mut self, state: SourceState, why: String) {
        self.status.send_modify(|status| {
            status.state = state;
            status.errors += 1;
            status.last_error = Some(why);
            status.memory_bytes = 0;
        });
        let Some(about) = self.about.as_ref().filter(|about| !about.points.is_empty() && !self.said_dead) else {
            return;
        };
        let readings = (0..).zip(about.points.iter().take(READINGS_MAX));
        let readings = readings.map(|(point, _)| Reading::bad(point, Quality::SOURCE_FAILED)).collect();
        let lane = self.lane(about);
        let batch = Batch { time: Timestamp(clock::wall_ns()), clock_synced: clock::synced(), readings };
        self.said_dead = true;
        self.accept(&lane, &batch).await;
        self.tell_meta().await;
    }

    /// A point whose own topic is one that the agent uses: `meta` under `{base}/{source}/{point}`.
    fn colliding_point<'a>(&self, about: &'a About) -> Option<&'a str> {
        let (topics, template) = (self.around.topics.as_ref()?, &self.settings.topic);
        let mut ids = about.points.iter().map(|point| point.id.as_str());
        ids.find(|id| topics.takes(&self.settings.name, &template.as_str().replace("{point}", id)))
    }

    fn lane(&self, about: &About) -> Lane {
        Lane::new(Route {
            version: Route::VERSION,
            agent: self.around.agent.clone(),
            source: self.settings.name.clone(),
            topic: self.settings.topic.as_str().to_owned(),
            qos: self.settings.qos,
            retain: self.settings.retain,
            max_message: self.settings.max_message,
            points: about.points.iter().map(|point| point.id.clone()).collect(),
            reasons: about.reasons.clone(),
        })
    }

    async fn tell_meta(&self) {
        let Some(about) = &self.about else { return };
        let source = self.settings.name.clone();
        let plugin = (about.name.as_str(), about.version.as_str());
        let payload = encode::meta(&self.around.agent, &source, plugin, &about.points);
        // The publisher is gone only when the agent ends.
        let _ = self.around.metas.send(Meta { source, payload }).await;
    }
}

fn ended(failure: Failure, lived: Duration) -> End {
    match failure {
        Failure::Config(why) => End::Hopeless(format!("its plugin refuses the configuration: {why}")),
        other => End::Died { failure: other.to_string(), lived },
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    let _ = stop.wait_for(|stop| *stop).await;
}
