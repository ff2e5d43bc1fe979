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

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::active::{Active, Stamp};
use super::bytes::{Put, len_u32};
use super::format::{FrameHead, Header, Kind, Run};
use super::gap;
use super::pool::{Pool, Slot};
use super::read::Cursor;
use super::scan::Mode;
use super::state::State;
use super::storage::{Storage, StorageError};
use super::types::{Damage, Error, Gap, GapReason, Now, Options, Route, WhenFull};

/// After the disk failed it is tried again so much later; twice as long each time, up to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Bytes that may wait for a flush before one is made anyway.
const UNSYNCED_MAX: usize = 1 << 20;
/// What a pending item takes beside its payload, roughly.
pub(super) const ITEM_BYTES: usize = 64;

/// A log on disk with delivery state. See the module's head.
#[derive(Debug)]
pub struct Spool<S: Storage> {
    pub(super) storage: S,
    pub(super) options: Options,
    pub(super) pool: Pool,
    /// Segments that are not written any more, by number.
    pub(super) index: Vec<Segment>,
    pub(super) active: Option<Active>,
    pub(super) pending: VecDeque<Item>,
    pub(super) pending_bytes: usize,
    pub(super) state: State,
    pub(super) state_dirty: bool,
    /// Lease and low-water mark of the state frame written last, and of the durable one.
    pub(super) written_mark: Mark,
    pub(super) durable_mark: Mark,
    pub(super) run: Run,
    pub(super) next_segment: u64,
    pub(super) values: BTreeMap<(String, String), Vec<u8>>,
    pub(super) rng: Rng,
    pub(super) clock: AgeClock,
    pub(super) now: Now,
    pub(super) urgent_since: Option<Duration>,
    /// Records are refused: no segment can be had for them.
    pub(super) full: bool,
    /// While full, a segment for records is looked for again then.
    pub(super) full_until: Duration,
    pub(super) trouble: Option<StorageError>,
    pub(super) retry_at: Duration,
    pub(super) retry_after: Duration,
    pub(super) cursor: Option<Cursor>,
    pub(super) damage: Vec<Damage>,
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

/// Something appended that is not durable yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) time_ns: i64,
    pub(super) written: bool,
    pub(super) body: ItemBody,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemBody {
    Record { route: Route, payload: Vec<u8> },
    Gap(Gap),
}

impl Item {
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }

    pub(super) fn bytes(&self) -> usize {
        ITEM_BYTES
            + match &self.body {
                ItemBody::Record { payload, .. } => payload.len(),
                ItemBody::Gap(gap) => gap.sources.len() * ITEM_BYTES,
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
        self.pending.iter().find(|item| !item.written).map_or(self.state.next, |item| item.first)
    }

    pub(super) fn push_pending(&mut self, item: Item) {
        self.pending_bytes += item.bytes();
        self.pending.push_back(item);
    }

    pub(super) fn remove_pending(&mut self, at: usize) -> Option<Item> {
        let item = self.pending.remove(at)?;
        self.pending_bytes = self.pending_bytes.saturating_sub(item.bytes());
        Some(item)
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
        for item in &mut self.pending {
            item.written = false;
        }
        self.state_dirty = true;
        self.written_mark = self.durable_mark;
        if let Some(active) = self.active.take() {
            let end = self.unwritten_first().max(active.header.first);
            self.index.push(Segment {
                slot: active.slot,
                header: active.header,
                first: active.header.first,
                end,
                age_ms: active.last_age_ms,
                data_end: None,
                last_run: active.run,
                oldest_ns: active.summary.oldest_ns(),
            });
        }
    }

    /// In memory, within bounds: what does not fit is dropped, and said.
    pub(super) fn trim_memory(&mut self) {
        if self.active.is_some() {
            return;
        }
        while self.pending_bytes > self.options.memory_max {
            let droppable = |item: &Item, state: &State| {
                matches!(item.body, ItemBody::Record { .. }) && !state.delivery.pins(item.first, item.end())
            };
            let mut places = self.pending.iter().enumerate().filter(|(_, item)| droppable(item, &self.state));
            let found = match self.options.when_full {
                WhenFull::DropOldest => places.next(),
                WhenFull::DropNewest => places.next_back(),
            };
            let Some(at) = found.map(|(at, _)| at) else { return };
            self.refuse_item(at);
        }
    }

    /// A pending record is dropped; the gap stays open until there is room.
    pub(super) fn refuse_item(&mut self, at: usize) {
        let Some(item) = self.remove_pending(at) else { return };
        let ItemBody::Record { route, .. } = &item.body else { return };
        for (from, to) in self.state.delivery.unsettled(item.first, item.end()) {
            let mut gap = super::summary::bare_gap(&self.run, GapReason::BufferFull, from, to);
            gap.sources = vec![(route.source.clone(), to - from)];
            gap.from_ns = Some(item.time_ns);
            gap.to_ns = Some(item.time_ns);
            self.state.delivery.drop_range(from, to);
            gap::join(&mut self.state.open_gaps, gap);
        }
        self.full = true;
        self.full_until = self.now.mono.saturating_add(RETRY_MIN);
        self.state_dirty = true;
        self.urgent();
    }

    /// Writes all that is pending, rolling segments where needed; the disk's refusals lead to memory.
    pub(super) fn write_pending(&mut self) -> Result<(), Error> {
        if self.active.is_none() {
            if self.now.mono < self.retry_at {
                self.trim_memory();
                return Err(self.trouble_error());
            }
            self.restore()?;
        }
        while let Some(at) = self.pending.iter().position(|item| !item.written) {
            match self.write_item(at) {
                Ok(true) => {}
                Ok(false) => self.refuse_item(at),
                Err(error) => {
                    self.fail(error.clone());
                    return Err(error.into());
                }
            }
        }
        if self.pending_bytes > UNSYNCED_MAX {
            self.sync_active()?;
        }
        Ok(())
    }

    pub(super) fn trouble_error(&self) -> Error {
        self.trouble.clone().map_or(Error::Full, Error::Storage)
    }

    /// Writes one item; `false` if no segment can be had for it.
    fn write_item(&mut self, at: usize) -> Result<bool, StorageError> {
        if self.full && self.now.mono < self.full_until && self.is_record(at) {
            return Ok(false);
        }
        // Two rolls at most: into a segment with room, and once more if that one came from the reserve.
        for _ in 0..3 {
            let is_record = self.is_record(at);
            let done = if is_record { self.put_record(at)? } else { self.put_gaps(at)? };
            if done {
                self.full &= !is_record;
                return Ok(true);
            }
            if !self.roll(is_record)? {
                break;
            }
        }
        // A gap that finds no room waits in memory and in the state; only records are refused.
        Ok(!self.is_record(at) && self.park_gap(at))
    }

    fn is_record(&self, at: usize) -> bool {
        self.pending.get(at).is_some_and(|item| matches!(item.body, ItemBody::Record { .. }))
    }

    /// A gap without room goes back to the open ones; its number is left unused and settled.
    fn park_gap(&mut self, at: usize) -> bool {
        let Some(item) = self.remove_pending(at) else { return true };
        let (first, end) = (item.first, item.end());
        if let ItemBody::Gap(gap) = item.body {
            let own = super::summary::bare_gap(&self.run, gap.reason, first, end);
            self.state.delivery.drop_range(first, end);
            gap::join(&mut self.state.open_gaps, gap);
            gap::join(&mut self.state.open_gaps, own);
        }
        self.full = true;
        self.state_dirty = true;
        true
    }

    fn put_record(&mut self, at: usize) -> Result<bool, StorageError> {
        let stamp = self.stamp();
        let (Some(active), Some(item)) = (self.active.as_mut(), self.pending.get_mut(at)) else { return Ok(false) };
        let ItemBody::Record { route, payload } = &item.body else { return Ok(true) };
        if active.reserve || active.routes_full() {
            return Ok(false);
        }
        let mut write = active.begin(item.first, stamp);
        let known = active.route(route);
        let index = known.unwrap_or_else(|index| index);
        if known.is_err() {
            let mut body = Vec::with_capacity(route.blob.len() + route.source.len() + 1);
            body.put_name(&route.source);
            body.extend_from_slice(&route.blob);
            let head = frame_head(Kind::Route, &body, item.first, 0, 0);
            active.push(&mut write, &FrameHead { route: index, ..head }, &body);
        }
        let head = frame_head(Kind::Record, payload, item.first, item.count, item.time_ns);
        active.push(&mut write, &FrameHead { route: index, ..head }, payload);
        let growth = super::summary::Summary::growth(&route.source);
        if !active.fits(&write, growth, 0) {
            return Ok(false);
        }
        active.write(&mut self.storage, write)?;
        if known.is_err() {
            active.add_route(route, index);
        }
        active.summary.add_record(&active.run.clone(), &route.source, item.first, item.count, item.time_ns);
        active.first_age_ms.get_or_insert(stamp.age_ms);
        active.last_age_ms = stamp.age_ms;
        item.written = true;
        Ok(true)
    }

    /// Writes the gaps from `at` on that follow one another, with the state, in one frame.
    fn put_gaps(&mut self, at: usize) -> Result<bool, StorageError> {
        let Some((first, time_ns)) = self.pending.get(at).map(|item| (item.first, item.time_ns)) else {
            return Ok(true);
        };
        let follows = |(place, item): &(usize, &Item)| {
            matches!(item.body, ItemBody::Gap(_)) && item.first == first + *place as u64 && item.time_ns == time_ns
        };
        let count = self.pending.iter().skip(at).enumerate().take_while(follows).count();
        self.put_change(at, count)
    }

    /// Writes the state, if it is not written as it stands.
    pub(super) fn put_state(&mut self) -> Result<bool, StorageError> {
        if !self.state_dirty { Ok(true) } else { self.put_change(0, 0) }
    }

    fn put_change(&mut self, at: usize, mut count: usize) -> Result<bool, StorageError> {
        let stamp = self.stamp();
        let Some(active) = self.active.as_ref() else { return Ok(false) };
        let limit = (active.header.size / 8) as usize;
        let mut body = self.change_body(at, count, false);
        if body.len() > limit {
            body = self.change_body(at, count, true);
        }
        while body.len() > limit && count > 1 {
            count /= 2;
            body = self.change_body(at, count, true);
        }
        let written = self.pending.get(at).filter(|_| count > 0).map(|item| (item.first, item.time_ns));
        let (first, time_ns) = written.unwrap_or((self.unwritten_first(), stamp.wall_ns));
        let head = frame_head(Kind::Change, &body, first, len_u32(count), time_ns);
        let Some(active) = self.active.as_mut() else { return Ok(false) };
        let mut write = active.begin(first, stamp);
        active.push(&mut write, &head, &body);
        if !active.fits(&write, super::summary::Summary::growth(""), 0) {
            return Ok(false);
        }
        active.write(&mut self.storage, write)?;
        for item in self.pending.iter_mut().skip(at).take(count) {
            item.written = true;
            active.summary.add_gaps(&active.run.clone(), item.first, 1);
        }
        self.state_written();
        Ok(true)
    }

    pub(super) fn state_written(&mut self) {
        self.state_dirty = false;
        self.written_mark = Mark { lease: self.state.delivery.lease(), done_below: self.state.delivery.done_below() };
    }

    /// Gaps and the whole state. Gaps that are pending and not in this segment yet count as open ones, so that none
    /// is forgotten if only this frame survives; `bare` leaves out the open ones' counts per source.
    pub(super) fn change_body(&self, at: usize, count: usize, bare: bool) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_varint(count as u64);
        let mut open = self.state.open_gaps.clone();
        for (place, item) in self.pending.iter().enumerate() {
            match &item.body {
                ItemBody::Gap(gap) if (at..at + count).contains(&place) => gap::encode(gap, &mut body),
                ItemBody::Gap(gap) if !item.written => open.push(gap.clone()),
                _ => {}
            }
        }
        if bare {
            open.iter_mut().for_each(|gap| gap.sources.clear());
        }
        self.state.encode(&open, &mut body);
        body
    }

    /// Flushes the active segment: all that is written in it is durable then.
    pub(super) fn sync_active(&mut self) -> Result<(), Error> {
        let Some(active) = self.active.as_mut() else { return Err(self.trouble_error()) };
        if active.dirty
            && let Err(error) = active.sync(&mut self.storage)
        {
            self.fail(error.clone());
            return Err(error.into());
        }
        self.now_durable();
        Ok(())
    }

    /// Everything written is durable.
    pub(super) fn now_durable(&mut self) {
        while self.pending.front().is_some_and(|item| item.written) {
            self.remove_pending(0);
        }
        self.durable_mark = self.written_mark;
        if !self.state_dirty {
            self.collect();
        }
    }
}

pub(super) fn frame_head(kind: Kind, body: &[u8], first: u64, count: u32, time_ns: i64) -> FrameHead {
    FrameHead { length: len_u32(body.len()), kind, flags: 0, route: 0, count, first, time_ns }
}
