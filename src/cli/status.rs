//! `outstation status`: the running agent at a glance; and what else is asked of it, `reload` and `log`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::{Color, ask, result};
use crate::control::{Answer, Question};
use crate::status::{Bus, BusState, LinkState, SourceState, Status};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  outstation status                     a page for people
  outstation status --json | jq .buffer.messages
  outstation status -c agent.toml       of the agent that runs on this file")]
pub(super) struct Options {
    /// Everything, for programs
    #[arg(long)]
    json: bool,
}

/// Under `outstation reload --help`.
pub(super) const RELOAD_HELP: &str = "\
It is read and checked whole before anything changes. With an error nothing changes, and the exit status is 1.
The agent also reads it by itself when a file changes, and on SIGHUP (`systemctl reload outstation`).

Examples:
  outstation check && outstation reload";

/// Under `outstation log --help`.
pub(super) const LOG_HELP: &str = "\
Examples:
  outstation log debug                  more, to find out why
  outstation log info                   back again";

/// Does the command.
pub(super) fn status(file: &Path, options: &Options, _color: Color) -> ExitCode {
    ask::ask(file, &Question::Status, |answer| match answer {
        Answer::Status(status) if options.json => {
            Ok(result(&(serde_json::to_string(&status).unwrap_or_default() + "\n")))
        }
        Answer::Status(status) => Ok(result(&page(&status))),
        _ => Err(ask::ANOTHER_VERSION.into()),
    })
}

/// `outstation reload`.
pub(super) fn reload(file: &Path) -> ExitCode {
    ask::ask(file, &Question::Reload, done)
}

/// `outstation log LEVEL`.
pub(super) fn log(file: &Path, level: String) -> ExitCode {
    ask::ask(file, &Question::Log { level }, done)
}

fn done(answer: Answer) -> Result<ExitCode, String> {
    match answer {
        Answer::Done(what) => Ok(result(&(what + "\n"))),
        _ => Err(ask::ANOTHER_VERSION.into()),
    }
}

/// The page that a person reads.
fn page(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "agent    {}, outstation {}, up {}, boot {} of store {}",
        status.agent,
        status.version,
        duration(status.uptime_s),
        status.boot,
        status.store
    );
    let _ = writeln!(out, "broker   {}", broker(status));
    if let Some(error) = status.mqtt.last_error.as_ref().filter(|_| status.mqtt.state != LinkState::Connected) {
        let _ = writeln!(out, "         {error}");
    }
    let buffer = &status.buffer;
    let oldest = buffer.oldest.as_ref().map(|time| format!(", oldest of {time}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "buffer   {} messages, {} of {}{oldest}, {} dropped",
        buffer.messages,
        bytes(buffer.bytes),
        bytes(buffer.max_bytes),
        buffer.dropped
    );
    if buffer.state != "ok" {
        let _ = writeln!(out, "         the disk refuses writes: new readings are kept in memory");
    }
    for error in &status.config.errors {
        let _ = writeln!(out, "config   not used: {error}");
    }
    for bus in &status.buses {
        out += &self::bus(bus);
    }
    for source in &status.sources {
        let state = match source.state {
            SourceState::Running => "running",
            SourceState::Backoff => "waiting to start",
            SourceState::Failed => "failed",
            SourceState::Stopped => "stopped",
        };
        let _ = writeln!(
            out,
            "source   {} ({}) {state}, {} polls, {} missed, {} readings, {} errors, {} restarts, {}",
            source.name,
            source.plugin,
            source.polls,
            source.missed,
            source.readings,
            source.errors,
            source.restarts,
            bytes(source.memory_bytes)
        );
        if let Some(error) = source.last_error.as_ref().filter(|_| source.state != SourceState::Running) {
            let _ = writeln!(out, "         {error}");
        }
    }
    out
}

fn bus(bus: &Bus) -> String {
    let state = match bus.state {
        BusState::Idle => "not asked yet",
        BusState::Connecting => "connecting",
        BusState::Connected => "connected",
        BusState::Waiting => "can't be reached",
    };
    let mut out = format!(
        "bus      {} ({}) {state}, {} requests, {} timeouts, {} exceptions, {} errors\n",
        bus.name, bus.url, bus.requests, bus.timeouts, bus.exceptions, bus.errors
    );
    if !bus.units_aside.is_empty() {
        let units: Vec<_> = bus.units_aside.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "         do not answer, and are asked less often: units {}", units.join(" "));
    }
    if let Some(error) =
        bus.last_error.as_ref().filter(|_| bus.state != BusState::Connected || !bus.units_aside.is_empty())
    {
        let _ = writeln!(out, "         {error}");
    }
    out
}

fn broker(status: &Status) -> String {
    let mqtt = &status.mqtt;
    let url = mqtt.broker.as_deref().unwrap_or("none");
    let since = mqtt.since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
    match mqtt.state {
        LinkState::Unconfigured => "none is configured: readings are only buffered".to_owned(),
        LinkState::Connected => format!(
            "{url} connected{since}, MQTT {}, {} published, {} acknowledged, {} in flight",
            mqtt.version.as_deref().unwrap_or("?"),
            mqtt.published,
            mqtt.acknowledged,
            mqtt.in_flight
        ),
        LinkState::Connecting => format!("{url} connecting"),
        LinkState::Waiting => format!("{url} not connected{since}"),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{} KiB", count >> 10),
        _ => format!("{} MiB", count >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Buffer, Config, Mqtt, Source};

    #[test]
    fn the_page_says_what_stands_and_what_does_not() {
        let status = Status {
            agent: "press-7".into(),
            store: "9f3ac1d2".into(),
            version: "0.1.0".into(),
            boot: 17,
            uptime_s: 7_384,
            config: Config::default(),
            mqtt: Mqtt {
                state: LinkState::Waiting,
                broker: Some("mqtt://127.0.0.1:1883".into()),
                since: Some("2026-11-22T17:00:00.000000Z".into()),
                last_error: Some("refused".into()),
                ..Mqtt::default()
            },
            buffer: Buffer { state: "ok".into(), messages: 51, bytes: 70_000, max_bytes: 1 << 29, ..Buffer::default() },
            sources: vec![Source {
                name: "host".into(),
                plugin: "system".into(),
                state: SourceState::Failed,
                last_error: Some("trapped: unreachable".into()),
                ..Source::default()
            }],
            buses: vec![Bus {
                name: "boiler".into(),
                url: "tcp://10.0.0.5:502".into(),
                state: BusState::Connected,
                requests: 120,
                timeouts: 2,
                errors: 2,
                units_aside: vec![17],
                last_error: Some("unit 17: no answer in time".into()),
                ..Bus::default()
            }],
        };
        insta::assert_snapshot!(page(&status), @r"
        agent    press-7, outstation 0.1.0, up 2 h 3 min, boot 17 of store 9f3ac1d2
        broker   mqtt://127.0.0.1:1883 not connected since 2026-11-22T17:00:00.000000Z
                 refused
        buffer   51 messages, 68 KiB of 512 MiB, 0 dropped
        bus      boiler (tcp://10.0.0.5:502) connected, 120 requests, 2 timeouts, 0 exceptions, 2 errors
                 do not answer, and are asked less often: units 17
                 unit 17: no answer in time
        source   host (system) failed, 0 polls, 0 missed, 0 readings, 0 errors, 0 restarts, 0 B
                 trapped: unreachable
        ");
    }
}
