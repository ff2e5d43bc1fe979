//! `outstation check`: everything that can be known of a configuration without a device or a network; and with `--live`
//! what can be known with them.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::live::{self, Rung};
use super::{CONFIG, Color, fail, page, progress, result, say};
use crate::agent::{self, load::Seen};
use crate::config::{self, Colour, Diagnostic, Loaded};
use crate::plugin::Host;

#[derive(clap::Args)]
#[command(after_help = "\
It touches no device and no network, and nothing of a running agent. --live tries, with a mark and a time for each:
certificate and password files, plugins, brokers, buses with the units on them, and lines; what the running agent
has is not touched. The exit status is 78 where
the configuration is wrong, and 1 where it is right and something that it names does not work.

Examples:
  outstation check                      errors and warnings, each with its place and what would be right
  outstation check --live               and does what it names answer?
  outstation check --show               what is in force, and which file and line it comes from
  outstation check --json | jq .diagnostics")]
pub(super) struct Options {
    /// Try brokers, buses, lines and plugins too
    #[arg(long)]
    live: bool,
    /// Print what is in force: each value with the file and line that it came from, secrets hidden
    #[arg(long)]
    show: bool,
    /// Print what is wrong as JSON, with --show what is in force, with --live what was tried
    #[arg(long)]
    json: bool,
}

/// Does the command.
pub(super) fn check(file: &Path, options: &Options, color: Color) -> ExitCode {
    let (mut loaded, seen) = agent::load::load_and_note(file);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let rungs = runtime.block_on(look(file, &mut loaded, &seen, options));
    // A name server that does not answer is not waited for.
    runtime.shutdown_background();
    report(&loaded, &rungs, options, color);
    match loaded.settings {
        None => ExitCode::from(CONFIG),
        Some(_) if live::holds(&rungs) => ExitCode::SUCCESS,
        Some(_) => ExitCode::FAILURE,
    }
}

/// Asks the plugins, and climbs the ladder where that is wanted and the configuration is right.
async fn look(file: &Path, loaded: &mut Loaded, seen: &[Seen], options: &Options) -> Vec<Rung> {
    let host = match live::host(loaded) {
        Ok(host) => host,
        Err(error) => {
            let problem = loaded.origins.error("internal", &[], format!("plugins can't be run: {error}"), None);
            agent::load::add(loaded, vec![problem]);
            return Vec::new();
        }
    };
    let problems = progress::during("asking the plugins", live::plugin_problems(&host, loaded)).await;
    agent::load::add(loaded, problems);
    climb(file, loaded, seen, options, &host).await
}

async fn climb(file: &Path, loaded: &Loaded, seen: &[Seen], options: &Options, host: &Host) -> Vec<Rung> {
    match loaded.settings.as_ref().filter(|_| options.live) {
        Some(settings) => {
            let beside = live::Beside::look(file).await;
            live::climb(loaded, settings, seen.len(), host, &beside).await
        }
        None => Vec::new(),
    }
}

fn report(loaded: &Loaded, rungs: &[Rung], options: &Options, color: Color) {
    let valid = loaded.settings.is_some();
    let in_force = || loaded.origins.listing();
    if options.json {
        let diagnostics: Vec<_> = loaded.diagnostics.iter().map(config::to_json).collect();
        let mut document = Map::from_iter([("valid".into(), json!(valid)), ("diagnostics".into(), json!(diagnostics))]);
        if options.show {
            document.insert("in_force".into(), config::listing_json(&in_force()));
        }
        if options.live {
            document.insert("live".into(), live::json(rungs));
        }
        let document = Value::from(document);
        result(&format!("{document}\n"));
        return;
    }
    say_all(&loaded.diagnostics, color);
    if options.show {
        result(&config::render_listing(&in_force()));
    }
    if options.live {
        result(&live::text(rungs, page::Style { colour: color.wanted(&io::stdout()) }));
    } else if valid && !options.show {
        result("the configuration is valid\n");
    }
}

/// Diagnostics to stderr.
pub(super) fn say_all(diagnostics: &[Diagnostic], color: Color) {
    let colour = if color.wanted(&io::stderr()) { Colour::Ansi } else { Colour::Plain };
    let text = config::render_all(diagnostics, colour);
    if !text.is_empty() {
        say(text.trim_end());
    }
}
