//! One connection: from CONNACK to its end.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

use super::backlog::GapRoute;
use super::commands::next_word;
use super::window::{Item, Origin, packet_id};
use super::{DRAIN_MAX, End, FAREWELL_MAX, Publisher, SESSION_OWNER, Stop, stopped};
use crate::agent::commands::Word;
use crate::agent::log::{Chunk, Ended, News, SessionStep, Step};
use crate::config::{BrokerUrl, Template};
use crate::encode::Identity;
use crate::mqtt::packet::{Properties, Property, PropertyList, Publish};
use crate::mqtt::reconnect::Failure;
use crate::mqtt::session::{Connected, PublishError, Want};
use crate::mqtt::{PacketId, QoS, Reason, Session, Version};
use crate::net::Connection;
use crate::os::clock;
use crate::spool::{Body, Entry, GapReason};
use crate::status::LinkState;

/// What one connection keeps beside the publisher's state.
pub(super) struct Link {
    connection: Connection,
    /// The read that is under way.
    reading: Option<oneshot::Receiver<Chunk>>,
    /// Steps that must be durable before their PUBREL goes out (R4).
    pub(super) releases: VecDeque<(u64, PacketId)>,
    /// Publishing rests until then.
    pub(super) paused_until: Option<Duration>,
    /// After a refusal for now: once nothing is in flight, what is not done is read again.
    pub(super) rewind: bool,
    /// When a clean stop ends at the latest; set when it begins.
    drain_until: Option<Duration>,
    /// `stopped` was queued.
    farewell: bool,
    /// The log was asked to make this number sendable.
    flushed_for: u64,
    /// What the desk has to say to the broker: acknowledgements and answers of commands.
    words: mpsc::Receiver<Word>,
}

/// What a connection's loop does next.
enum Next {
    Go,
    /// Everything is said.
    Close,
    End(End),
}

impl Publisher {
    /// Publishes on a connection that stands, until it ends or the agent stops.
    pub(super) async fn serve(
        &mut self,
        connection: Connection,
        connected: &Connected,
        url: &BrokerUrl,
        version: Version,
        stop: &mut watch::Receiver<Stop>,
    ) -> Result<End, Ended> {
        self.begin(connected.session_present, url).await?;
        if !connected.session_present {
            self.session_is_new(clock::now()).await;
        } else if self.doubt.is_doubtful && !self.ask(clock::now()) {
            return Ok(self.distrust("the session may be another one than ours, and can't be told apart".into()));
        }
        let note = if connected.session_present { "session resumed" } else { "new session" };
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
            farewell: false,
            flushed_for: 0,
            words: self.intake.connected(connected.session_present).await,
        };
        loop {
            match self.turn(&mut link, stop).await? {
                Next::Go => {}
                Next::End(end) => return Ok(end),
                Next::Close => {
                    self.session.disconnect(Reason::SUCCESS, None);
                    if let Err(error) = link.connection.close(&mut self.session, FAREWELL_MAX).await {
                        warn!("the farewell did not reach {url}: {error}");
                    }
                    return Ok(End::Stopped);
                }
            }
        }
    }

    /// After CONNACK: where to go on from is known and durable before anything is sent.
    async fn begin(&mut self, session_present: bool, url: &BrokerUrl) -> Result<(), Ended> {
        let owner = self.owner_of_session(url);
        if self.owner.as_ref() != Some(&owner) {
            self.keep(SESSION_OWNER, owner.clone().into_bytes()).await;
            self.owner = Some(owner);
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
        self.refusals.clear();
        self.rate.connected(clock::now(), self.log.news().appended);
        self.side.update(&self.metas.borrow_and_update());
        let online = self.online("online");
        self.side.connected(online);
        Ok(())
    }

    /// Waits for whatever comes first, and handles it.
    async fn turn(&mut self, link: &mut Link, stop: &mut watch::Receiver<Stop>) -> Result<Next, Ended> {
        if self.said_all(link) {
            return Ok(Next::Close);
        }
        let rest = match self.feed(link).await? {
            Ok(rest) => rest,
            Err(end) => return Ok(Next::End(end)),
        };
        self.tell_log().await?;
        self.subscribe_commands(clock::now()).await;
        let draining = link.drain_until.is_some();
        let Link { connection, reading, words, .. } = link;
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
            how = stopped(stop), if !draining => match how {
                Stop::Handover => return Ok(Next::Close),
                _ => link.drain_until = Some(clock::now() + DRAIN_MAX),
            },
            () = tokio::time::sleep(rest.unwrap_or_default()), if rest.is_some() => {}
        }
        if let Some(end) = self.events(link).await? {
            return Ok(Next::End(end));
        }
        self.shown(LinkState::Connected, |_| {});
        Ok(match lost {
            None => Next::Go,
            Some(error) => Next::End(End::Lost { failure: Failure::Network, why: error.to_string() }),
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

    /// Gives the session messages until it has enough, or something is in the way.
    fn give(&mut self, link: &mut Link, now: Duration, news: &News) -> Result<Gave, End> {
        loop {
            match self.session.want() {
                _ if self.doubt.is_asking() => return Ok(Gave::All),
                Want::Nothing => return Ok(Gave::All),
                Want::Resend(id) => {
                    if !self.resend(link, now, news, id)? {
                        return Ok(Gave::All);
                    }
                }
                Want::Fresh { .. } => {
                    if self.notice(now) {
                        continue;
                    }
                    if let Some(gave) = self.fresh(link, now, news) {
                        return Ok(gave);
                    }
                }
            }
        }
    }

    /// A message that was in flight when the last connection ended goes out again. `false`: it is not read yet, or
    /// there is no room.
    fn resend(&mut self, link: &Link, now: Duration, news: &News, id: PacketId) -> Result<bool, End> {
        if !self.window.bring_to_front(id) {
            if link.reading.is_some() || self.window.wants(news.appended).is_some() {
                return Ok(false);
            }
            // The log can't give what the broker's session waits for: it was damaged.
            return Err(self.distrust(format!("message of packet identifier {id} is not in the buffer any more")));
        }
        let Some(item) = self.window.front() else { return Ok(false) };
        match publish(&mut self.session, now, item, item.qos, item.retain) {
            Ok(()) => {
                self.window.sent();
                Ok(true)
            }
            Err(PublishError::Full | PublishError::NotConnected) => Ok(false),
            // R9: an exchange that has to be given up.
            Err(error) => {
                let number = item.origin.number;
                Err(self.distrust(format!("message {number} can't be sent again: {error}")))
            }
        }
    }

    /// The session is given up (R9): the next CONNECT has Clean Start.
    pub(super) fn distrust(&mut self, why: String) -> End {
        warn!("{why}; the session is started anew");
        self.distrusted = true;
        End::Lost { failure: Failure::Protocol, why }
    }

    /// Status and metas go before everything that is new. `false`: there is none, or no room.
    fn notice(&mut self, now: Duration) -> bool {
        let Some((id, notice)) = self.side.front() else { return false };
        let mut properties = PropertyList::new();
        if let Some(data) = notice.correlation.as_deref().filter(|_| self.session.version() == Version::V5) {
            // It came in a packet, and so it fits into one.
            let _ = properties.push(Property::CorrelationData(data));
        }
        let message = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: notice.answers.is_none(),
            topic: &notice.topic,
            id: Some(id),
            properties: properties.as_properties(),
            payload: &notice.payload,
        };
        let message = match self.session.limits() {
            limits if limits.maximum_qos == QoS::AtMostOnce => Publish { qos: QoS::AtMostOnce, id: None, ..message },
            _ => message,
        };
        let message = Publish { retain: message.retain && self.session.limits().retain_available, ..message };
        match self.session.publish(now, &message) {
            Ok(()) if message.id.is_some() => self.side.sent(id),
            Ok(()) => self.said(),
            Err(PublishError::Full | PublishError::NotConnected) => return false,
            Err(error) => {
                warn!("{} can't be published: {error}", notice.topic);
                self.said();
            }
        }
        true
    }

    /// The front of what is said beside the log is over without an acknowledgement.
    fn said(&mut self) {
        if let Some(token) = self.side.drop_front().and_then(|notice| notice.answers) {
            self.intake.answered(token);
        }
    }

    /// Sends the next message of the log, or gives what is in its way.
    fn fresh(&mut self, link: &mut Link, now: Duration, news: &News) -> Option<Gave> {
        if let Some(until) = link.paused_until {
            if now < until {
                return Some(Gave::Wait(until.saturating_sub(now)));
            }
            link.paused_until = None;
        }
        let Some(item) = self.window.front().filter(|_| !link.rewind) else { return Some(Gave::All) };
        // R1: a QoS 2 message is durable first. R5: who had its identifier before is done, durably.
        let number = item.origin.number;
        if number >= news.sendable || (item.qos == QoS::ExactlyOnce && number >= news.durable) {
            return Some(Gave::Flush(number));
        }
        if let Some(wait) = self.rate.wait(now, news.appended) {
            return Some(Gave::Wait(wait));
        }
        let limits = self.session.limits();
        let (qos, retain) = (item.qos.min(limits.maximum_qos), item.retain && limits.retain_available);
        match publish(&mut self.session, now, item, qos, retain) {
            Ok(()) => {
                self.rate.sent();
                self.status.send_modify(|status| status.published += 1);
                self.step(Step::Sent(number));
                if qos == QoS::AtMostOnce {
                    self.window.drop_front();
                    self.step(Step::Done(number));
                } else {
                    self.window.sent();
                }
                None
            }
            Err(PublishError::Full | PublishError::NotConnected) => Some(Gave::All),
            Err(refusal) => {
                let reason = match refusal {
                    PublishError::TooLarge { .. } => GapReason::TooLarge,
                    _ => GapReason::Rejected,
                };
                error!("message {number} for {} can't be delivered: {refusal}", item.message.topic);
                if let Some(item) = self.window.drop_front() {
                    self.refuse(link, &item.origin, reason);
                }
                None
            }
        }
    }

    /// What a read brought waits to be sent.
    fn fill(&mut self, chunk: &Chunk) {
        let items = self.items(chunk);
        self.window.fill(items, chunk.next);
    }

    /// The messages of a read that are neither done nor released. What can't become one is reported as damaged.
    pub(super) fn items(&mut self, chunk: &Chunk) -> Vec<Item> {
        let mut items = Vec::new();
        for entry in &chunk.entries {
            let topic = self.setup.mqtt.topics.gaps.as_ref().map(Template::as_str);
            let gaps = GapRoute { topic, agent: &self.setup.agent, bare: &self.bare_gaps };
            match self.routes.items(entry, &gaps) {
                // Gaps are turned off.
                Ok(made) if made.is_empty() => self.step(Step::Done(entry.first)),
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
    pub(super) fn refuse(&mut self, link: &mut Link, origin: &Origin, reason: GapReason) {
        let number = origin.number;
        self.refusals.remove(&number);
        if origin.source.is_some() {
            self.step(Step::Refused(origin.refusal(reason)));
        } else if self.bare_gaps.insert(number) {
            link.rewind = true;
        } else {
            self.bare_gaps.remove(&number);
            self.step(Step::GivenUp(number));
        }
    }

    /// Notes what became of a message; the log is told at the next chance.
    pub(super) fn step(&mut self, step: Step) {
        self.steps_given += 1;
        self.steps.push(step);
    }
}

/// Why no more messages are given to the session now.
enum Gave {
    /// It has enough, or there are no more.
    All,
    /// Only time is in the way.
    Wait(Duration),
    /// This number has to become durable or sendable first.
    Flush(u64),
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

fn publish(session: &mut Session, now: Duration, item: &Item, qos: QoS, retain: bool) -> Result<(), PublishError> {
    session.publish(
        now,
        &Publish {
            dup: false,
            qos,
            retain,
            topic: &item.message.topic,
            id: (qos != QoS::AtMostOnce).then(|| packet_id(item.origin.number)),
            properties: Properties::default(),
            payload: &item.message.payload,
        },
    )
}
