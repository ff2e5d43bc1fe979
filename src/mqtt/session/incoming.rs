//! Incoming messages of QoS 1 and 2 whose exchange is not over.
//!
//! ```text
//!            PUBLISH            acknowledge()          PUBREL            complete(), or at once
//!  (nothing) ───────▶ Waiting ───────────────▶ Known ────────▶ Releasing ──────────────────────▶ (nothing)
//!                        └─────────────▶ (nothing) at QoS 1
//! ```
//!
//! Invariants: PUBACKs go out in the order of the PUBLISHes, and so do PUBRECs [MQTT-4.6.0-2] [MQTT-4.6.0-3]; a
//! QoS 2 identifier that is here is never delivered again, whatever its DUP flag says [MQTT-4.3.3-10]; QoS 2 entries
//! outlive the connection, QoS 1 entries do not, since the server sends those again.

use std::collections::{HashMap, VecDeque};

use crate::mqtt::packet::{PacketId, QoS, Reason};

use super::sabotage::{self, Fault};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Delivered; the caller has not acknowledged it.
    Waiting,
    /// The caller has, but an earlier one goes first, or the server must send it again before.
    Acknowledged(Reason),
    /// PUBREC was sent; PUBREL has not come.
    Known,
    /// PUBREL came; PUBCOMP waits for the caller.
    Releasing,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    qos: QoS,
    state: State,
    /// Its PUBLISH came on this connection: it counts against our Receive Maximum.
    live: bool,
}

/// What to do with a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Deliver it.
    New,
    /// Do nothing: it was delivered and its acknowledgement will follow.
    Pending,
    /// Answer with PUBREC, do not deliver.
    Repeated,
    /// More than our Receive Maximum allows.
    TooMany,
}

/// What a PUBREL is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Release {
    Known,
    /// It came before, and the caller has not completed it.
    Repeated,
    Unknown,
    /// It was not answered with PUBREC yet.
    Early,
}

#[derive(Debug, Default)]
pub(super) struct Incoming {
    entries: HashMap<PacketId, Entry>,
    /// QoS 1, in order of arrival.
    pubacks: VecDeque<PacketId>,
    /// QoS 2, in order of arrival.
    pubrecs: VecDeque<PacketId>,
    live: usize,
}

impl Incoming {
    pub(super) fn restore(&mut self, id: PacketId) {
        self.entries.insert(id, Entry { qos: QoS::ExactlyOnce, state: State::Known, live: false });
    }

    /// Some identifier of QoS 2 is remembered.
    pub(super) fn has_qos_2(&self) -> bool {
        self.entries.values().any(|entry| entry.qos == QoS::ExactlyOnce)
    }

    /// A PUBLISH of QoS 1 or 2 came.
    pub(super) fn arrived(&mut self, id: PacketId, qos: QoS, receive_maximum: u16) -> Arrival {
        let known = self.entries.get(&id).copied();
        let is_live = known.is_some_and(|entry| entry.live);
        if !is_live && self.live >= usize::from(receive_maximum) {
            return Arrival::TooMany;
        }
        let arrival = match known {
            Some(entry) if entry.qos == qos => match entry.state {
                State::Known | State::Releasing => Arrival::Repeated,
                State::Waiting | State::Acknowledged(_) => Arrival::Pending,
            },
            // An identifier that comes back with another QoS is another message: the old exchange is dead.
            Some(_) => {
                self.forget(id);
                Arrival::New
            }
            None => Arrival::New,
        };
        if arrival == Arrival::New {
            self.entries.insert(id, Entry { qos, state: State::Waiting, live: false });
        }
        let Some(entry) = self.entries.get_mut(&id) else { return arrival };
        if !entry.live {
            entry.live = true;
            self.live += 1;
            if !matches!(entry.state, State::Known | State::Releasing) {
                if qos == QoS::ExactlyOnce { self.pubrecs.push_back(id) } else { self.pubacks.push_back(id) }
            }
        }
        arrival
    }

    /// The caller acknowledges; nothing is sent before [`Incoming::next_answer`] says so.
    pub(super) fn acknowledge(&mut self, id: PacketId, reason: Reason) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.state == State::Waiting
        {
            entry.state = State::Acknowledged(reason);
        }
    }

    /// The next PUBACK or PUBREC whose turn it is.
    pub(super) fn next_answer(&mut self) -> Option<(QoS, PacketId, Reason)> {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let queue = if qos == QoS::AtLeastOnce { &mut self.pubacks } else { &mut self.pubrecs };
            let mut turn = 0;
            if sabotage::on(Fault::AnswersOutOfOrder) {
                let is_due =
                    |id: &PacketId| matches!(self.entries.get(id), Some(Entry { state: State::Acknowledged(_), .. }));
                turn = queue.iter().rposition(is_due).unwrap_or(0);
            }
            let Some(&id) = queue.get(turn) else { continue };
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let State::Acknowledged(reason) = entry.state else { continue };
            queue.remove(turn);
            if qos == QoS::ExactlyOnce && !reason.is_error() {
                entry.state = State::Known;
            } else {
                // PUBACK, and PUBREC with an error, end the exchange. [MQTT-4.3.2-5] [MQTT-4.3.3-9]
                self.forget(id);
            }
            return Some((qos, id, reason));
        }
        None
    }

    /// A PUBREL came.
    pub(super) fn released(&mut self, id: PacketId) -> Release {
        match self.entries.get(&id) {
            Some(Entry { qos: QoS::ExactlyOnce, state: State::Known, .. }) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.state = State::Releasing;
                }
                Release::Known
            }
            Some(Entry { state: State::Releasing, .. }) => Release::Repeated,
            Some(Entry { qos: QoS::ExactlyOnce, live: true, .. }) => Release::Early,
            _ => Release::Unknown,
        }
    }

    /// PUBCOMP may go out for it. Whether there was anything to complete.
    pub(super) fn complete(&mut self, id: PacketId) -> bool {
        let is_releasing = self.entries.get(&id).is_some_and(|entry| entry.state == State::Releasing);
        if is_releasing {
            self.forget(id);
        }
        is_releasing
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        let forgets = sabotage::on(Fault::IncomingForgotten);
        self.entries.retain(|_, entry| entry.qos == QoS::ExactlyOnce && !forgets);
        for entry in self.entries.values_mut() {
            entry.live = false;
            if entry.state == State::Releasing {
                entry.state = State::Known; // the server sends its PUBREL again
            }
        }
        self.pubacks.clear();
        self.pubrecs.clear();
        self.live = 0;
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.disconnected();
    }

    fn forget(&mut self, id: PacketId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.live -= usize::from(entry.live);
            if !matches!(entry.state, State::Known | State::Releasing) {
                let queue = if entry.qos == QoS::ExactlyOnce { &mut self.pubrecs } else { &mut self.pubacks };
                queue.retain(|&other| other != id);
            }
        }
    }
}
