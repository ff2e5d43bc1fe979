//! One connection: from CONNACK to its end.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::backlog::GapRoute;
use super::blame::{Control, Trial};
use super::commands::next_word;
use super::culprit::By;
use super::give::Gave;
use super::leave::Leave;
use super::window::{Item, Origin, packet_id};
use super::{DRAIN_MAX, End, FAREWELL_MAX, Publisher, SESSION_OWNER, SPEAKS_5, Stop, stopped};
use crate::agent::commands::Word;
use crate::agent::log::{Chunk, Ended, SessionStep, Step};
use crate::config::{BrokerUrl, Template};
use crate::encode::Identity;
use crate::mqtt::reconnect::Failure;
use crate::mqtt::session::Connected;
use crate::mqtt::{PacketId, Reason, Version};
use crate::net::{Connection, Fingerprint};
use crate::os::clock;
use crate::spool::{Body, Entry, GapReason};
use crate::status::LinkState;

/// What one connection keeps beside the publisher's state.
pub(super) struct Link {
    pub(super) connection: Connection,
    /// The read that is under way.
    pub(super) reading: Option<oneshot::Receiver<Chunk>>,
    /// Steps that must be durable before their PUBREL goes out (R4).
    pub(super) releases: VecDeque<(u64, PacketId)>,
    /// Publishing rests until then.
    pub(super) paused_until: Option<Duration>,
    /// After a refusal for now: once nothing is in flight, what is not done is read again.
    pub(super) rewind: bool,
    /// When a clean stop ends at the latest; set when it begins.
    drain_until: Option<Duration>,
    /// How long that may take: little, where the end was asked for before the connection stood.
    drain_max: Duration,
    /// `stopped` was queued.
    farewell: bool,
    /// The log was asked to make this number sendable.
    flushed_for: u64,
    /// What the desk has to say to the broker: acknowledgements and answers of commands.
    words: mpsc::Receiver<Word>,
    /// What was given last, while one message at a time is (F-28).
    pub(super) trial: Option<Trial>,
    /// When it began to stand.
    pub(super) since: Duration,
    /// What shows that it works (F-28).
    pub(super) control: Control,
    /// When a message was given last.
    pub(super) given_at: Duration,
    /// A message of QoS 0 went out since the last acknowledgement.
    pub(super) sent_plain: bool,
    /// Why this connection is to be left for another one.
    pub(super) leave: Leave,
}

/// What a connection's loop does next.
enum Next {
    Go,
    /// Everything is said.
    Close(End),
    End(End),
}

impl Publisher {
    /// Publishes on a connection that stands, until it ends or the agent stops.
    pub(super) async fn serve(
        &mut self,
        connection: Connection,
        connected: &Connected,
        url: &BrokerUrl,
        files: Fingerprint,
        stop: &mut watch::Receiver<Stop>,
    ) -> Result<End, Ended> {
        self.begin(connected.session_present, url).await?;
        if !connected.session_present {
            self.session_is_new(clock::now());
        } else if !self.session_is_present(clock::now()) {
            return Ok(self.distrust("the session may be another one than ours, and can't be told apart".into()));
        }
        let note = if connected.session_present { "session resumed" } else { "new session" };
        let version = self.session.version();
        info!("connected to {url}, MQTT {version}, {note}");
        self.shown(LinkState::Connected, |status| {
            status.version = Some(version.to_string());
            status.last_error = None;
        });
        let mut link = Link {
            connection,
            reading: None,
            releases: VecDeque::new(),
            paused_until: None,
            rewind: false,
            drain_until: None,
            drain_max: if *stop.borrow() == Stop::No { DRAIN_MAX } else { FAREWELL_MAX },
            farewell: false,
            flushed_for: 0,
            words: self.intake.connected(connected.session_present).await,
            trial: None,
            since: clock::now(),
            control: Control::None,
            given_at: clock::now(),
            sent_plain: false,
            leave: Leave::new(),
        };
        self.look_around(&mut link, url, files);
        loop {
            match self.turn(&mut link, stop).await? {
                Next::Go => {}
                Next::End(end) => {
                    self.blame(&mut link, &end).await?;
                    return Ok(end);
                }
                Next::Close(end) => {
                    self.session.disconnect(Reason::SUCCESS, None);
                    if let Err(error) = link.connection.close(&mut self.session, FAREWELL_MAX).await {
                        warn!("the farewell did not reach {url}: {error}");
                    }
                    return Ok(end);
                }
            }
        }
    }

    /// After CONNACK: where to go on from is known and durable before anything is sent.
    async fn begin(&mut self, session_present: bool, url: &BrokerUrl) -> Result<(), Ended> {
        let owner = self.owner_of_session(url);
        if self.owner.as_ref() != Some(&owner) {
            self.keep(SESSION_OWNER, owner.clone().into_bytes()).await;
            self.owner = Some(owner.clone());
        }
        let speaks_5 = (self.session.version() == Version::V5).then_some(owner);
        if self.speaks_5 != speaks_5 {
            self.keep(SPEAKS_5, speaks_5.clone().unwrap_or_default().into_bytes()).await;
            self.speaks_5 = speaks_5;
        }
        let step = match (session_present, self.doubt.is_doubtful) {
            (false, _) => SessionStep::New,
            (true, false) => SessionStep::Resumed,
            // Still to be found out: what is durable stays as it is.
            (true, true) => SessionStep::Look,
        };
        let at = self.log.session(step).await?;
        self.clean = at.clean;
        self.window.rewind(at.done_below);
        at.released.iter().for_each(|&number| self.window.released(number));
        if step == SessionStep::Resumed {
            self.release(&at.released);
        }
        self.refusals.clear();
        self.rate.connected(clock::now(), self.log.news().appended);
        self.side.update(&self.metas.borrow_and_update());
        let online = self.online("online");
        self.side.connected(online);
        Ok(())
    }

    /// These are durably released: what the last connection ended before their PUBREL for has it said now (R6).
    pub(super) fn release(&mut self, released: &[u64]) {
        released.iter().for_each(|&number| self.session.release(packet_id(number)));
    }

    /// Waits for whatever comes first, and handles it.
    async fn turn(&mut self, link: &mut Link, stop: &mut watch::Receiver<Stop>) -> Result<Next, Ended> {
        if self.said_all(link) {
            return Ok(Next::Close(End::Stopped));
        }
        if link.drain_until.is_none() && self.leaves(link) {
            return Ok(Next::Close(End::Left));
        }
        let rest = match self.feed(link).await? {
            Ok(rest) => rest,
            Err(end) => return Ok(Next::End(end)),
        };
        self.tell_log().await?;
        self.subscribe_commands(clock::now()).await;
        let draining = link.drain_until.is_some();
        let Link { connection, reading, words, leave, .. } = link;
        let mut better = None;
        let mut lost = None;
        tokio::select! {
            outcome = connection.turn(&mut self.session) => lost = outcome.err(),
            chunk = read(reading) => {
                *reading = None;
                self.fill(&chunk?);
            }
            () = self.log.changed() => {}
            word = next_word(words) => self.word(word),
            () = self.intake.changed() => {}
            Ok(()) = self.metas.changed() => self.side.update(&self.metas.borrow_and_update()),
            why = leave.found(), if !draining => better = Some(why),
            how = stopped(stop), if !draining => match how {
                Stop::Handover => return Ok(Next::Close(End::Stopped)),
                _ => link.drain_until = Some(clock::now() + link.drain_max),
            },
            () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
        }
        if let Some(why) = better {
            self.leave_for(link, why);
        }
        if let Some(end) = self.events(link).await? {
            return Ok(Next::End(end));
        }
        self.shown(LinkState::Connected, |_| {});
        Ok(match lost {
            None => Next::Go,
            Some(error) => {
                let by = match error.is_by_peer(link.connection.peer().tls.is_some()) {
                    true => By::Broker(GapReason::Rejected),
                    false if error.is_cut() => By::Somebody,
                    false => By::Link,
                };
                Next::End(End::Lost { failure: Failure::Network, why: error.to_string(), by })
            }
        })
    }

    /// A clean stop: what is left goes out within its time, then `stopped` (queued here, for `feed` to give), then
    /// the end.
    fn said_all(&mut self, link: &mut Link) -> bool {
        let Some(until) = link.drain_until else { return false };
        let late = clock::now() >= until;
        if !link.farewell && (late || self.window.is_drained(self.log.news().appended)) {
            link.farewell = true;
            link.drain_until = Some(clock::now() + FAREWELL_MAX);
            let stopped = self.online("stopped");
            self.side.status(stopped);
            return false;
        }
        link.farewell && (self.side.is_idle() || late)
    }

    /// Gives the session what it wants. Gives how long to wait, where only time is in the way.
    async fn feed(&mut self, link: &mut Link) -> Result<Result<Option<Duration>, End>, Ended> {
        let (now, news) = (clock::now(), self.log.news());
        while let Some(&(step, id)) = link.releases.front()
            && step <= news.steps_durable
        {
            link.releases.pop_front();
            self.session.release(id);
        }
        if link.rewind && self.window.in_flight() == 0 {
            // What became of messages must be known to the log before it is read again.
            self.tell_log().await?;
            link.rewind = false;
            self.window.rewind(news.done_below);
        }
        if link.reading.is_none()
            && !link.rewind
            && let Some(from) = self.window.wants(news.appended)
        {
            self.tell_log().await?;
            link.reading = Some(self.log.read(from).await?);
        }
        let until = link.drain_until.map(|until| until.saturating_sub(now));
        let outcome = self.give(link, now, &news);
        if let Ok(Gave::Flush(number)) = outcome
            && link.flushed_for < number
        {
            link.flushed_for = number;
            self.tell_log().await?;
            self.log.flush().await?;
        }
        Ok(outcome.map(|gave| match gave {
            Gave::Wait(wait) => Some(until.map_or(wait, |until| until.min(wait))),
            Gave::Flush(_) | Gave::All => until,
        }))
    }

    /// The session is given up (R9): the next CONNECT has Clean Start.
    pub(super) fn distrust(&mut self, why: String) -> End {
        warn!("{why}; the session is started anew");
        self.distrusted = true;
        End::Lost { failure: Failure::Protocol, why, by: By::Link }
    }

    /// What a read brought waits to be sent.
    fn fill(&mut self, chunk: &Chunk) {
        let items = self.items(chunk);
        self.window.fill(items, chunk.next, chunk.ahead);
    }

    /// The messages of a read that are neither done nor released. What can't become one is reported as damaged.
    pub(super) fn items(&mut self, chunk: &Chunk) -> Vec<Item> {
        let mut items = Vec::new();
        for entry in &chunk.entries {
            let topic = self.setup.mqtt.topics.gaps.as_ref().map(Template::as_str);
            let gaps = GapRoute { topic, agent: &self.setup.agent, bare: &self.bare_gaps };
            match self.routes.items(entry, &gaps) {
                // Gaps are turned off.
                Ok(made) if made.is_empty() => self.step(Step::done(entry.first)),
                Ok(made) => {
                    items.extend(made.into_iter().filter(|item| !chunk.settled.contains(&item.origin.number)));
                }
                Err(why) => {
                    error!("a record of boot {} from seq {} on can't be read: {why}", entry.boot, entry.seq);
                    let origins = (0..u64::from(entry.messages)).map(|index| unreadable(entry, index));
                    let lost = origins.filter(|origin| !chunk.settled.contains(&origin.number));
                    lost.for_each(|origin| self.step(Step::Refused(origin.refusal(GapReason::Corrupt))));
                }
            }
        }
        items
    }

    /// A message will never be taken: a gap says so. A gap is said once more without its sources, and then given up.
    /// `true`: it must be read again for that.
    pub(super) fn refuse(&mut self, origin: &Origin, reason: GapReason) -> bool {
        let number = origin.number;
        self.refusals.remove(&number);
        if origin.source.is_some() {
            self.step(Step::Refused(origin.refusal(reason)));
        } else if self.bare_gaps.insert(number) {
            return true;
        } else {
            self.bare_gaps.remove(&number);
            self.step(Step::GivenUp(number));
        }
        false
    }

    /// Notes what became of a message; the log is told at the next chance.
    pub(super) fn step(&mut self, step: Step) {
        self.steps_given += 1;
        step.join(&mut self.steps);
    }
}

/// A message whose record can't be read any more, as far as it is known.
fn unreadable(entry: &Entry, index: u64) -> Origin {
    let source = match &entry.body {
        Body::Record { route, .. } => Some(route.source.clone()),
        Body::Gap(_) => None,
    };
    let identity = Identity { store: entry.store, boot: entry.boot, seq: entry.seq + index };
    Origin { number: entry.first + index, identity, source, time_ns: entry.time_ns }
}

/// The answer to a read; never, if there is none under way.
async fn read(reading: &mut Option<oneshot::Receiver<Chunk>>) -> Result<Chunk, Ended> {
    match reading {
        Some(answer) => answer.await.map_err(|_| Ended),
        None => std::future::pending().await,
    }
}
