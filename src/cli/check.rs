//! `outstation check`: everything that can be known of a configuration without a device or a network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{CONFIG, Color, result, say};
use crate::agent;
use crate::config::{self, Colour, Diagnostic, Loaded};
use crate::os::places;
use crate::plugin::{Host, MissingGrant, SourceSpec};

#[derive(clap::Args)]
pub(super) struct Options {
    /// Print what is in force: each value with the file and line that it came from, secrets hidden
    #[arg(long)]
    show: bool,
    /// Print what is wrong as JSON, and with --show what is in force too
    #[arg(long)]
    json: bool,
}

/// What the files say, with what could not be read among the diagnostics.
pub(super) fn load(file: &Path) -> Loaded {
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
    if !missing.is_empty() {
        loaded.settings = None;
        loaded.diagnostics.extend(missing);
    }
    loaded
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
    let mut names: Vec<_> = dirs
        .iter()
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        "; there are no plugins at all".to_owned()
    } else {
        format!("; there are: {}", names.join(", "))
    }
}

/// Does the command.
pub(super) fn check(file: &Path, options: &Options, color: Color) -> ExitCode {
    let mut loaded = load(file);
    let problems = plugin_problems(&loaded);
    if problems.iter().any(Diagnostic::is_error) {
        loaded.settings = None;
    }
    loaded.diagnostics.extend(problems);
    report(&loaded, options, color);
    if loaded.settings.is_some() { ExitCode::SUCCESS } else { ExitCode::from(CONFIG) }
}

fn report(loaded: &Loaded, options: &Options, color: Color) {
    let valid = loaded.settings.is_some();
    let in_force = || loaded.origins.listing();
    if options.json {
        let diagnostics: Vec<_> = loaded.diagnostics.iter().map(config::to_json).collect();
        let document = match options.show.then(|| config::listing_json(&in_force())) {
            Some(in_force) => json!({ "valid": valid, "diagnostics": diagnostics, "in_force": in_force }),
            None => json!({ "valid": valid, "diagnostics": diagnostics }),
        };
        result(&format!("{document}\n"));
        return;
    }
    say_all(&loaded.diagnostics, color);
    if options.show {
        result(&config::render_listing(&in_force()));
    } else if valid {
        result("the configuration is valid\n");
    }
}

/// Diagnostics to stderr.
pub(super) fn say_all(diagnostics: &[Diagnostic], color: Color) {
    let colour = if color.wanted(&std::io::stderr()) { Colour::Ansi } else { Colour::Plain };
    let text = config::render_all(diagnostics, colour);
    if !text.is_empty() {
        say(text.trim_end());
    }
}

/// What plugins say of their own configuration, each at its place. They are run without a device, and compiled into
/// the agent's cache where it is known and may be written.
fn plugin_problems(loaded: &Loaded) -> Vec<Diagnostic> {
    let Some(dirs) = &loaded.sound.plugin_dirs else { return Vec::new() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![failed(loaded, &error.to_string())],
    };
    let options = match &loaded.settings {
        Some(settings) => agent::host_options(settings),
        None => agent::host_options_in(std::env::temp_dir().join("outstation-check")),
    };
    let host = match Host::new(options) {
        Ok(host) => host,
        Err(error) => return vec![failed(loaded, &error.to_string())],
    };
    runtime.block_on(async {
        let mut problems = Vec::new();
        for source in &loaded.sound.sources {
            if let Some(file) = places::plugin(dirs, &source.plugin) {
                problems.extend(source_problems(&host, &file, source, loaded).await);
            }
        }
        problems
    })
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
        Ok(problems) => problems
            .into_iter()
            .map(|problem| loaded.origins.plugin_problem(&source.name, &problem.path, problem.message, problem.hint))
            .collect(),
        Err(failure) => vec![at_plugin(format!("its plugin can't check the configuration: {failure}"))],
    }
}

fn failed(loaded: &Loaded, why: &str) -> Diagnostic {
    loaded.origins.error("internal", &[], format!("plugins can't be run: {why}"), None)
}
