//! The command journal: which commands were taken, begun and answered, so that one id runs once (R10).
//!
//! ```text
//!            accept               begin                 finish              acknowledged
//!   (new) ───────────▶ accepted ─────────▶ begun ──────────────▶ answered ───────────────▶ done: the id alone
//!                         │ finish (expired, denied ...)            ▲
//!                         └─────────────────────────────────────────┘
//!   after a start:     run it          answer "interrupted"    send the answer         run nothing; asked again, the
//!                                                                                      same answer, if it was short
//! ```
//!
//! Owns the list; the spool keeps it, as values of the owner [`JOURNAL_OWNER`] with a quota of their own. Each step
//! gives the [`Change`]s that have to be durable before the step counts: `accept` before the PUBACK or PUBREC, `begin`
//! before the plugin is called, `finish` before the answer is sent; `acknowledged` may be late (an answer is then sent
//! again). A change is one value: a crash leaves the step done or not done.
//!
//! Invariants: a command that was begun is never given out to be run again; ids that are remembered leave oldest
//! first; all values together stay within the quota; memory is bounded by it.

use std::collections::BTreeMap;

use super::bytes::{Put, Take};
use super::types::{Now, SOURCE_MAX};

/// Whose values these are.
pub const JOURNAL_OWNER: &str = "command";
/// The longest id of a command, bytes of UTF-8.
pub const COMMAND_ID_MAX: usize = 128;
/// Commands that are not done, at once.
pub const COMMANDS_OPEN_MAX: usize = 64;
/// Ids of commands that are done are remembered: so many at the most ...
pub const COMMANDS_DONE_MAX: usize = 512;
/// ... with answers of so many bytes, as long as there is room ...
pub const ANSWER_KEPT_MAX: usize = 512;
/// ... and for so long, by a wall clock that was set; seconds. Longer than brokers keep a session by default.
pub const COMMANDS_DONE_AGE_MAX_S: i64 = 7 * 86_400;

/// A command that was taken from the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The source that it is for.
    pub source: String,
    /// Its id; unique for a source.
    pub id: String,
    /// What came: kept as it is.
    pub body: Vec<u8>,
    /// When it lapses, nanoseconds since 1970.
    pub expires_ns: Option<i64>,
    /// Where the answer goes.
    pub reply: Reply,
}

/// Where an answer goes, and what it carries back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The response topic; without one the configured reply topic.
    pub topic: Option<String>,
    /// Correlation data.
    pub correlation: Option<Vec<u8>>,
    /// QoS at which the command came, 0 to 2.
    pub qos: u8,
}

/// An answer that no broker has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The command's source.
    pub source: String,
    /// The command's id.
    pub id: String,
    /// Where it goes.
    pub reply: Reply,
    /// What is said. `None` where it was too large to be kept: the command has run, its result is lost.
    pub body: Option<Vec<u8>>,
}

/// What is to be done after a start, each in the order in which the commands were taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Never begun: to be run, unless they have lapsed.
    pub to_run: Vec<Command>,
    /// Begun and never answered: each is to be finished with `interrupted`, and not to be run. Without their bodies.
    pub interrupted: Vec<Command>,
    /// Answered, and not acknowledged: to be sent.
    pub answers: Vec<Answer>,
}

/// Why a command is not taken. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The id is empty or longer than [`COMMAND_ID_MAX`].
    #[error("a command's id has 1 to {COMMAND_ID_MAX} bytes")]
    Id,
    /// The same id was taken before; [`Journal::standing`] says how far it is.
    #[error("a command with this id was taken before")]
    Known,
    /// Too many are open, or they take too much room: another time.
    #[error("too many commands wait")]
    Busy,
    /// Larger than the journal ever takes.
    #[error("a command may have {limit} bytes")]
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Taken, and waits.
    Accepted,
    /// The plugin was called.
    Begun,
    /// The answer waits for its acknowledgement.
    Answered,
    /// All is over.
    Done,
}

/// A value to be written, or removed: see [`Spool::set_value`](super::Spool::set_value) with [`JOURNAL_OWNER`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// The value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// All commands that are known. See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    pub(super) known: BTreeMap<String, Kept>,
    /// Order of the next one.
    next: u64,
    /// Bytes that all values may take.
    quota: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    order: u64,
    standing: Standing,
    /// When it was taken or done, if the clock was set.
    time_ns: Option<i64>,
    expires_ns: Option<i64>,
    reply: Reply,
    /// The command's, later the answer's.
    body: Option<Vec<u8>>,
}

/// What the spool counts for a value beside key and bytes, its owner included.
const VALUE_REST: usize = JOURNAL_OWNER.len() + 8;

impl Journal {
    /// What the values say, after a start. `quota` is how many bytes they may take together
    /// ([`Spool::values_max`](super::Spool::values_max)). What can't be read (a later version's) is left alone.
    pub fn load<'a>(values: impl Iterator<Item = (&'a str, &'a [u8])>, quota: usize) -> (Self, Unfinished) {
        let mut journal = Self { quota, ..Self::default() };
        for (key, value) in values {
            if let Some(entry) = Kept::decode(value).filter(|_| key.contains('/')) {
                journal.next = journal.next.max(entry.order.saturating_add(1));
                journal.known.insert(key.to_owned(), entry);
            }
        }
        let unfinished = journal.unfinished();
        (journal, unfinished)
    }

    fn unfinished(&self) -> Unfinished {
        let mut open: Vec<(&String, &Kept)> = self.known.iter().collect();
        open.sort_by_key(|(_, entry)| entry.order);
        let mut unfinished = Unfinished::default();
        for (key, entry) in open {
            let Some((source, id)) = key.split_once('/') else { continue };
            let (source, id, reply) = (source.to_owned(), id.to_owned(), entry.reply.clone());
            let body = entry.body.clone();
            match entry.standing {
                Standing::Accepted | Standing::Begun => {
                    let body = body.unwrap_or_default();
                    let command = Command { source, id, body, expires_ns: entry.expires_ns, reply };
                    let accepted = entry.standing == Standing::Accepted;
                    if accepted { &mut unfinished.to_run } else { &mut unfinished.interrupted }.push(command);
                }
                Standing::Answered => unfinished.answers.push(Answer { source, id, reply, body }),
                Standing::Done => {}
            }
        }
        unfinished
    }

    /// How far the command is, if it is known.
    pub fn standing(&self, source: &str, id: &str) -> Option<Standing> {
        self.known.get(&key(source, id)).map(|entry| entry.standing)
    }

    /// What the command was answered, where that is still known: for whoever sends the same id again.
    pub fn answer(&self, source: &str, id: &str) -> Option<&[u8]> {
        let answered = |entry: &&Kept| matches!(entry.standing, Standing::Answered | Standing::Done);
        self.known.get(&key(source, id)).filter(answered)?.body.as_deref()
    }

    /// The largest command that is ever taken: body, id, response topic and correlation data together.
    pub fn command_max(&self) -> usize {
        self.open_quota().saturating_sub(VALUE_REST + ENTRY_REST)
    }

    /// A command came: durable before its PUBACK or PUBREC.
    pub fn accept(&mut self, now: Now, command: Command) -> Result<Vec<Change>, NotTaken> {
        let key = key(&command.source, &command.id);
        if command.id.is_empty() || command.id.len() > COMMAND_ID_MAX || key.len() > SOURCE_MAX {
            return Err(NotTaken::Id);
        }
        if self.known.contains_key(&key) {
            return Err(NotTaken::Known);
        }
        let entry = Kept {
            order: self.next,
            standing: Standing::Accepted,
            time_ns: now.synced.then_some(now.wall_ns),
            expires_ns: command.expires_ns,
            reply: command.reply,
            body: Some(command.body),
        };
        if entry.size(&key) > self.open_quota() {
            return Err(NotTaken::TooLarge { limit: self.command_max() });
        }
        let open = self.known.values().filter(|entry| entry.standing != Standing::Done).count();
        if open >= COMMANDS_OPEN_MAX || self.open_bytes() + entry.size(&key) > self.open_quota() {
            return Err(NotTaken::Busy);
        }
        self.next = self.next.saturating_add(1);
        let mut changes = self.forget(now);
        changes.push(self.put(key, entry));
        Ok(changes)
    }

    /// The plugin is about to be called: durable before it is. Empty if the command does not wait (any more).
    pub fn begin(&mut self, source: &str, id: &str) -> Vec<Change> {
        let key = key(source, id);
        let waits = self.known.get(&key).filter(|entry| entry.standing == Standing::Accepted);
        let Some(entry) = waits.cloned() else { return Vec::new() };
        // Its body is not needed any more: it is never run again.
        vec![self.put(key, Kept { standing: Standing::Begun, body: None, ..entry })]
    }

    /// It has its answer: durable before that is sent. An answer that does not fit is not kept; see [`Answer::body`].
    pub fn finish(&mut self, source: &str, id: &str, answer: Vec<u8>) -> Vec<Change> {
        let key = key(source, id);
        let open = |entry: &&Kept| matches!(entry.standing, Standing::Accepted | Standing::Begun);
        let Some(entry) = self.known.get(&key).filter(open).cloned() else { return Vec::new() };
        let others = self.open_bytes().saturating_sub(entry.size(&key));
        let mut entry = Kept { standing: Standing::Answered, body: Some(answer), ..entry };
        if others + entry.size(&key) > self.open_quota() {
            entry.body = None;
        }
        vec![self.put(key, entry)]
    }

    /// The broker has the answer: only the id is remembered, and a short answer. May become durable late.
    pub fn acknowledged(&mut self, now: Now, source: &str, id: &str) -> Vec<Change> {
        let key = key(source, id);
        let answered = self.known.get(&key).filter(|entry| entry.standing == Standing::Answered);
        let Some((order, body)) = answered.map(|entry| (entry.order, entry.body.clone())) else { return Vec::new() };
        let time_ns = now.synced.then_some(now.wall_ns);
        let body = body.filter(|body| body.len() <= ANSWER_KEPT_MAX);
        let done = Kept { order, standing: Standing::Done, time_ns, expires_ns: None, reply: Reply::default(), body };
        let mut changes = vec![self.put(key, done)];
        changes.extend(self.forget(now));
        changes
    }

    /// Ids that are done leave, oldest first: by number, by age, by the room that they take. Their answers leave before.
    fn forget(&mut self, now: Now) -> Vec<Change> {
        let mut done: Vec<(u64, String, usize, Option<i64>)> = self
            .known
            .iter()
            .filter(|(_, entry)| entry.standing == Standing::Done)
            .map(|(key, entry)| (entry.order, key.clone(), entry.size(key), entry.time_ns))
            .collect();
        done.sort();
        let mut bytes: usize = done.iter().map(|(_, _, size, _)| size).sum();
        let mut count = done.len();
        let oldest = now.wall_ns.saturating_sub(COMMANDS_DONE_AGE_MAX_S * 1_000_000_000);
        let mut changes = Vec::new();
        for (_, key, size, _) in &mut done {
            let Some(entry) = self.known.get(key).filter(|entry| entry.body.is_some()) else { continue };
            if bytes > self.quota / 2 {
                let bare = Kept { body: None, ..entry.clone() };
                bytes -= size.saturating_sub(bare.size(key));
                *size = bare.size(key);
                changes.push(self.put(key.clone(), bare));
            }
        }
        for (_, key, size, time_ns) in done {
            let old = now.synced && time_ns.is_some_and(|time| time < oldest);
            if count > COMMANDS_DONE_MAX || bytes > self.quota / 2 || old {
                count -= 1;
                bytes -= size;
                self.known.remove(&key);
                changes.push(Change { key, value: None });
            }
        }
        changes
    }

    fn put(&mut self, key: String, entry: Kept) -> Change {
        let value = Some(entry.encode());
        self.known.insert(key.clone(), entry);
        Change { key, value }
    }

    /// Half of the room is for what is open, the other half for ids.
    fn open_quota(&self) -> usize {
        self.quota / 2
    }

    fn open_bytes(&self) -> usize {
        let open = self.known.iter().filter(|(_, entry)| entry.standing != Standing::Done);
        open.map(|(key, entry)| entry.size(key)).sum()
    }
}

/// Names of sources have no slash.
fn key(source: &str, id: &str) -> String {
    format!("{source}/{id}")
}

/// The version of an entry's encoding.
const VERSION: u8 = 1;
/// Bytes of an entry beside body, topic and correlation data, at the most.
const ENTRY_REST: usize = 1 + 1 + 1 + 1 + 8 + 9 + 9 + 3 * 5;

impl Kept {
    pub(super) fn size(&self, key: &str) -> usize {
        let reply =
            self.reply.topic.as_ref().map_or(0, String::len) + self.reply.correlation.as_ref().map_or(0, Vec::len);
        VALUE_REST + key.len() + ENTRY_REST + reply + self.body.as_ref().map_or(0, Vec::len)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(VERSION);
        out.put_u8(match self.standing {
            Standing::Accepted => 1,
            Standing::Begun => 2,
            Standing::Answered => 3,
            Standing::Done => 4,
        });
        out.put_u64(self.order);
        put_time(&mut out, self.time_ns);
        if self.standing == Standing::Done {
            put_bytes(&mut out, self.body.as_deref());
            return out;
        }
        put_time(&mut out, self.expires_ns);
        out.put_u8(self.reply.qos);
        put_bytes(&mut out, self.reply.topic.as_ref().map(String::as_bytes));
        put_bytes(&mut out, self.reply.correlation.as_deref());
        put_bytes(&mut out, self.body.as_deref());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take::new(bytes);
        if take.u8()? != VERSION {
            return None;
        }
        let standing = match take.u8()? {
            1 => Standing::Accepted,
            2 => Standing::Begun,
            3 => Standing::Answered,
            4 => Standing::Done,
            _ => return None,
        };
        let (order, time_ns) = (take.u64()?, take_time(&mut take)?);
        if standing == Standing::Done {
            let body = take_bytes(&mut take)?;
            return Some(Self { order, standing, time_ns, expires_ns: None, reply: Reply::default(), body });
        }
        let expires_ns = take_time(&mut take)?;
        let qos = take.u8()?;
        let topic = match take_bytes(&mut take)? {
            Some(bytes) => Some(String::from_utf8(bytes).ok()?),
            None => None,
        };
        let reply = Reply { topic, correlation: take_bytes(&mut take)?, qos };
        Some(Self { order, standing, time_ns, expires_ns, reply, body: take_bytes(&mut take)? })
    }
}

fn put_time(out: &mut Vec<u8>, time: Option<i64>) {
    out.put_u8(u8::from(time.is_some()));
    if let Some(time) = time {
        out.put_i64(time);
    }
}

fn take_time(take: &mut Take<'_>) -> Option<Option<i64>> {
    if take.u8()? == 0 { Some(None) } else { take.i64().map(Some) }
}

/// One more than the length, so that nothing is not the same as empty.
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.put_varint(bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn take_bytes(take: &mut Take<'_>) -> Option<Option<Vec<u8>>> {
    match take.varint()?.checked_sub(1) {
        None => Some(None),
        Some(length) => Some(Some(take.bytes(usize::try_from(length).ok()?)?.to_vec())),
    }
}
