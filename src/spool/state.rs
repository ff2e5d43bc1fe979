//! Delivery state: what is done, what is released, how far has been sent, and the gaps that have no number yet.
//!
//! Owns the MQTT session's durable side (DESIGN.md, R4, R5, R7 to R9). It is always written whole, never as a
//! difference.
//!
//! ```text
//!   settled ...... | done_below      settled ranges above        | sent_below          | next
//!   ───────────────┼──────▓▓▓──────▓▓────────────────────────────┼─────────────────────┼──▶ numbers
//!     delivered,   │  in flight: sent and not settled (pinned)   │   not sent yet      │
//!     dropped
//! ```
//!
//! Invariants: released numbers are unsettled; `delivered + dropped` = settled numbers; the *lease* in a state frame
//! is ahead of what was sent, so that after a crash every number that may be at the broker is below it.

use std::ops::Range;

use super::bytes::{Put, Take};
use super::gap;
use super::ranges::Ranges;
use super::sabotage::{self, Fault};
use super::types::Gap;

/// A number is not sent before the one so far below it is durably done (R5): packet identifiers would be used twice.
pub const WINDOW: u64 = 32_768;

/// The MQTT session's state, as far as it has to survive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    session: u64,
    connecting: bool,
    clean: bool,
    done_below: u64,
    done: Ranges,
    released: Vec<u64>,
    sent_below: u64,
    pinned_below: u64,
    delivered: u64,
    dropped: u64,
    maybe_duplicated: u64,
    gaps_refused: u64,
}

impl Delivery {
    pub(crate) fn new() -> Self {
        Self { done_below: 1, sent_below: 1, pinned_below: 1, ..Self::default() }
    }

    /// Counts sessions: grows by one whenever the broker had none (R7).
    pub fn session(&self) -> u64 {
        self.session
    }

    /// A CONNECT without Clean Start was under way while something was released (R7).
    pub fn connecting(&self) -> bool {
        self.connecting
    }

    /// The session is not trusted: CONNECT with Clean Start (R9).
    pub fn clean(&self) -> bool {
        self.clean
    }

    /// All numbers below are done or dropped.
    pub fn done_below(&self) -> u64 {
        self.done_below
    }

    /// Whether this number is done or dropped.
    pub fn is_done(&self, number: u64) -> bool {
        number < self.done_below || self.done.contains(number)
    }

    /// Numbers that a PUBREC came for and no PUBCOMP, in PUBREC order.
    pub fn released(&self) -> &[u64] {
        &self.released
    }

    /// Numbers below may have been sent in this session.
    pub fn sent_below(&self) -> u64 {
        self.sent_below
    }

    /// Messages that may have been delivered twice.
    pub fn maybe_duplicated(&self) -> u64 {
        self.maybe_duplicated
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn gaps_refused(&self) -> u64 {
        self.gaps_refused
    }

    /// Whether something in `from..to` was sent, perhaps, and is not settled: no gap may name it (R8).
    pub(crate) fn pins(&self, from: u64, to: u64) -> bool {
        let to = to.min(self.pinned_below);
        from < to && self.unsettled_in(from, to) > 0 && !sabotage::on(Fault::NotPinned)
    }

    pub(crate) fn unsettled_in(&self, from: u64, to: u64) -> u64 {
        let from = from.max(self.done_below);
        if from >= to { 0 } else { to - from - self.done.count_in(from, to) }
    }

    /// The unsettled parts of `from..to`.
    pub(crate) fn unsettled(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        self.done.missing_in(from.max(self.done_below), to)
    }

    /// The unsettled parts of `from..to` without what is released: for these no content is needed any more.
    pub(crate) fn readable(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut without = self.done.clone();
        for number in &self.released {
            without.insert(*number, number.saturating_add(1));
        }
        without.missing_in(from.max(self.done_below), to)
    }

    /// The first unsettled number from `number` on.
    pub(crate) fn next_unsettled(&self, number: u64) -> u64 {
        let number = number.max(self.done_below);
        self.done.end_of(number).unwrap_or(number)
    }

    fn settle(&mut self, from: u64, to: u64) -> u64 {
        let from = from.max(self.done_below);
        let new = self.done.insert(from, to);
        while let Some(end) = self.done.pop_at(self.done_below) {
            self.done_below = self.done_below.max(end);
        }
        if new > 0 && !self.released.is_empty() {
            self.released.retain(|number| !(from..to).contains(number));
        }
        new
    }

    pub(crate) fn deliver(&mut self, numbers: Range<u64>) -> bool {
        let new = self.settle(numbers.start, numbers.end);
        self.delivered += new;
        new > 0
    }

    pub(crate) fn drop_range(&mut self, from: u64, to: u64) -> u64 {
        let new = self.settle(from, to);
        self.dropped += new;
        new
    }

    pub(crate) fn give_up_gap(&mut self, number: u64) {
        let new = self.drop_range(number, number.saturating_add(1));
        self.gaps_refused += new;
    }

    /// Gaps that had no number yet.
    pub(crate) fn count_gaps_given_up(&mut self, count: u64) {
        self.gaps_refused += count;
    }

    pub(crate) fn release(&mut self, number: u64) -> bool {
        let forgotten = sabotage::on(Fault::ReleasedForgotten);
        let new = !self.is_done(number) && !self.released.contains(&number) && !forgotten;
        if new {
            self.released.push(number);
        }
        new
    }

    /// What is sent while no state can be written (`trusted` is false) may be sent again after a crash.
    pub(crate) fn sent(&mut self, numbers: Range<u64>, trusted: bool) {
        if !trusted {
            self.maybe_duplicated += numbers.end.saturating_sub(numbers.start.max(self.sent_below));
        }
        self.sent_below = self.sent_below.max(numbers.end);
        self.pinned_below = self.pinned_below.max(self.sent_below);
    }

    /// Numbers below are on their way to a session: no gap names them (R8).
    pub(crate) fn pin(&mut self, below: u64) {
        self.pinned_below = self.pinned_below.max(below);
    }

    pub(crate) fn new_session(&mut self) {
        self.maybe_duplicated += self.unsettled_in(self.done_below, self.sent_below);
        self.session += 1;
        self.released.clear();
        self.sent_below = self.done_below;
        self.connecting = false;
    }

    pub(crate) fn set_connecting(&mut self, connecting: bool) {
        self.connecting = connecting;
    }

    pub(crate) fn set_clean(&mut self, clean: bool) {
        self.clean = clean;
    }

    /// The number behind all that is settled.
    pub(crate) fn settled_end(&self) -> u64 {
        self.done.last_end().unwrap_or(0).max(self.done_below)
    }

    /// After recovery: nothing at or above `next` can have been sent.
    pub(crate) fn clip(&mut self, next: u64) {
        self.sent_below = self.sent_below.min(next);
        self.pinned_below = self.pinned_below.min(next).max(self.sent_below);
        self.released.retain(|number| *number < next);
    }
}

/// What a state frame holds: delivery state, the next number, and gaps that wait for a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) delivery: Delivery,
    pub(crate) next: u64,
    pub(crate) open_gaps: Vec<Gap>,
}

const CONNECTING: u8 = 1;
const CLEAN: u8 = 2;

impl State {
    /// Appends the state as it is when `next` is the next number, with this lease, and these gaps as the open ones.
    pub(crate) fn encode(&self, next: u64, lease: u64, open_gaps: &[Gap], out: &mut Vec<u8>) {
        let d = &self.delivery;
        out.put_u8(if d.connecting { CONNECTING } else { 0 } | if d.clean { CLEAN } else { 0 });
        for number in [
            d.session,
            next,
            d.done_below,
            lease,
            d.pinned_below,
            d.delivered,
            d.dropped,
            d.maybe_duplicated,
            d.gaps_refused,
        ] {
            out.put_u64(number);
        }
        out.put_varint(d.done.len() as u64);
        let mut at = d.done_below;
        for (start, end) in d.done.iter() {
            out.put_varint(start.saturating_sub(at));
            out.put_varint(end.saturating_sub(start));
            at = end;
        }
        out.put_varint(d.released.len() as u64);
        for number in &d.released {
            out.put_varint(number.saturating_sub(d.done_below));
        }
        out.put_varint(open_gaps.len() as u64);
        for gap in open_gaps {
            gap::encode(gap, out);
        }
    }

    pub(crate) fn decode(take: &mut Take<'_>) -> Option<Self> {
        let flags = take.u8()?;
        let (session, next, done_below, lease, pinned_below) =
            (take.u64()?, take.u64()?, take.u64()?, take.u64()?, take.u64()?);
        let mut delivery = Delivery {
            session,
            connecting: flags & CONNECTING != 0,
            clean: flags & CLEAN != 0,
            done_below,
            sent_below: lease,
            pinned_below: pinned_below.max(lease),
            delivered: take.u64()?,
            dropped: take.u64()?,
            maybe_duplicated: take.u64()?,
            gaps_refused: take.u64()?,
            ..Delivery::default()
        };
        let mut at = done_below;
        for _ in 0..take.varint()? {
            let start = at.checked_add(take.varint()?)?;
            let end = start.checked_add(take.varint()?)?;
            delivery.done.insert(start, end);
            at = end;
        }
        for _ in 0..take.varint()? {
            delivery.released.push(done_below.checked_add(take.varint()?)?);
        }
        let mut open_gaps = Vec::new();
        for _ in 0..take.varint()? {
            open_gaps.push(gap::decode(take)?);
        }
        Some(Self { delivery, next, open_gaps })
    }
}
