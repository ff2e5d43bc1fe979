//! The spool's parts, and the few steps that all else is made of: write what is pending, flush, fail.
//!
//! ```text
//!            write or flush fails                      a new segment took all that is pending
//!   ok ────────────────────────────▶ memory ────────────────────────────────────────────────▶ ok
//!   active: Some                     active: None; the old segment is set aside, its end is what was durable
//! ```
//!
//! Owns [`Spool`]. Invariants: `pending` holds exactly what is not durable, in number order; what is below `durable`
//! is on the disk; `state.next` is above every number given.

use std::collections::BTreeMap;
use std::time::Duration;

use super::active::{Active, Stamp};
use super::bytes::len_u32;
use super::flush::Flight;
use super::format::{FrameHead, Header, Kind, Run};
use super::gap;
use super::lost::Evidence;
use super::pack::Packing;
use super::pending::{Item, ItemBody, Pending};
use super::pool::{Pool, Slot};
use super::read::Cursor;
use super::sabotage::{self, Fault};
use super::scan::Mode;
use super::state::{State, WINDOW};
use super::storage::{Storage, StorageError};
use super::times::Times;
use super::types::{Damage, Drops, Gap, GapReason, Now, Options, WhenFull};

/// After the disk failed it is tried again so much later; twice as long each time, up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The lease is ahead by messages that take about this part of `max_size`, within these numbers of messages: with half of
/// the window of identifiers (R5) it is this window that a flush is needed for, and the lease costs none of its own.
const LEASE_PART: u64 = 16;
const LEASE_MIN: u64 = 8;
const LEASE_MAX: u64 = WINDOW / 2;
/// So many gaps are remembered; of more, the oldest are on the disk alone.
const SAID_GAPS_MAX: usize = 64;

/// A log on disk with delivery state. See the module's head.
#[derive(Debug)]
pub struct Spool<S: Storage> {
    pub(super) storage: S,
    pub(super) options: Options,
    pub(super) pool: Pool,
    /// Segments that are not written any more, by number.
    pub(super) index: Vec<Segment>,
    pub(super) active: Option<Active>,
    pub(super) pending: Pending,
    pub(super) state: State,
    pub(super) state_dirty: bool,
    /// Lease and low-water mark of the state frame written last, and of the durable one.
    pub(super) written_mark: Mark,
    pub(super) durable_mark: Mark,
    /// State frames of this life.
    pub(super) states_written: u64,
    /// The flush that is under way.
    pub(super) flight: Option<Flight>,
    pub(super) run: Run,
    pub(super) next_segment: u64,
    pub(super) values: BTreeMap<(String, String), Vec<u8>>,
    /// A value found no room; the next segment's opening will have it.
    pub(super) values_unwritten: bool,
    /// There is a session to send into: the lease runs ahead.
    pub(super) connected: bool,
    /// Numbers below were handed to the session in this life, or were read for it: from here the lease runs ahead.
    pub(super) handed_below: u64,
    pub(super) closing: bool,
    pub(super) rng: Rng,
    pub(super) clock: AgeClock,
    pub(super) times: Times,
    pub(super) now: Now,
    pub(super) urgent_since: Option<Duration>,
    /// Records are refused: no segment can be had for them.
    pub(super) full: bool,
    /// Numbers were given and dropped unwritten: the state that says so comes before the next record.
    pub(super) hole: bool,
    /// The number behind all that the log says something of: written, or settled in a state that is written.
    pub(super) log_end: u64,
    /// While full, a segment for records is looked for again then.
    pub(super) full_until: Duration,
    pub(super) trouble: Option<StorageError>,
    pub(super) retry_at: Duration,
    pub(super) retry_after: Duration,
    pub(super) cursor: Option<Cursor>,
    pub(super) packing: Option<Packing>,
    pub(super) damage: Vec<Damage>,
    pub(super) drops: Drops,
    /// Gaps that this life gave a number, until they are settled: one whose frame can't be read any more is said again.
    pub(super) said_gaps: BTreeMap<u64, Gap>,
    /// Of the segment in which something was found to be lost last.
    pub(super) evidence: Option<Evidence>,
}

/// A segment that is not written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) slot: Slot,
    pub(super) header: Header,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Age clock at its last record.
    pub(super) age_ms: u64,
    /// End of its frames, if it was sealed.
    pub(super) data_end: Option<u32>,
    /// The last run in it, for numbers that are missing behind it.
    pub(super) last_run: Run,
    /// Bytes that its frames would take in a packed segment, if that is known.
    pub(super) dense: Option<u32>,
    /// Time of its oldest record.
    pub(super) oldest_ns: Option<i64>,
}

impl Segment {
    /// How far and how it is to be walked.
    pub(super) fn extent(&self) -> (u32, Mode) {
        match self.data_end {
            Some(end) => (end, Mode::Sealed),
            None => (self.slot.size, Mode::Closed),
        }
    }
}

/// How far a state frame allows sending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) lease: u64,
    pub(super) done_below: u64,
}

/// Small generator for salts (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Time that counts for `max_age`: monotonic within a boot; between boots only where both clocks can be believed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AgeClock {
    base_ms: u64,
    opened_at: Duration,
}

impl AgeClock {
    /// Goes on from what was written last.
    pub(super) fn resume(last: Stamp, now: Now) -> Self {
        let away_ns = if last.synced && now.synced { now.wall_ns.saturating_sub(last.wall_ns).max(0) } else { 0 };
        let away_ms = u64::try_from(away_ns / 1_000_000).unwrap_or(0);
        Self { base_ms: last.age_ms.saturating_add(away_ms), opened_at: now.mono }
    }

    pub(super) fn at(&self, now: Now) -> u64 {
        let since = now.mono.saturating_sub(self.opened_at).as_millis();
        self.base_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

impl<S: Storage> Spool<S> {
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { age_ms: self.clock.at(self.now), wall_ns: self.now.wall_ns, synced: self.now.synced }
    }

    pub(super) fn urgent(&mut self) {
        self.urgent_since.get_or_insert(self.now.mono);
    }

    /// The first number that is neither durable nor in the active segment.
    pub(super) fn unwritten_first(&self) -> u64 {
        self.pending.unwritten_first().unwrap_or(self.state.next)
    }

    /// How far the lease runs ahead of what was sent. What lies between is pinned after a crash, so it is bounded in
    /// bytes, and nothing where no broker is reached: else one crash after another would pin all. It costs a flush
    /// for every so many messages at the most.
    pub(super) fn lease_ahead(&self) -> u64 {
        if self.closing || !self.connected || sabotage::on(Fault::NoLease) {
            return 0;
        }
        let from = self.lease_from();
        let place = self.index.get(self.index.partition_point(|segment| segment.end <= from));
        let (messages, bytes) = match (place, &self.active) {
            (Some(segment), _) => (segment.end.saturating_sub(segment.first), segment.slot.size),
            (None, Some(active)) => (self.log_end.saturating_sub(active.header.first), active.used()),
            (None, None) => (1, 1),
        };
        let a_message = u64::from(bytes) / messages.max(1);
        (self.options.max_size / LEASE_PART / a_message.max(1)).clamp(LEASE_MIN, LEASE_MAX)
    }

    /// Where this life stands: what an earlier one may have sent, and what this one has not come to, needs no more lease.
    /// So one crash after another that brings nothing forward pins nothing more.
    fn lease_from(&self) -> u64 {
        self.handed_below.max(self.state.delivery.done_below())
    }

    /// Never below the durable one, under which sending goes on until this one is durable, or one that is being flushed: it
    /// may be this one alone that a crash leaves.
    pub(super) fn lease(&self) -> u64 {
        let ahead = self.lease_from().saturating_add(self.lease_ahead());
        let flight = self.flight.as_ref().filter(|_| !sabotage::on(Fault::FlushForgotten));
        let promised = flight.map_or(0, |flight| flight.mark.lease).max(self.durable_mark.lease);
        let promised = if self.closing { 0 } else { promised };
        ahead.max(self.state.delivery.sent_below()).max(promised)
    }

    /// The session was given numbers below, or they were read for it. The lease that is written next is ahead of them.
    pub(super) fn hand(&mut self, below: u64) {
        self.handed_below = self.handed_below.max(below);
        if self.written_mark.lease.saturating_sub(self.lease_from()) < self.lease_ahead() / 2 {
            self.state_dirty = true;
        }
    }

    /// This gap has a number now.
    pub(super) fn remember_gap(&mut self, number: u64, gap: &Gap) {
        let delivery = &self.state.delivery;
        self.said_gaps.retain(|number, _| !delivery.is_done(*number));
        if self.said_gaps.len() >= SAID_GAPS_MAX {
            self.said_gaps.pop_first();
        }
        self.said_gaps.insert(number, gap.clone());
    }

    /// The disk refused: the segment is set aside, and what is not durable stays in memory.
    pub(super) fn fail(&mut self, error: StorageError) {
        self.set_aside();
        self.retry_after = (self.retry_after * 2).clamp(RETRY_MIN, RETRY_MAX);
        self.retry_at = self.now.mono.saturating_add(self.retry_after);
        self.trouble = Some(error);
        self.trim_memory();
    }

    fn set_aside(&mut self) {
        self.pending.mark_unwritten();
        self.state_dirty = true;
        self.written_mark = self.durable_mark;
        self.flight.iter_mut().for_each(|flight| flight.lost = true);
        if let Some(active) = self.active.take() {
            // What is written and not durable counts no more; what was dropped meanwhile is not said yet.
            self.log_end = self.log_end.min(self.durable()).max(active.header.first);
            self.index.push(Segment {
                slot: active.slot,
                header: active.header,
                first: active.header.first,
                end: self.log_end,
                age_ms: active.last_age_ms,
                data_end: None,
                last_run: active.run,
                dense: None,
                oldest_ns: active.summary.oldest_ns(),
            });
        }
    }

    /// In memory, within bounds: what does not fit is dropped, and said.
    pub(super) fn trim_memory(&mut self) {
        if self.active.is_some() {
            return;
        }
        while self.pending.bytes() > self.options.memory_max {
            let droppable = |item: &Item| item.is_record() && !self.pins(item);
            let found = match self.options.when_full {
                WhenFull::DropOldest => self.pending.iter().position(droppable),
                WhenFull::DropNewest => self.pending.iter().rposition(droppable),
            };
            let Some(at) = found else { return };
            self.refuse_item(at);
        }
    }

    /// A pending record is dropped; the gap stays open until there is room.
    pub(super) fn refuse_item(&mut self, at: usize) {
        let Some(item) = self.pending.remove(at) else { return };
        let ItemBody::Record { route, .. } = &item.body else { return };
        for (from, to) in self.state.delivery.unsettled(item.first, item.end()) {
            let mut gap = super::summary::bare_gap(&self.run, GapReason::BufferFull, from, to);
            gap.sources = vec![(route.source.clone(), to - from)];
            gap.from_ns = Some(item.time_ns);
            gap.to_ns = Some(item.time_ns);
            let dropped = self.state.delivery.drop_range(from, to);
            self.drops.count(GapReason::BufferFull, dropped);
            gap::join(&mut self.state.open_gaps, gap);
        }
        self.full = true;
        self.hole = true;
        self.state_dirty = true;
        self.urgent();
    }
}

pub(super) fn frame_head(kind: Kind, body: &[u8], first: u64, count: u32, time_ns: i64) -> FrameHead {
    FrameHead { length: len_u32(body.len()), kind, flags: 0, route: 0, count, first, time_ns }
}
