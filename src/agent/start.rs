//! Making an instance of a source's plugin: for good, or as a trial beside the one that runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::commands::Commands;
use super::log::Log;
use super::metas::MetaList;
use super::state::PluginState;
use crate::config::{self, Topics};
use crate::control::Feed;
use crate::os::{clock, places};
use crate::plugin::{About, Failure, Host, Instance, Plugin, SourceSpec, Trial, Trigger};
use crate::reading::Timestamp;

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
    pub metas: MetaList,
    /// Where readings are shown to who watches.
    pub feed: Feed,
    /// Where commands come from.
    pub commands: Commands,
}

/// Why there is no instance.
pub enum NoStart {
    /// Another attempt may succeed.
    Died(String),
    /// It will fail until the configuration or the plugin changes.
    Hopeless(String),
}

impl From<Failure> for NoStart {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Config(why) => Self::Hopeless(format!("its plugin refuses the configuration: {why}")),
            other => Self::Died(other.to_string()),
        }
    }
}

/// A plugin that is loaded for a source, and what it would measure, as far as it says so before it starts.
pub struct Loaded {
    plugin: Plugin,
    spec: SourceSpec,
    state: Arc<PluginState>,
    /// Known before the start, so that a start that fails can be said of its points.
    pub about: Option<About>,
}

/// Finds and loads the plugin of a source.
pub async fn load(settings: &config::Source, around: &Surroundings, trial: Trial) -> Result<Loaded, NoStart> {
    let name = &settings.plugin;
    let Some(file) = places::plugin(&around.plugin_dirs, name) else {
        let dirs: Vec<_> = around.plugin_dirs.iter().map(|dir| dir.display().to_string()).collect();
        return Err(NoStart::Hopeless(format!("there is no {name}.wasm in {}", dirs.join(", "))));
    };
    let plugin = around.host.load(&file).await.map_err(|error| NoStart::Hopeless(error.to_string()))?;
    let state = Arc::new(PluginState::new(around.log.clone(), &settings.name, trial.clone()));
    let spec = SourceSpec { state: Some(state.clone()), trial, ..SourceSpec::new(settings) };
    let granted = plugin.missing_grants(&spec.grants).is_empty();
    let about = if granted { plugin.describe(&spec).await.ok() } else { None };
    if let Some(point) = about.as_ref().and_then(|about| colliding_point(settings, around, about)) {
        let topic = settings.topic.as_str();
        return Err(NoStart::Hopeless(format!(
            "its point \"{point}\" would take a topic of the agent: change topic = \"{topic}\""
        )));
    }
    Ok(Loaded { plugin, spec, state, about })
}

impl Loaded {
    /// Whether it takes commands.
    pub fn takes_commands(&self) -> bool {
        self.plugin.takes_commands()
    }

    /// Starts it.
    pub async fn start(&self) -> Result<Instance, NoStart> {
        Ok(Instance::start(&self.plugin, &self.spec).await?)
    }
}

/// A point whose own topic is one that the agent uses: `meta` under `{base}/{source}/{point}`.
fn colliding_point<'a>(settings: &config::Source, around: &Surroundings, about: &'a About) -> Option<&'a str> {
    let (topics, template) = (around.topics.as_ref()?, settings.topic.as_str());
    about.points.ids().iter().find(|id| topics.takes(&settings.name, &template.replace("{point}", id)))
}

/// A replaced plugin that has shown that it works.
pub struct Passed {
    /// Ready to be polled.
    pub instance: Instance,
    /// Whether it takes commands.
    pub takes_commands: bool,
    state: Arc<PluginState>,
    trial: Trial,
}

impl Passed {
    /// What the old one hands over is taken over, where both sides can. An error: the old one is to go on.
    pub async fn inherit(&mut self, old: &mut Instance) -> Result<(), Failure> {
        let version = old.about().version.clone();
        match old.save().await {
            Ok(Some(state)) => self.instance.restore(&version, state).await.map(drop),
            Ok(None) => Ok(()),
            Err(failure) => {
                // It is gone, and what it knew: the new one is the better of the two.
                tracing::warn!("the old plugin hands nothing over: {failure}");
                Ok(())
            }
        }
    }

    /// It takes over: what it wrote during its trial counts now, and it may drive and write.
    pub async fn take_over(self) -> Instance {
        self.trial.end();
        if let Err(why) = self.state.write_held().await {
            tracing::warn!("the new plugin's first values can't be kept: {why}");
        }
        self.instance
    }
}

/// Starts a plugin that was replaced, and polls it once beside the old one. Its readings are dropped.
pub async fn trial(settings: config::Source, around: Surroundings) -> Result<Passed, String> {
    let passed = async {
        let loaded = load(&settings, &around, Trial::begin()).await?;
        let mut instance = loaded.start().await?;
        instance.run(Trigger::Start, Timestamp(clock::wall_ns())).await?;
        let takes_commands = loaded.takes_commands();
        Ok(Passed { instance, takes_commands, state: loaded.state, trial: loaded.spec.trial })
    };
    let passed: Result<Passed, NoStart> = match tokio::time::timeout(TRIAL_MAX, passed).await {
        Ok(passed) => passed,
        Err(_) => Err(NoStart::Died(format!("it was not ready within {} s", TRIAL_MAX.as_secs()))),
    };
    passed.map_err(|no| match no {
        NoStart::Died(why) | NoStart::Hopeless(why) => why,
    })
}

/// Longest trial, compiling included.
const TRIAL_MAX: Duration = Duration::from_secs(900);
