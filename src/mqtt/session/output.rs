//! What waits to be written.
//!
//! Two lanes of whole packets: PUBLISH in the one, all else in the other, which goes first whenever the bytes
//! written so far end with a packet. So a PINGREQ or an acknowledgement waits for at most the rest of one packet.
//! Invariants: a lane's `boundary` is the end of the packet that `written` lies in (or `written` itself); at most one
//! lane is inside a packet; after a DISCONNECT nothing is added.

use crate::mqtt::packet::{PACKET_MAX, Version, frame_len};

use super::sabotage::{self, Fault};

/// A lane that was emptied keeps no more memory than this.
const KEPT_MAX: usize = 2 * super::OUTPUT_MAX;

#[derive(Debug, Default)]
pub(super) struct Lane {
    bytes: Vec<u8>,
    written: usize,
    boundary: usize,
}

impl Lane {
    /// To append whole packets to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        // What was written is dropped when it outweighs the rest, so that each byte is moved at most once.
        if self.written >= super::OUTPUT_MAX && self.written >= self.pending() {
            self.bytes.drain(..self.written);
            self.boundary -= self.written;
            self.written = 0;
        }
        &mut self.bytes
    }

    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    fn is_inside_packet(&self) -> bool {
        self.written < self.boundary
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn rest_of_packet(&self) -> &[u8] {
        self.bytes.get(self.written..self.boundary).unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        if self.written == self.bytes.len() {
            self.clear();
            return;
        }
        while self.boundary < self.written {
            let rest = self.bytes.get(self.boundary..).unwrap_or_default();
            // These are packets that were encoded here; the version matters only for what never stands there.
            match frame_len(rest, Version::V5, PACKET_MAX) {
                Ok(Some(length)) => self.boundary += length,
                _ => self.boundary = self.bytes.len(),
            }
        }
    }

    /// Drops the packets of which nothing was written.
    fn truncate(&mut self) {
        self.bytes.truncate(self.boundary.max(self.written));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
        self.written = 0;
        self.boundary = 0;
    }
}

#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) control: Lane,
    pub(super) publishes: Lane,
}

impl Output {
    /// [MQTT-3.3.4-8]: what is not PUBLISH never waits behind PUBLISH.
    pub(super) fn transmit(&self) -> &[u8] {
        if self.publishes_go_first() {
            return self.publishes.rest();
        }
        match (self.publishes.is_inside_packet(), self.control.pending() == 0) {
            (_, true) => self.publishes.rest(),
            (true, false) => self.publishes.rest_of_packet(),
            (false, false) => self.control.rest(),
        }
    }

    fn publishes_go_first(&self) -> bool {
        sabotage::on(Fault::ControlBehindPublishes) && self.publishes.pending() > 0
    }

    pub(super) fn transmitted(&mut self, count: usize) {
        if self.publishes_go_first() || self.publishes.is_inside_packet() || self.control.pending() == 0 {
            self.publishes.advance(count);
        } else {
            self.control.advance(count);
        }
    }

    /// Where a DISCONNECT goes: behind everything. [MQTT-3.14.4-1]
    pub(super) fn last(&mut self) -> &mut Vec<u8> {
        self.publishes.buffer()
    }

    /// Drops every PUBLISH of which nothing was written.
    pub(super) fn drop_publishes(&mut self) {
        self.publishes.truncate();
    }

    pub(super) fn clear(&mut self) {
        self.control.clear();
        self.publishes.clear();
    }
}
