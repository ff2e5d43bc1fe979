//! Whether a session that the broker calls present is the one that we mean (R7).
//!
//! A CONNECT whose answer never came may have begun a new session; the next CONNACK then says "present" of an empty one,
//! and a PUBREL into it would end an exchange whose message nobody has. So a session in which QoS 2 is used bears a
//! mark: a subscription that is never used. In doubt it is taken away: the broker answers 0x00 where it was there.
//!
//! ```text
//!              new session                SUBACK
//!   unmarked ──────────────▶ marking ────────────────▶ marked ──┐ doubt and "present"
//!      ▲  ▲                                               ▲     ▼
//!      │  └─ refused, 3.1.1, no QoS 2                     │   asking ── 0x11 ──▶ the session is given up (R9)
//!      └──────────────────────────────────────────────────┴───── 0x00: ours, mark it again
//! ```
//!
//! Invariants: while it is asked nothing else is sent, and what the broker says of exchanges is held back; without a
//! mark a doubtful session is given up. Only QoS 2 needs it: at QoS 1 a lost session costs copies, never messages.

use std::time::Duration;

use tracing::{debug, info};

use super::Publisher;
use crate::agent::log::{Ended, SessionStep};
use crate::mqtt::packet::{Filter, PropertyList};
use crate::mqtt::session::Event;
use crate::mqtt::{PacketId, QoS, Reason, Version};

/// Events that are held back while it is asked; more than can be in flight never come.
const HELD_MAX: usize = 4096;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The session may be another one than ours.
    pub(super) is_doubtful: bool,
    /// It bears our mark. Durable.
    pub(super) is_marked: bool,
    marking: Option<PacketId>,
    asking: Option<PacketId>,
    held: Vec<Event>,
}

/// What a session turned out to be.
pub(super) enum Verdict {
    /// Go on with these events.
    Ours(Vec<Event>),
    /// Give it up.
    Another,
}

impl Doubt {
    /// Nothing may be sent, and events are held, until the broker has answered.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// The connection is gone, and with it every question. `true`: with it went what the broker had said of exchanges;
    /// the session has taken note of that and the log has not, so the two can't go on together.
    pub(super) fn disconnected(&mut self) -> bool {
        (self.marking, self.asking) = (None, None);
        let has_lost = !self.held.is_empty();
        self.held.clear();
        has_lost
    }

    /// Holds an event back while it is asked.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        let is_held = matches!(event, Event::Acknowledged { .. } | Event::Received { .. } | Event::Completed { .. });
        if !self.is_asking() || !is_held || self.held.len() >= HELD_MAX {
            return Some(event);
        }
        self.held.push(event);
        None
    }
}

impl Publisher {
    /// The filter of the mark, where this connection can bear one.
    fn mark_filter(&self) -> Option<String> {
        (self.setup.exactly_once && self.session.version() == Version::V5)
            .then(|| format!("{}/session", self.setup.mqtt.base))
    }

    /// The broker has begun a new session: there is no doubt, and no mark.
    pub(super) async fn session_is_new(&mut self, now: Duration) {
        self.doubt.is_doubtful = false;
        if std::mem::take(&mut self.doubt.is_marked) {
            self.keep(super::MARK, Vec::new()).await;
        }
        self.mark(now);
    }

    /// Asks whether a session that is called present is ours. `false`: it can't be asked, give it up.
    pub(super) fn ask(&mut self, now: Duration) -> bool {
        let Some(filter) = self.mark_filter().filter(|_| self.doubt.is_marked) else { return false };
        self.doubt.asking = self.session.unsubscribe(now, &[&filter]).ok();
        self.doubt.asking.is_some()
    }

    fn mark(&mut self, now: Duration) {
        let Some(filter) = self.mark_filter() else { return };
        let marking = self.session.subscribe(now, &[Filter::new(&filter, QoS::AtMostOnce)], &PropertyList::new());
        self.doubt.marking = marking.inspect_err(|error| debug!("the session can't be marked: {error}")).ok();
    }

    /// SUBACK.
    pub(super) async fn marked(&mut self, id: PacketId, reasons: &[Reason]) {
        if self.doubt.marking != Some(id) {
            return;
        }
        self.doubt.marking = None;
        if reasons.iter().any(|reason| reason.is_error()) {
            info!(
                "the broker takes no subscription to {}/session: after a cut at the wrong moment QoS 2 may come twice",
                self.setup.mqtt.base
            );
        } else if !self.doubt.is_marked {
            self.doubt.is_marked = true;
            self.keep(super::MARK, b"1".to_vec()).await;
        }
    }

    /// UNSUBACK: what the session is.
    pub(super) async fn answered(
        &mut self,
        now: Duration,
        id: PacketId,
        reasons: &[Reason],
    ) -> Result<Option<Verdict>, Ended> {
        if self.doubt.asking != Some(id) {
            return Ok(None);
        }
        self.doubt.asking = None;
        let held = std::mem::take(&mut self.doubt.held);
        if reasons != [Reason::SUCCESS] {
            return Ok(Some(Verdict::Another));
        }
        debug!("the session is ours");
        self.doubt.is_doubtful = false;
        // The mark was taken away by asking: until it is there again, the next doubt has no answer.
        self.doubt.is_marked = false;
        self.keep(super::MARK, Vec::new()).await;
        let at = self.log.session(SessionStep::Resumed).await?;
        self.release(&at.released);
        self.mark(now);
        Ok(Some(Verdict::Ours(held)))
    }
}
