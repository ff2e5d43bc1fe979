//! Opening: from what stands in the folder to a spool that takes records.
//!
//! ```text
//!  survey (reads only) ─▶ state, index, next number ─▶ flush the youngest ─▶ run page or new segment, durable ─▶ open
//!      │ newer version: refused                              │ the disk refuses
//!      ▼                                                     ▼
//!   nothing touched                                   memory, under a store id of its own
//! ```
//!
//! Invariants: opening succeeds but for a newer version; the boot is durable on return, or the store id is new, so
//! that no (store, boot, seq) is ever given twice; damage that was reported is not reported again.

use std::time::Duration;

use super::active::{Active, Stamp};
use super::core::{AgeClock, Mark, Rng, Segment, Spool, frame_head};
use super::format::{Kind, PAGE, Run, page_up};
use super::pending::Pending;
use super::pool::{Pool, RESERVE, Slot};
use super::ranges::Ranges;
use super::sabotage::{self, Fault};
use super::scan::Mode;
use super::state::{Delivery, State};
use super::storage::{Storage, StorageError, StorageErrorKind};
use super::survey::{Closed, Deep, Found, NO_RUN, Survey, Tail, Values, survey};
use super::times::Times;
use super::types::{Damage, Drops, MAX_SIZE_MIN, Now, OpenError, Opened, Options};

/// What is gathered before the first write.
pub(super) struct Gathered {
    pub(super) index: Vec<Segment>,
    pub(super) youngest: Option<(Found, Deep)>,
    pub(super) state: Option<State>,
    values: Values,
    stamp: Stamp,
    boot_max: u32,
    /// What may be in the page cache alone.
    tails: Vec<Tail>,
    /// Files in which nothing stands.
    pub(super) blank: Vec<Slot>,
    /// Files that another one stands for; free as soon as the state that was read is durable.
    replaced: Vec<Slot>,
    /// Packed files that are not needed: they are made void before anything else changes.
    void: Vec<Slot>,
    next_segment: u64,
    /// The youngest segment alone has the state: older ones may be freed by it at once.
    state_in_youngest: bool,
    /// A later state than the one that was found may be lost.
    state_stale: bool,
}

impl Gathered {
    /// Of a folder in which nothing stands yet.
    fn nothing(blank: Vec<Slot>, next_segment: u64) -> Self {
        Self {
            index: Vec::new(),
            youngest: None,
            state: None,
            values: Values::new(),
            stamp: Stamp::default(),
            boot_max: 0,
            tails: Vec::new(),
            blank,
            replaced: Vec::new(),
            void: Vec::new(),
            next_segment,
            state_in_youngest: false,
            state_stale: false,
        }
    }
}

impl<S: Storage> Spool<S> {
    /// Opens the folder, or makes a spool in it. On return the new boot is durable, unless
    /// [`Opened::trouble`] says that the disk refuses.
    pub fn open(
        mut storage: S,
        options: Options,
        fresh_store_id: [u8; 4],
        now: Now,
    ) -> Result<(Self, Opened), OpenError> {
        if options.max_size < MAX_SIZE_MIN && options.segment_size.is_none() {
            return Err(OpenError::TooSmall { max_size: options.max_size });
        }
        let mut pool = Pool::new(options.max_size, options.segment_size);
        let survey = survey(&mut storage, &mut pool)?;
        let gathered = gather(&mut storage, survey);
        let mut opened =
            Opened { fresh: gathered.index.is_empty() && gathered.youngest.is_none(), ..Opened::default() };
        opened.state_lost = (gathered.state.is_none() || gathered.state_stale) && !opened.fresh;
        let mut spool = Self::assemble(storage, options, pool, &gathered, fresh_store_id, now);
        for slot in gathered.blank.clone() {
            spool.release(slot);
        }
        spool.begin(gathered, fresh_store_id, &mut opened);
        opened.damage = spool.take_damage();
        Ok((spool, opened))
    }

    /// A spool of what was found, in which nothing is begun yet.
    pub(super) fn assemble(
        storage: S,
        options: Options,
        pool: Pool,
        found: &Gathered,
        fresh: [u8; 4],
        now: Now,
    ) -> Self {
        let last_run = found.youngest.as_ref().and_then(|(_, deep)| deep.last_run);
        let last_run = last_run.or_else(|| found.index.last().map(|segment| segment.last_run));
        let mut state =
            found.state.clone().unwrap_or_else(|| State { delivery: Delivery::new(), next: 1, open_gaps: Vec::new() });
        let scanned = found.youngest.as_ref().map_or(1, |(_, deep)| deep.next);
        let indexed = found.index.last().map_or(1, |segment| segment.end);
        state.next = state.next.max(scanned).max(indexed).max(state.delivery.settled_end());
        state.delivery.clip(state.next);
        let mut rng = Rng(options.seed);
        let run = Run {
            store: last_run.filter(|run| run.boot > 0).map_or(fresh, |run| run.store),
            boot: found.boot_max.saturating_add(1),
            base: state.next,
            salt: match last_run {
                Some(run) if sabotage::on(Fault::NoFreshSalt) => run.salt,
                _ => rng.next(),
            },
        };
        let mark = Mark { lease: state.delivery.sent_below(), done_below: state.delivery.done_below() };
        Self {
            storage,
            options,
            pool,
            index: found.index.clone(),
            active: None,
            pending: Pending::default(),
            state,
            state_dirty: false,
            written_mark: mark,
            durable_mark: mark,
            states_written: 0,
            flight: None,
            run,
            next_segment: found.next_segment,
            values: found.values.clone(),
            values_unwritten: false,
            connected: false,
            handed_below: 0,
            closing: false,
            rng,
            clock: AgeClock::resume(found.stamp, now),
            times: Times::default(),
            now,
            urgent_since: None,
            full: false,
            hole: false,
            log_end: scanned.max(indexed),
            full_until: Duration::ZERO,
            trouble: None,
            retry_at: Duration::ZERO,
            retry_after: Duration::ZERO,
            cursor: None,
            packing: None,
            damage: Vec::new(),
            drops: Drops::default(),
            said_gaps: std::collections::BTreeMap::new(),
            evidence: None,
        }
    }

    pub(super) fn release(&mut self, slot: Slot) {
        self.pool.release(&mut self.storage, slot);
    }

    /// Makes the boot durable, or goes to memory under a store id of its own.
    fn begin(&mut self, mut found: Gathered, fresh: [u8; 4], opened: &mut Opened) {
        let youngest = found.youngest.take();
        let tails = std::mem::take(&mut found.tails);
        let flushed = tails.into_iter().try_for_each(|tail| self.write_again(tail));
        let begun = self.begin_on_disk(youngest.as_ref(), &found, flushed, opened);
        if opened.state_lost {
            self.state.delivery.set_clean(true);
            self.state_dirty = true;
        }
        if let Err(error) = begun {
            opened.trouble = Some(error.clone());
            self.fail(error);
            // The boot is not durable: another start may take the same number, but not the same store.
            self.run.store = fresh;
        }
    }

    fn begin_on_disk(
        &mut self,
        youngest: Option<&(Found, Deep)>,
        gathered: &Gathered,
        flushed: Result<(), StorageError>,
        opened: &mut Opened,
    ) -> Result<(), StorageError> {
        let resumed = match youngest {
            Some((found, deep)) => self.settle_youngest(found, deep, gathered.state_in_youngest, opened),
            None => Ok(false),
        };
        let resumed_deep = youngest.filter(|_| self.active.is_some());
        self.find_holes(resumed_deep, opened);
        // Files that were found may have names that no one made durable before the last cut.
        let resumed = flushed.and(resumed)?;
        self.storage.sync_folder()?;
        for slot in &gathered.void {
            self.make_void(*slot)?;
        }
        for slot in gathered.replaced.iter().chain(&gathered.void) {
            self.release(*slot);
        }
        if resumed {
            self.write_run_page()?;
        } else {
            self.first_segment()?;
        }
        self.trouble = None;
        self.make_room()?;
        self.mark_reserve();
        // Before anything young comes into the segment of what has grown too old meanwhile.
        let _ = self.retain(self.now);
        Ok(())
    }

    fn first_segment(&mut self) -> Result<(), StorageError> {
        let made = self.pool.fill_reserve(&mut self.storage, RESERVE + 1);
        if self.open_first(made.is_ok())? {
            return Ok(());
        }
        made?;
        Err(StorageError::new(StorageErrorKind::Full, "create", "segment", "no segment is free"))
    }

    /// Takes the youngest segment over: as the active one if it can be gone on with, else among the closed ones.
    fn settle_youngest(
        &mut self,
        found: &Found,
        deep: &Deep,
        state_in_youngest: bool,
        opened: &mut Opened,
    ) -> Result<bool, StorageError> {
        let before = self.index.last().map(|segment| segment.last_run);
        let mut segment = found.segment(deep.next, deep.last_age_ms, None, deep.last_run.or(before).unwrap_or(NO_RUN));
        segment.oldest_ns = deep.summary.oldest_ns();
        self.times.clone_from(&deep.times);
        let flushed = self.write_again((found.slot, deep.durable, deep.cut));
        if flushed.is_ok() && state_in_youngest {
            self.collect(u64::MAX);
        }
        self.keep_found_damage(&segment, deep);
        for (from, to, run, after) in &deep.missing {
            let readable = Segment { data_end: Some(deep.cut), ..segment };
            let border = began(*run, *from, *to);
            opened.lost_messages += self.lose_in(&readable, *from, border, before, *run);
            opened.lost_messages += self.lose_in(&readable, border, *to, run.or(before), *after);
        }
        let good = found.intact && deep.unreadable == 0 && deep.opening && flushed.is_ok();
        if !good || found.has_footer(&mut self.storage) {
            self.index.push(segment);
            return flushed.map(|()| false);
        }
        let mut active = Active::resume(found.slot, found.header, self.run, deep.summary.clone(), deep.cut);
        active.last_age_ms = deep.last_age_ms;
        active.dense = deep.dense;
        active.first_age_ms = (deep.next > found.header.first).then_some(found.header.age_ms);
        self.active = Some(active);
        Ok(true)
    }

    /// Makes durable what was read. It may be in the page cache alone, and be taken for clean there after a flush that
    /// failed in another life of this process: a flush alone would do nothing then.
    fn write_again(&mut self, (slot, from, to): Tail) -> Result<(), StorageError> {
        let name = slot.name();
        let mut page = vec![0; PAGE as usize];
        for offset in (from - from % PAGE..page_up(to)).step_by(PAGE as usize) {
            let offset = u64::from(offset);
            // What can't be read is no reason to lose the rest.
            if self.storage.read(&name, offset, &mut page).is_ok_and(|count| count == page.len()) {
                self.storage.write(&name, offset, &page)?;
            }
        }
        self.storage.sync(&name)
    }

    fn keep_found_damage(&mut self, segment: &Segment, deep: &Deep) {
        for (from, to) in &deep.damage {
            let kept_as = self.pool.keep_bad(&mut self.storage, segment.slot, segment.header.number, (*from, *to));
            let damage = Damage { file: segment.slot.name(), from: u64::from(*from), to: u64::from(*to), kept_as };
            self.damage.push(damage);
        }
    }

    /// Numbers that no segment has.
    fn find_holes(&mut self, resumed: Option<&(Found, Deep)>, opened: &mut Opened) {
        let mut at = self.state.delivery.done_below();
        // The last run begun, and the one before it: a run may have begun behind the last number that is there.
        let (mut earlier, mut before): (Option<Run>, Option<Run>) = (None, None);
        let resumed = resumed.map(|(found, deep)| {
            let run = deep.summary.runs.first().map(|run| run.run).or(deep.last_run).unwrap_or(NO_RUN);
            found.segment(deep.next, 0, None, deep.last_run.unwrap_or(run))
        });
        let segments: Vec<Segment> = self.index.iter().copied().chain(resumed).collect();
        for segment in segments {
            opened.lost_messages += self.lose_between(at, segment.first, [earlier, before, Some(segment.header.run)]);
            at = at.max(segment.end);
            earlier = Some(segment.header.run).filter(|run| run.base <= at).or(before);
            before = Some(segment.last_run);
        }
        opened.lost_messages += self.lose_between(at, self.state.next, [earlier, before, Some(self.run)]);
    }

    /// The same as [`Self::lose`], with two runs before.
    fn lose_between(&mut self, from: u64, to: u64, [earlier, before, after]: [Option<Run>; 3]) -> u64 {
        let border = began(before, from, to);
        self.lose(from, border, earlier, before) + self.lose(border, to, before.or(earlier), after)
    }

    fn write_run_page(&mut self) -> Result<(), StorageError> {
        let (stamp, first) = (self.stamp(), self.log_end);
        let lease = self.lease();
        let body = self.opening_state(lease);
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        let mut write = active.begin_run(first, stamp);
        active.push(&mut write, &frame_head(Kind::Change, &body, first, 0, stamp.wall_ns), &body);
        if !active.fits(&write, super::summary::Summary::growth(""), 0) {
            // No room for a run: the next segment begins with it.
            self.seal()?;
            return self.first_segment();
        }
        active.write(&mut self.storage, write)?;
        if !sabotage::on(Fault::BootNotDurable) {
            active.sync(&mut self.storage)?;
        }
        self.state_written(lease);
        self.now_durable();
        Ok(())
    }
}

/// Where in `from..to` a run begins: what lies before it is of the run before. At `from`, where none is known.
fn began(run: Option<Run>, from: u64, to: u64) -> u64 {
    run.map_or(from, |run| run.base.clamp(from, to.max(from)))
}

/// Walks what has to be walked: the youngest segment, older ones until a state is found, and all without a footer.
pub(super) fn gather<S: Storage>(storage: &mut S, survey: Survey) -> Gathered {
    let mut segments = survey.segments;
    let numbers = segments.iter().chain(&survey.packed).map(|found| found.header.number);
    let next_segment = numbers.max().map_or(0, |number| number.saturating_add(1));
    let mut found = Gathered::nothing(survey.blank, next_segment);
    // The youngest in which anything stands: its tail may be torn.
    let youngest = loop {
        let Some(last) = segments.pop() else { break None };
        let deep = last.walk(storage, Mode::Tail);
        if !deep.is_blank(&last.header) {
            break Some((last, deep));
        }
        found.blank.push(last.slot);
    };
    let Some((last, deep)) = youngest else {
        add_packed(storage, survey.packed, &mut found);
        return found;
    };
    read_state(storage, &segments, &deep, &mut found);
    close_all(storage, &segments, &last, &mut found);
    add_packed(storage, survey.packed, &mut found);
    found.boot_max = found.boot_max.max(deep.boot_max);
    if deep.last_run.is_some() {
        found.stamp = deep.stamp;
    }
    found.youngest = Some((last, deep));
    found
}

/// The state and the values, as the last frames that hold them say.
fn read_state<S: Storage>(storage: &mut S, segments: &[Found], deep: &Deep, found: &mut Gathered) {
    let mut walks = Vec::new();
    // The state of an older segment, if the youngest has none: a cut came between its header and its opening.
    if deep.state.is_none() || !deep.opening {
        for older in segments.iter().rev() {
            let walk = older.walk(storage, Mode::Closed);
            let whole = walk.opening;
            walks.push(walk);
            if whole {
                break;
            }
        }
    }
    found.state_in_youngest = deep.opening;
    found.state_stale = deep.stale || !deep.opening;
    for walk in walks.into_iter().rev().chain([deep.words()]) {
        if walk.opening {
            found.values.clear();
        }
        for (key, value) in walk.values {
            match value {
                Some(value) => found.values.insert(key, value),
                None => found.values.remove(&key),
            };
        }
        found.state = walk.state.or(found.state.take());
    }
}

/// What the segments before the youngest hold.
fn close_all<S: Storage>(storage: &mut S, segments: &[Found], last: &Found, found: &mut Gathered) {
    for segment in segments {
        let before = found.index.last().map(|segment: &Segment| segment.last_run);
        let slot = segment.slot;
        let Some(Closed { segment, stamp, boot, tail }) = segment.close(storage, before) else {
            found.blank.push(slot);
            continue;
        };
        found.tails.extend(tail);
        if let Some(previous) = found.index.last_mut() {
            previous.end = previous.end.min(segment.first).max(previous.first);
        }
        found.boot_max = found.boot_max.max(boot);
        found.index.push(segment);
        found.stamp = stamp;
    }
    if let Some(previous) = found.index.last_mut() {
        previous.end = previous.end.min(last.header.first).max(previous.first);
    }
}

/// Packed segments take the place of those that they hold, unless these are all there: then the packed one may not
/// be whole, or not be durable.
fn add_packed<S: Storage>(storage: &mut S, packed: Vec<Found>, found: &mut Gathered) {
    let plain = found.index.clone();
    for segment in packed {
        let slot = segment.slot;
        let Some(Closed { segment, boot, tail, .. }) = segment.close(storage, None) else {
            found.blank.push(slot);
            continue;
        };
        found.boot_max = found.boot_max.max(boot);
        let mut there = Ranges::default();
        for other in &plain {
            there.insert(other.first, other.end);
        }
        let wanted = found.state.as_ref().map_or_else(
            || vec![(segment.first, segment.end)],
            |state| state.delivery.unsettled(segment.first, segment.end),
        );
        if wanted.iter().all(|(from, to)| there.missing_in(*from, *to).is_empty()) {
            found.void.push(slot);
            continue;
        }
        found.tails.extend(tail);
        found.index.push(segment);
    }
    // Of what is there twice the wider one is kept; each number is looked for in one segment.
    found.index.sort_by_key(|segment| (segment.first, std::cmp::Reverse(segment.end)));
    let mut end = 0;
    let covered = |segment: &mut Segment| {
        let covered = segment.first < segment.end && segment.end <= end;
        segment.first = segment.first.max(end.min(segment.end));
        end = end.max(segment.end);
        covered
    };
    found.replaced.extend(found.index.extract_if(.., covered).map(|segment| segment.slot));
}
