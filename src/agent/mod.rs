//! The wiring: starts everything, follows the configuration and the plugin folders, and ends everything in order.
//!
//! ```text
//!  source tasks ──Log──▶ log thread (spool) ◀──Log──▶ publisher task ◀──▶ broker
//! ```
//!
//! Each source has a task, the spool a thread, the publisher a task. They share nothing but queues and watched values.
//! A new configuration is read and checked whole before anything is touched; with an error nothing changes.

mod commands;
pub mod export;
pub mod load;
mod log;
mod metas;
mod parts;
mod publisher;
mod rates;
mod reload;
mod schedule;
mod source;
mod start;
mod state;
mod watchdog;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::config::{Engine, Loaded, LogLevel, Settings};
use crate::control::{Answer, Asked, Question, Reply, Server};
use crate::os::clock;
use crate::os::files::FolderError;
use crate::os::places::{self, Sites};
use crate::os::signals::{Request, Signals};
use crate::os::systemd::Manager;
use crate::os::watch::Watch;
use crate::plugin::{Compiler, Host, HostOptions, Trust};

use log::Log;
use rates::SAMPLE_EVERY;
use reload::{Reloads, Running};
use watchdog::Watchdog;

pub use log::OpenError;

/// How long another process may hold the data folder before the start is refused.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder can't be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// The plugin host can't be made.
    #[error(transparent)]
    Plugins(#[from] crate::plugin::HostError),
}

/// How plugins are compiled and run under these settings.
pub fn host_options(settings: &Settings) -> HostOptions {
    let trust = Trust { mode: settings.agent.plugin_signatures, keys: settings.agent.plugin_keys.clone() };
    let cache_dir = places::plugin_cache(&settings.agent.data_dir);
    HostOptions { engine: settings.agent.engine, trust, ..host_options_in(cache_dir) }
}

/// How plugins are compiled and run where there are no settings, with compiled ones in `cache_dir`.
pub fn host_options_in(cache_dir: PathBuf) -> HostOptions {
    let compiler = Compiler::agent(places::program());
    HostOptions { engine: Engine::Native, cache_dir, trust: Trust::OFF, compiler, compile: Default::default() }
}

/// Everything that the agent is started with.
pub struct Start {
    /// The main file of the configuration.
    pub file: PathBuf,
    /// All its files, as they were read.
    pub seen: Vec<load::Seen>,
    /// What they say.
    pub settings: Settings,
    /// Where the agent's operator is answered.
    pub socket: PathBuf,
    /// What asks for the end, or for a reload.
    pub signals: Signals,
    /// Changes the level of the log.
    pub set_log: Box<dyn Fn(LogLevel) + Send>,
    /// Who is told how the service is.
    pub manager: Manager,
}

/// Runs the agent until a signal ends it.
pub async fn run(start: Start) -> Result<(), StartError> {
    let Start { file, seen, settings, socket, mut signals, set_log, mut manager } = start;
    let host = Host::new(host_options(&settings))?;
    let (log, thread) = open_log(&settings).await?;
    info!("{}, boot {}, data in {}", settings.agent.id, log.boot(), settings.agent.data_dir.display());
    let mut running = Running::start(file, seen, settings, host, log.clone(), set_log).await;
    let (_server, mut questions) = listen(&socket).unzip();
    let mut watch = Watch::new();
    let mut reloads = Reloads::default();
    let mut watchdog = Watchdog::new(manager.watchdog());
    let mut samples = tokio::time::interval(SAMPLE_EVERY);
    samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
    manager.ready();
    loop {
        let Sites { folders, files } = running.sites();
        watch.folders(folders.iter(), &files);
        if reloads.begin(&mut running) {
            manager.reloading();
        }
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => break,
                Request::Reload => reloads.want(true, None),
            },
            Some(asked) = next(&mut questions) => answer(asked, &running, &mut reloads),
            () = watch.changed() => reloads.want(false, None),
            candidate = reloads.checked() => {
                reloads.end(&running.take(candidate).await);
                manager.ready();
                manager.status(&running.summary());
            }
            () = watchdog.proof(|| answers(log.clone())) => if watchdog.is_polling(&running.progress(), clock::now()) {
                manager.alive();
            },
            _ = samples.tick() => {
                running.sample();
                manager.status(&running.summary());
            }
        }
    }
    info!("stopping");
    manager.stopping();
    running.end(stop_asked_again(&mut signals)).await;
    log.stop().await;
    thread.join();
    info!("stopped, {} messages in the buffer", log.news().stats.buffered);
    Ok(())
}

async fn answers(log: Log) -> bool {
    log.answers().await
}

/// Opens the log. A predecessor that was just killed is given time to be gone.
async fn open_log(settings: &Settings) -> Result<(Log, log::Thread), OpenError> {
    let patience = clock::now() + LOCK_WAIT_MAX;
    loop {
        match log::open(&settings.agent.data_dir, &settings.buffer) {
            Err(OpenError::Folder(FolderError::Held { .. })) if clock::now() < patience => {
                tokio::time::sleep(LOCK_WAIT_MAX / 20).await;
            }
            outcome => return outcome,
        }
    }
}

async fn stop_asked_again(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

fn answer(asked: Asked, running: &Running, reloads: &mut Reloads) {
    let reply = match asked.question {
        Question::Reload => return reloads.want(true, Some(asked.reply)),
        Question::Status => Reply::Answer(Answer::Status(Box::new(running.status()))),
        Question::Tail { source } => match running.tail(source) {
            Ok((notes, tail)) => Reply::Tail(notes, tail),
            Err(why) => Reply::Answer(Answer::Error(why)),
        },
        Question::Log { level } => Reply::Answer(match LogLevel::from_word(&level) {
            Some(level) => {
                running.set_log(level);
                Answer::Done(format!("the log's level is {} until the configuration is read again", level.word()))
            }
            None => Answer::Error(format!("no such level: {level}; there are {}", LogLevel::WORDS.join(", "))),
        }),
    };
    // Who asked may be gone.
    drop(asked.reply.send(reply));
}

/// Without a control socket the agent works all the same.
fn listen(socket: &Path) -> Option<(Server, mpsc::Receiver<Asked>)> {
    Server::start(socket).inspect_err(|error| warn!("no control socket at {}: {error}", socket.display())).ok()
}

async fn next(questions: &mut Option<mpsc::Receiver<Asked>>) -> Option<Asked> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

/// The texts of what is wrong, for `status`.
fn errors(loaded: &Loaded) -> Vec<String> {
    let error = |diagnostic: &crate::config::Diagnostic| match &diagnostic.place {
        Some(place) => format!("{}:{}:{}: {}", place.path.display(), place.line, place.column, diagnostic.message),
        None => diagnostic.message.clone(),
    };
    loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).map(error).collect()
}
