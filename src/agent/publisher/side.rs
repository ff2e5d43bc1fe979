//! What is said beside the log, at QoS 1 and without `seq`: status and metas, retained, sent anew after each CONNACK
//! before the first reading; and the answers to commands, which the desk gives again after each CONNACK.
//!
//! Owns the list of meta topics that the broker holds for this agent; it is durable, so that a source that was
//! removed while the agent was down still loses its meta. Identifiers are from 49152 on (R2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Setup;
use crate::agent::metas::{Meta, Metas};
use crate::config::Template;
use crate::mqtt::PacketId;

/// First identifier of what is published outside the log.
const FIRST_ID: u16 = 49_152;

/// A message outside the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Notice {
    pub(super) topic: String,
    /// Of a meta only while it is in front.
    pub(super) payload: Arc<[u8]>,
    /// What it says; `None` of other notices, and of a topic that is taken off the broker.
    pub(super) meta: Option<Arc<Meta>>,
    /// It is an answer to a command, and the desk knows it by this. Answers are not retained.
    pub(super) answers: Option<u64>,
    /// Goes with an answer, in 5.0.
    pub(super) correlation: Option<Vec<u8>>,
}

/// See the head of this file.
pub(super) struct Side {
    meta_topic: Option<Template>,
    status_topic: Option<String>,
    /// Metas of all sources that have started, by topic.
    metas: BTreeMap<String, Arc<Meta>>,
    /// Topics of the sources that are configured, started or not.
    configured: BTreeSet<String>,
    /// Meta topics that hold something at the broker.
    published: BTreeSet<String>,
    queue: VecDeque<Notice>,
    sent: BTreeMap<PacketId, Notice>,
    next_id: u16,
    /// Topics whose notice made the broker close the connection each time (F-28); left out until one has stood for a while.
    given_up: BTreeSet<String>,
}

impl Side {
    pub(super) fn new(setup: &Setup) -> Self {
        let topics = &setup.mqtt.topics;
        Self {
            meta_topic: topics.meta.clone(),
            status_topic: topics.status.as_ref().map(|topic| topic.as_str().to_owned()),
            metas: BTreeMap::new(),
            configured: BTreeSet::new(),
            published: BTreeSet::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            next_id: FIRST_ID,
            given_up: BTreeSet::new(),
        }
    }

    /// What [`Side::published`] gave in an earlier process. What can't be read is forgotten: metas are said again.
    pub(super) fn remember(&mut self, value: &[u8]) {
        self.published = serde_json::from_slice(value).unwrap_or_default();
    }

    /// The list as a durable value.
    pub(super) fn published(&self) -> Vec<u8> {
        serde_json::to_vec(&self.published).unwrap_or_default()
    }

    /// What the sources measure. What is new is said; what belongs to a source that is gone is taken off the broker.
    pub(super) fn update(&mut self, metas: &Metas) {
        let Some(template) = &self.meta_topic else { return };
        self.configured = metas.keys().map(|source| template.for_source(source)).collect();
        let known =
            metas.iter().filter_map(|(source, meta)| Some((template.for_source(source), Arc::clone(meta.as_ref()?))));
        let before = std::mem::replace(&mut self.metas, known.collect());
        let changed = self.metas.iter().filter(|(topic, meta)| before.get(*topic) != Some(meta));
        let changed: Vec<_> = changed.map(|(topic, meta)| (topic.clone(), Some(Arc::clone(meta)))).collect();
        for (topic, meta) in changed.into_iter().chain(self.gone()) {
            self.queue.retain(|notice| notice.answers.is_some() || notice.topic != topic);
            self.queue.push_back(Notice { topic, meta, ..Notice::default() });
        }
    }

    /// An empty retained message for every topic of a source that is not configured any more.
    fn gone(&self) -> Vec<(String, Option<Arc<Meta>>)> {
        self.published.difference(&self.configured).map(|topic| (topic.clone(), None)).collect()
    }

    /// The agent's state for the status topic.
    pub(super) fn status(&mut self, payload: Vec<u8>) {
        if let Some(topic) = self.status_topic.clone() {
            self.queue.push_back(Notice { topic, payload: payload.into(), ..Notice::default() });
        }
    }

    /// An answer to a command; the desk bounds how many there are.
    pub(super) fn answer(&mut self, notice: Notice) {
        self.queue.push_back(notice);
    }

    /// A new connection stands: everything is said again, answers by the desk.
    pub(super) fn connected(&mut self, status: Vec<u8>) {
        self.queue.clear();
        self.sent.clear();
        self.status(status);
        let gone = self.gone();
        self.queue.extend(gone.into_iter().map(|(topic, meta)| Notice { topic, meta, ..Notice::default() }));
        self.queue.extend(self.metas.iter().map(|(topic, meta)| Notice {
            topic: topic.clone(),
            meta: Some(Arc::clone(meta)),
            ..Notice::default()
        }));
    }

    /// A connection stood for a while: what was given up is tried again on the next one.
    pub(super) fn stood(&mut self) {
        self.given_up.clear();
    }

    /// Nothing is said under this topic any more.
    pub(super) fn give_up(&mut self, topic: &str) {
        self.given_up.insert(topic.to_owned());
    }

    /// Topic of the first notice that waits for its acknowledgement.
    pub(super) fn first_sent(&self) -> Option<&str> {
        self.sent.first_key_value().map(|(_, notice)| notice.topic.as_str())
    }

    /// How many notices wait for their acknowledgement.
    pub(super) fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// The next one to send, and its identifier.
    pub(super) fn front(&mut self) -> Option<(PacketId, &Notice)> {
        let is_out = |notice: &Notice| notice.answers.is_none() && self.given_up.contains(&notice.topic);
        while self.queue.front().is_some_and(is_out) {
            self.queue.pop_front();
        }
        let notice = self.queue.front_mut()?;
        if let Some(meta) = notice.meta.as_ref().filter(|_| notice.payload.is_empty()) {
            notice.payload = meta.payload().into();
        }
        let mut id = PacketId::new(self.next_id)?;
        // There are far fewer notices than identifiers.
        while self.sent.contains_key(&id) {
            self.next_id = self.next_id.checked_add(1).unwrap_or(FIRST_ID);
            id = PacketId::new(self.next_id)?;
        }
        Some((id, &*notice))
    }

    /// The front was given to the session.
    pub(super) fn sent(&mut self, id: PacketId) {
        if let Some(notice) = self.queue.pop_front() {
            // The session has it; what was lost is said again on the next connection.
            self.sent.insert(id, Notice { payload: Arc::default(), ..notice });
        }
        self.next_id = self.next_id.checked_add(1).unwrap_or(FIRST_ID);
    }

    /// The front can't be sent at all.
    pub(super) fn drop_front(&mut self) -> Option<Notice> {
        self.queue.pop_front()
    }

    /// An acknowledgement with this identifier. Gives what it was for, and whether [`Side::published`] changed.
    pub(super) fn acknowledged(&mut self, id: PacketId, accepted: bool) -> Option<(Notice, bool)> {
        let notice = self.sent.remove(&id)?;
        let is_meta = notice.answers.is_none() && Some(&notice.topic) != self.status_topic.as_ref();
        let changed = accepted
            && is_meta
            && if notice.meta.is_none() {
                self.published.remove(&notice.topic)
            } else {
                self.published.insert(notice.topic.clone())
            };
        Some((notice, changed))
    }

    /// Nothing waits to be sent or acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.sent.is_empty()
    }
}
