//! The desk: decides what becomes of each command that came, in the order in which they came.
//!
//! ```text
//!  arrived ─▶ refused ───────────────────────────────────────────────▶ answer (not in the journal)
//!     └─▶ accepted, waits ─▶ lapsed ──────────────────┐
//!                  └─▶ begun, at its source ─▶ done ──┴─▶ answer ─▶ acknowledged by the broker
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::{ANSWERS_MAX, Answer, Arrived, Ask, Job, Rules, Takers, WAITING_MAX, Word};
use crate::agent::log::Log;
use crate::encode::command::{self, Arrival, Refusal, Refused};
use crate::os::clock;
use crate::plugin::{Command, Rejection};
use crate::spool::{self, Journal, NotTaken, Now, Reply, Unfinished};

/// How often it is looked whether what waits has lapsed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is said of an answer that was too large to be kept.
const RESULT_LOST: &str = "it ran, but its result was too large to be kept over a restart";

/// A command that waits, or runs.
struct Waiting {
    command: Command,
    lapses_ns: i64,
    reply: Reply,
}

/// What is known of a source.
#[derive(Default)]
struct Station {
    queue: VecDeque<Waiting>,
    running: Option<Waiting>,
    /// How it is told that something waits; `None`: it takes no commands, or has not said so.
    work: Option<watch::Sender<usize>>,
    /// It said that its plugin takes none.
    takes_none: bool,
}

/// An answer that no broker has acknowledged.
struct Pending {
    /// Whose, where it stands in the journal.
    key: Option<(String, String)>,
    answer: Answer,
}

struct Desk {
    log: Log,
    journal: Journal,
    rules: Rules,
    words: Option<mpsc::Sender<Word>>,
    stations: BTreeMap<String, Station>,
    answers: BTreeMap<u64, Pending>,
    next_token: u64,
    /// Refusals that nobody was told of.
    dropped: u64,
    takers: watch::Sender<Takers>,
}

/// Runs the desk until nobody asks any more, or the log has ended.
pub(super) async fn run(
    log: Log,
    mut rules: watch::Receiver<Rules>,
    mut asks: mpsc::Receiver<Ask>,
    takers: watch::Sender<Takers>,
) {
    // Until there is a configuration nobody knows whom the last start's commands were for.
    if rules.changed().await.is_err() {
        return;
    }
    let Ok((journal, unfinished)) = log.journal().await else { return };
    let mut desk = Desk {
        log,
        journal,
        rules: rules.borrow_and_update().clone(),
        words: None,
        stations: BTreeMap::new(),
        answers: BTreeMap::new(),
        next_token: 0,
        dropped: 0,
        takers,
    };
    desk.take_up(unfinished).await;
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        desk.tell_takers();
        let waits = desk.stations.values().any(|station| !station.queue.is_empty());
        tokio::select! {
            ask = asks.recv() => match ask {
                Some(ask) => desk.obey(ask).await,
                None => return,
            },
            Ok(()) = rules.changed() => {
                desk.rules = rules.borrow_and_update().clone();
                desk.removed().await;
            }
            _ = look.tick(), if waits => desk.lapse().await,
        }
    }
}

fn now() -> Now {
    Now { mono: clock::now(), wall_ns: clock::wall_ns(), synced: clock::synced() }
}

impl Desk {
    /// What the process before this one left (R10).
    async fn take_up(&mut self, unfinished: Unfinished) {
        for spool::Command { source, id, body, expires_ns, reply } in unfinished.to_run {
            // It was read when it was taken; without a time it would be older than anything.
            let lapses_ns = expires_ns.unwrap_or(i64::MIN);
            match command::Command::read(&body) {
                Ok(read) => {
                    info!(source, id, "a command of the last start waits");
                    let command = Command { id: read.id, name: read.name, args: read.args };
                    let station = self.stations.entry(source).or_default();
                    station.queue.push_back(Waiting { command, lapses_ns, reply });
                }
                Err(refused) => self.finish(&source, &id, reply, refused.answer()).await,
            }
        }
        for spool::Command { source, id, reply, .. } in unfinished.interrupted {
            warn!(source, id, "a command was interrupted by the end of the process, and is not run again");
            let why = "it had begun when the agent was cut off; how far it came is not known, and it is not run again";
            let answer = command::refusal(Some(&id), Refusal::Interrupted, why);
            self.finish(&source, &id, reply, answer).await;
        }
        for spool::Answer { source, id, reply, body } in unfinished.answers {
            let body = body.unwrap_or_else(|| command::refusal(Some(&id), Refusal::Failed, RESULT_LOST));
            self.answer(Some((source.clone(), id)), &source, &reply, body).await;
        }
        self.removed().await;
        self.lapse().await;
    }

    async fn obey(&mut self, ask: Ask) {
        match ask {
            Ask::Arrived(mut arrived) => {
                let packet = arrived.packet.take();
                self.arrived(arrived).await;
                if let Some(packet) = packet {
                    self.tell(Word::Acknowledge(packet)).await;
                }
            }
            Ask::Attach(words) => {
                self.words = Some(words);
                let waiting: Vec<Answer> = self.answers.values().map(|pending| pending.answer.clone()).collect();
                for answer in waiting {
                    self.tell(Word::Answer(answer)).await;
                }
            }
            Ask::Acknowledged(token) => self.acknowledged(token).await,
            Ask::Takes { source, work } => {
                self.gone(&source).await;
                let station = self.stations.entry(source).or_default();
                work.send_replace(station.queue.len());
                (station.work, station.takes_none) = (Some(work), false);
            }
            Ask::TakesNot(source) => {
                self.gone(&source).await;
                let station = self.stations.entry(source.clone()).or_default();
                (station.work, station.takes_none) = (None, true);
                let left = std::mem::take(&mut station.queue);
                self.refuse_all(&source, left, "its source takes no commands any more").await;
            }
            Ask::Next { source, reply } => {
                let job = self.next(&source).await;
                if reply.send(job).is_err() {
                    self.gone(&source).await;
                }
            }
            Ask::Done { source, id, result } => self.done(&source, &id, result).await,
            Ask::Look => self.look().await,
        }
    }

    /// Decides about a command. It is in the journal, or answered, when this returns.
    async fn arrived(&mut self, arrived: Arrived) {
        let source = arrived.source.clone();
        let reply = Reply { topic: arrived.response_topic.clone(), correlation: arrived.correlation.clone(), qos: 1 };
        // A retained message without contents is how a retained one is taken away.
        if arrived.retained && arrived.payload.is_empty() {
            return;
        }
        match self.judge(arrived, &reply).await {
            Ok(None) => {}
            Ok(Some(known)) => self.answer(None, &source, &reply, known).await,
            Err((refused, reply)) => {
                info!(source, id = refused.id, "a command is refused as {}: {}", refused.refusal, refused.message);
                self.answer(None, &source, &reply, refused.answer()).await;
            }
        }
    }

    /// `Ok(None)`: taken, or it is being worked on. `Ok(Some)`: it ran before, and this was the answer.
    async fn judge(&mut self, arrived: Arrived, reply: &Reply) -> Result<Option<Vec<u8>>, (Refused, Reply)> {
        let read = command::Command::read(&arrived.payload);
        let to = |refused: Refused| (refused, reply.clone());
        let id = || read.as_ref().map_or_else(|refused| refused.id.clone(), |read| Some(read.id.clone()));
        let refused = |refusal, message: String| Refused { id: id(), refusal, message };
        if let Some(why) = reply.topic.as_deref().and_then(|topic| self.rules.refuses(topic)) {
            return Err((refused(Refusal::Invalid, why.into()), Reply { topic: None, ..reply.clone() }));
        }
        if arrived.retained {
            let why = "it was kept by the broker (retained): a command is sent once, to whoever listens";
            return Err(to(refused(Refusal::Retained, why.into())));
        }
        let source = &arrived.source;
        if !self.rules.sources.contains(source) {
            return Err(to(refused(Refusal::Unknown, format!("there is no source \"{source}\""))));
        }
        let read = read.map_err(to)?;
        if self.journal.standing(source, &read.id).is_some() {
            debug!(source, id = read.id, "a command came again");
            return Ok(self.known(source, &read.id));
        }
        let arrival = Arrival { at_ns: clock::wall_ns(), expiry_s: arrived.expiry_s, waited: arrived.waited };
        let lapses_ns = read.lapses_ns(arrival).map_err(to)?;
        let station = self.stations.entry(source.clone()).or_default();
        if station.takes_none {
            return Err(to(read.refused(Refusal::Unknown, &format!("the source \"{source}\" takes no commands"))));
        }
        if station.queue.len() >= WAITING_MAX {
            let why = format!("{WAITING_MAX} commands wait for the source already");
            return Err(to(read.refused(Refusal::Failed, &why)));
        }
        self.accept(arrived.source.clone(), &read, arrived.payload, lapses_ns, reply).await.map_err(to)?;
        Ok(None)
    }

    /// Takes a command: it is durable when this returns (R10).
    async fn accept(
        &mut self,
        source: String,
        read: &command::Command,
        body: Vec<u8>,
        lapses_ns: i64,
        reply: &Reply,
    ) -> Result<(), Refused> {
        let expires_ns = Some(lapses_ns);
        let entry =
            spool::Command { source: source.clone(), id: read.id.clone(), body, expires_ns, reply: reply.clone() };
        let changes = self.journal.accept(now(), entry).map_err(|why| {
            let refusal = match why {
                NotTaken::Busy | NotTaken::Known => Refusal::Failed,
                NotTaken::Id | NotTaken::TooLarge { .. } => Refusal::Invalid,
            };
            read.refused(refusal, &why.to_string())
        })?;
        if let Err(why) = self.log.keep_journal(changes).await {
            // Not run: after a crash nobody would know that it had been.
            let refused = read.refused(Refusal::Failed, &format!("it can't be made durable: {why}"));
            self.forget(&source, &read.id, refused.answer()).await;
            return Err(refused);
        }
        let command = Command { id: read.id.clone(), name: read.name.clone(), args: read.args.clone() };
        let station = self.stations.entry(source).or_default();
        station.queue.push_back(Waiting { command, lapses_ns, reply: reply.clone() });
        station.tell_work();
        Ok(())
    }

    /// What is said to an id that came before; nothing as long as its own answer is to come.
    fn known(&self, source: &str, id: &str) -> Option<Vec<u8>> {
        match self.journal.standing(source, id)? {
            spool::Standing::Accepted | spool::Standing::Begun => None,
            spool::Standing::Answered | spool::Standing::Done => Some(self.journal.answer(source, id).map_or_else(
                || command::refusal(Some(id), Refusal::Failed, "this id ran before; its answer is not kept any more"),
                <[u8]>::to_vec,
            )),
        }
    }

    /// The next command that has not lapsed: "begun" is durable when it is given out.
    async fn next(&mut self, source: &str) -> Option<Job> {
        loop {
            let station = self.stations.get_mut(source)?;
            let waiting = station.queue.pop_front();
            station.tell_work();
            let waiting = waiting?;
            let id = waiting.command.id.clone();
            if waiting.lapses_ns <= clock::wall_ns() {
                self.lapsed(source, waiting).await;
                continue;
            }
            let changes = self.journal.begin(source, &id);
            if changes.is_empty() {
                continue;
            }
            if let Err(why) = self.log.keep_journal(changes).await {
                let why = format!("it can't be made durable that it begins: {why}");
                let answer = command::refusal(Some(&id), Refusal::Failed, &why);
                self.finish(source, &id, waiting.reply, answer).await;
                continue;
            }
            let job = Job { command: waiting.command.clone() };
            self.stations.get_mut(source)?.running = Some(waiting);
            return Some(job);
        }
    }

    async fn done(&mut self, source: &str, id: &str, result: Result<String, Rejection>) {
        let Some(station) = self.stations.get_mut(source) else { return };
        let Some(ran) = station.running.take_if(|running| running.command.id == id) else { return };
        let answer = match result {
            Ok(result) => command::success(id, &result),
            Err(rejection) => {
                let name = &ran.command.name;
                let (refusal, message) = match rejection {
                    Rejection::Unknown => (Refusal::Unknown, format!("the plugin knows no command \"{name}\"")),
                    Rejection::Invalid(why) => (Refusal::Invalid, why),
                    Rejection::Denied => (Refusal::Denied, "the plugin does not allow it".into()),
                    Rejection::Failed(why) => (Refusal::Failed, why),
                };
                command::refusal(Some(id), refusal, &message)
            }
        };
        self.finish(source, id, ran.reply, answer).await;
    }

    async fn lapsed(&mut self, source: &str, waiting: Waiting) {
        let id = waiting.command.id;
        info!(source, id, "a command lapsed while it waited");
        let answer = command::refusal(Some(&id), Refusal::Expired, "it lapsed while it waited for its source");
        self.finish(source, &id, waiting.reply, answer).await;
    }

    /// Answers everything that has lapsed.
    async fn lapse(&mut self) {
        let now_ns = clock::wall_ns();
        let mut lapsed = Vec::new();
        for (source, station) in &mut self.stations {
            let (old, left) = std::mem::take(&mut station.queue).into_iter().partition(|one| one.lapses_ns <= now_ns);
            station.queue = left;
            station.tell_work();
            let old: VecDeque<Waiting> = old;
            lapsed.extend(old.into_iter().map(|one| (source.clone(), one)));
        }
        for (source, waiting) in lapsed {
            self.lapsed(&source, waiting).await;
        }
    }

    /// Sources that are not configured any more answer nothing.
    async fn removed(&mut self) {
        let gone: Vec<String> =
            self.stations.keys().filter(|source| !self.rules.sources.contains(*source)).cloned().collect();
        for source in gone {
            self.gone(&source).await;
            let left = self.stations.remove(&source).map(|station| station.queue).unwrap_or_default();
            self.refuse_all(&source, left, "its source was removed").await;
        }
    }

    async fn refuse_all(&mut self, source: &str, left: VecDeque<Waiting>, why: &str) {
        for Waiting { command, reply, .. } in left {
            let answer = command::refusal(Some(&command.id), Refusal::Failed, why);
            self.finish(source, &command.id, reply, answer).await;
        }
    }

    /// Some source may have let go of its commands.
    async fn look(&mut self) {
        let let_go = |station: &Station| station.work.as_ref().is_some_and(watch::Sender::is_closed);
        let gone: Vec<String> =
            self.stations.iter().filter(|(_, station)| let_go(station)).map(|(source, _)| source.clone()).collect();
        for source in gone {
            self.gone(&source).await;
        }
    }

    /// Whoever ran the source's commands is gone, and with it what it was at.
    async fn gone(&mut self, source: &str) {
        let Some(station) = self.stations.get_mut(source) else { return };
        station.work = None;
        let Some(Waiting { command, reply, .. }) = station.running.take() else { return };
        let answer = command::refusal(Some(&command.id), Refusal::Failed, "its source ended while it ran");
        self.finish(source, &command.id, reply, answer).await;
    }

    /// A command has its answer, which is durable before it is sent.
    async fn finish(&mut self, source: &str, id: &str, reply: Reply, answer: Vec<u8>) {
        let changes = self.journal.finish(source, id, answer.clone());
        if let Err(why) = self.log.keep_journal(changes).await {
            warn!(source, id, "the answer to a command is not durable: {why}");
        }
        self.answer(Some((source.to_owned(), id.to_owned())), source, &reply, answer).await;
    }

    /// A command that was never taken is over; its answer is not in the journal.
    async fn forget(&mut self, source: &str, id: &str, answer: Vec<u8>) {
        let mut changes = self.journal.finish(source, id, answer);
        changes.extend(self.journal.acknowledged(now(), source, id));
        if let Err(why) = self.log.keep_journal(changes).await {
            debug!(source, id, "{why}");
        }
    }

    /// An answer is to go out. `key`: it stands in the journal until a broker has it.
    async fn answer(&mut self, key: Option<(String, String)>, source: &str, reply: &Reply, payload: Vec<u8>) {
        let Some(topic) = reply.topic.clone().or_else(|| self.rules.reply_topic(source)) else {
            if let Some((source, id)) = key {
                self.settle(&source, &id).await;
            }
            return;
        };
        if key.is_none() && self.answers.len() >= ANSWERS_MAX {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                warn!("{} refusals of commands were said to nobody: {ANSWERS_MAX} answers wait", self.dropped);
            }
            return;
        }
        let token = self.next_token;
        self.next_token += 1;
        let answer = Answer { token, topic, correlation: reply.correlation.clone(), payload };
        self.answers.insert(token, Pending { key, answer: answer.clone() });
        self.tell(Word::Answer(answer)).await;
    }

    async fn acknowledged(&mut self, token: u64) {
        if let Some(Pending { key: Some((source, id)), .. }) = self.answers.remove(&token) {
            self.settle(&source, &id).await;
        }
    }

    /// Nothing more is to be said. It need not be durable at once: at worst the answer is sent once more.
    async fn settle(&mut self, source: &str, id: &str) {
        for change in self.journal.acknowledged(now(), source, id) {
            if let Err(why) = self.log.set_value(spool::JOURNAL_OWNER, change.key, change.value).await {
                debug!(source, id, "{why}");
            }
        }
    }

    async fn tell(&mut self, word: Word) {
        if let Some(words) = &self.words
            && words.send(word).await.is_err()
        {
            self.words = None;
        }
    }

    fn tell_takers(&self) {
        let takes = |source: &&String| self.stations.get(*source).is_some_and(|station| station.work.is_some());
        let said = |source: &String| {
            self.stations.get(source).is_some_and(|station| station.work.is_some() || station.takes_none)
        };
        let takers = Takers {
            sources: self.rules.sources.iter().filter(takes).cloned().collect(),
            settled: self.rules.sources.iter().all(said),
        };
        self.takers.send_if_modified(|old| {
            let changed = *old != takers;
            *old = takers;
            changed
        });
    }
}

impl Station {
    fn tell_work(&self) {
        if let Some(work) = &self.work {
            work.send_replace(self.queue.len());
        }
    }
}
