//! Commands on their way from the publisher to a source, and their answers on the way back.
//!
//! ```text
//!  publisher ── arrived ──▶ desk ── work ──▶ source ── next, done ──▶ desk ── answer ──▶ publisher
//!                            └── accepted, begun, answered: the journal, durable before each goes on (R10)
//! ```
//!
//! One task, the *desk*, owns the journal and what waits; all others hold a [`Commands`]. A command waits here, not at
//! the source: a source fetches the next one when it is between two polls, so that its plugin is never entered twice.
//!
//! Invariants: an id runs once; nothing runs that has lapsed; every command that came is answered as far as there is a
//! topic for it; an acknowledgement follows acceptance, never execution; every queue is bounded.

mod desk;
mod rules;

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

use super::log::Log;
use crate::mqtt::PacketId;
use crate::plugin::{Command, Rejection};

pub use rules::Rules;

/// Questions to the desk that wait. The publisher never waits for room here: what it has no room for is not
/// acknowledged, and comes again.
const ASKS_MAX: usize = 256;
/// What the desk tells the publisher and has not been taken yet; the desk waits then.
const WORDS_MAX: usize = 64;
/// Commands of one source that wait. What comes beyond is answered `failed`.
pub const WAITING_MAX: usize = 16;
/// Answers that no broker has acknowledged. Refusals beyond are dropped and counted.
const ANSWERS_MAX: usize = 256;

/// A message that came on a source's command topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Whose topic it is.
    pub source: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// The broker had kept it.
    pub retained: bool,
    /// It waited at the broker while the agent was away.
    pub waited: bool,
    /// What the broker left it, in seconds.
    pub expiry_s: Option<u32>,
    /// Where its sender wants the answer.
    pub response_topic: Option<String>,
    /// What its sender wants with the answer.
    pub correlation: Option<Vec<u8>>,
    /// What to acknowledge.
    pub packet: Option<PacketId>,
}

/// An answer on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the desk knows it by.
    pub token: u64,
    /// Where it goes.
    pub topic: String,
    /// Goes with it, in 5.0.
    pub correlation: Option<Vec<u8>>,
    /// JSON.
    pub payload: Vec<u8>,
}

/// What the desk tells the publisher.
#[derive(Debug)]
pub enum Word {
    /// This message is safe, or needs no safety: acknowledge it.
    Acknowledge(PacketId),
    /// To be published.
    Answer(Answer),
}

/// Which sources take commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Takers {
    /// Their names.
    pub sources: BTreeSet<String>,
    /// Every source has said whether it does.
    pub settled: bool,
}

/// A command that a source is to run now: "begun" is durable.
#[derive(Debug)]
pub struct Job {
    /// For the plugin.
    pub command: Command,
}

enum Ask {
    Arrived(Arrived),
    /// A connection stands: all that is not acknowledged goes there.
    Attach(mpsc::Sender<Word>),
    Acknowledged(u64),
    Takes {
        source: String,
        work: watch::Sender<usize>,
    },
    TakesNot(String),
    Next {
        source: String,
        reply: oneshot::Sender<Option<Job>>,
    },
    Done {
        source: String,
        id: String,
        result: Result<String, Rejection>,
    },
    /// A source has let go of its commands.
    Look,
}

/// The way to the desk. A clone is the same one.
#[derive(Clone)]
pub struct Commands {
    asks: mpsc::Sender<Ask>,
    takers: watch::Receiver<Takers>,
}

impl Commands {
    /// Starts the desk. It ends with the log, or with the last of these.
    pub fn start(log: Log, rules: watch::Receiver<Rules>) -> Self {
        let (asks, questions) = mpsc::channel(ASKS_MAX);
        let (takers, watched) = watch::channel(Takers::default());
        tokio::spawn(desk::run(log, rules, questions, takers));
        Self { asks, takers: watched }
    }

    /// Who takes commands.
    pub fn takers(&self) -> watch::Receiver<Takers> {
        self.takers.clone()
    }

    /// A message came. `false`: there is no room, do not acknowledge it.
    pub fn arrived(&self, arrived: Arrived) -> bool {
        self.asks.try_send(Ask::Arrived(arrived)).is_ok()
    }

    /// A connection stands: what is to be said on it, beginning with all answers that no broker has acknowledged.
    pub async fn attach(&self) -> mpsc::Receiver<Word> {
        let (words, receiver) = mpsc::channel(WORDS_MAX);
        // Without a desk the agent is ending.
        let _ = self.asks.send(Ask::Attach(words)).await;
        receiver
    }

    /// The broker has that answer.
    pub fn acknowledged(&self, token: u64) {
        if self.asks.try_send(Ask::Acknowledged(token)).is_err() {
            debug!("an answer's acknowledgement found no room: the answer is sent once more");
        }
    }

    /// The source's plugin takes commands.
    pub async fn takes(&self, source: &str) -> Station {
        let (work, receiver) = watch::channel(0);
        let _ = self.asks.send(Ask::Takes { source: source.to_owned(), work }).await;
        Station { commands: self.clone(), source: source.to_owned(), work: receiver }
    }

    /// The source's plugin takes none.
    pub async fn takes_not(&self, source: &str) {
        let _ = self.asks.send(Ask::TakesNot(source.to_owned())).await;
    }
}

/// A source's side: as long as it lives, the source takes commands.
pub struct Station {
    commands: Commands,
    source: String,
    work: watch::Receiver<usize>,
}

impl Station {
    /// Waits until something is to be done. Cancel safe.
    pub async fn work(&mut self) {
        if self.work.wait_for(|waiting| *waiting > 0).await.is_err() {
            // The desk is gone: the agent is ending.
            std::future::pending::<()>().await;
        }
    }

    /// The next command, if it has not lapsed meanwhile. It counts as begun; [`Station::done`] is to follow.
    pub async fn next(&mut self) -> Option<Job> {
        let (reply, answer) = oneshot::channel();
        self.commands.asks.send(Ask::Next { source: self.source.clone(), reply }).await.ok()?;
        answer.await.ok()?
    }

    /// What became of it.
    pub async fn done(&mut self, id: String, result: Result<String, Rejection>) {
        let _ = self.commands.asks.send(Ask::Done { source: self.source.clone(), id, result }).await;
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // Where there is no room, whatever fills it makes the desk look.
        let _ = self.commands.asks.try_send(Ask::Look);
    }
}
