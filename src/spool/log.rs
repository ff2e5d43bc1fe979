//! What callers do with a spool: append, flush, acknowledge, keep small values, look at figures.
//!
//! Owns nothing of its own; see `core` for the parts. Invariant: each call leaves the spool consistent, whatever the
//! disk did meanwhile.

use std::ops::Range;
use std::sync::Arc;

use super::bytes::Put;
use super::core::{Spool, frame_head};
use super::format::Kind;
use super::gap;
use super::journal::JOURNAL_OWNER;
use super::pending::{Item, ItemBody};
use super::sabotage::{self, Fault};
use super::state::{Delivery, WINDOW};
use super::storage::Storage;
use super::types::{
    AppendError, BufferState, Damage, Drops, Error, Gap, GapReason, MESSAGES_MAX, Now, Route, SOURCE_MAX, Stats,
    ValueError,
};
use super::write::UNSYNCED_MAX;

/// Gaps with more encoded bytes lose their counts per source.
const GAP_PART: u32 = 16;
/// Values take at most this part of a segment, the command journal's and again all others: every segment opens with
/// all of them.
const VALUES_PART: u32 = 16;

/// A message that the broker refused for good, as it stands in its [`Entry`](super::Entry).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number.
    pub number: u64,
    /// Why it will never come.
    pub reason: GapReason,
    /// The store under which it was published.
    pub store: [u8; 4],
    /// Its boot.
    pub boot: u32,
    /// Its `seq`.
    pub seq: u64,
    /// Its source, if it was no gap.
    pub source: Option<Arc<str>>,
    /// The record's time, nanoseconds since 1970.
    pub time_ns: i64,
}

impl<S: Storage> Spool<S> {
    /// The store's id.
    pub fn store(&self) -> [u8; 4] {
        self.run.store
    }

    /// This opening's number.
    pub fn boot(&self) -> u32 {
        self.run.boot
    }

    /// The number that the next message gets.
    pub fn end(&self) -> u64 {
        self.state.next
    }

    /// All numbers below are durable (or settled).
    pub fn durable(&self) -> u64 {
        self.pending.first().unwrap_or(self.state.next)
    }

    /// Numbers below may be sent now: the window of packet identifiers is durably free (R5), and a restart would know
    /// that they may be at the broker (R8). At QoS 2 a number is also below [`Self::durable`] before it is sent (R1).
    /// A gap is durable before it is sent: what it names must not come back after a power cut.
    /// What is not sendable becomes so by [`Self::sync`], once [`Self::connected`] was said. While the disk refuses, only the window counts.
    pub fn sendable(&self) -> u64 {
        if self.active.is_none() || sabotage::on(Fault::NoLease) {
            return self.state.delivery.done_below().saturating_add(WINDOW);
        }
        self.allowed().min(self.pending.first_gap().unwrap_or(u64::MAX))
    }

    /// What the durable state allows to be sent.
    pub(super) fn allowed(&self) -> u64 {
        self.durable_mark.lease.min(self.durable_mark.done_below.saturating_add(WINDOW))
    }

    /// Bytes that a record's payload, its route's blob and its source's name may take together.
    pub fn record_max(&self) -> usize {
        self.frame_max()
    }

    /// Puts a record into the log's page cache and gives the number of its first message. `messages` is how many
    /// numbers it takes. A disk that refuses is no error: the record is held in memory then, see [`Self::stats`].
    pub fn append(
        &mut self,
        now: Now,
        route: &Route,
        messages: u32,
        time_ns: i64,
        payload: &[u8],
    ) -> Result<u64, AppendError> {
        let first = self.push(now, route, messages, time_ns, payload.to_vec())?;
        // The disk's trouble shows in the state; the record is in memory then, or in a gap.
        let _ = self.write_pending();
        Ok(first)
    }

    /// [`Self::append`], but it is in memory alone until [`Self::flush_state`] or [`Self::sync`] writes it, together
    /// with what else was pushed; reading writes it too, so that nothing is sent which a kill would forget.
    pub fn push(
        &mut self,
        now: Now,
        route: &Route,
        messages: u32,
        time_ns: i64,
        payload: Vec<u8>,
    ) -> Result<u64, AppendError> {
        let bytes = payload.len().saturating_add(route.blob.len()).saturating_add(route.source.len());
        if bytes > self.frame_max() {
            return Err(AppendError::TooLarge { bytes, limit: self.frame_max() });
        }
        if messages == 0 || messages > MESSAGES_MAX {
            return Err(AppendError::Messages);
        }
        if route.source.is_empty() || route.source.len() > SOURCE_MAX {
            return Err(AppendError::Source);
        }
        self.now = now;
        let first = self.state.next;
        self.state.next = first.saturating_add(u64::from(messages));
        self.times.add(first, time_ns);
        let body = ItemBody::Record { route: route.clone(), payload };
        self.pending.push(Item { first, count: messages, time_ns, body });
        self.urgent();
        if self.pending.bytes() > UNSYNCED_MAX {
            let _ = self.write_pending();
        }
        Ok(first)
    }

    /// Writes what is pending and the state to the page cache; open gaps get their numbers.
    pub fn flush_state(&mut self, now: Now) -> Result<(), Error> {
        self.now = now;
        self.write_pending()?;
        if !self.full && !self.active.as_ref().is_some_and(|active| active.reserve) {
            self.number_gaps();
            self.write_pending()?;
        }
        self.write_state()
    }

    fn write_state(&mut self) -> Result<(), Error> {
        let mut written = if self.values_unwritten { Ok(false) } else { self.put_state() };
        if written == Ok(false) {
            written = match self.roll(false) {
                Ok(true) => self.put_state(),
                other => other,
            };
        }
        match written {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::Full),
            Err(error) => {
                self.fail(error.clone());
                Err(error.into())
            }
        }
    }

    /// Gaps that wait become messages of this boot.
    fn number_gaps(&mut self) {
        let limit = (self.pool.segment_size() / GAP_PART) as usize;
        for mut gap in std::mem::take(&mut self.state.open_gaps) {
            let mut bytes = Vec::new();
            gap::encode(&gap, &mut bytes);
            if bytes.len() > limit {
                gap.sources.clear();
            }
            let first = self.state.next;
            self.state.next = first.saturating_add(1);
            self.remember_gap(first, &gap);
            self.pending.push(Item { first, count: 1, time_ns: self.now.wall_ns, body: ItemBody::Gap(gap) });
            self.state_dirty = true;
            self.urgent();
        }
    }

    /// What has to survive of the MQTT session.
    pub fn delivery(&self) -> &Delivery {
        &self.state.delivery
    }

    /// A session is there to send into: from now on messages become [`Self::sendable`].
    pub fn connected(&mut self) {
        self.state_dirty |= !self.connected;
        self.connected = true;
    }

    /// This number is handed to a session: it is pinned until it is done (R8).
    pub fn sent(&mut self, number: u64) {
        self.sent_all(number..number.saturating_add(1));
    }

    /// [`Self::sent`] for numbers that follow one another.
    pub fn sent_all(&mut self, numbers: Range<u64>) {
        let (end, trusted) = (numbers.end, self.active.is_some());
        self.state.delivery.sent(numbers, trusted);
        self.hand(end);
    }

    /// Numbers below were read to be sent: retention passes over them until they are settled (R8).
    pub fn pin(&mut self, below: u64) {
        let below = below.min(self.state.next);
        self.state.delivery.pin(below);
        if self.connected {
            self.hand(below);
        }
    }

    /// This number is acknowledged for good, or was sent at QoS 0. May be written late (R5).
    pub fn done(&mut self, number: u64) {
        self.done_all(number..number.saturating_add(1));
    }

    /// [`Self::done`] for numbers that follow one another.
    pub fn done_all(&mut self, numbers: Range<u64>) {
        if self.state.delivery.deliver(numbers.start..numbers.end.min(self.state.next)) {
            self.state_dirty = true;
            if sabotage::on(Fault::DoneAheadOfData) {
                self.collect(u64::MAX);
            }
        }
    }

    /// PUBREC came for this number; durable before PUBREL is sent (R4).
    pub fn released(&mut self, number: u64) {
        if number < self.state.next && self.state.delivery.release(number) {
            self.state_dirty = true;
            self.urgent();
        }
    }

    /// This message was refused for good: done together with its gap, in one frame (R4).
    pub fn refused(&mut self, now: Now, refusal: &Refusal) {
        self.now = now;
        let number = refusal.number;
        if number >= self.state.next || self.state.delivery.is_done(number) {
            return;
        }
        let dropped = self.state.delivery.drop_range(number, number.saturating_add(1));
        self.drops.count(refusal.reason, dropped);
        if sabotage::on(Fault::GapAfterRefusal) {
            self.state_dirty = true;
            let _ = self.write_state();
        }
        let known = refusal.source.is_some().then_some(refusal.time_ns);
        let gap = Gap {
            reason: refusal.reason,
            store: refusal.store,
            boot: refusal.boot,
            first: refusal.seq,
            last: refusal.seq,
            messages: 1,
            sources: refusal.source.iter().map(|source| (source.clone(), 1)).collect(),
            from_ns: known,
            to_ns: known,
        };
        gap::join(&mut self.state.open_gaps, gap);
        self.state_dirty = true;
        self.urgent();
    }

    /// A gap message that was refused twice: counted, and makes no gap.
    pub fn given_up(&mut self, number: u64) {
        if number < self.state.next && !self.state.delivery.is_done(number) {
            self.state.delivery.give_up_gap(number);
            self.state_dirty = true;
            self.urgent();
        }
    }

    /// The broker had no session: another one begins, nothing is released in it; durable before anything is sent (R7).
    pub fn new_session(&mut self) {
        self.state.delivery.new_session();
        self.handed_below = 0;
        // Its lease is a smaller one: under the larger one, which may be overtaken on the disk, nothing more is sent.
        let sent = self.state.delivery.sent_below();
        self.durable_mark.lease = self.durable_mark.lease.min(sent);
        if let Some(flight) = self.flight.as_mut().filter(|_| !sabotage::on(Fault::FlushOfOldSession)) {
            flight.mark.lease = flight.mark.lease.min(sent);
        }
        self.state_dirty = true;
        self.urgent();
    }

    /// A CONNECT without Clean Start is under way, or over (R7).
    pub fn set_connecting(&mut self, connecting: bool) {
        if self.state.delivery.connecting() != connecting {
            self.state.delivery.set_connecting(connecting);
            self.state_dirty = true;
            self.urgent();
        }
    }

    /// The session is not trusted any more (R9), or is a new one.
    pub fn set_clean(&mut self, clean: bool) {
        if self.state.delivery.clean() != clean {
            self.state.delivery.set_clean(clean);
            self.state_dirty = true;
            self.urgent();
        }
    }

    /// Keeps a small value, or removes it; durable with the next [`Self::sync`].
    pub fn set_value(&mut self, now: Now, owner: &str, key: &str, value: Option<&[u8]>) -> Result<(), ValueError> {
        self.now = now;
        let name = |text: &str| !text.is_empty() && text.len() <= SOURCE_MAX;
        if !name(owner) || !name(key) {
            return Err(ValueError::Name);
        }
        let place = (owner.to_owned(), key.to_owned());
        let limit = self.values_max();
        let size = |owner: &str, key: &str, value: &[u8]| owner.len() + key.len() + value.len() + 8;
        // Plugins can't take the commands' room, nor the other way round.
        let same = |known: &str| (known == JOURNAL_OWNER) == (owner == JOURNAL_OWNER);
        let others = self.values.iter().filter(|(known, _)| same(&known.0) && **known != place);
        let held: usize = others.map(|((owner, key), value)| size(owner, key, value)).sum();
        if value.is_some_and(|value| held + size(owner, key, value) > limit) {
            return Err(ValueError::Full { limit });
        }
        match value {
            Some(value) => self.values.insert(place, value.to_vec()),
            None => self.values.remove(&place),
        };
        self.urgent();
        self.write_value(owner, key, value);
        Ok(())
    }

    /// Bytes that all values of the command journal may take together, and again all others. See [`JOURNAL_OWNER`].
    pub fn values_max(&self) -> usize {
        (self.pool.segment_size() / VALUES_PART) as usize
    }

    /// To the page cache. Where that can't be, the next segment's opening has it.
    fn write_value(&mut self, owner: &str, key: &str, value: Option<&[u8]>) {
        let mut body = Vec::new();
        body.put_name(owner);
        body.put_name(key);
        body.put_u8(u8::from(value.is_some()));
        body.extend_from_slice(value.unwrap_or_default());
        let (stamp, first) = (self.stamp(), self.log_end);
        let Some(active) = self.active.as_mut() else { return };
        let mut write = active.begin(first, stamp);
        active.push(&mut write, &frame_head(Kind::Value, &body, first, 0, stamp.wall_ns), &body);
        let fits = active.fits(&write, super::summary::Summary::growth(""), 0);
        let written = if fits { active.write(&mut self.storage, write).map(|()| true) } else { self.roll(false) };
        match written {
            // A roll wrote the value with the opening.
            Ok(true) => {}
            Ok(false) => self.values_unwritten = true,
            Err(error) => self.fail(error),
        }
    }

    /// A small value.
    pub fn value(&self, owner: &str, key: &str) -> Option<&[u8]> {
        self.values.get(&(owner.to_owned(), key.to_owned())).map(Vec::as_slice)
    }

    /// The keys that an owner has values under.
    pub fn keys<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.values.keys().filter(move |(known, _)| known == owner).map(|(_, key)| key.as_str())
    }

    /// The figures. `buffered` is counted from the segments and from memory, not derived from the others.
    pub fn stats(&self) -> Stats {
        let delivery = &self.state.delivery;
        let closed: u64 = self.index.iter().map(|segment| delivery.unsettled_in(segment.first, segment.end)).sum();
        let durable = self.durable();
        let active = self.active.as_ref().map_or(0, |active| delivery.unsettled_in(active.header.first, durable));
        let pending = delivery.unsettled_in(durable, self.state.next);
        Stats {
            accepted: self.state.next.saturating_sub(1),
            delivered: delivery.delivered(),
            buffered: closed + active + pending,
            dropped: delivery.dropped(),
            bytes: self.pool.bytes(),
            max_bytes: self.options.max_size,
            oldest_ns: self.oldest_ns(),
            state: if self.in_memory() { BufferState::Memory } else { BufferState::Ok },
            maybe_duplicated: delivery.maybe_duplicated(),
            gaps_refused: delivery.gaps_refused(),
        }
    }

    /// Something is held in memory alone: between calls only what finds no place on the disk is unwritten.
    fn in_memory(&self) -> bool {
        self.active.is_none() || self.pending.unwritten().is_some()
    }

    /// Of what an earlier life left in closed segments, only the oldest in the segment is known.
    fn oldest_ns(&self) -> Option<i64> {
        let delivery = &self.state.delivery;
        let time = |from: u64, oldest: Option<i64>| self.times.of(delivery.next_unsettled(from)).or(oldest);
        let closed = self.index.iter().find(|segment| delivery.unsettled_in(segment.first, segment.end) > 0);
        if let Some(segment) = closed {
            return time(segment.first, segment.oldest_ns);
        }
        let active = self.active.as_ref().filter(|active| delivery.unsettled_in(active.header.first, self.end()) > 0);
        let pending = self.pending.iter().filter(|item| !delivery.is_done(item.first)).map(|item| item.time_ns);
        active.and_then(|active| time(active.header.first, active.summary.oldest_ns())).or_else(|| pending.min())
    }

    /// What was dropped since the opening.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Damage found since the last call.
    pub fn take_damage(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.damage)
    }

    /// What the disk last refused, while the spool works in memory.
    pub fn trouble(&self) -> Option<&super::storage::StorageError> {
        self.trouble.as_ref()
    }

    /// Makes everything durable and gives the storage back.
    pub fn close(mut self, now: Now) -> Result<S, Error> {
        // The commit behind it tells that all of this was durable: damage to it is not taken for a torn tail.
        self.sync(now)?;
        // Nothing is sent any more: the lease ends with what was.
        self.closing = true;
        self.state_dirty = true;
        self.sync(now)?;
        if self.pending.is_empty() { Ok(self.storage) } else { Err(Error::Full) }
    }
}
