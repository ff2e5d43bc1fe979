//! Outgoing exchanges of QoS 1 and 2 that are not over.
//!
//! ```text
//!             publish           PUBREC            release()            PUBCOMP
//!  (nothing) ─────────▶ Sent ──────────▶ Received ─────────▶ Released ─────────▶ (nothing)
//!                       │ ▲ │ PUBACK, PUBREC ≥ 0x80
//!       connection lost │ │ └────────▶ (nothing)
//!                       ▼ │ publish, with DUP
//!                      Again
//! ```
//!
//! Two lines of entries: `publishes` (Sent, Again) in the order of their first sending, `exchanges` (Received,
//! Released) in the order of their PUBRECs. Invariants: an identifier stands at most once in all; PUBRELs go out in
//! the order of `exchanges`, so one that was released early waits for those before it; `again` counts the entries in
//! Again, and `next` is the first of them; Released entries stand before all others of their line, and `unreleased`
//! is the first of those others. All operations take constant time, and once the slots were used nothing
//! is allocated.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::mqtt::packet::{PacketId, QoS};

use super::sabotage::{self, Fault};

/// Index of a slot; `NONE` is none.
type Index = u32;
const NONE: Index = Index::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// PUBLISH was sent on an earlier connection and must be sent again.
    Again,
    /// PUBLISH was sent on this connection.
    Sent,
    /// PUBREC came; the caller has not made it durable yet.
    Received,
    /// The caller has, but PUBREL waits for its turn or for a connection.
    Ready,
    /// PUBREL was sent on this connection.
    Released,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) id: PacketId,
    pub(super) qos: QoS,
    pub(super) state: State,
    /// PUBREL may have been sent more than once, or before this process began.
    pub(super) released_before: bool,
    /// Bytes of the PUBLISH.
    size: u32,
    previous: Index,
    next: Index,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    first: Index,
    last: Index,
    count: usize,
}

const EMPTY: Line = Line { first: NONE, last: NONE, count: 0 };

/// Identifiers are chosen by us, so nobody can make them collide on purpose.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u16(u16::from(byte)));
    }

    fn write_u16(&mut self, value: u16) {
        // The map takes its bucket from the low bits and its tag from the high ones: fill both.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }
}

pub(super) struct Window {
    slots: Vec<Slot>,
    free: Index,
    index: HashMap<PacketId, Index, BuildHasherDefault<IdHasher>>,
    publishes: Line,
    exchanges: Line,
    again: usize,
    next: Index,
    /// The first entry of `exchanges` whose PUBREL was not sent on this connection.
    unreleased: Index,
    bytes: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: NONE,
            index: HashMap::default(),
            publishes: EMPTY,
            exchanges: EMPTY,
            again: 0,
            next: NONE,
            unreleased: NONE,
            bytes: 0,
        }
    }

    /// All exchanges that are not over.
    pub(super) fn count(&self) -> usize {
        self.publishes.count + self.exchanges.count
    }

    /// Those that count against Receive Maximum on this connection. [MQTT-3.3.4-7]
    pub(super) fn live(&self) -> usize {
        self.count() - self.again
    }

    /// Those for which the server owes an answer.
    pub(super) fn waiting(&self) -> usize {
        let released = self.line(self.exchanges).filter(|slot| slot.state == State::Released).count();
        self.publishes.count - self.again + released
    }

    /// Whether the server owes an answer to anything.
    pub(super) fn is_waiting(&self) -> bool {
        // Released entries stand before all others in their line.
        self.publishes.count > self.again
            || self.slot(self.exchanges.first).is_some_and(|slot| slot.state == State::Released)
    }

    /// PUBREC came for something that is not over.
    pub(super) fn has_exchanges(&self) -> bool {
        self.exchanges.count > 0
    }

    /// Bytes of the PUBLISH packets in flight, as far as they are known.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What must be sent again next.
    pub(super) fn next_again(&self) -> Option<PacketId> {
        self.slot(self.next).map(|slot| slot.id)
    }

    pub(super) fn find(&self, id: PacketId) -> Option<&Slot> {
        self.index.get(&id).and_then(|&index| self.slot(index))
    }

    /// A PUBLISH that is sent for the first time. The identifier is not in use.
    pub(super) fn add_sent(&mut self, id: PacketId, qos: QoS, size: u32) {
        self.add(id, qos, State::Sent, size);
    }

    /// From the durable store: sent by an earlier process.
    pub(super) fn restore_sent(&mut self, id: PacketId, qos: QoS) {
        if self.find(id).is_some() {
            return;
        }
        let index = self.add(id, qos, State::Again, 0);
        self.again += 1;
        if self.next == NONE {
            self.next = index;
        }
    }

    /// From the durable store: PUBREC came to an earlier process.
    pub(super) fn restore_released(&mut self, id: PacketId) {
        if self.find(id).is_some() {
            return;
        }
        let state = if sabotage::on(Fault::ReleasedNotRestored) { State::Received } else { State::Ready };
        let index = self.add(id, QoS::ExactlyOnce, state, 0);
        if let Some(slot) = self.slot_mut(index) {
            slot.released_before = true;
        }
    }

    /// The PUBLISH that `next_again` names is sent again.
    pub(super) fn sent_again(&mut self, size: u32) {
        let index = self.next;
        self.step_next();
        if let Some(slot) = self.slot_mut(index) {
            let grown = size.saturating_sub(slot.size) as usize;
            slot.size = slot.size.max(size);
            slot.state = State::Sent;
            self.bytes += grown;
            self.again -= 1;
        }
    }

    /// PUBREC: moves to the end of the other line.
    pub(super) fn received(&mut self, id: PacketId) {
        let Some(&index) = self.index.get(&id) else { return };
        self.leave_again(index);
        self.unlink(index);
        if let Some(slot) = self.slot_mut(index) {
            slot.state = State::Received;
            // The content is not needed any more; only the identifier is in flight.
            let size = std::mem::take(&mut slot.size);
            self.bytes -= size as usize;
        }
        self.link(index);
    }

    /// The caller has made the PUBREC durable. Whether that was news.
    pub(super) fn ready(&mut self, id: PacketId) -> bool {
        let Some(&index) = self.index.get(&id) else { return false };
        match self.slot_mut(index) {
            Some(slot) if slot.state == State::Received => {
                slot.state = State::Ready;
                true
            }
            _ => false,
        }
    }

    /// The next PUBREL to send, in the order of the PUBRECs. [MQTT-4.6.0-4]
    pub(super) fn release_next(&mut self) -> Option<PacketId> {
        if sabotage::on(Fault::PubrelsOutOfOrder) {
            let id = self.line(self.exchanges).filter(|slot| slot.state == State::Ready).last()?.id;
            let index = *self.index.get(&id)?;
            self.slot_mut(index)?.state = State::Released;
            return Some(id);
        }
        let slot = self.slot_mut(self.unreleased).filter(|slot| slot.state == State::Ready)?;
        slot.state = State::Released;
        let (id, next) = (slot.id, slot.next);
        self.unreleased = next;
        Some(id)
    }

    /// The exchange is over.
    pub(super) fn remove(&mut self, id: PacketId) {
        let Some(index) = self.index.remove(&id) else { return };
        self.leave_again(index);
        if self.unreleased == index {
            self.unreleased = self.slot(index).map_or(NONE, |slot| slot.next);
        }
        self.unlink(index);
        let free = self.free;
        if let Some(slot) = self.slot_mut(index) {
            slot.next = free;
            let size = std::mem::take(&mut slot.size);
            self.bytes -= size as usize;
            self.free = index;
        }
    }

    /// The connection is gone: what was sent must be sent again, what was released must be released again.
    /// Entries that `keep` does not want are dropped.
    pub(super) fn disconnected(&mut self, keep: impl Fn(PacketId) -> bool) {
        let mut index = self.publishes.first;
        while let Some(&slot) = self.slot(index) {
            if keep(slot.id) {
                if slot.state == State::Sent {
                    self.again += 1;
                }
                if let Some(slot) = self.slot_mut(index) {
                    slot.state = State::Again;
                }
            } else {
                self.remove(slot.id);
            }
            index = slot.next;
        }
        if sabotage::on(Fault::PublishAfterPubrel) {
            let ids: Vec<_> = self.line(self.exchanges).map(|slot| slot.id).collect();
            for id in ids {
                self.remove(id);
                self.restore_sent(id, QoS::ExactlyOnce);
            }
        }
        if sabotage::on(Fault::ResendOutOfOrder) && self.publishes.first != self.publishes.last {
            let first = self.slot(self.publishes.first).copied();
            if let Some(first) = first.filter(|first| first.state == State::Again) {
                self.remove(first.id);
                self.restore_sent(first.id, first.qos);
            }
        }
        self.next = self.publishes.first;
        self.unreleased = self.exchanges.first;
        let mut index = self.exchanges.first;
        while let Some(slot) = self.slot_mut(index) {
            if slot.state == State::Released {
                slot.state = State::Ready;
                slot.released_before = true;
            }
            index = slot.next;
        }
    }

    /// Forgets everything and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free = NONE;
        self.index.clear();
        (self.publishes, self.exchanges) = (EMPTY, EMPTY);
        (self.again, self.next, self.unreleased, self.bytes) = (0, NONE, NONE, 0);
    }

    fn line(&self, line: Line) -> impl Iterator<Item = &Slot> {
        let mut index = line.first;
        std::iter::from_fn(move || {
            let slot = self.slot(index)?;
            index = slot.next;
            Some(slot)
        })
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    fn slot_mut(&mut self, index: Index) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)
    }

    fn add(&mut self, id: PacketId, qos: QoS, state: State, size: u32) -> Index {
        let slot = Slot { id, qos, state, released_before: false, size, previous: NONE, next: NONE };
        let index = self.free;
        let index = if let Some(free) = self.slot_mut(index) {
            let next_free = free.next;
            *free = slot;
            self.free = next_free;
            index
        } else {
            self.slots.push(slot);
            Index::try_from(self.slots.len() - 1).unwrap_or(Index::MAX)
        };
        self.index.insert(id, index);
        self.bytes += size as usize;
        self.link(index);
        index
    }

    fn line_of(&mut self, state: State) -> &mut Line {
        match state {
            State::Again | State::Sent => &mut self.publishes,
            State::Received | State::Ready | State::Released => &mut self.exchanges,
        }
    }

    /// At the end of the line of its state.
    fn link(&mut self, index: Index) {
        let Some(&Slot { state, .. }) = self.slot(index) else { return };
        let line = self.line_of(state);
        let last = std::mem::replace(&mut line.last, index);
        line.count += 1;
        if last == NONE {
            line.first = index;
        }
        if let Some(slot) = self.slot_mut(last) {
            slot.next = index;
        }
        if let Some(slot) = self.slot_mut(index) {
            (slot.previous, slot.next) = (last, NONE);
        }
        if self.unreleased == NONE && matches!(state, State::Received | State::Ready) {
            self.unreleased = index;
        }
    }

    fn unlink(&mut self, index: Index) {
        let Some(&Slot { state, previous, next, .. }) = self.slot(index) else { return };
        let line = self.line_of(state);
        line.count -= 1;
        if line.first == index {
            line.first = next;
        }
        if line.last == index {
            line.last = previous;
        }
        if let Some(slot) = self.slot_mut(previous) {
            slot.next = next;
        }
        if let Some(slot) = self.slot_mut(next) {
            slot.previous = previous;
        }
    }

    /// Before an entry leaves the first line: it is not one to be sent again any more.
    fn leave_again(&mut self, index: Index) {
        if self.slot(index).is_some_and(|slot| slot.state == State::Again) {
            self.again -= 1;
            if self.next == index {
                self.step_next();
            }
        }
    }

    fn step_next(&mut self) {
        let mut index = self.slot(self.next).map_or(NONE, |slot| slot.next);
        while self.slot(index).is_some_and(|slot| slot.state != State::Again) {
            index = self.slot(index).map_or(NONE, |slot| slot.next);
        }
        self.next = index;
    }
}
