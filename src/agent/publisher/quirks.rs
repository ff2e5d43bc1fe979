//! What a broker gives less of, or does otherwise, than it was asked for: survived everywhere else, said here (F-27).
//!
//! Owns what was said already: a broker's line is said once, and again when it is another one.

use std::collections::BTreeSet;

use tracing::warn;

use super::Setup;
use crate::mqtt::session::Connected;
use crate::mqtt::{Options, QoS, Version};

/// Lines that are remembered; a broker that says something else each time starts over.
const SAID_MAX: usize = 32;
/// With fewer than these in flight a backlog goes out noticeably slower.
const RECEIVE_MAXIMUM_NARROW: u16 = 10;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Quirks {
    said: BTreeSet<String>,
}

impl Quirks {
    /// A connection stands: what the broker grants is less than what would be used.
    pub(super) fn connected(&mut self, broker: &str, setup: &Setup, asked: &Options, granted: &Connected) {
        let notes = notes(setup, asked, granted);
        if !notes.is_empty() {
            self.say(format!("{broker}: the broker {}", notes.join("; ")));
        }
    }

    /// A message of QoS 2 was acknowledged by PUBACK.
    pub(super) fn puback_to_qos_2(&mut self, broker: &str) {
        self.say(format!(
            "{broker}: the broker answers QoS 2 with PUBACK: messages arrive there at least once, not exactly once"
        ));
    }

    fn say(&mut self, line: String) {
        if self.said.contains(&line) {
            return;
        }
        warn!("{line}");
        if self.said.len() >= SAID_MAX {
            self.said.clear();
        }
        self.said.insert(line);
    }
}

fn notes(setup: &Setup, asked: &Options, granted: &Connected) -> Vec<String> {
    let limits = &granted.limits;
    let mut notes = Vec::new();
    match limits.maximum_qos {
        QoS::AtMostOnce => notes.push("takes QoS 0 at most: what is lost on the way stays lost".to_owned()),
        QoS::AtLeastOnce if setup.exactly_once => {
            notes.push("takes QoS 1 at most: messages arrive at least once, not exactly once".to_owned());
        }
        _ => {}
    }
    if !limits.retain_available {
        notes.push("takes no retained messages: status and metas reach only who listens just then".to_owned());
    }
    if asked.version == Version::V5 && limits.receive_maximum < RECEIVE_MAXIMUM_NARROW {
        notes.push(format!("takes {} at a time: a backlog goes out slowly", limits.receive_maximum));
    }
    if u64::from(limits.maximum_packet_size) < setup.mqtt.max_message {
        notes.push(format!("takes packets of {} bytes at most", limits.maximum_packet_size));
    }
    if granted.keep_alive_s == 0 && asked.keep_alive_s > 0 {
        notes.push("has turned keep-alive off: a dead link shows only by missing acknowledgements".to_owned());
    }
    if granted.session_expiry_s < asked.session_expiry_s {
        let (less, more) = (granted.session_expiry_s, asked.session_expiry_s);
        notes.push(format!("keeps the session for {less} s, not for {more} s: after a longer outage it is a new one"));
    }
    notes
}
