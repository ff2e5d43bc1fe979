//! The control socket: one question a connection, as a line of JSON each way; `tail` is answered by many lines.
//!
//! The socket's file mode decides who may ask: its owner and its group. The server touches nothing of the agent: a
//! question goes as a message into a queue, and whoever owns the answer gives it. Bounded: a question has
//! [`LINE_MAX`] bytes and [`QUESTION_MAX`], its answer [`Question::patience`] and then [`TAKE_MAX`] to be taken, and
//! [`CLIENTS_MAX`] are served at once, of whom [`feed::TAILS_MAX`] may stay.

mod feed;
mod group;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::debug;

use crate::status::Status;

pub use feed::{Feed, LINE_BYTES_MAX, TAILS_MAX, Tail};

/// Bytes of a question.
const LINE_MAX: u64 = 4096;
/// Bytes of an answer that a client takes: far more than the status of thousands of sources.
const ANSWER_MAX: u64 = 16 << 20;
/// Time to ask, for a client that has connected.
const QUESTION_MAX: Duration = Duration::from_secs(5);
/// Time to take an answer.
const TAKE_MAX: Duration = Duration::from_secs(10);
/// Time for an answer that the agent has at hand.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Time for a reload: plugins that it needs may have to be compiled.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(1800);
/// Connections at once.
const CLIENTS_MAX: usize = 16;
/// Questions that wait for the agent.
const QUEUE_MAX: usize = 16;
/// Owner and group.
const MODE: u32 = 0o660;

/// What can be asked of a running agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "ask")]
pub enum Question {
    /// How it is.
    Status,
    /// To read its configuration again.
    Reload,
    /// To log more, or less.
    Log {
        /// A word of `agent.log`.
        level: String,
    },
    /// To show what its sources read from now on.
    Tail {
        /// One source only.
        source: Option<String>,
    },
}

impl Question {
    /// How long the answer may take.
    fn patience(&self) -> Duration {
        match self {
            Self::Reload => RELOAD_TIME_MAX,
            Self::Status | Self::Log { .. } | Self::Tail { .. } => ANSWER_TIME_MAX,
        }
    }
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "answer", content = "value")]
pub enum Answer {
    /// How it is.
    Status(Box<Status>),
    /// It is done; what it came to.
    Done(String),
    /// Why there is no answer.
    Error(String),
    /// To be known beside the answer, which goes on.
    Note(String),
    /// What a poll brought, in a tail.
    Live(serde_json::Value),
    /// So many lines were left out of a tail, because they were not taken fast enough.
    Missed(u64),
}

/// What the agent gives for an answer.
#[derive(Debug)]
pub enum Reply {
    /// One line.
    Answer(Answer),
    /// Some notes, then readings until somebody ends it.
    Tail(Vec<String>, Tail),
}

/// A question on its way to the agent.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// The listening socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
}

impl Server {
    /// Listens at `path`. The data folder's lock has shown that no other agent is alive here: a socket that is left
    /// there is a dead one's.
    pub fn start(path: &Path) -> io::Result<(Self, mpsc::Receiver<Asked>)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
        group::hand_over(path);
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(listen(listener, sender));
        Ok((Self { path: path.to_owned() }, receiver))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn listen(listener: UnixListener, agent: mpsc::Sender<Asked>) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let agent = agent.clone();
                tokio::spawn(async move {
                    let served = serve(stream, &agent).await;
                    debug!("a client of the control socket: {served:?}");
                    drop(place);
                });
            }
            // Out of descriptors: those that are open will end.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve(stream: UnixStream, agent: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let line = timeout(QUESTION_MAX, line(&mut reader, LINE_MAX)).await??;
    let reply = match serde_json::from_slice(&line) {
        Ok(question) => ask_agent(question, agent).await,
        Err(error) => Reply::Answer(Answer::Error(format!("no such question: {error}"))),
    };
    match reply {
        Reply::Answer(answer) => timeout(TAKE_MAX, write(&mut writer, &answer)).await?,
        Reply::Tail(notes, tail) => tokio::select! {
            poured = pour(notes, tail, &mut writer) => poured,
            // Who watches has nothing more to say: what comes is its end.
            gone = until_gone(&mut reader) => gone,
        },
    }
}

async fn pour(notes: Vec<String>, mut tail: Tail, writer: &mut OwnedWriteHalf) -> io::Result<()> {
    for note in notes {
        write(writer, &Answer::Note(note)).await?;
    }
    while let Some(line) = tail.0.recv().await {
        if line.missed > 0 {
            write(writer, &Answer::Missed(line.missed)).await?;
        }
        // As [`Answer::Live`] is written; the text is JSON already.
        let text = format!("{{\"answer\":\"live\",\"value\":{}}}\n", line.text);
        writer.write_all(text.as_bytes()).await?;
    }
    timeout(TAKE_MAX, write(writer, &Answer::Done("the agent has ended".into()))).await?
}

async fn until_gone(reader: &mut OwnedReadHalf) -> io::Result<()> {
    let mut ignored = [0; 64];
    while reader.read(&mut ignored).await? > 0 {}
    Ok(())
}

async fn write<T: Serialize>(writer: &mut OwnedWriteHalf, what: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec(what)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// A line, its end left out, of so many bytes at most.
async fn line(reader: &mut (impl AsyncRead + Unpin), limit: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(reader.take(limit)).read_until(b'\n', &mut line).await?;
    Ok(line)
}

async fn ask_agent(question: Question, agent: &mpsc::Sender<Asked>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let ended = || Reply::Answer(Answer::Error("the agent is ending".into()));
    let patience = question.patience();
    let asking = async {
        match agent.send(Asked { question, reply }).await {
            Ok(()) => answer.await.unwrap_or_else(|_| ended()),
            Err(_) => ended(),
        }
    };
    let late = || Reply::Answer(Answer::Error(format!("the agent has no answer within {} s", patience.as_secs())));
    timeout(patience, asking).await.unwrap_or_else(|_| late())
}

/// A question that was asked; answers come as long as there are some.
#[derive(Debug)]
pub struct Asking {
    reader: BufReader<OwnedReadHalf>,
    /// The agent takes the end of this for ours.
    _writer: OwnedWriteHalf,
    patience: Duration,
}

impl Asking {
    /// Asks the agent that listens at `path`.
    pub async fn begin(path: &Path, question: &Question) -> io::Result<Self> {
        let (reader, mut writer) = UnixStream::connect(path).await?.into_split();
        timeout(TAKE_MAX, write(&mut writer, question)).await??;
        let patience = question.patience() + TAKE_MAX;
        Ok(Self { reader: BufReader::new(reader), _writer: writer, patience })
    }

    /// The first answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        timeout(self.patience, self.next()).await?
    }

    /// The next one, however long it takes.
    pub async fn next(&mut self) -> io::Result<Answer> {
        let mut line = Vec::new();
        (&mut self.reader).take(ANSWER_MAX).read_until(b'\n', &mut line).await?;
        match line.last() {
            Some(b'\n') => serde_json::from_slice(&line).map_err(io::Error::from),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the agent has closed the connection")),
        }
    }
}

#[cfg(test)]
mod tests;
