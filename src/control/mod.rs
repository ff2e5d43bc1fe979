//! The control socket: one question a connection, as a line of JSON each way.
//!
//! The socket's file mode decides who may ask: its owner and its group. The server touches nothing of the agent: a
//! question goes as a message into a queue, and whoever owns the answer gives it. Bounded: a question has
//! [`LINE_MAX`] bytes, a client [`ASK_MAX`] to ask and to take the answer, and [`CLIENTS_MAX`] are served at once.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use crate::status::Status;

/// Bytes of a question.
const LINE_MAX: u64 = 4096;
/// Bytes of an answer that a client takes: far more than the status of thousands of sources.
const ANSWER_MAX: u64 = 16 << 20;
/// Time for a question and its answer.
const ASK_MAX: Duration = Duration::from_secs(60);
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
}

/// A question on its way to the agent.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub question: Question,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
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
                    let served = tokio::time::timeout(ASK_MAX, serve(stream, &agent)).await;
                    debug!("a client of the control socket: {served:?}");
                    drop(place);
                });
            }
            // Out of descriptors: those that are open will end within ASK_MAX.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn serve(stream: UnixStream, agent: &mpsc::Sender<Asked>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(LINE_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(question) => ask_agent(question, agent).await,
        Err(error) => Answer::Error(format!("no such question: {error}")),
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn ask_agent(question: Question, agent: &mpsc::Sender<Asked>) -> Answer {
    let (reply, answer) = oneshot::channel();
    let ended = || Answer::Error("the agent is ending".into());
    if agent.send(Asked { question, reply }).await.is_err() {
        return ended();
    }
    answer.await.unwrap_or_else(|_| ended())
}

/// Asks the agent that listens at `path`.
pub async fn ask(path: &Path, question: &Question) -> io::Result<Answer> {
    let asking = async {
        let (reader, mut writer) = UnixStream::connect(path).await?.into_split();
        let mut text = serde_json::to_vec(question)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(reader.take(ANSWER_MAX)).read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(io::Error::from)
    };
    tokio::time::timeout(ASK_MAX, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_is_answered_and_the_socket_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("control.sock");
        let (server, mut questions) = Server::start(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        tokio::spawn(async move {
            while let Some(asked) = questions.recv().await {
                let _ = asked.reply.send(Answer::Error("not now".into()));
            }
        });
        assert_eq!(ask(&path, &Question::Status).await.unwrap(), Answer::Error("not now".into()));
        assert!(Server::start(&path).is_err(), "two servers at one socket");
        drop(server);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn nonsense_is_answered_and_a_dead_socket_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_server, _questions) = Server::start(&path).unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"hello\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("no such question"), "{text}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ask(&folder.path().join("none.sock"), &Question::Status).await.is_err());
    }
}
