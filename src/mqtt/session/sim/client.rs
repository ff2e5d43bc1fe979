//! Our side: a log of messages, a store that loses what was not synced, and the rules R1 to R9 of DESIGN.md.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::super::{Event, Options, PublishError, RequestError, Session, Want};
use super::{Ledger, Plan, Random};
use crate::mqtt::packet::{Filter, PacketId, Properties, PropertyList, Publish, QoS, Reason, Version};

/// Payloads from here on are of messages outside the log.
pub(super) const VOLATILE: u32 = 1 << 31;
const STATUS_ID: u16 = 49_152;

pub(super) struct LogMessage {
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) payload: Vec<u8>,
}

/// What the store knows.
#[derive(Clone, Debug, Default)]
struct Store {
    done: BTreeSet<u32>,
    /// In the order of the PUBRECs.
    released: Vec<u32>,
    /// Numbers below this were sent in this session.
    sent: u32,
    /// The session is not trusted: CONNECT with Clean Start (R9).
    is_clean: bool,
    /// A CONNECT went out while QoS 2 exchanges were open, and its CONNACK was not handled (R7).
    is_connecting: bool,
    accepted: Vec<u32>,
    incoming_ids: BTreeSet<PacketId>,
    /// Whether the session has our subscription; `None`: a request for it or against it is on its way.
    subscribed: Option<bool>,
    /// CONNECTs since a CONNACK was handled. With more than one, a session that is present may be a new one, in which
    /// nothing is subscribed to.
    unanswered: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Write {
    Done(u32),
    Released(u32),
    /// A message and, at QoS 2, its identifier: one record, or a crash between the two would let it in twice.
    Accepted(u32, Option<PacketId>),
    Forget(PacketId),
}

impl Store {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Done(number) => {
                self.done.insert(number);
                self.released.retain(|&released| released != number);
            }
            Write::Released(number) => self.released.push(number),
            Write::Accepted(number, id) => {
                self.accepted.push(number);
                self.incoming_ids.extend(id);
            }
            Write::Forget(id) => {
                self.incoming_ids.remove(&id);
            }
        }
    }
}

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) log: Rc<Vec<LogMessage>>,
    plan: Plan,
    random: Random,
    ledger: Ledger,
    /// What is on the disk, and what the running process knows.
    durable: Store,
    view: Store,
    unsynced: Vec<Write>,
    to_release: Vec<PacketId>,
    to_acknowledge: Vec<PacketId>,
    to_complete: Vec<PacketId>,
    by_id: BTreeMap<PacketId, u32>,
    next: u32,
    /// Whether we want to be subscribed.
    pub(super) wish: bool,
    requests: BTreeSet<PacketId>,
    /// PUBRELs that were sent more than once and are not known: only a broker that went back in time can tell why.
    pub(super) doubtful: BTreeSet<u32>,
    /// The owner wants the connection to end.
    pub(super) must_close: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("durable", &self.durable)
            .field("next", &self.next)
            .field("want", &self.session.want())
            .field("in_flight", &self.session.in_flight())
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(plan: Plan, mut random: Random, ledger: Ledger) -> Self {
        let log = (0..plan.messages)
            .map(|number| LogMessage {
                topic: format!("topic/{}", random.below(plan.topics)),
                qos: QoS::from_bits([0, 1, 1, 2, 2, 2][random.below(6) as usize]).unwrap(),
                payload: [number.to_be_bytes().to_vec(), vec![0; random.below(60) as usize]].concat(),
            })
            .collect();
        let durable = Store { is_clean: true, ..Store::default() };
        Self {
            session: Session::new(plan.in_flight_max, 400),
            log: Rc::new(log),
            plan,
            random,
            ledger,
            view: durable.clone(),
            durable,
            unsynced: Vec::new(),
            to_release: Vec::new(),
            to_acknowledge: Vec::new(),
            to_complete: Vec::new(),
            by_id: BTreeMap::new(),
            next: 0,
            wish: true,
            requests: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            must_close: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.durable.done.len() == self.log.len()
            && self.session.in_flight() == 0
            && self.unsynced.is_empty()
            && !self.durable.is_clean
            // What the broker has of a session shows when it says that it is present.
            && self.session.is_connected()
            && self.durable.subscribed == Some(self.wish)
    }

    pub(super) fn accepted(&self) -> &[u32] {
        &self.view.accepted
    }

    pub(super) fn connect(&mut self, now: Duration) {
        // R7: a session that may be a new one behind our back is not trusted with PUBRELs. (The agent asks by
        // UNSUBSCRIBE first; a clean start is the simplest answer to doubt.)
        let doubted = self.durable.is_connecting;
        let is_delicate = self.session.has_qos_2_state();
        self.commit(|store| {
            store.is_clean |= doubted;
            store.is_connecting = is_delicate;
            store.unanswered += 1;
        });
        let options = Options {
            version: self.plan.version,
            topic_aliases_out: 4,
            receive_maximum: 3,
            hold_completion: true,
            ..Options::new("sim")
        };
        self.session.connect(now, &options, self.durable.is_clean).unwrap();
    }

    /// Gives the session what it wants, or a part of it.
    pub(super) fn fill(&mut self, now: Duration) {
        for _ in 0..1 + self.random.below(4) {
            let (number, is_resend) = match self.session.want() {
                Want::Nothing => return,
                Want::Resend(id) => (self.by_id[&id], true),
                Want::Fresh { .. } => match self.next_fresh() {
                    Some(number) => (number, false),
                    None => return,
                },
            };
            if !self.give(now, number, is_resend) {
                return;
            }
        }
    }

    /// Asks for the subscription, or for its end, where the session has it otherwise.
    pub(super) fn request(&mut self, now: Duration, is_calm: bool) {
        if !is_calm && self.random.percent(10) && self.requests.is_empty() {
            self.wish = !self.wish;
        }
        let again = !self.requests.is_empty() && self.requests.len() < 3 && self.random.percent(20);
        if !self.session.is_connected() || (!again && self.durable.subscribed == Some(self.wish)) {
            return;
        }
        if !again && !self.requests.is_empty() {
            return;
        }
        // Unknown before it is sent: a crash behind it must not believe what was before.
        self.commit(|store| store.subscribed = None);
        let sent = if self.wish {
            self.session.subscribe(now, &[Filter::new("to/us", QoS::ExactlyOnce)], &PropertyList::new())
        } else {
            self.session.unsubscribe(now, &["to/us"])
        };
        match sent {
            Ok(id) => assert!(self.requests.insert(id), "request {id} bears an identifier in use"), // [MQTT-2.2.1-3]
            Err(RequestError::TooLarge { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn requested(&mut self, id: PacketId) {
        assert!(self.requests.remove(&id), "nothing was asked under {id}");
        if self.requests.is_empty() {
            let wish = self.wish;
            self.commit(|store| store.subscribed = Some(wish));
        }
    }

    fn next_fresh(&mut self) -> Option<u32> {
        while self.view.done.contains(&self.next) {
            self.next += 1;
        }
        // R5: an identifier comes round only when its last message is durably done.
        let earlier = self.next.checked_sub(self.plan.ids);
        let is_free = earlier.is_none_or(|earlier| {
            (0..=earlier).rev().step_by(self.plan.ids as usize).all(|n| self.durable.done.contains(&n))
        });
        (is_free && self.next < self.log.len() as u32).then_some(self.next)
    }

    fn give(&mut self, now: Duration, number: u32, is_resend: bool) -> bool {
        let log = Rc::clone(&self.log);
        let entry = &log[number as usize];
        let id = PacketId::new(1 + (number % self.plan.ids) as u16).unwrap(); // R2
        let is_kept = entry.qos != QoS::AtMostOnce;
        let message = Publish {
            dup: false,
            qos: entry.qos,
            retain: false,
            topic: &entry.topic,
            id: is_kept.then_some(id),
            properties: Properties::EMPTY,
            payload: &entry.payload,
        };
        match self.session.publish(now, &message) {
            Ok(()) if is_resend => {}
            Ok(()) => {
                self.next = number + 1;
                self.commit(|store| store.sent = store.sent.max(number + 1));
                if is_kept {
                    let before = self.by_id.insert(id, number);
                    assert_eq!(before, None, "no identifier twice at once");
                } else {
                    self.write(Write::Done(number));
                }
            }
            Err(PublishError::Full) => return false,
            Err(PublishError::TooLarge { .. } | PublishError::QosTooHigh { .. }) => self.give_up(number, id, is_resend),
            Err(error) => panic!("{error}"),
        }
        true
    }

    /// The server takes less than it did: a gap, or, in the middle of a QoS 2 exchange, the end of the session (R9).
    fn give_up(&mut self, number: u32, id: PacketId, is_resend: bool) {
        if is_resend && !self.session.abandon(id) {
            self.commit(|store| store.is_clean = true);
            self.must_close = true;
            return;
        }
        if is_resend {
            self.by_id.remove(&id);
        }
        self.write(Write::Done(number));
    }

    pub(super) fn handle_events(&mut self, now: Duration) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Connected(connected) => self.connected(now, connected.session_present),
                Event::Acknowledged { id, .. } if id.value() == STATUS_ID => {}
                Event::Acknowledged { id, .. } => self.finished(id),
                Event::Received { id } => {
                    self.write(Write::Released(self.by_id[&id]));
                    self.to_release.push(id);
                }
                Event::Completed { id, reason, first } => {
                    if first && reason != Reason::SUCCESS {
                        // R9: the broker went back in time. What it has lost is sent again, as new.
                        assert!(self.plan.goes_back, "the broker forgot what it had just received");
                        self.commit(|store| store.is_clean = true);
                        self.must_close = true;
                        continue;
                    }
                    if reason != Reason::SUCCESS {
                        self.doubtful.extend(self.by_id.get(&id));
                    }
                    self.finished(id);
                }
                Event::Message(message) => {
                    let number = u32::from_be_bytes(message.payload().try_into().unwrap());
                    let is_new = !self.view.accepted.contains(&number);
                    assert!(is_new || message.qos != QoS::ExactlyOnce, "QoS 2 message {number} came twice");
                    if is_new {
                        let id = message.id.filter(|_| message.qos == QoS::ExactlyOnce);
                        self.write(Write::Accepted(number, id));
                    }
                    self.to_acknowledge.extend(message.id);
                }
                Event::Released { id } => {
                    self.write(Write::Forget(id));
                    self.to_complete.push(id);
                }
                Event::Subscribed { id, .. } | Event::Unsubscribed { id, .. } => self.requested(id),
                other => panic!("{other:?}"),
            }
        }
    }

    fn finished(&mut self, id: PacketId) {
        let number = self.by_id.remove(&id).expect("only what is in flight ends");
        self.write(Write::Done(number));
    }

    fn connected(&mut self, now: Duration, session_present: bool) {
        let was_clean = self.durable.is_clean;
        if !session_present {
            // R7: nothing of the old session counts, and that is durable before anything else is sent.
            self.unsynced.retain(|write| matches!(write, Write::Done(_) | Write::Accepted(..)));
            self.to_release.clear();
            self.to_acknowledge.clear();
            self.to_complete.clear();
            self.by_id.clear();
            self.next = 0;
            self.sync();
            self.commit(|store| {
                store.released.clear();
                store.incoming_ids.clear();
                store.sent = 0;
                store.subscribed = Some(false);
            });
        }
        self.commit(|store| {
            (store.is_connecting, store.is_clean) = (false, false);
            if std::mem::take(&mut store.unanswered) > 1 {
                store.subscribed = None;
            }
        });
        if was_clean && self.plan.version == Version::V311 {
            // A clean session of 3.1.1 ends with its connection: this one only wiped the old one away.
            self.session.disconnect(Reason::SUCCESS, None);
            return;
        }
        let payload = VOLATILE.to_be_bytes();
        let status = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "status",
            id: PacketId::new(STATUS_ID),
            properties: Properties::EMPTY,
            payload: &payload,
        };
        match self.session.publish(now, &status) {
            // PUBRELs may fill a small Receive Maximum; a small maximum packet size may not.
            Ok(()) | Err(PublishError::Full | PublishError::QosTooHigh { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// What was not durable is now, and what waited for that goes on (R4, R10).
    pub(super) fn sync(&mut self) {
        for write in std::mem::take(&mut self.unsynced) {
            if let Write::Released(number) = write {
                self.ledger.borrow_mut().insert(number);
            }
            self.durable.apply(write);
        }
        // The caller's order is its own affair: the session keeps that of the standard.
        shuffle(&mut self.random, &mut self.to_release);
        shuffle(&mut self.random, &mut self.to_acknowledge);
        for id in std::mem::take(&mut self.to_release) {
            self.session.release(id);
        }
        for id in std::mem::take(&mut self.to_acknowledge) {
            self.session.acknowledge(id, Reason::SUCCESS);
        }
        for id in std::mem::take(&mut self.to_complete) {
            self.session.complete(id);
        }
    }

    fn write(&mut self, write: Write) {
        self.view.apply(write);
        self.unsynced.push(write);
    }

    /// Durable at once.
    fn commit(&mut self, change: impl Fn(&mut Store)) {
        change(&mut self.view);
        change(&mut self.durable);
    }

    pub(super) fn leave(&mut self) {
        self.session.disconnect(Reason::SUCCESS, None);
    }

    pub(super) fn disconnected(&mut self, now: Duration) {
        self.handle_events(now);
        self.must_close = false;
        self.requests.clear();
        self.session.disconnected();
    }

    /// The process ends between two instructions; of what was not synced, the first part may have reached the disk.
    pub(super) fn crash(&mut self) {
        let kept = self.random.below(self.unsynced.len() as u64 + 1) as usize;
        for write in self.unsynced.drain(..).take(kept) {
            if let Write::Released(number) = write {
                self.ledger.borrow_mut().insert(number);
            }
            self.durable.apply(write);
        }
        let id_of = |number: u32| PacketId::new(1 + (number % self.plan.ids) as u16).unwrap();
        // QoS 0 is done when it was handed over.
        for number in 0..self.durable.sent {
            if self.log[number as usize].qos == QoS::AtMostOnce {
                self.durable.done.insert(number);
            }
        }
        self.view = self.durable.clone();
        let sent: Vec<u32> = (0..self.durable.sent)
            .filter(|number| !self.durable.done.contains(number) && !self.durable.released.contains(number))
            .collect();
        let released: Vec<PacketId> = self.durable.released.iter().map(|&number| id_of(number)).collect();
        self.by_id = sent.iter().chain(&self.durable.released).map(|&number| (id_of(number), number)).collect();
        let sent: Vec<_> = sent.iter().map(|&number| (id_of(number), self.log[number as usize].qos)).collect();
        let incoming: Vec<PacketId> = self.durable.incoming_ids.iter().copied().collect();
        self.session = Session::new(self.plan.in_flight_max, 400);
        self.session.restore(&released, &sent);
        self.session.restore_incoming(&incoming);
        self.to_release.clear();
        self.to_acknowledge.clear();
        self.to_complete.clear();
        self.requests.clear();
        self.must_close = false;
        self.next = self.durable.sent;
    }
}

fn shuffle(random: &mut Random, ids: &mut [PacketId]) {
    for end in (1..ids.len()).rev() {
        ids.swap(end, random.below(end as u64 + 1) as usize);
    }
}
