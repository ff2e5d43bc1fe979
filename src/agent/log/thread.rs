//! The thread that owns the spool: one queue in, one task at a time.
//!
//! So nothing needs a lock, and a flush takes with it all that waits (group commit). What was appended is in the
//! page cache before the answer goes back; it is durable when [`News::durable`] has passed it. A flush is due `sync`
//! after the first byte that it is for, on a real timer, so that the last reading before a lull is flushed too
//! (F-10); and at once where the publisher waits for one. It is made beside ([`super::flusher`]), while appending and
//! reading go on; only a new segment, other limits and a session's steps wait for the disk here. A disk that refuses is
//! not asked again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::drops::{Episode, Episodes, Word};
use super::flusher::Flusher;
use super::{Chunk, Command, News, SessionStep, Standing, Step};
use crate::config::{Buffer, Sync, WhenFull};
use crate::os::clock;
use crate::os::files::{self, Folder};
use crate::spool::{self, BufferState, Change, Damage, GapReason, JOURNAL_OWNER, Limits, Now, Spool};

/// Requests that one flush takes with it.
const BATCH_MAX: usize = 1024;
/// Delivery state that changed is flushed at least so often (R5), and age looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// A flush that the disk refused is tried again so much later, or when somebody waits for one.
const RETRY: Duration = Duration::from_secs(1);
/// A flush that takes longer is waited for: a disk that hangs is not written on behind its back, and the watchdog sees it.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Most bytes that one read gives; a sixteenth of a small buffer, since what is read is pinned.
const READ_BYTES_MAX: u64 = 512 << 10;
/// It is made in so many pieces: between them whoever waits for this processor gets it.
const READ_PIECES: usize = 4;
/// So many reads may wait to be sent.
const READS_AHEAD: usize = 4;

pub(super) fn limits(buffer: &Buffer) -> Limits {
    let when_full = match buffer.when_full {
        WhenFull::DropOldest => spool::WhenFull::DropOldest,
        WhenFull::DropNewest => spool::WhenFull::DropNewest,
    };
    Limits { max_size: buffer.max_size, max_age: buffer.max_age, when_full }
}

fn sync(buffer: &Buffer) -> Duration {
    match buffer.sync {
        Sync::Always => Duration::ZERO,
        Sync::Every(period) => period,
    }
}

fn read_bytes(buffer: &Buffer) -> usize {
    usize::try_from((buffer.max_size / 16).min(READ_BYTES_MAX)).unwrap_or(usize::MAX)
}

pub(super) fn say_damage(damage: &Damage) {
    let kept = damage.kept_as.as_ref().map(|name| format!(", kept as {name}")).unwrap_or_default();
    warn!("{} is damaged from byte {} to {}{kept}", damage.file, damage.from, damage.to);
}

/// F-8: nothing is dropped in silence, and nobody is told the same a thousand times.
fn say_dropped(word: &Word) {
    match word {
        Word::Begins(Episode { reason, messages, .. }) => {
            let why = match reason {
                GapReason::BufferFull => "the buffer is full",
                GapReason::Expired => "they are older than max_age",
                GapReason::Corrupt => "the disk has damaged them",
                GapReason::Rejected => "the broker refuses them",
                GapReason::TooLarge => "they are larger than the broker takes",
            };
            warn!("messages are dropped ({}): {why}; {messages} so far, a gap message says which", reason.as_str());
        }
        Word::Over(Episode { reason, messages, .. }) => {
            info!("no more messages are dropped ({}): it were {messages} in all", reason.as_str());
        }
    }
}

pub(super) fn now() -> Now {
    Now { mono: clock::now(), wall_ns: clock::wall_ns(), synced: clock::synced() }
}

pub(super) fn news(spool: &Spool<Folder>, steps_durable: u64, dropping: &[Episode]) -> News {
    News {
        appended: spool.end(),
        durable: spool.durable(),
        sendable: spool.sendable(),
        done_below: spool.delivery().done_below(),
        steps_durable,
        stats: spool.stats(),
        dropping: dropping.to_vec(),
    }
}

/// What the thread works on.
pub(super) struct Keeper {
    spool: Spool<Folder>,
    news: watch::Sender<News>,
    /// The longest time that an appended record waits for its flush.
    sync: Duration,
    runtime: Handle,
    /// Running number of the publisher's last step.
    steps: u64,
    /// That of the last one that is durable.
    steps_durable: u64,
    /// That of the last one after which a PUBREL waits.
    released: u64,
    /// Somebody waits for a flush.
    waits: bool,
    /// Bytes that one read gives.
    read_bytes: usize,
    /// The disk has refused a flush: it is not tried by itself before.
    retry_at: Duration,
    /// When housekeeping was done last.
    kept_at: Duration,
    /// Whose record is to be written.
    accepted: Vec<oneshot::Sender<bool>>,
    /// Whose steps of the journal of commands are to be durable.
    journalled: Vec<Journalled>,
    flusher: Flusher,
    /// What the flush that is under way is for.
    flight: Option<Flight>,
    /// What is dropped, as it was said.
    drops: Episodes,
    /// What was said last of the disk; any call may change how it is.
    said: BufferState,
}

/// Who waits for a step of the journal to be durable.
type Journalled = oneshot::Sender<Result<(), String>>;

/// How [`Keeper::keep`] flushes.
enum Flush {
    /// What is due, and goes on meanwhile.
    IfDue,
    /// All of it, before anything else.
    Here,
}

/// What the thread waits for.
enum Event {
    Flushed(files::Flush),
    Asked(Command),
    /// Everybody who could ask is gone.
    Alone,
    Due,
}

/// A flush that is under way.
struct Flight {
    since: Duration,
    /// The publisher's last step that it holds.
    steps: u64,
    journalled: Vec<Journalled>,
}

impl Keeper {
    pub(super) fn new(spool: Spool<Folder>, news: watch::Sender<News>, buffer: &Buffer) -> std::io::Result<Self> {
        Ok(Self {
            said: spool.stats().state,
            spool,
            news,
            sync: sync(buffer),
            runtime: Handle::current(),
            steps: 0,
            steps_durable: 0,
            released: 0,
            waits: false,
            read_bytes: read_bytes(buffer),
            retry_at: Duration::ZERO,
            kept_at: clock::now(),
            accepted: Vec::new(),
            journalled: Vec::new(),
            flusher: Flusher::start()?,
            flight: None,
            drops: Episodes::default(),
        })
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let wait = self.due().saturating_sub(clock::now());
            let (runtime, flusher) = (&self.runtime, &mut self.flusher);
            let event = runtime.block_on(async {
                tokio::select! {
                    flush = flusher.made() => Event::Flushed(flush),
                    command = commands.recv() => command.map_or(Event::Alone, Event::Asked),
                    () = tokio::time::sleep(wait) => Event::Due,
                }
            });
            let mut stop = None;
            match event {
                Event::Flushed(flush) => self.flushed(flush),
                Event::Asked(command) => stop = self.take(command, &mut commands),
                Event::Alone => stop = Some(None),
                Event::Due => {}
            }
            self.keep(if stop.is_some() { &Flush::Here } else { &Flush::IfDue });
            if let Some(reply) = stop {
                // A clean end leaves nothing in doubt for the next start.
                if let Err(error) = self.spool.close(now()) {
                    warn!("the buffer is closed, but not all of it is on the disk: {error}");
                }
                if let Some(reply) = reply {
                    answer(reply, ());
                }
                return;
            }
        }
    }

    /// When a flush or housekeeping is due. While one is under way, when it is late.
    fn due(&self) -> Duration {
        let housekeeping = self.kept_at + HOUSEKEEPING;
        let late = self.flight.as_ref().map(|flight| flight.since + FLUSH_MAX);
        late.or_else(|| self.flush_due()).map_or(housekeeping, |flush| housekeeping.min(flush))
    }

    fn flush_due(&self) -> Option<Duration> {
        self.spool.unsynced_since().map(|since| self.retry_at.max(since + self.sync))
    }

    /// Does what was asked, with all else that waits in the queue.
    fn take(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) -> Option<Option<oneshot::Sender<()>>> {
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some(command) = next.take().or_else(|| commands.try_recv().ok()) else { break };
            if let Some(reply) = self.obey(command) {
                return Some(Some(reply));
            }
        }
        None
    }

    /// Sees to what is due, and tells the news.
    fn keep(&mut self, flush: &Flush) {
        let now = now();
        if self.flight.as_ref().is_some_and(|flight| now.mono >= flight.since + FLUSH_MAX) {
            let made = self.flusher.wait();
            made.into_iter().for_each(|flush| self.flushed(flush));
        }
        let housekeeping = now.mono >= self.kept_at + HOUSEKEEPING;
        let mut outcome = self.write(now);
        let flush_due = self.flight.is_none() && self.flush_due().is_some_and(|due| now.mono >= due);
        self.waits |= housekeeping || flush_due;
        // The publisher goes on meanwhile with what it may send and has read.
        let due = self.waits || self.spool.wants_sync();
        match flush {
            Flush::Here => outcome = self.flush_here(now),
            Flush::IfDue if due && self.flight.is_none() => outcome = self.begin_flush(now),
            Flush::IfDue => {}
        }
        self.spool.take_damage().iter().for_each(say_damage);
        if housekeeping {
            self.kept_at = now.mono;
            outcome = outcome.and(self.spool.retain(now));
        }
        if self.spool.unsynced_since().is_none() {
            self.steps_durable = self.steps;
        }
        let words = self.drops.look(now.mono, now.wall_ns, self.spool.drops());
        words.iter().for_each(say_dropped);
        let news = news(&self.spool, self.steps_durable, self.drops.open());
        match (std::mem::replace(&mut self.said, news.stats.state), news.stats.state) {
            (BufferState::Ok, BufferState::Memory) => {
                let why = self.spool.trouble().map(ToString::to_string);
                let why = why.or_else(|| outcome.err().map(|error| error.to_string()));
                let why = why.unwrap_or_else(|| spool::Error::Full.to_string());
                error!("the disk refuses writes, readings are kept in memory: {why}");
            }
            (BufferState::Memory, BufferState::Ok) => info!("the disk takes writes again"),
            _ => {}
        }
        // A backlog's acknowledgements come by the thousand: the figures alone wake nobody.
        let released = self.released;
        self.news.send_if_modified(|old| {
            let may_release = old.steps_durable < released && news.steps_durable >= released;
            let may_send = |news: &News| (news.appended, news.durable, news.sendable);
            let wakes = may_release || may_send(old) != may_send(&news);
            *old = news;
            wakes
        });
    }

    /// Flushes, and waits for the disk.
    fn flush_here(&mut self, now: Now) -> Result<(), spool::Error> {
        self.waits = false;
        let outcome = self.spool.sync(now);
        let journalled = std::mem::take(&mut self.journalled);
        self.flush_over(now, &outcome, journalled);
        outcome
    }

    /// Begins a flush; what comes meanwhile waits for the next one.
    fn begin_flush(&mut self, now: Now) -> Result<(), spool::Error> {
        self.waits = false;
        let journalled = std::mem::take(&mut self.journalled);
        match self.spool.begin_sync(now) {
            Ok(Some(flush)) => {
                self.flight = Some(Flight { since: now.mono, steps: self.steps, journalled });
                self.flusher.make(flush);
                Ok(())
            }
            other => {
                let outcome = other.map(drop);
                self.flush_over(now, &outcome, journalled);
                outcome
            }
        }
    }

    /// The flush that was under way is made.
    fn flushed(&mut self, flush: files::Flush) {
        let now = now();
        let outcome = self.spool.end_sync(now, flush);
        let Some(flight) = self.flight.take() else { return };
        if outcome.is_ok() {
            self.steps_durable = self.steps_durable.max(flight.steps);
        }
        self.flush_over(now, &outcome, flight.journalled);
    }

    fn flush_over(&mut self, now: Now, outcome: &Result<(), spool::Error>, journalled: Vec<Journalled>) {
        self.retry_at = if outcome.is_err() { now.mono + RETRY } else { Duration::ZERO };
        for reply in journalled {
            answer(reply, outcome.clone().map_err(|error| error.to_string()));
        }
    }

    /// Writes what came to the page cache, what came at once in one write; then it is accepted.
    fn write(&mut self, now: Now) -> Result<(), spool::Error> {
        let written = self.spool.flush_state(now);
        std::mem::take(&mut self.accepted).into_iter().for_each(|reply| answer(reply, true));
        written
    }

    fn obey(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            Command::Append { route, messages, time_ns, payload, reply } => {
                match self.spool.push(now(), &route, messages, time_ns, payload) {
                    Ok(_) => self.accepted.push(reply),
                    Err(error) => {
                        error!(source = %route.source, "a poll's readings can't be kept: {error}");
                        answer(reply, false);
                    }
                }
            }
            Command::Read { from, reply } => answer(reply, self.read(from)),
            Command::Steps { what, last } => {
                if what.iter().any(|step| matches!(step, Step::Released(_))) {
                    self.released = last;
                }
                what.into_iter().for_each(|step| self.step(step));
                self.steps = last;
            }
            Command::Session(step, reply) => answer(reply, self.session(step)),
            Command::Values { owner, reply } => {
                let value = |key: &str| Some((key.to_owned(), self.spool.value(&owner, key)?.to_vec()));
                answer(reply, self.spool.keys(&owner).filter_map(value).collect());
            }
            Command::SetValue { owner, key, value, reply } => {
                let outcome = self.spool.set_value(now(), &owner, &key, value.as_deref());
                answer(reply, outcome.map_err(|error| error.to_string()));
            }
            Command::Journal { changes, reply } => self.journal(changes, reply),
            Command::Limits { buffer, reply } => {
                (self.sync, self.read_bytes) = (sync(&buffer), read_bytes(&buffer));
                let outcome = self.spool.set_limits(now(), limits(&buffer));
                answer(reply, outcome.map_err(|error| error.to_string()));
            }
            Command::Flush => self.waits = true,
            Command::Stop(reply) => return Some(reply),
        }
        None
    }

    /// Keeps a step of the journal. The next flush answers.
    fn journal(&mut self, changes: Vec<Change>, reply: oneshot::Sender<Result<(), String>>) {
        for Change { key, value } in changes {
            if let Err(error) = self.spool.set_value(now(), JOURNAL_OWNER, &key, value.as_deref()) {
                return answer(reply, Err(error.to_string()));
            }
        }
        self.journalled.push(reply);
        self.waits = true;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Sent(numbers) => self.spool.sent_all(numbers),
            Step::Done(numbers) => self.spool.done_all(numbers),
            Step::Released(number) => {
                self.spool.released(number);
                self.waits = true;
            }
            Step::Refused(refusal) => self.spool.refused(now(), &refusal),
            Step::GivenUp(number) => self.spool.given_up(number),
        }
    }

    fn session(&mut self, step: SessionStep) -> Standing {
        match step {
            SessionStep::Look => {}
            SessionStep::Connecting => self.spool.set_connecting(!self.spool.delivery().released().is_empty()),
            SessionStep::New => {
                self.spool.connected();
                self.spool.new_session();
                self.spool.set_clean(false);
            }
            SessionStep::Resumed => {
                self.spool.connected();
                self.spool.set_connecting(false);
            }
            SessionStep::Distrust => self.spool.set_clean(true),
        }
        if self.spool.unsynced_since().is_some() && step != SessionStep::Look {
            // Where the disk refuses, the agent goes on in memory, and `keep` has said so.
            self.keep_now();
        }
        let delivery = self.spool.delivery();
        Standing {
            done_below: delivery.done_below(),
            sent_below: delivery.sent_below(),
            released: delivery.released().to_vec(),
            connecting: delivery.connecting(),
            clean: delivery.clean(),
        }
    }

    fn keep_now(&mut self) {
        self.keep(&Flush::Here);
    }

    fn read(&mut self, from: u64) -> Chunk {
        let (mut entries, mut next) = (Vec::new(), from);
        for _ in 0..READ_PIECES {
            let count = entries.len();
            match self.spool.read(next, self.read_bytes / READ_PIECES, &mut entries) {
                Ok(end) => next = end,
                Err(error) => warn!("the buffer can't be read: {error}"),
            }
            if entries.len() == count {
                break;
            }
            std::thread::yield_now();
        }
        // What is read is sent: nothing of it may be dropped and named by a gap in between.
        self.spool.pin(next);
        let delivery = self.spool.delivery();
        let numbers = entries.iter().flat_map(|entry| entry.first..entry.first + u64::from(entry.messages));
        let mut settled: BTreeSet<u64> = numbers.filter(|&number| delivery.is_done(number)).collect();
        settled.extend(delivery.released());
        Chunk { entries, settled, next, ahead: self.read_bytes.saturating_mul(READS_AHEAD) }
    }
}

/// Who asked may be gone.
fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

#[cfg(test)]
mod tests;
