//! What goes when it is too much or too old: whole segments, oldest first, each with its gaps.
//!
//! Owns the making of gaps. Invariants: what may be at the broker is never named by a gap (R8); numbers are settled
//! and named in one state; a gap that is dropped before it was delivered is named again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::active::Footer;
use super::bytes::Take;
use super::core::{Segment, Spool};
use super::format::Kind;
use super::gap;
use super::lost::split;
use super::sabotage::{self, Fault};
use super::scan::{Scan, Step};
use super::storage::Storage;
use super::summary::{RunSummary, Summary, bare_gap};
use super::types::{Error, Gap, GapReason, Now};

/// While a segment covers more than this part of `max_age`, a new one is begun, so that age can be told apart.
const AGE_PARTS: u64 = 16;
/// One gap may wait for each so many bytes of a segment.
const GAP_ROOM: u32 = 512;

impl<S: Storage> Spool<S> {
    /// The oldest segment that may be dropped.
    pub(super) fn droppable(&self) -> Option<usize> {
        self.index.iter().position(|segment| !self.state.delivery.pins(segment.first, segment.end))
    }

    /// Applies the limits on size and age.
    pub fn retain(&mut self, now: Now) -> Result<(), Error> {
        self.now = now;
        if self.active.is_none() {
            return Ok(());
        }
        let result = self.retain_by_age();
        if let Err(Error::Storage(error)) = &result {
            self.fail(error.clone());
        }
        result
    }

    fn retain_by_age(&mut self) -> Result<(), Error> {
        let Some(max_age) = self.options.max_age else { return Ok(()) };
        let max_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        let age_now = self.clock.at(self.now);
        let long = self.active.as_ref().and_then(|active| active.first_age_ms);
        if long.is_some_and(|first| age_now.saturating_sub(first) > max_ms / AGE_PARTS) {
            self.roll(true)?;
        }
        let mut dropped = false;
        let mut at = 0;
        while let Some(segment) = self.index.get(at).copied() {
            let old = age_now.saturating_sub(segment.age_ms) > max_ms;
            let unsettled = self.state.delivery.unsettled_in(segment.first, segment.end) > 0;
            if old && unsettled && !self.state.delivery.pins(segment.first, segment.end) {
                self.drop_segment(at, GapReason::Expired);
                dropped = true;
            }
            at += 1;
        }
        if dropped {
            self.state_dirty = true;
            self.urgent();
            self.sync(self.now)?;
        }
        Ok(())
    }

    /// Settles all numbers of a segment as dropped and puts the gaps that name them among the open ones. It is freed
    /// when that is durable.
    pub(super) fn drop_segment(&mut self, at: usize, reason: GapReason) {
        let Some(segment) = self.index.get(at).copied() else { return };
        let unsettled = self.state.delivery.unsettled(segment.first, segment.end);
        let (summary, carried) = self.summary_of(&segment, &unsettled);
        for (from, to) in &unsettled {
            for gap in gaps_for(&summary, &segment, reason, *from, *to) {
                gap::join(&mut self.state.open_gaps, gap);
            }
        }
        for gap in carried.into_iter().filter(|_| !sabotage::on(Fault::GapForgotten)) {
            gap::join(&mut self.state.open_gaps, gap);
        }
        let dropped = self.state.delivery.drop_range(segment.first, segment.end);
        self.drops.count(reason, dropped);
        self.state_dirty = true;
        self.bound_gaps();
    }

    /// Each boot has gaps of its own, so a buffer that is full for hundreds of boots would end as nothing but gaps:
    /// beyond this many the oldest are given up, and counted.
    fn bound_gaps(&mut self) {
        let most = (self.pool.segment_size() / GAP_ROOM) as usize;
        let surplus = self.state.open_gaps.len().saturating_sub(most);
        self.state.open_gaps.drain(..surplus);
        self.state.delivery.count_gaps_given_up(surplus as u64);
    }

    /// What a segment holds of its unsettled numbers: from the footer if they are all of them, else frame by frame.
    /// With it, the gaps in it that were not delivered.
    fn summary_of(&mut self, segment: &Segment, unsettled: &[(u64, u64)]) -> (Vec<RunSummary>, Vec<Gap>) {
        let whole = unsettled == [(segment.first, segment.end)];
        if whole && segment.data_end.is_some() {
            let footer = Footer::read(&mut self.storage, segment.slot, &segment.header);
            let fits = footer.filter(|footer| footer.next == segment.end && !footer.summary.has_gaps());
            if let Some(footer) = fits {
                return (footer.summary.runs, Vec::new());
            }
        }
        self.scan_summary(segment, unsettled)
    }

    fn scan_summary(&mut self, segment: &Segment, unsettled: &[(u64, u64)]) -> (Vec<RunSummary>, Vec<Gap>) {
        let (limit, mode) = segment.extent();
        let mut scan = Scan::new(segment.slot.name(), &segment.header, limit, mode);
        // One summary for each unsettled range, so that each gap has the counts of its own messages.
        let mut parts: Vec<Summary> = unsettled.iter().map(|_| Summary::default()).collect();
        let mut sources: BTreeMap<u16, Arc<str>> = BTreeMap::new();
        let mut carried = Vec::new();
        loop {
            let (head, run) = match scan.step(&mut self.storage) {
                Step::Frame { head, run } => (head, run),
                Step::End { .. } => break,
                Step::Commit { new_run: true, .. } => {
                    sources.clear();
                    continue;
                }
                _ => continue,
            };
            let frame_end = head.first.saturating_add(u64::from(head.count));
            if head.count > 0 && frame_end > segment.end {
                break;
            }
            if head.kind == Kind::Route {
                if let Some(name) = Take::new(scan.body(&mut self.storage)).name() {
                    sources.insert(head.route, name);
                }
                continue;
            }
            for ((from, to), part) in unsettled.iter().zip(&mut parts) {
                let (first, end) = (head.first.max(*from), frame_end.min(*to));
                let count = u32::try_from(end.saturating_sub(first)).unwrap_or(0).min(head.count);
                if count == 0 {
                    continue;
                }
                match (head.kind, sources.get(&head.route)) {
                    (Kind::Record, Some(source)) => {
                        part.add_record(&run, source, first, count, head.time_ns);
                    }
                    (Kind::Change, _) => {
                        let gaps = read_gaps(scan.body(&mut self.storage)).into_iter().zip(head.first..);
                        carried.extend(gaps.filter(|(_, number)| (first..end).contains(number)).map(|(gap, _)| gap));
                        part.add_gaps(&run, first, count);
                    }
                    _ => part.add_gaps(&run, first, count),
                }
            }
        }
        (parts.into_iter().flat_map(|part| part.runs).collect(), carried)
    }
}

/// The gaps that name `from..to`: one for each run; what no summary knows goes to the run before it.
fn gaps_for(runs: &[RunSummary], segment: &Segment, reason: GapReason, from: u64, to: u64) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut at = from;
    let mut last = runs.first().map_or(segment.last_run, |run| run.run);
    for summary in runs.iter().filter(|run| run.first < to && run.end > from) {
        let (first, end) = (summary.first.max(from), summary.end.min(to));
        for (run, from, to) in split(Some(last), Some(summary.run), at, first) {
            gap::join(&mut gaps, bare_gap(&run, reason, from, to));
        }
        gap::join(&mut gaps, summary.gap(reason, first, end));
        (at, last) = (end, summary.run);
    }
    if at < to {
        for (run, from, to) in split(Some(last), Some(segment.last_run), at, to) {
            gap::join(&mut gaps, bare_gap(&run, reason, from, to));
        }
    }
    gaps
}

/// The gaps at the front of a change.
pub(super) fn read_gaps(body: &[u8]) -> Vec<Gap> {
    let mut take = Take::new(body);
    let count = take.varint().unwrap_or(0);
    let mut gaps = Vec::new();
    for _ in 0..count {
        match gap::decode(&mut take) {
            Some(gap) => gaps.push(gap),
            None => break,
        }
    }
    gaps
}
