//! What goes out next: the stretch of the log between what is done and what was read, in order of number.
//!
//! Pure bookkeeping. A message is *waiting* (read, with its bytes), then *sent* (only its number is kept; the log
//! has the bytes), then done. Invariants: waiting numbers grow and lie above all that is sent in this
//! connection; a packet identifier follows from its number (R2), so that a restart needs no table; at most
//! as many bytes wait as the log lets be read ahead, and what one read gives.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::encode::{Identity, Message};
use crate::mqtt::{PacketId, QoS};
use crate::spool::{GapReason, Refusal};

/// A number's identifier is used again by the number that is larger by this (R2, R5).
const IDENTIFIERS: u64 = 32_768;
/// What a waiting message takes beside its topic and payload.
const ITEM_BYTES: usize = 64;

/// Which message it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its number in the log.
    pub number: u64,
    /// What names it in its payload.
    pub identity: Identity,
    /// Its source; `None`: it is a gap.
    pub source: Option<Arc<str>>,
    /// When it was taken, nanoseconds since 1970.
    pub time_ns: i64,
}

impl Origin {
    /// What the log is told when it will never be taken.
    pub fn refusal(&self, reason: GapReason) -> Refusal {
        Refusal {
            number: self.number,
            reason,
            store: self.identity.store,
            boot: self.identity.boot,
            seq: self.identity.seq,
            source: self.source.clone(),
            time_ns: self.time_ns,
        }
    }
}

/// A message that has been read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Which.
    pub origin: Origin,
    /// How firmly it is to be delivered.
    pub qos: QoS,
    /// Whether the broker keeps it.
    pub retain: bool,
    /// Topic and payload.
    pub message: Message,
}

/// The packet identifier of a number (R2).
pub fn packet_id(number: u64) -> PacketId {
    let id = NonZeroU16::MIN.saturating_add((number % IDENTIFIERS) as u16);
    PacketId::from(id)
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Window {
    waiting: VecDeque<Item>,
    waiting_bytes: usize,
    /// So many may wait; the next read is asked for below half of it.
    waiting_max: usize,
    sent: BTreeMap<PacketId, Origin>,
    next_read: u64,
}

impl Window {
    /// Forgets everything: what is not done is read again from `low` on.
    pub fn rewind(&mut self, low: u64) {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.sent.clear();
        self.next_read = low;
    }

    /// From which number on to read, if there is room for more.
    pub fn wants(&self, appended: u64) -> Option<u64> {
        let has_room = self.waiting.is_empty() || self.waiting_bytes < self.waiting_max / 2;
        (has_room && self.next_read < appended).then_some(self.next_read)
    }

    /// What a read brought, where the next one goes on, and how many bytes may wait.
    pub fn fill(&mut self, items: impl IntoIterator<Item = Item>, next_read: u64, waiting_max: usize) {
        self.waiting_max = waiting_max;
        for item in items {
            self.waiting_bytes += bytes(&item);
            self.waiting.push_back(item);
        }
        self.next_read = next_read;
    }

    /// The next message to send.
    pub fn front(&self) -> Option<&Item> {
        self.waiting.front()
    }

    /// Puts the message with this identifier, which was sent on an earlier connection, in front. Messages of QoS 0
    /// before it, of which nobody knows whether they were sent, go after it. `false`: it is not there.
    pub fn bring_to_front(&mut self, id: PacketId) -> bool {
        let Some(index) = self.waiting.iter().position(|item| item.qos != QoS::AtMostOnce) else { return false };
        if self.waiting.get(index).is_none_or(|item| packet_id(item.origin.number) != id) {
            return false;
        }
        if let Some(item) = self.waiting.remove(index) {
            self.waiting.push_front(item);
        }
        true
    }

    /// The front was given to the session: its number waits for the acknowledgement, unless it is QoS 0.
    pub fn sent(&mut self) {
        if let Some(item) = self.drop_front()
            && item.qos != QoS::AtMostOnce
        {
            self.sent.insert(packet_id(item.origin.number), item.origin);
        }
    }

    /// Takes the front away: it was refused, or is not wanted.
    pub fn drop_front(&mut self) -> Option<Item> {
        let item = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes(&item);
        Some(item)
    }

    /// A PUBREL of an earlier connection is on its way for this number: its PUBCOMP must find it.
    pub fn released(&mut self, number: u64) {
        // It is accepted by the broker: of what it was nobody will ask any more.
        let identity = Identity { store: [0; 4], boot: 0, seq: 0 };
        self.sent.insert(packet_id(number), Origin { number, identity, source: None, time_ns: 0 });
    }

    /// Whose identifier it is.
    pub fn number(&self, id: PacketId) -> Option<u64> {
        self.sent.get(&id).map(|origin| origin.number)
    }

    /// The exchange is over.
    pub fn finished(&mut self, id: PacketId) -> Option<Origin> {
        self.sent.remove(&id)
    }

    /// Messages that wait for the broker's acknowledgement.
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// The lowest and the highest number that wait for the broker's acknowledgement.
    pub fn span(&self) -> Option<(u64, u64)> {
        let numbers = || self.sent.values().map(|origin| origin.number);
        Some((numbers().min()?, numbers().max()?))
    }

    /// Everything that was read has been sent and acknowledged, and nothing is left to read.
    pub fn is_drained(&self, appended: u64) -> bool {
        self.waiting.is_empty() && self.sent.is_empty() && self.next_read >= appended
    }
}

fn bytes(item: &Item) -> usize {
    ITEM_BYTES + item.message.topic.len() + item.message.payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(number: u64, qos: QoS) -> Item {
        let identity = Identity { store: [1; 4], boot: 1, seq: number };
        let origin = Origin { number, identity, source: Some("s".into()), time_ns: 0 };
        Item { origin, qos, retain: false, message: Message { topic: "t".into(), payload: vec![0; 100] } }
    }

    #[test]
    fn identifiers_follow_from_numbers_and_come_round() {
        assert_eq!(packet_id(0).value(), 1);
        assert_eq!(packet_id(32_767).value(), 32_768);
        assert_eq!(packet_id(32_768).value(), 1);
        assert_eq!(packet_id(u64::MAX).value(), 32_768);
    }

    #[test]
    fn a_message_waits_is_sent_and_is_done() {
        let mut window = Window::default();
        window.rewind(5);
        assert_eq!(window.wants(5), None);
        assert_eq!(window.wants(8), Some(5));
        window.fill([item(5, QoS::AtLeastOnce), item(6, QoS::AtMostOnce)], 8, 0);
        assert_eq!(window.wants(8), None);
        assert_eq!(window.front().unwrap().origin.number, 5);
        window.sent();
        window.sent();
        assert_eq!(window.in_flight(), 1, "QoS 0 waits for nothing");
        assert_eq!(window.span(), Some((5, 5)));
        assert!(!window.is_drained(8));
        assert_eq!(window.finished(packet_id(5)).unwrap().number, 5);
        assert_eq!(window.finished(packet_id(5)), None, "an acknowledgement counts once");
        assert!(window.is_drained(8) && window.span().is_none());
    }

    #[test]
    fn what_was_in_flight_goes_first() {
        let mut window = Window::default();
        window.fill([item(1, QoS::AtMostOnce), item(2, QoS::ExactlyOnce), item(3, QoS::AtLeastOnce)], 4, 0);
        assert!(!window.bring_to_front(packet_id(3)), "order across QoS 1 and 2 is kept");
        assert!(window.bring_to_front(packet_id(2)));
        let order: Vec<_> = std::iter::from_fn(|| window.drop_front()).map(|item| item.origin.number).collect();
        assert_eq!(order, [2, 1, 3]);
        assert!(!window.bring_to_front(packet_id(2)));
    }

    #[test]
    fn reading_ahead_is_bounded() {
        const MAX: usize = 100_000;
        let mut window = Window::default();
        let mut number = 0;
        while window.wants(u64::MAX).is_some() {
            window.fill([item(number, QoS::AtLeastOnce)], number + 1, MAX);
            number += 1;
        }
        assert!((MAX / 2..MAX).contains(&window.waiting_bytes), "{}", window.waiting_bytes);
        while window.drop_front().is_some() {}
        assert_eq!(window.waiting_bytes, 0);
        window.rewind(3);
        assert_eq!(window.wants(u64::MAX), Some(3));
    }
}
