//! `outstation check`: everything that can be known of a configuration without a device or a network.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{CONFIG, Color, result, say};
use crate::agent;
use crate::config::{self, Colour, Diagnostic, Loaded};
use crate::plugin::Host;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  outstation check                      errors and warnings, each with its place and what would be right
  outstation check --show               what is in force, and which file and line it comes from
  outstation check --json | jq .diagnostics")]
pub(super) struct Options {
    /// Print what is in force: each value with the file and line that it came from, secrets hidden
    #[arg(long)]
    show: bool,
    /// Print what is wrong as JSON, and with --show what is in force too
    #[arg(long)]
    json: bool,
}

/// Does the command.
pub(super) fn check(file: &Path, options: &Options, color: Color) -> ExitCode {
    let mut loaded = agent::load::load(file);
    let problems = plugin_problems(&loaded);
    agent::load::add(&mut loaded, problems);
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

/// What plugins say of their own configuration. They are compiled into the agent's cache, where it is known and may be
/// written.
fn plugin_problems(loaded: &Loaded) -> Vec<Diagnostic> {
    let failed = |why: &dyn std::fmt::Display| {
        vec![loaded.origins.error("internal", &[], format!("plugins can't be run: {why}"), None)]
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let options = match &loaded.settings {
        Some(settings) => agent::host_options(settings),
        None => agent::host_options_in(std::env::temp_dir().join("outstation-check")),
    };
    match Host::new(options) {
        Ok(host) => runtime.block_on(agent::load::plugin_problems(&host, loaded, |_| true)),
        Err(error) => failed(&error),
    }
}
