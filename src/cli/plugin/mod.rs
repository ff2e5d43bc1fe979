//! `outstation plugin ..`: what is installed, what a file is, what it would read, and a project to start from. None
//! of them needs a running agent.

mod inspect;
mod list;
mod new;
mod record;
mod table;
mod templates;
mod test;

use std::future::Future;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use super::{Color, DEFAULT_FILE, say};
use crate::agent;
use crate::config::{Loaded, Settings};
use crate::os::places;
use crate::plugin::{Host, HostOptions, SignatureState};

/// Under `outstation plugin --help`.
pub(super) const HELP: &str = "\
Examples:
  outstation plugin list
  outstation plugin inspect meter.wasm            # what to grant it
  outstation plugin test meter.wasm --config meter.toml
  outstation plugin new meter --lang rust";

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// The plugins in the plugin folders: version, signature, which sources use them, and what is wrong with them
    #[command(after_help = "\
Examples:
  outstation plugin list                          of the agent that the package installs
  outstation plugin list -c agent.toml --json | jq '.plugins[].name'")]
    List(list::Options),
    /// What a plugin is, measures and imports, and the lines that grant it what it needs
    #[command(after_help = "\
Examples:
  outstation plugin inspect meter.wasm            # what to grant it
  outstation plugin inspect meter.wasm --json | jq .grants")]
    Inspect(inspect::Options),
    /// Run a plugin without an agent, on simulated devices, and print its readings, time and memory
    #[command(after_help = "\
Examples:
  outstation plugin test meter.wasm --config meter.toml --polls 5
  outstation plugin test meter.wasm --config agent.toml --source hall --devices devices.toml
  outstation plugin test meter.wasm --record      # a later --replay says what is different")]
    Test(test::Options),
    /// Write a project for a new plugin, which builds as it stands
    #[command(after_help = "\
Examples:
  outstation plugin new tank-level --lang rust
  outstation plugin new tank-level --lang python  # c and js as well")]
    New(new::Options),
}

/// Does the command. `file` is the configuration, where the command line names one.
pub(super) fn plugin(command: &Command, file: Option<&Path>, color: Color) -> ExitCode {
    let or_default = file.unwrap_or(Path::new(DEFAULT_FILE));
    match command {
        Command::List(options) => list::list(or_default, options),
        Command::Inspect(options) => inspect::inspect(or_default, options),
        Command::Test(options) => test::test(file, options, color),
        Command::New(options) => new::new(options),
    }
}

fn fail(why: &str) -> ExitCode {
    say(&format!("outstation: {why}"));
    ExitCode::FAILURE
}

/// The configuration, as far as it goes: these commands say what they can without a good one. A default file that is
/// not there is nothing to mention.
fn configuration(file: &Path) -> Loaded {
    let file = places::absolute_file(file);
    let loaded = agent::load::load(&file);
    let errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    if errors > 0 && (file != Path::new(DEFAULT_FILE) || file.exists()) {
        say(&format!("{}: {errors} errors, which `outstation check` shows", file.display()));
    }
    loaded
}

/// How the agent of this configuration runs its plugins, with its cache; where there is none, in a folder for this time.
fn host_options(settings: Option<&Settings>, scratch: &Path) -> HostOptions {
    match settings {
        Some(settings) => agent::host_options(settings),
        None => agent::host_options_in(scratch.to_owned()),
    }
}

/// A folder of its own for what is compiled only for now.
fn scratch() -> Result<Scratch, String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| format!("no random numbers: {error}"))?;
    let name = format!("outstation-plugin-{:016x}", u64::from_le_bytes(random));
    Ok(Scratch(std::env::temp_dir().join(name)))
}

/// Made by the plugin host, when it compiles; gone with this.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a command's work to its end on this thread.
fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(work)
}

fn host(options: HostOptions) -> Result<Host, String> {
    Host::new(options).map_err(|error| error.to_string())
}

/// On a terminal it is said what takes its time: compiling a large plugin.
fn compiling(file: &Path) {
    if std::io::stderr().is_terminal() {
        say(&format!("compiling {}", file.display()));
    }
}

fn signature_words(state: &SignatureState) -> (&'static str, Option<&str>) {
    match state {
        SignatureState::Good => ("good", None),
        SignatureState::None => ("none", None),
        SignatureState::Bad(reason) => ("bad", Some(reason)),
    }
}
