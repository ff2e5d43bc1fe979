//! The thread that flushes, so that the log's own does not wait for the disk.
//!
//! Owns nothing but the flush that is under way. Invariant: each flush that is given comes back once, made.

use std::sync::mpsc::{self, SendError};

use tokio::sync::mpsc as queue;

use crate::os::files::Flush;

/// See the module. Ends when it is dropped, and what it has is made.
pub struct Flusher {
    jobs: mpsc::Sender<Flush>,
    made: queue::Receiver<Flush>,
    /// One that found no thread: whoever ends it makes it.
    left: Option<Flush>,
}

impl Flusher {
    pub fn start() -> std::io::Result<Self> {
        let (jobs, given) = mpsc::channel::<Flush>();
        let (answers, made) = queue::channel(1);
        let work = move || {
            while let Ok(mut flush) = given.recv() {
                flush.make();
                if answers.blocking_send(flush).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("flush".into()).spawn(work)?;
        Ok(Self { jobs, made, left: None })
    }

    /// Begins to make it.
    pub fn make(&mut self, flush: Flush) {
        if let Err(SendError(flush)) = self.jobs.send(flush) {
            self.left = Some(flush);
        }
    }

    /// The next one that is made; waits for ever where none was given. Cancel safe.
    pub async fn made(&mut self) -> Flush {
        if let Some(flush) = self.left.take() {
            return flush;
        }
        match self.made.recv().await {
            Some(flush) => flush,
            None => std::future::pending().await,
        }
    }

    /// As [`Self::made`], with the thread standing still; `None` where none was given and there is no thread.
    pub fn wait(&mut self) -> Option<Flush> {
        self.left.take().or_else(|| self.made.blocking_recv())
    }
}
