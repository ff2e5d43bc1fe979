//! What a segment holds, per boot and source: what its footer says, and what gaps are made from.
//!
//! Owns the counts. Invariants: runs are in number order and don't overlap; a run's sources together with its gaps
//! count each of its messages once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::bytes::{Put, Take, len_u16};
use super::format::Run;
use super::types::{Gap, GapReason};

/// One source within one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) from_ns: i64,
    pub(crate) to_ns: i64,
}

/// One run within one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunSummary {
    pub(crate) run: Run,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) gaps: u32,
    pub(crate) sources: BTreeMap<Arc<str>, Counts>,
}

/// One segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) runs: Vec<RunSummary>,
    /// Bytes that the footer takes, kept up to date.
    encoded: usize,
}

const RUN_BYTES: usize = 4 + 4 + 8 + 8 + 8 + 8 + 4 + 2;
const COUNTS_BYTES: usize = 1 + 5 * 8;

impl Summary {
    /// Bytes of the encoded summary.
    pub(crate) fn encoded_len(&self) -> usize {
        self.encoded + 2
    }

    /// Bytes by which one more source in one more run may grow it.
    pub(crate) fn growth(source: &str) -> usize {
        RUN_BYTES + COUNTS_BYTES + source.len()
    }

    fn run_mut(&mut self, run: &Run, first: u64) -> Option<&mut RunSummary> {
        if self.runs.last().is_none_or(|last| last.run != *run) {
            self.runs.push(RunSummary { run: *run, first, end: first, gaps: 0, sources: BTreeMap::new() });
            self.encoded += RUN_BYTES;
        }
        self.runs.last_mut()
    }

    pub(crate) fn add_record(&mut self, run: &Run, source: &Arc<str>, first: u64, messages: u32, time_ns: i64) {
        let messages = u64::from(messages);
        let last = first.saturating_add(messages).saturating_sub(1);
        let Some(summary) = self.run_mut(run, first) else { return };
        summary.end = summary.end.max(last.saturating_add(1));
        let mut grown = 0;
        let counts = summary.sources.entry(source.clone()).or_insert_with(|| {
            grown = COUNTS_BYTES + source.len();
            Counts { messages: 0, first, last, from_ns: time_ns, to_ns: time_ns }
        });
        counts.messages += messages;
        counts.last = last;
        counts.from_ns = counts.from_ns.min(time_ns);
        counts.to_ns = counts.to_ns.max(time_ns);
        self.encoded += grown;
    }

    pub(crate) fn add_gaps(&mut self, run: &Run, number: u64, count: u32) {
        if let Some(summary) = self.run_mut(run, number) {
            summary.end = summary.end.max(number.saturating_add(u64::from(count)));
            summary.gaps += count;
        }
    }

    /// Whether it holds gap records.
    pub(crate) fn has_gaps(&self) -> bool {
        self.runs.iter().any(|run| run.gaps > 0)
    }

    /// Oldest time in it.
    pub(crate) fn oldest_ns(&self) -> Option<i64> {
        self.runs.iter().flat_map(|run| run.sources.values()).map(|counts| counts.from_ns).min()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(len_u16(self.runs.len()));
        for run in &self.runs {
            run.run.encode(out);
            out.put_u64(run.first);
            out.put_u64(run.end);
            out.put_u32(run.gaps);
            out.put_u16(len_u16(run.sources.len()));
            for (source, counts) in &run.sources {
                out.put_name(source);
                out.put_u64(counts.messages);
                out.put_u64(counts.first);
                out.put_u64(counts.last);
                out.put_i64(counts.from_ns);
                out.put_i64(counts.to_ns);
            }
        }
    }

    pub(crate) fn decode(take: &mut Take<'_>) -> Option<Self> {
        let before = take.rest().len();
        let mut runs = Vec::new();
        for _ in 0..take.u16()? {
            let run = Run::decode(take)?;
            let (first, end, gaps) = (take.u64()?, take.u64()?, take.u32()?);
            let mut sources = BTreeMap::new();
            for _ in 0..take.u16()? {
                let name = take.name()?;
                let (messages, first, last) = (take.u64()?, take.u64()?, take.u64()?);
                sources.insert(name, Counts { messages, first, last, from_ns: take.i64()?, to_ns: take.i64()? });
            }
            runs.push(RunSummary { run, first, end, gaps, sources });
        }
        let encoded = before.saturating_sub(take.rest().len()).saturating_sub(2);
        Some(Self { runs, encoded })
    }
}

impl RunSummary {
    /// The gap that names `from..to` of this run, with the sources' counts as they stand here.
    pub(crate) fn gap(&self, reason: GapReason, from: u64, to: u64) -> Gap {
        let mut gap = bare_gap(&self.run, reason, from, to);
        gap.sources = self.sources.iter().map(|(name, counts)| (name.clone(), counts.messages)).collect();
        gap.from_ns = self.sources.values().map(|counts| counts.from_ns).min();
        gap.to_ns = self.sources.values().map(|counts| counts.to_ns).max();
        gap
    }
}

/// A gap of which nothing but its numbers is known.
pub(crate) fn bare_gap(run: &Run, reason: GapReason, from: u64, to: u64) -> Gap {
    let (first, last) = (run.seq(from), run.seq(to.saturating_sub(1)));
    Gap {
        reason,
        store: run.store,
        boot: run.boot,
        first,
        last,
        messages: to.saturating_sub(from),
        sources: Vec::new(),
        from_ns: None,
        to_ns: None,
    }
}
