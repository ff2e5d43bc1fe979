//! From files to settings, with everything that is wrong in one list: what can't be read, what the configuration
//! says, plugins that are in no folder, and what the plugins themselves say of their configuration.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{self, Diagnostic, Input, Loaded};
use crate::os::places;
use crate::plugin::{Host, MissingGrant, SourceSpec};

/// A file that was read, and what was in it, as far as it takes to tell whether that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it is.
    pub path: PathBuf,
    digest: [u8; 32],
}

impl Seen {
    fn of(input: &Input) -> Self {
        Self { path: input.path.clone(), digest: Sha256::digest(input.text.as_bytes()).into() }
    }
}

/// Reads the configuration. No plugin is asked yet.
pub fn load(file: &Path) -> Loaded {
    load_and_note(file).0
}

/// The same, and which files it was.
pub fn load_and_note(file: &Path) -> (Loaded, Vec<Seen>) {
    let files = places::read(file);
    let mut loaded = config::load(&files.inputs, &places::environment(&files.main));
    for unreadable in &files.unreadable {
        let hint = (unreadable.path == files.main).then(|| "name the configuration with -c FILE".to_owned());
        loaded.diagnostics.insert(0, loaded.origins.error("unreadable", &[], unreadable.to_string(), hint));
        loaded.settings = None;
    }
    if files.inputs.is_empty() {
        // Without a file nothing else can be said of it.
        loaded.diagnostics.retain(|diagnostic| diagnostic.code == "unreadable");
    }
    let missing = missing_plugins(&loaded);
    add(&mut loaded, missing);
    let in_memory = data_in_memory(&loaded);
    add(&mut loaded, in_memory.into_iter().collect());
    (loaded, files.inputs.iter().map(Seen::of).collect())
}

/// Adds what was found beside the configuration's own text.
pub fn add(loaded: &mut Loaded, found: Vec<Diagnostic>) {
    if found.iter().any(Diagnostic::is_error) {
        loaded.settings = None;
    }
    loaded.diagnostics.extend(found);
}

/// A data folder that a power cut empties, whatever is written there.
fn data_in_memory(loaded: &Loaded) -> Option<Diagnostic> {
    let data_dir = &loaded.settings.as_ref()?.agent.data_dir;
    places::is_in_memory(data_dir).then(|| {
        let message =
            format!("the data folder {} is in memory: what is buffered is gone after a power cut", data_dir.display());
        let hint = "a folder on a disk, as agent.data_dir".to_owned();
        loaded.origins.warning("data-in-memory", &["agent", "data_dir"], message, Some(hint))
    })
}

/// A source whose plugin is in no folder is a dangling name.
fn missing_plugins(loaded: &Loaded) -> Vec<Diagnostic> {
    let Some(dirs) = &loaded.sound.plugin_dirs else { return Vec::new() };
    let shown: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    let missing = loaded.sound.plugins.iter().filter(|(_, plugin)| places::plugin(dirs, plugin).is_none());
    missing
        .map(|(source, plugin)| {
            let message = format!("there is no plugin \"{plugin}\"");
            let hint = format!("{plugin}.wasm was looked for in {}{}", shown.join(", "), present(dirs));
            loaded.origins.error("no-plugin", &["source", source, "plugin"], message, Some(hint))
        })
        .collect()
}

/// Which plugins there are, for a hint.
fn present(dirs: &[PathBuf]) -> String {
    let files = dirs.iter().filter_map(|dir| places::plugins_in(dir).ok()).flatten();
    let mut names: Vec<_> = files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    names.dedup();
    if names.is_empty() { "; there are no plugins at all".into() } else { format!("; there are: {}", names.join(", ")) }
}

/// What plugins say of their own configuration, each at its place. They are run without a device. Of all sources that
/// are sound, or of those that `wanted` names.
pub async fn plugin_problems(
    host: &Host,
    loaded: &Loaded,
    wanted: impl Fn(&config::Source) -> bool,
) -> Vec<Diagnostic> {
    let Some(dirs) = &loaded.sound.plugin_dirs else { return Vec::new() };
    let mut problems = Vec::new();
    for source in loaded.sound.sources.iter().filter(|source| wanted(source)) {
        if let Some(file) = places::plugin(dirs, &source.plugin) {
            problems.extend(source_problems(host, &file, source, loaded).await);
        }
    }
    problems
}

async fn source_problems(host: &Host, file: &Path, source: &config::Source, loaded: &Loaded) -> Vec<Diagnostic> {
    let path = ["source", source.name.as_str(), "plugin"];
    let at_plugin = |message: String| loaded.origins.error("plugin", &path, message, None);
    let plugin = match host.load(file).await {
        Ok(plugin) => plugin,
        Err(error) => return vec![at_plugin(error.to_string())],
    };
    let spec = SourceSpec::new(source);
    let missing = plugin.missing_grants(&spec.grants);
    if !missing.is_empty() {
        let grant = |missing: &MissingGrant| {
            let message = format!("its plugin uses {}, which is not granted", missing.import);
            loaded.origins.error("not-granted", &path, message, Some(format!("add to this source: {}", missing.line)))
        };
        return missing.iter().map(grant).collect();
    }
    match plugin.check(&spec).await {
        Ok(problems) if problems.is_empty() => Vec::new(),
        Ok(problems) => {
            let places = loaded.origins.of_config(&source.name);
            let said = problems.into_iter().map(|one| places.plugin_problem(&one.path, one.message, one.hint));
            said.collect()
        }
        Err(failure) => vec![at_plugin(format!("its plugin can't check the configuration: {failure}"))],
    }
}
