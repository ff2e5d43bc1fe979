//! The thread that owns the spool, and [`Log`], through which sources append and the publisher reads and settles.
//!
//! One queue in, one task at a time, so that nothing needs a lock and a commit takes with it all that waits
//! (group commit). What was appended is in the page cache before the answer goes back; it is durable when
//! [`News::durable`] has passed it. A flush is due `sync` after the first byte that it is for, on a real timer, so
//! that the last reading before a lull is flushed too (F-10); and at once where the publisher waits for one.

mod drops;
mod flusher;
mod open;
mod thread;

use std::collections::BTreeSet;
use std::ops::Range;

use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Buffer;
use crate::control::LINE_BYTES_MAX;
use crate::encode;
use crate::reading::Batch;
use crate::spool::{Change, Entry, JOURNAL_OWNER, Journal, MESSAGES_MAX, Refusal, Route, Stats, Unfinished};

pub use drops::Episode;
pub use open::{OpenError, Thread, open};

/// Requests that wait. A source that finds no room waits, and misses slots of its own schedule only.
const QUEUE_MAX: usize = 256;

/// What changed in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Numbers below it have been appended.
    pub appended: u64,
    /// Numbers below it survive a power cut.
    pub durable: u64,
    /// Numbers below it may be sent: the number that had their packet identifier before is durably done (R5), and
    /// a crash will know that they may have been sent.
    pub sendable: u64,
    /// Everything below it is done.
    pub done_below: u64,
    /// Steps of the publisher up to this one survive a power cut.
    pub steps_durable: u64,
    /// The spool's figures.
    pub stats: Stats,
    /// Episodes in which messages are dropped.
    pub dropping: Vec<Episode>,
}

/// Entries in order of number, and where reading goes on.
pub struct Chunk {
    /// What was read.
    pub entries: Vec<Entry>,
    /// Numbers of these entries that are not to be sent: done, or released.
    pub settled: BTreeSet<u64>,
    /// From here on next time.
    pub next: u64,
    /// Bytes that may be read ahead. What is read is pinned, so it is less in a small buffer.
    pub ahead: usize,
}

/// Where delivery stands when a connection or the process begins.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Everything below it is done.
    pub done_below: u64,
    /// Numbers below it may have been sent.
    pub sent_below: u64,
    /// Numbers whose PUBREC came and whose PUBCOMP did not, in order of PUBREC.
    pub released: Vec<u64>,
    /// The last CONNECT without Clean Start was never answered (R7).
    pub connecting: bool,
    /// The session must not be trusted: Clean Start until a CONNACK was handled (R9).
    pub clean: bool,
}

/// What the publisher learns about messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// They are with the session.
    Sent(Range<u64>),
    /// The broker has them, or they were QoS 0 and sent.
    Done(Range<u64>),
    /// PUBREC came; its PUBREL waits until this is durable (R4).
    Released(u64),
    /// It will never be taken.
    Refused(Refusal),
    /// A gap that was refused twice.
    GivenUp(u64),
}

impl Step {
    /// [`Step::Sent`] of one.
    pub fn sent(number: u64) -> Self {
        Self::Sent(number..number.saturating_add(1))
    }

    /// [`Step::Done`] of one.
    pub fn done(number: u64) -> Self {
        Self::Done(number..number.saturating_add(1))
    }

    /// Goes behind the others. While a backlog goes out thousands follow one another: they become one step.
    pub fn join(self, steps: &mut Vec<Self>) {
        // At QoS 0 each is sent and done in turn.
        for step in steps.iter_mut().rev().take(2) {
            match (step, &self) {
                (Self::Sent(before), Self::Sent(next)) | (Self::Done(before), Self::Done(next))
                    if before.end == next.start =>
                {
                    before.end = next.end;
                    return;
                }
                (Self::Sent(_) | Self::Done(_), _) => {}
                _ => break,
            }
        }
        steps.push(self);
    }
}

/// What the publisher learns about the session; durable before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStep {
    /// Nothing: only where delivery stands.
    Look,
    /// A CONNECT without Clean Start goes out (R7).
    Connecting,
    /// CONNACK: the session is a new one (R7).
    New,
    /// CONNACK: the session goes on.
    Resumed,
    /// The session is not to be trusted any more (R9).
    Distrust,
}

enum Command {
    Append {
        route: Route,
        messages: u32,
        time_ns: i64,
        payload: Vec<u8>,
        reply: oneshot::Sender<bool>,
    },
    Read {
        from: u64,
        reply: oneshot::Sender<Chunk>,
    },
    Steps {
        what: Vec<Step>,
        last: u64,
    },
    Session(SessionStep, oneshot::Sender<Standing>),
    Values {
        owner: String,
        reply: oneshot::Sender<Vec<(String, Vec<u8>)>>,
    },
    SetValue {
        owner: String,
        key: String,
        value: Option<Vec<u8>>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    #[allow(dead_code, reason = "for commands to sources")]
    Journal {
        changes: Vec<Change>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Limits {
        buffer: Buffer,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Flush,
    Stop(oneshot::Sender<()>),
}

/// How a source's batches become records.
#[derive(Clone)]
pub struct Lane {
    encoding: encode::Route,
    route: Route,
}

impl Lane {
    /// Of a source with these points and topics.
    pub fn new(encoding: encode::Route) -> Self {
        let route = Route { source: encoding.source.as_str().into(), blob: encoding.to_bytes().into() };
        Self { encoding, route }
    }

    /// A batch for who watches, as lines.
    pub fn live(&self, batch: &Batch) -> Vec<String> {
        encode::live(&self.encoding, batch, LINE_BYTES_MAX)
    }
}

/// A handle on the log. A clone is the same log.
#[derive(Clone)]
pub struct Log {
    commands: mpsc::Sender<Command>,
    news: watch::Receiver<News>,
    store: [u8; 4],
    boot: u32,
    #[allow(dead_code, reason = "for commands to sources")]
    journal_bytes_max: usize,
}

/// The log's thread has ended: the agent is ending.
#[derive(Debug, thiserror::Error)]
#[error("the log has ended")]
pub struct Ended;

impl Log {
    /// The data folder's random name.
    pub fn store(&self) -> [u8; 4] {
        self.store
    }

    /// Which start on it this is.
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// Appends a batch; gives how many of its readings were accepted. Waits where the log is behind.
    pub async fn accept(&self, lane: &Lane, batch: &Batch) -> u64 {
        let plans = encode::plan(&lane.encoding, batch);
        let mut accepted = 0;
        for part in plans.chunks(MESSAGES_MAX as usize) {
            let part_of_batch;
            let record = if part.len() == plans.len() {
                batch
            } else {
                // Whole messages, in their order: their plan alone is the same as in the whole batch.
                let readings = part.iter().flat_map(|plan| &plan.readings).filter_map(|&i| batch.readings.get(i));
                part_of_batch = Batch { readings: readings.cloned().collect(), ..*batch };
                &part_of_batch
            };
            let mut payload = Vec::new();
            record.encode(&mut payload);
            let (reply, answer) = oneshot::channel();
            let command = Command::Append {
                route: lane.route.clone(),
                messages: u32::try_from(part.len()).unwrap_or(MESSAGES_MAX),
                time_ns: batch.time.0,
                payload,
                reply,
            };
            if self.send(command).await.is_ok() && answer.await.unwrap_or(false) {
                accepted += record.readings.len() as u64;
            }
        }
        accepted
    }

    /// How things stand.
    pub fn news(&self) -> News {
        self.news.borrow().clone()
    }

    /// Waits until they stand otherwise in what decides what may be sent; figures are as they were when this was last so,
    /// or younger. Cancel safe.
    pub async fn changed(&mut self) {
        if self.news.changed().await.is_err() {
            // The end of the log is the end of the agent; whoever waits here is ended by it.
            std::future::pending::<()>().await;
        }
    }

    /// Begins a read; the answer comes by itself.
    pub async fn read(&self, from: u64) -> Result<oneshot::Receiver<Chunk>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Read { from, reply }).await?;
        Ok(answer)
    }

    /// Notes what became of messages; `last` is the running number of the last step.
    pub async fn steps(&self, what: Vec<Step>, last: u64) -> Result<(), Ended> {
        self.send(Command::Steps { what, last }).await
    }

    /// Notes what became of the session; durable when it returns.
    pub async fn session(&self, step: SessionStep) -> Result<Standing, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Session(step, reply)).await?;
        answer.await.map_err(|_| Ended)
    }

    /// Other limits of the buffer, from now on. An error says why a lower `max_size` does not hold yet.
    pub async fn set_limits(&self, buffer: &Buffer) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Limits { buffer: buffer.clone(), reply };
        self.send(command).await.map_err(|ended| ended.to_string())?;
        answer.await.map_err(|_| Ended.to_string())?
    }

    /// Asks for a flush now: somebody waits for it.
    pub async fn flush(&self) -> Result<(), Ended> {
        self.send(Command::Flush).await
    }

    /// The small durable values of an owner.
    pub async fn values(&self, owner: &str) -> Result<Vec<(String, Vec<u8>)>, Ended> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Values { owner: owner.to_owned(), reply }).await?;
        answer.await.map_err(|_| Ended)
    }

    /// Keeps such a value, or forgets it; an error says why not.
    pub async fn set_value(&self, owner: &str, key: String, value: Option<Vec<u8>>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let command = Command::SetValue { owner: owner.to_owned(), key, value, reply };
        self.send(command).await.map_err(|ended| ended.to_string())?;
        answer.await.map_err(|_| Ended.to_string())?
    }

    /// The journal of commands as the last life left it, and what is to be done about it (R10).
    #[allow(dead_code, reason = "for commands to sources")]
    pub async fn journal(&self) -> Result<(Journal, Unfinished), Ended> {
        let values = self.values(JOURNAL_OWNER).await?;
        let values = values.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        Ok(Journal::load(values, self.journal_bytes_max))
    }

    /// Keeps a step of the journal; durable when it returns `Ok`. Steps that come at once share a flush. An error says
    /// why it is not durable (the disk refuses writes); it is kept in memory then, and written when the disk is back.
    #[allow(dead_code, reason = "for commands to sources")]
    pub async fn keep_journal(&self, changes: Vec<Change>) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Journal { changes, reply }).await.map_err(|ended| ended.to_string())?;
        answer.await.map_err(|_| Ended.to_string())?
    }

    /// Whether the thread answers; waits until it does.
    pub async fn answers(&self) -> bool {
        self.session(SessionStep::Look).await.is_ok()
    }

    /// Flushes everything and ends the thread.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Command::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).await.map_err(|_| Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_becomes_one_step() {
        let mut steps = Vec::new();
        for number in 5..8 {
            Step::done(number).join(&mut steps);
        }
        Step::done(9).join(&mut steps);
        Step::sent(20).join(&mut steps);
        Step::done(10).join(&mut steps);
        Step::sent(21).join(&mut steps);
        assert_eq!(steps, [Step::Done(5..8), Step::Done(9..11), Step::Sent(20..22)]);
        let mut steps = vec![Step::done(10), Step::Released(11)];
        Step::done(11).join(&mut steps);
        assert_eq!(steps, [Step::done(10), Step::Released(11), Step::done(11)], "never before its PUBREC");
    }
}
