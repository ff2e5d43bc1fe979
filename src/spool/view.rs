//! Looking at a spool without touching it: what is in it, what of it is damaged, and what would be sent.
//!
//! ```text
//!   headers ─▶ survey, youngest segment ─▶ headers again: the same? ─▶ View
//!      ▲                                         │ no: the agent went on
//!      └─────────────────────────────────────────┘
//! ```
//!
//! The agent may write meanwhile: nothing here takes its lock. Owns a spool that was gathered as an opening does it and
//! was never begun. Invariants: nothing is written ([`Storage`] calls that would are never needed: what they refuse is
//! taken as refused); what has changed while it was read is looked at again before it is called damaged.

use std::collections::{BTreeMap, BTreeSet};

use super::active::Footer;
use super::core::{Segment, Spool};
use super::format::{Header, HeaderPage, Kind as FrameKind, PAGE, Run};
use super::lost::{Evidence, split};
use super::pool::Pool;
use super::recover::gather;
use super::scan::{Mode, Scan, Step};
use super::state::Delivery;
use super::storage::{Storage, StorageError};
use super::summary::RunSummary;
use super::survey::{NO_RUN, survey};
use super::types::{Entry, Error, Gap, GapReason, Now, OpenError, Options};

/// So often an agent that writes all the time is looked at again.
const LOOKS_MAX: usize = 40;
/// Faults that are told one by one.
const FAULTS_MAX: usize = 4096;
/// What is said of a place whose bytes are not those that were written.
const DAMAGED: &str = "is damaged";

/// Something that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file; none where a whole segment is gone.
    pub file: Option<String>,
    /// First byte of the place.
    pub from: u64,
    /// First byte behind it.
    pub to: u64,
    /// What is wrong.
    pub what: &'static str,
    /// Messages that are lost by it, as the gaps that will name them.
    pub lost: Vec<Gap>,
}

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is written.
    Open,
    /// It was ended by a crash, a failed disk, or its footer is lost.
    Unsealed,
    /// Full, with a footer.
    Sealed,
    /// Full, made from others.
    Packed,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its file.
    pub file: String,
    /// Its number.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Bytes of the file.
    pub bytes: u64,
    /// Number of its first message.
    pub first: u64,
    /// Number behind its last one.
    pub end: u64,
    /// Messages in it that are neither acknowledged nor dropped.
    pub pending: u64,
    /// What it holds, boot by boot.
    pub boots: Vec<BootView>,
}

/// What a segment holds of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootView {
    /// The boot.
    pub boot: u32,
    /// `seq` of the first message.
    pub first: u64,
    /// `seq` of the last one.
    pub last: u64,
    /// Gaps among them.
    pub gaps: u64,
    /// Messages of each source, with the times of the first and the last, nanoseconds since 1970.
    pub sources: Vec<(String, u64, i64, i64)>,
}

/// A spool that is only looked at.
#[derive(Debug)]
pub struct View<S: Storage> {
    spool: Spool<S>,
    /// Number of the segment that is written.
    youngest: Option<u64>,
    faults: Vec<Fault>,
    free: usize,
}

impl<S: Storage> View<S> {
    /// Looks at the folder. A newer version is refused.
    pub fn open(mut storage: S, now: Now) -> Result<Self, OpenError> {
        let mut before = headers(&mut storage)?;
        let mut faults: Option<Vec<Fault>> = None;
        for _ in 0..LOOKS_MAX {
            let mut view = Self::look(storage, now)?;
            let after = headers(&mut view.spool.storage)?;
            // What seems damaged may have been written just then: it is so if it is seen twice.
            let confirmed = view.faults.is_empty() || faults.as_ref() == Some(&view.faults);
            if after == before && confirmed {
                return Ok(view);
            }
            (before, faults, storage) = (after, Some(view.faults), view.spool.storage);
        }
        // So busy a writer is seen as it was last.
        Self::look(storage, now)
    }

    fn look(mut storage: S, now: Now) -> Result<Self, OpenError> {
        let options = Options::default();
        let mut pool = Pool::new(options.max_size, options.segment_size);
        let survey = survey(&mut storage, &mut pool)?;
        let without: Vec<u64> = survey
            .segments
            .iter()
            .chain(&survey.packed)
            .filter(|found| !found.intact)
            .map(|found| found.header.number)
            .collect();
        let mut gathered = gather(&mut storage, survey);
        let spool = Spool::assemble(storage, options, pool, &gathered, [0; 4], now);
        let youngest = gathered.youngest.take();
        let number = youngest.as_ref().map(|(found, _)| found.header.number);
        let mut view = Self { free: gathered.blank.len(), youngest: number, spool, faults: Vec::new() };
        let nothing = youngest.is_none() && gathered.index.is_empty();
        let durable = youngest.as_ref().is_some_and(|(_, deep)| deep.durable > 0);
        let state = gathered.state.is_some() || youngest.as_ref().is_some_and(|(_, deep)| deep.state.is_some());
        if !state && !nothing {
            view.fault(None, (0, 0), "the delivery state can't be read: the session begins anew", Vec::new());
        }
        if let Some((found, deep)) = youngest {
            let before = view.spool.index.last().map(|segment| segment.last_run);
            let run = deep.last_run.or(before).unwrap_or(NO_RUN);
            let mut segment = found.segment(deep.next, deep.last_age_ms, Some(deep.cut), run);
            segment.oldest_ns = deep.summary.oldest_ns();
            view.spool.index.push(segment);
        }
        view.free += view.spool.index.iter().filter(|segment| view.pending_in(segment) == 0).count();
        for segment in view.spool.index.clone() {
            // The youngest one's may be torn: nothing says that it was durable.
            let torn = view.youngest == Some(segment.header.number) && !durable;
            if without.contains(&segment.header.number) && view.counts(&segment) && !torn {
                let end = u64::from(PAGE);
                view.fault(Some(&segment), (0, end), "the header page is damaged, or the file was cut", Vec::new());
            }
        }
        view.find_holes();
        if let Some(segment) = view.spool.index.last().copied() {
            // The open one is small and changes: it is checked with every look.
            let found = view.check(&segment);
            view.faults.extend(found);
        }
        Ok(view)
    }

    /// Whether anything in it still matters.
    fn counts(&self, segment: &Segment) -> bool {
        self.pending_in(segment) > 0 || self.youngest == Some(segment.header.number)
    }

    fn pending_in(&self, segment: &Segment) -> u64 {
        self.spool.state.delivery.unsettled_in(segment.first, segment.end)
    }

    fn fault(&mut self, segment: Option<&Segment>, place: (u64, u64), what: &'static str, lost: Vec<Gap>) {
        if self.faults.len() < FAULTS_MAX {
            let file = segment.map(|segment| segment.slot.name());
            self.faults.push(Fault { file, from: place.0, to: place.1, what, lost });
        }
    }

    /// Numbers that no segment has.
    fn find_holes(&mut self) {
        let mut at = self.spool.state.delivery.done_below();
        let mut before: Option<Run> = None;
        for segment in self.spool.index.clone() {
            self.hole(at, segment.first, before, Some(segment.header.run));
            at = at.max(segment.end);
            before = Some(segment.last_run);
        }
        self.hole(at, self.spool.state.next, before, Some(self.spool.run));
    }

    fn hole(&mut self, from: u64, to: u64, before: Option<Run>, after: Option<Run>) {
        let lost = self.lost(&Evidence::default(), from, to, (before, after));
        if !lost.is_empty() {
            self.fault(None, (0, 0), "a segment is missing", lost);
        }
    }

    /// The gaps that will name what of `from..to` is neither acknowledged nor dropped.
    fn lost(&self, evidence: &Evidence, from: u64, to: u64, runs: (Option<Run>, Option<Run>)) -> Vec<Gap> {
        let ranges = self.spool.state.delivery.readable(from, to);
        let parts = ranges.into_iter().flat_map(|(from, to)| split(runs.0, runs.1, from, to));
        parts.map(|(run, from, to)| evidence.gap(&run, from, to)).collect()
    }

    /// Reads all that counts and gives what is damaged. `progress` learns the bytes that were read, and how many there
    /// are to read.
    pub fn verify(&mut self, mut progress: impl FnMut(u64, u64)) -> Vec<Fault> {
        let segments: Vec<Segment> = self.spool.index.iter().filter(|segment| self.counts(segment)).copied().collect();
        let all: u64 = segments.iter().map(|segment| u64::from(segment.extent().0)).sum();
        let mut done = 0;
        let mut faults = std::mem::take(&mut self.faults);
        for segment in segments {
            progress(done, all);
            done += u64::from(segment.extent().0);
            if self.youngest == Some(segment.header.number) {
                continue;
            }
            let found = self.check(&segment);
            if found.is_empty() || !self.is_still(&segment) {
                // What was recycled meanwhile was delivered or dropped.
                continue;
            }
            let room = FAULTS_MAX.saturating_sub(faults.len());
            faults.extend(found.into_iter().take(room));
        }
        progress(all, all);
        faults
    }

    /// Whether the file still holds this segment.
    fn is_still(&mut self, segment: &Segment) -> bool {
        let mut page = vec![0; PAGE as usize];
        let read = self.spool.storage.read(&segment.slot.name(), 0, &mut page);
        match Header::decode(&page) {
            HeaderPage::Good(header) => header == segment.header,
            // A damaged one was found so from the start.
            _ => read.is_err() || self.faults.iter().any(|fault| fault.file == Some(segment.slot.name())),
        }
    }

    /// Walks all frames of a segment.
    fn check(&mut self, segment: &Segment) -> Vec<Fault> {
        let open = self.youngest == Some(segment.header.number);
        let (limit, mode) = if open { (segment.slot.size, Mode::Tail) } else { segment.extent() };
        let mut scan = Scan::new(segment.slot.name(), &segment.header, limit, mode);
        let mut faults: Vec<Fault> = Vec::new();
        let mut missing = Vec::new();
        let mut routes = BTreeSet::new();
        let mut entered = false;
        loop {
            let unreadable = scan.unreadable();
            let delivery = &self.spool.state.delivery;
            match scan.step_with(&mut self.spool.storage, |from, to| delivery.unsettled_in(from, to) == 0) {
                Step::Damage { from, to } => {
                    let what = if scan.unreadable() > unreadable { "can't be read" } else { DAMAGED };
                    let (from, to) = (u64::from(from), u64::from(to));
                    faults.push(Fault { file: Some(segment.slot.name()), from, to, what, lost: Vec::new() });
                }
                Step::Missing { from, to, before } => {
                    missing.push((faults.len(), from, to.min(segment.end), before, scan.run()));
                }
                Step::End { .. } => break,
                Step::Commit { commit, new_run } => {
                    if !open && !std::mem::replace(&mut entered, true) && commit.first == segment.header.first {
                        // Before it stood the opening alone, which counts no more. A cut leaves it so when the file was
                        // to be used again: its messages were done, which the disk did not know yet.
                        faults.retain(|fault| fault.what != DAMAGED);
                    }
                    if new_run {
                        routes.clear();
                    }
                }
                Step::Frame { head, .. } if head.kind == FrameKind::Route => {
                    routes.insert(head.route);
                }
                // A record whose route is lost can't be sent either.
                Step::Frame { head, run } if head.kind == FrameKind::Record && !routes.contains(&head.route) => {
                    let end = head.first.saturating_add(u64::from(head.count)).min(segment.end);
                    missing.push((faults.len(), head.first, end, Some(run), None));
                }
                Step::Frame { .. } => {}
            }
        }
        if !open {
            missing.push((faults.len(), scan.next_number(), segment.end, scan.run(), Some(segment.last_run)));
        }
        self.name(segment, &missing, &mut faults);
        if segment.data_end.is_none() && Footer::is_torn(&mut self.spool.storage, segment.slot, segment.end) {
            let (to, what) = (u64::from(segment.slot.size), "the footer is damaged");
            let from = to.saturating_sub(u64::from(PAGE));
            faults.push(Fault { file: Some(segment.slot.name()), from, to, what, lost: Vec::new() });
        }
        faults
    }

    /// Puts what is missing to the damage before it.
    fn name(&mut self, segment: &Segment, missing: &[Missing], faults: &mut Vec<Fault>) {
        let delivery = &self.spool.state.delivery;
        if missing.iter().all(|(_, from, to, ..)| delivery.readable(*from, *to).is_empty()) {
            return;
        }
        let evidence = Evidence::of(&mut self.spool.storage, segment);
        for (place, from, to, before, after) in missing {
            let lost = self.lost(&evidence, *from, *to, (*before, *after));
            match place.checked_sub(1).and_then(|place| faults.get_mut(place)) {
                Some(fault) => fault.lost.extend(lost),
                None if lost.is_empty() => {}
                None => {
                    let (file, to) = (Some(segment.slot.name()), u64::from(segment.slot.size));
                    faults.push(Fault { file, from: 0, to, what: "messages are missing", lost });
                }
            }
        }
    }

    /// What is in it, segment by segment, oldest first. Those in which nothing counts are left out.
    pub fn segments(&mut self) -> Vec<SegmentView> {
        let segments: Vec<Segment> = self.spool.index.iter().filter(|segment| self.counts(segment)).copied().collect();
        segments.iter().map(|segment| self.segment(segment)).collect()
    }

    fn segment(&mut self, segment: &Segment) -> SegmentView {
        let open = self.youngest == Some(segment.header.number);
        let footer = Footer::read(&mut self.spool.storage, segment.slot, &segment.header).filter(|_| !open);
        let kind = match (&footer, segment.header.packed) {
            _ if open => Kind::Open,
            (Some(_), true) => Kind::Packed,
            (Some(_), false) => Kind::Sealed,
            (None, _) => Kind::Unsealed,
        };
        let runs = footer
            .map_or_else(|| Evidence::of(&mut self.spool.storage, segment).into_there(), |footer| footer.summary.runs);
        SegmentView {
            file: segment.slot.name(),
            number: segment.header.number,
            kind,
            bytes: u64::from(segment.slot.size),
            first: segment.first,
            end: segment.end,
            pending: self.pending_in(segment),
            boots: runs.iter().map(BootView::of).collect(),
        }
    }

    /// See [`Spool::read`]: entries that are neither acknowledged nor dropped, in order.
    pub fn read(&mut self, from: u64, max_bytes: usize, out: &mut Vec<Entry>) -> Result<u64, Error> {
        self.spool.read(from, max_bytes, out)
    }

    /// The number behind the last message.
    pub fn end(&self) -> u64 {
        self.spool.end()
    }

    /// Messages that reading has missed so far.
    pub fn missed(&self) -> u64 {
        self.spool.state.open_gaps.iter().filter(|gap| gap.reason == GapReason::Corrupt).map(|gap| gap.messages).sum()
    }

    /// Gaps that wait for the next start, or for room, to become messages.
    pub fn open_gaps(&self) -> usize {
        self.spool.state.open_gaps.len()
    }

    /// Delivery state.
    pub fn delivery(&self) -> &Delivery {
        self.spool.delivery()
    }

    /// The store's id and the last boot's number; none where nothing stands.
    pub fn name_and_boot(&self) -> Option<([u8; 4], u32)> {
        let boot = self.spool.run.boot.checked_sub(1).filter(|boot| *boot > 0)?;
        Some((self.spool.run.store, boot))
    }

    /// The figures.
    pub fn stats(&self) -> super::types::Stats {
        self.spool.stats()
    }

    /// Durable values: owner, how many, and their bytes.
    pub fn values(&self) -> Vec<(String, usize, usize)> {
        let mut owners: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for ((owner, _), value) in &self.spool.values {
            let (count, bytes) = owners.entry(owner).or_default();
            *count += 1;
            *bytes += value.len();
        }
        owners.into_iter().map(|(owner, (count, bytes))| (owner.to_owned(), count, bytes)).collect()
    }

    /// Files in which nothing counts.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Copies of damaged places that openings set aside, with their bytes.
    pub fn set_aside(&self) -> &[(String, u64)] {
        self.spool.pool.set_aside()
    }
}

/// Place among the faults, numbers, and the runs around them.
type Missing = (usize, u64, u64, Option<Run>, Option<Run>);

impl BootView {
    fn of(run: &RunSummary) -> Self {
        let sources = run.sources.iter();
        Self {
            boot: run.run.boot,
            first: run.run.seq(run.first),
            last: run.run.seq(run.end.saturating_sub(1)),
            gaps: u64::from(run.gaps),
            sources: sources
                .map(|(name, counts)| (name.to_string(), counts.messages, counts.from_ns, counts.to_ns))
                .collect(),
        }
    }
}

/// All header pages, by name: what they say together is one moment's if they are the same before and after.
fn headers<S: Storage>(storage: &mut S) -> Result<Vec<(String, Option<Header>)>, StorageError> {
    let mut all = Vec::new();
    for file in storage.list()? {
        let mut page = vec![0; PAGE as usize];
        let read = storage.read(&file.name, 0, &mut page);
        let header = match Header::decode(&page) {
            HeaderPage::Good(header) if read.is_ok() => Some(header),
            _ => None,
        };
        all.push((file.name, header));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}
