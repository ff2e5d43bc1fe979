//! `outstation check --live`: a ladder from the files to the last line, each rung with a mark and the time it took.
//!
//! Nothing that runs notices it: a broker sees another client with a session of its own and no will; a bus that the
//! running agent has is not opened, nor a serial port that anybody has; a line is only looked at. Every rung has an end.

mod broker;
mod devices;
mod files;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::page::{Lines, Mark, Style};
use super::progress;
use crate::agent::{self, load};
use crate::config::{Loaded, Settings, Source};
use crate::control::{Answer, Asking, Question};
use crate::os::{clock, places};
use crate::plugin::{Host, SourceSpec};
use crate::status::Bus;

/// What one rung came to.
pub(super) struct Rung {
    /// `files plugin broker bus unit line`.
    what: &'static str,
    name: String,
    found: Found,
    took: Duration,
}

/// What was found there.
pub(super) struct Found {
    mark: Mark,
    text: String,
    advice: Option<String>,
}

impl Found {
    fn good(text: impl Into<String>) -> Self {
        Self { mark: Mark::Ok, text: text.into(), advice: None }
    }

    fn doubtful(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Wait, text: text.into(), advice: Some(advice.into()) }
    }

    fn bad(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { mark: Mark::Fail, text: text.into(), advice: Some(advice.into()) }
    }
}

/// Who runs on the same configuration.
pub(super) enum Beside {
    /// No agent.
    Nobody,
    /// An agent, and what it says of the buses that it has.
    Agent(Vec<Bus>),
    /// It can't be asked, and why.
    Unknown(String),
}

impl Beside {
    /// Asks the agent that runs on this file.
    pub async fn look(file: &Path) -> Self {
        use std::io::ErrorKind::{ConnectionRefused, NotADirectory, NotFound};
        let socket = places::control_socket(&places::absolute_file(file));
        let asked = async { Asking::begin(&socket, &Question::Status).await?.answer().await };
        match asked.await {
            Ok(Answer::Status(status)) => Self::Agent(status.buses),
            Ok(_) => Self::Unknown("it is of another version".into()),
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | NotADirectory) => Self::Nobody,
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// Climbs the whole ladder; a rung that fails does not end it, since those above say more.
pub(super) async fn climb(
    loaded: &Loaded,
    settings: &Settings,
    files: usize,
    host: &Host,
    beside: &Beside,
) -> Vec<Rung> {
    let mut rungs = Vec::new();
    rungs.push(rung("files", count(files, "file"), async { files::look(settings) }).await);
    for source in settings.sources.values() {
        rungs.push(rung("plugin", source.name.clone(), plugin(loaded, source, host)).await);
    }
    match &settings.mqtt {
        None => rungs.push(rung("broker", "none".into(), async { no_broker() }).await),
        Some(mqtt) => {
            for url in &mqtt.urls {
                rungs.push(rung("broker", url.to_string(), Box::pin(broker::attempt(mqtt, url))).await);
            }
        }
    }
    for (name, bus) in &settings.buses {
        rungs.extend(Box::pin(devices::bus(settings, name, bus, beside)).await);
    }
    for (line, is_driven) in devices::lines(settings) {
        rungs.push(rung("line", line.to_string(), devices::line(&line, is_driven)).await);
    }
    rungs
}

async fn rung(what: &'static str, name: String, look: impl Future<Output = Found>) -> Rung {
    let began = clock::now();
    let found = progress::during(&format!("{what} {name}"), look).await;
    Rung { what, name, found, took: clock::now().saturating_sub(began) }
}

fn no_broker() -> Found {
    Found::doubtful("none is configured: readings are only buffered", "[mqtt] with a url says where to")
}

/// That its configuration is right was checked before; here is what it would do with it.
async fn plugin(loaded: &Loaded, source: &Source, host: &Host) -> Found {
    let dirs = loaded.sound.plugin_dirs.clone().unwrap_or_default();
    let Some(file) = places::plugin(&dirs, &source.plugin) else {
        return Found::bad(
            format!("there is no {}.wasm", source.plugin),
            "`outstation check` says where it was looked for",
        );
    };
    let shown = file.display();
    let advice = "replace the file by one that works: the agent takes it over by itself";
    match host.load(&file).await {
        Err(error) => Found::bad(error.to_string(), advice),
        Ok(plugin) => match plugin.describe(&SourceSpec::new(source)).await {
            Ok(about) => {
                let points = count(about.points.len(), "point");
                Found::good(format!("{} {} with {points}, from {shown}", about.name, about.version))
            }
            Err(failure) => Found::bad(format!("{shown} can't say what it measures: {failure}"), advice),
        },
    }
}

/// Whether every rung holds.
pub(super) fn holds(rungs: &[Rung]) -> bool {
    rungs.iter().all(|rung| rung.found.mark != Mark::Fail)
}

/// For people.
pub(super) fn text(rungs: &[Rung], style: Style) -> String {
    let mut lines = Lines::new(style);
    for Rung { what, name, found, took } in rungs {
        lines.thing(found.mark, what, &format!("{name}: {} ({} ms)", found.text, took.as_millis()));
        if let Some(advice) = &found.advice {
            lines.advice(advice);
        }
    }
    lines.into_text()
}

/// For programs.
pub(super) fn json(rungs: &[Rung]) -> Value {
    let rung = |rung: &Rung| {
        let state = match rung.found.mark {
            Mark::Ok => "ok",
            Mark::Wait => "doubtful",
            Mark::Fail => "failed",
        };
        let (message, hint) = (&rung.found.text, &rung.found.advice);
        let time_ms = u64::try_from(rung.took.as_millis()).unwrap_or(u64::MAX);
        json!({ "what": rung.what, "name": rung.name, "state": state, "time_ms": time_ms, "message": message, "hint": hint })
    };
    rungs.iter().map(rung).collect()
}

/// `1 file`, `2 files`.
fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Where a check keeps what it compiles: with the agent's, where that is ours; else apart, so that no folder of the
/// agent's ever belongs to whoever checked.
pub(super) fn cache_dir(data_dir: Option<&Path>) -> PathBuf {
    let ours = |dir: &&Path| places::is_ours(dir);
    match data_dir.filter(ours) {
        Some(dir) => places::plugin_cache(dir),
        None => std::env::temp_dir().join(format!("outstation-check-{}", places::user())),
    }
}

/// The way plugins are run in a check.
pub(super) fn host(loaded: &Loaded) -> Result<Host, crate::plugin::HostError> {
    let cache_dir = cache_dir(loaded.settings.as_ref().map(|settings| settings.agent.data_dir.as_path()));
    Host::new(match &loaded.settings {
        Some(settings) => crate::plugin::HostOptions { cache_dir, ..agent::host_options(settings) },
        None => agent::host_options_in(cache_dir),
    })
}

/// What plugins say of their own configuration.
pub(super) async fn plugin_problems(host: &Host, loaded: &Loaded) -> Vec<crate::config::Diagnostic> {
    load::plugin_problems(host, loaded, |_| true).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rung_a_line_and_advice_under_it() {
        let rungs = [
            Rung {
                what: "files",
                name: "1 file".into(),
                found: Found::good("readable"),
                took: Duration::from_millis(2),
            },
            Rung {
                what: "bus",
                name: "boiler".into(),
                found: Found::bad("connection refused", "is the device on?"),
                took: Duration::from_millis(31),
            },
        ];
        insta::assert_snapshot!(text(&rungs, Style { colour: false }), @r"
        ok    files    1 file: readable (2 ms)
        FAIL  bus      boiler: connection refused (31 ms)
                       > is the device on?
        ");
        assert!(!holds(&rungs));
        assert_eq!(json(&rungs)[1]["state"], "failed");
        assert_eq!(json(&rungs)[0]["hint"], Value::Null);
    }
}
