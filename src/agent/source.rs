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
//! A plugin whose file was replaced is started and polled once beside the one that runs; if it works it takes over
//! between two polls, if not the old one stays.
//!
//! A source is alone in its task: whatever its plugin does, the others are polled on time. When it dies, one
//! message names all its points as bad, so that no dashboard goes on showing its last values.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::commands::{Job, Station};
use super::log::Lane;
use super::metas::Meta;
use super::schedule::Schedule;
use super::start::{self, NoStart, Passed, Surroundings};
use crate::config;
use crate::encode::Route;
use crate::os::clock;
use crate::plugin::{About, Failure, Instance, Rejection, Trial, Trigger};
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

/// What a source is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// It is to end.
    pub stop: bool,
    /// Grows when its plugin's file was replaced.
    pub plugin: u64,
}

/// One source's task.
pub struct Source {
    settings: config::Source,
    around: Surroundings,
    status: watch::Sender<status::Source>,
    orders: watch::Receiver<Orders>,
    /// The trial of a plugin that was replaced.
    trial: Option<JoinHandle<Result<Passed, String>>>,
    /// Where its commands come from, while its plugin takes some.
    station: Option<Station>,
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
    pub fn new(
        settings: config::Source,
        around: Surroundings,
        orders: watch::Receiver<Orders>,
    ) -> (Self, watch::Receiver<status::Source>) {
        let shown = status::Source {
            name: settings.name.clone(),
            plugin: settings.plugin.clone(),
            ..status::Source::default()
        };
        let (status, receiver) = watch::channel(shown);
        (Self { settings, around, status, orders, trial: None, station: None, about: None, said_dead: false }, receiver)
    }

    /// Runs until its orders say stop.
    pub async fn run(mut self) {
        let mut pause = BACKOFF_MIN;
        loop {
            match self.life().await {
                End::Stop => break,
                End::Hopeless(why) => {
                    error!(source = %self.settings.name, "{why}; it stays off until its configuration or plugin changes");
                    self.takes_commands(false).await;
                    self.failed(SourceState::Failed, why).await;
                    match ordered(&mut self.orders).await {
                        Order::Stop => break,
                        Order::Plugin => info!(source = %self.settings.name, "its plugin was replaced"),
                    }
                }
                End::Died { failure, lived } => {
                    if lived >= HEALTHY {
                        pause = BACKOFF_MIN;
                    }
                    warn!(source = %self.settings.name, "{failure}; started again in {} s", pause.as_secs());
                    self.failed(SourceState::Backoff, failure).await;
                    tokio::select! {
                        order = ordered(&mut self.orders) => if matches!(order, Order::Stop) { break },
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
            self.end_trial();
            self.status.send_modify(|status| status.restarts += 1);
        }
        self.end_trial();
        self.status.send_modify(|status| status.state = SourceState::Stopped);
    }

    /// From loading to death.
    async fn life(&mut self) -> End {
        let began = clock::now();
        let mut orders = self.orders.clone();
        let mut instance = tokio::select! {
            () = stopped(&mut orders) => return End::Stop,
            started = self.start() => match started {
                Ok(instance) => instance,
                Err(NoStart::Died(failure)) => return End::Died { failure, lived: Duration::ZERO },
                Err(NoStart::Hopeless(why)) => return End::Hopeless(why),
            },
        };
        let mut lane = self.running(&instance);
        let mut schedule = Schedule::new(self.settings.every);
        let (mut trigger, mut asked, mut polled) = (Trigger::Start, None, None);
        loop {
            let wait = asked.unwrap_or_else(|| schedule.wait(clock::wall_ns()));
            let mut edges = None;
            tokio::select! {
                order = ordered(&mut self.orders) => match order {
                    Order::Stop => {
                        instance.stop().await;
                        return End::Stop;
                    }
                    Order::Plugin => {
                        self.end_trial();
                        self.trial = Some(tokio::spawn(start::trial(self.settings.clone(), self.around.clone())));
                        continue;
                    }
                },
                passed = done(&mut self.trial) => {
                    self.trial = None;
                    if let Some(new) = self.swap(passed, &mut instance).await {
                        lane = new;
                    }
                    continue;
                }
                line = edge(&instance, polled), if polled.is_some() => edges = Some(line),
                () = work(&mut self.station) => {
                    if let Err(failure) = self.command(&mut instance).await {
                        return self.died(failure, began);
                    }
                    continue;
                }
                () = tokio::time::sleep(wait) => {}
            }
            // What the plugin itself asked for, or a line, is nothing that it missed.
            let missed = if edges.is_none() { schedule.begin(clock::wall_ns(), clock::now()) } else { 0 };
            let missed = if asked.is_some() { 0 } else { missed };
            if let Some(line) = edges {
                trigger = Trigger::Gpio(line);
            } else if trigger != Trigger::Start {
                trigger = Trigger::Schedule(missed);
            }
            let outcome = self.poll(&mut instance, trigger, missed, &mut lane).await;
            polled = Some(clock::now());
            match outcome {
                Ok(next) => asked = next.map(|next| next.clamp(NEXT_MIN, NEXT_MAX)),
                Err(failure) => return self.died(failure, began),
            }
            trigger = Trigger::Schedule(0);
        }
    }

    fn end_trial(&mut self) {
        if let Some(trial) = self.trial.take() {
            trial.abort();
        }
    }

    async fn start(&mut self) -> Result<Instance, NoStart> {
        let loaded = start::load(&self.settings, &self.around, Trial::default()).await?;
        self.about = loaded.about.clone().or(self.about.take());
        self.takes_commands(loaded.takes_commands()).await;
        loaded.start().await
    }

    /// Says whether the source takes commands, where that is news.
    async fn takes_commands(&mut self, takes: bool) {
        let (commands, name) = (&self.around.commands, &self.settings.name);
        if !takes {
            self.station = None;
            commands.takes_not(name).await;
        } else if self.station.is_none() {
            self.station = Some(commands.takes(name).await);
        }
    }

    /// A command waits: it is run now, between two polls. An error ends the instance.
    async fn command(&mut self, instance: &mut Instance) -> Result<(), Failure> {
        let Some(station) = &mut self.station else { return Ok(()) };
        let Some(Job { command }) = station.next().await else { return Ok(()) };
        let id = command.id.clone();
        info!(source = %self.settings.name, id, "command \"{}\"", command.name);
        let outcome = instance.execute(command).await;
        let (result, failure) = match outcome {
            Ok(result) => (result, None),
            Err(failure) => (Err(Rejection::Failed(failure.to_string())), Some(failure)),
        };
        station.done(id, result).await;
        failure.map_or(Ok(()), Err)
    }

    fn died(&self, failure: Failure, began: Duration) -> End {
        match NoStart::from(failure) {
            NoStart::Hopeless(why) => End::Hopeless(why),
            NoStart::Died(failure) => End::Died { failure, lived: clock::now().saturating_sub(began) },
        }
    }

    /// An instance runs: everybody is told what it is. Gives how its batches become records.
    fn running(&mut self, instance: &Instance) -> Lane {
        let about = instance.about();
        let name = &self.settings.name;
        info!(source = %name, "running {} {} every {:?}, {} points", about.name, about.version, self.settings.every, about.points.len());
        self.status.send_modify(|status| {
            status.state = SourceState::Running;
            status.memory_bytes = instance.memory_bytes();
        });
        self.about = Some(about.clone());
        self.tell_meta();
        self.lane(about)
    }

    /// The trial of a replaced plugin is over: between two polls the new one takes over, or the old one stays.
    async fn swap(&mut self, passed: Result<Passed, String>, instance: &mut Instance) -> Option<Lane> {
        match passed {
            Ok(mut passed) => {
                if let Err(why) = passed.inherit(instance).await {
                    return self.stays(&format!("it does not take over what the old one hands over: {why}"));
                }
                self.takes_commands(passed.takes_commands).await;
                let old = std::mem::replace(instance, passed.take_over().await);
                old.stop().await;
                Some(self.running(instance))
            }
            Err(why) => self.stays(&why),
        }
    }

    /// A replaced plugin that does not work.
    fn stays(&self, why: &str) -> Option<Lane> {
        error!(source = %self.settings.name, "its plugin was replaced, and the old one goes on: {why}");
        self.status.send_modify(|status| status.last_error = Some(format!("the new plugin: {why}")));
        None
    }

    /// One poll: what it brings is accepted before the next one begins. Gives when the plugin wants to be woken.
    async fn poll(
        &mut self,
        instance: &mut Instance,
        trigger: Trigger,
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
        let outcome = instance.run(trigger, time).await;
        self.status.send_modify(|status| {
            status.memory_bytes = instance.memory_bytes();
            status.refused = instance.refused();
        });
        let outcome = outcome?;
        if outcome.points_changed {
            *lane = self.lane(instance.about());
            self.about = Some(instance.about().clone());
            self.tell_meta();
        }
        self.said_dead = false;
        self.accept(lane, &Batch { time, clock_synced, readings: outcome.readings }).await;
        Ok(outcome.next)
    }

    /// Hands a batch over to the spool. Waits where the spool is behind: what was read is not lost, the next
    /// slot is missed and counted instead.
    async fn accept(&self, lane: &Lane, batch: &Batch) {
        let accepted = self.around.log.accept(lane, batch).await;
        self.around.feed.show(&self.settings.name, || lane.live(batch));
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
        let readings = (0..).take(about.points.len().min(READINGS_MAX));
        let readings = readings.map(|point| Reading::bad(point, Quality::SOURCE_FAILED)).collect();
        let lane = self.lane(about);
        let batch = Batch { time: Timestamp(clock::wall_ns()), clock_synced: clock::synced(), readings };
        self.said_dead = true;
        self.tell_meta();
        self.accept(&lane, &batch).await;
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
            points: about.points.ids().clone(),
            reasons: about.reasons.clone(),
        })
    }

    fn tell_meta(&self) {
        let Some(about) = &self.about else { return };
        let source = &self.settings.name;
        self.around.metas.set(source, Meta::new(&self.around.agent, source, about));
    }
}

/// What a source is told next.
enum Order {
    Stop,
    Plugin,
}

/// The next order. Cancel safe. A sender that is gone means stop.
async fn ordered(orders: &mut watch::Receiver<Orders>) -> Order {
    if orders.borrow().stop {
        return Order::Stop;
    }
    match orders.changed().await {
        Ok(()) if !orders.borrow_and_update().stop => Order::Plugin,
        _ => Order::Stop,
    }
}

/// A line that has edges, not sooner than a moment after the last poll: what comes in between is one poll more, not
/// many. Cancel safe.
fn edge(instance: &Instance, polled: Option<Duration>) -> impl Future<Output = String> + use<> {
    let pause = polled.map_or(Duration::ZERO, |polled| NEXT_MIN.saturating_sub(clock::now().saturating_sub(polled)));
    let woken = instance.woken();
    async move {
        tokio::time::sleep(pause).await;
        woken.await
    }
}

/// A command waits; never, if the plugin takes none. Cancel safe.
async fn work(station: &mut Option<Station>) {
    match station {
        Some(station) => station.work().await,
        None => std::future::pending().await,
    }
}

async fn stopped(orders: &mut watch::Receiver<Orders>) {
    // A sender that is gone means stop.
    let _ = orders.wait_for(|orders| orders.stop).await;
}

/// The end of a trial; never, if there is none.
async fn done(trial: &mut Option<JoinHandle<Result<Passed, String>>>) -> Result<Passed, String> {
    match trial {
        Some(trial) => trial.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}
