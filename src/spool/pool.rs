//! The files of the folder: segments in use and free ones, their names and sizes, and copies of what was damaged.
//!
//! Owns the list of free files and the sum of all sizes. Invariants: the sum stays within `max_size`; a file is given
//! out only when nothing in it counts any more; names are durable before a file is used.

use super::format::PAGE;
use super::sabotage::{self, Fault};
use super::storage::{Storage, StorageError, StorageErrorKind};

/// The least and the largest size of a segment, bytes.
const SEGMENT_MIN: u32 = 64 * 1024;
const SEGMENT_MAX: u32 = 16 * 1024 * 1024;
/// A buffer has about so many segments, if their size allows.
const SEGMENTS_AIM: u64 = 128;
/// Free files that records may not take: delivery state and gaps go there when the buffer is full. Two, so that a
/// segment of nothing but state can be replaced by the next one.
pub(crate) const RESERVE: usize = 2;
/// This part of `max_size` may be copies of damaged places.
const BAD_SHARE: u64 = 16;
/// The folder's lock and what the file system may add.
const OTHER_FILES: u64 = PAGE as u64;
const NAME_SUFFIX: &str = ".seg";
const BAD_SUFFIX: &str = ".bad";

/// A file that holds, or may hold, a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) size: u32,
}

impl Slot {
    pub(crate) fn name(self) -> String {
        format!("{:05}{NAME_SUFFIX}", self.index)
    }

    /// The slot that a file is, if it is one.
    pub(crate) fn parse(name: &str, size: u64) -> Option<Self> {
        let digits = name.strip_suffix(NAME_SUFFIX)?;
        if digits.len() != 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // A size that no segment can have is kept as 0: never read, removed when there is time.
        let size = u32::try_from(size).ok().filter(|size| size % PAGE == 0).unwrap_or(0);
        Some(Self { index: digits.parse().ok()?, size })
    }
}

/// Size of a segment, and what segments and copies of damage may take together.
fn shares(max_size: u64) -> (u32, u64, u64) {
    let aim = u32::try_from(max_size / SEGMENTS_AIM).unwrap_or(SEGMENT_MAX).clamp(SEGMENT_MIN, SEGMENT_MAX);
    let bad_budget = max_size / BAD_SHARE;
    (1 << aim.ilog2(), max_size.saturating_sub(bad_budget).saturating_sub(OTHER_FILES), bad_budget)
}

/// All files.
#[derive(Debug)]
pub(crate) struct Pool {
    segment_size: u32,
    budget: u64,
    bad_budget: u64,
    bytes: u64,
    free: Vec<Slot>,
    taken: Vec<u32>,
    bad: Vec<(String, u64)>,
    folder_dirty: bool,
}

impl Pool {
    pub(crate) fn new(max_size: u64, segment_size: Option<u32>) -> Self {
        let (aim, budget, bad_budget) = shares(max_size);
        Self {
            segment_size: segment_size.unwrap_or(aim),
            budget,
            bad_budget,
            bytes: 0,
            free: Vec::new(),
            taken: Vec::new(),
            bad: Vec::new(),
            folder_dirty: false,
        }
    }

    /// Another limit: what is too much, or of another size, goes as it is released.
    pub(crate) fn resize(&mut self, max_size: u64) {
        (self.segment_size, self.budget, self.bad_budget) = shares(max_size);
    }

    /// Takes the place of free files of another size by one of the right size, whatever there is already: for a limit
    /// that was lowered.
    pub(crate) fn purge<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        let other: Vec<Slot> = self.free.extract_if(.., |slot| slot.size != self.segment_size).collect();
        for slot in other {
            self.release_failed(storage, slot);
        }
        while self.free.len() > 1 && self.over_budget() {
            if let Some(slot) = self.free.pop() {
                self.release_failed(storage, slot);
            }
        }
        if self.free.is_empty() {
            self.settle_names(storage)?;
            return self.make(storage);
        }
        Ok(())
    }

    pub(crate) fn segment_size(&self) -> u32 {
        self.segment_size
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.bad.iter().map(|(_, size)| size).sum::<u64>()
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn over_budget(&self) -> bool {
        self.bytes > self.budget
    }

    /// A file that was found.
    pub(crate) fn adopt(&mut self, slot: Slot, size: u64) {
        self.taken.push(slot.index);
        self.bytes += size;
    }

    /// A copy of a damaged place that was found.
    pub(crate) fn adopt_bad(&mut self, name: &str, size: u64) -> bool {
        let known = name.ends_with(BAD_SUFFIX);
        if known {
            self.bad.push((name.to_owned(), size));
            self.bad.sort();
        }
        known
    }

    /// Copies of damaged places, with their bytes.
    pub(crate) fn set_aside(&self) -> &[(String, u64)] {
        &self.bad
    }

    /// Takes a free file out.
    pub(crate) fn take(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// A file into which writing failed: used again when there is no other.
    pub(crate) fn put_last(&mut self, slot: Slot) {
        self.free.insert(0, slot);
    }

    /// Nothing in this file counts any more. What has another size, or is too much, is removed.
    pub(crate) fn release<S: Storage>(&mut self, storage: &mut S, slot: Slot) {
        // One of another size is better than none: something has to take the state.
        if self.free.is_empty() || (slot.size == self.segment_size && self.bytes <= self.budget) {
            self.free.push(slot);
            return;
        }
        let size = storage.list().ok().and_then(|files| files.into_iter().find(|file| file.name == slot.name()));
        let size = size.map_or(u64::from(slot.size), |file| file.size);
        // One that can't be removed stays counted, and is tried again at the next opening.
        if storage.remove(&slot.name()).is_ok() {
            self.folder_dirty = true;
            self.bytes = self.bytes.saturating_sub(size);
            self.taken.retain(|index| *index != slot.index);
        }
    }

    /// Makes free files until the reserve is full, as far as the budget goes.
    pub(crate) fn fill_reserve<S: Storage>(&mut self, storage: &mut S, wanted: usize) -> Result<(), StorageError> {
        while self.free.len() < wanted && self.has_room() {
            self.settle_names(storage)?;
            self.make(storage)?;
        }
        Ok(())
    }

    fn make<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        let index = self.unused_index();
        let slot = Slot { index, size: self.segment_size };
        let name = slot.name();
        storage.create(&name, u64::from(slot.size)).inspect_err(|error| {
            // Half a file may stand there; it is not counted on, and removed if it can be.
            if error.kind != StorageErrorKind::Exists {
                let _ = storage.remove(&name);
            }
        })?;
        self.bytes += u64::from(slot.size);
        self.taken.push(index);
        let durable = storage.sync(&name).and_then(|()| self.sync_names(storage));
        if let Err(error) = durable {
            self.release_failed(storage, slot);
            return Err(error);
        }
        self.free.insert(0, slot);
        Ok(())
    }

    /// Whether another file may be made.
    pub(crate) fn has_room(&self) -> bool {
        let spare = if sabotage::on(Fault::OverBudget) { 2 * u64::from(self.segment_size) } else { 0 };
        self.bytes + u64::from(self.segment_size) <= self.budget + spare
    }

    fn release_failed<S: Storage>(&mut self, storage: &mut S, slot: Slot) {
        if storage.remove(&slot.name()).is_ok() {
            self.folder_dirty = true;
            self.bytes = self.bytes.saturating_sub(u64::from(slot.size));
            self.taken.retain(|index| *index != slot.index);
        }
    }

    /// What was removed is durably gone before anything new is made.
    fn settle_names<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        if self.folder_dirty {
            storage.sync_folder()?;
            self.folder_dirty = false;
        }
        Ok(())
    }

    fn sync_names<S: Storage>(&mut self, storage: &mut S) -> Result<(), StorageError> {
        if sabotage::on(Fault::NoFolderSync) {
            return Ok(());
        }
        storage.sync_folder()?;
        self.folder_dirty = false;
        Ok(())
    }

    fn unused_index(&self) -> u32 {
        (0..).find(|index| !self.taken.contains(index)).unwrap_or(u32::MAX)
    }

    /// Copies a damaged place aside, within the share for that; the oldest copies go first. Best effort: a disk that
    /// is damaged may refuse this too.
    pub(crate) fn keep_bad<S: Storage>(
        &mut self,
        storage: &mut S,
        slot: Slot,
        segment: u64,
        at: (u32, u32),
    ) -> Option<String> {
        let name = format!("{segment:012}-{:08}{BAD_SUFFIX}", at.0);
        if self.bad.iter().any(|(known, _)| *known == name) {
            return Some(name);
        }
        let length = at.1.saturating_sub(at.0).min(u32::try_from(self.bad_budget).unwrap_or(u32::MAX));
        let size = u64::from(length).next_multiple_of(u64::from(PAGE));
        if length == 0 || size > self.bad_budget {
            return None;
        }
        let mut held: u64 = self.bad.iter().map(|(_, size)| size).sum();
        while held + size > self.bad_budget && !self.bad.is_empty() {
            let (oldest, freed) = self.bad.remove(0);
            storage.remove(&oldest).ok()?;
            storage.sync_folder().ok()?;
            held -= freed;
        }
        storage.create(&name, size).ok()?;
        self.bad.push((name.clone(), size));
        self.bad.sort();
        let mut page = vec![0; PAGE as usize];
        for offset in (0..length).step_by(PAGE as usize) {
            page.fill(0);
            // What can't be read is zeros in the copy.
            let _ = storage.read(&slot.name(), u64::from(at.0.saturating_add(offset)), &mut page);
            storage.write(&name, u64::from(offset), &page).ok()?;
        }
        storage.sync(&name).ok()?;
        Some(name)
    }
}
