//! Reading: in number order, in big pieces, without holding the backlog.
//!
//! Owns one cursor: where in which segment the last read stopped, and the routes seen in it. Invariants: what is not
//! durable is read from memory, everything else from the disk; settled numbers are skipped; what can't be read any
//! more is settled as lost and named by a gap, so that reading always goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bytes::Take;
use super::core::{Segment, Spool};
use super::format::{FrameHead, Kind, Run};
use super::pending::ItemBody;
use super::retain::read_gaps;
use super::scan::{Mode, Scan, Step};
use super::squeeze::unsqueeze;
use super::storage::Storage;
use super::types::{Body, Damage, Entry, Error, Route};
use super::window::CHUNK;

/// Where reading goes on.
#[derive(Debug)]
pub(super) struct Cursor {
    segment: u64,
    scan: Scan,
    routes: BTreeMap<u16, Route>,
    /// As the entries of one read share them: whoever has these counts in no memory that reading goes on in.
    given: BTreeMap<u16, Arc<Route>>,
    /// All numbers below were given or passed.
    passed: u64,
}

impl Cursor {
    fn route(&mut self, index: u16) -> Option<Arc<Route>> {
        if let Some(route) = self.given.get(&index) {
            return Some(route.clone());
        }
        let route = Arc::new(self.routes.get(&index)?.clone());
        self.given.insert(index, route.clone());
        Some(route)
    }
}

/// The segment that a number is in.
struct Place {
    segment: Segment,
    limit: u32,
    mode: Mode,
}

impl<S: Storage> Spool<S> {
    /// Reads entries from number `from` on into `out`, about `max_bytes` of them but at least one if there is any.
    /// Gives the number to go on from. What is done or dropped is skipped; what turns out to be damaged is dropped
    /// and comes as a gap at the log's end.
    pub fn read(&mut self, from: u64, max_bytes: usize, out: &mut Vec<Entry>) -> Result<u64, Error> {
        if self.active.is_some() && self.pending.unwritten().is_some() {
            let _ = self.write_pending();
        }
        let mut at = from;
        let mut bytes = 0;
        // What is given shares the blocks that it was read in: where most of them is padding they count too.
        let held_max = (max_bytes as u64).max(u64::from(CHUNK)).saturating_mul(2);
        let mut held = 0;
        loop {
            at = self.state.delivery.next_unsettled(at);
            if at >= self.durable() {
                return Ok(self.read_pending(at, bytes, max_bytes, out));
            }
            let Some(place) = self.place_of(at) else {
                at = self.skip_hole(at);
                continue;
            };
            if at < place.segment.first {
                self.lose_before(&place.segment, at);
                at = place.segment.first;
                continue;
            }
            let end = place.segment.end;
            let mut cursor = self.cursor_at(&place, at);
            let before = cursor.scan.filled();
            let is_enough = |bytes: usize, held: u64| bytes >= max_bytes || (bytes > 0 && held > held_max);
            while at < end && !is_enough(bytes, held + cursor.scan.filled() - before) {
                match self.advance(&mut cursor, &place, at) {
                    Some(entry) => {
                        at = entry.first.saturating_add(u64::from(entry.messages));
                        bytes += entry.bytes().max(1);
                        out.push(entry);
                    }
                    None => at = end,
                }
            }
            held += cursor.scan.filled() - before;
            self.cursor = Some(cursor);
            if is_enough(bytes, held) {
                return Ok(at);
            }
        }
    }

    /// The first segment that ends behind `number`.
    fn place_of(&self, number: u64) -> Option<Place> {
        let at = self.index.partition_point(|segment| segment.end <= number);
        if let Some(segment) = self.index.get(at) {
            let (limit, mode) = segment.extent();
            return Some(Place { segment: *segment, limit, mode });
        }
        let active = self.active.as_ref()?;
        let segment = Segment {
            slot: active.slot,
            header: active.header,
            first: active.header.first,
            end: self.durable(),
            age_ms: active.last_age_ms,
            data_end: None,
            last_run: active.run,
            dense: None,
            oldest_ns: None,
        };
        Some(Place { segment, limit: active.durable_offset(), mode: Mode::Sealed })
    }

    fn skip_hole(&mut self, at: u64) -> u64 {
        let end = self.durable();
        let before = self.index.last().map(|segment| segment.last_run);
        self.lose(at, end, before, Some(self.run));
        end
    }

    fn lose_before(&mut self, segment: &Segment, at: u64) {
        let before = self.index.iter().rev().find(|other| other.end <= at.max(1)).map(|other| other.last_run);
        self.lose(at, segment.first, before, Some(segment.header.run));
    }

    /// The cursor where it stands, if it has not passed `at` yet, or one at the segment's beginning.
    fn cursor_at(&mut self, place: &Place, at: u64) -> Cursor {
        let mut cursor = match self.cursor.take() {
            Some(cursor) if cursor.segment == place.segment.header.number && cursor.passed <= at => cursor,
            old => {
                let header = &place.segment.header;
                let mut scan = Scan::new(place.segment.slot.name(), header, place.limit, place.mode);
                if let Some(old) = old {
                    scan.inherit(old.scan);
                }
                Cursor {
                    segment: header.number,
                    scan,
                    routes: BTreeMap::new(),
                    given: BTreeMap::new(),
                    passed: place.segment.first,
                }
            }
        };
        cursor.scan.extend(place.limit, place.mode);
        cursor.given.clear();
        cursor
    }

    /// The entry that holds `at`, or the next one in this segment; `None` if there is none any more.
    fn advance(&mut self, cursor: &mut Cursor, place: &Place, at: u64) -> Option<Entry> {
        let end = place.segment.end;
        loop {
            match cursor.scan.step(&mut self.storage) {
                Step::Commit { new_run, .. } => {
                    if new_run {
                        cursor.routes.clear();
                        cursor.given.clear();
                    }
                }
                Step::Damage { from, to } => self.keep_damage(&place.segment, from, to),
                Step::Missing { from, to, before } => {
                    self.lose_in(&place.segment, from.max(at), to.min(end), before, cursor.scan.run());
                }
                Step::End { .. } => {
                    let (from, run) = (cursor.scan.next_number().max(at), cursor.scan.run());
                    self.lose_in(&place.segment, from, end, run, Some(place.segment.last_run));
                    return None;
                }
                Step::Frame { head, run } => {
                    let frame_end = head.first.saturating_add(u64::from(head.count));
                    if head.count > 0 && frame_end > end {
                        // Written again in a younger segment: that one counts.
                        self.lose(cursor.scan.next_number().min(end).max(at), end, Some(run), None);
                        return None;
                    }
                    let entry = self.take_frame(cursor, &head, run, at);
                    let passed = entry.as_ref().map_or(frame_end, |entry| entry.first + u64::from(entry.messages));
                    cursor.passed = cursor.passed.max(passed);
                    if entry.is_some() {
                        return entry;
                    }
                }
            }
            if cursor.scan.next_number() >= end && cursor.passed >= end {
                return None;
            }
        }
    }

    fn take_frame(&mut self, cursor: &mut Cursor, head: &FrameHead, run: Run, at: u64) -> Option<Entry> {
        let frame_end = head.first.saturating_add(u64::from(head.count));
        match head.kind {
            Kind::Route => {
                let mut take = Take::new(cursor.scan.body(&mut self.storage));
                let route = Route { source: take.name()?, blob: Arc::from(take.rest()) };
                cursor.routes.insert(head.route, route);
                cursor.given.remove(&head.route);
                None
            }
            Kind::Record if frame_end > at => {
                if self.state.delivery.unsettled_in(head.first.max(at), frame_end) == 0 {
                    return None;
                }
                let payload = unsqueeze(head.flags, cursor.scan.payload(&mut self.storage));
                let (Some(route), Some(payload)) = (cursor.route(head.route), payload) else {
                    self.lose(head.first.max(at), frame_end, Some(run), None);
                    return None;
                };
                Some(entry(head.first, head.count, run, head.time_ns, Body::Record { route, payload }))
            }
            Kind::Change if frame_end > at => self.take_gap(cursor, head, run, at),
            _ => None,
        }
    }

    /// A change may hold many gaps; each is an entry of its own, so the frame is looked at once for each.
    fn take_gap(&mut self, cursor: &mut Cursor, head: &FrameHead, run: Run, at: u64) -> Option<Entry> {
        let gaps = read_gaps(cursor.scan.body(&mut self.storage));
        let wanted: Vec<(u64, super::types::Gap)> = (head.first..)
            .zip(gaps)
            .filter(|(number, _)| *number >= at && !self.state.delivery.is_done(*number))
            .collect();
        let more = wanted.len() > 1;
        let (number, gap) = wanted.into_iter().next()?;
        if more {
            cursor.scan.again();
        }
        Some(entry(number, 1, run, head.time_ns, Body::Gap(gap)))
    }

    pub(super) fn keep_damage(&mut self, segment: &Segment, from: u32, to: u32) {
        let kept_as = self.pool.keep_bad(&mut self.storage, segment.slot, segment.header.number, (from, to));
        let damage = Damage { file: segment.slot.name(), from: u64::from(from), to: u64::from(to), kept_as };
        if !self.damage.contains(&damage) && self.damage.len() < super::types::DAMAGE_MAX {
            self.damage.push(damage);
        }
    }

    /// What is in memory, from `at` on.
    fn read_pending(&self, at: u64, mut bytes: usize, max_bytes: usize, out: &mut Vec<Entry>) -> u64 {
        let mut next = at;
        for item in self.pending.from(at) {
            if bytes >= max_bytes {
                return next;
            }
            next = item.end();
            if self.state.delivery.unsettled_in(item.first.max(at), item.end()) == 0 {
                continue;
            }
            let body = match &item.body {
                ItemBody::Record { route, payload } => {
                    Body::Record { route: Arc::new(route.clone()), payload: payload.clone().into() }
                }
                ItemBody::Gap(gap) => Body::Gap(gap.clone()),
            };
            let entry = entry(item.first, item.count, self.run, item.time_ns, body);
            bytes += entry.bytes().max(1);
            out.push(entry);
        }
        self.state.next.max(next)
    }
}

fn entry(first: u64, messages: u32, run: Run, time_ns: i64, body: Body) -> Entry {
    Entry { first, messages, store: run.store, boot: run.boot, seq: run.seq(first), time_ns, body }
}
