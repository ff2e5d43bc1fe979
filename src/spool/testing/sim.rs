//! A disk in memory that can fail, and that forgets in a power cut what a real one may forget. Tests only.
//!
//! ```text
//!   what the program sees            what survives a cut
//!   files: bytes now           ◀──   durable bytes + some of the writes since the last sync, in any choice,
//!   names now                  ◀──   each perhaps torn at 512 bytes; some of the name changes since the last
//!                                    folder sync, a prefix of them (a journal keeps their order)
//! ```
//!
//! Owns the files and a count of operations. Invariants: what was synced survives; with one seed a cut always
//! leaves the same.

use std::collections::BTreeMap;

use crate::spool::core::Rng;
use crate::spool::storage::{Deferred, FileInfo, Storage, StorageError, StorageErrorKind};

/// Sectors are written whole or not at all.
const SECTOR: usize = 512;

/// What a cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survival {
    /// All of it: the process was killed, not the machine.
    All,
    /// Nothing.
    None,
    /// Each sector as the dice fall.
    Sectors,
    /// Each write as the dice fall.
    Writes,
    /// A prefix of the writes, the last one torn.
    Prefix,
    /// All but the oldest write: the order was turned around.
    Reversed,
}

pub(super) const SURVIVALS: [Survival; 6] =
    [Survival::All, Survival::None, Survival::Sectors, Survival::Writes, Survival::Prefix, Survival::Reversed];

#[derive(Clone, Debug, Default)]
struct SimFile {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    writes: Vec<(usize, Vec<u8>)>,
    /// Writes that were synced, or forgotten, before these.
    settled: usize,
}

/// A flush that was begun: of which file, and how many writes.
#[derive(Debug)]
pub(super) struct SimFlush {
    name: String,
    inode: u64,
    writes: usize,
}

/// Trouble that the disk makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Writes, creations and syncs fail.
    pub(super) read_only: bool,
    /// This many bytes are there for all files.
    pub(super) capacity: Option<u64>,
    /// This many syncs from now the next one fails, once, and forgets what was not durable.
    pub(super) sync_fails_in: Option<u64>,
    /// This many writes from now the next one fails, once.
    pub(super) write_fails_in: Option<u64>,
    /// Pages that can't be read: file, offset.
    pub(super) unreadable: Vec<(String, u64)>,
}

/// The disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Sim {
    /// By inode; names point at them.
    files: BTreeMap<u64, SimFile>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<(String, Option<u64>)>,
    next_inode: u64,
    /// Operations that change something, so far.
    pub(super) operations: u64,
    /// The operation with this number and all behind it fail: the machine is off.
    pub(super) off_at: Option<u64>,
    pub(super) trouble: Trouble,
    /// Highest sum of all sizes seen.
    pub(super) bytes_max: u64,
    /// Bytes and flushes, for figures.
    pub(super) written: u64,
    pub(super) syncs: u64,
    pub(super) read: u64,
}

impl Sim {
    /// An empty disk that makes trouble.
    pub(super) fn with(trouble: Trouble) -> Self {
        Self { trouble, ..Self::default() }
    }

    /// The disk after a power cut.
    pub(super) fn after_cut(&self, survival: Survival, seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut after = self.clone();
        after.off_at = None;
        after.trouble = Trouble::default();
        after.operations = 0;
        if survival != Survival::All {
            let kept = match survival {
                Survival::None => 0,
                _ => (rng.next() as usize) % (self.name_changes.len() + 1),
            };
            after.names = self.durable_names.clone();
            for (name, inode) in self.name_changes.iter().take(kept) {
                match inode {
                    Some(inode) => after.names.insert(name.clone(), *inode),
                    None => after.names.remove(name),
                };
            }
        }
        for file in after.files.values_mut() {
            if survival != Survival::All {
                file.bytes = file.after_cut(survival, &mut rng);
            }
            if survival != Survival::All {
                file.durable = file.bytes.clone();
                file.writes.clear();
            }
        }
        if survival != Survival::All {
            after.durable_names = after.names.clone();
            after.name_changes.clear();
        }
        let named: Vec<u64> = after.names.values().copied().collect();
        after.files.retain(|inode, _| named.contains(inode));
        after
    }

    /// Turns one bit over, in what is durable too.
    pub(super) fn flip(&mut self, name: &str, offset: usize, bit: u8) {
        let Some(file) = self.names.get(name).and_then(|inode| self.files.get_mut(inode)) else { return };
        for bytes in [&mut file.bytes, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Makes one byte zero, in what is durable too.
    pub(super) fn zero(&mut self, name: &str, offset: usize) {
        let Some(file) = self.names.get(name).and_then(|inode| self.files.get_mut(inode)) else { return };
        for bytes in [&mut file.bytes, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte = 0;
            }
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(super) fn content(&self, name: &str) -> Option<&[u8]> {
        self.names.get(name).and_then(|inode| self.files.get(inode)).map(|file| file.bytes.as_slice())
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.names.remove(name);
        self.durable_names.remove(name);
    }

    fn total(&self) -> u64 {
        self.names.values().filter_map(|inode| self.files.get(inode)).map(|file| file.bytes.len() as u64).sum()
    }

    /// Counts an operation; an error once the machine is off.
    fn operate(&mut self, operation: &'static str, name: &str) -> Result<(), StorageError> {
        let here = self.operations;
        self.operations += 1;
        if self.off_at.is_some_and(|at| here >= at) {
            return Err(StorageError::new(StorageErrorKind::Io, operation, name, "the power is off"));
        }
        if self.trouble.read_only {
            return Err(StorageError::new(StorageErrorKind::ReadOnly, operation, name, "read-only"));
        }
        Ok(())
    }

    fn file(&mut self, operation: &'static str, name: &str) -> Result<&mut SimFile, StorageError> {
        let missing = || StorageError::new(StorageErrorKind::NotFound, operation, name, "no such file");
        let inode = self.names.get(name).copied().ok_or_else(missing)?;
        self.files.get_mut(&inode).ok_or_else(missing)
    }

    fn rename_to(&mut self, name: &str, inode: Option<u64>) {
        match inode {
            Some(inode) => self.names.insert(name.to_owned(), inode),
            None => self.names.remove(name),
        };
        self.name_changes.push((name.to_owned(), inode));
    }

    fn counts_down(counter: &mut Option<u64>) -> bool {
        match counter {
            Some(0) => {
                *counter = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl SimFile {
    fn after_cut(&self, survival: Survival, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let count = self.writes.len();
        let stop = (rng.next() as usize) % (count + 1);
        for (place, (offset, data)) in self.writes.iter().enumerate() {
            for (sector, part) in sectors(*offset, data) {
                let kept = match survival {
                    Survival::All => true,
                    Survival::None => false,
                    Survival::Sectors => rng.next().is_multiple_of(2),
                    Survival::Writes => !(stop as u64 ^ place as u64).wrapping_mul(0x9e37_79b9).is_multiple_of(3),
                    Survival::Prefix => place < stop || (place == stop && rng.next().is_multiple_of(2)),
                    Survival::Reversed => place > 0,
                };
                if kept {
                    put(&mut bytes, sector, part);
                }
            }
        }
        bytes
    }
}

/// A write cut at sector borders.
fn sectors(offset: usize, data: &[u8]) -> Vec<(usize, &[u8])> {
    let mut parts = Vec::new();
    let (mut at, mut rest) = (offset, data);
    while !rest.is_empty() {
        let (part, more) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
        parts.push((at, part));
        at += part.len();
        rest = more;
    }
    parts
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Storage for Sim {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        let files = &self.files;
        let size = |inode: &u64| files.get(inode).map_or(0, |file| file.bytes.len() as u64);
        Ok(self.names.iter().map(|(name, inode)| FileInfo { name: name.clone(), size: size(inode) }).collect())
    }

    fn create(&mut self, name: &str, size: u64) -> Result<(), StorageError> {
        self.operate("create", name)?;
        if self.names.contains_key(name) {
            return Err(StorageError::new(StorageErrorKind::Exists, "create", name, "exists"));
        }
        if self.trouble.capacity.is_some_and(|capacity| self.total() + size > capacity) {
            return Err(StorageError::new(StorageErrorKind::Full, "create", name, "no space left"));
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let zeros = vec![0; size as usize];
        self.files.insert(inode, SimFile { bytes: zeros.clone(), writes: vec![(0, zeros)], ..SimFile::default() });
        self.rename_to(name, Some(inode));
        self.bytes_max = self.bytes_max.max(self.total());
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        if self.off_at.is_some_and(|at| self.operations > at) {
            return Err(StorageError::new(StorageErrorKind::Io, "read", name, "the power is off"));
        }
        let end = offset + into.len() as u64;
        let hit = |(file, at): &(String, u64)| file == name && *at < end && at + 4096 > offset;
        if self.trouble.unreadable.iter().any(hit) {
            return Err(StorageError::new(StorageErrorKind::Io, "read", name, "input/output error"));
        }
        let file = self.file("read", name)?;
        let from = (offset as usize).min(file.bytes.len());
        let count = into.len().min(file.bytes.len() - from);
        into[..count].copy_from_slice(&file.bytes[from..from + count]);
        self.read += count as u64;
        Ok(count)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        let off = self.operate("write", name);
        if off.is_err() && self.off_at != Some(self.operations - 1) {
            return off;
        }
        // The write during which the power goes may have reached the disk in part.
        let fails = Self::counts_down(&mut self.trouble.write_fails_in);
        self.written += bytes.len() as u64;
        let file = self.file("write", name)?;
        let kept = if fails { bytes.len() / 2 } else { bytes.len() };
        put(&mut file.bytes, offset as usize, &bytes[..kept]);
        file.writes.push((offset as usize, bytes[..kept].to_vec()));
        if fails {
            return Err(StorageError::new(StorageErrorKind::Io, "write", name, "input/output error"));
        }
        off
    }

    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        let flush = self.begin_flush(name)?;
        self.end_flush(flush)
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        self.operate("sync folder", ".")?;
        self.durable_names = self.names.clone();
        self.name_changes.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        self.operate("rename", from)?;
        let missing = || StorageError::new(StorageErrorKind::NotFound, "rename", from, "no such file");
        let inode = self.names.get(from).copied().ok_or_else(missing)?;
        self.rename_to(to, Some(inode));
        self.rename_to(from, None);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        self.operate("remove", name)?;
        if !self.names.contains_key(name) {
            return Err(StorageError::new(StorageErrorKind::NotFound, "remove", name, "no such file"));
        }
        self.rename_to(name, None);
        Ok(())
    }
}

impl Deferred for Sim {
    type Flush = SimFlush;

    fn begin_flush(&mut self, name: &str) -> Result<SimFlush, StorageError> {
        let file = self.file("sync", name)?;
        let writes = file.settled + file.writes.len();
        Ok(SimFlush { name: name.to_owned(), inode: self.names[name], writes })
    }

    fn end_flush(&mut self, flush: SimFlush) -> Result<(), StorageError> {
        self.operate("sync", &flush.name)?;
        self.syncs += 1;
        let fails = Self::counts_down(&mut self.trouble.sync_fails_in);
        let Some(file) = self.files.get_mut(&flush.inode) else { return Ok(()) };
        // Linux marks the pages clean: what is seen now will never be durable. It may be more than was asked for.
        let count = if fails { file.writes.len() } else { flush.writes.saturating_sub(file.settled) };
        file.settled += count;
        let flushed: Vec<_> = file.writes.drain(..count).collect();
        if fails {
            return Err(StorageError::new(StorageErrorKind::Io, "sync", &flush.name, "input/output error"));
        }
        // Only what was written since: what a failed sync forgot stays forgotten.
        for (offset, data) in flushed {
            put(&mut file.durable, offset, &data);
        }
        Ok(())
    }
}
