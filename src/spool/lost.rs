//! What can't be read any more: named by gaps, with all that is left to say of it.
//!
//! Owns nothing. A hole in a segment has no content, but the footer says what each source had, and what can still be
//! read says what of it is there: the difference lies in the hole. Its times are those of the readings beside it.
//!
//! Invariants: sources are named only where they can be told for certain; what is settled is never named.

use std::sync::Arc;

use super::active::Footer;
use super::bytes::Take;
use super::core::{Segment, Spool};
use super::format::{Kind, Run};
use super::gap;
use super::scan::{Scan, Step};
use super::storage::Storage;
use super::summary::{RunSummary, Summary, bare_gap};
use super::types::{Gap, GapReason};

/// Holes of a segment that are looked at one by one; of more, nothing but numbers is said.
const HOLES_MAX: usize = 64;

/// What is left of a segment, where something of it can't be read.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Number of the segment.
    segment: Option<u64>,
    /// What the footer says.
    footer: Vec<RunSummary>,
    /// What can be read.
    there: Vec<RunSummary>,
    holes: Vec<Hole>,
}

#[derive(Debug)]
struct Hole {
    from: u64,
    to: u64,
    before_ns: Option<i64>,
    after_ns: Option<i64>,
}

impl Evidence {
    /// Of this segment.
    pub(super) fn of<S: Storage>(storage: &mut S, segment: &Segment) -> Self {
        let footer = Footer::read(storage, segment.slot, &segment.header);
        let mut evidence = Self { segment: Some(segment.header.number), ..Self::default() };
        evidence.footer = footer.map(|footer| footer.summary.runs).unwrap_or_default();
        let (limit, mode) = segment.extent();
        let mut scan = Scan::new(segment.slot.name(), &segment.header, limit, mode);
        let mut sources: std::collections::BTreeMap<u16, Arc<str>> = std::collections::BTreeMap::new();
        let (mut there, mut last_ns) = (Summary::default(), None);
        loop {
            match scan.step(storage) {
                Step::Frame { head, run } if head.kind == Kind::Record => {
                    let source = sources.get(&head.route).cloned().unwrap_or_else(|| Arc::from(""));
                    there.add_record(&run, &source, head.first, head.count, head.time_ns);
                    last_ns = Some(head.time_ns);
                    for hole in evidence.holes.iter_mut().rev().take_while(|hole| hole.after_ns.is_none()) {
                        hole.after_ns = last_ns;
                    }
                }
                Step::Frame { head, .. } if head.kind == Kind::Route => {
                    if let Some(name) = Take::new(scan.body(storage)).name() {
                        sources.insert(head.route, name);
                    }
                }
                Step::Frame { head, run } if head.count > 0 => there.add_gaps(&run, head.first, head.count),
                Step::Commit { new_run: true, .. } => sources.clear(),
                Step::Missing { from, to, .. } => evidence.hole(from, to, last_ns),
                Step::End { .. } => break,
                _ => {}
            }
        }
        evidence.hole(scan.next_number(), segment.end, last_ns);
        evidence.there = there.runs;
        evidence
    }

    /// What can be read.
    pub(super) fn into_there(self) -> Vec<RunSummary> {
        self.there
    }

    fn hole(&mut self, from: u64, to: u64, before_ns: Option<i64>) {
        if from < to && self.holes.len() < HOLES_MAX {
            self.holes.push(Hole { from, to, before_ns, after_ns: None });
        }
    }

    /// The gap that names `from..to` of this run.
    pub(super) fn gap(&self, run: &Run, from: u64, to: u64) -> Gap {
        let mut gap = bare_gap(run, GapReason::Corrupt, from, to);
        let Some(hole) = self.holes.iter().find(|hole| hole.from <= from && to <= hole.to) else { return gap };
        (gap.from_ns, gap.to_ns) = (hole.before_ns, hole.after_ns);
        let Some(told) = self.footer.iter().find(|other| other.run == *run) else { return gap };
        let there = self.there.iter().find(|other| other.run == *run);
        let left =
            |source: &Arc<str>| there.and_then(|there| there.sources.get(source)).map_or(0, |counts| counts.messages);
        let missing: Vec<(Arc<str>, u64)> = told
            .sources
            .iter()
            .map(|(source, counts)| (source.clone(), counts.messages.saturating_sub(left(source))))
            .filter(|(_, messages)| *messages > 0)
            .collect();
        let gaps = told.gaps.saturating_sub(there.map_or(0, |there| there.gaps));
        let sum: u64 = missing.iter().map(|(_, messages)| messages).sum();
        if sum + u64::from(gaps) == gap.messages {
            gap.sources = missing;
        } else if let ([(source, _)], 0) = (missing.as_slice(), gaps) {
            // Several holes, or some of it was settled; but all of it is of one source.
            gap.sources = vec![(source.clone(), gap.messages)];
        }
        gap
    }
}

impl<S: Storage> Spool<S> {
    /// Numbers that no segment has: named by a gap, unless they are settled, or only a PUBREL is wanting.
    pub(super) fn lose(&mut self, from: u64, to: u64, before: Option<Run>, after: Option<Run>) -> u64 {
        self.lose_with(&Evidence::default(), from, to, before, after)
    }

    /// The same for numbers that this segment should have.
    pub(super) fn lose_in(
        &mut self,
        segment: &Segment,
        from: u64,
        to: u64,
        before: Option<Run>,
        after: Option<Run>,
    ) -> u64 {
        if self.state.delivery.readable(from, to).is_empty() {
            return 0;
        }
        // One segment after the other is read: the last one's is kept, for its other holes.
        let evidence = match self.evidence.take() {
            Some(evidence) if evidence.segment == Some(segment.header.number) => evidence,
            _ => Evidence::of(&mut self.storage, segment),
        };
        let lost = self.lose_with(&evidence, from, to, before, after);
        self.evidence = Some(evidence);
        lost
    }

    fn lose_with(&mut self, evidence: &Evidence, from: u64, to: u64, before: Option<Run>, after: Option<Run>) -> u64 {
        let mut lost = 0;
        for (from, to) in self.state.delivery.readable(from, to) {
            for (run, from, to) in split(before, after, from, to) {
                gap::join(&mut self.state.open_gaps, evidence.gap(&run, from, to));
            }
            // What was to say that others are missing is missing itself.
            let unsaid: Vec<u64> = self.said_gaps.range(from..to).map(|(number, _)| *number).collect();
            for gap in unsaid.iter().filter_map(|number| self.said_gaps.remove(number)) {
                gap::join(&mut self.state.open_gaps, gap);
            }
            lost += self.state.delivery.drop_range(from, to);
        }
        if lost > 0 {
            self.drops.count(GapReason::Corrupt, lost);
            self.state_dirty = true;
            self.urgent();
        }
        lost
    }
}

/// The parts of `from..to` before and in the run `after`. What lies before any known run is given to the boot before
/// it, counted from 1: its true name is lost.
pub(super) fn split(before: Option<Run>, after: Option<Run>, from: u64, to: u64) -> Vec<(Run, u64, u64)> {
    let Some(first) = before.or(after) else { return Vec::new() };
    let unknown = Run { boot: first.boot.saturating_sub(1), base: from, ..first };
    let border = after.map_or(to, |run| run.base).clamp(from, to);
    let known = first.base.clamp(from, border);
    let parts = [(unknown, from, known), (first, known, border), (after.unwrap_or(first), border, to)];
    parts.into_iter().filter(|(_, from, to)| from < to).collect()
}
