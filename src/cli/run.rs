//! `outstation run`: the service.

use std::path::Path;
use std::process::ExitCode;

use tracing::level_filters::LevelFilter;

use super::{CONFIG, Color, check, say};
use crate::agent;
use crate::config::{LogLevel, Settings};
use crate::os::places;
use crate::os::signals::Signals;

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
    let status = runtime.block_on(async {
        // Before anything else, so that no signal finds its default action.
        let signals = match Signals::install() {
            Ok(signals) => signals,
            Err(error) => {
                say(&format!("outstation: cannot listen to signals: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let loaded = check::load(file);
        check::say_all(&loaded.diagnostics, color);
        let Some(settings) = loaded.settings else { return ExitCode::from(CONFIG) };
        let socket = places::control_socket(&places::absolute_file(file));
        log_to_stderr(&settings, color);
        match agent::run(settings, &socket, signals).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{error}");
                ExitCode::FAILURE
            }
        }
    });
    // What still blocks (a device, a name server) was given its time.
    runtime.shutdown_background();
    status
}

fn log_to_stderr(settings: &Settings, color: Color) {
    let level = match settings.agent.log {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(color.wanted(&std::io::stderr()))
        .with_target(false)
        .init();
}
