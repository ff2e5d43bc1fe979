//! One instance of a plugin: one Store, one source. It is made once, kept, and never entered twice at a time; after a
//! trap, a time-out or any other fatal failure it is never called again.

use std::future::Future;
use std::time::Duration;

use wasmtime::Store;

use super::bindings::Host_ as Bindings;
use super::bindings::exports::outstation::plugin::sensor;
use super::convert::{self, About};
use super::failure::shown;
use super::guest::Guest;
use super::optional::{Command, HANDOVER_BYTES_MAX, Optional, Rejection};
use super::simulated::Simulation;
use super::spec::SourceSpec;
use super::{Failure, Plugin};
use crate::os::clock;
use crate::reading::{Reading, Timestamp};

/// How long a call may last in all, its waiting for devices included. Every device gives up long before.
const CALL_MAX: Duration = Duration::from_secs(60);
/// What `stop` may take, of its own time and in all.
const STOP_OWN_MAX: Duration = Duration::from_millis(200);
const STOP_MAX: Duration = Duration::from_secs(1);
/// Bytes that a guest may hand over in a run: all the readings that one may bring, and texts.
const RUN_BYTES_MAX: usize = 16 << 20;
/// And in any other call: all the points that it may have. Refused before there is memory for them.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Handles of resources that an instance may hold.
const HANDLES_MAX: usize = 256;
/// Problems that `check` may report.
const PROBLEMS_MAX: usize = 1000;

/// Why a plugin is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The first time.
    Start,
    /// Due by schedule; how many slots were missed since the run before.
    Schedule(u32),
    /// Edges wait on this line.
    Gpio(String),
}

/// What a run brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Their indices count in [`Instance::about`], after the run.
    pub readings: Vec<Reading>,
    /// When the plugin wants to be run again, where not by schedule. Not clamped yet.
    pub next: Option<Duration>,
    /// The points are others than before; [`Instance::about`] is fresh.
    pub points_changed: bool,
}

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer into the source's `config`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// A running plugin.
pub struct Instance {
    guest: Live,
    about: About,
}

/// A Store with its component in it.
pub(super) struct Live {
    store: Store<Guest>,
    bindings: Bindings,
    optional: Optional,
    plugin: Plugin,
    time: Duration,
    dead: bool,
}

impl Instance {
    /// Instantiates the plugin for a source, lets it check its configuration, and starts it.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] where the source is not granted what the component imports, or the plugin refuses its
    /// configuration.
    pub async fn start(plugin: &Plugin, spec: &SourceSpec) -> Result<Self, Failure> {
        let missing = plugin.missing_grants(&spec.grants);
        if !missing.is_empty() {
            let lines: Vec<_> = missing.iter().map(ToString::to_string).collect();
            return Err(Failure::Config(lines.join("; ")));
        }
        Self::begin(Live::new(plugin, spec, true).await?, spec).await
    }

    /// The same on simulated devices, of a [`Host::simulated`](super::Host::simulated): what the source is granted is
    /// the simulation's business.
    ///
    /// # Errors
    ///
    /// [`Failure::Config`] where the plugin refuses its configuration.
    pub async fn start_simulated(plugin: &Plugin, spec: &SourceSpec, simulation: Simulation) -> Result<Self, Failure> {
        let mut guest = Live::new(plugin, spec, true).await?;
        guest.store.data_mut().simulation = Some(Box::new(simulation));
        Self::begin(guest, spec).await
    }

    async fn begin(mut guest: Live, spec: &SourceSpec) -> Result<Self, Failure> {
        let problems = guest.check(&spec.config_json.text()).await?;
        if !problems.is_empty() {
            let lines: Vec<_> =
                problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
            return Err(Failure::Config(lines.join("; ")));
        }
        guest.init().await?;
        let about = guest.describe().await?;
        Ok(Self { guest, about })
    }

    /// What it is and measures, as of the last run.
    pub const fn about(&self) -> &About {
        &self.about
    }

    /// Takes readings.
    ///
    /// # Errors
    ///
    /// After one that [is fatal](Failure::is_fatal) the instance is dead, and every further call fails.
    pub async fn run(&mut self, trigger: Trigger, now: Timestamp) -> Result<Outcome, Failure> {
        let outcome = self.guest.run(trigger, now).await?;
        if outcome.points_changed {
            self.about = self.guest.describe().await?;
        }
        let mut refused = 0;
        let readings = convert::readings(outcome.readings, &self.about.points, now, &mut refused);
        for _ in 0..refused {
            self.guest.store.data_mut().count_refused();
        }
        Ok(Outcome {
            readings: readings.inspect_err(|_| self.guest.dead = true)?,
            next: outcome.next.map(Duration::from_nanos),
            points_changed: outcome.points_changed,
        })
    }

    /// A line of it that has edges: the instance wants to be run with [`Trigger::Gpio`]. Cancel safe.
    pub fn woken(&self) -> impl Future<Output = String> + use<> {
        let wakeups = self.guest.store.data().wakeups.clone();
        async move { wakeups.next().await.to_string() }
    }

    /// Hands it a command. The inner error is the plugin's own word.
    ///
    /// # Errors
    ///
    /// As for [`Instance::run`].
    pub async fn execute(&mut self, command: Command) -> Result<Result<String, Rejection>, Failure> {
        let Some(execute) = self.guest.optional.execute else { return Ok(Err(Rejection::Unknown)) };
        let call = async |_: &Bindings, store: &mut Store<Guest>| execute.call_async(store, (command,)).await;
        let (result,) = self.guest.call(Limit::usual, call).await?;
        Ok(result.map_err(Rejection::shown))
    }

    /// What it hands over to the next version of its plugin; `None` where it hands nothing over, or too much.
    ///
    /// # Errors
    ///
    /// As for [`Instance::run`].
    pub async fn save(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let Some(save) = self.guest.optional.save else { return Ok(None) };
        let call = async |_: &Bindings, store: &mut Store<Guest>| save.call_async(store, ()).await;
        let (state,) = self.guest.call(Limit::usual, call).await?;
        if state.len() > HANDOVER_BYTES_MAX {
            self.guest.store.data_mut().count_refused();
            return Ok(None);
        }
        Ok(Some(state))
    }

    /// Takes over what the version before it saved. `Ok(false)`: it takes nothing over.
    ///
    /// # Errors
    ///
    /// As for [`Instance::run`]; [`Failure::Internal`] where the plugin refuses it.
    pub async fn restore(&mut self, from_version: &str, state: Vec<u8>) -> Result<bool, Failure> {
        let Some(restore) = self.guest.optional.restore else { return Ok(false) };
        let arguments = (from_version.to_owned(), state);
        let call = async |_: &Bindings, store: &mut Store<Guest>| restore.call_async(store, arguments).await;
        let (result,) = self.guest.call(Limit::usual, call).await?;
        result.map(|()| true).map_err(|why| Failure::Internal(shown(&why)))
    }

    /// What it sees, where it runs on simulated devices.
    pub fn simulation(&mut self) -> Option<&mut Simulation> {
        self.guest.store.data_mut().simulation.as_deref_mut()
    }

    /// Lets it write what it wants to keep, and ends it.
    pub async fn stop(mut self) {
        self.guest.stop().await;
    }

    /// Its linear memory, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.guest.store.data().memory_bytes()
    }

    /// Calls, values and log lines of it that were refused.
    pub fn refused(&self) -> u64 {
        self.guest.store.data().refused()
    }
}

impl Live {
    /// Instantiates. With `live` it gets what its source is granted, else it is only looked at and sees nothing.
    pub(super) async fn new(plugin: &Plugin, spec: &SourceSpec, live: bool) -> Result<Self, Failure> {
        let shared = plugin.shared();
        let guest = Guest::new(spec, shared.devices(), live);
        let meter = std::sync::Arc::clone(&guest.meter);
        let mut store = Store::new(shared.engine(), guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(ANSWER_BYTES_MAX);
        store.set_max_component_handles(HANDLES_MAX);
        let ticker = std::sync::Arc::clone(&shared.ticker);
        store.epoch_deadline_callback(move |store| ticker.deadline(&store.data().meter));
        store.set_epoch_deadline(1);
        let time = spec.limits.time;
        meter.begin(time);
        let call = async {
            let instance = plugin.pre().instance_pre().instantiate_async(&mut store).await?;
            let optional = Optional::of(&mut store, &instance, plugin.exports())?;
            Ok((Bindings::new(&mut store, &instance)?, optional))
        };
        let result = tokio::time::timeout(CALL_MAX, shared.ticker().run(&meter, call)).await;
        match result {
            Ok(Ok((bindings, optional))) => {
                Ok(Self { store, bindings, optional, plugin: plugin.clone(), time, dead: false })
            }
            Ok(Err(error)) => Err(match Failure::from_wasmtime(&error, store.data(), time) {
                // What is no trap is a limit on tables or instances, and no code has run.
                Failure::Trap(_) if error.downcast_ref::<wasmtime::Trap>().is_none() => {
                    Failure::Instantiate(shown(&format!("{error:#}")))
                }
                other => other,
            }),
            Err(_) => Err(Failure::Hung { limit: CALL_MAX }),
        }
    }

    pub(super) async fn check(&mut self, config_json: &str) -> Result<Vec<Problem>, Failure> {
        let mut list = self
            .call(Limit::usual, async |bindings, store| {
                bindings.outstation_plugin_sensor().call_check(store, config_json).await
            })
            .await?;
        list.truncate(PROBLEMS_MAX);
        let problem = |one: sensor::Problem| Problem {
            path: shown(&one.path),
            message: shown(&one.message),
            hint: one.hint.as_deref().map(shown),
        };
        Ok(list.into_iter().map(problem).collect())
    }

    pub(super) async fn describe(&mut self) -> Result<About, Failure> {
        let about = self
            .call(Limit::usual, async |bindings, store| bindings.outstation_plugin_sensor().call_describe(store).await)
            .await?;
        convert::about(about).inspect_err(|_| self.dead = true)
    }

    async fn init(&mut self) -> Result<(), Failure> {
        let result = self
            .call(Limit::usual, async |bindings, store| bindings.outstation_plugin_sensor().call_init(store).await)
            .await?;
        result.map_err(said)
    }

    async fn run(&mut self, trigger: Trigger, now: Timestamp) -> Result<sensor::Outcome, Failure> {
        let trigger = match trigger {
            Trigger::Start => sensor::Trigger::Start,
            Trigger::Schedule(missed) => sensor::Trigger::Schedule(missed),
            Trigger::Gpio(line) => sensor::Trigger::Gpio(line),
        };
        let deadline = u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX);
        let result = self
            .call(Limit::of_run, async |bindings, store| {
                bindings.outstation_plugin_sensor().call_run(store, &trigger, now.0, deadline).await
            })
            .await?;
        result.map_err(said)
    }

    async fn stop(&mut self) {
        // It is the end either way.
        let _ = self
            .call(Limit::of_stop, async |bindings, store| bindings.outstation_plugin_sensor().call_stop(store).await)
            .await;
    }

    /// One call into the guest, under its limits. After a failure of this function it is dead.
    async fn call<T>(
        &mut self,
        limit: fn(Duration) -> Limit,
        call: impl AsyncFnOnce(&Bindings, &mut Store<Guest>) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        if self.dead {
            return Err(Failure::Instantiate("the instance has ended".into()));
        }
        // Until the call has come back: whoever drops this future half way leaves a dead instance.
        self.dead = true;
        let limit = limit(self.time);
        let meter = std::sync::Arc::clone(&self.store.data().meter);
        meter.begin(limit.own);
        self.store.data_mut().began = clock::now();
        self.store.set_epoch_deadline(1);
        self.store.set_hostcall_fuel(limit.bytes);
        let future = call(&self.bindings, &mut self.store);
        match timed(self.plugin.shared().ticker().run(&meter, future), limit.all).await {
            Some(Ok(value)) => {
                self.dead = false;
                Ok(value)
            }
            Some(Err(error)) => Err(Failure::from_wasmtime(&error, self.store.data(), limit.own)),
            None => Err(Failure::Hung { limit: limit.all }),
        }
    }
}

async fn timed<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// What a call may take.
struct Limit {
    /// Of the guest's own time.
    own: Duration,
    /// Of time in all.
    all: Duration,
    /// Bytes that it hands over.
    bytes: usize,
}

impl Limit {
    fn usual(time: Duration) -> Self {
        Self { own: time, all: CALL_MAX.saturating_add(time), bytes: ANSWER_BYTES_MAX }
    }

    fn of_run(time: Duration) -> Self {
        Self { bytes: RUN_BYTES_MAX, ..Self::usual(time) }
    }

    fn of_stop(time: Duration) -> Self {
        Self { own: time.min(STOP_OWN_MAX), all: STOP_MAX, bytes: ANSWER_BYTES_MAX }
    }
}

fn said(failure: sensor::Failure) -> Failure {
    match failure {
        sensor::Failure::Config(text) => Failure::Config(shown(&text)),
        sensor::Failure::Unavailable(text) => Failure::Unavailable(shown(&text)),
        sensor::Failure::Internal(text) => Failure::Internal(shown(&text)),
    }
}
