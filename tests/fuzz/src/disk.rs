//! A spool on a disk whose bytes are the fuzzer's: opening always succeeds, or says that a newer version wrote it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use crate::spool::{FileInfo, Now, OpenError, Options, Route, Spool, Storage, StorageError, StorageErrorKind};

const MIB: u64 = 1 << 20;
/// Entries that are read back.
const ENTRIES_MAX: usize = 100_000;

type Files = BTreeMap<String, Vec<u8>>;

/// A folder in memory, of which the fuzzer keeps hold.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Files>>);

impl Disk {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().expect("one thread")
    }

    fn file<T>(
        &self,
        operation: &'static str,
        name: &str,
        with: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<T, StorageError> {
        let missing = StorageError::new(StorageErrorKind::NotFound, operation, name, "no such file");
        self.files().get_mut(name).map(with).ok_or(missing)
    }
}

impl Storage for Disk {
    fn list(&mut self) -> Result<Vec<FileInfo>, StorageError> {
        let info = |(name, bytes): (&String, &Vec<u8>)| FileInfo { name: name.clone(), size: bytes.len() as u64 };
        Ok(self.files().iter().map(info).collect())
    }

    fn create(&mut self, name: &str, size: u64) -> Result<(), StorageError> {
        if self.files().contains_key(name) {
            return Err(StorageError::new(StorageErrorKind::Exists, "create", name, "it exists"));
        }
        assert!(size <= 2 * MIB, "{name} is to have {size} bytes");
        self.files().insert(name.to_owned(), vec![0; size as usize]);
        Ok(())
    }

    fn read(&mut self, name: &str, offset: u64, into: &mut [u8]) -> Result<usize, StorageError> {
        self.file("read", name, |file| {
            let from = (offset as usize).min(file.len());
            let count = into.len().min(file.len() - from);
            into[..count].copy_from_slice(&file[from..from + count]);
            count
        })
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.file("write", name, |file| {
            let end = offset as usize + bytes.len();
            assert!(end as u64 <= 4 * MIB, "{name} grows to {end}");
            if file.len() < end {
                file.resize(end, 0);
            }
            file[offset as usize..end].copy_from_slice(bytes);
        })
    }

    fn sync(&mut self, name: &str) -> Result<(), StorageError> {
        self.file("sync", name, |_| ())
    }

    fn sync_folder(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), StorageError> {
        let bytes = self.file("rename", from, std::mem::take)?;
        self.files().remove(from);
        self.files().insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), StorageError> {
        self.file("remove", name, |_| ())?;
        self.files().remove(name);
        Ok(())
    }
}

fn now(ms: u64) -> Now {
    let wall_ns = 1_700_000_000_000_000_000 + i64::try_from(ms).unwrap_or(0) * 1_000_000;
    Now { mono: Duration::from_millis(ms), wall_ns, synced: true }
}

fn options() -> Options {
    Options { max_size: MIB, seed: 7, ..Options::default() }
}

/// What an agent left: some pages of three sources.
fn left() -> &'static Files {
    static LEFT: OnceLock<Files> = OnceLock::new();
    LEFT.get_or_init(|| {
        let disk = Disk::default();
        let (mut spool, _) = Spool::open(disk.clone(), options(), *b"ABCD", now(0)).expect("opens");
        for n in 0..300_u64 {
            let source = ["a", "b", "c"][(n % 3) as usize];
            let route = Route { source: Arc::from(source), blob: Arc::from(&b"route"[..]) };
            spool.append(now(n), &route, 1 + (n % 2) as u32, 0, &vec![n as u8; 40 + n as usize]).expect("fits");
            if n % 50 == 0 {
                spool.sync(now(n)).expect("syncs");
            }
        }
        spool.sync(now(300)).expect("syncs");
        drop(spool);
        let files = disk.files().clone();
        files
    })
}

/// The input is patches: a file's number, an offset, bytes that go there. Three bytes cut or add a file.
pub fn spool(data: &[u8]) {
    let mut files = left().clone();
    let names: Vec<String> = files.keys().cloned().collect();
    let mut rest = data;
    while let [file, high, middle, low, count, tail @ ..] = rest {
        let bytes = tail.get(..usize::from(*count)).unwrap_or(tail);
        let offset = usize::from(*high & 0x0F) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        if let Some(contents) = names.get(usize::from(*file) % names.len()).and_then(|name| files.get_mut(name)) {
            if *high & 0xC0 == 0xC0 {
                contents.truncate(offset);
            } else if let Some(place) = contents.get_mut(offset..offset + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        rest = &tail[bytes.len()..];
    }
    let mut spool = match Spool::open(Disk(Arc::new(Mutex::new(files))), options(), *b"EFGH", now(1_000)) {
        Ok((spool, _)) => spool,
        Err(OpenError::TooSmall { .. }) => panic!("it is large enough"),
        // A header of a newer version, or a folder that can't be listed.
        Err(_) => return,
    };
    let (mut entries, mut next) = (Vec::new(), 0);
    while entries.len() < ENTRIES_MAX {
        let before = entries.len();
        let Ok(from) = spool.read(next, 64 << 10, &mut entries) else { break };
        assert!(from >= next);
        next = from;
        if entries.len() == before {
            break;
        }
    }
    let numbers: Vec<u64> = entries.iter().map(|entry| entry.first).collect();
    assert!(numbers.is_sorted_by(|one, other| one < other), "numbers grow: {numbers:?}");
    let stats = spool.stats();
    assert_eq!(stats.accepted, stats.delivered + stats.buffered + stats.dropped, "{stats:?}");
}
