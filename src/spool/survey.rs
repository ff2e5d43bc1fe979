//! What stands in the folder: headers, footers, and the frames of the youngest segment. Writes nothing.
//!
//! Owns what is found until recovery has made a spool of it. Invariants: a newer version is found before anything is
//! written; the state that is found is the last one whose frame is whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::active::{Footer, Stamp};
use super::bytes::Take;
use super::core::Segment;
use super::format::{Commit, FrameHead, Header, HeaderPage, Kind, PAGE, Run, VERSION};
use super::gap;
use super::pool::{Pool, Slot};
use super::scan::{Mode, Scan, Step};
use super::state::State;
use super::storage::Storage;
use super::summary::Summary;
use super::times::Times;
use super::types::OpenError;
use super::window::Window;

/// Durable values by owner and key.
pub(super) type Values = BTreeMap<(String, String), Vec<u8>>;

/// A value that was set, or removed.
pub(super) type ValueSet = ((String, String), Option<Vec<u8>>);

/// A segment that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) header: Header,
    /// The file is as long as the header says, and the header page was good.
    pub(super) intact: bool,
}

/// A segment that another one follows.
pub(super) struct Closed {
    pub(super) segment: Segment,
    pub(super) stamp: Stamp,
    pub(super) boot: u32,
    /// It was not sealed: these bytes may be in the page cache alone.
    pub(super) tail: Option<Tail>,
}

/// Bytes of a file that may not be durable.
pub(super) type Tail = (Slot, u32, u32);

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By number.
    pub(super) segments: Vec<Found>,
    /// Packed ones, by number.
    pub(super) packed: Vec<Found>,
    /// Files in which nothing stands.
    pub(super) blank: Vec<Slot>,
}

/// What a walk through all frames of one segment found.
#[derive(Debug, Clone)]
pub(super) struct Deep {
    pub(super) state: Option<State>,
    /// Damage stands behind the last state: a later one may be lost.
    pub(super) stale: bool,
    /// Values were given whole (an opening frame), then one by one.
    pub(super) opening: bool,
    pub(super) values: Vec<ValueSet>,
    pub(super) summary: Summary,
    pub(super) next: u64,
    pub(super) cut: u32,
    /// The highest offset that a commit names as durable.
    pub(super) durable: u32,
    pub(super) stamp: Stamp,
    pub(super) boot_max: u32,
    pub(super) last_run: Option<Run>,
    pub(super) unreadable: u32,
    pub(super) damage: Vec<(u32, u32)>,
    pub(super) missing: Vec<(u64, u64, Option<Run>, Option<Run>)>,
    /// Age clock at the last record.
    pub(super) last_age_ms: u64,
    /// Of its records.
    pub(super) times: Times,
    /// Bytes of routes, records and gaps.
    pub(super) dense: u32,
}

/// Looks at every file.
pub(super) fn survey<S: Storage>(storage: &mut S, pool: &mut Pool) -> Result<Survey, OpenError> {
    let mut survey = Survey::default();
    let mut unclear = Vec::new();
    for file in storage.list()? {
        if pool.adopt_bad(&file.name, file.size) {
            continue;
        }
        let Some(slot) = Slot::parse(&file.name, file.size) else { continue };
        pool.adopt(slot, file.size);
        let mut page = vec![0; PAGE as usize];
        let read = storage.read(&file.name, 0, &mut page);
        match Header::decode(&page) {
            HeaderPage::Newer(version) if read.is_ok() => {
                return Err(OpenError::NewerVersion { file: file.name, version, supported: VERSION });
            }
            HeaderPage::Good(header) if read.is_ok() => {
                survey.segments.push(Found { slot, header, intact: header.size == slot.size });
            }
            HeaderPage::Void if read.is_ok() => survey.blank.push(slot),
            _ => unclear.push(slot),
        }
    }
    for slot in unclear {
        salvage(storage, slot, &mut survey);
    }
    survey.segments.sort_by_key(|found| found.header.number);
    survey.packed = survey.segments.extract_if(.., |found| found.header.packed).collect();
    Ok(survey)
}

/// A file without a good header: its commit heads may tell what it was.
fn salvage<S: Storage>(storage: &mut S, slot: Slot, survey: &mut Survey) {
    let mut window = Window::new(slot.name(), slot.size);
    let mut best: Option<Commit> = None;
    for offset in (PAGE..slot.size).step_by(PAGE as usize) {
        let page = window.slice(storage, offset, PAGE);
        let Some(commit) = page.and_then(|page| Commit::find(page, offset, None)) else { continue };
        if best.is_none_or(|best| commit.segment > best.segment) {
            best = Some(commit);
        }
    }
    match best {
        Some(commit) => {
            let header = Header {
                size: slot.size,
                number: commit.segment,
                packed: commit.packed,
                first: commit.first,
                salt: commit.segment_salt,
                age_ms: commit.age_ms,
                run: commit.run,
            };
            survey.segments.push(Found { slot, header, intact: false });
        }
        // Unreadable as a whole: left alone, it may be readable another time.
        None if window.unreadable > 0 => {}
        None => survey.blank.push(slot),
    }
}

impl Found {
    /// A segment that another one follows: by its footer, or frame by frame. `before` is the last run known.
    /// `None` if nothing is in it.
    pub(super) fn close<S: Storage>(&self, storage: &mut S, before: Option<Run>) -> Option<Closed> {
        let whole = self.header.size == self.slot.size;
        let footer = if whole { Footer::read(storage, self.slot, &self.header) } else { None };
        if let Some(footer) = footer {
            let mut segment = self.segment(footer.next, footer.stamp.age_ms, Some(footer.data_end), footer.run);
            segment.oldest_ns = footer.summary.oldest_ns();
            segment.dense = Some(footer.dense);
            return Some(Closed { segment, stamp: footer.stamp, boot: footer.run.boot, tail: None });
        }
        let deep = self.walk(storage, Mode::Closed);
        if deep.is_blank(&self.header) {
            return None;
        }
        let run = deep.last_run.or(before).unwrap_or(NO_RUN);
        let mut segment = self.segment(deep.next, deep.last_age_ms, None, run);
        segment.oldest_ns = deep.summary.oldest_ns();
        let tail = Some((self.slot, deep.durable, deep.cut));
        Some(Closed { segment, stamp: deep.stamp, boot: deep.boot_max, tail })
    }

    pub(super) fn segment(&self, end: u64, age_ms: u64, data_end: Option<u32>, last_run: Run) -> Segment {
        let (slot, header) = (self.slot, self.header);
        Segment { slot, header, first: header.first, end, age_ms, data_end, last_run, dense: None, oldest_ns: None }
    }

    /// Whether it was sealed.
    pub(super) fn has_footer<S: Storage>(&self, storage: &mut S) -> bool {
        Footer::read(storage, self.slot, &self.header).is_some()
    }

    /// Walks all frames.
    pub(super) fn walk<S: Storage>(&self, storage: &mut S, mode: Mode) -> Deep {
        let mut scan = Scan::new(self.slot.name(), &self.header, self.slot.size, mode);
        let mut deep = Deep::new(&self.header);
        let mut sources: BTreeMap<u16, Arc<str>> = BTreeMap::new();
        loop {
            match scan.step_with(storage, |from, to| deep.settles(from, to)) {
                Step::Commit { commit, new_run } => {
                    if new_run {
                        sources.clear();
                    }
                    deep.durable = deep.durable.max(commit.durable);
                    deep.stamp = Stamp { age_ms: commit.age_ms, wall_ns: commit.wall_ns, synced: commit.synced };
                }
                Step::Damage { from, to } => {
                    deep.damage.push((from, to));
                    deep.stale = true;
                }
                Step::Missing { from, to, before } => deep.missing.push((from, to, before, scan.run())),
                Step::End { cut } => {
                    deep.cut = cut;
                    break;
                }
                Step::Frame { head, run } => deep.frame(&head, run, scan.body(storage), &mut sources),
            }
        }
        deep.next = scan.next_number();
        deep.boot_max = scan.boot_max;
        deep.last_run = scan.run();
        deep.unreadable = scan.unreadable();
        deep
    }
}

/// Stands where no run could be read.
pub(super) const NO_RUN: Run = Run { store: [0; 4], boot: 0, base: 1, salt: 0 };

impl Deep {
    fn new(header: &Header) -> Self {
        Self {
            state: None,
            stale: false,
            opening: false,
            values: Vec::new(),
            summary: Summary::default(),
            next: header.first,
            cut: PAGE,
            durable: 0,
            stamp: Stamp { age_ms: header.age_ms, wall_ns: 0, synced: false },
            boot_max: 0,
            last_run: None,
            unreadable: 0,
            damage: Vec::new(),
            missing: Vec::new(),
            last_age_ms: header.age_ms,
            times: Times::default(),
            dense: 0,
        }
    }

    /// Nothing but a header: a cut came before the opening was durable.
    pub(super) fn is_blank(&self, header: &Header) -> bool {
        !self.opening && self.next == header.first && self.damage.is_empty() && self.unreadable == 0
    }

    /// Whether the state so far leaves these numbers out; where there is none, nobody knows better.
    fn settles(&self, from: u64, to: u64) -> bool {
        self.state.as_ref().is_none_or(|state| state.delivery.unsettled_in(from, to) == 0)
    }

    /// State and values alone.
    pub(super) fn words(&self) -> Self {
        self.clone()
    }

    fn frame(&mut self, head: &FrameHead, run: Run, body: &[u8], sources: &mut BTreeMap<u16, Arc<str>>) {
        if head.count > 0 || head.kind == Kind::Route {
            self.dense = self.dense.saturating_add(u32::try_from(head.size()).unwrap_or(u32::MAX));
        }
        match head.kind {
            Kind::Record => {
                let source = sources.get(&head.route).cloned().unwrap_or_else(|| Arc::from(""));
                self.summary.add_record(&run, &source, head.first, head.count, head.time_ns);
                self.last_age_ms = self.stamp.age_ms;
                self.times.add(head.first, head.time_ns);
            }
            Kind::Route => {
                if let Some(name) = Take::new(body).name() {
                    sources.insert(head.route, name);
                }
            }
            Kind::Change | Kind::Opening => {
                if head.count > 0 {
                    self.summary.add_gaps(&run, head.first, head.count);
                }
                // A body that passed its CRC and can't be read would be a fault of the writer: the one before counts.
                let _ = self.change(head.kind, body);
            }
            Kind::Value => {
                let mut take = Take::new(body);
                if let Some(value) = read_value(&mut take) {
                    self.values.push(value);
                }
            }
            Kind::Commit | Kind::Footer => {}
        }
    }

    fn change(&mut self, kind: Kind, body: &[u8]) -> Option<()> {
        let mut take = Take::new(body);
        for _ in 0..take.varint()? {
            gap::decode(&mut take)?;
        }
        let state = State::decode(&mut take)?;
        if kind == Kind::Opening {
            let mut values = Vec::new();
            for _ in 0..take.varint()? {
                let key = (take.name()?.to_string(), take.name()?.to_string());
                let length = usize::try_from(take.varint()?).ok()?;
                values.push((key, Some(take.bytes(length)?.to_vec())));
            }
            self.opening = true;
            self.values = values;
        }
        self.state = Some(state);
        self.stale = false;
        Some(())
    }
}

/// A value frame's body: owner, key, and the value if it was not removed.
fn read_value(take: &mut Take<'_>) -> Option<ValueSet> {
    let key = (take.name()?.to_string(), take.name()?.to_string());
    let set = take.u8()? != 0;
    Some((key, set.then(|| take.rest().to_vec())))
}
