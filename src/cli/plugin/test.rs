//! `outstation plugin test FILE`: runs a plugin with no agent, on a machine that is not there.
//!
//! What the configuration says holds: the source's `config`, `allow`, `limits` and `every`. Time is the machine's own, so
//! that two runs are the same but for how long they took.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::sync::Mutex;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::record::{Run, Trial, difference};
use super::{block_on, compiling, fail, host_options, scratch};
use crate::cli::{CONFIG, Color, check, result, say};
use crate::config::{self, Diagnostic, Environment, Input, Loaded};
use crate::device::simulated::Machine;
use crate::os::{clock, places};
use crate::plugin::{
    Grants, Host, Instance, MissingGrant, Plugin, Simulation, SourceSpec, StateFuture, StateStore, Trigger,
};
use crate::reading::Timestamp;

/// Polls of a trial.
const POLLS_MAX: u32 = 100_000;

#[derive(clap::Args)]
#[command(after_help = "\
The file of --config is an agent's configuration, of which one source is taken, with its allow, limits and every; or \
it holds nothing but what would stand in [source.NAME.config], and everything is granted.")]
pub(in crate::cli) struct Options {
    /// The component, a .wasm file
    file: PathBuf,
    /// Which source of the configuration [default: the one whose plugin has the file's name, or the only one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// What the simulated devices hold, in TOML; see the manual
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,
    /// How often it is polled
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=i64::from(POLLS_MAX)))]
    polls: u32,
    /// Keep what devices answered and what was read [default FILE: NAME.record.json in this folder]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    record: Option<Option<PathBuf>>,
    /// Compare with a record; exit status 1 where something is different
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Interpreted, as with engine = "pulley"
    #[arg(long)]
    pulley: bool,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What is run, and on what.
struct Subject {
    spec: SourceSpec,
    machine: Machine,
    /// `None`: everything is granted.
    grants: Option<Grants>,
    loaded: Option<Loaded>,
}

/// Does the command.
pub(super) fn test(config: Option<&Path>, options: &Options, color: Color) -> ExitCode {
    log_to_stderr(color);
    let subject = match subject(config, options) {
        Ok(subject) => subject,
        Err(Refused::Configuration(diagnostics)) => {
            check::say_all(&diagnostics, color);
            return ExitCode::from(CONFIG);
        }
        Err(Refused::Other(why)) => return fail(&why),
    };
    match block_on(run(subject, options)) {
        Ok(Ok(trial)) => finish(&trial, options),
        Ok(Err(problems)) => {
            check::say_all(&problems, color);
            ExitCode::from(CONFIG)
        }
        Err(why) => fail(&why),
    }
}

enum Refused {
    Configuration(Vec<Diagnostic>),
    Other(String),
}

fn log_to_stderr(color: Color) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(color.wanted(&std::io::stderr()))
        .without_time()
        .with_target(false);
    tracing_subscriber::registry().with(tracing::level_filters::LevelFilter::INFO).with(lines).init();
}

fn subject(config: Option<&Path>, options: &Options) -> Result<Subject, Refused> {
    let (loaded, whole) = match config {
        Some(file) => read_config(file)?,
        // As an empty file says it.
        None => config::load_tried(&[Input { path: PathBuf::new(), text: "".into() }], &environment(Path::new(""))),
    };
    let source = pick(&loaded, options)?;
    let (spec, every, grants) = (SourceSpec::new(source), source.every, whole.then(|| source.allow.clone()));
    let mut machine = Machine::new(every);
    if let Some(path) = &options.devices {
        let named = |why: String| Refused::Other(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        machine = machine.with(&text).map_err(named)?;
    }
    let spec = spec.with_state(std::sync::Arc::new(Memory::default()));
    Ok(Subject { spec, machine, grants, loaded: config.map(|_| loaded) })
}

/// Neither this machine's name nor its folders matter here.
fn environment(file: &Path) -> Environment {
    Environment { host_name: "gateway".into(), ..places::environment(file) }
}

fn read_config(file: &Path) -> Result<(Loaded, bool), Refused> {
    let files = places::read(file);
    if let Some(unreadable) = files.unreadable.first() {
        return Err(Refused::Other(unreadable.to_string()));
    }
    let (loaded, whole) = config::load_tried(&files.inputs, &environment(&files.main));
    if loaded.settings.is_none() {
        let errors = loaded.diagnostics.into_iter().filter(Diagnostic::is_error).collect();
        return Err(Refused::Configuration(errors));
    }
    Ok((loaded, whole))
}

/// The source that is meant.
fn pick<'l>(loaded: &'l Loaded, options: &Options) -> Result<&'l config::Source, Refused> {
    let sources = &loaded.sound.sources;
    let plugin = options.file.file_stem().unwrap_or_default().to_string_lossy();
    let of_plugin: Vec<_> = sources.iter().filter(|source| source.plugin == plugin).collect();
    let names = || sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match (&options.source, of_plugin.as_slice(), sources.as_slice()) {
        (Some(name), ..) => sources
            .iter()
            .find(|source| source.name == *name)
            .ok_or_else(|| Refused::Other(format!("there is no source \"{name}\"; there are: {}", names()))),
        (None, [one], _) => Ok(one),
        (None, [], [one]) => Ok(one),
        (None, [], []) => Err(Refused::Other("the configuration has no source".into())),
        (None, [], _) => {
            Err(Refused::Other(format!("no source has the plugin \"{plugin}\"; say --source: {}", names())))
        }
        _ => Err(Refused::Other(format!("several sources have the plugin \"{plugin}\"; say --source: {}", names()))),
    }
}

/// The trial, or what is wrong with the configuration. Failures of the plugin end it, and are part of it.
async fn run(subject: Subject, options: &Options) -> Result<Result<Trial, Vec<Diagnostic>>, String> {
    let Subject { spec, machine, grants, loaded } = subject;
    let scratch = scratch()?;
    let mut how = host_options(None, &scratch.0);
    if options.pulley {
        how.engine = crate::plugin::EngineKind::Pulley;
    }
    let host = Host::simulated(how).map_err(|error| error.to_string())?;
    compiling(&options.file);
    let plugin = host.load(&options.file).await.map_err(|error| error.to_string())?;
    let problems = problems(&plugin, &spec, grants.as_ref(), loaded.as_ref()).await?;
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let simulation = Simulation::new(machine, grants);
    let mut instance = Instance::start_simulated(&plugin, &spec, simulation)
        .await
        .map_err(|failure| format!("the plugin does not start: {failure}"))?;
    let mut trial = Trial { runs: Vec::new(), refused: 0, calls_dropped: 0 };
    polls(&mut instance, &mut trial, options.polls).await;
    trial.refused = instance.refused();
    instance.stop().await;
    Ok(Ok(trial))
}

/// Until they are done, or the instance has ended.
async fn polls(instance: &mut Instance, trial: &mut Trial, count: u32) {
    let mut goes_on = poll(instance, Trigger::Start, trial).await;
    for _ in 1..count {
        let lines = instance.simulation().map(Simulation::advance).unwrap_or_default();
        for trigger in lines.into_iter().map(Trigger::Gpio).chain([Trigger::Schedule(0)]) {
            goes_on = goes_on && poll(instance, trigger, trial).await;
        }
    }
}

/// What the grants and the plugin itself say of the configuration, each at its place.
async fn problems(
    plugin: &Plugin,
    spec: &SourceSpec,
    grants: Option<&Grants>,
    loaded: Option<&Loaded>,
) -> Result<Vec<Diagnostic>, String> {
    let missing = grants.map(|grants| plugin.missing_grants(grants)).unwrap_or_default();
    let problems = plugin.check(spec).await;
    let problems = problems.map_err(|failure| format!("the plugin can't check its configuration: {failure}"))?;
    let Some(loaded) = loaded else {
        let lines: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
        let hint = "say --config FILE; a file with what would stand in [source.NAME.config] is enough";
        return if lines.is_empty() { Ok(Vec::new()) } else { Err(format!("{}; {hint}", lines.join("; "))) };
    };
    let path = ["source", spec.name.as_str(), "plugin"];
    let grant = |missing: &MissingGrant| {
        let message = format!("its plugin uses {}, which is not granted", missing.import);
        loaded.origins.error("not-granted", &path, message, Some(format!("add to this source: {}", missing.line)))
    };
    let places = loaded.origins.of_config(&spec.name);
    let said = problems.into_iter().map(|one| places.plugin_problem(&one.path, one.message, one.hint));
    Ok(missing.iter().map(grant).chain(said).collect())
}

/// One run. Gives whether another one makes sense.
async fn poll(instance: &mut Instance, trigger: Trigger, trial: &mut Trial) -> bool {
    let word = match &trigger {
        Trigger::Start => "start".to_owned(),
        Trigger::Schedule(_) => "schedule".to_owned(),
        Trigger::Gpio(line) => format!("gpio {line}"),
    };
    let time = Timestamp(instance.simulation().map_or(0, |there| there.machine().wall_ns()));
    let began = clock::now();
    let outcome = instance.run(trigger, time).await;
    let took = clock::now().saturating_sub(began);
    let (calls, dropped) = instance.simulation().map(Simulation::take_calls).unwrap_or_default();
    trial.calls_dropped += dropped;
    let goes_on = outcome.as_ref().err().is_none_or(|failure| !failure.is_fatal());
    trial.runs.push(Run {
        trigger: word,
        time,
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        memory_bytes: instance.memory_bytes(),
        calls,
        outcome: outcome.map_err(|failure| failure.to_string()),
        about: instance.about().clone(),
    });
    goes_on
}

fn finish(trial: &Trial, options: &Options) -> ExitCode {
    if options.json {
        result(&format!("{:#}\n", trial.document()));
    } else {
        result(&trial.page());
    }
    if let Some(file) = &options.record {
        let file = file.clone().unwrap_or_else(|| {
            let name = options.file.file_stem().unwrap_or_default().to_string_lossy();
            PathBuf::from(format!("{name}.record.json"))
        });
        if let Err(error) = std::fs::write(&file, format!("{:#}\n", trial.record())) {
            return fail(&format!("cannot write {}: {error}", file.display()));
        }
        say(&format!("recorded in {}", file.display()));
    }
    if let Some(file) = &options.replay {
        match replay(file, trial) {
            Ok(None) => say("the same as recorded"),
            Ok(Some(what)) => return fail(&format!("different from {}: {what}", file.display())),
            Err(why) => return fail(&format!("{}: {why}", file.display())),
        }
    }
    let failed = trial.runs.iter().any(|run| run.outcome.is_err());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn replay(file: &Path, trial: &Trial) -> Result<Option<String>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let recorded = serde_json::from_str(&text).map_err(|error| format!("no record: {error}"))?;
    // Both were texts: reading one may round its last digit.
    let now = serde_json::from_str(&trial.record().to_string()).map_err(|error| error.to_string())?;
    Ok(difference(&recorded, &now))
}

/// Durable values that last as long as the trial.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl StateStore for Memory {
    fn load(&self) -> StateFuture<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async { Ok(self.0.lock().await.clone().into_iter().collect()) })
    }

    fn write(&self, key: &str, value: Option<&[u8]>) -> StateFuture<'_, ()> {
        let (key, value) = (key.to_owned(), value.map(<[u8]>::to_vec));
        Box::pin(async move {
            let mut values = self.0.lock().await;
            match value {
                Some(value) => drop(values.insert(key, value)),
                None => drop(values.remove(&key)),
            }
            Ok(())
        })
    }
}
