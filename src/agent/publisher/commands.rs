//! Commands as they come over the connection: what is subscribed to, and which of them have waited at the broker.
//!
//! ```text
//!  connected ─▶ subscribe to what is known and wanted ─▶ SUBACK ── nothing came meanwhile ──▶ live
//!                    ▲                                     └─ something came: once more ─┐
//!                    └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! - Subscribed to only while a source takes commands. What the broker's session still holds of an earlier life is
//!   durable here, and taken away when every source has said that it takes none.
//! - At QoS 1: an id runs once whatever the QoS, and a session that has never received at QoS 2 has nothing in doubt.
//! - What a broker kept in a session comes before the answer to a subscription, as far as its window goes. So a message
//!   counts as *waited* until a subscription was answered and nothing came before the answer. Taking a fresh one for a
//!   waiting one costs a refusal, and only where it says nothing of its age.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::culprit::By;
use super::{End, Publisher, side::Notice};
use crate::agent::commands::{Answer, Arrived, Commands, Takers, Word};
use crate::config::Template;
use crate::mqtt::packet::{Filter, PropertyList, RetainHandling};
use crate::mqtt::reconnect::Failure;
use crate::mqtt::session::Message;
use crate::mqtt::{PacketId, QoS, Reason};

/// Durable value: the filters that the broker's session holds, as a JSON list.
pub(super) const FILTERS: &str = "command-filters";
/// Filters of one SUBSCRIBE or UNSUBSCRIBE.
const FILTERS_MAX: usize = 64;
/// Rounds after which what comes is taken for live, however busy the topic is.
const ROUNDS_MAX: u8 = 32;
/// No source has one of these names, and the agent itself speaks there.
const RESERVED: [&str; 4] = ["status", "gaps", "command", "reply"];

/// A SUBSCRIBE or UNSUBSCRIBE that waits for its answer.
struct Asking {
    id: PacketId,
    filters: Vec<String>,
    is_subscribe: bool,
}

/// See the head of this file.
pub(super) struct Intake {
    commands: Commands,
    takers: watch::Receiver<Takers>,
    template: Option<Template>,
    /// What the broker's session holds, as far as is known. Durable.
    held: BTreeSet<String>,
    /// What was subscribed to on this connection, or refused.
    asked: BTreeSet<String>,
    asking: Option<Asking>,
    /// What comes may have waited at the broker.
    waited: bool,
    rounds: u8,
    /// So many came since the last round began.
    arrived: usize,
    /// And are not acknowledged.
    open: BTreeSet<PacketId>,
}

impl Intake {
    pub(super) fn new(commands: &Commands, template: Option<Template>) -> Self {
        Self {
            commands: commands.clone(),
            takers: commands.takers(),
            template,
            held: BTreeSet::new(),
            asked: BTreeSet::new(),
            asking: None,
            waited: false,
            rounds: 0,
            arrived: 0,
            open: BTreeSet::new(),
        }
    }

    /// What an earlier process kept as [`FILTERS`].
    pub(super) fn remember(&mut self, value: &[u8]) {
        self.held = serde_json::from_slice(value).unwrap_or_default();
    }

    /// A connection stands. Gives what is to be said on it.
    pub(super) async fn connected(&mut self, session_present: bool) -> mpsc::Receiver<Word> {
        if !session_present {
            self.held.clear();
        }
        self.asked.clear();
        self.open.clear();
        (self.asking, self.arrived, self.rounds, self.waited) = (None, 0, 0, session_present);
        self.commands.attach().await
    }

    /// Waits until others take commands. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.takers.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The broker has that answer.
    pub(super) fn answered(&self, token: u64) {
        self.commands.acknowledged(token);
    }

    /// The source whose command topic it is; `None`: it is nobody's.
    fn source_of(&self, topic: &str) -> Option<String> {
        let template = self.template.as_ref()?;
        let takers = self.takers.borrow();
        if let Some(source) = takers.sources.iter().find(|source| template.for_source(source) == topic) {
            return Some(source.clone());
        }
        let (before, after) = template.as_str().split_once("{source}")?;
        let source = topic.strip_prefix(before)?.strip_suffix(after)?;
        (template.for_source(source) == topic && !RESERVED.contains(&source)).then(|| source.to_owned())
    }
}

impl Publisher {
    /// What is to be subscribed to: one filter where a level of the topic is the source's name and nothing else.
    fn wanted_filters(&self) -> BTreeSet<String> {
        let Some(template) = &self.intake.template else { return BTreeSet::new() };
        let takers = self.intake.takers.borrow();
        let last_level = template.as_str().rsplit('/').next();
        if last_level == Some("{source}") && self.session.limits().wildcard_subscriptions {
            let any = (!takers.sources.is_empty()).then(|| template.for_source("+"));
            return any.into_iter().collect();
        }
        takers.sources.iter().map(|source| template.for_source(source)).collect()
    }

    /// Asks the broker for what is missing, one request at a time.
    pub(super) async fn subscribe_commands(&mut self, now: Duration) {
        if self.intake.asking.is_some() || self.doubt.is_asking() {
            return;
        }
        let wanted = self.wanted_filters();
        let intake = &self.intake;
        let settled = intake.takers.borrow().settled;
        let unwanted: Vec<String> = intake.held.difference(&wanted).take(FILTERS_MAX).cloned().collect();
        if settled && !unwanted.is_empty() {
            let filters: Vec<&str> = unwanted.iter().map(String::as_str).collect();
            if let Ok(id) = self.session.unsubscribe(now, &filters) {
                self.intake.asking = Some(Asking { id, filters: unwanted, is_subscribe: false });
            }
            return;
        }
        let all: BTreeSet<String> = intake.held.union(&wanted).cloned().collect();
        let mut missing: Vec<String> = all.difference(&intake.asked).take(FILTERS_MAX).cloned().collect();
        if missing.is_empty() && intake.waited && intake.open.is_empty() {
            // Another round: its answer comes behind all that the broker still had.
            missing.extend(all.into_iter().next());
        }
        if missing.is_empty() {
            return;
        }
        let filters: Vec<Filter<'_>> = missing.iter().map(|filter| command_filter(filter)).collect();
        match self.session.subscribe(now, &filters, &PropertyList::new()) {
            Ok(id) => {
                // Durable before the broker can hold it: else nobody would take it away again.
                let before = self.intake.held.len();
                self.intake.held.extend(missing.iter().cloned());
                self.intake.arrived = 0;
                self.intake.asking = Some(Asking { id, filters: missing, is_subscribe: true });
                if self.intake.held.len() != before {
                    self.keep_filters().await;
                }
            }
            Err(error) => debug!("commands can't be subscribed to yet: {error}"),
        }
    }

    async fn keep_filters(&self) {
        self.keep(FILTERS, serde_json::to_vec(&self.intake.held).unwrap_or_default()).await;
    }

    /// SUBACK or UNSUBACK, if it is about commands.
    pub(super) async fn commands_subscribed(&mut self, id: PacketId, reasons: &[Reason]) -> bool {
        let Some(asking) = self.intake.asking.take_if(|asking| asking.id == id) else { return false };
        if asking.is_subscribe {
            for (filter, reason) in asking.filters.iter().zip(reasons) {
                if reason.is_error() {
                    warn!("the broker lets nobody command this agent: {filter} can't be subscribed to, {reason}");
                    self.intake.held.remove(filter);
                }
            }
            let before = std::mem::take(&mut self.intake.waited);
            let known = self.intake.asked.clone();
            self.intake.asked.extend(asking.filters);
            self.intake.rounds = self.intake.rounds.saturating_add(1);
            self.intake.waited = before && self.intake.arrived > 0 && self.intake.rounds < ROUNDS_MAX;
            if !self.intake.waited {
                let live = self.intake.held.iter().filter(|filter| before || !known.contains(*filter));
                live.for_each(|filter| info!("commands are taken on {filter}"));
            }
        } else {
            for filter in &asking.filters {
                info!("no commands are taken on {filter} any more");
                self.intake.held.remove(filter);
                self.intake.asked.remove(filter);
            }
            self.keep_filters().await;
        }
        true
    }

    /// A message came. Nothing but commands is ever subscribed to.
    pub(super) fn message(&mut self, message: Message) -> Result<(), End> {
        let source = self.intake.source_of(message.topic());
        let taken = source.is_some_and(|source| {
            let properties = message.properties();
            self.intake.arrived += 1;
            self.intake.commands.arrived(Arrived {
                source,
                payload: message.payload().to_vec(),
                retained: message.retain,
                waited: self.intake.waited,
                expiry_s: properties.message_expiry(),
                response_topic: properties.response_topic().map(str::to_owned),
                correlation: properties.correlation_data().map(<[u8]>::to_vec),
                packet: message.id,
            })
        });
        match message.id {
            Some(id) if taken => drop(self.intake.open.insert(id)),
            // There is no room. It is not acknowledged and comes again; what comes behind it would wait for it here.
            Some(_) if self.intake.source_of(message.topic()).is_some() => {
                let why = "more commands come at once than can be taken";
                return Err(End::Lost { failure: Failure::Protocol, why: why.into(), by: By::Link });
            }
            Some(id) => {
                debug!("a message to {} was not asked for", message.topic());
                self.session.acknowledge(id, Reason::SUCCESS);
            }
            None if !taken => debug!("a message to {} is passed over", message.topic()),
            None => {}
        }
        self.session.recycle(message);
        Ok(())
    }

    /// The desk has said something.
    pub(super) fn word(&mut self, word: Word) {
        match word {
            Word::Acknowledge(id) => {
                self.intake.open.remove(&id);
                self.session.acknowledge(id, Reason::SUCCESS);
            }
            Word::Answer(Answer { token, topic, correlation, payload }) => {
                self.side.answer(Notice {
                    topic,
                    payload: payload.into(),
                    answers: Some(token),
                    correlation,
                    meta: None,
                });
            }
        }
    }
}

/// Never what the broker keeps, never what this client says itself; the retain flag as it was sent, so that what is
/// kept while somebody listens is refused as well.
fn command_filter(filter: &str) -> Filter<'_> {
    Filter {
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..Filter::new(filter, QoS::AtLeastOnce)
    }
}

/// The next word of the desk; never, if it is gone. Cancel safe.
pub(super) async fn next_word(words: &mut mpsc::Receiver<Word>) -> Word {
    match words.recv().await {
        Some(word) => word,
        None => std::future::pending().await,
    }
}
