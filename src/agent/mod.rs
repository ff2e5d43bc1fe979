//! The wiring: starts everything, supervises it, and ends it in order.
//!
//! ```text
//!  source tasks ──Accept──▶ log thread (spool) ◀──Log──▶ publisher task ◀──▶ broker
//! ```
//!
//! Each source has a task, the spool a thread, the publisher a task. They share nothing but queues and watched
//! values. The end is in the order of a reading's way: sources first, then the publisher, then the log.

mod board;
mod log;
mod publisher;
mod schedule;
mod source;
mod state;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{Engine, Settings};
use crate::control::{Answer, Asked, Question, Server};
use crate::os::places;
use crate::os::signals::{Request, Signals};
use crate::plugin::{Compiler, Host, HostOptions, Trust};

use board::Board;
use log::Log;

pub use log::OpenError;

/// How long the sources may take to stop; a poll that hangs in a device is left behind then.
const SOURCES_STOP_MAX: Duration = Duration::from_secs(3);
/// Metas that wait for the publisher.
const METAS_MAX: usize = 64;
/// Least and most bytes that are in flight; in between a quarter of the buffer (R8).
const IN_FLIGHT_BYTES_MIN: u64 = 64 << 10;
const IN_FLIGHT_BYTES_MAX: u64 = 4 << 20;

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
    HostOptions {
        engine: settings.agent.engine,
        trust,
        ..host_options_in(places::plugin_cache(&settings.agent.data_dir))
    }
}

/// How plugins are compiled and run where there are no settings, with compiled ones in `cache_dir`.
pub fn host_options_in(cache_dir: PathBuf) -> HostOptions {
    let compiler = Compiler::agent(places::program());
    HostOptions { engine: Engine::Native, cache_dir, trust: Trust::OFF, compiler, compile: Default::default() }
}

/// Runs the agent until a signal ends it; its operator is answered at `socket`.
pub async fn run(settings: Settings, socket: &Path, mut signals: Signals) -> Result<(), StartError> {
    let host = Host::new(host_options(&settings))?;
    let (log, thread) = log::open(&settings.agent.data_dir, &settings.buffer)?;
    info!("{}, boot {}, data in {}", settings.agent.id, log.boot(), settings.agent.data_dir.display());
    let mut board = Board::new(&settings, log.clone());
    let (metas, metas_receiver) = mpsc::channel(METAS_MAX);
    let (stop_sources, sources_stopped) = watch::channel(false);
    let mut sources = JoinSet::new();
    for source in settings.sources.values() {
        let around = source::Surroundings {
            host: host.clone(),
            plugin_dirs: settings.agent.plugin_dirs.clone(),
            agent: settings.agent.id.clone(),
            topics: settings.mqtt.as_ref().map(|mqtt| mqtt.topics.clone()),
            log: log.clone(),
            metas: metas.clone(),
        };
        let (source, status) = source::Source::new(source.clone(), around);
        board.add_source(status);
        sources.spawn(source.run(sources_stopped.clone()));
    }
    drop(metas);
    let (stop_publisher, publisher_stopped) = watch::channel(false);
    let mut publishers = JoinSet::new();
    if let Some((task, status)) = publisher(&settings, log.clone(), metas_receiver) {
        board.set_publisher(status);
        publishers.spawn(task.run(publisher_stopped));
    }
    let (_server, questions) = listen(socket).unzip();
    serve_until_stopped(&mut signals, questions, &board).await;
    info!("stopping");
    stop_sources.send_replace(true);
    if tokio::time::timeout(SOURCES_STOP_MAX, ended(&mut sources)).await.is_err() {
        warn!("some sources did not stop within {} s and are left behind", SOURCES_STOP_MAX.as_secs());
    }
    stop_publisher.send_replace(true);
    tokio::select! {
        () = ended(&mut publishers) => {}
        () = serve_until_stopped(&mut signals, None, &board) => {
            warn!("stopping at once: what is not sent stays in the buffer");
        }
    }
    publishers.shutdown().await;
    log.stop().await;
    thread.join();
    info!("stopped, {} messages in the buffer", log.news().stats.buffered);
    Ok(())
}

fn publisher(
    settings: &Settings,
    log: Log,
    metas: mpsc::Receiver<source::Meta>,
) -> Option<(publisher::Publisher, watch::Receiver<crate::status::Mqtt>)> {
    let Some(mqtt) = settings.mqtt.clone() else {
        warn!("there is no [mqtt] in the configuration: readings are only buffered");
        return None;
    };
    let setup = publisher::Setup {
        mqtt,
        agent: settings.agent.id.clone(),
        sources: settings.sources.keys().cloned().collect(),
        replay_rate: settings.buffer.replay_rate,
    };
    let bytes = (settings.buffer.max_size / 4).clamp(IN_FLIGHT_BYTES_MIN, IN_FLIGHT_BYTES_MAX);
    Some(publisher::Publisher::new(setup, log, metas, usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// Without a control socket the agent works all the same.
fn listen(socket: &Path) -> Option<(Server, mpsc::Receiver<Asked>)> {
    Server::start(socket).inspect_err(|error| warn!("no control socket at {}: {error}", socket.display())).ok()
}

/// Answers questions until a signal asks for the end.
async fn serve_until_stopped(signals: &mut Signals, mut questions: Option<mpsc::Receiver<Asked>>, board: &Board) {
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => return,
                Request::Reload => warn!("this version reads its configuration at the start only: restart it"),
            },
            Some(asked) = next(&mut questions) => match asked.question {
                Question::Status => {
                    // Who asked may be gone.
                    drop(asked.reply.send(Answer::Status(Box::new(board.status()))));
                }
            },
        }
    }
}

async fn next(questions: &mut Option<mpsc::Receiver<Asked>>) -> Option<Asked> {
    match questions {
        Some(questions) => questions.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of all tasks. One that panicked has ended too.
async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
