//! Configuration: texts in, [`Settings`] and [`Diagnostic`]s out.
//!
//! Pure: opens no file, asks no clock, touches no hardware. Two stages: what was written (one [`tree`] a file, every
//! value with its place; merged key by key, later files win), and what it means (held against the [`sections`] by
//! [`check`], put together by [`resolve`]). Every fault is found in one go; with an error there are no settings.

mod address;
mod check;
mod context;
mod devices;
mod diagnostic;
mod files;
mod forms;
mod grant;
mod json_schema;
mod listing;
mod origins;
mod packed;
mod render;
mod resolve;
mod schema;
mod sections;
mod settings;
mod suggest;
mod template;
mod topics;
mod tree;
mod url;
mod values;

#[cfg(test)]
mod tests;

pub use address::GpioLine;
pub use diagnostic::{Diagnostic, Place, Severity};
pub use json_schema::json_schema;
pub use listing::{Shown, listing_json, render_listing};
pub use origins::{ConfigOrigins, Origins};
pub use packed::Packed;
pub use registers::{AddressRange, Table};
pub use render::{Colour, render, render_all, summary, to_json};
pub use settings::{
    Agent, Allow, Buffer, Bus, Engine, Format, GpioGrant, Limits, LogLevel, ModbusGrant, Mqtt, MqttAuth, MqttVersion,
    Ranges, Secret, Settings, Signatures, Source, Sync, Topics, UnitSettings, WhenFull, WriteFunctions,
};
pub use template::Template;
pub use url::{BrokerUrl, BusUrl, Parity, ProxyScheme, ProxyUrl, Scheme};

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use context::{Context, Written};
use files::{File, Files};
use tree::{Body, Node};

/// Diagnostics given at most; the last then says that there are more.
const DIAGNOSTICS_MAX: usize = 500;

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct Input {
    /// Shown in diagnostics; relative paths in the file count from its folder.
    pub path: PathBuf,
    /// What is in it; whoever keeps it keeps the same one.
    pub text: Arc<str>,
}

/// The path only: there may be secrets in the text.
impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Input").field(&self.path).finish()
    }
}

/// What defaults depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Default of `agent.id`.
    pub host_name: String,
    /// Default of `agent.data_dir`.
    pub default_data_dir: PathBuf,
    /// Default of `agent.plugin_dirs`.
    pub default_plugin_dirs: Vec<PathBuf>,
}

/// What became of the files.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// `None` if there is an error among the diagnostics.
    pub settings: Option<Settings>,
    /// In the order of files and lines; what has no place comes first.
    pub diagnostics: Vec<Diagnostic>,
    /// Where everything comes from.
    pub origins: Origins,
    /// What can be used to look for more errors, also where there are some.
    pub sound: Sound,
}

/// The parts of a configuration on which plugins are looked for and asked: so that theirs can be said together with all
/// other errors. Empty if a file could not be read as TOML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sound {
    /// As in [`Agent`]; `None` if `[agent]` has errors.
    pub plugin_dirs: Option<Vec<PathBuf>>,
    /// By source, whatever else is wrong with it.
    pub plugins: BTreeMap<String, String>,
    /// Sources without an error of their own.
    pub sources: Vec<Source>,
}

/// Reads a configuration: the main file first, then the drop-ins in the order of their names.
pub fn load(inputs: &[Input], env: &Environment) -> Loaded {
    let files = Files(inputs.iter().map(File::new).collect());
    let mut diagnostics = Vec::new();
    let mut broken = Vec::new();
    let mut merged: Option<Node> = None;
    for (index, file) in files.0.iter().enumerate() {
        let mut parsed = tree::parse(index, file);
        if parsed.errors.is_empty() {
            tree::fold(&mut parsed.node, file);
        }
        diagnostics.extend(parsed.errors);
        broken.push((parsed.broken_lines, parsed.broken_from));
        match &mut merged {
            Some(under) => tree::merge(under, parsed.node, &files, &mut diagnostics),
            None => merged = Some(parsed.node),
        }
    }
    finish(files, merged.unwrap_or_else(|| Node::empty(0)), diagnostics, &broken, env)
}

/// Reads what a plugin is tried out with: the configuration of an agent ([`load`]), or, where the first file has no
/// table `[source]`, nothing but the `config` table of one source, which is called [`TRIED`] then. Says which it was:
/// whether it is an agent's.
pub fn load_tried(inputs: &[Input], env: &Environment) -> (Loaded, bool) {
    let Some(input) = inputs.first() else { return (load(inputs, env), true) };
    let file = File::new(input);
    let parsed = tree::parse(0, &file);
    let files = Files(vec![file]);
    let sources = parsed.node.child("source", &files);
    if sources.is_some_and(|sources| matches!(sources.body, Body::Table(_))) {
        return (load(inputs, env), true);
    }
    let text = |text: &str| Node { body: Body::Text(text.to_owned()), ..Node::empty(Context::NOWHERE.file) };
    let table = |entries: Vec<(&str, Node)>| Node {
        body: Body::Table(entries.into_iter().map(|(key, node)| (key.to_owned(), node)).collect()),
        ..Node::empty(Context::NOWHERE.file)
    };
    let source = table(vec![("plugin", text(TRIED)), ("every", text("1s")), ("config", parsed.node)]);
    let root = table(vec![("source", table(vec![(TRIED, source)]))]);
    let broken = [(parsed.broken_lines, parsed.broken_from)];
    (finish(files, root, parsed.errors, &broken, env), false)
}

/// The source of which only the `config` table was given.
pub const TRIED: &str = "test";

type Broken = (Vec<usize>, Option<usize>);

fn finish(
    files: Files,
    mut tree: Node,
    mut diagnostics: Vec<Diagnostic>,
    broken: &[Broken],
    env: &Environment,
) -> Loaded {
    prefer_later_keys(&mut tree);
    let is_torn = diagnostics.iter().any(Diagnostic::is_error);
    let written = Written { files, tree };
    let mut context = Context::new(&written, env);
    let (settings, sound) = resolve::settings(&mut context);
    let Context { mut found, listing, .. } = context;
    if is_torn {
        found.retain(|diagnostic| can_be_trusted(diagnostic, &written.files, broken));
    }
    diagnostics.extend(found);
    sort(&mut diagnostics, &written.files);
    let settings = settings.filter(|_| !diagnostics.iter().any(Diagnostic::is_error));
    if settings.is_none() && !diagnostics.iter().any(Diagnostic::is_error) {
        diagnostics.push(unexplained());
    }
    let sound = if is_torn { Sound::default() } else { sound };
    Loaded { settings, diagnostics, origins: Origins { written, listing }, sound }
}

/// A bus as its URL alone would configure it, for what is asked of a device without a configuration.
///
/// # Errors
///
/// What is wrong with the URL, and what would be right.
pub fn bus_of_url(url: &str) -> Result<Bus, String> {
    url::bus_url(url).map_err(|fault| match fault.hint {
        Some(hint) => format!("{}; {hint}", fault.message),
        None => fault.message,
    })?;
    let env = Environment {
        host_name: "probe".to_owned(),
        default_data_dir: PathBuf::from("/"),
        default_plugin_dirs: Vec::new(),
    };
    // A URL has no blanks and no control characters; what TOML could take for something else is escaped as in JSON.
    let text = format!("[bus.probe]\nurl = {}\n", serde_json::Value::from(url));
    let loaded = load(&[Input { path: PathBuf::from("URL"), text: text.into() }], &env);
    let bus = loaded.settings.and_then(|mut settings| settings.buses.remove("probe"));
    bus.ok_or_else(|| loaded.diagnostics.first().map_or_else(String::new, |diagnostic| diagnostic.message.clone()))
}

fn prefer_later_keys(tree: &mut Node) {
    const PAIRS: [(&str, &str); 3] =
        [("url", "urls"), ("password_file", "credential"), ("proxy_password_file", "proxy_credential")];
    let Body::Table(root) = &mut tree.body else { return };
    let Some(mqtt) = root.get_mut("mqtt") else { return };
    for (one, other) in PAIRS {
        tree::prefer_later(mqtt, one, other);
    }
}

/// Of files with syntax errors only what is certain is said: nothing about what may have been on the lines that could
/// not be read, and nothing about what seems to be missing.
fn can_be_trusted(diagnostic: &Diagnostic, files: &Files, broken: &[Broken]) -> bool {
    let local = matches!(diagnostic.code, "unknown-key" | "wrong-type" | "bad-value" | "bad-name" | "not-yet");
    let Some(place) = diagnostic.place.as_ref().filter(|_| local) else { return false };
    let file = files.0.iter().position(|file| file.path == place.path);
    let Some((lines, from)) = file.and_then(|index| broken.get(index)) else { return false };
    let index = (place.line as usize).saturating_sub(1);
    !lines.contains(&index) && from.is_none_or(|from| index < from)
}

fn sort(diagnostics: &mut Vec<Diagnostic>, files: &Files) {
    let order = |diagnostic: &Diagnostic| {
        let place = diagnostic.place.as_ref();
        place.map(|place| (files.0.iter().position(|file| file.path == place.path), place.line, place.column))
    };
    diagnostics.sort_by_key(|diagnostic| (order(diagnostic), diagnostic.severity));
    let more = diagnostics.len().saturating_sub(DIAGNOSTICS_MAX);
    if more > 0 {
        // An error is never cut off for warnings.
        diagnostics.sort_by_key(|diagnostic| diagnostic.severity);
        diagnostics.truncate(DIAGNOSTICS_MAX);
        if let Some(last) = diagnostics.last_mut() {
            last.hint = Some(format!("{more} more are not shown"));
        }
    }
}

/// Stands where the invariant of [`check`] is broken: better said than started with half a configuration.
fn unexplained() -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "internal",
        place: None,
        message: "this configuration can't be put together, and no check says why".to_owned(),
        hint: Some("this is a fault of the program: please report it with the configuration".to_owned()),
        related: None,
    }
}
