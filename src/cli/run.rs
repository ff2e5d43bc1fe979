//! `outstation run`: the service.

use std::path::Path;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry, reload};

use super::{CONFIG, Color, check, say};
use crate::agent::load::Seen;
use crate::agent::{self, Start};
use crate::config::{LogLevel, Settings};
use crate::os::lines::Lines;
use crate::os::places;
use crate::os::signals::Signals;
use crate::os::systemd::{self, Manager};

/// Under `outstation run --help`.
pub(super) const HELP: &str = "\
Under systemd the service is `outstation`: systemctl status outstation, journalctl -u outstation.
SIGTERM and Ctrl-C end it cleanly, a second one at once; SIGHUP makes it read its configuration again.

Examples:
  outstation run -c agent.toml          data and control socket lie in data/ beside the file
  OUTSTATION_DATA_DIR=/mnt/data outstation run -c agent.toml";

/// Worker threads: one runs the plugins while another one serves the broker.
const WORKERS: usize = 2;

pub(super) fn run(file: &Path, color: Color) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("outstation")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("outstation: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(start(&places::absolute_file(file), color));
    // What still blocks (a device, a name server) was given its time.
    runtime.shutdown_background();
    status
}

async fn start(file: &Path, color: Color) -> ExitCode {
    // Before anything else, so that no signal finds its default action.
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("outstation: cannot listen to signals: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let Some((settings, seen)) = configuration(file, color) else { return ExitCode::from(CONFIG) };
    let (lines, end) = match Lines::to(std::io::stderr()) {
        Ok(lines) => lines,
        Err(error) => {
            say(&format!("outstation: cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let set_log = log_to(settings.agent.log, color, lines);
    let socket = places::control_socket(file);
    let status = match agent::run(Start {
        file: file.to_owned(),
        seen,
        settings,
        socket,
        signals,
        set_log,
        manager: Manager::from_environment(),
    })
    .await
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    // What was said last is read as well.
    drop(end);
    status
}

/// What the files say, and which they are; nothing else that was made of them outlives this. `None`: they are wrong, and it
/// was said why.
fn configuration(file: &Path, color: Color) -> Option<(Settings, Vec<Seen>)> {
    let (loaded, seen) = agent::load::load_and_note(file);
    check::say_all(&loaded.diagnostics, color);
    Some((loaded.settings?, seen))
}

/// To stderr; with fields where that is the journal. Gives what changes the level later.
fn log_to(level: LogLevel, color: Color, lines: Lines) -> Box<dyn Fn(LogLevel) + Send> {
    let (filter, handle) = reload::Layer::new(filter(level));
    // Without a journal that takes fields, lines are as good.
    let journal = systemd::stderr_is_journal().then(tracing_journald::layer).and_then(Result::ok);
    let journal = journal.map(|journal| {
        let journal = journal.with_field_prefix(None).with_syslog_identifier("outstation".into());
        // syslog's own words: `journalctl -p info` shows what `log = "info"` does.
        journal.with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        })
    });
    let colours = color.wanted(&std::io::stderr());
    let lines = fmt::layer().with_writer(move || lines.clone()).with_ansi(colours).with_target(false);
    let lines = journal.is_none().then_some(lines);
    registry().with(filter).with(journal).with(lines).init();
    Box::new(move |level| {
        // It lives as long as the process.
        let _ = handle.reload(self::filter(level));
    })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
